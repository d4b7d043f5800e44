"""The conformance suite on volumes."""

from __future__ import annotations

import pytest
from plait_block import layers
from plait_block.testing import BlockHarness
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

from .conftest import need


@pytest.fixture
def make_harness(monkeypatch: pytest.MonkeyPatch) -> MakeHarness:
    """With key frames at every other layer, so that what happens every 32 commits happens all the time."""
    need("qemu-storage-daemon", "qemu-img", "nbdcopy")
    monkeypatch.setattr(layers, "CHAIN_MAX", 2)
    return BlockHarness
