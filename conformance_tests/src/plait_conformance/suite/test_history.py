"""A history over the adapter and another store: reading back, diff, revert, restore, blame, verify."""

from __future__ import annotations

import pytest
from plait.adapter import Capability
from plait.errors import AlreadyExists, CommitConflict
from plait.graph import LogFilter
from plait.refspec import format_key
from plait.types import Choice, Depth, ItemChangeKind, Session

from plait_conformance.harness import NotOffered
from plait_conformance.suite.history import History

ADDED, CHANGED, REMOVED = ItemChangeKind.ADDED, ItemChangeKind.CHANGED, ItemChangeKind.REMOVED
ROWS = {"r0": "one", "r1": "two", "r2": "three"}

item_diff = pytest.mark.needs(Capability.ITEM_DIFF)


class TestReadingBack:
    pytestmark = pytest.mark.assertion(2)

    def test_any_past_commit_reads_back_equal(self, history: History) -> None:
        commits = [history.write(ROWS, beside=ROWS)]
        expected = [dict(ROWS)]
        for number in range(3):
            edits = {"r0": f"change {number}", f"r{number + 10}": "new"}
            commits.append(history.write(edits, beside=edits))
            expected.append({**expected[-1], **edits})
        history.catalog.create_branch("dev", f"@{commits[1].id}")
        commits.append(history.write({"r1": None, "r2": "dev"}, "dev"))
        expected.append({"r0": "change 0", "r2": "dev", "r10": "new"})
        history.reopen()
        assert [history.held(f"@{commit.id}") for commit in commits] == expected
        assert history.held("main") == expected[3]
        assert history.held_beside("main~1") == expected[2]
        assert list(history.catalog.verify(Depth.BYTES)) == []

    def test_a_renamed_asset_reads_back_under_both_names(self, history: History) -> None:
        history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        tx.commit()
        assert history.held("main~1") == ROWS
        assert history.held("main", asset="b") == ROWS
        assert not history.holds("main", history.key)
        tx = history.catalog.begin("main")
        history.edit(tx, {"r0": "again"}, asset="b")
        tx.commit()
        assert history.held("main", asset="b") == {**ROWS, "r0": "again"}

    def test_a_point_before_a_rename_is_restored(self, history: History) -> None:
        """The native head is further on by then, under the other key: what it had must natively succeed that."""
        history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        tx.commit()
        tx = history.catalog.begin("main")
        history.edit(tx, {"r0": None}, asset="b")
        tx.commit()
        history.catalog.restore("main~2")
        assert history.held() == ROWS
        assert not history.holds("main", history.key_of("b"))
        history.write({"r9": "on"})
        assert history.catalog.publish() == []
        assert list(history.catalog.verify()) == []

    @pytest.mark.needs(Capability.NATIVE_HEAD)
    def test_a_native_head_follows_one_key(self, history: History) -> None:
        history.write(ROWS)
        location = history.catalog.at("main").entry(history.key).snapshot.asset
        tx = history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        tx.commit()
        tx = history.catalog.begin("main")
        history.edit(tx, {"r9": "on"}, asset="b")
        tx.commit()
        with pytest.raises(AlreadyExists, match="holds already"):
            history.catalog.restore("main~2", keys=[history.key])
        assert not history.holds("main", history.key)
        assert history.catalog.at("main").entry(history.key_of("b")).snapshot.asset == location
        assert history.held(asset="b") == {**ROWS, "r9": "on"}
        tx = history.catalog.begin("main")
        tx.drop(history.key_of("b"))
        tx.commit()
        history.catalog.restore("main~1", keys=[history.key_of("b")])
        assert history.held(asset="b") == {**ROWS, "r9": "on"}
        assert history.catalog.publish() == []

    def test_a_dropped_asset_reads_back_at_the_commits_that_held_it(self, history: History) -> None:
        history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.drop(history.key)
        tx.commit()
        assert not history.holds("main", history.key)
        assert history.held("main~1") == ROWS
        history.write({"r7": "anew"})
        assert (history.held("main"), history.held("main~2")) == ({"r7": "anew"}, ROWS)
        assert history.catalog.publish() == []

    def test_what_was_there_before_is_imported(self, history: History) -> None:
        name = history.harness.write_behind(None, ROWS)
        history.catalog.import_assets({history.key: name})
        assert history.held() == ROWS
        history.write({"r0": "on"})
        assert (history.held(), history.held("main~1")) == ({**ROWS, "r0": "on"}, ROWS)

    def test_a_discarded_working_set_is_in_no_commit(self, history: History) -> None:
        history.write(ROWS)
        tx = history.catalog.begin("main")
        history.edit(tx, {"r0": "dropped"})
        history.edit(tx, {"r0": "dropped too"}, asset="b")
        tx.discard()
        assert history.held() == ROWS
        assert not history.holds("main", history.key_of("b"))
        history.write({"r1": "on"})
        assert history.held() == {**ROWS, "r1": "on"}


