"""What holds of every catalog over pointer stores: everything about the history that needs no data."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plait import limits
from plait.catalog import Catalog
from plait.codec import ref_digest
from plait.errors import (
    AlreadyExists,
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    PlaitError,
)
from plait.graph import LogFilter
from plait.refspec import format_time
from plait.types import (
    Commit,
    ConflictKind,
    Delete,
    EventKind,
    Mode,
    Operation,
    Proposal,
    Put,
    RefKind,
    Session,
    SnapshotRef,
    Unchanged,
)


def pointer(name: str, version: int) -> SnapshotRef:
    return SnapshotRef("p", "table", name, f"v{version}", version.to_bytes(32, "big"))


def put(name: str, version: int, expected: int | None = None) -> Put:
    before = None if expected is None else ref_digest(pointer(name, expected))
    return Put(("p", name), pointer(name, version), before)


def commit(catalog: Catalog, *operations: Operation, ref: str = "main", message: str = "m") -> Commit:
    return catalog.commit(Proposal(ref, operations, message=message))


def held(catalog: Catalog, spec: str = "main") -> dict[str, str]:
    return {entry.key[1]: entry.snapshot.version for entry in catalog.at(spec).entries()}


class TestCommit:
    def test_a_commit_is_what_its_branch_holds(self, catalog: Catalog) -> None:
        made = commit(catalog, put("a", 1), put("b", 1))
        assert catalog.resolve("main") == made
        assert held(catalog) == {"a": "v1", "b": "v1"}

    def test_a_stale_expected_value_is_a_conflict_that_lists_every_key(self, catalog: Catalog) -> None:
        head = commit(catalog, put("a", 1), put("b", 1))
        with pytest.raises(CommitConflict) as caught:
            commit(catalog, put("a", 2), put("b", 2, expected=7), put("c", 2, expected=1))
        assert [(conflict.key[1], conflict.kind) for conflict in caught.value.conflicts] == [
            ("a", ConflictKind.KEY_EXISTS),
            ("b", ConflictKind.VALUE_DIFFERS),
            ("c", ConflictKind.KEY_DOES_NOT_EXIST),
        ]
        assert catalog.resolve("main") == head

    def test_unchanged_makes_a_commit_serializable(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        seen = Unchanged(("p", "a"), ref_digest(pointer("a", 1)))
        commit(catalog, put("b", 1), seen)
        commit(catalog, put("a", 2, expected=1))
        with pytest.raises(CommitConflict):
            commit(catalog, put("c", 1), seen)

    def test_deleting_a_key_keeps_it_in_history(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        commit(catalog, Delete(("p", "a"), ref_digest(pointer("a", 1))))
        assert held(catalog) == {}
        assert held(catalog, "main~1") == {"a": "v1"}

    def test_nothing_to_commit_is_said(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        with pytest.raises(NothingToCommit):
            commit(catalog, put("a", 1, expected=1))

    def test_the_same_idempotency_key_is_the_same_commit(self, catalog: Catalog) -> None:
        proposal = Proposal("main", (put("a", 1),), idempotency_key="k")
        first = catalog.commit(proposal)
        assert catalog.commit(proposal) == first
        with pytest.raises(InvalidArgument, match="another request"):
            catalog.commit(replace(proposal, message="other"))

    @pytest.mark.parametrize(
        "change",
        [
            {"expected_head": "0" * 64},
            {"merged_parents": ("0" * 64,)},
            {"allow_empty": True},
            {"incarnation": 1},
            {"operations": (replace(put("a", 1), content_id="7f1c0a52-6c1c-7c0b-9f0e-6e2d9c7b1a52"),)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_whatever_else_is_asked_under_a_used_idempotency_key_is_refused(
        self, catalog: Catalog, change: dict[str, Any]
    ) -> None:
        proposal = Proposal("main", (put("a", 1),), idempotency_key="k")
        catalog.commit(proposal)
        with pytest.raises(InvalidArgument, match="another request"):
            catalog.commit(replace(proposal, **change))

    def test_a_snapshot_that_nobody_prepared_is_refused_outside_pointer_stores(self, catalog: Catalog) -> None:
        with pytest.raises(NotFound, match="store 'q'"):
            catalog.commit(Proposal("main", (Put(("q", "a"), replace(pointer("a", 1), store="q")),)))

    def test_a_key_belongs_to_its_snapshots_store(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidArgument, match="snapshot of store 'p'"):
            catalog.commit(Proposal("main", (Put(("q", "a"), pointer("a", 1)),)))

    def test_the_limit_on_operations_is_refused_before_anything_happens(self, catalog: Catalog) -> None:
        many = tuple(put(f"k{number}", 1) for number in range(limits.OPERATIONS_MAX + 1))
        with pytest.raises(InvalidArgument, match=f"the limit is {limits.OPERATIONS_MAX}"):
            catalog.commit(Proposal("main", many))

    def test_commit_many_answers_one_by_one_in_order(self, catalog: Catalog) -> None:
        results = catalog.commit_many(
            [Proposal("main", (put("a", 1),)), Proposal("main", (put("a", 2),)), Proposal("main", (put("b", 1),))]
        )
        assert [type(result).__name__ for result in results] == ["Commit", "CommitConflict", "Commit"]
        assert held(catalog) == {"a": "v1", "b": "v1"}

    def test_one_that_breaks_a_rule_fails_alone_among_many(self, catalog: Catalog) -> None:
        too_long = "x" * (limits.MESSAGE_BYTES_MAX + 1)
        results = catalog.commit_many(
            [
                Proposal("main", (put("a", 1),)),
                Proposal("main", (put("b", 1),), message=too_long),
                Proposal("main", (Put(("q", "a"), pointer("a", 1)),)),
                Proposal("no such..ref", (put("c", 1),)),
                Proposal("main", (put("d", 1),)),
            ]
        )
        kinds = [type(result).__name__ for result in results]
        assert kinds == ["Commit", "InvalidArgument", "InvalidArgument", "InvalidArgument", "Commit"]
        assert held(catalog) == {"a": "v1", "d": "v1"}

    def test_commit_many_atomic_is_all_or_nothing(self, catalog: Catalog) -> None:
        with pytest.raises(CommitConflict):
            catalog.commit_many([Proposal("main", (put("a", 1),)), Proposal("main", (put("a", 2),))], atomic=True)
        assert held(catalog) == {}

    def test_writers_of_distinct_keys_all_succeed(self, catalog: Catalog) -> None:
        errors: list[PlaitError] = []

        def write(client: int) -> None:
            for number in range(10):
                try:
                    commit(catalog, put(f"c{client}-{number}", 1))
                except PlaitError as error:
                    errors.append(error)

        threads = [threading.Thread(target=write, args=(client,)) for client in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(held(catalog)) == 160
        assert [event.seq for event in catalog.events()] == list(range(1, len(catalog.events()) + 1))


class TestRefs:
    def test_a_branch_is_isolated(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), ref="dev")
        assert held(catalog) == {"a": "v1"}
        assert held(catalog, "dev") == {"a": "v2"}

    def test_a_tag_never_moves(self, catalog: Catalog) -> None:
        catalog.create_tag("v1")
        with pytest.raises(InvalidArgument, match="tags never move"):
            commit(catalog, put("a", 1), ref="v1")

    def test_a_deleted_branch_comes_back_where_it_stood(self, catalog: Catalog) -> None:
        catalog.create_branch("dev")
        made = commit(catalog, put("a", 1), ref="dev")
        catalog.delete_ref("dev")
        with pytest.raises(NotFound):
            catalog.resolve("dev")
        assert catalog.undelete("dev").head == made.id

    def test_a_protected_branch_takes_commits_and_is_not_deleted(self, catalog: Catalog) -> None:
        catalog.protect_branch("main")
        commit(catalog, put("a", 1))
        with pytest.raises(InvalidArgument, match="protected"):
            catalog.delete_ref("main")
        with pytest.raises(InvalidArgument, match="protected"):
            catalog.reset_branch("main", "main~1")
        catalog.protect_branch("main", protect=False)
        catalog.reset_branch("main", "main~1")
        assert held(catalog) == {}

    def test_a_name_is_taken_once(self, catalog: Catalog) -> None:
        with pytest.raises(AlreadyExists):
            catalog.create_branch("main")

    @pytest.mark.parametrize("name", ["", "a b", "a..b", "-a", "a@b", "a*b", "x.lock"])
    def test_bad_names_are_refused(self, catalog: Catalog, name: str) -> None:
        with pytest.raises(InvalidArgument):
            catalog.create_branch(name)

    def test_the_reflog_knows_every_move(self, catalog: Catalog) -> None:
        first = catalog.resolve("main")
        made = commit(catalog, put("a", 1))
        assert [(move.before, move.after) for move in catalog.reflog("main")] == [
            (first.id, made.id),
            (None, first.id),
        ]

    def test_a_long_reflog_comes_whole(self, catalog: Catalog) -> None:
        first = catalog.resolve("main").id
        made: list[str] = []
        for start in range(0, 1_200, 200):
            wanted = [Proposal("main", (put(f"k{start + place}", 1),), message="m") for place in range(200)]
            made += [one.id for one in catalog.commit_many(wanted) if isinstance(one, Commit)]
        assert [move.after for move in catalog.reflog("main")] == [*made[::-1], first]
        assert len(made) == 1_200

    def test_a_reflog_of_no_ref_is_not_found(self, catalog: Catalog) -> None:
        with pytest.raises(NotFound, match="'nowhere'"):
            next(catalog.reflog("nowhere"))

    @pytest.mark.parametrize("kind", RefKind)
    def test_undelete_brings_back_the_same_kind(self, catalog: Catalog, kind: RefKind) -> None:
        made = catalog.create_tag("r") if kind is RefKind.TAG else catalog.create_branch("r")
        catalog.delete_ref("r")
        again = catalog.undelete("r")
        assert (again.kind, again.head) == (kind, made.head)
        assert {move.kind for move in catalog.reflog("r")} == {kind}

    def test_kinds_are_told_apart(self, catalog: Catalog) -> None:
        catalog.create_tag("t")
        assert [ref.name for ref in catalog.refs(RefKind.TAG)] == ["t"]
        assert [ref.name for ref in catalog.refs(RefKind.BRANCH)] == ["main"]


class TestTimeTravel:
    def test_a_time_is_resolved_by_when_the_ref_moved(self, catalog: Catalog) -> None:
        first = commit(catalog, put("a", 1))
        commit(catalog, put("a", 2, expected=1))
        assert held(catalog, f"main*{format_time(first.committed_at_us)}") == {"a": "v1"}

    def test_a_relative_spec_is_refused_in_writes(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidArgument):
            catalog.begin("main~1")

    @pytest.mark.parametrize("digits", [8, 64])
    def test_a_commits_id_is_a_point_without_a_sign(self, catalog: Catalog, digits: int) -> None:
        one, two = commit(catalog, put("a", 1)), commit(catalog, put("b", 1))
        before, after = one.id[:digits], two.id[:digits]
        assert catalog.resolve(before) == one
        assert [change.key for change in catalog.diff(before, after)] == [("p", "b")]
        assert next(iter(catalog.log(f"{after}~1"))) == one
        catalog.create_branch("dev", before)
        assert catalog.merge(after, "dev").parents == (one.id, two.id)
        catalog.create_branch("picked", before)
        catalog.cherry_pick(after, "picked")
        assert held(catalog, "picked") == {"a": "v1", "b": "v1"}
        with pytest.raises(NotFound, match=f"ref '{after}' does not exist"):
            commit(catalog, put("c", 1), ref=after)
        with pytest.raises(NotFound):
            catalog.begin(after)

    @pytest.mark.parametrize(
        "call",
        [
            lambda catalog: list(catalog.log(5)),
            lambda catalog: list(catalog.log(None)),
            lambda catalog: catalog.at(5),
            lambda catalog: list(catalog.diff({"main"}, "main")),
            lambda catalog: catalog.create_branch(5),
            lambda catalog: catalog.begin("main", message=5),
            lambda catalog: catalog.begin("main", properties={"run": 7}),
            lambda catalog: catalog.at("main").entry({"p", "a"}),
            lambda catalog: catalog.at("main").entry(b"p.a"),
            lambda catalog: catalog.at("main").entry(("p", b"a")),
            lambda catalog: catalog.restore("main", keys="p.a"),
            lambda catalog: catalog.revert("main", keys=5),
            lambda catalog: catalog.restore("main", items=["p.a"]),
            lambda catalog: catalog.watch(seconds_max=math.nan),
            lambda catalog: commit(catalog, Put(("p", "b"), replace(pointer("b", 1), version=5))),  # type: ignore[arg-type]
            lambda catalog: commit(catalog, Put(("p", "b"), replace(pointer("b", 1), digest="1"))),  # type: ignore[arg-type]
            lambda catalog: commit(catalog, Put(("p", "b"), replace(pointer("b", 1), attrs={"size": 5}))),  # type: ignore[dict-item]
            lambda catalog: catalog.begin("main", implicit="no"),
            lambda catalog: catalog.protect_branch("main", protect="no"),
            lambda catalog: catalog.add_store("q", "anything", {"path": 5}, mode=Mode.POINTER),
        ],
    )
    def test_what_is_of_a_wrong_type_is_refused(self, catalog: Catalog, call: Callable[[Catalog], object]) -> None:
        commit(catalog, put("a", 1))
        with pytest.raises(InvalidArgument):
            call(catalog)
        assert len(list(catalog.log())) == 2
        assert list(catalog.working_sets()) == []
        assert list(catalog.verify()) == []

    def test_a_message_of_a_wrong_type_is_refused(self, catalog: Catalog) -> None:
        tx = catalog.begin("main")
        with pytest.raises(InvalidArgument):
            tx.commit(0, allow_empty=True)  # type: ignore[arg-type]
        tx.discard()
        assert list(catalog.verify()) == []

    def test_a_stores_path_may_be_given_as_a_path(self, catalog: Catalog, tmp_path: Path) -> None:
        catalog.add_store("q", "anything", {"path": tmp_path}, mode=Mode.POINTER)
        assert {store.name: store.options for store in catalog.stores()}["q"] == {"path": str(tmp_path)}

    def test_a_point_stays_where_it_was_resolved(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        point = catalog.at("main")
        commit(catalog, put("a", 2, expected=1))
        assert [entry.snapshot.version for entry in point.entries()] == ["v1"]


class TestLooking:
    def test_diff_lists_keys_in_order(self, catalog: Catalog) -> None:
        commit(catalog, put("b", 1), put("a", 1))
        commit(catalog, put("c", 1), put("a", 2, expected=1), Delete(("p", "b"), ref_digest(pointer("b", 1))))
        changes = list(catalog.diff("main~1", "main"))
        assert [
            (c.key[1], c.before and c.before.snapshot.version, c.after and c.after.snapshot.version) for c in changes
        ] == [("a", "v1", "v2"), ("b", "v1", None), ("c", None, "v1")]

    def test_log_filters(self, catalog: Catalog) -> None:
        catalog.commit(Proposal("main", (put("a", 1),), message="first", author="Ada", properties={"run": "7"}))
        catalog.commit(Proposal("main", (put("b", 1),), message="second", author="Bob"))

        def messages(wanted: LogFilter) -> list[str]:
            return [found.message for found in catalog.log("main", wanted)]

        assert messages(LogFilter(author="ada")) == ["first"]
        assert messages(LogFilter(key=("p", "b"))) == ["second"]
        assert messages(LogFilter(properties={"run": "7"})) == ["first"]
        assert messages(LogFilter()) == ["second", "first", "Empty repository"]

    def test_a_log_tells_the_properties_of_a_commit_in_order(self, catalog: Catalog) -> None:
        properties = {name: name.upper() for name in ("run", "app", "version", "source")}
        catalog.commit(Proposal("main", (put("a", 1),), properties=properties))
        assert list(next(iter(catalog.log())).properties) == sorted(properties)

    def test_a_log_is_of_one_principal_or_of_one_client(self, catalog: Catalog) -> None:
        """Who is authenticated is one and the same here; what the client calls itself is not."""
        here = commit(catalog, put("a", 1))
        there = commit(catalog.as_session(Session(here.session.principal, client="Spark/worker-7")), put("b", 1))
        first = catalog.resolve("main~2")

        def found(wanted: LogFilter) -> list[Commit]:
            return [one for one in catalog.log("main", wanted) if one != first]

        assert found(LogFilter(principal=here.session.principal)) == [there, here]
        assert found(LogFilter(principal=f"not {here.session.principal}")) == []
        assert found(LogFilter(client="spark")) == [there]
        assert found(LogFilter(principal=here.session.principal, client="flink")) == []

    def test_history_of_a_key_follows_reachable_commits_only(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), message="one")
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), message="two", ref="dev")
        commit(catalog, put("a", 3, expected=1), message="three")
        assert [found.message for found, _ in catalog.history("p.a")] == ["three", "one"]

    def test_events_are_gap_free_and_hold_the_changes(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        last = catalog.events()[-1]
        assert last.kind is EventKind.COMMIT
        assert [change.key for change in last.changes] == [("p", "a")]
        assert catalog.events(last.seq) == []
