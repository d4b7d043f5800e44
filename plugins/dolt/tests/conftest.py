"""The engines that every test of the adapter runs on."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from plait_conformance.servers import DOLT_REMEDY, DoltServer, dolt_program, dolt_server
from plait_conformance.testing import MemoryState
from plait_dolt.testing import Place


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoltServer]:
    if dolt_program() is None:
        message = f"no Dolt is installed: {DOLT_REMEDY}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(f"NOT RUN: {message}")
    with dolt_server(tmp_path_factory.mktemp("dolt")) as running:
        yield running


@pytest.fixture(params=["doltlite", pytest.param("server", marks=pytest.mark.doltserver)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store of its own, with a database's name that is free there."""
    name = f"d{uuid.uuid4().hex[:10]}"
    if request.param == "server":
        options = {"url": cast(DoltServer, request.getfixturevalue("server")).url}
    else:
        options = {"path": str(tmp_path / "databases")}
    made = Place(options, MemoryState(), name)
    yield made
    made.close()
