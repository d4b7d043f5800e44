"""What holds of every working set over stores: it is isolated, durable, shared by its name, and ends once."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from plait import limits
from plait.catalog import Catalog
from plait.errors import (
    AlreadyExists,
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    StoreUnavailable,
    TransactionClosed,
)
from plait.types import Choice, Key, Session, TxState

from plait_conformance.behaviour.stores import A, handle, held, write

B: Key = ("s", "b")


class TestWorkingSets:
    def test_what_is_not_committed_is_seen_by_nobody_else(self, stored: Catalog) -> None:
        write(stored, x=1)
        tx = stored.begin()
        handle(tx)["x"] = "2"
        handle(tx, B)["y"] = "1"
        assert held(stored) == {"x": 1}
        assert [entry.key for entry in stored.at("main").entries()] == [A]
        assert tx.keys("s") == [A, B]
        tx.commit("both")
        assert (held(stored), held(stored, key=B)) == ({"x": 2}, {"y": 1})

    def test_two_clients_share_one_by_its_name(self, stored: Catalog) -> None:
        write(stored, x=1)
        one = stored.begin(name="work")
        handle(one)["x"] = "2"
        other = stored.working_set("work")
        assert (other.id, dict(handle(other))) == (one.id, {"x": "2"})
        handle(other)["y"] = "3"
        one.commit()
        assert held(stored) == {"x": 2, "y": 3}
        assert other.state is TxState.COMMITTED

    def test_a_commit_is_of_who_commits_it(self, stored: Catalog) -> None:
        """Who is authenticated is one and the same here; what the client calls itself is not."""
        began = stored.as_session(Session("", author="Ada", client="nightly")).begin(name="work")
        handle(began)["x"] = "1"
        made = stored.as_session(Session("", author="Bob", client="laptop")).working_set("work").commit()
        assert (made.author, made.session.author, made.session.client) == ("Bob", "Bob", "laptop")
        assert began.commit() == made

    def test_a_live_name_is_taken_once(self, stored: Catalog) -> None:
        tx = stored.begin(name="work")
        with pytest.raises(AlreadyExists, match="work"):
            stored.begin(name="work")
        tx.discard()
        stored.begin(name="work").discard()

    def test_commit_twice_is_one_commit(self, stored: Catalog) -> None:
        tx = stored.begin(message="m")
        handle(tx)["x"] = "1"
        made = tx.commit()
        assert tx.commit() == made
        assert stored.working_set(tx.id).commit() == made
        assert [commit.message for commit in stored.log()].count("m") == 1

    def test_a_committed_one_takes_no_writes_and_is_not_discarded(self, stored: Catalog) -> None:
        tx = stored.begin()
        opened = handle(tx)
        opened["x"] = "1"
        tx.commit()
        with pytest.raises(TransactionClosed):
            opened["x"] = "2"
        with pytest.raises(TransactionClosed, match="revert"):
            tx.discard()
        assert held(stored) == {"x": 1}

    def test_a_discarded_one_leaves_nothing_and_cannot_be_committed(self, stored: Catalog) -> None:
        write(stored, x=1)
        head = stored.resolve("main")
        tx = stored.begin(name="work")
        handle(tx)["x"] = "2"
        tx.discard()
        tx.discard()
        assert (stored.resolve("main"), held(stored), stored.working_sets()) == (head, {"x": 1}, [])
        with pytest.raises(TransactionClosed):
            tx.commit()
        with pytest.raises(NotFound):
            stored.working_set("work")

    def test_an_exception_discards_a_block(self, stored: Catalog) -> None:
        with pytest.raises(KeyError, match="nothing"), stored.transaction() as tx:
            handle(tx)["x"] = "1"
            del handle(tx)["nothing"]
        assert stored.working_sets() == []
        assert [commit.message for commit in stored.log()] == ["Empty repository"]

    def test_a_block_without_changes_commits_nothing(self, stored: Catalog) -> None:
        write(stored, x=1)
        head = stored.resolve("main")
        with stored.transaction() as tx:
            handle(tx)
        assert tx.committed is None
        assert stored.resolve("main") == head
        assert stored.working_sets() == []

    def test_a_block_keeps_its_lease_for_as_long_as_it_takes(
        self, stored: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A recovery would discard it under its writer's hands, once the lease has run out."""
        asked: list[str] = []
        renew, renewed = stored.backend.renew, threading.Event()

        def renew_after_a_failure(tx: str) -> None:
            asked.append(tx)
            if len(asked) == 1:
                raise StoreUnavailable("not now")
            renew(tx)
            renewed.set()

        monkeypatch.setattr(stored.backend, "renew", renew_after_a_failure)
        monkeypatch.setattr(limits, "LEASE_US", 30_000)
        with stored.transaction() as tx:
            handle(tx)["x"] = "1"
            assert renewed.wait(30)
        assert set(asked) == {tx.id}
        assert held(stored) == {"x": 1}

    def test_nothing_to_commit_keeps_the_working_set(self, stored: Catalog) -> None:
        write(stored, x=1)
        tx = stored.begin()
        handle(tx)
        with pytest.raises(NothingToCommit):
            tx.commit()
        handle(tx)["x"] = "2"
        tx.commit()
        assert held(stored) == {"x": 2}

    def test_a_preview_commits_nothing(self, stored: Catalog) -> None:
        write(stored, x=1)
        head = stored.resolve("main")
        tx = stored.begin()
        handle(tx)["x"] = "2"
        assert {change.key for change in tx.preview().changes} == {A}
        assert stored.resolve("main") == head
        handle(tx)["y"] = "3"
        tx.commit()
        assert held(stored) == {"x": 2, "y": 3}

    def test_unchanged_keys_make_it_serializable(self, stored: Catalog) -> None:
        write(stored, x=1)
        tx = stored.begin()
        handle(tx, B)["y"] = "1"
        write(stored, x=2)
        with pytest.raises(CommitConflict):
            tx.commit(unchanged=[A])
        with pytest.raises(NotFound, match="store 'nope'"):
            tx.commit(unchanged=["nope.a"])
        tx.commit()
        assert held(stored, key=B) == {"y": 1}

    def test_a_branch_that_is_gone_takes_no_commit_until_it_is_back(self, stored: Catalog) -> None:
        stored.create_branch("dev")
        tx = stored.begin("dev")
        handle(tx)["x"] = "1"
        stored.delete_ref("dev")
        with pytest.raises((NotFound, CommitConflict)):
            tx.commit()
        assert stored.working_set(tx.id).state is TxState.OPEN

    def test_properties_and_message_are_the_commits(self, stored: Catalog) -> None:
        tx = stored.begin(message="first", properties={"a": "1"})
        handle(tx)["x"] = "1"
        made = tx.commit("second", properties={"b": "2"})
        assert made.message == "second"
        assert {name: made.properties[name] for name in "ab"} == {"a": "1", "b": "2"}


