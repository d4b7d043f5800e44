"""The embedded catalog, on both databases: the behaviour of every catalog, and what only an embedded one does."""

from __future__ import annotations

import multiprocessing
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import plait
import pytest
import sqlalchemy as sa
from plait import limits
from plait.catalog import Catalog
from plait.clock import ManualClock
from plait.codec import digest, pack
from plait.connecting import find, migrate, shown
from plait.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
)
from plait.failpoint import armed
from plait.persist import Database, Rows, schema
from plait.transaction import Transactions
from plait.types import Depth, Mode, Proposal, Session, Tx, TxState
from plait_conformance.behaviour import *  # noqa: F403
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_storage import bring_up, take_down
from plait_conformance.samples import put


@pytest.fixture
def kind() -> str:
    """The kind that asks most of the core; the others are in the conformance tests."""
    return "fake-dolt"


@pytest.fixture
def headed_kind() -> str:
    return "fake-dolt"


@pytest.fixture
def url(database_url: str) -> str:
    """A database that holds a catalog with one commit, and a working set that is open."""
    with plait.init(database_url) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        catalog.commit(Proposal("main", (put("a", 1),)))
        catalog.begin()
    return database_url


class TestDurability:
    def test_a_reopened_catalog_is_the_same(self, url: str) -> None:
        with plait.open(url) as catalog:
            head = catalog.resolve("main")
        with plait.open(url) as catalog:
            assert catalog.resolve("main") == head
            assert [entry.key for entry in catalog.at("main").entries()] == [("p", "a")]
            assert list(catalog.verify(Depth.METADATA)) == []

    @pytest.mark.parametrize(
        ("statement", "where"),
        [
            (sa.update(schema.log).where(schema.log.c.seq == 3).values(payload=b"\0"), "log record 3"),
            (sa.update(schema.commit).where(schema.commit.c.seq == 3).values(message="forged"), "commit "),
            (sa.update(schema.commit).where(schema.commit.c.seq == 3).values(message="forged", salt=None), "commit "),
            (sa.update(schema.serial).values(at_us=1), "the serial row"),
            (sa.update(schema.serial).values(at_us=schema.serial.c.at_us + 3_700_000_000), "the serial row"),
            (sa.update(schema.ref).values(kind="twig"), "refs"),
            (sa.update(schema.ref_log).where(schema.ref_log.c.seq == 3).values(kind="twig"), "log records up to 3"),
            (sa.update(schema.store).values(options="["), "stores"),
            (sa.delete(schema.serial), "the serial row"),
            (sa.update(schema.node).values(data=b"\0"), "commit "),
            (sa.update(schema.snapshot).values(body=b"\0"), "snapshot "),
            (sa.delete(schema.log).where(schema.log.c.seq == 2), "log record 2"),
            (sa.update(schema.ref).values(head=bytes(32)), "ref 'main'"),
            (sa.update(schema.ref).values(protected=True), "ref 'main'"),
            (sa.update(schema.ref).values(name="other"), "ref 'main'"),
            (sa.delete(schema.ref), "ref 'main'"),
            (sa.update(schema.ref_log).where(schema.ref_log.c.seq == 3).values(after=None), "reflog of 'main'"),
            (sa.delete(schema.ref_log).where(schema.ref_log.c.seq == 3), "reflog of 'main'"),
            (sa.update(schema.ref_log).where(schema.ref_log.c.seq == 3).values(moved_at_us=1), "reflog of 'main'"),
            (sa.update(schema.change).values(after=bytes(32)), "log record "),
            (sa.delete(schema.change), "log record "),
            (sa.update(schema.store).values(bound_ref="dev"), "store "),
            (sa.update(schema.store).values(options='{"path":"/x"}'), "store "),
            (sa.update(schema.session).values(principal="somebody"), "session "),
            (sa.delete(schema.session), "log record "),
            (sa.update(schema.snapshot).values(state="gone"), "snapshot "),
            (sa.update(schema.tx).values(state="committed"), "working sets"),
            (sa.update(schema.repository).values(salt=b"another" * 2), "the repository's row"),
            (sa.update(schema.tx).values(state="closed"), "working sets"),
        ],
    )
    def test_verify_names_what_was_changed_in_the_database(
        self, url: str, statement: sa.Executable, where: str
    ) -> None:
        database = Database(url)
        with database.write() as connection:
            connection.execute(statement)
        database.close()
        with plait.open(url, recover=False) as catalog:
            problems = list(catalog.verify(Depth.METADATA))
        assert problems
        assert problems[0].where.startswith(where)


