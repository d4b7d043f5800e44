"""Fixtures that several test folders share: a conftest imports those it wants."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait_conformance.servers import POSTGRESQL_REMEDY, postgresql_folder, postgresql_server

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
"""The databases of a catalog, as the parameters of a fixture."""


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
