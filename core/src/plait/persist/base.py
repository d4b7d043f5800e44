"""What the row modules share: a connection, a repository, and bulk statements of both dialects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from plait.errors import Corrupt

_IN_MAX = 500
"""Values in one IN list: far below SQLite's and PostgreSQL's limits on parameters."""


class BaseRows:
    """Row access inside one transaction, limited to one repository."""

    def __init__(self, connection: Connection, repository_id: int) -> None:
        self._connection = connection
        self._repository_id = repository_id

    def _mine(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.repository_id == self._repository_id

    def _select(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return sa.select(table).where(self._mine(table), *where)

    def _one(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
        return self._connection.execute(self._select(table, *where)).first()

    def _all(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> Sequence[sa.Row[Any]]:
        return self._connection.execute(self._select(table, *where)).all()

    def _in(self, table: sa.Table, column: str, values: Sequence[object]) -> list[sa.Row[Any]]:
        """The rows whose column holds one of the values, in groups, in no order."""
        rows: list[sa.Row[Any]] = []
        for start in range(0, len(values), _IN_MAX):
            bound = {"owner": self._repository_id, "wanted": values[start : start + _IN_MAX]}
            rows += self._connection.execute(_select_in(table, column), bound).all()
        return rows

    def _insert(self, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
        if rows:
            self._connection.execute(sa.insert(table), self._owned(rows))

    def _upsert(self, table: sa.Table, rows: Sequence[Mapping[str, object]], update: Sequence[str] = ()) -> None:
        """Insert; where the primary key is taken, update these columns, or leave the row when there are none."""
        if not rows:
            return
        statement = _upsert(table, self._connection.dialect.name, tuple(update))
        self._connection.execute(statement, self._owned(rows))

    def _insert_absent(self, table: sa.Table, row: Mapping[str, object]) -> bool:
        """Insert one row unless its primary key is taken, by whoever else writes just now too; say which."""
        statement = _upsert(table, self._connection.dialect.name, ()).returning(table.c.repository_id)
        return self._connection.execute(statement, self._owned([row])).first() is not None

    def _update(self, table: sa.Table, values: Mapping[str, object], *where: sa.ColumnElement[bool]) -> int:
        """How many rows were changed: a conditional update's answer, which every caller checks."""
        return self._connection.execute(sa.update(table).where(self._mine(table), *where).values(**values)).rowcount

    def _delete(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return self._connection.execute(sa.delete(table).where(self._mine(table), *where)).rowcount

    def _owned(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
        return [{"repository_id": self._repository_id, **row} for row in rows]


@cache
def _select_in(table: sa.Table, column: str) -> sa.Select[Any]:
    """Made once: building a statement costs more than running it."""
    wanted: sa.BindParameter[Any] = sa.bindparam("wanted", expanding=True)
    return sa.select(table).where(table.c.repository_id == sa.bindparam("owner"), table.c[column].in_(wanted))


@cache
def _upsert(table: sa.Table, dialect: str, update: tuple[str, ...]) -> sa.Insert:
    statement = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key]
    if not update:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in update}
    )


def to_json(properties: Mapping[str, str]) -> str:
    """A map of text as JSON, sorted, so that equal maps are equal text."""
    return msgspec.json.encode(dict(sorted(properties.items()))).decode()


def from_json(text: str, what: str) -> dict[str, str]:
    """Read `to_json` back. Raises: Corrupt naming what."""
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise Corrupt(f"{what} holds text that is not a JSON map: {error}") from error


def join_ids(ids: Sequence[str]) -> bytes:
    """Commit ids as bytes, one after the other."""
    return b"".join(map(bytes.fromhex, ids))


def split_ids(data: bytes) -> tuple[str, ...]:
    """The ids that `join_ids` joined. Raises: Corrupt."""
    if len(data) % 32:
        raise Corrupt(f"a list of commit ids has {len(data)} bytes, no multiple of 32")
    return tuple(data[start : start + 32].hex() for start in range(0, len(data), 32))
