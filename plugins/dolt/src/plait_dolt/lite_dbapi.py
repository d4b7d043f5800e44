"""A small DBAPI over sessions of doltlite's process: as much of `sqlite3` as SQLAlchemy's dialect for it uses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from plait.errors import StoreUnavailable

from plait_dolt.lite_process import EngineError, Process

# The error classes are the real ones, so that `except sqlite3.IntegrityError` holds where a user writes it.
ERRORS: Final = {
    name: getattr(sqlite3, name)
    for name in (
        "Error", "Warning", "InterfaceError", "DatabaseError", "OperationalError", "IntegrityError", "InternalError",
        "ProgrammingError", "NotSupportedError", "DataError",
    )
}  # fmt: skip


class Module:
    """What SQLAlchemy takes for the module `sqlite3`."""

    paramstyle = "qmark"
    threadsafety = 1
    apilevel = "2.0"
    PARSE_DECLTYPES = sqlite3.PARSE_DECLTYPES
    PARSE_COLNAMES = sqlite3.PARSE_COLNAMES
    Binary = memoryview

    def __init__(self, sqlite_version: str) -> None:
        self.sqlite_version = sqlite_version
        self.sqlite_version_info = tuple(int(part) for part in sqlite_version.split("."))
        for name, error in ERRORS.items():
            setattr(self, name, error)


class Connection:
    """One session. Transactions begin as `sqlite3` begins them; closed, it may be closed again."""

    def __init__(self, process: Process, uri: str, *, isolation: str | None, statements: Sequence[str] = ()) -> None:
        self._process = process
        self._session = process.session()
        self._cursors = count()
        self.isolation_level = isolation
        self.in_transaction = False
        self.row_factory = None
        try:
            self.ask("open", uri, isolation, list(statements))
        except BaseException:
            self.close()
            raise

    def ask(self, operation: str, *arguments: object) -> Any:
        """Raises: the errors of `sqlite3`; when the process has died, the one that makes SQLAlchemy connect again."""
        try:
            return self._process.ask(self._session, operation, *arguments)
        except EngineError as error:
            raise ERRORS.get(error.name, sqlite3.DatabaseError)(str(error)) from error
        except StoreUnavailable as error:
            raise sqlite3.ProgrammingError(f"{error.message}. Cannot operate on a closed database.") from error
        except (TypeError, OverflowError, NotImplementedError) as error:
            raise sqlite3.ProgrammingError(f"a parameter cannot be bound: {error}") from error

    def cursor(self, factory: object = None) -> Cursor:
        return Cursor(self, next(self._cursors))

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Cursor:
        cursor = self.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def commit(self) -> None:
        self.ask("commit")
        self.in_transaction = False

    def rollback(self) -> None:
        if self._process.is_alive:  # Else its end has done it.
            self.ask("rollback")
        self.in_transaction = False

    def create_function(self, name: str, count: int, function: object, **options: object) -> None:
        """Functions of this process cannot be called from the other: SQLAlchemy's `regexp` is left out."""

    def close(self) -> None:
        self._process.end(self._session)


class Cursor:
    """One statement's rows, fetched in batches."""

    arraysize = 1

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self._number = number
        self._rows: list[Any] = []
        self._next = 0
        self._more = False
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Cursor:
        return self._run(sql, parameters if isinstance(parameters, Mapping) else list(map(_plain, parameters)), False)

    def executemany(self, sql: str, parameters: Sequence[Sequence[object]]) -> Cursor:
        return self._run(sql, [list(map(_plain, one)) for one in parameters], True)

    def _run(self, sql: str, parameters: object, many: bool) -> Cursor:
        names, self.rowcount, self.lastrowid, in_transaction, self._rows, self._more = self.connection.ask(
            "execute", self._number, sql, parameters, many
        )
        self.connection.in_transaction = in_transaction
        self.description = None if names is None else [(name, *(None,) * 6) for name in names]
        self._next = 0
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        if self._next == len(self._rows):
            if not self._more:
                return None
            self._rows, self._more = self.connection.ask("fetch", self._number)
            self._next = 0
            if not self._rows:
                return None
        self._next += 1
        return tuple(self._rows[self._next - 1])

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        while len(found) < (size or self.arraysize) and (row := self.fetchone()) is not None:
            found.append(row)
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def setinputsizes(self, sizes: object) -> None: ...

    def setoutputsize(self, size: int, column: int | None = None) -> None: ...

    def close(self) -> None:
        with suppress(sqlite3.Error):  # The connection is closed, and its cursors with it.
            self.connection.ask("forget", self._number)


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
