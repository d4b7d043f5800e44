"""The suite is not blind: an adapter that breaks one rule fails at that rule, and at no other."""

from __future__ import annotations

import pytest
from plait_conformance.broken import BROKEN, BrokenHarness

pytest_plugins = ["pytester"]

CONTRACT = (
    "TestHarness", "TestSnapshot", "TestDiscover", "TestLocate", "TestVerify", "TestDiff", "TestStage", "TestPrepare",
    "TestAbort", "TestRestore", "TestMerge", "TestSucceed", "TestPublish", "TestSpace",
)  # fmt: skip

MODULE = """
import pytest
from {module} import {name}
from plait_conformance.suite import *

@pytest.fixture
def make_harness():
    return {name}
"""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_adapter_fails_exactly_its_rule(broken: type[BrokenHarness], pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=MODULE.format(module=broken.__module__, name=broken.__name__))
    classes = sorted({*CONTRACT, *(test.partition("::")[0] for test in broken.fails)})
    ended = pytester.inline_run("-q", "-p", "no:cacheprovider", *(f"test_it.py::{name}" for name in classes))
    passed, _, failed = ended.listoutcomes()
    found = {report.nodeid.partition("::")[2].partition("[")[0] for report in failed}
    assert found == broken.fails
    assert len(passed) > 60


def test_each_is_broken_in_another_way() -> None:
    assert len({broken.__name__ for broken in BROKEN}) == len(BROKEN) > 20
