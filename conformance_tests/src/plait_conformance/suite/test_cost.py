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


def check(step: str, small: Mapping[str, int], large: Mapping[str, int]) -> None:
    """Eight times the items, about the same cost. Linear would be eightfold."""
    for name, count in large.items():
        most = 2 * small[name] + ALLOWED.get(name, ALLOWED_REQUESTS)
        assert count <= most, (
            f"{step}, {name}: {small[name]} at {SMALL} items, {count} at {LARGE}, at most {most} were expected"
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
    def test_what_changed_costs_o_changes_never_o_items(self, trial: Trial) -> None:
        """To prepare it, to find it by a diff, and to verify all its bytes where its base was verified before."""
        small, large = self._costs(trial, "a", SMALL), self._costs(trial, "b", LARGE)
        for step in small:
            assert sum(small[step].values()) > 0, f"the harness's cost of {step} counts nothing: {small[step]}"
            check(step, small[step], large[step])

    def _costs(self, trial: Trial, asset: str, count: int) -> Mapping[str, Mapping[str, int]]:
        """Of each step, for two new items beside `count`."""
        base = trial.create(rows(count), asset=asset)
        trial.reopen()
        port = trial.changed(base, {"r5000": "new", "r5001": "new"}, asset=asset)
        votes: list[SnapshotRef] = []
        costs = {"prepare": trial.cost_of(lambda: votes.append(trial.vote(port, asset=asset)))}
        trial.reopen()
        trial.harness.cost(trial.adapter)
        found: list[ItemChange] = []
        costs["diff"] = trial.cost_of(lambda: found.extend(trial.changes(base, votes[0])))
        assert len(found) == 2
        trial.reopen()
        trial.harness.cost(trial.adapter)
        verify = trial.adapter.verifier(Depth.BYTES)
        assert verify(base).problems == ()
        healths: list[Health] = []
        costs["verify"] = trial.cost_of(lambda: healths.append(verify(votes[0])))
        assert healths[0].problems == ()
        return costs

    @pytest.mark.assertion(2)
    def test_locate_writes_nothing(self, trial: Trial) -> None:
        base = trial.create(rows(10))
        before = {item.path for item in trial.adapter.inventory()}
        trial.adapter.locate(base)
        assert {item.path for item in trial.adapter.inventory()} == before
