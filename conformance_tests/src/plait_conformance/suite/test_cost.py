"""What it costs, counted: who claims a cheap diff pays for what changed, never for what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
from plait.adapter import Capability
from plait.types import Depth, Health, ItemChange, SnapshotRef

from plait_conformance.harness import NotOffered
from plait_conformance.suite.trial import Trial

SMALL, LARGE = 200, 1_600

ALLOWED = {"bytes": 64 * 1024}
"""What may be asked for beside twice the cost in the small asset: one block read ahead, or a level more of a tree."""

ALLOWED_REQUESTS = 8


def rows(count: int) -> dict[str, str]:
    """Texts that no compression makes shorter: reading all of them cannot hide in the allowance."""
    return {f"r{number}": hashlib.sha256(str(number).encode()).hexdigest()[:60] for number in range(count)}


def check(small: Mapping[str, int], large: Mapping[str, int]) -> None:
    """Eight times the items, about the same cost. Linear would be eightfold."""
    for name, count in large.items():
        most = 2 * small[name] + ALLOWED.get(name, ALLOWED_REQUESTS)
        assert count <= most, (
            f"{name}: {small[name]} at {SMALL} items, {count} at {LARGE}, at most {most} were expected"
        )


@pytest.mark.needs(Capability.CHEAP_DIFF)
class TestCost:
    @pytest.fixture(autouse=True)
    def _counted(self, trial: Trial) -> None:
        try:
            trial.harness.cost(trial.adapter)
        except NotOffered:
            pytest.fail("the adapter claims cheap-diff, and the harness has no cost(adapter) to prove it with")

    @pytest.mark.assertion(1)
    def test_diff_and_prepare_cost_o_changes_never_o_items(self, trial: Trial) -> None:
        small, large = self._costs(trial, "a", SMALL), self._costs(trial, "b", LARGE)
        assert sum(small[1].values()) > 0, f"the harness's cost counts nothing: {small[1]}"
        for prepare_or_diff in range(2):
            check(small[prepare_or_diff], large[prepare_or_diff])

    def _costs(self, trial: Trial, asset: str, count: int) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Of preparing two new items beside `count`, and of the diff that finds them."""
        base = trial.create(rows(count), asset=asset)
        trial.reopen()
        port = trial.changed(base, {"r5000": "new", "r5001": "new"}, asset=asset)
        votes: list[SnapshotRef] = []
        prepare = trial.cost_of(lambda: votes.append(trial.vote(port, asset=asset)))
        trial.reopen()
        trial.harness.cost(trial.adapter)
        found: list[ItemChange] = []
        diff = trial.cost_of(lambda: found.extend(trial.changes(base, votes[0])))
        assert len(found) == 2
        return prepare, diff

    @pytest.mark.assertion(9)
    def test_a_verifier_looks_once_at_what_snapshots_share(self, trial: Trial) -> None:
        check(self._cost_of_verifying(trial, "a", SMALL), self._cost_of_verifying(trial, "b", LARGE))

    def _cost_of_verifying(self, trial: Trial, asset: str, count: int) -> Mapping[str, int]:
        """All bytes of a snapshot with two new items, after those of its base, which has `count`."""
        base = trial.create(rows(count), asset=asset)
        trial.reopen()
        port = trial.changed(base, {"r5000": "new", "r5001": "new"}, asset=asset)
        vote = trial.vote(port, asset=asset)
        trial.reopen()
        trial.harness.cost(trial.adapter)
        verify = trial.adapter.verifier(Depth.BYTES)
        assert verify(base).problems == ()
        healths: list[Health] = []
        cost = trial.cost_of(lambda: healths.append(verify(vote)))
        assert healths[0].problems == ()
        return cost

    @pytest.mark.assertion(2)
    def test_locate_writes_nothing(self, trial: Trial) -> None:
        base = trial.create(rows(10))
        before = {item.path for item in trial.adapter.inventory()}
        trial.adapter.locate(base)
        assert {item.path for item in trial.adapter.inventory()} == before