def test_an_import_into_no_store_leaves_nothing_and_the_catalog_opens(tmp_path: Path) -> None:
    with plait.init(tmp_path) as catalog, pytest.raises(NotFound, match="'nostore' does not exist"):
        catalog.import_assets({("nostore", "x"): "/x"})
    with plait.open(tmp_path) as catalog:
        assert catalog.working_sets() == []


def test_a_store_that_is_down_keeps_nobody_from_opening_the_catalog(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(store)})
        tx = catalog.begin()
        tx.create("s.a")
        take_down(store)
        with pytest.raises(StoreUnavailable):
            tx.discard()
    with plait.open(tmp_path) as catalog:
        assert [one.id for one in catalog.working_sets()] == [tx.id]
        assert f"working set {tx.id} is not put right yet" in caplog.text
        bring_up(store)
        assert catalog.recover() == [f"finished discarding {tx.id}"]
        assert catalog.working_sets() == []


def test_a_commit_is_acknowledged_though_the_database_goes_before_its_stagings_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(rows: Rows, tx: str) -> None:
        raise StoreUnavailable("the catalog's database does not answer")

    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        with monkeypatch.context() as patched, catalog.transaction() as tx:
            patched.setattr(Rows, "delete_participants", away)
            tx.create("s.a")
        assert tx.committed == catalog.resolve("main")
        assert catalog.recover() == [f"dropped what {tx.id} had staged for its commit"]


@pytest.mark.parametrize("error", [KeyError("of the block"), KeyboardInterrupt()])
def test_a_store_that_is_down_hides_no_error_of_a_block(tmp_path: Path, error: BaseException) -> None:
    store = tmp_path / "store"
    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(store)})
        with pytest.raises(type(error)) as raised, catalog.transaction() as tx:
            tx.create("s.a")
            take_down(store)
            raise error
        assert raised.value is error
        bring_up(store)
        assert catalog.recover() == [f"finished discarding {tx.id}"]


def test_an_adapter_that_fails_to_close_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def fail(adapter: FakeAdapter) -> None:
        closed.append(adapter.store.name)
        raise StoreUnavailable(f"store {adapter.store.name!r} does not answer")

    catalog = plait.init(tmp_path)
    for store in ("s", "t"):
        catalog.add_store(store, "fake-dolt", {"path": str(tmp_path / store)})
        catalog.check_store(store)
    monkeypatch.setattr(FakeAdapter, "close", fail)
    monkeypatch.setattr(Database, "close", lambda database: closed.append("the database"))
    with pytest.raises(StoreUnavailable):
        catalog.close()
    assert sorted(closed) == ["s", "t", "the database"]


def test_no_store_prepares_for_a_commit_that_another_refuses_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would still be at it when the working set is open again, and write after a discard had cleaned up."""
    asked: list[str] = []
    with plait.init(tmp_path) as catalog:
        for store in ("s", "t"):
            catalog.add_store(store, "fake-dolt", {"path": str(tmp_path / store)})
        tx = catalog.begin()
        tx.create("s.a")
        tx.create("t.a")
        monkeypatch.setattr(FakeAdapter, "prepare", lambda self, *_: asked.append(self.store.name))
        (tmp_path / "t").rename(tmp_path / "away")
        with pytest.raises(StoreUnavailable, match="store 't'"):
            tx.commit()
        assert asked == []
        (tmp_path / "away").rename(tmp_path / "t")


@pytest.mark.parametrize("step", ["prepare", "merge"])
def test_a_store_that_takes_long_keeps_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Recovery reopened what was sealed for longer than a lease, so that such a commit failed however often asked."""
    clock, held_at = ManualClock(), SimpleQueue[int]()
    hold, call = Transactions.hold, getattr(FakeAdapter, step)

    def hold_and_tell(transactions: Transactions, sealed: Tx) -> None:
        began = clock.now_us()
        hold(transactions, sealed)
        held_at.put(began)

    def call_slowly(adapter: FakeAdapter, *asked: Any, **named: Any) -> Any:
        clock.advance(limits.LEASE_US + 1)
        lapsed = clock.now_us()
        while held_at.get(timeout=30) < lapsed:
            pass  # That one was under way when the time went by.
        assert catalog.recover() == []
        return call(adapter, *asked, **named)

    plait.init(tmp_path).close()
    with plait.open(tmp_path, clock=clock) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        with catalog.transaction() as first:
            first.create("s.a")
        tx = catalog.begin()
        tx.open("s.a")["x"] = "1"
        with catalog.transaction() as meanwhile:  # So that `tx` is merged.
            meanwhile.open("s.a")["y"] = "1"
        monkeypatch.setattr(limits, "LEASE_US", 30_000)
        monkeypatch.setattr(Transactions, "hold", hold_and_tell)
        monkeypatch.setattr(FakeAdapter, step, call_slowly)
        assert tx.commit() == catalog.resolve("main")


