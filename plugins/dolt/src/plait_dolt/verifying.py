"""Whether commits are whole. They share most of their tables: those are read once for many commits."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from plait.adapter import Context
from plait.errors import Corrupt, NotFound, StoreUnavailable
from plait.types import Depth, Health, SnapshotRef

from plait_dolt.engine import Engine, Refused, Session, Table
from plait_dolt.names import OWN, quote


@dataclass(frozen=True, slots=True)
class _Sound:
    """Where a table was read last, and nothing was wrong with it."""

    commit: str
    shape: Table


class Verifier:
    """Verifies commits of one store, at one depth: what one shares with another is not read again. Thread-safe, one
    commit at a time.

    Cost: the names and hashes of each commit's tables; of the first one all its rows, and of each other those of its
    tables that differ from where they were read last, if they have the same columns and a primary key; else all.
    """

    def __init__(self, engine: Engine, depth: Depth, context: Context) -> None:
        self._engine = engine
        self._depth = depth
        self._context = context
        self._kept = _Kept()
        self._whole: set[tuple[str, str, str]] = set()
        """Database, table, and the hash that it has where it can be read."""
        self._last: dict[tuple[str, str], _Sound] = {}
        self._lock = threading.Lock()

    def verify(self, snapshot: SnapshotRef) -> Health:
        """EXISTS: the commit is there, with the tables' root of the digest. METADATA: its tables can be described, and
        a tag of plait's keeps it. BYTES: every row of every table can be read."""
        with self._lock:
            return self._verify(snapshot)

    def _verify(self, snapshot: SnapshotRef) -> Health:
        problems: list[str] = []
        checked = 1
        try:
            with self._engine.session(snapshot.asset, snapshot.version) as session:
                root = str(session.value("SELECT dolt_hashof_db()"))
                if root.encode() != snapshot.digest:
                    found = f"root {root}, expected {snapshot.digest.decode(errors='replace')}"
                    return Health(1, (f"commit {snapshot.version} of database {snapshot.asset} has {found}",))
                if self._depth is Depth.EXISTS:
                    return Health(1)
                if not self._kept.has(session, snapshot.version):
                    problems.append(f"no tag of plait's keeps commit {snapshot.version} of database {snapshot.asset}")
                tables = session.tables()
                hashes: Mapping[str, str] = {}
                with suppress(Refused, Corrupt, StoreUnavailable):  # Damage may be told of already here: not by name.
                    hashes = session.table_hashes(tables)
            for name in tables:
                self._context.check_cancelled()
                named = snapshot.asset, name, hashes.get(name, "")
                if hashes and named in self._whole:
                    continue
                try:
                    checked += self._read(snapshot, name)
                    self._whole.add(named)
                except (Refused, Corrupt) as error:
                    problems.append(f"table {name} of database {snapshot.asset} cannot be read: {error.message}")
        except (NotFound, Refused, Corrupt) as error:
            problems.append(f"commit {snapshot.version} of database {snapshot.asset} cannot be read: {error.message}")
        return Health(checked, tuple(problems))

    def _read(self, snapshot: SnapshotRef, table: str) -> int:
        """How much of a table was read. Raises: Refused, Corrupt; StoreUnavailable when the engine answers nothing at
        all: over some damage it drops the connection, whenever the table is read."""
        for attempt in (1, 2):
            try:
                with self._engine.session(snapshot.asset, snapshot.version) as session:
                    shape = session.table(table)
                    if self._depth is not Depth.BYTES:
                        return 1
                    count = self._read_rows(session, shape, snapshot)
                    self._last[snapshot.asset, table] = _Sound(snapshot.version, shape)
                    return 1 + count
            except StoreUnavailable as error:
                with self._engine.session(snapshot.asset, snapshot.version):
                    if attempt == 2:
                        raise Corrupt(f"reading it ends the connection: {error.message}") from error
        raise AssertionError("unreachable")

    def _read_rows(self, session: Session, shape: Table, snapshot: SnapshotRef) -> int:
        """Both trees are walked where they differ: what they share was read there."""
        last = self._last.get((snapshot.asset, shape.name))
        if last is None or last.shape != shape or not shape.key:
            return sum(1 for _ in session.stream(f"SELECT * FROM {quote(shape.name)}"))
        columns = [f"to_{column}" for column in shape.columns]
        return sum(1 for _ in session.diff_rows(shape.name, last.commit, snapshot.version, columns))


class _Kept:
    """Which commits plait's tags keep: those that they name, and the ancestors of these.

    Remembered until the tags of a database are others, or another one is asked for: looking at each of its commits
    would else read all of them each time.
    """

    def __init__(self) -> None:
        self._last: tuple[str, frozenset[str], set[str]] = ("", frozenset(), set())

    def has(self, session: Session, commit: str) -> bool:
        tagged = frozenset(session.tags(OWN).values())
        if commit in tagged:
            return True
        database, then, kept = self._last
        if (database, then) != (session.database, tagged):
            kept = session.ancestors(tagged)
            self._last = session.database, tagged, kept
        return commit in kept
