"""A served catalog, on both databases, does what every catalog does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plait.catalog import Catalog
from plait_conformance.behaviour import *  # noqa: F403
from plait_conformance.catalogs import new_postgresql_database, served_catalog
from plait_conformance.fixtures import BACKENDS
from plait_conformance.serving import ServerProcess, database_url, serving


@pytest.fixture(scope="module", params=BACKENDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, str]]:
    """A server with a database for many repositories, and the database's URL."""
    folder = tmp_path_factory.mktemp("server")
    url = database_url(folder)
    if request.param == "postgresql":
        url = new_postgresql_database(request.getfixturevalue("postgresql_url"))
    with serving(folder, database=url) as running:
        yield running, url
    assert '"level": "error"' not in running.log


@pytest.fixture
def catalog(server: tuple[ServerProcess, str]) -> Iterator[Catalog]:
    with served_catalog(*server) as made:
        yield made


@pytest.fixture
def kind() -> str:
    """The kind that asks most of the core; the others are in the conformance tests."""
    return "fake-dolt"


@pytest.fixture
def headed_kind() -> str:
    return "fake-dolt"
