"""What `open` gives is an SQLAlchemy engine like any other, on both engines."""

from __future__ import annotations

import datetime
import resource
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from plait.errors import PermissionDenied, StoreUnavailable
from plait_conformance.testing import MemoryPort, MemoryState
from plait_dolt.adapter import DoltAdapter
from plait_dolt.lite import LiteEngine, translate
from plait_dolt.lite_dbapi import Connection
from plait_dolt.lite_process import _WORKER, Process
from plait_dolt.testing import Place, rows
from sqlalchemy import orm


class Base(orm.DeclarativeBase):
    pass


class City(Base):
    __tablename__ = "city"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    founded: orm.Mapped[datetime.date | None]
    layout: orm.Mapped[bytes | None] = orm.mapped_column(sa.LargeBinary)
    share: orm.Mapped[float | None]


def opened(adapter: DoltAdapter, place: Place) -> tuple[sa.Engine, MemoryPort]:
    port = MemoryPort(adapter, str(uuid.uuid4()))
    return adapter.open(port.add(place.key, new=True), port), port


@contextmanager
def full_disk(process: Process, size_bytes: int) -> Iterator[None]:
    """No file of the process may grow beyond this in the block."""
    pid = process._process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_mapped_classes_inspection_and_many_rows_work(place: Place) -> None:
    adapter = place.adapter()
    engine, port = opened(adapter, place)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        ur = City(name="Ur", founded=datetime.date(2013, 1, 1), layout=b"\x00\xff", share=0.1)
        session.add_all([ur, *(City(name=f"city {number}") for number in range(2500))])
        session.commit()
        assert ur.id is not None
    assert sa.inspect(engine).get_table_names() == ["city"]
    assert sa.inspect(engine).get_pk_constraint("city")["constrained_columns"] == ["id"]
    with orm.Session(engine) as session:
        found = session.scalars(sa.select(City).where(City.name == "Ur")).one()
        assert (found.founded, found.layout, found.share) == (datetime.date(2013, 1, 1), b"\x00\xff", 0.1)
        assert session.scalar(sa.select(sa.func.count()).select_from(City)) == 2501
        assert len(session.scalars(sa.select(City)).all()) == 2501
    vote = adapter.prepare(port.tx, 1, port.stagings)[place.key]
    assert len([change for change in adapter.diff(None, vote) if change.aspect == "row"]) == 2501


def test_errors_are_sqlalchemys_own_and_a_rollback_takes_all_back(place: Place) -> None:
    adapter = place.adapter()
    engine, _ = opened(adapter, place)
    Base.metadata.create_all(engine)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO city (name) VALUES ('Ur')")
        connection.exec_driver_sql("INSERT INTO city (name) VALUES ('Ur')")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM city").scalar() == 0
    with pytest.raises(sa.exc.DBAPIError), engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM nosuch")


def test_a_snapshot_is_read_only(place: Place) -> None:
    adapter = place.adapter()
    engine, port = opened(adapter, place)
    Base.metadata.create_all(engine)
    vote = adapter.prepare(port.tx, 1, port.stagings)[place.key]
    assert vote is not None
    with pytest.raises(sa.exc.DBAPIError, match=r"read-?only"), adapter.open(vote, None).begin() as connection:
        connection.exec_driver_sql("INSERT INTO city (name) VALUES ('Ur')")


def test_two_working_sets_do_not_see_each_other(place: Place) -> None:
    adapter = place.adapter()
    engine, port = opened(adapter, place)
    Base.metadata.create_all(engine)
    base = adapter.prepare(port.tx, 1, port.stagings)[place.key]
    assert base is not None
    ports = [MemoryPort(adapter, str(uuid.uuid4()), {place.key: base}) for _ in range(2)]
    engines = [adapter.open(port.add(place.key), port) for port in ports]
    for number, one in enumerate(engines):
        with one.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO city (name) VALUES ('city {number}')")
    for number, one in enumerate(engines):
        with one.connect() as connection:
            names = connection.exec_driver_sql("SELECT name FROM city").scalars().all()
        assert names == [f"city {number}"]


