"""The conformance suite on tables in a folder."""

from __future__ import annotations

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403
from plait_delta.testing import DeltaHarness


@pytest.fixture
def make_harness() -> MakeHarness:
    return DeltaHarness
