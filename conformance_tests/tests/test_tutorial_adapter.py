"""The adapter of the tutorial, as the page has it: proved by the whole suite."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

PAGE = Path(__file__).parents[2] / "docs" / "adapter-tutorial.md"


@pytest.fixture(scope="module")
def make_harness(tmp_path_factory: pytest.TempPathFactory) -> MakeHarness:
    """The harness in the page's second block, on the adapter in its first."""
    folder = tmp_path_factory.mktemp("tutorial")
    blocks = re.findall(r'```python title="([a-z_]+\.py)"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["json_adapter.py", "json_harness.py"]
    for name, code in blocks:
        (folder / name).write_text(code)
    sys.path.insert(0, str(folder))
    try:
        made: MakeHarness = importlib.import_module("json_harness").JsonHarness
    finally:
        sys.path.remove(str(folder))
    return made