def test_one_thread_renews_the_lease_of_a_block_and_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewing: list[str] = []
    prepare = FakeAdapter.prepare

    def prepare_and_count(adapter: FakeAdapter, *asked: Any) -> Any:
        renewing.extend(one.name for one in threading.enumerate() if one.name == "plait-lease")
        return prepare(adapter, *asked)

    monkeypatch.setattr(FakeAdapter, "prepare", prepare_and_count)
    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        with catalog.transaction() as tx:
            tx.create("s.a")
    assert renewing == ["plait-lease"]


def test_a_lease_that_is_renewed_while_recovery_is_at_another_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    plait.init(tmp_path).close()
    with plait.open(tmp_path, clock=clock) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        first, second = catalog.begin(implicit=True), catalog.begin(implicit=True)
        first.create("s.a")
        clock.advance(limits.LEASE_US + 1)
        monkeypatch.setattr(FakeAdapter, "abort", lambda adapter, tx: catalog.backend.renew(second.id))
        assert catalog.recover() == [f"discarded {first.id}, whose lease had run out"]
        assert second.state is TxState.OPEN


def test_the_empty_text_names_no_working_set(tmp_path: Path) -> None:
    with plait.init(tmp_path) as catalog:
        catalog.begin()
        with pytest.raises(NotFound, match="''"):
            catalog.working_set("")


def test_verify_names_a_snapshot_that_no_commit_names(tmp_path: Path) -> None:
    """A working set, or the last move of a native head, may name it."""
    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        database.execute("INSERT INTO snapshot SELECT id, x'01', x'02', 'live', 1 FROM repository")
        database.commit()
    with plait.open(tmp_path, recover=False) as catalog:
        assert [problem.where for problem in catalog.verify()] == ["snapshot 01"]


def test_verify_names_a_store_whose_change_is_of_a_session_that_is_gone(tmp_path: Path) -> None:
    with plait.init(tmp_path) as catalog:
        catalog.as_session(Session(author="ada")).add_store("p", "pointer", mode=Mode.POINTER)
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        assert database.execute("DELETE FROM session WHERE author = 'ada'").rowcount == 1
        database.commit()
    with plait.open(tmp_path, recover=False) as catalog:
        (problem,) = catalog.verify()
        assert "session" not in catalog.events()[-1].payload
    assert (problem.where, "is of session" in problem.what) == ("log record 2", True)


