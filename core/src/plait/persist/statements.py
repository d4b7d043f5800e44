"""SQL statements, compiled once from the schema to each dialect's text.

Every commit runs the same dozen statements. Building one in SQLAlchemy and looking up its compiled form costs several
times what running it does, and so do SQLAlchemy's result objects. So SQLAlchemy writes the text once, and the driver
runs it directly.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from plait.persist import schema

_WANTED_COUNTS = (1, 8, 64, 512)
"""Lengths of SQLite's IN lists. Lists are padded by repetition, so that there are few texts and all stay prepared."""
WANTED_MAX = _WANTED_COUNTS[-1]
_ARRAYS_FROM = 4
"""How many rows at once PostgreSQL takes faster as arrays, one for each column, than one by one."""
_ARRAY = re.compile(r"%\((\w+)\)s(::\w+\[\])")
"""An array in a text for psycopg. `%()b` sends it as bytes; as text, Python would quote it, one value at a time."""


@cache
def dialect_named(name: str) -> Dialect:
    """The dialect, imported when it is used: importing PostgreSQL's takes a tenth of the time `plait log` may take."""
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite import pysqlite

        return pysqlite.dialect()
    from sqlalchemy.dialects.postgresql import psycopg

    return psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped.


class Prepared:
    """One statement's text. Parameters come as mappings by name."""

    def __init__(self, statement: sa.sql.expression.Executable, dialect: str) -> None:
        assert isinstance(statement, sa.ClauseElement)
        compiled: Any = statement.compile(dialect=dialect_named(dialect))
        self._text = _ARRAY.sub(r"%(\1)b\2", str(compiled))
        self._in_order = _getter(compiled.positiontup) if compiled.positional else None
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def rows(self, connection: Connection, parameters: Mapping[str, object]) -> list[Any]:
        """Run it. Returns: the rows that it finds, with their columns by name."""
        with self._raising_sqlalchemys(connection):  # In SQLite, `fetchall` may fail too: it reads all later rows.
            cursor = self._ask(connection, "execute", self._ordered(parameters))
            found = cursor.fetchall()  # In a pipeline, the result and its description arrive only now.
        if self._row is None:
            self._row = _row_type(tuple(column[0] for column in cursor.description))
        return [self._row(row) for row in found]

    def change(self, connection: Connection, parameters: Mapping[str, object]) -> Callable[[], int]:
        """Run it. Returns: a call that says how many rows it changed; in a pipeline, only after that has ended."""
        with self._raising_sqlalchemys(connection):
            cursor = self._ask(connection, "execute", self._ordered(parameters))
        return lambda: int(cursor.rowcount)

    def run_many(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> None:
        """Run it once for each row, in one call of the driver."""
        with self._raising_sqlalchemys(connection):
            self._ask(connection, "executemany", [self._ordered(row) for row in rows])

    def _ordered(self, parameters: Mapping[str, object]) -> Any:
        return self._in_order(parameters) if self._in_order else dict(parameters)

    def _ask(self, connection: Connection, how: str, parameters: Any) -> Any:
        """Run the text by the driver's own cursor, bypassing SQLAlchemy."""
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()
        getattr(cursor, how)(self._text, parameters)
        return cursor

    @contextmanager
    def _raising_sqlalchemys(self, connection: Connection) -> Iterator[None]:
        """Raise the driver's errors as the errors that SQLAlchemy would have raised."""
        try:
            yield
        except Exception as error:
            dbapi: Any = connection.dialect.loaded_dbapi
            raise sa.exc.DBAPIError.instance(
                self._text, None, error, dbapi.Error, dialect=connection.dialect
            ) from error


class Bulk:
    """An insert of any number of rows. Each names every column of the table, and no two have one primary key."""

    def __init__(self, statement: sa.Insert, dialect: str) -> None:
        self._of_one = Prepared(statement, dialect)
        self._of_arrays = Prepared(_from_arrays(statement), dialect) if dialect == "postgresql" else None

    def run(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """One call of the driver."""
        if self._of_arrays is None or len(rows) < _ARRAYS_FROM:
            self._of_one.run_many(connection, rows)
        else:
            self._of_arrays.change(connection, {name: [row[name] for row in rows] for name in rows[0]})


def _from_arrays(statement: sa.Insert) -> sa.Insert:
    columns = statement.table.columns
    names = [column.name for column in columns]
    arrays = sa.func.unnest(*(sa.bindparam(column.name, type_=sa.ARRAY(column.type)) for column in columns))
    return statement.from_select(names, sa.select(arrays.table_valued(*names).render_derived(name="rows")))


@cache
def _row_type(names: tuple[str, ...]) -> Callable[[Iterable[Any]], Any]:
    made: Any = namedtuple("Row", names)  # type: ignore[misc]  # The names are known when the first result is.
    return made._make


def _getter(names: Sequence[str]) -> Any:
    return itemgetter(*names) if len(names) > 1 else lambda parameters: (parameters[names[0]],)


@cache
def select_in(dialect: str, table: sa.Table, columns: tuple[str, ...], column: str, count: int) -> Prepared:
    """Select the owner's rows with given values of `columns` whose `column` holds one of a list; see `wanted`."""
    kind = table.c[column].type
    rows = sa.select(table).where(_owner(table), *(table.c[name] == sa.bindparam(name) for name in columns))
    if dialect == "sqlite":
        values = [sa.bindparam(f"wanted_{place}", type_=kind) for place in range(count)]
        return Prepared(rows.where(table.c[column].in_(values)), dialect)
    # One index look-up for each value. For an IN, PostgreSQL may filter all of the owner's rows instead; the OFFSET
    # keeps it from turning this into such a filter.
    values_wanted = sa.bindparam("wanted", type_=sa.ARRAY(kind))
    each = sa.func.unnest(values_wanted).table_valued("value").render_derived(name="wanted")
    found = rows.where(table.c[column] == each.c.value).offset(sa.literal_column("0")).lateral("found")
    return Prepared(sa.select(found).select_from(each.join(found, sa.true())), dialect)


def wanted(dialect: str, values: Sequence[object]) -> tuple[int, dict[str, object]]:
    """The count and the parameters of `select_in` for these distinct values. SQLite's list is padded with the last."""
    if dialect != "sqlite":
        return 0, {"wanted": list(values)}
    count = next(count for count in _WANTED_COUNTS if count >= len(values))
    padded = [*values, *[values[-1]] * (count - len(values))]
    return count, {f"wanted_{place}": value for place, value in enumerate(padded)}


@cache
def select_one(dialect: str, table: sa.Table, columns: tuple[str, ...], lock: bool) -> Prepared:
    """Select the owner's rows with these values; `lock` locks them until the transaction ends."""
    statement = sa.select(table).where(_owner(table), *(table.c[name] == sa.bindparam(name) for name in columns))
    return Prepared(statement.with_for_update() if lock else statement, dialect)


@cache
def select_undone(dialect: str) -> Prepared:
    """The owner's publications that are not done."""
    return Prepared(sa.select(schema.publication).where(_owner(schema.publication), schema.UNDONE), dialect)


@cache
def select_live(dialect: str) -> Prepared:
    """The owner's transactions that have not ended."""
    return Prepared(sa.select(schema.tx).where(_owner(schema.tx), schema.LIVE), dialect)


@cache
def delete(dialect: str, table: sa.Table, columns: tuple[str, ...]) -> Prepared:
    """The owner's rows with these values."""
    return Prepared(
        sa.delete(table).where(_owner(table), *(table.c[name] == sa.bindparam(name) for name in columns)), dialect
    )


@cache
def insert(dialect: str, table: sa.Table) -> Bulk:
    return Bulk(sa.insert(table), dialect)


@cache
def upsert(dialect: str, table: sa.Table, update: tuple[str, ...]) -> Bulk:
    return Bulk(upsert_statement(dialect, table, update), dialect)


@cache
def upsert_statement(dialect: str, table: sa.Table, update: tuple[str, ...]) -> sa.Insert:
    """Insert; where the primary key is taken, update these columns, or leave the row when there are none."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_into
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_into  # type: ignore[assignment]
    statement = insert_into(table)
    keys = [column.name for column in table.primary_key]
    if not update:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in update}
    )


@cache
def swap(dialect: str, table: sa.Table, where: tuple[str, ...], values: tuple[str, ...]) -> Prepared:
    """Set columns (`new_…`) of the owner's row that still holds these values."""
    statement = sa.update(table).where(_owner(table), *(table.c[name] == sa.bindparam(name) for name in where))
    return Prepared(statement.values({name: sa.bindparam(f"new_{name}") for name in values}), dialect)


def _owner(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.repository_id == sa.bindparam("repository_id")
