"""`merge` and `succeed`: the merge table, conflicts and their resolutions, and what follows a native head."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from plait.adapter import Capability
from plait.types import Choice, Conflicted, Depth, Merged, SnapshotRef

from plait_conformance.suite.trial import DONE, Trial

KEPT = {"r100": "kept"}
"""A row that nobody touches: the asset is never empty."""

CONFLICT = "conflict"


@dataclass(frozen=True)
class Case:
    """One row of the merge table: what each side holds of r1, and what comes of it."""

    base: str | None
    ours: str | None
    theirs: str | None
    merged: str | None


DIFFERENTLY = (Case("a", "b", "c", CONFLICT),)
TABLE = {
    "theirs changed": (Case("a", "a", "b", "b"), Case("a", "a", None, None), Case(None, None, "a", "a")),
    "ours changed": (Case("a", "b", "a", "b"), Case("a", None, "a", None), Case(None, "a", None, "a")),
    "both changed alike": (
        Case("a", "b", "b", "b"),
        Case("a", None, None, None),
        Case(None, "a", "a", "a"),
        Case("a", "a", "a", "a"),
    ),
    "both changed differently": DIFFERENTLY,
}
CONFLICTING = (
    *DIFFERENTLY,
    Case("a", None, "b", CONFLICT),
    Case("a", "b", None, CONFLICT),
    Case(None, "a", "b", CONFLICT),
)


@dataclass(frozen=True)
class Sides:
    """Three snapshots; ours also changed r8 and theirs r9, so that they are never equal."""

    base: SnapshotRef
    ours: SnapshotRef
    theirs: SnapshotRef


def sides(trial: Trial, *cases: Case) -> Sides:
    """The n-th case is that of the row r<n>."""
    rows = {f"r{number}": case for number, case in enumerate(cases, 1)}
    base = trial.create({**KEPT, **{row: case.base for row, case in rows.items() if case.base is not None}})
    ours = {row: case.ours for row, case in rows.items() if case.ours != case.base}
    theirs = {row: case.theirs for row, case in rows.items() if case.theirs != case.base}
    return Sides(base, trial.change(base, {**ours, "r80": "ours"}), trial.change(base, {**theirs, "r90": "theirs"}))


def merged(trial: Trial, three: Sides, *decided: tuple[str, Choice, str | None]) -> SnapshotRef:
    """The merge, which must work."""
    resolutions = [trial.resolution(row, choice, text) for row, choice, text in decided]
    answer = trial.merge(three.base, three.ours, three.theirs, *resolutions)
    assert isinstance(answer, Merged), answer
    return answer.snapshot


@pytest.mark.assertion(4)
@pytest.mark.needs(Capability.MERGE)
class TestMerge:
    @pytest.mark.parametrize("who", TABLE)
    def test_three_way_merge_of_one_asset(self, trial: Trial, who: str) -> None:
        cases = TABLE[who]
        three = sides(trial, *cases)
        answer = trial.merge(three.base, three.ours, three.theirs)
        if cases == DIFFERENTLY:
            assert isinstance(answer, Conflicted), "both sides changed one item differently: that is a conflict"
            assert [conflict.item for conflict in answer.conflicts] == [trial.harness.item("r1")]
            return
        assert isinstance(answer, Merged), answer
        expected = {f"r{number}": case.merged for number, case in enumerate(cases, 1) if case.merged is not None}
        assert trial.held(answer.snapshot) == {**KEPT, **expected, "r80": "ours", "r90": "theirs"}

    def test_every_conflict_in_native_key_order(self, trial: Trial) -> None:
        three = sides(trial, *CONFLICTING, Case("a", "a", "b", "b"))
        answer = trial.merge(three.base, three.ours, three.theirs)
        assert isinstance(answer, Conflicted), answer
        items = [conflict.item for conflict in answer.conflicts]
        expected = {trial.harness.item(f"r{number}"): case for number, case in enumerate(CONFLICTING, 1)}
        assert set(items) == set(expected)
        assert len(items) == len(expected), "a conflict is listed twice"
        for conflict in answer.conflicts:
            case = expected[conflict.item or ""]
            there = [side is not None for side in (conflict.base, conflict.ours, conflict.theirs)]
            assert there == [side is not None for side in (case.base, case.ours, case.theirs)], conflict
        order = [change.item for change in trial.changes(three.ours, three.theirs)]
        assert [item for item in order if item in expected] == items, "conflicts are not in the order of diff"

    def test_the_result_is_prepared(self, trial: Trial) -> None:
        result = merged(trial, sides(trial, Case("a", "a", "b", "b")))
        trial.reopen()
        assert trial.held(result) == {**KEPT, "r1": "b", "r80": "ours", "r90": "theirs"}
        assert trial.adapter.verify(result, Depth.BYTES).problems == ()
        assert trial.held(trial.change(result, {"r1": "on"}))["r1"] == "on"

    def test_the_same_answer_for_the_same_arguments(self, trial: Trial) -> None:
        three, tx = sides(trial, Case("a", "a", "b", "b")), trial.new_tx()
        first = trial.merge(three.base, three.ours, three.theirs, tx=tx)
        assert trial.merge(three.base, three.ours, three.theirs, tx=tx) == first
        trial.reopen()
        assert trial.merge(three.base, three.ours, three.theirs, tx=tx) == first
        conflicting = sides(trial, Case("a", "b", "c", CONFLICT))
        listed = trial.merge(conflicting.base, conflicting.ours, conflicting.theirs, tx=tx)
        assert trial.merge(conflicting.base, conflicting.ours, conflicting.theirs, tx=tx) == listed

    def test_its_sides_stay_as_they_are(self, trial: Trial) -> None:
        three = sides(trial, Case("a", "a", "b", "b"))
        before = [trial.held(side) for side in (three.base, three.ours, three.theirs)]
        merged(trial, three)
        assert [trial.held(side) for side in (three.base, three.ours, three.theirs)] == before

    def test_a_result_may_be_merged_again(self, trial: Trial) -> None:
        three = sides(trial, Case("a", "a", "b", "b"))
        first = merged(trial, three)
        more = trial.change(three.theirs, {"r2": "more", "r90": None})
        again = merged(trial, Sides(three.theirs, first, more))
        assert trial.held(again) == {**KEPT, "r1": "b", "r2": "more", "r80": "ours"}

    @pytest.mark.needs(Capability.ITEM_RESOLUTION)
    @pytest.mark.parametrize("choice", list(Choice))
    def test_resolutions_of_single_items(self, trial: Trial, choice: Choice) -> None:
        expected = {
            Choice.BASE: ("a", "a"),
            Choice.OURS: ("b", None),
            Choice.THEIRS: ("c", "c"),
            Choice.VALUE: ("d", "d"),
        }
        changed, dropped = Case("a", "b", "c", CONFLICT), Case("a", None, "c", CONFLICT)
        three = sides(trial, changed, dropped, changed)
        value = "d" if choice is Choice.VALUE else None
        decided = [("r1", choice, value), ("r2", choice, value)]
        partly = trial.merge(three.base, three.ours, three.theirs, *(trial.resolution(*one) for one in decided))
        assert isinstance(partly, Conflicted), "two of three conflicts were settled"
        assert [conflict.item for conflict in partly.conflicts] == [trial.harness.item("r3")]
        held = trial.held(merged(trial, three, *decided, ("r3", Choice.THEIRS, None)))
        assert (held.get("r1"), held.get("r2"), held.get("r3")) == (*expected[choice], "c")

    @pytest.mark.needs(Capability.ITEM_RESOLUTION)
    def test_none_there_removes_the_item(self, trial: Trial) -> None:
        result = merged(trial, sides(trial, Case("a", "b", "c", CONFLICT)), ("r1", Choice.VALUE, None))
        assert trial.held(result) == {**KEPT, "r80": "ours", "r90": "theirs"}

    @pytest.mark.needs(Capability.NATIVE_HEAD)
    def test_and_succeeds_ours(self, trial: Trial) -> None:
        three = sides(trial, Case("a", "a", "b", "b"))
        assert trial.publish(None, three.base, 1) == DONE
        assert trial.publish(three.base, three.ours, 2) == DONE
        assert trial.publish(three.ours, merged(trial, three), 3) == DONE


@pytest.mark.assertion(5)
class TestSucceed:
    def test_contents_data_that_natively_succeeds_onto(self, trial: Trial) -> None:
        old = trial.create({"r1": "a"})
        new = trial.change(old, {"r1": "b", "r2": "b"})
        back = trial.adapter.succeed(trial.new_tx(), 1, onto=new, content=old)
        assert trial.held(back) == {"r1": "a"}
        assert (back.asset, trial.held(new)) == (new.asset, {"r1": "b", "r2": "b"})

    def test_content_itself_where_it_already_does(self, trial: Trial) -> None:
        old = trial.create({"r1": "a"})
        new = trial.change(old, {"r1": "b"})
        assert trial.adapter.succeed(trial.new_tx(), 1, onto=old, content=new) == new

    def test_repeat_the_same_answer(self, trial: Trial) -> None:
        old = trial.create({"r1": "a"})
        new, tx = trial.change(old, {"r1": "b"}), trial.new_tx()
        first = trial.adapter.succeed(tx, 1, onto=new, content=old)
        trial.reopen()
        assert trial.adapter.succeed(tx, 1, onto=new, content=old) == first

    @pytest.mark.needs(Capability.NATIVE_HEAD)
    def test_publish_moves_a_head_from_onto_to_it(self, trial: Trial) -> None:
        old = trial.create({"r1": "a"})
        new = trial.change(old, {"r1": "b"})
        back = trial.adapter.succeed(trial.new_tx(), 1, onto=new, content=old)
        moves = [(None, old), (old, new), (new, back)]
        assert [trial.publish(before, after, seq) for seq, (before, after) in enumerate(moves, 1)] == [DONE] * 3
