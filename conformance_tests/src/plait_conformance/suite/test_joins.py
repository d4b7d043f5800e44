"""Merges in a history: clean ones, conflicts, strategies, resolutions; and writers who meet on one branch."""

from __future__ import annotations

import plait
import pytest
from plait.adapter import Capability
from plait.errors import CommitConflict, NothingToCommit
from plait.types import Choice, Conflict, Strategy

from plait_conformance.harness import Edits
from plait_conformance.suite.history import History

ROWS = {"r0": "base", "r1": "base", "r2": "base"}
OURS = {"r0": "ours", "r1": "ours", "r7": "same"}
THEIRS = {"r1": "theirs", "r2": "theirs", "r7": "same"}

merges = pytest.mark.needs(Capability.MERGE)


def diverge(history: History, ours: Edits, theirs: Edits) -> None:
    """A base, and a commit on each of main and dev."""
    history.write(ROWS)
    history.catalog.create_branch("dev")
    history.write(theirs, "dev")
    history.write(ours)


def refused(history: History, branch: str = "dev") -> tuple[plait.WorkingSet, list[Conflict]]:
    """The working set that a conflicting merge leaves, and its conflicts."""
    before = history.catalog.resolve("main")
    with pytest.raises(CommitConflict) as caught:
        history.catalog.merge(branch)
    assert history.catalog.resolve("main") == before, "a merge that conflicts moved the branch"
    return history.catalog.working_set(caught.value.details["tx"]), list(caught.value.conflicts)


