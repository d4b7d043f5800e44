"""The conformance suite on volumes."""

from __future__ import annotations

import pytest
from plait_block.testing import BlockHarness
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

from .conftest import need


@pytest.fixture
def make_harness() -> MakeHarness:
    need("qemu-storage-daemon", "qemu-img", "nbdcopy")
    return BlockHarness
