"""The conformance suite on a warehouse in a folder."""

from __future__ import annotations

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403
from plait_iceberg.testing import IcebergHarness


@pytest.fixture
def make_harness() -> MakeHarness:
    return IcebergHarness
