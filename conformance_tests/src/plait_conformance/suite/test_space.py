"""`reachable`, `inventory`, `delete`: retention deletes what nothing that is kept needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from plait.errors import PlaitError, Unsupported
from plait.types import Depth, Item, Risk, SnapshotRef

from plait_conformance.pytest_plugin import pending
from plait_conformance.suite.trial import Trial

ROWS = {"r0": "one", "r1": "two", "r2": "three"}


def paths(trial: Trial, *snapshots: SnapshotRef) -> set[str]:
    """What these snapshots need. Pending where the adapter has no space to speak of yet."""
    try:
        return {item.path for snapshot in snapshots for item in trial.adapter.reachable(snapshot)}
    except Unsupported as error:
        pending("space", error.message)
        raise


def inventory(trial: Trial) -> dict[str, Item]:
    try:
        return {item.path: item for item in trial.adapter.inventory()}
    except Unsupported as error:
        pending("space", error.message)
        raise


def delete(trial: Trial, items: Iterable[Item]) -> None:
    try:
        trial.adapter.delete(items)
    except Unsupported as error:
        pending("space", error.message)
        raise


@pytest.mark.assertion(7)
class TestSpace:
    def test_every_native_thing_that_reading_this_snapshot_needs(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        changed = trial.change(base, {"r0": "changed"})
        needed = paths(trial, base, changed)
        assert needed, "reading a snapshot needs nothing?"
        assert needed <= set(inventory(trial)), "what a snapshot needs is not in the inventory"

    def test_delete_exactly_these(self, trial: Trial) -> None:
        old = trial.create(ROWS)
        kept = trial.change(old, {"r0": "changed", "r3": "new"})
        side = trial.change(old, {"r1": "side", "r4": "side"})
        other = trial.create({"r0": "other"}, asset="b")
        before = inventory(trial)
        needed = paths(trial, kept, other)
        garbage = {path: item for path, item in before.items() if path not in needed}
        assert garbage, "a snapshot that nothing keeps takes no space?"
        for _ in range(2):
            delete(trial, garbage.values())
        trial.reopen()
        assert trial.held(kept) == {**ROWS, "r0": "changed", "r3": "new"}
        assert trial.held(other) == {"r0": "other"}
        for snapshot in (kept, other):
            assert trial.adapter.verify(snapshot, Depth.BYTES).problems == ()
        assert not set(inventory(trial)) & set(garbage), "delete left what it was told to delete"
        assert trial.adapter.verify(side, Depth.BYTES).problems, "a deleted snapshot is said to be whole"

    def test_what_stays_can_be_read_and_gone_on_from(self, trial: Trial) -> None:
        old = trial.create(ROWS)
        kept = trial.change(old, {"r0": "changed"})
        needed = paths(trial, kept)
        delete(trial, [item for path, item in inventory(trial).items() if path not in needed])
        assert trial.held(trial.change(kept, {"r1": "later"})) == {**ROWS, "r0": "changed", "r1": "later"}

    def test_only_plaiterror_leaves(self, trial: Trial) -> None:
        """Of a snapshot that is lost: who reads it is told in plait's words, and `verify` finds it at every depth."""
        kept, port = trial.create({"r0": "kept"}, asset="b"), trial.begun(ROWS)
        lost = trial.vote(port)
        doomed = paths(trial, lost) - paths(trial, kept)
        trial.adapter.abort(port.tx)
        delete(trial, [item for path, item in inventory(trial).items() if path in doomed])
        trial.reopen()
        with pytest.raises(PlaitError):
            list(trial.adapter.diff(None, lost))
        for depth in Depth:
            assert trial.adapter.verify(lost, depth).problems, f"at depth {depth}, nothing is lost"

    def test_the_stores_own_rules_that_could_delete_what_a_commit_needs(self, trial: Trial) -> None:
        for risk in trial.adapter.retention_risks():
            assert isinstance(risk, Risk)
            assert risk.rule
            assert risk.remedy