class TestDoltlitesProcess:
    def test_killed_it_is_started_again_below_an_engine_that_is_open(self, tmp_path: Path) -> None:
        place = Place({"path": str(tmp_path)}, MemoryState(), "crm")
        adapter = place.adapter()
        engine, port = opened(adapter, place)
        Base.metadata.create_all(engine)
        assert isinstance(adapter.engine, LiteEngine)
        process = adapter.engine.process
        process._process.kill()
        process._process.wait()
        with orm.Session(engine) as session:
            session.add(City(name="Ur"))
            session.commit()
        vote = adapter.prepare(port.tx, 1, port.stagings)[place.key]
        assert vote is not None
        assert len(rows(adapter, vote, "city")) == 1
        place.close()

    def test_one_that_dies_before_it_says_a_word_may_be_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mute = tmp_path / "mute.py"
        mute.write_text("raise SystemExit(3)")
        monkeypatch.setattr("plait_dolt.lite_process._WORKER", mute)
        with pytest.raises(StoreUnavailable, match=r"code 3 · retry"):
            Process()

    def test_what_a_reader_leaves_open_is_no_error_once_the_store_is_closed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = Place({"path": str(tmp_path)}, MemoryState(), "crm")
        engine, _ = opened(place.adapter(), place)
        left = engine.connect()
        left.exec_driver_sql("SELECT 1")
        place.close()
        left.close()
        assert caplog.records == []

    def test_a_full_disk_is_said_leaves_nothing_behind_and_is_gone_on_from(self, tmp_path: Path) -> None:
        place = Place({"path": str(tmp_path)}, MemoryState(), "crm")
        adapter = place.adapter()
        engine, port = opened(adapter, place)
        Base.metadata.create_all(engine)
        assert isinstance(adapter.engine, LiteEngine)
        with full_disk(adapter.engine.process, (tmp_path / "crm.db").stat().st_size):
            with pytest.raises(StoreUnavailable, match="make room"):
                adapter.prepare(port.tx, 1, port.stagings)
        with full_disk(adapter.engine.process, 0):
            with pytest.raises(StoreUnavailable, match="make room"):
                opened(adapter, Place({}, place.state, "new"))
            assert adapter.engine.databases() == ["crm"]
        assert adapter.prepare(port.tx, 1, port.stagings)[place.key] is not None
        opened(adapter, Place({}, place.state, "new"))
        assert adapter.engine.databases() == ["crm", "new"]
        place.close()

    def test_a_folder_that_cannot_be_made_and_a_database_that_is_read_only_are_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        place = Place({"path": str(tmp_path / "file" / "databases")}, MemoryState(), "crm")
        with pytest.raises(StoreUnavailable, match="writable"):
            opened(place.adapter(), place)
        told = translate(sqlite3.OperationalError("attempt to write a readonly database"), "crm")
        assert isinstance(told, PermissionDenied)

    def test_one_that_waits_for_a_lock_holds_no_other_session_up(self, tmp_path: Path) -> None:
        process = Process()
        uri = f"file:{tmp_path}/x.db"
        first, second, third = (Connection(process, uri, isolation=None) for _ in range(3))
        first.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        first.execute("BEGIN IMMEDIATE")
        first.execute("INSERT INTO t VALUES (1)")
        waiting = threading.Thread(target=lambda: second.execute("INSERT INTO t VALUES (2)"))
        waiting.start()
        assert third.execute("SELECT 7").fetchall() == [(7,)]
        first.execute("COMMIT")
        waiting.join(60)
        assert not waiting.is_alive()
        assert third.execute("SELECT COUNT(*) FROM t").fetchone() == (2,)
        process.close()

    def test_killed_it_is_started_again_and_nothing_committed_is_lost(self, tmp_path: Path) -> None:
        process = Process()
        connection = Connection(process, f"file:{tmp_path}/x.db", isolation=None)
        connection.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1)")
        process._process.kill()
        with pytest.raises(sqlite3.ProgrammingError, match="ended"):
            connection.execute("SELECT 1")
        with pytest.raises(StoreUnavailable):
            process.ask(process.session(), "open", "file:x", None, [])
        process.close()
        again = Process()
        found = Connection(again, f"file:{tmp_path}/x.db", isolation=None).execute("SELECT id FROM t").fetchall()
        assert found == [(1,)]
        again.close()

    def test_it_leaves_the_sqlite3_of_this_process_alone(self, tmp_path: Path) -> None:
        process = Process()
        assert process.version
        with pytest.raises(sqlite3.OperationalError, match="dolt_version"):
            sqlite3.connect(":memory:").execute("SELECT dolt_version()")
        process.close()


def test_a_worker_whose_parent_dies_at_once_says_nothing() -> None:
    worker = subprocess.Popen(
        [sys.executable, str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert worker.stdout
    worker.stdout.close()
    _, told = worker.communicate(timeout=60)
    assert (worker.returncode, told) == (0, b"")
