"""Fixtures that several test folders share: a conftest imports those it wants."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import plait
import pytest
from plait.cli import run

from plait_conformance.servers import POSTGRESQL_REMEDY, postgresql_folder, postgresql_server

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
"""The databases of a catalog, as the parameters of a fixture."""

Ran: TypeAlias = tuple[int, Any]
"""A command's exit code, and the document that it printed."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: with a new catalog, and nothing of the machine's."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PLAIT_CATALOG", raising=False)
    plait.init(".").close()
    return folder


@pytest.fixture
def plaited(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs one command line with --json there."""

    def ran(*words: str) -> Ran:
        capfd.readouterr()
        code = run([*words, "--json"])
        printed = capfd.readouterr()
        return code, json.loads(printed.out or printed.err)

    return ran


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
