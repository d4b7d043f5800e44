"""The conformance suite on a warehouse in a folder, without a mirror and with one."""

from __future__ import annotations

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403
from plait_iceberg.testing import IcebergHarness, MirroredHarness

_HARNESSES = {"plain": IcebergHarness, "mirrored": MirroredHarness}


@pytest.fixture(params=list(_HARNESSES))
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    return _HARNESSES[request.param]
