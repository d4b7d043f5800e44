"""Copies a whole catalog database, as it is at one moment, to a place beside it with a fixed name."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plait.disk import fsync
from plait.failpoint import failpoint
from plait.persist import schema
from plait.persist.engine import Database


def copy_database(database: Database, revision: int) -> str | None:
    """Copy all tables, if they are still at this revision. Returns: where the copy is: a file beside SQLite's, or a
    schema of the same PostgreSQL database. None if somebody else has migrated meanwhile: their copy is left alone.

    Writers are kept out meanwhile. A copy that died half-way never gets its final name.
    Raises: StoreUnavailable, when there is no room, say. Repeat: replaces the copy of that revision.
    Cost: as much space as the database.
    """
    name = f"schema-{revision}"
    with database.write() as connection:
        database.lock_schema(connection)
        if connection.execute(sa.select(schema.schema_version.c.revision)).scalar() != revision:
            return None
        if database.dialect == "sqlite":
            return _copy_file(database, name)
        return _copy_tables(connection, f"plait_{name}")


def _copy_file(database: Database, name: str) -> str:
    """Copy by a second connection, since `VACUUM INTO` cannot run in the transaction that holds the lock."""
    original = Path(str(database.url.database))
    copy, unfinished = original.with_name(f"{original.name}.{name}"), original.with_name(f"{original.name}.{name}.part")
    unfinished.unlink(missing_ok=True)
    with database.unmanaged() as connection:
        connection.exec_driver_sql("VACUUM INTO ?", (str(unfinished),))
    fsync(unfinished)
    failpoint("copy.before_rename")
    unfinished.replace(copy)
    fsync(copy.parent)
    return str(copy)


def _copy_tables(connection: Connection, name: str) -> str:
    """Copy in one transaction, with `serial` locked, so that nobody changes the history meanwhile."""
    quote = connection.dialect.identifier_preparer.quote
    there = sa.inspect(connection).get_table_names()
    connection.execute(sa.text(f"LOCK TABLE {quote(schema.serial.name)} IN EXCLUSIVE MODE"))
    connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE"))
    connection.execute(sa.text(f"CREATE SCHEMA {quote(name)}"))
    for table in sorted(there):
        connection.execute(sa.text(f"CREATE TABLE {quote(name)}.{quote(table)} AS TABLE {quote(table)}"))
    return f"schema {name}"