def test_verify_names_a_value_of_a_wrong_type(tmp_path: Path) -> None:
    plait.init(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        database.execute("UPDATE ref_log SET before = 'text'")
        database.commit()
        database.execute("UPDATE \"commit\" SET author = 'forged'")
        database.commit()
    with plait.open(tmp_path, recover=False) as catalog:
        told = [(problem.where, problem.what) for problem in catalog.verify()]
    assert told[0] == ("database", "1 rows of table ref_log have no blob in column before; the first: seq 1")
    assert [what for where, what in told if where.startswith("commit ")] == ["its id is not that of its bytes"]
    assert [what for where, what in told if where == "log records up to 1"] == [
        "cannot be read any further: the reflog of 'main' at record 1 holds 'text', no bytes"
    ]


def test_verify_names_a_cursor_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    plait.init(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        database.execute(
            "INSERT INTO publish_cursor (repository_id, store, head, seq) SELECT repository_id, 'gone', id, 1 "
            'FROM "commit"'
        )
        database.commit()
    with plait.open(tmp_path, recover=False) as catalog:
        assert [problem.where for problem in catalog.verify()] == ["publications of gone"]


@pytest.mark.parametrize(
    ("altered", "told"),
    [
        ("publication SET published = 'text'", "publication of s, .*: column published holds 'text', no bytes"),
        ("publication SET target = 7", "publication of s, .*: column target holds '7', no bytes"),
        ("publication SET key = 's.a'", "publication of s, .*: column key holds 's.a', no bytes"),
        ("publish_cursor SET head = 'text'", "the publish cursor of s holds 'text', no bytes"),
        ("ref SET head = 'text'", "ref 'main' holds 'text', no bytes"),
    ],
)
def test_a_value_of_a_wrong_type_stops_the_recovery_and_its_row_is_named(
    tmp_path: Path, altered: str, told: str
) -> None:
    with plait.init(tmp_path) as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        with catalog.transaction(message="one") as tx:
            tx.create("s.a")
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        assert database.execute(f"UPDATE {altered}").rowcount == 1
        if altered.startswith("publication"):
            database.execute("UPDATE publication SET state = 'busy'")
        database.commit()
    with pytest.raises(Corrupt, match=told):
        plait.open(tmp_path)


@pytest.mark.parametrize(
    ("altered", "told"),
    [
        (
            "UPDATE ref SET name = CAST(x'ff' AS TEXT) WHERE name = 'main'",
            r"1 rows of table ref have no text in column name; the first: name \xff",
        ),
        (
            "UPDATE ref SET name = CAST(x'ff' AS TEXT) WHERE name = 'second'",
            r"1 rows of table ref have no text in column name; the first: name \xff",
        ),
        ("ALTER TABLE ref DROP COLUMN protected", "table ref cannot be read: no such column: ref.protected"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_and_all_others_are_verified(
    tmp_path: Path, altered: str, told: str
) -> None:
    with plait.init(tmp_path) as made:
        made.create_branch("second")
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        database.execute(altered)
        database.execute("UPDATE \"commit\" SET author = 'forged'")
        database.execute("UPDATE session SET principal = 'forged'")
        database.commit()
    with plait.open(tmp_path, recover=False) as catalog:
        problems = [(problem.where.split()[0], problem.what) for problem in catalog.verify()]
        with pytest.raises(Corrupt, match="is damaged"):
            catalog.refs()
    assert problems[0] == ("database", told)
    assert {"refs", "commit", "session"} <= {where for where, _ in problems}


def test_a_commit_that_an_index_hides_is_damage_wherever_it_is_read(tmp_path: Path) -> None:
    with plait.init(tmp_path) as made:
        made.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        hidden = made.resolve("main").id
        with made.transaction(message="later") as tx:
            tx.create("s.a")
    path = tmp_path / ".plait" / "catalog.db"
    whole, told = path.read_bytes(), []
    for found in re.finditer(re.escape(bytes.fromhex(hidden)), whole):
        path.write_bytes(whole[: found.end() - 1] + bytes([whole[found.end() - 1] ^ 1]) + whole[found.end() :])
        with plait.open(tmp_path, recover=False) as catalog:
            try:
                list(catalog.log())
            except Corrupt as error:
                told.append(error.message)
    assert f"commit {hidden} is missing" in told


def test_verify_names_an_index_that_hides_a_row(tmp_path: Path) -> None:
    plait.init(tmp_path).close()
    path = tmp_path / ".plait" / "catalog.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        ((page,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ref_log_by_ref'")
        ((size,),) = database.execute("PRAGMA page_size")
    stored = bytearray(path.read_bytes())
    stored[(page - 1) * size : page * size] = stored[(page - 1) * size : page * size].replace(b"main", b"mein")
    path.write_bytes(stored)
    with plait.open(tmp_path, recover=False) as catalog:
        problems = list(catalog.verify())
    assert problems[0].where == "database"
    assert "ref_log_by_ref" in problems[0].what


@pytest.mark.parametrize("place", ["coordinator.before_commit_point", "coordinator.after_commit_point"])
def test_a_merge_whose_answer_was_lost_can_be_asked_for(catalog: Catalog, place: str) -> None:
    catalog.create_branch("dev")
    theirs = catalog.commit(Proposal("dev", (put("a", 1),)))

    def lose(name: str) -> None:
        if name == place:
            raise OutcomeUnknown("lost")

    with pytest.raises(OutcomeUnknown) as lost, armed(lose):
        catalog.merge("dev")
    made = catalog.working_set(lost.value.details["tx"]).commit(allow_empty=True)
    assert made.parents[1] == theirs.id
    assert [commit.id for commit in catalog.log()].count(made.id) == 1
    assert lost.value.details["tx"] in lost.value.remedy


@contextmanager
def somebody() -> Iterator[None]:
    """Nobody is denied anything as the superuser."""
    is_superuser = os.geteuid() == 0
    if is_superuser:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if is_superuser:
            os.setresuid(0, 0, 0)


def test_verify_names_a_snapshot_that_cannot_be_read(tmp_path: Path) -> None:
    """Of a pointer store too, which nothing else asks about its snapshots."""
    body = pack([1, "p", "pointer", "a", 5, b"", []])
    with plait.init(tmp_path) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
    with closing(sqlite3.connect(tmp_path / ".plait" / "catalog.db")) as database:
        row = (digest(b"snapshot", body), body)
        database.execute("INSERT INTO snapshot SELECT id, ?, ?, 'live', 1 FROM repository", row)
        database.commit()
    with plait.open(tmp_path) as catalog:
        (problem,) = catalog.verify()
    assert (problem.where, problem.what[:14]) == (f"snapshot {row[0].hex()}", "cannot be read")


def test_a_closed_catalog_says_so(tmp_path: Path) -> None:
    catalog = plait.init(tmp_path)
    catalog.close()
    catalog.close()
    for call in (catalog.begin, catalog.refs, lambda: catalog.at("main"), catalog.events):
        with pytest.raises(StoreUnavailable, match="the catalog is closed"):
            call()


@pytest.mark.parametrize(
    "where",
    [None, 5, b"x", "", "a\0b", "\ud800", "x" * 300, "x/" * 3000, f"sqlite:///{'x' * 300}"],
    ids=["none", "number", "bytes", "empty", "nul", "surrogate", "long", "long-path", "long-url"],
)
def test_what_names_no_catalog_is_refused(where: str) -> None:
    for call in (plait.open, plait.init, migrate):
        with pytest.raises(InvalidArgument) as caught:
            call(where)
        assert len(str(caught.value).encode()) < 400


class TestMaking:
    @pytest.mark.parametrize("name", ["", " ", "a/b", "a\0", "\n", ".x", pytest.param("x" * 2000, id="long"), b"x"])
    def test_a_name_that_no_address_can_have_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InvalidArgument, match="name"):
            plait.init(tmp_path, repository=name)
        with pytest.raises(NotFound):
            plait.open(tmp_path)

    def test_a_folder_without_a_catalog_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="plait init"):
            plait.open(tmp_path)

    def test_a_folder_is_never_overwritten(self, tmp_path: Path) -> None:
        plait.init(tmp_path).close()
        with pytest.raises(AlreadyExists):
            plait.init(tmp_path)

    @pytest.mark.parametrize("name", ["50%", "a%20b", "a?b=c", "#1", "two\nlines", "it's ü", "file:x"])
    def test_a_folder_is_named_as_it_is(self, tmp_path: Path, name: str) -> None:
        """No part of its name is read as that of a URL, which would be another folder's catalog."""
        folder = tmp_path / name
        folder.mkdir()
        with plait.init(folder) as made:
            made.create_branch("here")
        assert (folder / ".plait" / "catalog.db").exists()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        with plait.open(folder) as opened:
            assert opened.ref("here")
        assert migrate(folder).copy is None
        with pytest.raises(AlreadyExists):
            plait.init(folder)

    def test_a_forked_process_opens_it_again(self, tmp_path: Path) -> None:
        """What it has of its parent's would wait for ever for threads that were not forked."""

        def child() -> None:
            proposal = Proposal("main", [put("a", 1)])
            for write in (lambda: catalog.create_branch("inherited"), catalog.begin, lambda: catalog.commit(proposal)):
                with pytest.raises(InvalidArgument, match="forked from"):
                    write()
            with plait.open(tmp_path) as opened:
                opened.create_branch("child")

        with plait.init(tmp_path) as catalog:
            forked = multiprocessing.get_context("fork").Process(target=child, daemon=True)
            forked.start()
            forked.join(30)
            assert forked.exitcode == 0
            catalog.create_branch("parent")
            assert {ref.name for ref in catalog.refs()} == {"main", "child", "parent"}

    @pytest.mark.parametrize("closed", [".plait", ".plait/catalog.db"])
    def test_a_catalog_that_may_not_be_read_is_told_as_that(self, closed: str) -> None:
        with TemporaryDirectory() as name:  # Not pytest's own, which is closed to everybody else altogether.
            folder = Path(name)
            folder.chmod(0o755)
            plait.init(folder).close()
            (folder / closed).chmod(0)
            try:
                with somebody(), pytest.raises(PermissionDenied, match="may not be read"):
                    plait.open(folder)
                with somebody(), pytest.raises(PermissionDenied, match="may not be read"):
                    find(start=folder)
            finally:
                (folder / closed).chmod(0o700)

    @pytest.mark.parametrize("place", ["local.repository_created", "sequencer.before_commit"])
    def test_what_died_half_made_is_made_whole(self, database_url: str, place: str) -> None:
        def fail(name: str) -> None:
            if name == place:
                raise RuntimeError(name)

        with pytest.raises(RuntimeError, match=place), armed(fail):
            plait.init(database_url)
        with plait.init(database_url) as catalog:
            assert [commit.message for commit in catalog.log()] == ["Empty repository"]
        with pytest.raises(AlreadyExists):
            plait.init(database_url)

    def test_a_database_is_never_overwritten(self, url: str) -> None:
        with pytest.raises(AlreadyExists, match="default"):
            plait.init(url)
        with plait.open(url) as catalog:
            assert [entry.key for entry in catalog.at("main").entries()] == [("p", "a")]

    def test_a_database_holds_several_repositories(self, url: str) -> None:
        with plait.init(url, repository="other") as other:
            assert list(other.at("main").entries()) == []
        with plait.open(url) as catalog:
            assert [entry.key for entry in catalog.at("main").entries()] == [("p", "a")]

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("postgresql://ada:pass:w@rd@db:5432/plait", "postgresql://ada:***@db:5432/plait"),
            ("postgresql+psycopg://ada@db/plait", "postgresql+psycopg://ada@db/plait"),
            ("postgresql://db/plait?user=a&password=secret&x=1", "postgresql://db/plait?user=a&password=***&x=1"),
            ("plait://db:7450/default", "plait://db:7450/default"),
        ],
    )
    def test_a_password_is_never_shown(self, url: str, expected: str) -> None:
        assert shown(url) == expected


