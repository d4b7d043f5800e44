"""Catalogs over a real server process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import plait
import pytest
from plait.catalog import Catalog
from plait.types import Mode
from plait_conformance.fixtures import postgresql_url
from plait_conformance.serving import ServerProcess, serving

pytest.register_assert_rewrite("plait_conformance.behaviour")

__all__ = ["postgresql_url"]


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests that do not hurt it. Its pointer store is `p`; tests use branches of their own."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        with plait.connect(server.url) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            catalog.add_store("fake", "fake", {"path": str(server.folder / "fake")})
        yield server


@pytest.fixture
def catalog(shared_server: ServerProcess) -> Iterator[Catalog]:
    with plait.connect(shared_server.url) as connected:
        yield connected


@pytest.fixture
def branch(catalog: Catalog) -> str:
    """A new branch at the empty first commit."""
    first = list(catalog.log("main"))[-1]
    return catalog.create_branch(f"b-{uuid.uuid4().hex[:12]}", f"@{first.id}").name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without plait's settings, and a home of its own."""
    for name in ("PLAIT_TOKEN", "PLAIT_CA_FILE", "PLAIT_CERT_FILE", "PLAIT_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
