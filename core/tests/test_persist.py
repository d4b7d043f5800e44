"""Rows in, values out, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import plait
import pytest
import sqlalchemy as sa
from plait.catalog import Catalog
from plait.clock import ManualClock
from plait.codec import encode_key
from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable
from plait.persist import Database, Repository, Rows, create_repository, find_repository, schema
from plait.persist.graph_rows import Answer, ChangeRow, LogRow, Serial
from plait.persist.store_rows import NO_SNAPSHOT, Publication
from plait.persist.tx_rows import conflict_item
from plait.types import (
    Commit,
    Depth,
    Entry,
    Key,
    Mode,
    Participant,
    Proposal,
    Ref,
    RefKind,
    RefMove,
    Session,
    Source,
    SourceKind,
    Staging,
    Store,
    Strategy,
    Tx,
    TxState,
)
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.samples import POINTER_STORE, pointer, put

ADA = Session("ada", "Ada <ada@example.org>", "test/1", {"run": "7"})


def commit(number: int, *parents: int) -> Commit:
    return Commit(
        f"{number:064x}",
        tuple(f"{parent:064x}" for parent in parents),
        number.to_bytes(32, "big"),
        "Ada",
        f"message {number}",
        1_000 + number,
        {"n": str(number)},
        f"tx-{number}",
        ADA,
        number,
    )


def tx(number: int, state: TxState = TxState.OPEN, **fields: object) -> Tx:
    base = f"{1:064x}"
    return Tx(f"tx-{number}", state, "main", 1, base, ADA, 1_000 + number, **fields)  # type: ignore[arg-type]


class TestSchema:
    def test_a_database_without_tables_holds_no_catalog(self, database_url: str) -> None:
        opened = Database(database_url)
        with pytest.raises(InvalidArgument, match="holds no catalog"):
            opened.check_schema()
        opened.close()

    def test_creating_the_schema_twice_is_creating_it_once(self, database_url: str) -> None:
        opened = Database(database_url)
        opened.create_schema()
        opened.create_schema()
        opened.check_schema()
        with opened.read() as connection:
            assert connection.execute(sa.select(schema.schema_version.c.revision)).scalars().all() == [schema.REVISION]
        opened.close()

    def test_servers_that_start_at_once_make_one_schema(self, database_url: str) -> None:
        servers = [Database(database_url) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Database.create_schema, servers))
        for server in servers:
            server.check_schema()
            server.close()

    @pytest.mark.parametrize(
        ("revision", "remedy"), [(schema.REVISION - 1, "plait migrate"), (schema.REVISION + 1, "newer plait")]
    )
    def test_another_revision_is_refused_and_left_alone(self, database_url: str, revision: int, remedy: str) -> None:
        database = Database(database_url)
        database.create_schema()
        with database.write() as connection:
            connection.execute(sa.update(schema.schema_version).values(revision=revision))
            connection.execute(sa.schema.DropTable(schema.token))
        for check in (database.check_schema, database.create_schema):
            with pytest.raises(InvalidArgument, match=remedy):
                check()
        with database.read() as connection:
            assert not sa.inspect(connection).has_table("token")
        database.close()

    def test_a_schema_without_its_revision_is_corrupt(self, database_url: str) -> None:
        database = Database(database_url)
        database.create_schema()
        with database.write() as connection:
            connection.execute(sa.delete(schema.schema_version))
        with pytest.raises(Corrupt, match="schema_version"):
            database.check_schema()
        database.close()

    def test_a_revision_that_is_no_number_is_corrupt(self, tmp_path: Path) -> None:
        with closing(Database(f"sqlite:///{tmp_path}/catalog.db")) as database:
            database.create_schema()
            with database.write() as connection:
                connection.execute(sa.text("UPDATE schema_version SET revision = 'zz'"))
            with pytest.raises(Corrupt, match="schema_version is 'zz'"):
                database.check_schema()

    @pytest.mark.parametrize("url", ["nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(InvalidArgument):
            Database(url)

    def test_a_database_that_is_not_there_is_unavailable(self) -> None:
        gone = Database("postgresql://nobody@127.0.0.1:1/none")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            gone.check_schema()
        gone.close()

    def test_a_damaged_file_is_corrupt(self, tmp_path: Path) -> None:
        path = tmp_path / "catalog.db"
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
        damaged = Database(f"sqlite:///{path}")
        with pytest.raises(Corrupt, match="damaged"):
            damaged.check_schema()
        damaged.close()


class TestWriting:
    def test_a_block_that_raises_changes_nothing(self, repository: Repository) -> None:
        def fail_half_way() -> None:
            with repository.write() as rows:
                rows.put_store(POINTER_STORE)
                raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"):
            fail_half_way()
        with repository.read() as rows:
            assert rows.stores() == {}

    def test_nothing_is_seen_before_it_is_committed(self, repository: Repository) -> None:
        with repository.write() as rows:
            rows.put_store(POINTER_STORE)
            with repository.read() as others:
                assert others.stores() == {}
        with repository.read() as rows:
            assert rows.stores() == {"p": POINTER_STORE}

    def test_writers_in_many_threads_all_succeed(self, repository: Repository) -> None:
        def append(number: int) -> None:
            with repository.write() as rows:
                before = rows.lock_serial()
                assert rows.swap_serial(before, Serial(before.seq + 1, bytes([number]) * 32, before.at_us + 1))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(append, range(24)))
        with repository.read() as rows:
            assert rows.serial().seq == 24

    def test_writes_that_travel_together_are_all_there(self, repository: Repository) -> None:
        with repository.write() as rows, rows.together():
            rows.put_nodes({b"a": b"1", b"b": b"2"}, 1)
            rows.insert_log([LogRow(1, "commit", bytes(32), b"payload")])
        with repository.read() as rows:
            assert rows.nodes([b"a", b"b"]) == {b"a": b"1", b"b": b"2"}
            assert [record.payload for record in rows.log(0, 10)] == [b"payload"]

    def test_of_writes_that_travel_together_one_that_fails_fails_all(self, repository: Repository) -> None:
        def write_twice() -> None:
            with repository.write() as rows, rows.together():
                rows.put_nodes({b"a": b"1", b"b": b"2"}, 1)
                rows.insert_log([LogRow(1, "commit", bytes(32), b"payload")])
                rows.insert_log([LogRow(1, "commit", bytes(32), b"payload")])
                rows.put_nodes({b"c": b"3"}, 1)

        with pytest.raises(sa.exc.IntegrityError):
            write_twice()
        with repository.read() as rows:
            assert rows.nodes([b"a", b"c"]) == {}
            assert rows.log(0, 10) == []

    @pytest.mark.postgres
    def test_a_connection_lost_among_writes_that_travel_together_changes_nothing(self, postgresql_url: str) -> None:
        database = Database(new_postgresql_database(postgresql_url))
        database.create_schema()
        repository = create_repository(database, "lost", ManualClock())

        def lose() -> None:
            with repository.write() as rows, rows.together():
                rows.insert_log([LogRow(1, "commit", bytes(32), b"payload")])
                with database.read() as other:
                    ours = "pid <> pg_backend_pid() AND datname = current_database()"
                    other.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"))

        with pytest.raises(StoreUnavailable, match="does not answer"):
            lose()
        with repository.read() as rows:
            assert rows.log(0, 10) == []
        database.close()


class TestRepositories:
    def test_a_new_repository_is_empty(self, repository: Repository) -> None:
        with repository.read() as rows:
            assert rows.serial() == Serial(0, bytes(32), 0)
            assert (rows.refs(), rows.log(0, 10), rows.links(10, 10)) == ([], [], [])

    def test_it_is_found_by_its_name(self, database: Database, repository: Repository) -> None:
        assert find_repository(database, "r") == repository

    def test_a_missing_one_is_named_with_those_that_are_there(self, database: Database, repository: Repository) -> None:
        with pytest.raises(NotFound, match="'s' does not exist; there are: 'r'"):
            find_repository(database, "s")

    def test_a_name_is_given_once(self, database: Database, repository: Repository, clock: ManualClock) -> None:
        with pytest.raises(AlreadyExists, match="'r'"):
            create_repository(database, "r", clock)

    def test_of_many_who_make_the_same_one_succeeds(self, database: Database, clock: ManualClock) -> None:
        together = threading.Barrier(4)

        def make(_: int) -> bool:
            together.wait()
            try:
                create_repository(database, "same", clock)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(make, range(4))) == [False, False, False, True]

    def test_several_in_one_database_do_not_see_each_other(
        self, database: Database, repository: Repository, clock: ManualClock
    ) -> None:
        other = create_repository(database, "s", clock)
        assert (other.uuid, other.salt) != (repository.uuid, repository.salt)
        _fill(repository)
        with other.read() as rows:
            before = _everything(rows)
            assert not any(before.values())
        _fill(other)  # The same ids again: every key holds the repository.
        with repository.read() as rows:
            mine = _everything(rows)
        with other.read() as rows:
            assert _everything(rows) == mine
        assert all(mine.values())
        with other.write() as rows:
            assert rows.delete_store("p")
            assert rows.swap_ref(rows.ref("main"), None)
            rows.delete_participants("tx-1")
            rows.delete_conflicts("tx-1")
            assert rows.delete_token("t")
        with repository.read() as rows:
            assert _everything(rows) == mine


def _fill(repository: Repository) -> None:
    """One row, at least, in every table of a repository."""
    with repository.write() as rows:
        assert rows.swap_serial(rows.lock_serial(), Serial(1, b"\1" * 32, 5))
        rows.insert_log([LogRow(1, "commit", b"\1" * 32, b"payload")])
        rows.put_nodes({b"n" * 32: b"node"}, 1)
        rows.put_snapshots({b"s" * 32: b"body"}, 1)
        rows.insert_commits([(commit(1), b"salt")])
        rows.insert_ref(Ref("main", RefKind.BRANCH, commit(1).id, 1))
        rows.insert_moves([RefMove(1, 5, "main", RefKind.BRANCH, 1, None, commit(1).id)])
        rows.insert_changes([ChangeRow(1, b"p\0a\0", None, b"s" * 32)])
        rows.insert_txs([tx(1)])
        rows.put_participants([Participant("tx-1", ("p", "a"), None)])
        rows.put_conflicts("tx-1", [{"key": b"k", "item": b"", "position": 0, "body": b"b", "resolution": None}])
        rows.put_store(POINTER_STORE)
        assert rows.swap_state("p", "n", None, b"v")
        rows.set_targets([Publication("p", "a", ("p", "a"), None, b"t", 1)])
        rows.set_publish_cursors({"p": (commit(1).id, 1)})
        rows.insert_answers([Answer("ada", "commit", "key", b"d", b"r")])
        rows.set_subscription("x", 1)
        rows.insert_token("t", repository.uuid.encode(), 1)


AWKWARD = ("", "NULL", '{a,"b"}', "back\\slash", "naïve ☃", "two\nlines", "'quoted'", "seven")


def _row(table: sa.Table, place: int, repository_id: int) -> dict[str, object]:
    """A row of a table, with text and bytes that are easily taken for something else."""
    values: dict[type, object] = {
        sa.Integer: place,
        sa.BigInteger: (1 << 62) + place,
        sa.Boolean: place % 2 == 0,
        sa.LargeBinary: AWKWARD[place].encode() + b"\0\xff\\x00",
        sa.Text: AWKWARD[place],
    }
    row: dict[str, object] = {column.name: values[type(column.type)] for column in table.c}
    row |= {column.name: None for column in table.c if column.nullable and place % 3 == 0}
    return {**row, "repository_id": repository_id}


OF_MANY_ROWS = [one for one in schema.metadata.tables.values() if len(one.primary_key) > 1]


@pytest.mark.parametrize("table", OF_MANY_ROWS, ids=str)
def test_many_rows_at_once_are_what_they_are_one_by_one(repository: Repository, table: sa.Table) -> None:
    many = [_row(table, place, repository.id) for place in range(len(AWKWARD))]
    with repository.write() as rows:
        rows._delete(table)
        for row in many:
            rows._insert(table, [row])
        one_by_one = rows._all(table)
        rows._delete(table)
        rows._insert(table, many)
        at_once = rows._all(table)
        rows._upsert(table, many)
        again = rows._all(table)
    assert sorted(map(repr, at_once)) == sorted(map(repr, one_by_one)) == sorted(map(repr, again))
    assert len(at_once) == len(many)


def test_indexes_of_what_is_pending_are_partial_on_both_databases(database: Database) -> None:
    with database.read() as connection:
        kept = {
            index["name"]: index["dialect_options"].get(f"{connection.dialect.name}_where") is not None
            for table in ("tx", "publication")
            for index in sa.inspect(connection).get_indexes(table)
        }
    assert (kept["tx_live"], kept["publication_undone"]) == (True, True)


def _everything(rows: Rows) -> dict[str, object]:
    return {
        "log": rows.log(0, 10),
        "nodes": rows.nodes([b"n" * 32]),
        "snapshots": rows.snapshots([b"s" * 32]),
        "all_snapshots": rows.all_snapshots(),
        "commits": rows.commits([commit(1).id]),
        "links": rows.links(10, 10),
        "refs": rows.refs(),
        "moves": rows.moves("main", before_us=None, limit=9),
        "changes": rows.changes_of_seqs([1]),
        "txs": rows.txs(["tx-1"]),
        "open": rows.live_txs(),
        "participants": rows.participants("tx-1"),
        "conflicts": rows.conflicts("tx-1"),
        "stores": rows.stores(),
        "state": rows.state("p", "n"),
        "publications": rows.publications(),
        "cursor": rows.publish_cursors().get("p"),
        "answers": rows.answers(["key"]),
        "subscription": rows.subscription("x"),
        "tokens": rows.tokens(),
    }


class TestGraphRows:
    def test_the_serial_swaps_only_from_what_it_is(self, repository: Repository) -> None:
        with repository.write() as rows:
            start = rows.lock_serial()
            first = Serial(1, b"\1" * 32, 10)
            assert rows.swap_serial(start, first)
            assert not rows.swap_serial(start, Serial(1, b"\2" * 32, 10))
            assert not rows.swap_serial(Serial(1, b"\2" * 32, 10), Serial(2, b"\3" * 32, 11))
            assert rows.serial() == first

    def test_the_log_is_read_in_order_after_a_place(self, repository: Repository) -> None:
        records = [LogRow(seq, "commit", bytes([seq]) * 32, b"p%d" % seq) for seq in range(1, 6)]
        with repository.write() as rows:
            rows.insert_log(records[::-1])
            assert rows.log(0, 100) == records
            assert rows.log(2, 2) == records[2:4]

    def test_a_repeated_node_is_touched_and_a_snapshot_keeps_its_state(
        self, repository: Repository, database: Database
    ) -> None:
        with repository.write() as rows:
            rows.put_nodes({b"a": b"x"}, 1)
            rows.put_nodes({b"a": b"x", b"b": b"y"}, 7)
            rows.put_snapshots({b"s": b"body"}, 1)
        with database.write() as connection:
            connection.execute(sa.update(schema.snapshot).values(state="expired"))
        with repository.write() as rows:
            rows.put_snapshots({b"s": b"body"}, 7)
            assert rows.nodes([b"a", b"b", b"c"]) == {b"a": b"x", b"b": b"y"}
            assert rows.snapshots([b"s", b"s", b"t"])[b"s"].state == "expired"
        with database.read() as connection:
            assert connection.execute(sa.select(schema.node.c.touched_seq)).scalars().all() == [7, 7]
            assert connection.execute(sa.select(schema.snapshot.c.touched_seq)).scalars().all() == [7]

    def test_more_ids_than_one_statement_takes(self, repository: Repository) -> None:
        nodes = {number.to_bytes(2, "big"): b"x" for number in range(1203)}
        with repository.write() as rows:
            rows.put_nodes(nodes, 1)
            assert rows.nodes(list(nodes)) == nodes

    def test_commits_come_back_as_they_went_in(self, repository: Repository) -> None:
        one, two = commit(1), commit(2, 1)
        with repository.write() as rows:
            rows.insert_commits([(one, b"salt 1"), (two, b"salt 2")])
            assert rows.commits([one.id, two.id, "ff" * 32]) == {one.id: one, two.id: two}
            assert rows.commits_by_seq([2, 3]) == {2: two}
            assert rows.commit_salt(two.id) == b"salt 2"
            assert rows.commit_salt("ff" * 32) is None
            assert rows.links(2, 1) == [(2, two.id, (one.id,))]
            assert rows.links(1, 9) == [(1, one.id, ())]
            with pytest.raises(NotFound, match="ff" * 32):
                rows.commit("ff" * 32)

    def test_a_prefix_must_mean_one_commit(self, repository: Repository) -> None:
        with repository.write() as rows:
            rows.insert_commits([(commit(0xAB), b""), (commit(0xAC), b"")])
            assert rows.commit_by_prefix(f"{0xAB:064x}") == commit(0xAB).id
            assert rows.commit_by_prefix("0" * 61 + "0ab") == commit(0xAB).id
            with pytest.raises(InvalidArgument, match="several"):
                rows.commit_by_prefix("00000")
            with pytest.raises(NotFound, match="begins with 1234"):
                rows.commit_by_prefix("1234")

    def test_equal_sessions_share_a_row(self, repository: Repository, database: Database) -> None:
        with repository.write() as rows:
            rows.insert_commits([(commit(1), b""), (commit(2, 1), b"")])
            rows.insert_txs([tx(1)])
        with database.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(schema.session)).scalar() == 1

    def test_a_ref_moves_only_from_where_it_is(self, repository: Repository) -> None:
        main = Ref("main", RefKind.BRANCH, commit(1).id, 1)
        moved = Ref("main", RefKind.BRANCH, commit(2).id, 1, protected=True)
        with repository.write() as rows:
            rows.insert_ref(main)
            with pytest.raises(AlreadyExists, match="'main'"):
                rows.insert_ref(main)
            assert rows.swap_ref(main, moved)
            assert not rows.swap_ref(main, moved)
            assert not rows.swap_ref(Ref("main", RefKind.BRANCH, commit(2).id, 9), None)
            assert rows.refs_named(["main", "none"]) == {"main": moved}
            assert rows.swap_ref(moved, None)
            with pytest.raises(NotFound, match="'main'"):
                rows.ref("main")

    def test_refs_are_listed_by_name(self, repository: Repository) -> None:
        with repository.write() as rows:
            for name in ("b", "a", "C"):
                rows.insert_ref(Ref(name, RefKind.TAG, commit(1).id, 1))
            assert [ref.name for ref in rows.refs()] == ["C", "a", "b"]

    def test_moves_are_found_by_ref_place_and_time(self, repository: Repository) -> None:
        moves = [RefMove(seq, seq * 10, "main", RefKind.BRANCH, 1, None, commit(seq).id) for seq in (1, 2, 3)]
        gone = RefMove(4, 40, "main", RefKind.BRANCH, 1, commit(3).id, None)
        with repository.write() as rows:
            rows.insert_moves([*moves, gone, RefMove(5, 50, "other", RefKind.BRANCH, 5, None, commit(1).id)])
            assert rows.moves("main", before_us=None, limit=9) == [gone, *moves[::-1]]
            assert rows.moves("main", before_us=30, limit=1) == [moves[1]]
            assert rows.move_at("main", 9) is None
            assert rows.move_at("main", 10) == moves[0]
            assert rows.move_at("main", 39) == moves[2]
            assert rows.move_at("main", 99) == gone

    def test_changes_are_found_by_key_and_by_record(self, repository: Repository) -> None:
        changes = [ChangeRow(1, b"b", None, b"1"), ChangeRow(1, b"a", None, b"1"), ChangeRow(3, b"a", b"1", None)]
        with repository.write() as rows:
            rows.insert_changes(changes)
            assert rows.changes_of_key(b"a", 9, 9) == [changes[2], changes[1]]
            assert rows.changes_of_key(b"a", 2, 9) == [changes[1]]
            assert rows.changes_of_key(b"a", 9, 1) == [changes[2]]
            assert rows.changes_of_seqs([1, 2, 3]) == {1: [changes[1], changes[0]], 3: [changes[2]]}

    def test_answers_are_kept_by_principal_operation_and_key(self, repository: Repository) -> None:
        answers = [Answer("ada", "commit", "k", b"1", b"r"), Answer("bob", "commit", "k", b"2", b"s")]
        with repository.write() as rows:
            rows.insert_answers(answers)
            assert rows.answers(["k", "other"]) == {
                ("ada", "commit", "k"): answers[0],
                ("bob", "commit", "k"): answers[1],
            }
        with pytest.raises(sa.exc.IntegrityError), repository.write() as rows:
            rows.insert_answers(answers[:1])


class TestTransactionRows:
    def test_a_transaction_comes_back_as_it_went_in(self, repository: Repository) -> None:
        source = Source(
            SourceKind.MERGE, "aa" * 32, "bb" * 32, (("p", "a"),), Strategy.OURS, ((("p",), Strategy.DROP),)
        )
        full = tx(
            1,
            TxState.SEALED,
            name="nightly",
            message="m",
            properties={"a": "b"},
            attempt=3,
            owner="server-1",
            lease_until_us=99,
            implicit=True,
            merged_parents=("cc" * 32,),
            source=source,
        )
        with repository.write() as rows:
            rows.insert_txs([full, tx(2), tx(3, TxState.COMMITTED), tx(4, TxState.ABORTED), tx(5, TxState.ABORTING)])
            assert rows.txs(["tx-1", "tx-2", "tx-9"], lock=True) == {"tx-1": full, "tx-2": tx(2)}
            assert rows.live_txs() == [full, tx(2), tx(5, TxState.ABORTING)]

    @pytest.mark.parametrize(
        "stale",
        [tx(1, TxState.SEALED, attempt=1, owner="a"), tx(1, attempt=2, owner="a"), tx(1, attempt=1, owner="b"), tx(2)],
    )
    def test_a_transaction_swaps_only_from_what_it_is(self, repository: Repository, stale: Tx) -> None:
        held = tx(1, attempt=1, owner="a")
        after = tx(1, TxState.COMMITTED, attempt=1, commit="dd" * 32)
        with repository.write() as rows:
            rows.insert_txs([held])
            assert not rows.swap_tx(stale, after)
            assert rows.txs(["tx-1"]) == {"tx-1": held}
            assert rows.swap_tx(held, after)
            assert rows.txs(["tx-1"]) == {"tx-1": after}

    def test_participants_come_back_in_key_order(self, repository: Repository) -> None:
        key_a, key_b = ("p", "a"), ("p", "b")
        base = Entry(key_b, "00000000-0000-7000-8000-000000000001", pointer("b", 1))
        staged = Participant(
            "tx-1",
            key_b,
            base,
            Staging("tx-1", key_b, pointer("b", 1), "place", {"k": "v"}),
            content_id=base.content_id,
            attempt=2,
            prepared=pointer("b", 2),
        )
        intended, dropped = Participant("tx-1", key_a, None), Participant("tx-1", key_a, None, dropped=True)
        with repository.write() as rows:
            rows.put_participants([staged, intended, Participant("tx-2", key_a, None)])
            assert rows.participants("tx-1") == [intended, staged]
            rows.put_participants([dropped])
            assert rows.participants("tx-1", [key_a, ("p", "c")]) == [dropped]
            assert rows.participants_of(["tx-1", "tx-2"]).keys() == {"tx-1", "tx-2"}
            rows.delete_participants("tx-1")
            assert (rows.participants("tx-1"), len(rows.participants("tx-2"))) == ([], 1)

    def test_a_location_moves_only_from_where_it_is(self, repository: Repository) -> None:
        key: Key = ("p", "a")
        with repository.write() as rows:
            rows.put_participants(
                [
                    Participant("tx-1", key, None, Staging("tx-1", key, None, "one")),
                    Participant("tx-1", ("p", "b"), None),
                ]
            )
            assert not rows.swap_location("tx-1", key, "other", "two")
            assert not rows.swap_location("tx-1", ("p", "b"), "", "two")  # Intended, not staged yet.
            assert rows.swap_location("tx-1", key, "one", "two")
            (found,) = rows.participants("tx-1", [key])
            assert found.staging == Staging("tx-1", key, None, "two")

    def test_of_several_conflicts_of_one_item_the_last_counts(self, repository: Repository) -> None:
        twice = [
            {"key": b"k", "item": item, "position": place, "body": b"%d" % place, "resolution": None}
            for place, item in enumerate([b"a", b"b", b"c", b"d", b"a"])
        ]
        with repository.write() as rows:
            rows.put_conflicts("tx-1", twice)
            assert [body for _, body, _ in rows.conflicts("tx-1")] == [b"1", b"2", b"3", b"4"]

    def test_conflicts_are_paged_in_order_and_resolved_by_item(self, repository: Repository) -> None:
        key: Key = ("p", "a")
        items = [None, "", "id=7"]
        with repository.write() as rows:
            rows.put_conflicts(
                "tx-1",
                [
                    {
                        "key": encode_key(key),
                        "item": conflict_item(item),
                        "position": place,
                        "body": b"%d" % place,
                        "resolution": None,
                    }
                    for place, item in enumerate(items)
                ],
            )
            assert rows.set_resolution("tx-1", key, "", b"ours")
            assert not rows.set_resolution("tx-1", key, "id=8", b"ours")
            assert rows.conflicts("tx-1") == [(0, b"0", None), (1, b"1", b"ours"), (2, b"2", None)]
            assert rows.conflicts("tx-1")[1] == (1, b"1", b"ours")
            rows.delete_conflicts("tx-1")
            assert rows.conflicts("tx-1") == []


class TestStoreRows:
    def test_stores_come_back_by_name(self, repository: Repository) -> None:
        lake = Store("lake", "iceberg", Mode.MANAGED, "main", {"warehouse": "s3://b"})
        with repository.write() as rows:
            rows.put_store(POINTER_STORE)
            rows.put_store(Store("lake", "iceberg"))
            rows.put_store(lake)
            assert list(rows.stores().values()) == [lake, POINTER_STORE]
            assert rows.store("lake") == lake
            assert rows.delete_store("lake")
            assert not rows.delete_store("lake")
            with pytest.raises(NotFound, match="'lake'"):
                rows.store("lake")

    def test_the_state_of_an_adapter_is_compared_and_set(self, repository: Repository) -> None:
        steps: list[tuple[bytes | None, bytes | None, bool, bytes | None]] = [
            (b"x", b"1", False, None),
            (None, b"1", True, b"1"),
            (None, b"2", False, b"1"),
            (b"2", b"3", False, b"1"),
            (b"1", b"2", True, b"2"),
            (b"1", None, False, b"2"),
            (b"2", None, True, None),
            (None, None, True, None),
        ]
        for expected, value, done, held in steps:
            with repository.write() as rows:
                assert rows.swap_state("lake", "n", expected, value) is done
                assert rows.state("lake", "n") == held

    def test_of_many_who_set_an_absent_state_one_succeeds(self, repository: Repository) -> None:
        together = threading.Barrier(4)

        def claim(number: int) -> bool:
            together.wait()
            with repository.write() as rows:
                return rows.swap_state("lake", "n", None, b"%d" % number)

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(claim, range(4))) == [False, False, False, True]

    def test_what_publishers_write_and_what_sets_targets_stay_apart(self, repository: Repository) -> None:
        new = Publication("lake", "a", ("lake", "a"), None, b"t1", 1)
        claimed = Publication("lake", "a", ("lake", "a"), None, b"t1", 1, moving=NO_SNAPSHOT, owner="s1", epoch=1)
        with repository.write() as rows:
            rows.set_targets([new])
            assert rows.swap_publication(new, claimed)
            assert not rows.swap_publication(new, claimed)
            rows.set_targets([Publication("lake", "a", ("lake", "b"), b"ignored", b"t2", 2)])
            found = rows.publication("lake", "a")
            assert (found.key, found.target, found.seq) == (("lake", "b"), b"t2", 2)
            assert (found.published, found.moving, found.owner, found.epoch) == (None, NO_SNAPSHOT, "s1", 1)
            assert rows.publications("other") == []
            with pytest.raises(NotFound, match="'lake'"):
                rows.publication("lake", "none")

    def test_cursors_subscriptions_and_tokens(self, repository: Repository) -> None:
        with repository.write() as rows:
            assert (rows.publish_cursors(), rows.subscription("x")) == ({}, 0)
            for seq in (1, 2):
                rows.set_publish_cursors({"lake": (commit(seq).id, seq)})
                rows.set_subscription("x", seq)
            assert (rows.publish_cursors(), rows.subscription("x")) == ({"lake": (commit(2).id, 2)}, 2)
            rows.insert_token("t", b"digest", 7)
            assert (rows.token_name(b"digest"), rows.token_name(b"other")) == ("t", None)
            assert rows.tokens() == [("t", 7)]
            assert rows.delete_token("t")
            assert not rows.delete_token("t")


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        (sa.update(schema.commit).values(parents=b"short"), lambda rows: rows.commit(commit(1).id)),
        (sa.update(schema.commit).values(properties="["), lambda rows: rows.commit(commit(1).id)),
        (sa.delete(schema.serial), lambda rows: rows.serial()),
        (sa.delete(schema.serial), lambda rows: rows.lock_serial()),
    ],
    ids=["parents", "properties", "serial", "serial to append"],
)
def test_rows_that_cannot_be_read_are_corrupt(
    repository: Repository, database: Database, damage: sa.Executable, read: Callable[[Rows], object]
) -> None:
    with repository.write() as rows:
        rows.insert_commits([(commit(1), b"")])
    with database.write() as connection:
        connection.execute(damage)
    with repository.read() as rows, pytest.raises(Corrupt):
        read(rows)


def test_a_write_without_a_flush_leaves_the_next_one_flushed(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/catalog.db")) as database:
        database.create_schema()

        def level(flush: bool) -> int:
            with database.write(flush=flush) as connection:
                return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

        is_wal = (tmp_path / "catalog.db-wal").exists()
        assert [level(flush) for flush in (True, False, True, False)] == [2, 1, 2, 1] if is_wal else [2, 2, 2, 2]


class TestWhereNobodyMayWrite:
    @pytest.fixture
    def closed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A catalog's file in a folder that says it may not be written, as one that is mounted read-only does."""
        with plait.init(tmp_path / "shop") as catalog:
            catalog.create_branch("dev")
        monkeypatch.setattr("plait.persist.engine.os.access", lambda path, mode: mode != os.W_OK)
        return tmp_path / "shop" / ".plait" / "catalog.db"

    def test_a_catalog_is_read_and_verified(self, closed: Path) -> None:
        before = sorted(closed.parent.iterdir())
        with plait.open(closed.parent.parent) as catalog:
            assert [ref.name for ref in catalog.refs()] == ["dev", "main"]
            assert list(catalog.verify(Depth.METADATA)) == []
        assert sorted(closed.parent.iterdir()) == before

    def test_a_write_is_refused(self, closed: Path) -> None:
        with plait.open(closed.parent.parent) as catalog, pytest.raises(PermissionDenied, match="only be read"):
            catalog.create_branch("other")

    def test_one_that_was_not_closed_is_refused(self, closed: Path) -> None:
        closed.with_name("catalog.db-wal").write_bytes(b"not written back")
        with pytest.raises(PermissionDenied, match="not closed"):
            plait.open(closed.parent.parent)


