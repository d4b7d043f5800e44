"""The suite, on every kind of the strict fake store: all of it passes."""

from __future__ import annotations

import pytest
from plait_conformance.fake_harness import HARNESSES
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.__name__)
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    made: MakeHarness = request.param
    return made