class TestHandles:
    def test_a_key_that_is_not_there_is_said(self, stored: Catalog) -> None:
        tx = stored.begin()
        with pytest.raises(NotFound):
            tx.open(A)
        with pytest.raises(NotFound):
            tx.open("nowhere.a", create=True)
        with pytest.raises(NotFound):
            stored.at("main").open(A)

    def test_a_dropped_key_is_gone_from_the_commit_on(self, stored: Catalog) -> None:
        write(stored, x=1)
        with stored.transaction() as tx:
            tx.drop(A)
            with pytest.raises(NotFound):
                tx.drop(A)
        assert list(stored.at("main").entries()) == []
        assert held(stored, "main~1") == {"x": 1}

    def test_a_renamed_key_keeps_its_identity(self, stored: Catalog) -> None:
        write(stored, x=1)
        before = next(iter(stored.at("main").entries()))
        with stored.transaction() as tx:
            tx.rename(A, B)
            handle(tx, B)["y"] = "2"
        after = next(iter(stored.at("main").entries()))
        assert (after.key, after.content_id) == (B, before.content_id)
        assert held(stored, key=B) == {"x": 1, "y": 2}

    def test_a_rename_onto_a_key_that_is_there_is_refused(self, stored: Catalog) -> None:
        with stored.transaction() as tx:
            handle(tx)["x"] = "1"
            handle(tx, B)["y"] = "1"
            with pytest.raises(AlreadyExists):
                tx.rename(A, B)
            with pytest.raises(InvalidArgument):
                tx.rename(A, ("p", "a"))
        assert (held(stored), held(stored, key=B)) == ({"x": 1}, {"y": 1})

    def test_a_restored_asset_is_as_it_was(self, stored: Catalog) -> None:
        write(stored, x=1, y=1)
        write(stored, x=2, y=2)
        tx = stored.begin()
        handle(tx)["z"] = "3"
        tx.restore(A, "main~1", items=["x"])
        assert dict(handle(tx)) == {"x": "1", "y": "2", "z": "3"}
        tx.restore(A, "main~1")
        assert dict(handle(tx)) == {"x": "1", "y": "1"}
        tx.commit()
        assert held(stored) == {"x": 1, "y": 1}

    def test_item_changes_are_those_of_the_working_set(self, stored: Catalog) -> None:
        write(stored, x=1, y=1)
        tx = stored.begin()
        handle(tx)["x"] = "2"
        del handle(tx)["y"]
        found = [(change.item, change.before, change.after) for change in tx.diff_items(A)]
        assert found == [("x", 1, 2), ("y", 1, None)]
        tx.commit()
        found = [(change.item, change.before, change.after) for change in stored.diff_items(A, "main~1", "main")]
        assert found == [("x", 1, 2), ("y", 1, None)]
        assert list(stored.diff_items(A, "main~1", "main", items=["z"])) == []

    def test_blame_names_the_commit_of_each_item(self, stored: Catalog) -> None:
        first = write(stored, x=1, y=1)
        second = write(stored, y=2)
        assert {blamed.item: blamed.commit.id for blamed in stored.blame(A)} == {"x": first.id, "y": second.id}

    def test_a_sealed_place_of_one_client_is_what_all_clients_write_to(self, stored: Catalog) -> None:
        tx = stored.begin()
        handle(tx)["x"] = "1"
        staging = stored.backend.staging(tx.id, A)
        assert staging is not None
        assert stored.backend.swap_location(tx.id, A, staging.location, staging.location)
        assert not stored.backend.swap_location(tx.id, A, "elsewhere", staging.location)
        assert stored.backend.staging(tx.id, B) is None


