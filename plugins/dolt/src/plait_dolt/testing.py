"""For tests of this plugin: a store on a real engine with adapters over it, and harnesses of the conformance suite."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from plait.adapter import Adapter, Context, StagingPort, State
from plait.clock import ManualClock
from plait.stores import resolve_credential
from plait.types import Intent, Json, Key, Location, SnapshotRef, Staging, Store
from plait_conformance.harness import Edits, Harness, Rows
from plait_conformance.servers import DoltServer
from plait_conformance.testing import MemoryState

from plait_dolt.adapter import DoltAdapter
from plait_dolt.engine import Engine, Row, Session
from plait_dolt.lite_dbapi import Connection
from plait_dolt.lite_process import Process


@dataclass(slots=True)
class Place:
    """Where a test's store is; `name`: a database's name that is free there."""

    options: dict[str, str]
    state: State
    name: str
    _made: list[DoltAdapter] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return ("crm", self.name)

    def adapter(self, **options: str) -> DoltAdapter:
        """A new instance, as a restarted process has it."""
        context = Context(state=self.state, clock=ManualClock())
        made = DoltAdapter(Store("crm", "dolt", options={**self.options, **options}), context)
        self._made.append(made)
        return made

    def close(self) -> None:
        for adapter in self._made:
            adapter.close()


class Transaction:
    """The calls of one transaction over one key, as the core makes them."""

    def __init__(self, adapter: DoltAdapter, key: Key, tx: str, base: SnapshotRef | None) -> None:
        self.adapter = adapter
        self.key = key
        self.tx = tx
        self.intent = Intent(f"{tx}-1", base)
        self.staging: Staging = adapter.stage(tx, {key: self.intent})[key]

    def run(self, *statements: str) -> None:
        """SQL on the working set, in one SQL transaction."""
        with self.engine().begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def engine(self) -> sa.Engine:
        return self.adapter.engine.client(*self.staging.location.split("/", 1))

    def prepare(self, attempt: int = 1) -> SnapshotRef:
        return cast(SnapshotRef, self.adapter.prepare(self.tx, attempt, {self.key: self.staging})[self.key])


def rows(adapter: DoltAdapter, snapshot: SnapshotRef, table: str) -> list[Mapping[str, object]]:
    """A table's rows at a snapshot, read through the engine that `open` gives."""
    with adapter.open(snapshot, None).connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()]


