"""Databases for the tests of the core: a fresh one per test, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from plait.catalog import Catalog
from plait.clock import ManualClock
from plait.persist import Database, Repository, create_repository, schema
from plait.ref_point import FirstCommit
from plait.sequencer import Sequencer
from plait_conformance.catalogs import embedded_catalog, new_postgresql_database
from plait_conformance.fixtures import BACKENDS, postgresql_url
from plait_conformance.samples import POINTER_STORE, SMALL

# A shared machine may stall at any place; what costs too much is counted, not timed.
settings.register_profile("core", deadline=None, max_examples=60)
settings.load_profile("core")
pytest.register_assert_rewrite("plait_conformance.behaviour")

__all__ = ["postgresql_url"]


@pytest.fixture(scope="session")
def postgresql_database(postgresql_url: str) -> Iterator[Database]:
    """A database with the tables, for one test after the other: making one takes longer than most tests."""
    opened = Database(new_postgresql_database(postgresql_url))
    try:
        opened.create_schema()
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the tables, to be copied, for the same reason."""
    file = tmp_path_factory.mktemp("tables") / "catalog.db"
    opened = Database(f"sqlite:///{file}")
    opened.create_schema()
    opened.close()
    return file


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is new and empty."""
    if request.param == "postgresql":
        return new_postgresql_database(request.getfixturevalue("postgresql_url"))
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
    shutil.copyfile(request.getfixturevalue("sqlite_tables"), tmp_path / "catalog.db")
    opened = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def postgresql_of_catalogs(postgresql_url: str) -> str:
    """A database for many repositories: that of `postgresql_database` is emptied by each test."""
    return new_postgresql_database(postgresql_url)


@pytest.fixture(params=BACKENDS)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A new embedded catalog with the pointer store `p`."""
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_of_catalogs")
    else:
        shutil.copyfile(request.getfixturevalue("sqlite_tables"), tmp_path / "catalog.db")
    with embedded_catalog(url) as made:
        yield made


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
