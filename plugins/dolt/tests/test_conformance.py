"""The conformance suite on doltlite, and on a real Dolt server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.servers import DoltServer, dolt_server
from plait_conformance.suite import *  # noqa: F403
from plait_dolt.testing import LiteHarness, ServerHarness

_OWN_SERVER = ("TestSpace", "corrupted", "changed_byte")
"""What sweeps a whole store, or damages it, gets a server of its own."""


@pytest.fixture(params=["doltlite", pytest.param("server", marks=pytest.mark.doltserver)])
def make_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeHarness]:
    if request.param == "doltlite":
        yield LiteHarness
        return
    shared = cast(DoltServer, request.getfixturevalue("server"))
    if any(part in request.node.nodeid for part in _OWN_SERVER):
        folder = tmp_path / "server"
        folder.mkdir()
        with dolt_server(folder) as own:
            yield partial(ServerHarness, server=own)
    else:
        yield partial(ServerHarness, server=shared)