@pytest.mark.assertion(4)
class TestJoins:
    def test_what_only_one_side_changed_is_taken_whole(self, history: History) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        history.write({"r1": "dev", "r2": None}, "dev")
        history.catalog.merge("dev")
        assert history.held() == {"r0": "base", "r1": "dev"}
        assert history.catalog.publish() == []

    def test_both_sides_changed_the_asset(self, history: History) -> None:
        diverge(history, {"r0": "ours"}, {"r2": "theirs", "r1": None})
        if history.can(Capability.MERGE):
            history.catalog.merge("dev")
            assert history.held() == {"r0": "ours", "r2": "theirs"}
        else:
            tx, conflicts = refused(history)
            assert [(conflict.key, conflict.item) for conflict in conflicts] == [(history.key, None)]
            tx.resolve(history.key, Choice.THEIRS)
            tx.commit()
            assert history.held() == {"r0": "base", "r2": "theirs"}
        assert history.catalog.publish() == []

    @merges
    def test_both_sides_made_the_same_change(self, history: History) -> None:
        diverge(history, {"r0": "same", "r1": "ours"}, {"r0": "same", "r2": "theirs"})
        history.catalog.merge("dev")
        assert history.held() == {"r0": "same", "r1": "ours", "r2": "theirs"}

    @merges
    def test_a_conflict_is_listed_and_resolved_per_item(self, history: History) -> None:
        diverge(history, {**OURS, "r2": None}, THEIRS)
        tx, conflicts = refused(history)
        items = [history.harness.item("r1"), history.harness.item("r2")]
        if not history.can(Capability.ITEM_RESOLUTION):
            tx.resolve_all(Choice.OURS)
            tx.commit()
            assert history.held() == {"r0": "ours", "r1": "ours", "r7": "same"}
            return
        assert {(conflict.key, conflict.item) for conflict in conflicts} == {(history.key, item) for item in items}
        tx.resolve(history.key, Choice.THEIRS, item=items[0])
        tx.resolve(history.key, Choice.VALUE, item=items[1], value=history.value("r2", "agreed"))
        tx.commit()
        assert history.held() == {"r0": "ours", "r1": "theirs", "r2": "agreed", "r7": "same"}
        assert history.catalog.publish() == []

    @merges
    @pytest.mark.needs(Capability.ITEM_RESOLUTION, Capability.ITEM_DIFF)
    def test_a_conflict_is_settled_natively_and_the_rest_of_theirs_comes_along(self, history: History) -> None:
        diverge(history, {"r0": "ours", "r1": "ours"}, {"r0": "theirs", "r1": "theirs", "r2": "theirs", "r9": "theirs"})
        tx, _ = refused(history)
        history.edit(tx, {"r0": "by hand", "r8": "by hand"})
        with pytest.raises(CommitConflict) as caught:
            tx.commit()
        left = [(conflict.key, conflict.item) for conflict in caught.value.conflicts]
        assert left == [(history.key, history.harness.item("r1"))]
        tx.resolve(history.key, Choice.THEIRS, item=history.harness.item("r1"))
        tx.commit()
        assert history.held() == {"r0": "by hand", "r1": "theirs", "r2": "theirs", "r8": "by hand", "r9": "theirs"}
        assert history.catalog.publish() == []

    @merges
    @pytest.mark.parametrize("strategy", [Strategy.OURS, Strategy.THEIRS, Strategy.DROP])
    def test_each_strategy(self, history: History, strategy: Strategy) -> None:
        diverge(history, OURS, THEIRS)
        history.catalog.merge("dev", default=strategy)
        joined = {"r0": "ours", "r2": "theirs", "r7": "same"}
        expected = {
            Strategy.OURS: {**joined, "r1": "ours"},
            Strategy.THEIRS: {**joined, "r1": "theirs"},
            Strategy.DROP: {**ROWS, **OURS},
        }
        assert history.held() == expected[strategy]

    @merges
    def test_cherry_pick_takes_what_one_commit_changed(self, history: History) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        history.write({"r0": "not this"}, "dev")
        history.write({"r2": "this"}, "dev")
        history.write({"r1": "ours"})
        history.catalog.cherry_pick("dev")
        assert history.held() == {"r0": "base", "r1": "ours", "r2": "this"}

    @merges
    def test_writers_who_meet_on_one_branch_both_land(self, history: History) -> None:
        history.write(ROWS)
        sets = [history.catalog.begin("main", message=f"writer {number}") for number in range(3)]
        for number, tx in enumerate(sets):
            history.edit(tx, {f"r{number}": f"writer {number}", f"r{number + 10}": "new"})
        for tx in sets:
            tx.commit()
        expected = {f"r{number}": f"writer {number}" for number in range(3)}
        assert history.held() == {**expected, "r10": "new", "r11": "new", "r12": "new"}
        assert history.catalog.publish() == []

    @merges
    def test_merging_back_and_forth(self, history: History) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        for turn in range(3):
            history.write({"r0": f"dev {turn}"}, "dev")
            history.write({"r1": f"main {turn}"})
            history.catalog.merge("main", "dev")
            history.catalog.merge("dev", "main")
        expected = {"r0": "dev 2", "r1": "main 2", "r2": "base"}
        assert (history.held(), history.held("dev")) == (expected, expected)

    @merges
    def test_where_histories_criss_cross_the_last_change_is_kept(self, history: History) -> None:
        history.write(ROWS)
        for branch, row in (("a", "r0"), ("b", "r1")):
            history.catalog.create_branch(branch)
            history.write({row: "changed"}, branch)
            history.catalog.create_tag(f"{branch}0", branch)
        history.catalog.merge("b0", "a")
        history.catalog.merge("a0", "b")
        history.write({"r0": "base", "r1": "base", "r2": "a"}, "a")
        history.catalog.merge("a", "b")
        assert history.held("b") == {"r0": "base", "r1": "base", "r2": "a"}

    def test_where_histories_criss_cross_and_disagree_it_is_a_conflict(self, history: History) -> None:
        history.write(ROWS)
        for branch in ("a", "b"):
            history.catalog.create_branch(branch)
            history.write({"r0": branch}, branch)
            history.catalog.create_tag(f"{branch}0", branch)
        for source, into in (("b0", "a"), ("a0", "b")):
            history.catalog.merge(source, into, default=Strategy.OURS)
        history.write({"r0": "base"}, "a")
        with pytest.raises(CommitConflict):
            history.catalog.merge("a", "b")
        assert history.held("b") == {**ROWS, "r0": "b"}

    def rename(self, history: History, branch: str, asset: str = "b", *, since: str = "a") -> None:
        tx = history.catalog.begin(branch)
        tx.rename(history.key_of(since), history.key_of(asset))
        tx.commit()

    def criss_cross(self, history: History) -> None:
        """Merge two branches, `x` and `y`, into each other as they are now."""
        for branch in ("x", "y"):
            history.catalog.create_tag(f"{branch}0", branch)
        history.catalog.merge("y0", "x")
        history.catalog.merge("x0", "y")

    @merges
    @pytest.mark.parametrize("renamed", ["x", "y"])
    def test_where_histories_criss_cross_a_rename_of_before_is_no_conflict(
        self, history: History, renamed: str
    ) -> None:
        history.write(ROWS)
        for branch in ("x", "y"):
            history.catalog.create_branch(branch)
        self.rename(history, renamed)
        for branch, row in (("x", "r0"), ("y", "r1")):
            history.write({row: "changed"}, branch, asset="b" if branch == renamed else "a")
        self.criss_cross(history)
        history.write({"r0": "base", "r2": "x"}, "x", asset="b")
        history.catalog.merge("x", "y")
        assert not history.holds("y", history.key)
        assert history.held("y", asset="b") == {"r0": "base", "r1": "changed", "r2": "x"}

    @merges
    def test_where_histories_criss_cross_a_rename_of_after_is_followed(self, history: History) -> None:
        history.write(ROWS)
        for branch, row in (("x", "r0"), ("y", "r1")):
            history.catalog.create_branch(branch)
            history.write({row: branch}, branch)
        self.criss_cross(history)
        self.rename(history, "x")
        history.write({"r2": "y"}, "y")
        history.catalog.merge("x", "y")
        assert not history.holds("y", history.key)
        assert history.held("y", asset="b") == {"r0": "x", "r1": "y", "r2": "y"}

    @merges
    def test_where_histories_criss_cross_a_rename_can_be_taken_back(self, history: History) -> None:
        history.write(ROWS)
        for branch, row in (("x", "r0"), ("y", "r1")):
            history.catalog.create_branch(branch)
            history.write({row: branch}, branch)
        self.rename(history, "x")
        self.criss_cross(history)
        self.rename(history, "x", "a", since="b")
        history.catalog.merge("x", "y")
        assert not history.holds("y", history.key_of("b"))
        assert history.held("y") == {"r0": "x", "r1": "y", "r2": "base"}

    @merges
    @pytest.mark.parametrize("strategy", [Strategy.OURS, Strategy.THEIRS])
    def test_where_histories_criss_cross_and_both_rename_it_one_name_is_taken(
        self, history: History, strategy: Strategy
    ) -> None:
        history.write(ROWS)
        for branch, row in (("x", "r0"), ("y", "r1")):
            history.catalog.create_branch(branch)
            history.write({row: branch}, branch)
        self.criss_cross(history)
        self.rename(history, "x", "b")
        self.rename(history, "y", "c")
        with pytest.raises(CommitConflict) as raised:
            history.catalog.merge("x", "y")
        assert [conflict.key for conflict in raised.value.conflicts] == [history.key_of("c")]
        history.catalog.merge("x", "y", default=strategy)
        name = "b" if strategy is Strategy.THEIRS else "c"
        assert [asset for asset in "abc" if history.holds("y", history.key_of(asset))] == [name]
        assert history.held("y", asset=name) == {"r0": "x", "r1": "y", "r2": "base"}

    def test_what_theirs_changed_follows_a_rename_of_ours(self, history: History) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        history.write({"r0": "dev"}, "dev")
        self.rename(history, "main")
        history.catalog.merge("dev")
        assert not history.holds("main", history.key)
        assert history.held(asset="b") == {**ROWS, "r0": "dev"}
        assert history.catalog.publish() == []

    @merges
    @pytest.mark.parametrize("renamed", ["main", "dev"])
    def test_what_both_changed_is_merged_where_one_renamed_it(self, history: History, renamed: str) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        self.rename(history, renamed)
        for branch, row in (("main", "r0"), ("dev", "r2")):
            tx = history.catalog.begin(branch)
            history.edit(tx, {row: branch}, asset="b" if branch == renamed else "a")
            tx.commit()
        content = history.catalog.at("main").entry(history.key_of("b" if renamed == "main" else "a")).content_id
        history.catalog.merge("dev")
        assert not history.holds("main", history.key)
        assert history.held(asset="b") == {**ROWS, "r0": "main", "r2": "dev"}
        assert history.catalog.at("main").entry(history.key_of("b")).content_id == content
        assert history.catalog.publish() == []

    def test_what_ours_changed_follows_a_rename_of_theirs(self, history: History) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        self.rename(history, "dev")
        history.write({"r0": "main"})
        history.catalog.merge("dev")
        assert not history.holds("main", history.key)
        assert history.held(asset="b") == {**ROWS, "r0": "main"}
        assert history.catalog.publish() == []

    @pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
    def test_two_new_names_of_one_asset_are_a_conflict(self, history: History, choice: Choice) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        self.rename(history, "main")
        self.rename(history, "dev", "c")
        tx = history.catalog.begin("dev")
        history.edit(tx, {"r0": "dev"}, asset="c")
        tx.commit()
        b, c = history.key_of("b"), history.key_of("c")
        tx, conflicts = refused(history)
        assert [(conflict.key, conflict.item) for conflict in conflicts] == [(b, None)]
        tx.resolve(b, choice)
        tx.commit()
        assert [history.holds("main", key) for key in (b, c)] == [choice is Choice.OURS, choice is Choice.THEIRS]
        if choice is Choice.OURS:
            assert history.held(asset="b") == ROWS
        else:
            assert history.held(asset="c") == {**ROWS, "r0": "dev"}
        assert history.catalog.publish() == []

    @pytest.mark.parametrize("renamed", ["main", "dev"])
    @pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
    def test_what_one_side_deleted_and_the_other_renamed_is_a_conflict(
        self, history: History, renamed: str, choice: Choice
    ) -> None:
        history.write(ROWS)
        history.catalog.create_branch("dev")
        self.rename(history, renamed)
        self.drop(history, "dev" if renamed == "main" else "main")
        b = history.key_of("b")
        tx, conflicts = refused(history)
        assert [(conflict.key, conflict.item) for conflict in conflicts] == [(b, None)]
        tx.resolve(b, choice)
        if (choice is Choice.OURS) is (renamed == "main"):
            tx.commit(allow_empty=True)
            assert history.held(asset="b") == ROWS
        else:
            tx.commit(allow_empty=True)
            assert not history.holds("main", b)
        assert not history.holds("main", history.key)
        assert history.catalog.publish() == []
        assert list(history.catalog.verify()) == []

    @pytest.mark.parametrize("is_renamed_meanwhile", [True, False])
    def test_what_a_working_set_deletes_or_renames_and_another_renamed_or_deleted_is_a_conflict(
        self, history: History, is_renamed_meanwhile: bool
    ) -> None:
        history.write(ROWS)
        tx = history.catalog.begin("main")
        b = history.key_of("b")
        if is_renamed_meanwhile:
            tx.drop(history.key)
            self.rename(history, "main")
        else:
            tx.rename(history.key, b)
            self.drop(history, "main")
        with pytest.raises(CommitConflict) as caught:
            tx.commit()
        assert [(conflict.key, conflict.item) for conflict in caught.value.conflicts] == [(b, None)]
        tx.resolve(b, Choice.THEIRS)
        tx.commit()
        assert history.holds("main", b) is not is_renamed_meanwhile
        assert history.catalog.publish() == []

    def drop(self, history: History, branch: str) -> None:
        tx = history.catalog.begin(branch)
        tx.drop(history.key)
        tx.commit()

    def test_another_asset_under_the_new_name_is_a_conflict(self, history: History) -> None:
        """It is not taken for the renamed one, nor forgotten."""
        history.write(ROWS)
        history.catalog.create_branch("dev")
        self.rename(history, "main")
        history.write({"r0": "dev"}, "dev")
        tx = history.catalog.begin("dev")
        history.edit(tx, {"r0": "another"}, asset="b")
        tx.commit()
        _, conflicts = refused(history)
        assert {conflict.key for conflict in conflicts} == {history.key, history.key_of("b")}

    @merges
    def test_what_was_written_meanwhile_follows_a_rename_of_a_working_set(self, history: History) -> None:
        history.write(ROWS)
        tx, moved = history.catalog.begin("main"), history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        history.edit(tx, {"r0": "renamed"}, asset="b")
        moved.rename(history.key, history.key_of("b"))
        history.write({"r1": "meanwhile"})
        tx.commit()
        assert not history.holds("main", history.key)
        assert history.held(asset="b") == {**ROWS, "r0": "renamed", "r1": "meanwhile"}
        assert history.catalog.publish() == []
        with pytest.raises(NothingToCommit):
            moved.commit()

    def test_the_commit_that_made_an_asset_meets_a_later_version_of_it(self, history: History) -> None:
        """There is no base, so what differs is a conflict; but it is one asset on both sides."""
        first = history.write(ROWS)
        history.write({"r0": "later"})
        with pytest.raises(CommitConflict) as caught:
            history.catalog.cherry_pick(f"@{first.id}")
        (conflict,) = caught.value.conflicts
        assert "different tables" not in conflict.detail
        tx = history.catalog.working_set(caught.value.details["tx"])
        tx.resolve(history.key, Choice.THEIRS, item=conflict.item)
        tx.commit()
        assert history.held() == ROWS
        assert history.catalog.publish() == []

    def test_a_working_set_that_drops_what_was_written_meanwhile_is_a_conflict(self, history: History) -> None:
        """Also where it put another asset, or the same one under another name, beside it."""
        history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        history.edit(tx, {"r0": "again"})
        history.write({"r1": "meanwhile"})
        with pytest.raises(CommitConflict):
            tx.commit()
        for conflict, _ in list(tx.conflicts()):
            tx.resolve(conflict.key, Choice.THEIRS)
        tx.commit()
        assert history.held(asset="b") == ROWS
        assert history.held() == {"r0": "again"}
        assert history.catalog.publish() == []
        assert list(history.catalog.verify()) == []

    @merges
    def test_an_earlier_commit_is_reverted_under_the_new_name(self, history: History) -> None:
        history.write(ROWS)
        wrong = history.write({"r0": "wrong"})
        self.rename(history, "main")
        history.catalog.revert(f"@{wrong.id}")
        assert history.held(asset="b") == ROWS
        assert history.catalog.publish() == []
