"""Finds values of a wrong type in SQLite's file: SQLite accepts any type in any column, and a damaged page may hold
anything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plait.persist.statements import dialect_named

_SQLITE_TYPES = {
    "Text": "text",
    "LargeBinary": "blob",
    "BigInteger": "integer",
    "Integer": "integer",
    "SmallInteger": "integer",
    "Boolean": "integer",
}
"""By the schema's type: what SQLite's `typeof` says of its values."""


def wrong_values(connection: Connection, table: sa.Table) -> Iterator[str]:
    """A sentence for each column of a table that holds values of a wrong type, or text that is not UTF-8.

    The connection must have `is_utf8` registered as the SQL function `plait_is_utf8`. Cost: reads the table once.
    """
    names = [column for column in table.primary_key if column.name != "repository_id"]
    for column, count in zip(table.columns, connection.exec_driver_sql(_counting(table)).one(), strict=True):
        if count:
            kind = _SQLITE_TYPES[type(column.type).__name__]
            yield f"{count} rows of table {table.name} have no {kind} in column {column.name}" + (
                f"; the first: {_row(connection, table, names, _is_wrong(column))}" if names else ""
            )


@cache
def _counting(table: sa.Table) -> str:
    """The text that counts, for each column, the rows whose value there is wrong."""
    counts = [sa.func.count().filter(_is_wrong(column)) for column in table.columns]
    statement = sa.select(*counts).select_from(table)
    return str(statement.compile(dialect=dialect_named("sqlite"), compile_kwargs={"literal_binds": True}))


def _is_wrong(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    kind, found = _SQLITE_TYPES[type(column.type).__name__], sa.func.typeof(column)
    is_wrong: sa.ColumnElement[bool] = found.not_in([kind, *(("null",) if column.nullable else ())])
    if kind == "text":
        is_wrong |= (found == "text") & (sa.func.plait_is_utf8(_as_bytes(column)) == 0)
    return is_wrong


def is_utf8(value: object) -> bool:
    try:
        bytes.decode(value)  # type: ignore[arg-type]
    except (UnicodeDecodeError, TypeError):
        return False
    return True


def _as_bytes(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
    return sa.type_coerce(sa.cast(column, sa.LargeBinary), sa.LargeBinary)


def _row(connection: Connection, table: sa.Table, names: list[sa.Column[Any]], is_wrong: sa.ColumnElement[bool]) -> str:
    """The primary key of the first wrong row, as printable text."""
    first = sa.select(*map(_as_bytes, names)).select_from(table).where(is_wrong).limit(1)
    values = connection.execute(first).one()
    told = []
    for column, value in zip(names, values, strict=True):
        is_bytes = isinstance(column.type, sa.LargeBinary)
        told.append(f"{column.name} {value.hex() if is_bytes else value.decode(errors='backslashreplace')}")
    return ", ".join(told)
