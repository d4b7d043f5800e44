"""`diff`: what differs between two snapshots, or a snapshot and a working set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plait.adapter import Capability
from plait.types import ItemChangeKind

from plait_conformance.suite.trial import Trial

ADDED, CHANGED, REMOVED = ItemChangeKind.ADDED, ItemChangeKind.CHANGED, ItemChangeKind.REMOVED
BASE = {"r1": "one", "r2": "two", "r3": "three", "r10": "ten"}
EDITS = {"r0": "zero", "r2": "zwei", "r10": None}

item_diff = pytest.mark.needs(Capability.ITEM_DIFF)


@pytest.mark.assertion(3)
class TestDiff:
    def test_nothing_for_equal_sides(self, trial: Trial) -> None:
        snapshot = trial.create(BASE)
        assert list(trial.adapter.diff(snapshot, snapshot)) == []
        assert list(trial.adapter.diff(None, None)) == []

    def test_different_sides_differ_in_something(self, trial: Trial) -> None:
        base = trial.create(BASE)
        changed = trial.change(base, EDITS)
        assert list(trial.adapter.diff(base, changed))

    @item_diff
    def test_what_differs(self, trial: Trial) -> None:
        base = trial.create(BASE)
        changed = trial.change(base, EDITS)
        assert trial.kinds(base, changed) == trial.items(r0=ADDED, r2=CHANGED, r10=REMOVED)
        assert trial.kinds(changed, base) == trial.items(r0=REMOVED, r2=CHANGED, r10=ADDED)

    @item_diff
    def test_before_and_after_of_each_item(self, trial: Trial) -> None:
        base = trial.create(BASE)
        for change in trial.changes(base, trial.change(base, EDITS)):
            assert (change.before is None) == (change.kind is ADDED), change
            assert (change.after is None) == (change.kind is REMOVED), change
            assert change.before != change.after

    @item_diff
    def test_lazily(self, trial: Trial) -> None:
        base = trial.create(BASE)
        changes = trial.adapter.diff(base, trial.change(base, EDITS))
        assert isinstance(changes, Iterator)
        assert next(changes)

    @item_diff
    def test_in_native_key_order(self, trial: Trial) -> None:
        base = trial.create(BASE)
        changed = trial.change(base, EDITS)
        order = [change.item for change in trial.changes(base, changed)]
        assert [change.item for change in trial.changes(changed, base)] == order, "another order for the same items"
        everything = [change.item for change in trial.changes(None, changed)]
        assert [item for item in everything if item in order] == [item for item in order if item in everything]

    @item_diff
    def test_items_limits_it(self, trial: Trial) -> None:
        base = trial.create(BASE)
        changed = trial.change(base, EDITS)
        assert trial.kinds(base, changed, ["r2"]) == trial.items(r2=CHANGED)
        assert trial.kinds(base, changed, ["r10", "r0"]) == trial.items(r0=ADDED, r10=REMOVED)
        assert trial.kinds(base, changed, ["r1", "r99"]) == {}
        assert trial.kinds(base, changed, []) == {}

    @item_diff
    def test_each_side_may_be_nothing(self, trial: Trial) -> None:
        base = trial.create(BASE)
        assert trial.kinds(None, base) == trial.items(**dict.fromkeys(BASE, ADDED))
        assert trial.kinds(base, None) == trial.items(**dict.fromkeys(BASE, REMOVED))

    @item_diff
    def test_or_a_working_sets_staging(self, trial: Trial) -> None:
        base = trial.create(BASE)
        port = trial.changed(base, {})
        assert trial.kinds(base, trial.staged(port)) == {}
        trial.harness.write(trial.adapter, port, trial.key(), EDITS)
        assert trial.kinds(base, trial.staged(port)) == trial.items(r0=ADDED, r2=CHANGED, r10=REMOVED)
        assert trial.kinds(base, trial.staged(port), ["r0"]) == trial.items(r0=ADDED)
        assert trial.kinds(trial.staged(port), base) == trial.items(r0=REMOVED, r2=CHANGED, r10=ADDED)

    @item_diff
    def test_an_item_written_as_it_was_does_not_differ(self, trial: Trial) -> None:
        base = trial.create(BASE)
        assert trial.kinds(base, trial.change(base, {"r1": "one", "r2": "other"})) == trial.items(r2=CHANGED)

    @item_diff
    def test_the_snapshots_may_lie_apart(self, trial: Trial) -> None:
        base = trial.create(BASE)
        left = trial.change(trial.change(base, {"r1": "left"}), {"r4": "left"})
        right = trial.change(base, {"r2": None})
        assert trial.kinds(left, right) == trial.items(r1=CHANGED, r2=REMOVED, r4=REMOVED)
