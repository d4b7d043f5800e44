"""Databases for the tests of the core: a fresh one per test, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from plait.clock import ManualClock
from plait.commit_point import FirstCommit
from plait.persist import Database, Repository, create_repository, schema
from plait.sequencer import Sequencer
from plait_conformance.samples import POINTER_STORE, SMALL
from plait_conformance.servers import POSTGRESQL_REMEDY, postgresql_folder, postgresql_server

# A shared machine may stall at any place; what costs too much is counted, not timed.
settings.register_profile("core", deadline=None, max_examples=60)
settings.load_profile("core")

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """One PostgreSQL for all tests of this process; the URL names no database."""
    if postgresql_folder() is None:
        missing = f"PostgreSQL is not installed: {POSTGRESQL_REMEDY}"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Not below pytest's own folder: only its owner may enter that, and the server is another user.
    with tempfile.TemporaryDirectory(prefix="plait-postgresql-") as folder, postgresql_server(Path(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_database(postgresql_url: str) -> Iterator[Database]:
    """A database with the tables, for one test after the other: making one takes longer than most tests."""
    opened = Database(_new_database(postgresql_url))
    try:
        opened.create_schema()
        yield opened
    finally:
        opened.close()


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is new and empty."""
    if request.param == "postgresql":
        return _new_database(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An open database that holds the tables and no rows."""
    if request.param == "postgresql":
        shared: Database = request.getfixturevalue("postgresql_database")
        with shared.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table is not schema.schema_version:
                    connection.execute(sa.delete(table))
        yield shared
        return
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    try:
        opened.create_schema()
        yield opened
    finally:
        opened.close()


def _new_database(server: str) -> str:
    """Make a database; it goes when its server does, which is faster than to drop it."""
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(
        server.replace("postgresql:", "postgresql+psycopg:") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    finally:
        admin.dispose()
    return f"{server}/{name}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def repository(database: Database, clock: ManualClock) -> Repository:
    """An empty repository: serial 0, no commit."""
    return create_repository(database, "r", clock)


@pytest.fixture
def sequencer_of(clock: ManualClock) -> Iterator[Callable[..., Sequencer]]:
    """Makes sequencers over a repository, with more options if given; closed when the test ends."""
    made: list[Sequencer] = []

    def make(repository: Repository, **options: Any) -> Sequencer:
        made.append(Sequencer(repository, clock, shape=SMALL, **options))
        return made[-1]

    yield make
    for sequencer in made:
        sequencer.close()


@pytest.fixture
def sequencer(repository: Repository, sequencer_of: Callable[..., Sequencer]) -> Sequencer:
    """A sequencer over a repository that holds branch `main` at the empty commit, and the pointer store ``p``."""
    running = sequencer_of(repository)
    with repository.write() as rows:
        rows.put_store(POINTER_STORE)
    running.do(FirstCommit("main", "Ada <ada@example.org>"))
    return running
