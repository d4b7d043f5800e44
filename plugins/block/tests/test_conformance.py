"""The conformance suite on volumes, kept by each driver."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from plait_block import qcow2, rbd
from plait_block.testing import BlockHarness, RawHarness, RbdHarness
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

from .conftest import need

pytestmark = pytest.mark.drivers("qcow2", "raw", "rbd")


@pytest.fixture
def make_harness(monkeypatch: pytest.MonkeyPatch, driver: str, options: Mapping[str, str]) -> MakeHarness:
    """With key frames at every other layer, so that what happens every 32 commits happens all the time."""
    need("qemu-storage-daemon", "qemu-img", "nbdcopy")
    monkeypatch.setattr(qcow2, "CHAIN_MAX", 2)
    monkeypatch.setattr(rbd, "DEPTH_MAX", 2)
    if driver == "rbd":
        monkeypatch.setenv("PLAIT_TEST_CEPH", ":".join(options[name] for name in ("pool", "conf", "user")))
    return {"qcow2": BlockHarness, "raw": RawHarness, "rbd": RbdHarness}[driver]