class TestConflicts:
    def test_items_are_listed_and_settled_one_by_one(self, stored: Catalog) -> None:
        conflicted(stored, {"x": (1, 2, 3), "y": (1, 2, 3), "z": (1, 2, 1)})
        with pytest.raises(CommitConflict) as caught:
            stored.merge("dev")
        assert caught.value.total == 2
        tx = stored.working_set(caught.value.details["tx"])
        listed = [(conflict.item, conflict.base, conflict.ours, conflict.theirs) for conflict, _ in tx.conflicts()]
        assert listed == [("x", 1, 2, 3), ("y", 1, 2, 3)]
        tx.resolve(A, Choice.THEIRS, item="x")
        with pytest.raises(CommitConflict) as again:
            tx.commit()
        assert [conflict.item for conflict in again.value.conflicts] == ["y"]
        tx.resolve(A, Choice.VALUE, item="y", value=7)
        merged = tx.commit()
        assert held(stored) == {"x": 3, "y": 7, "z": 2}
        assert len(merged.parents) == 2
        assert tx.commit() == merged

    def test_all_are_settled_at_once(self, stored: Catalog) -> None:
        conflicted(stored, {"x": (1, 2, 3), "y": (1, 2, 3)})
        tx = stored.begin_merge("dev")
        with pytest.raises(CommitConflict):
            tx.commit()
        assert tx.resolve_all(Choice.BASE) == 2
        tx.commit()
        assert held(stored) == {"x": 1, "y": 1}

    def test_all_that_are_settled_at_once_are_those_still_open(self, stored: Catalog) -> None:
        conflicted(stored, {"x": (1, 2, 3), "y": (1, 2, 3), "z": (1, 2, 3)})
        tx = stored.begin_merge("dev")
        with pytest.raises(CommitConflict):
            tx.commit()
        tx.resolve(A, Choice.VALUE, item="x", value=7)
        handle(tx)["y"] = "8"
        assert [one.item for one in tx.open_conflicts()] == ["z"]
        assert tx.resolve_all(Choice.THEIRS) == 1
        assert tx.resolve_all(Choice.OURS) == 0
        tx.commit()
        assert held(stored) == {"x": 7, "y": 8, "z": 3}

    def test_what_is_no_conflict_cannot_be_settled(self, stored: Catalog) -> None:
        conflicted(stored, {"x": (1, 2, 3)})
        with pytest.raises(CommitConflict) as caught:
            stored.merge("dev")
        tx = stored.working_set(caught.value.details["tx"])
        with pytest.raises(NotFound, match="no conflict"):
            tx.resolve(A, Choice.OURS, item="nothing")
        assert [resolution for _, resolution in tx.conflicts()] == [None]

    def test_the_users_own_writes_settle_a_key(self, stored: Catalog) -> None:
        conflicted(stored, {"x": (1, 2, 3)})
        tx = stored.begin_merge("dev")
        handle(tx)["x"] = "9"
        tx.commit()
        assert held(stored) == {"x": 9}

    def test_concurrent_writers_of_one_item_conflict_and_the_second_keeps_its_work(self, stored: Catalog) -> None:
        write(stored, x=1)
        one, two = stored.begin(), stored.begin()
        handle(one)["x"] = "2"
        handle(two)["x"] = "3"
        one.commit()
        with pytest.raises(CommitConflict) as caught:
            two.commit()
        assert caught.value.conflicts[0].item == "x"
        assert held(stored) == {"x": 2}
        two.resolve(A, Choice.OURS, item="x")
        with pytest.raises(NothingToCommit):
            two.commit()
        two.resolve(A, Choice.THEIRS, item="x")
        two.commit()
        assert held(stored) == {"x": 3}


def conflicted(catalog: Catalog, items: Mapping[str, tuple[int, int, int]]) -> None:
    """Branches `main` and `dev`: what the base, ours and theirs hold of each item."""
    write(catalog, "main", **{item: sides[0] for item, sides in items.items()})
    catalog.create_branch("dev")
    for number, branch in ((1, "main"), (2, "dev")):
        changed = {item: sides[number] for item, sides in items.items() if sides[number] != sides[0]}
        write(catalog, branch, **changed)