@pytest.mark.parametrize("left", ["BEGIN", "BEGIN IMMEDIATE"])
def test_a_transaction_that_an_interrupt_left_open_is_in_nobodys_way(tmp_path: Path, left: str) -> None:
    """A Ctrl-C may come where SQLAlchemy is just to end it: its connection is the next to be used."""
    with plait.init(tmp_path) as catalog:
        database = catalog.backend._repository.database  # type: ignore[attr-defined]
        with database.read() as connection:
            driver = connection.connection.driver_connection
        driver.execute(left)
        assert [ref.name for ref in catalog.refs()] == ["main"]
        driver.execute(left)
        catalog.create_branch("dev")
        assert not driver.in_transaction


class TestLostConnections:
    """PostgreSQL was started anew, as far as its clients can see: every connection they have is dead."""

    @pytest.fixture
    def catalog(self, postgresql_url: str) -> Iterator[Catalog]:
        with plait.init(new_postgresql_database(postgresql_url)) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            yield catalog

    def lose(self, catalog: Catalog) -> None:
        url = catalog.backend._repository.database.url  # type: ignore[attr-defined]
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            ended = connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).all()
        admin.dispose()
        assert len(ended) >= 1

    def test_one_that_rested_is_replaced_unnoticed(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("plait.persist.engine._IDLE_SECONDS", 0)
        self.lose(catalog)
        assert catalog.commit(Proposal("main", (put("a", 1),), message="m")).seq

    def test_one_in_use_fails_clearly_and_is_replaced(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("plait.persist.engine._IDLE_SECONDS", 3600)
        proposal = Proposal("main", (put("a", 1),), message="m", idempotency_key="once")
        self.lose(catalog)
        with pytest.raises(StoreUnavailable, match="database does not answer"):
            catalog.commit(proposal)
        assert catalog.commit(proposal) == catalog.resolve("main")


def test_who_waits_too_long_for_a_connection_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/catalog.db")) as database, ExitStack() as held:
        monkeypatch.setattr(database._engine.pool, "_timeout", 0.01)
        for _ in range(80):
            held.enter_context(database.read())
        with pytest.raises(StoreUnavailable, match="all connections of this process"), database.read():
            pass
