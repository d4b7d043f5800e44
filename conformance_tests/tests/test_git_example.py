"""The git store of the examples: an adapter with heads of its own, proved by the whole suite."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

EXAMPLE = Path(__file__).parents[2] / "examples" / "git_store" / "src"


@pytest.fixture(scope="module")
def make_harness() -> MakeHarness:
    if shutil.which("git") is None and not os.environ.get("CI"):
        pytest.skip("NOT RUN: git is not installed")
    sys.path.insert(0, str(EXAMPLE))
    try:
        made: MakeHarness = importlib.import_module("git_store.testing").GitHarness
    finally:
        sys.path.remove(str(EXAMPLE))
    return made
