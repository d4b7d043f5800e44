"""doltlite: embedded databases, each a file in one folder, through a process of their own. For the quickstart."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import quote as quote_uri

import sqlalchemy as sa
from plait.disk import fsync
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, PlaitError, StoreUnavailable
from plait.types import Location

from plait_dolt.engine import OF_DOLT, WORKING, Engine, Refused, Row, Session, Standing, Table
from plait_dolt.lite_dbapi import Connection, Module
from plait_dolt.lite_process import Process
from plait_dolt.names import quote

OLDEST: Final = (0, 51)
_SUFFIX: Final = ".db"
_ROWS_AT_ONCE: Final = 100
_REAL: Final = "real"
_NAMED_ANEW: Final = OF_DOLT | {"our_diff_type", "their_diff_type"}


def _kind(declared: str) -> str:
    """A column's type as it was declared, or as what SQLite makes of it: real, numeric.

    Source: https://sqlite.org/datatype3.html#determination_of_column_affinity
    """
    if not declared or re.search("int|char|clob|text|blob|binary", declared):
        return declared
    return _REAL if re.search("real|floa|doub", declared) else "numeric"


def translate(error: sqlite3.Error, database: str) -> PlaitError:
    """An error of doltlite's in plait's words."""
    text = str(error)
    if "has ended" in text:
        return StoreUnavailable(text, remedy="retry: it is started again")
    if "locked" in text or "busy" in text:
        return StoreUnavailable(
            f"database {database!r} is locked: {text}", remedy="end the transaction that writes to it, then retry"
        )
    if "disk is full" in text or "disk I/O error" in text:
        return StoreUnavailable(
            f"database {database!r} cannot be written: {text}", remedy="make room on its disk, then retry"
        )
    if "readonly database" in text:
        return PermissionDenied(
            f"database {database!r} may not be written: {text}", remedy="make its folder, and its disk, writable"
        )
    if "unable to open database" in text:
        return StoreUnavailable(
            f"database {database!r} cannot be opened: {text}", remedy="check its folder's owner and mode, then retry"
        )
    if re.search(r"branch or revision .* not found", text):
        return NotFound(
            f"database {database!r}: {text}", remedy="where a commit names it, 'plait verify' says what is lost"
        )
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return Corrupt(f"database {database!r} cannot be read: {text}", remedy="restore a backup")
    return Refused(text, what=f"doltlite refused a statement in database {database!r}")


class LiteEngine(Engine):
    """A folder of database files; doltlite's process is started when it is first needed."""

    rewrites_refs = True

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._running: Process | None = None
        self._lock = Lock()
        self._clients: dict[str, sa.Engine] = {}

    @property
    def process(self) -> Process:
        with self._lock:
            running = self._running
            if running is None or not running.is_mine or not running.is_alive:
                if running is not None and running.is_mine:
                    running.close()
                running = self._running = Process()
            return running

    def _file(self, database: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", database):
            raise NotFound(f"{database!r} is no database in {self._folder}")
        return self._folder / f"{database}{_SUFFIX}"

    def _uri(self, database: str, revision: str) -> str:
        path = self._file(database)
        try:
            path.open("rb").close()  # doltlite says no more than that it cannot open it.
        except FileNotFoundError as error:
            raise NotFound(
                f"there is no database {database!r} in {self._folder}", remedy="name one that exists"
            ) from error
        except PermissionError as error:
            raise PermissionDenied(f"{path} may not be read", remedy="check its owner and mode") from error
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error.strerror}", remedy="check what it is") from error
        uri = "file:" + quote_uri(str(path) + (f"/{revision}" if revision else ""))
        # Commits cannot be written anyway, and of a damaged file doltlite would append to what can still be restored.
        return f"{uri}?mode=ro" if re.fullmatch("[0-9a-f]{40}", revision) else uri

    def connect(self, database: str, revision: str, *, isolation: str | None, for_users: bool = False) -> Connection:
        """Raises: NotFound, StoreUnavailable, Corrupt."""
        uri = self._uri(database, revision)
        statements = ["PRAGMA foreign_keys = ON"] if for_users else []
        try:
            return Connection(self.process, uri, isolation=isolation, statements=statements)
        except sqlite3.Error as error:
            if revision and "unable to open database" in str(error):  # Nor does this tell of damage.
                if not self._file(database).stat().st_size:
                    raise Corrupt(
                        f"database {database!r} cannot be read: its file is empty", remedy="restore a backup"
                    ) from error
                with self.session(database, "") as session:
                    session.tables()
            raise translate(error, database) from error

    @contextmanager
    def session(self, database: str, revision: str) -> Iterator[LiteSession]:
        session = LiteSession(self, database, revision)
        try:
            yield session
        finally:
            session.close()

    def databases(self) -> list[str]:
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))

    def database_at(self, place: str) -> str:
        place = place.removeprefix("file://")
        if not os.path.isabs(place):
            return place.removesuffix(_SUFFIX)
        path = Path(os.path.normpath(place))
        if path == self._folder:
            return ""
        if path.parent != self._folder:
            raise InvalidArgument(
                f"{path} is not in this store's folder, {self._folder}",
                remedy="databases are imported where they are: plait store add a store with that path",
            )
        return path.name.removesuffix(_SUFFIX)

    def create_database(self, name: str, branch: str) -> None:
        path = self._file(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError as error:
            raise Refused(f"{path} exists", what="the database cannot be created") from error
        except OSError as error:
            raise StoreUnavailable(
                f"database {name!r} cannot be created in {self._folder}: {error.strerror}",
                remedy="make the folder, and its disk, writable",
            ) from error
        try:
            with self.session(name, "") as session:
                if branch not in session.branches(branch):
                    session.call("dolt_branch", branch)
        except BaseException as error:
            self.drop_database(name)  # A full disk leaves an empty file: nobody's database.
            if isinstance(error, Refused):  # On some, doltlite makes an empty one and finds nothing in it.
                raise StoreUnavailable(
                    f"database {name!r} cannot be made in {self._folder}: {error.text}",
                    remedy="make room on its disk, then retry",
                ) from error
            raise
        fsync(self._folder)

    def drop_database(self, name: str) -> None:
        path = self._file(name)
        for one in (path, *self._folder.glob(f"{path.name}-*"), path.with_name(f".{path.name}-lock")):
            one.unlink(missing_ok=True)

    def check(self) -> list[str]:
        version = self.process.version
        missing = []
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
            missing.append(f"doltlite is {version}, plait needs {'.'.join(map(str, OLDEST))}: pip install -U doltlite")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            missing.append(f"folder {self._folder} cannot be made: {error.strerror}")
        else:
            if not os.access(self._folder, os.W_OK):
                missing.append(f"folder {self._folder} cannot be written")
        return missing

    def client(self, database: str, revision: str) -> sa.Engine:
        name = f"{database}/{revision}"
        with self._lock:
            known = self._clients.get(name)
        if known is None:
            known = sa.create_engine(
                "sqlite://",
                module=Module(self.process.sqlite_version),
                creator=lambda: self.connect(database, revision, isolation="", for_users=True),
                poolclass=sa.pool.QueuePool,
                pool_pre_ping=True,
            )
            with self._lock:
                known = self._clients.setdefault(name, known)
        return known

    def forget_client(self, database: str, revision: str) -> None:
        with self._lock:
            known = self._clients.pop(f"{database}/{revision}", None)
        if known is not None:
            known.dispose()

    def locate(self, database: str, revision: str) -> Location:
        uri = self._uri(database, revision)
        note = "" if "/" in revision else "   # a commit is read-only"
        snippet = (
            "# In a Python process of its own, first of all: doltlite takes the place of sqlite3,\n"
            "# and where that is loaded already it starts the whole script again.\n"
            f"import doltlite, sqlite3\nconnection = sqlite3.connect({uri!r}, uri=True){note}\n"
        )
        return Location(uri, {}, snippet)

    def collect(self, database: str) -> None:
        with self.session(database, "") as session:
            session.call("dolt_gc")

    def close(self) -> None:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
            running, self._running = self._running, None
        for client in clients:
            client.dispose()
        if running is not None and running.is_mine:
            running.close()


class LiteSession(Session):
    """A connection of its own; standing elsewhere is another connection."""

    def __init__(self, engine: LiteEngine, database: str, revision: str) -> None:
        self._engine = engine
        self.database = database
        self.revision = revision
        self._connection: Connection | None = engine.connect(database, revision, isolation=None)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def use(self, revision: str) -> None:
        self.close()
        self.revision = revision
        self._connection = self._engine.connect(self.database, revision, isolation=None)

    def _execute(self, sql: str, args: Sequence[object]) -> Any:
        assert self._connection is not None
        # Parameters are written as MySQL's drivers take them.
        text = re.sub("%%|%s", lambda found: "%" if found.group() == "%%" else "?", sql)
        try:
            return self._connection.execute(text, args)
        except sqlite3.Error as error:
            raise translate(error, self.database) from error

    def rows(self, sql: str, *args: object) -> list[Row]:
        return list(self.stream(sql, *args))

    def stream(self, sql: str, *args: object) -> Iterator[Row]:
        cursor = self._execute(sql, args)
        names = [column[0] for column in cursor.description or ()]
        # Where a column of the user's has the name of one of Dolt's own, doltlite gives it another.
        taken = [name for name in _NAMED_ANEW if name in names and f"{name}_1" in names]
        try:
            for row in cursor:
                found = dict(zip(names, row, strict=True))
                for name in taken:
                    found[name] = found[f"{name}_1"]
                yield found
        except sqlite3.Error as error:
            raise translate(error, self.database) from error
        finally:
            cursor.close()

    def call(self, procedure: str, *args: object) -> Row:
        return self.rows(f"SELECT {procedure}({', '.join(['%s'] * len(args))}) AS hash", *args)[0]

    def standing(self) -> Standing:
        """A branch that was never written has no staged or working root, and a database without tables has another
        than its head's, clean as it is: the status tells."""
        if self.rows("SELECT 1 AS one FROM dolt_status LIMIT 1"):
            return super().standing()
        commit, root = self.head()
        return Standing(commit, root, root, root)

    def has_ancestor(self, commit: str, ancestor: str) -> bool:
        return commit == ancestor or self.merge_base(commit, ancestor) == ancestor

    def tables(self) -> list[str]:
        found = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        return sorted(row["name"] for row in found if not row["name"].startswith(("sqlite_", "dolt_")))

    def table(self, name: str) -> Table:
        columns = self.rows("SELECT name, type, pk FROM pragma_table_info(%s)", name)
        types = {row["name"]: _kind(str(row["type"]).lower()) for row in columns}
        key = sorted((row["pk"], row["name"]) for row in columns if row["pk"])
        return Table(name, tuple(types), types, tuple(column for _, column in key))

    def create_statement(self, table: str) -> str:
        return str(self.value("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s", table))

    def has_triggers(self, table: str) -> bool:
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s LIMIT 1", table))

    def programs(self) -> Mapping[str, str]:
        found = self.rows("SELECT name, sql FROM sqlite_master WHERE type IN ('view', 'trigger')")
        return {row["name"]: row["sql"] for row in found}

    def diff_rows(
        self,
        table: str,
        before: str,
        after: str,
        columns: Sequence[str],
        where: str = "",
        args: Sequence[object] = (),
    ) -> Iterator[Row]:
        sql = f"SELECT * FROM {quote('dolt_diff_' + table)}(%s, %s) {f'WHERE {where}' if where else ''}"
        rows = self.stream(sql, before, after, *args)
        types = self.table(table).types
        reals = [end + name for name, kind in types.items() if kind == _REAL for end in ("from_", "to_")]
        if reals:  # Whole numbers come as they are kept, without a fraction; SQL reads them with one.
            rows = ({**row, **{name: float(row[name]) for name in reals if isinstance(row[name], int)}} for row in rows)
        # It knows the columns of where this session stands alone, on both sides.
        far, prefix = (after, "to_") if before == WORKING else (before, "from_")
        own = {prefix + name for name in types}
        lacking = [name.removeprefix(prefix) for name in columns if name.startswith(prefix) and name not in own]
        return self._completed(rows, table, far, prefix, lacking) if lacking else rows

    def _completed(
        self, rows: Iterator[Row], table: str, commit: str, prefix: str, lacking: Sequence[str]
    ) -> Iterator[Row]:
        """Rows of a diff with the columns that only this end of it has, some hundred at once."""
        with self._engine.session(self.database, commit) as there:
            key = self.table(table).key
            listed = ", ".join(map(quote, (*key, *lacking)))
            one = "(" + " AND ".join(f"{quote(name)} IS %s" for name in key) + ")"
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                keys = [tuple(row[prefix + name] for name in key) for row in some]
                where = " OR ".join([one] * len(keys))
                found = there.rows(f"SELECT {listed} FROM {quote(table)} WHERE {where}", *(v for k in keys for v in k))
                held = {tuple(row[name] for name in key): row for row in found}
                for row, named in zip(some, keys, strict=True):
                    values = held.get(named, {})
                    yield {**row, **{prefix + name: values.get(name) for name in lacking}}

    def fast_forward(self, before: str, after: str) -> bool:
        """doltlite has no `--ff-only`: the checks and the move are one write transaction.

        What is no descendant it would merge into a commit of its own, and it takes an ancestor for merged already.
        """
        self._execute("BEGIN IMMEDIATE", ())
        try:
            is_there = bool(self.value("SELECT dolt_hashof(%s)", self.revision) == before)
            moves = is_there and self.has_ancestor(after, before)
            if moves:
                self.call("dolt_merge", after)
            self._execute("COMMIT" if moves else "ROLLBACK", ())
        except BaseException:
            self.abandon()
            raise
        return moves

    def merge(self, theirs: str, message: str) -> bool:
        self._execute("BEGIN IMMEDIATE", ())
        try:
            self.call("dolt_merge", "--no-ff", "-m", message, theirs)
        except Refused:
            # What conflicts is an error here: the transaction, and the merge in it, go on.
            if self.rows("SELECT 1 AS one FROM dolt_merge_status WHERE is_merging"):
                return False
            self.abandon()
            raise
        self._execute("COMMIT", ())
        return True

    def abandon(self) -> None:
        try:
            self._execute("ROLLBACK", ())
        except Refused:
            return  # There was none.

    def commit(self, message: str, *options: str) -> bool:
        committed = super().commit(message, *options)
        if self._connection is not None and self._connection.in_transaction:
            self._execute("COMMIT", ())
        return committed

    def relax(self) -> None:
        """Foreign keys are not enforced here."""

    def copy_rows(self, table: Table, columns: Sequence[str], commit: str, where: str, args: Sequence[object]) -> None:
        listed = ", ".join(quote(column) for column in columns)
        key = ", ".join(quote(column) for column in table.key)
        updates = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in columns)
        self.rows(
            f"INSERT INTO {quote(table.name)} ({listed}) SELECT {listed} FROM {quote('dolt_at_' + table.name)}(%s) "
            f"WHERE {where} ON CONFLICT ({key}) DO UPDATE SET {updates}",
            commit,
            *args,
        )