@item_diff
class TestDiffOfCommits:
    pytestmark = pytest.mark.assertion(3)

    def test_diff_of_commits_of_working_set_and_commit_of_one_item(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "changed", "r1": None, "r9": "new"})
        changes = list(history.catalog.diff_items(history.key, "main~1", "main"))
        assert history.kinds(changes) == history.items(r0=CHANGED, r1=REMOVED, r9=ADDED)
        one = history.catalog.diff_items(history.key, "main~1", "main", items=[history.harness.item("r9")])
        assert history.kinds(list(one)) == history.items(r9=ADDED)
        tx = history.catalog.begin("main")
        history.edit(tx, {"r2": "staged"})
        assert history.kinds(list(tx.diff_items(history.key))) == history.items(r2=CHANGED)
        assert [change.key for change in history.catalog.diff("main~1", "main")] == [history.key]
        tx.discard()


class TestRevertAndRestore:
    pytestmark = pytest.mark.assertion(5)

    def test_revert_of_the_last_commit(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong", "r1": None})
        history.catalog.revert("main")
        assert history.held() == ROWS
        assert history.held("main~1") == {"r0": "wrong", "r2": "three"}
        assert history.catalog.publish() == []

    @pytest.mark.needs(Capability.MERGE)
    def test_revert_of_an_earlier_commit_keeps_what_came_after(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong"})
        history.write({"r2": "right"})
        history.catalog.revert("main~1")
        assert history.held() == {**ROWS, "r2": "right"}

    @pytest.mark.needs(Capability.MERGE)
    def test_revert_of_what_was_changed_again_is_a_conflict(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong"})
        history.write({"r0": "mended"})
        with pytest.raises(CommitConflict):
            history.catalog.revert("main~1")
        assert history.held() == {**ROWS, "r0": "mended"}

    @pytest.mark.needs(Capability.ITEM_RESTORE, Capability.ITEM_DIFF)
    def test_revert_of_some_items(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong", "r1": "right"})
        history.catalog.revert("main", items={history.key: [history.harness.item("r0")]})
        assert history.held() == {**ROWS, "r1": "right"}

    @pytest.mark.needs(Capability.ITEM_RESTORE, Capability.ITEM_DIFF)
    def test_revert_of_an_item_that_is_again_as_it_was(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong", "r1": "wrong"})
        history.write({"r0": ROWS["r0"]})
        items = [history.harness.item(row) for row in ("r0", "r1")]
        history.catalog.revert("main~1", items={history.key: items})
        assert history.held() == ROWS

    @pytest.mark.needs(Capability.ITEM_RESTORE, Capability.ITEM_DIFF, Capability.MERGE, Capability.ITEM_RESOLUTION)
    def test_revert_of_an_item_that_changed_again_is_a_conflict_to_be_settled(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "wrong", "r1": "right"})
        history.write({"r0": "mended", "r2": "new"})
        item = history.harness.item("r0")
        with pytest.raises(CommitConflict) as raised:
            history.catalog.revert("main~1", items={history.key: [item]})
        assert [conflict.item for conflict in raised.value.conflicts] == [item]
        assert history.held() == {**ROWS, "r0": "mended", "r1": "right", "r2": "new"}
        working = history.catalog.working_set(raised.value.details["tx"])
        working.resolve(history.key, Choice.THEIRS, item=item)
        working.commit()
        assert history.held() == {**ROWS, "r1": "right", "r2": "new"}

    def test_restore_of_the_whole(self, history: History) -> None:
        history.write(ROWS, beside=ROWS)
        history.write({"r0": "x", "r1": None, "r9": "x"}, beside={"r0": "x"})
        history.catalog.restore("main~1", keys=[history.key])
        assert history.held() == ROWS
        assert history.held_beside()["r0"] == "x", "another store's key was restored too"
        history.catalog.restore("main~2")
        assert history.held_beside() == ROWS
        assert history.catalog.publish() == []

    @pytest.mark.needs(Capability.ITEM_RESTORE)
    def test_restore_of_some_items(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "x", "r1": None, "r9": "x"})
        items = [history.harness.item(row) for row in ("r1", "r9")]
        history.catalog.restore("main~1", items={history.key: items})
        assert history.held() == {"r0": "x", "r1": "two", "r2": "three"}

    def test_restore_inside_a_working_set(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "x"})
        tx = history.catalog.begin("main")
        tx.restore(history.key, "main~1")
        tx.commit()
        assert history.held() == ROWS

    def test_a_dropped_asset_is_restored(self, history: History) -> None:
        history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.drop(history.key)
        tx.commit()
        history.catalog.restore("main~1", keys=[history.key])
        assert history.held() == ROWS
        assert history.catalog.publish() == []


@item_diff
class TestBlame:
    pytestmark = pytest.mark.assertion(8)

    def test_blame_names_commit_author_and_process_per_item(self, history: History) -> None:
        ada = Session("ada", "Ada <ada@example.org>", "load.py", {"run": "41"})
        bob = Session("bob", "Bob <bob@example.org>", "mend.py", {"run": "42"})
        history.as_session(ada)
        first = history.write(ROWS)
        history.as_session(bob)
        second = history.write({"r1": "mended", "r5": "new"})
        blamed = {one.item: one.commit for one in history.catalog.blame(history.key)}
        expected = {"r0": first, "r1": second, "r2": first, "r5": second}
        assert blamed == {history.harness.item(row): commit for row, commit in expected.items()}
        process = blamed[history.harness.item("r1")].session
        assert (process.principal, process.author, process.client) == (bob.principal, bob.author, bob.client)
        assert dict(process.properties) == {"run": "42"}
        assert blamed[history.harness.item("r0")].session.author == ada.author
        assert blamed[history.harness.item("r0")].author == ada.author

    def test_blame_and_log_follow_a_rename_of_which_the_old_key_is_given_away(self, history: History) -> None:
        first = history.write(ROWS)
        tx = history.catalog.begin("main")
        tx.rename(history.key, history.key_of("b"))
        history.edit(tx, {"r0": "another"})
        given = tx.commit()
        blamed = {one.item: one.commit.id for one in history.catalog.blame(history.key_of("b"))}
        assert blamed == {history.harness.item(row): first.id for row in ROWS}
        blamed = {one.item: one.commit.id for one in history.catalog.blame(history.key)}
        assert blamed == {history.harness.item("r0"): given.id}
        log = history.catalog.log("main", LogFilter(key=history.key_of("b")))
        assert [commit.id for commit in log] == [given.id, first.id]

    def test_blame_follows_a_rename(self, history: History) -> None:
        first = history.write(ROWS)
        tx = history.catalog.begin("main", message="rename")
        tx.rename(history.key, history.key_of("b"))
        history.edit(tx, {"r1": "renamed"}, asset="b")
        renamed = tx.commit()
        tx = history.catalog.begin("main")
        history.edit(tx, {"r2": "later"}, asset="b")
        later = tx.commit()
        blamed = {one.item: one.commit.id for one in history.catalog.blame(history.key_of("b"))}
        expected = {"r0": first.id, "r1": renamed.id, "r2": later.id}
        assert blamed == {history.harness.item(row): commit for row, commit in expected.items()}

    def test_blame_of_one_item(self, history: History) -> None:
        history.write(ROWS)
        second = history.write({"r1": "mended"})
        (one,) = history.catalog.blame(history.key, items=[history.harness.item("r1")])
        assert one.commit == second

    @pytest.mark.needs(Capability.MERGE)
    def test_blame_goes_through_a_merge(self, history: History) -> None:
        first = history.write(ROWS)
        history.catalog.create_branch("dev")
        theirs = history.write({"r1": "dev"}, "dev")
        ours = history.write({"r0": "main"})
        history.catalog.merge("dev")
        blamed = {one.item: one.commit for one in history.catalog.blame(history.key)}
        expected = {"r0": ours, "r1": theirs, "r2": first}
        assert blamed == {history.harness.item(row): commit for row, commit in expected.items()}


class TestVerifyOfAHistory:
    pytestmark = pytest.mark.assertion(9)

    def test_a_corrupted_payload_is_found_by_verify(self, history: History) -> None:
        written = history.write(ROWS, beside=ROWS)
        assert list(history.catalog.verify(Depth.BYTES)) == []
        snapshot = history.catalog.at("main").entry(history.key).snapshot
        try:
            history.harness.corrupt(snapshot)
        except NotOffered:
            pytest.fail("the harness has no corrupt(snapshot), without which nobody knows that verify sees anything")
        history.reopen()
        problems = list(history.catalog.verify(Depth.BYTES))
        assert problems, "a payload was changed, and verify finds all well"
        expected = f"{format_key(history.key)} since commit {written.id[:12]}"
        assert expected in {problem.where for problem in problems}, problems
        assert all(history.store.name in problem.where for problem in problems), problems
        assert history.held_beside() == ROWS
