"""The command line in this process, over real catalogs with real adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plait
import pyarrow as pa
import pytest
from plait.cli import run

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("item", pa.string()), ("price", pa.int64())])


@dataclass(frozen=True)
class Ran:
    """One run: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The one JSON document on stderr."""
        return json.loads(self.err)


Plait = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory and a home of the test's own, and none of the machine's settings."""
    for name in (
        "PLAIT_CATALOG",
        "NO_COLOR",
        "FORCE_COLOR",
        "XDG_CONFIG_HOME",
        "PLAIT_AUTHOR",
        "PLAIT_CLIENT",
        "PLAIT_PROPERTIES",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


@pytest.fixture
def run_plait(capfd: pytest.CaptureFixture[str]) -> Plait:
    """Run one command line, as the process would."""

    def ran(*words: str) -> Ran:
        capfd.readouterr()
        code = run(words)
        printed = capfd.readouterr()
        return Ran(code, printed.out, printed.err)

    return ran


@pytest.fixture(scope="session")
def _made_example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the example catalog lives, for its stores name whole paths, and a copy of it as it was made."""
    folder = tmp_path_factory.mktemp("shop") / "here"
    plait.init(folder, example=True).close()
    return folder, _copied(folder, folder.with_name("pristine"))


@pytest.fixture
def example(_made_example: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example catalog, as it was made, and the test in it: a table and objects, `main` and `more-orders` apart."""
    folder, pristine = _made_example
    monkeypatch.chdir(_copied(pristine, folder))
    return folder


@pytest.fixture(scope="session")
def _made_conflict(_made_example: tuple[Path, Path]) -> Path:
    """A copy of the example, with row id=1 changed otherwise on `main` than on `more-orders`."""
    folder, pristine = _made_example
    with plait.open(_copied(pristine, folder)) as catalog:
        for branch, price in (("main", 5), ("more-orders", 6)):
            with catalog.transaction(branch, message=f"Tea is {price}") as tx:
                table: Any = tx.open("lake.sales.orders")
                table.overwrite(pa.table([[1], ["tea"], [price]], schema=SCHEMA), "id = 1")
    return _copied(folder, folder.with_name("conflict"))


@pytest.fixture
def conflicting(_made_example: tuple[Path, Path], _made_conflict: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, with row id=1 changed otherwise on `main` than on `more-orders`, and the test in it."""
    folder, _ = _made_example
    monkeypatch.chdir(_copied(_made_conflict, folder))
    return folder


def _copied(source: Path, target: Path) -> Path:
    """The target, which is a copy of the source now, whatever it was."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@pytest.fixture(scope="session")
def _read_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    plait.init(folder, example=True).close()
    return folder


@pytest.fixture
def unchanging(_read_only: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, shared by tests that only read it."""
    monkeypatch.chdir(_read_only)
    return _read_only
