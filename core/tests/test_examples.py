"""The examples run as they are, as a script and as a notebook, and show what they promise."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import plait
import pyarrow as pa
import pytest
from nbclient import NotebookClient
from plait.cli import run
from plait.errors import ProposalRejected
from plait.plugins import Plugins

ROOT = Path(__file__).parent.parent.parent
TOUR = ROOT / "examples" / "tour"


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example makes goes away with the test; it learns nothing of the machine's settings."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("PLAIT_CATALOG", raising=False)


@pytest.mark.slow
def test_the_tour_runs_as_a_script(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, f"{TOUR}.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.slow
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


def test_the_gate_of_its_page_refuses_as_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "gates.md").read_text()
    gates = ModuleType("gates")
    exec(
        compile(page.partition('```python title="gates.py"\n')[2].partition("```")[0], "gates.md", "exec"), vars(gates)
    )
    plait.init(tmp_path, example=True).close()
    with plait.open(tmp_path, plugins=Plugins([gates])) as catalog:
        schema = catalog.at("main").open("lake.sales.orders").schema().as_arrow()
        tx = catalog.begin(message="Cheap")
        tx.open("lake.sales.orders").append(pa.table([[9], ["mint"], [-1]], schema=schema))
        with pytest.raises(ProposalRejected, match="'gates' refused: 1 orders have a negative price"):
            tx.commit()
        tx.open("lake.sales.orders").upsert(pa.table([[9], ["mint"], [1]], schema=schema))
        tx.commit()


def test_a_backup_that_operations_tells_of_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catalog first, stores later: what was committed in between is adopted."""
    page = (ROOT / "docs" / "operations.md").read_text()
    copy, check = (
        shlex.split(next(line for line in page.splitlines() if line.strip().startswith(words)), comments=True)
        for words in ("python -c", "plait --catalog sqlite:///catalog.backup.db")
    )
    shop = tmp_path / "shop"
    shop.mkdir()
    monkeypatch.chdir(shop)
    with plait.init(".") as catalog:
        catalog.add_store("raw", "files", {"path": str(shop / "raw")})
        for name in ("one", "two"):
            with catalog.transaction(message=name) as tx:
                tx.open("raw.landing", create=True).pipe(name, b"1")
            if name == "one":
                subprocess.run([sys.executable, *copy[1:]], check=True)
    assert run(check[1:]) == 9  # The catalog has moved a head since the copy, and nothing else is to be told.
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (shop / ".plait" / name).unlink(missing_ok=True)
    (shop / "catalog.backup.db").rename(shop / ".plait" / "catalog.db")
    told = [run(shlex.split(words)[1:]) for words in ("plait verify --depth bytes", "plait store check")]
    assert told == [9, 9]
    assert run(["store", "adopt", "raw.landing"]) == 0
    with plait.open(".") as catalog:
        assert sorted(catalog.at("main").open("raw.landing").find("")) == ["one", "two"]
