"""The examples run as they are, as a script and as a notebook, and show what they promise."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import plait
import pytest
from nbclient import NotebookClient
from plait.cli import run

ROOT = Path(__file__).parent.parent.parent
TOUR = ROOT / "examples" / "tour"


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example makes goes away with the test; it learns nothing of the machine's settings."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("PLAIT_CATALOG", raising=False)


def test_the_tour_runs_as_a_script(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, f"{TOUR}.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tour_runs_as_a_notebook_and_draws_its_answers(tmp_path: Path) -> None:
    notebook = nbformat.read(f"{TOUR}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    text = "\n".join(drawn)
    for shown in ("more-orders", "lake.sales.orders", "An order of vanilla", "id=7", "id=1", "default · lake, raw"):
        assert shown in text
    assert len(drawn) >= 7


def test_the_notebook_is_what_the_script_says() -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "scripts/notebook.py", "--check"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_readmes_five_minutes_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "README.md").read_text().partition("## Five minutes")[2].partition("What that looks like on")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    codes = []
    in_python, block = False, list[str]()
    for line in section.splitlines():
        if line.startswith("```"):
            if in_python:
                exec(compile("\n".join(block), "README.md", "exec"), names)
            in_python, block = not in_python, []
        elif in_python:
            block.append(line)
        elif line.startswith("    plait "):
            codes.append((line.split()[1], run(shlex.split(line, comments=True)[1:])))
    assert ("merge", 5) in codes, "the merge was to conflict"
    assert [code for code in codes if code[1]] == [("merge", 5)]
    assert len(codes) >= 11
    catalog = names["catalog"]
    assert isinstance(catalog, plait.Catalog)
    catalog.close()
