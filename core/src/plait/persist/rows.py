"""Repositories in a database, and access to the rows of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from plait.clock import Clock
from plait.errors import AlreadyExists, NotFound
from plait.persist import schema
from plait.persist.engine import Database
from plait.persist.store_rows import StoreRows


class Rows(StoreRows):
    """All rows of one repository, inside one database transaction."""


@dataclass(frozen=True, slots=True)
class Repository:
    """One history inside a database. Its rows carry its id, its hashes its uuid."""

    database: Database
    id: int
    name: str
    uuid: str
    salt: bytes

    @contextmanager
    def read(self, *, closing: bool = False) -> Iterator[Rows]:
        """`closing`: see `Database.read`."""
        with self.database.read(closing=closing) as connection:
            yield Rows(connection, self.id)

    @contextmanager
    def write(self, *, flush: bool = True) -> Iterator[Rows]:
        """Durable when the block ends, rolled back when it raises. Without `flush`: see `Database.write`."""
        with self.database.write(flush=flush) as connection:
            yield Rows(connection, self.id)


def create_repository(database: Database, name: str, clock: Clock) -> Repository:
    """Insert an empty repository with its serial row at 0. Raises: AlreadyExists."""
    uuid, salt = clock.new_id(), clock.random_bytes(16)
    with database.write() as connection:
        taken = sa.select(schema.repository.c.id).where(schema.repository.c.name == name)
        if connection.execute(taken).first() is not None:
            raise AlreadyExists(f"repository {name!r} exists already")
        values = {"name": name, "uuid": uuid, "salt": salt, "created_at_us": clock.now_us()}
        try:
            made = connection.execute(sa.insert(schema.repository).values(values)).inserted_primary_key
        except sa.exc.IntegrityError as error:  # Somebody else made it just now.
            raise AlreadyExists(f"repository {name!r} exists already") from error
        assert made is not None
        serial = {"repository_id": made[0], "seq": 0, "record_hash": bytes(32), "at_us": 0}
        connection.execute(sa.insert(schema.serial).values(serial))
    return Repository(database, made[0], name, uuid, salt)


def find_repository(database: Database, name: str) -> Repository:
    """Raises: NotFound, naming the repositories that are there."""
    with database.read() as connection:
        rows = connection.execute(sa.select(schema.repository).order_by(schema.repository.c.name)).all()
    for row in rows:
        if row.name == name:
            return Repository(database, row.id, row.name, row.uuid, row.salt)
    known = ", ".join(repr(row.name) for row in rows) or "none"
    raise NotFound(
        f"repository {name!r} does not exist; there are: {known}", remedy="name one of them, as the path of an address"
    )