def test_the_message_of_a_restore_names_some_of_many_keys(catalog: Catalog) -> None:
    names = [f"{number}-{'x' * 200}" for number in range(limits.MESSAGE_BYTES_MAX // 200)]
    catalog.commit(Proposal("main", tuple(put(name, 1) for name in names)))
    restored = catalog.restore("main~1", keys=[f"p.{name}" for name in names])
    assert restored.message.startswith(f"Restore p.{names[0]}, p.{names[1]}, ")
    assert restored.message.endswith(f"…, and {len(names) - 10} more from main~1")
    assert list(catalog.at("main").entries()) == []
    assert catalog.restore("main~1", keys=[f"p.{names[0]}"]).message == f"Restore p.{names[0]} from main~1"


@pytest.mark.parametrize("first", ["commit", "removal"])
def test_a_commit_and_the_removal_of_its_store_do_not_both_succeed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Each has made its other checks when the first of them becomes durable."""
    catalog.commit(Proposal("main", (put("a", 1),)))
    catalog.restore("main~1", keys=["p"])
    queued: list[Any] = []
    sequencer = catalog.backend._sequencer
    monkeypatch.setattr(sequencer, "do", lambda *request: queued.append(request))
    calls = [lambda: catalog.commit(Proposal("main", (put("a", 1),))), lambda: catalog.remove_store("p")]
    for call in calls if first == "commit" else reversed(calls):
        call()
    monkeypatch.undo()
    done, refused = [sequencer.submit(*request) for request in queued]
    done.result(60)
    with pytest.raises(InvalidArgument if first == "commit" else NotFound, match="store 'p'"):
        refused.result(60)
    assert [entry.key for entry in catalog.at("main").entries()] == ([("p", "a")] if first == "commit" else [])
    assert [store.name for store in catalog.stores()] == (["p"] if first == "commit" else [])
