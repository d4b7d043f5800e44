"""Catalogs for tests, embedded and served, on SQLite and on PostgreSQL: each new, many in one database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import plait
import sqlalchemy as sa
from plait.catalog import Catalog
from plait.local import create
from plait.persist import Database
from plait.types import Mode

from plait_conformance.serving import ServerProcess


def new_postgresql_database(server: str, *, template: str = "template1") -> str:
    """The URL of a new database of this server; it goes when its server does, which is faster than to drop it."""
    name = f"test_{uuid.uuid4().hex}"
    with _administrating(server) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{server}/{name}"


def drop_postgresql_database(server: str, url: str) -> None:
    """Drop it, whoever is connected to it."""
    with _administrating(server) as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")


@contextmanager
def _administrating(server: str) -> Iterator[sa.Connection]:
    admin = sa.create_engine(
        server.replace("postgresql:", "postgresql+psycopg:") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    try:
        with admin.connect() as connection:
            yield connection
    finally:
        admin.dispose()


def new_repository(database_url: str) -> str:
    """Make a repository with a name of its own; the name."""
    name = f"r-{uuid.uuid4().hex[:12]}"
    database = Database(database_url)
    try:
        create(database, name)
    finally:
        database.close()
    return name


@contextmanager
def embedded_catalog(database_url: str) -> Iterator[Catalog]:
    """A new catalog in this process, with the pointer store `p`."""
    with plait.open(database_url, repository=new_repository(database_url)) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        yield catalog


@contextmanager
def served_catalog(server: ServerProcess, database_url: str) -> Iterator[Catalog]:
    """A new catalog of a running server, with the pointer store `p`."""
    repository = new_repository(database_url)
    with plait.connect(f"{server.url.rpartition('/')[0]}/{repository}") as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        yield catalog
