"""What the row modules share: a connection, a repository, and bulk statements of both dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plait.errors import Corrupt
from plait.persist import statements

E = TypeVar("E", bound=StrEnum)
Swaps = list[Callable[[], bool]]
"""One call for each compare-and-swap made in a `together` block: whether it found its expected row."""


class BaseRows:
    """Row access inside one transaction, limited to one repository."""

    def __init__(self, connection: Connection, repository_id: int) -> None:
        self._connection = connection
        self._repository_id = repository_id
        self._owner = {"repository_id": repository_id}
        self._dialect = connection.dialect.name

    def _mine(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.repository_id == self._repository_id

    def _select(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return sa.select(table).where(self._mine(table), *where)

    def _all(self, table: sa.Table, **where: object) -> Sequence[sa.Row[Any]]:
        """The rows with these values, in no order."""
        statement = statements.select_one(self._dialect, table, tuple(where), False)
        return statement.rows(self._connection, {**self._owner, **where})

    def _in(self, table: sa.Table, column: str, values: Iterable[object], **where: object) -> list[sa.Row[Any]]:
        """The rows with the values of `where` whose column holds one of `values`, in no order. Queried in groups."""
        rows: list[sa.Row[Any]] = []
        different = list(dict.fromkeys(values))
        for start in range(0, len(different), statements.WANTED_MAX):
            count, wanted = statements.wanted(self._dialect, different[start : start + statements.WANTED_MAX])
            statement = statements.select_in(self._dialect, table, tuple(where), column, count)
            rows += statement.rows(self._connection, {**self._owner, **where, **wanted})
        return rows

    def _named(self, table: sa.Table, *, lock: bool = False, **where: object) -> sa.Row[Any] | None:
        """The row with these values; `lock` holds it until the transaction ends."""
        statement = statements.select_one(self._dialect, table, tuple(where), lock)
        found = statement.rows(self._connection, {**self._owner, **where})
        return found[0] if found else None

    def _insert(self, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert whole rows: each names every column."""
        if rows:
            statements.insert(self._dialect, table).run(self._connection, self._owned(rows))

    def _upsert(self, table: sa.Table, rows: Sequence[Mapping[str, object]], update: Sequence[str] = ()) -> None:
        """Insert whole rows; where the primary key is taken, update these columns, or leave the row if none."""
        if rows:
            statements.upsert(self._dialect, table, tuple(update)).run(self._connection, self._owned(rows))

    @contextmanager
    def together(self) -> Iterator[Swaps]:
        """Make the block's writes together: on PostgreSQL they share one round trip. The answers of its
        compare-and-swaps are in the list that it gives, and can be read at the block's end."""
        swaps: Swaps = []
        if self._dialect != "postgresql":
            yield swaps
            return
        connection = self._connection
        dbapi: Any = connection.dialect.loaded_dbapi
        driver: Any = connection.connection.driver_connection
        try:
            with driver.pipeline():
                yield swaps
        except dbapi.Error as error:
            # It may be raised between two statements, where SQLAlchemy does not translate the driver's errors.
            raise sa.exc.DBAPIError.instance(
                "a pipeline", None, error, dbapi.Error, dialect=connection.dialect
            ) from error

    def _swap(
        self,
        table: sa.Table,
        where: Mapping[str, object],
        values: Mapping[str, object],
        together: Swaps | None = None,
    ) -> bool:
        """Set columns of the one row that still holds these values. Returns: whether there was such a row.

        In a `together` block that is not known yet: it returns True, and adds to the list a call that will know.
        """
        statement = statements.swap(self._dialect, table, tuple(where), tuple(values))
        new = {f"new_{name}": value for name, value in values.items()}
        return self._done(statement.change(self._connection, {**self._owner, **where, **new}), together)

    def _done(self, changed: Callable[[], int], together: Swaps | None) -> bool:
        if together is None:
            return changed() == 1
        together.append(lambda: changed() == 1)
        return True

    def _insert_absent(self, table: sa.Table, row: Mapping[str, object]) -> bool:
        """Insert one row, unless its primary key is taken (also by a concurrent writer). Returns: whether it did."""
        statement = statements.upsert_statement(self._dialect, table, ()).returning(table.c.repository_id)
        return self._connection.execute(statement, self._owned([row])).first() is not None

    def _delete(self, table: sa.Table, **where: object) -> int:
        """Delete the rows with these values. Returns: how many there were."""
        return self._deleting(table, **where)()

    def _deleting(self, table: sa.Table, **where: object) -> Callable[[], int]:
        statement = statements.delete(self._dialect, table, tuple(where))
        return statement.change(self._connection, {**self._owner, **where})

    def _owned(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
        return [{**self._owner, **row} for row in rows]


def to_json(properties: Mapping[str, str]) -> str:
    """A map of text as JSON, sorted, so that equal maps are equal text."""
    return msgspec.json.encode(dict(sorted(properties.items()))).decode()


def from_json(text: str, what: str) -> dict[str, str]:
    """Read `to_json` back. Raises: Corrupt naming what."""
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise Corrupt(f"{what} holds text that is not a JSON map: {error}") from error


def of_enum(kind: type[E], text: str, what: str) -> E:
    """The member with this text. Raises: Corrupt naming what."""
    try:
        return kind(text)
    except ValueError as error:
        raise Corrupt(f"{what} has the {kind.__name__} {text!r}, which there is not") from error


def of_bytes(value: object, what: str) -> bytes:
    """Check that a column's value is bytes: in SQLite it may be anything. Raises: Corrupt naming `what`."""
    if not isinstance(value, bytes):
        raise Corrupt(
            f"{what} holds {str(value)[:40]!r}, no bytes",
            remedy="restore a backup; 'plait verify' names all that is so",
        )
    return value


def of_bytes_or_none(value: object, what: str) -> bytes | None:
    """`of_bytes`, for a column that may be null."""
    return None if value is None else of_bytes(value, what)


def join_ids(ids: Sequence[str]) -> bytes:
    """Commit ids as bytes, one after the other."""
    return b"".join(map(bytes.fromhex, ids))


def split_ids(data: bytes) -> tuple[str, ...]:
    """The ids that `join_ids` joined. Raises: Corrupt."""
    if len(data) % 32:
        raise Corrupt(f"a list of commit ids has {len(data)} bytes, no multiple of 32")
    return tuple(data[start : start + 32].hex() for start in range(0, len(data), 32))
