"""The adapter of the tutorial, as the page has it: proved by the whole suite."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403

PAGE = Path(__file__).parents[2] / "docs" / "adapter-tutorial.md"


def write_blocks(folder: Path) -> None:
    blocks = re.findall(r'```python title="([a-z_]+\.py)"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["json_adapter.py", "json_harness.py"]
    for name, code in blocks:
        (folder / name).write_text(code)


def test_the_command_of_the_page_works_beside_the_two_files(tmp_path: Path) -> None:
    write_blocks(tmp_path)
    (command,) = re.findall(r"^    python (-m pytest .*)$", PAGE.read_text(), re.MULTILINE)
    words = [sys.executable, *command.split(), "-k", "test_an_equal_head_gives_an_equal_answer"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, " passed" in ran.stdout) == (0, True), ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def make_harness(tmp_path_factory: pytest.TempPathFactory) -> MakeHarness:
    """The harness in the page's second block, on the adapter in its first."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_blocks(folder)
    sys.path.insert(0, str(folder))
    try:
        made: MakeHarness = importlib.import_module("json_harness").JsonHarness
    finally:
        sys.path.remove(str(folder))
    return made
