"""kill -9 at every failpoint of a commit, a merge, a revert and a discard over a real Iceberg table and real files."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import plait
import pytest
from fsspec import AbstractFileSystem
from plait.catalog import Catalog
from plait.types import Depth
from plait_conformance.killing import kill_at, places, sample
from pyiceberg.table import Table

SCENARIO = Path(__file__).parent / "two_stores.py"
PER_NAME = 100 if os.environ.get("PLAIT_SOAK") else 2


def scenario() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_stores", SCENARIO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["two_stores"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog before the scenario; its stores' options name its own path, so copies go to the same place."""
    folder = tmp_path_factory.mktemp("prepared")
    scenario().prepare(str(folder / "catalog"))
    shutil.copytree(folder / "catalog", folder / "pristine")
    return folder


def renew(prepared: Path) -> Path:
    shutil.rmtree(prepared / "catalog")
    shutil.copytree(prepared / "pristine", prepared / "catalog")
    return prepared / "catalog"


def rows(catalog: Catalog, spec: str) -> dict[str, list[int]]:
    """What each store holds at a point, through their native handles."""
    point = catalog.at(spec)
    table, objects = cast(Table, point.open("one.t")), cast(AbstractFileSystem, point.open("two.t"))
    return {
        "one": sorted(table.scan().to_arrow()["id"].to_pylist()),
        "two": sorted(int(name) for name in objects.find("")),
    }


def check(catalog: Catalog, printed: str) -> None:
    """The invariants, after a recovery."""
    for branch in catalog.refs():
        for commit in catalog.log(branch.name):
            if commit.parents and catalog.backend.get(f"@{commit.id}", [("one", "t")]):
                held = rows(catalog, f"@{commit.id}")
                assert held["one"] == held["two"], f"I2: commit {commit.message!r} is torn: {held}"
    events = catalog.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "I3"
    messages = [commit.message for commit in catalog.log("main")]
    acknowledged = {"committed 1": "add 1", "merged": "add 2 by merging", "reverted": "remove 1"}
    for line, message in acknowledged.items():
        if line in printed.splitlines():
            assert messages.count(message) == 1, f"I4: {message!r} was acknowledged: {messages}"
    assert len(messages) == len(set(messages)), f"I7: twice in the history: {messages}"
    head = rows(catalog, "main")["one"]
    expected = {"remove 1": [2], "add 2 by merging": [1, 2], "add 1": [1], "create": []}
    assert head == expected[messages[0]], f"I5: {messages[0]!r} holds {head}"
    problems = list(catalog.verify(Depth.BYTES))
    assert problems == [], f"I1: {problems}"
    assert all(tx.state.value == "open" for tx in catalog.working_sets()), "nothing stays sealed or half discarded"
    assert catalog.publish() == [], "native heads follow"
    assert catalog.recover() == [], "recovery is done once"


@pytest.mark.timeout(1500)
def test_killed_anywhere_it_is_whole_or_absent(prepared: Path, tmp_path: Path) -> None:
    found = places(SCENARIO, [str(renew(prepared))], tmp_path / "record")
    names = {place.name for place in found}
    assert {
        "transaction.intended",
        "transaction.sealed",
        "iceberg.prepare.before_vote",
        "objects.prepare.before_pack",
        "objects.publish.before_move",
        "publisher.moved",
        "sequencer.rows_written",
        "persist.before_commit",
        "sequencer.after_commit",
    } <= names
    for place in sample(found, PER_NAME):
        folder = renew(prepared)
        printed = kill_at(SCENARIO, [str(folder)], place)
        with plait.open(folder) as catalog:
            try:
                check(catalog, printed)
            except AssertionError as error:
                raise AssertionError(f"killed at {place}: {error}") from error


def test_the_check_finds_a_lost_commit(prepared: Path, tmp_path: Path) -> None:
    """Sabotage: an acknowledged commit that is not there must be noticed."""
    folder = renew(prepared)
    with plait.open(folder) as catalog, pytest.raises(AssertionError, match="I4"):
        check(catalog, "committed 1\n")


def test_the_check_finds_a_torn_commit(prepared: Path) -> None:
    """Sabotage: a commit of one store alone must be noticed."""
    import pyarrow as pa

    folder = renew(prepared)
    with plait.open(folder) as catalog:
        with catalog.transaction(message="add 1") as tx:
            cast(Table, tx.open("one.t")).append(pa.table({"id": [1]}))
        with pytest.raises(AssertionError, match="I2"):
            check(catalog, "")


def test_verify_finds_a_flipped_byte_of_an_object(prepared: Path) -> None:
    """Sabotage: objects are named by their SHA-256, so any flipped byte must be noticed, and in its store."""
    folder = renew(prepared)
    scenario().run(str(folder))
    kept = next(path for path in (folder / "two" / "_plait" / "objects").rglob("*") if path.is_file())
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert damaged(folder) == {"two"}


def test_verify_finds_a_lost_block_of_a_data_file(prepared: Path) -> None:
    """Sabotage: pyiceberg writes no page checksums, so single bits may pass; what cannot be decoded must not."""
    folder = renew(prepared)
    scenario().run(str(folder))
    for data in (folder / "one").rglob("*.parquet"):
        content = data.read_bytes()
        data.write_bytes(bytes(64) + content[64:])
    assert damaged(folder) == {"one"}


def damaged(folder: Path) -> set[str]:
    """The stores that `verify` complains about, which only reading every byte can tell."""
    with plait.open(folder) as catalog:
        assert list(catalog.verify(Depth.METADATA)) == []
        return {problem.where.split(".")[0] for problem in catalog.verify(Depth.BYTES)}
