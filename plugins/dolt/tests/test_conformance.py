"""The conformance suite on doltlite, and on a real Dolt server."""

from __future__ import annotations

from functools import partial
from typing import cast

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.servers import DoltServer
from plait_conformance.suite import *  # noqa: F403
from plait_dolt.testing import LiteHarness, ServerHarness


@pytest.fixture(params=["doltlite", pytest.param("server", marks=pytest.mark.doltserver)])
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    if request.param == "doltlite":
        return LiteHarness
    return partial(ServerHarness, server=cast(DoltServer, request.getfixturevalue("server")))
