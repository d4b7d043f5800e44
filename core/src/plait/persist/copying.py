"""A copy of a whole catalog database, as it is at one moment: beside it, where it can be found again."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from plait.failpoint import failpoint
from plait.persist import schema
from plait.persist.engine import Database


def copy_database(database: Database, revision: int) -> str | None:
    """Copy all tables while they are at a revision; where to. A file beside that of SQLite, a schema of the same
    PostgreSQL database. None once somebody else has migrated: theirs is the copy, and is left alone.

    Nobody writes meanwhile. Repeat: the copy of that revision is made anew. A copy that died half-way has no name yet.
    Raises: StoreUnavailable, when there is no room for it among others. Cost: as much space as the database.
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
    """Read by a connection of its own, beside the one that holds the lock: no transaction may be open in it."""
    original = Path(str(database.url.database))
    copy, unfinished = original.with_name(f"{original.name}.{name}"), original.with_name(f"{original.name}.{name}.part")
    unfinished.unlink(missing_ok=True)
    with database.unmanaged() as connection:
        connection.exec_driver_sql("VACUUM INTO ?", (str(unfinished),))
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    failpoint("copy.before_rename")
    unfinished.replace(copy)
    folder = os.open(copy.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return str(copy)


def _copy_tables(connection: Connection, name: str) -> str:
    """In one transaction, during which nobody changes the history."""
    quote = connection.dialect.identifier_preparer.quote
    there = sa.inspect(connection).get_table_names()
    connection.execute(sa.text(f"LOCK TABLE {quote(schema.serial.name)} IN EXCLUSIVE MODE"))
    connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE"))
    connection.execute(sa.text(f"CREATE SCHEMA {quote(name)}"))
    for table in sorted(there):
        connection.execute(sa.text(f"CREATE TABLE {quote(name)}.{quote(table)} AS TABLE {quote(table)}"))
    return f"schema {name}"