class DoltHarness(Harness):
    """Rows are rows of one table. Subclasses say on which engine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._counts: dict[Adapter, Counted] = {}

    @property
    def options(self) -> Mapping[str, str]:
        raise NotImplementedError

    def open(self, context: Context) -> DoltAdapter:
        return DoltAdapter(Store("crm", DoltAdapter.kind, options=dict(self.options)), context)

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        port.add(key, new=True)
        with cast(sa.Engine, adapter.open(port.add(key), port)).begin() as connection:
            connection.exec_driver_sql(_TABLE)
        self.write(adapter, port, key, dict(rows))

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        with cast(sa.Engine, adapter.open(port.add(key), port)).begin() as connection:
            _edit(connection, edits)

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        own = self.open(Context(MemoryState(), credential=resolve_credential))
        try:
            name = f"n{uuid.uuid4().hex[:10]}" if snapshot is None else snapshot.asset
            if snapshot is None:
                own.engine.create_database(name, "main")
            with own.engine.client(name, "main").begin() as connection:
                if snapshot is None:
                    connection.exec_driver_sql(_TABLE)
                _edit(connection, edits)
            with own.engine.session(name, "main") as session:
                session.commit("by somebody who knows nothing of plait")
            return name
        finally:
            own.close()

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """Statements that the adapter has sent, and rows that it got for them, since this was first asked."""
        assert isinstance(adapter, DoltAdapter)
        if adapter not in self._counts:
            self._counts[adapter] = Counted(adapter.engine)
        return self._counts[adapter].asked

    def item(self, row: str) -> str:
        return f"things::id={row[1:]}"

    def value(self, row: str, text: str) -> Json:
        return {"id": int(row[1:]), "body": text}


class Counted:
    """Counts what the sessions of an engine ask from now on."""

    def __init__(self, engine: Engine) -> None:
        self.asked: Counter[str] = Counter(statements=0, rows=0)
        self._engine = engine
        self._open = engine.session
        engine.session = self.session  # type: ignore[method-assign]

    @contextmanager
    def session(self, database: str, revision: str = "") -> Iterator[Session]:
        with self._open(database, revision) as session:
            for name in ("rows", "stream"):
                setattr(session, name, self._counting(getattr(session, name)))
            yield session

    def _counting(self, ask: Callable[..., Iterable[Row]]) -> Callable[..., list[Row]]:
        def counting(*args: object) -> list[Row]:
            found = list(ask(*args))
            self.asked.update(statements=1, rows=len(found))
            return found

        return counting


_TABLE = "CREATE TABLE things (id INT PRIMARY KEY, body VARCHAR(255))"


def _edit(connection: sa.Connection, edits: Edits) -> None:
    for row, text in edits.items():
        connection.execute(sa.text("DELETE FROM things WHERE id = :id"), {"id": int(row[1:])})
        if text is not None:
            connection.execute(sa.text("INSERT INTO things VALUES (:id, :text)"), {"id": int(row[1:]), "text": text})


@cache
def _client() -> Process:
    """doltlite, to read with: it takes a tenth of a second to start. It ends with this process."""
    return Process()


class LiteHarness(DoltHarness):
    """doltlite, in the harness's folder."""

    keeps_all_in_folder = True

    @property
    def options(self) -> Mapping[str, str]:
        return {"path": str(self.folder / "databases")}

    def read(self, location: Location) -> Rows:
        with closing(Connection(_client(), location.uri, isolation=None)) as connection:
            return {f"r{id}": body for id, body in connection.execute("SELECT id, body FROM things")}

    def corrupt(self, snapshot: SnapshotRef) -> None:
        path = self.folder / "databases" / f"{snapshot.asset}.db"
        found = self.open(Context(MemoryState()))
        text = max((str(row["body"]) for row in rows(found, snapshot, "things")), key=len)
        found.close()
        flip(path, text.encode())


class ServerHarness(DoltHarness):
    """A running Dolt server; each harness has names of its own in it."""

    def __init__(self, folder: Path, server: DoltServer) -> None:
        super().__init__(folder)
        self._server = server
        self._unique = f"h{uuid.uuid4().hex[:8]}"

    @property
    def options(self) -> Mapping[str, str]:
        return {"url": self._server.url}

    def name(self, asset: str) -> tuple[str, ...]:
        return (f"{self._unique}_{asset}",)

    def read(self, location: Location) -> Rows:
        engine = sa.create_engine(location.uri.replace("mysql://", f"mysql+pymysql://{location.options['user']}@"))
        try:
            with engine.connect() as connection:
                return {f"r{id}": body for id, body in connection.exec_driver_sql("SELECT id, body FROM things")}
        finally:
            engine.dispose()

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """In a table file: what is still in the journal is checked when the server starts, and it does not start."""
        found = self.open(Context(MemoryState()))
        texts = sorted((str(row["body"]).encode() for row in rows(found, snapshot, "things")), key=len)
        found.engine.collect(snapshot.asset)
        found.close()
        self._server.kill()
        folder = self._server.databases / snapshot.asset / ".dolt" / "noms"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest"]
        # The compression leaves some of the texts as they are.
        held = [(path, text) for text in reversed(texts) for path in files if text in path.read_bytes()]
        assert held, f"no file in {folder} holds one of {texts} as it is"
        flip(*held[0])
        self._server.start()


def flip(path: Path, text: bytes) -> None:
    """Change one byte of every place where a file holds a text."""
    data = bytearray(path.read_bytes())
    assert text in data, f"{path} does not hold {text!r} as it is"
    place = -1
    while (place := data.find(text, place + 1)) >= 0:
        data[place] ^= 1
    path.write_bytes(data)
