"""`plait import KIND`: what people have comes in place, as one commit, and stays what it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import deltalake
import plait
import pyarrow as pa
import pytest
from plait.adapter import Context
from plait.cli.importing import asset_row
from plait.graph import LogFilter
from plait.importing import Imported
from plait.stores import NoState
from plait.types import Store
from plait_dolt import DoltAdapter

from .conftest import Plait


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below, when it was written, and what it holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }


def delta_tables(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        deltalake.write_deltalake(folder / name, pa.table({"id": [number]}))


@pytest.fixture
def tables(here: Path, run_plait: Plait) -> Path:
    """A catalog here with a Delta store, and a folder of tables beside it."""
    folder = here / "tables"
    delta_tables(folder, "orders", "eu/orders", "eu/lines")
    assert run_plait("init").code == 0
    assert run_plait("store", "add", "meteo", "--kind", "delta", "--option", f"path={here / 'store'}").code == 0
    return folder


def test_a_folder_of_tables_comes_as_one_commit_and_stays_as_it_was(tables: Path, run_plait: Plait) -> None:
    before = state_of(tables)
    dry = run_plait("import", "delta", "--from", "./tables", "--dry-run", "--json")
    assert [(row["key"], row["take"]) for row in dry.value] == [
        ("meteo.eu.lines", True),
        ("meteo.eu.orders", True),
        ("meteo.orders", True),
    ]
    assert [row["location"] for row in dry.value] == [
        str(tables / name) for name in ("eu/lines", "eu/orders", "orders")
    ]
    table = run_plait("import", "delta", "--from", "./tables", "--dry-run").out.splitlines()
    assert [line.split()[:3] for line in table] == [
        ["key", "take", "location"],
        *([row["key"], "true", row["location"]] for row in dry.value),
    ]
    assert run_plait("log", "--json").out.count("Import") == 0
    assert run_plait("import", "delta", "--from", "./tables", "-m", "What we had").code == 0
    with plait.open(".") as catalog:
        assert [one.message for one in catalog.log()] == ["What we had", "Empty repository"]
        assert catalog.at("main").open("meteo.eu.lines").to_pyarrow_table()["id"].to_pylist() == [2]
    assert state_of(tables) == before
    assert "nothing is new" in run_plait("import", "delta", "--from", "./tables").out
    deltalake.write_deltalake(tables / "orders", pa.table({"id": [7]}), mode="append")
    assert sorted(deltalake.DeltaTable(tables / "orders").to_pyarrow_table()["id"].to_pylist()) == [0, 7]


def test_what_is_there_already_is_not_told_as_left_out(tables: Path, run_plait: Plait) -> None:
    assert "2 came" in run_plait("import", "delta", "--from", "./tables", "--match", "eu.*").out
    told = run_plait("import", "delta", "--from", "./tables")
    assert told.out.splitlines()[-1] == "1 came, 2 there already"
    assert told.err == ""


def test_a_glob_and_a_prefix_say_what_comes_and_under_which_names(tables: Path, run_plait: Plait) -> None:
    assert run_plait("import", "delta", "--from", "./tables", "--match", "eu.*", "--prefix", "old").code == 0
    assert [row["key"] for row in run_plait("ls", "--json").value] == ["meteo.old.eu.lines", "meteo.old.eu.orders"]
    none = run_plait("import", "delta", "--from", "./tables", "--match", "us.*", "--json")
    assert (none.code, none.error["code"]) == (3, "NOT_FOUND")
    assert run_plait("import", "delta", "--from", "./nowhere").code == 3
    (tables.parent / "parquet").mkdir()
    shutil.copy(next(tables.rglob("*.parquet")), tables.parent / "parquet")
    parquet = run_plait("import", "delta", "--from", "./parquet", "--json")
    assert (parquet.code, parquet.error["message"].split()[:3]) == (3, ["./parquet", "holds", "nothing"])


def test_what_cannot_come_is_told_and_keeps_nothing_back(tables: Path, run_plait: Plait) -> None:
    log = tables / "orders" / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace('"minWriterVersion":2', '"minWriterVersion":7,"writerFeatures":["unheard"]'))
    (row,) = run_plait("import", "delta", "--from", "./tables", "--match", "orders", "--dry-run", "--json").value
    assert not row["take"]
    assert "'unheard'" in row["why not"]
    taken = run_plait("import", "delta", "--from", "./tables")
    assert taken.code == 0
    assert "meteo.orders stays out" in taken.err
    assert [one["key"] for one in run_plait("ls", "--json").value] == ["meteo.eu.lines", "meteo.eu.orders"]


def test_a_table_that_is_there_under_another_key_is_not_taken_twice(tables: Path, run_plait: Plait) -> None:
    assert run_plait("import", "delta", "--from", "./tables", "--prefix", "old").code == 0
    again = run_plait("import", "delta", "--from", "./tables", "--json")
    assert (again.code, again.value["commit"]) == (0, None)
    assert {row["key"]: row["why not"] for row in again.value["assets"]} == {
        "meteo.eu.lines": "it is in the history as meteo.old.eu.lines",
        "meteo.eu.orders": "it is in the history as meteo.old.eu.orders",
        "meteo.orders": "it is in the history as meteo.old.orders",
    }


def test_what_fails_only_when_it_is_taken_keeps_nothing_back(
    here: Path, run_plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link among objects is found when they are read, not when their folder is."""
    for name in ("a", "b"):
        (here / "objects" / name).mkdir(parents=True)
        (here / "objects" / name / "one.txt").write_text(name)
    run_plait("init")
    run_plait("store", "add", "raw", "--kind", "files", "--option", f"path={here / 'store'}")
    with plait.open(".") as catalog:
        found = list(catalog.discover("raw", str(here / "objects" / "*")))
        (here / "objects" / "a" / "link").symlink_to("one.txt")
        report = catalog.import_found("raw", found)
        assert ["link" in one.refusal for one in report.assets] == [True, False]
        assert [entry.key for entry in catalog.at("main").entries()] == [("raw", "b")]
        report = catalog.import_found("raw", found)
        assert [(one.is_there, report.commit) for one in report.assets] == [(False, None), (True, None)]
        assert list(catalog.working_sets()) == []
    alone = run_plait("import", "files", "--from", "./objects/a", "--json")
    assert (alone.code, alone.error["code"]) == (2, "INVALID_ARGUMENT")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["import.staged@3", "import.before_commit@2", "import.before_merge", "import.merged"])
def test_databases_come_with_their_history_as_one_merge_whenever_it_is_killed(
    place: str, here: Path, run_plait: Plait
) -> None:
    folder = here / "databases"
    adapter = DoltAdapter(Store("crm", "dolt", options={"path": str(folder)}), Context(NoState()))
    for name in ("city", "people"):
        adapter.engine.create_database(name, "main")
        with adapter.engine.session(name, "main") as session:
            session.rows("CREATE TABLE t (id INT PRIMARY KEY)")
            session.commit(f"{name}: a table")
            session.rows("INSERT INTO t VALUES (1)")
            session.commit(f"{name}: a row")
    run_plait("init")
    run_plait("store", "add", "crm", "--kind", "dolt", "--option", f"path={folder}")
    dry = run_plait("import", "dolt", "--dry-run", "--json").value
    assert [row["location"] for row in dry] == ["city", "people"]
    assert [(row["key"], row["take"], row["versions"] >= 2) for row in dry] == [
        ("crm.city", True, True),
        ("crm.people", True, True),
    ]
    assert killed(place, "import", "dolt") == -signal.SIGKILL
    assert run_plait("import", "dolt", "--json").code == 0
    assert [row["key"] for row in run_plait("ls", "--json").value] == ["crm.city", "crm.people"]
    with plait.open(".") as catalog:
        first_parents = [one.message for one in catalog.log(wanted=LogFilter(first_parent=True))]
        assert first_parents == ["Import 2 of store crm", "Empty repository"]
        messages = [one.message for one in catalog.log()]
        assert all(messages.count(f"{name}: a row") == 1 for name in ("city", "people"))
        assert [ref.name for ref in catalog.refs()] == ["main"]
        assert list(catalog.working_sets()) == []
        assert catalog.publish() == []
    with adapter.engine.session("people", "main") as session:
        assert session.rows("SELECT id FROM t") == [{"id": 1}]
    adapter.close()


def killed(place: str, *words: str) -> int:
    """Run a command line until it kills itself at a failpoint; its exit code."""
    armed = "from plait.failpoint import arm_from_environment as arm; from plait.cli import run; arm(); run()"
    dying = {**os.environ, "PLAIT_FAILPOINT": place if "@" in place else f"{place}@1"}
    return subprocess.run([sys.executable, "-c", armed, *words], env=dying, capture_output=True, check=False).returncode


@pytest.mark.slow
def test_an_import_that_was_killed_is_gone_on_with(here: Path, run_plait: Plait) -> None:
    """With copies, since what comes in place leaves nothing to go on with but the working set."""
    for name in ("a", "b", "c"):
        (here / "objects" / name).mkdir(parents=True)
        (here / "objects" / name / "one.txt").write_text(name)
    before = state_of(here / "objects")
    assert run_plait("init").code == 0
    assert run_plait("store", "add", "raw", "--kind", "files", "--option", f"path={here / 'store'}").code == 0
    assert killed("objects.import.after_pins@2", "import", "files", "--from", "./objects/*") == -signal.SIGKILL
    assert [row["state"] for row in run_plait("tx", "list", "--json").value] == ["open"]
    assert run_plait("ls", "--json").value == []
    assert run_plait("import", "files", "--from", "./objects/*").code == 0
    assert [row["key"] for row in run_plait("ls", "--json").value] == ["raw.a", "raw.b", "raw.c"]
    assert run_plait("tx", "list", "--json").value == []
    assert run_plait("log", "--json").out.count('"Import 3 of ./objects/*"') == 1
    assert state_of(here / "objects") == before


def test_a_location_is_shown_without_its_secrets() -> None:
    assert asset_row(Imported(("far", "a"), "s3://ann:secret@host/a?token=b"))["location"] == "s3://host/a"
    assert asset_row(Imported(("lake", "view"), ""))["location"] is None


def test_a_prefix_comes_as_one_asset(here: Path, run_plait: Plait) -> None:
    (here / "objects" / "a").mkdir(parents=True)
    (here / "objects" / "a" / "one.txt").write_text("1")
    run_plait("init")
    run_plait("store", "add", "raw", "--kind", "files", "--option", f"path={here / 'store'}")
    (dry,) = run_plait("import", "files", "--from", "./objects", "--dry-run", "--json").value
    assert dry["location"] == str(here / "objects")
    assert run_plait("import", "files", "--from", "./objects", "--json").code == 0
    assert run_plait("cat", "raw.objects::a/one.txt").out == "1"
    refused = run_plait("import", "files", "--from", "./nothing", "--json")
    assert (refused.code, refused.error["code"]) == (3, "NOT_FOUND")


def test_images_come_by_their_headers_and_what_only_claims_to_be_one_is_told(here: Path, run_plait: Plait) -> None:
    if shutil.which("qemu-img") is None and os.environ.get("CI") != "true":
        pytest.skip("NOT RUN without qemu-img: apt install qemu-utils")
    images = here / "images"
    (images / "old").mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", images / "one.qcow2", "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", images / "old" / "two.img", "1M"], check=True)
    over = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", images / "one.qcow2", "-F", "qcow2", images / "top.qcow2"]
    subprocess.run(over, check=True)
    (images / "false.qcow2").write_text("no image")
    (images / "notes.txt").write_text("no image either")
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", images / "other.vmdk", "1M"], check=True)
    before = state_of(images)
    run_plait("init")
    run_plait("store", "add", "vm", "--kind", "block", "--option", f"path={here / 'store'}")
    rows = run_plait("import", "block", "--from", "./images", "--dry-run", "--json").value
    told = {row["key"]: row["why not"] for row in rows}
    assert {row["key"]: row["location"] for row in rows}["vm.old.two"] == str(images / "old" / "two.img")
    assert "is no qcow2 image" in told.pop("vm.false")
    assert "needs other files" in told.pop("vm.top")
    assert "is a vmdk image" in told.pop("vm.other")
    assert told == {"vm.one": None, "vm.old.two": None}
    assert run_plait("import", "block", "--from", "./images").code == 0
    assert sorted(row["key"] for row in run_plait("ls", "--json").value) == ["vm.old.two", "vm.one"]
    assert state_of(images) == before


def test_kinds_that_can_be_searched_are_listed(run_plait: Plait) -> None:
    listed = run_plait("import", "--help").out
    assert all(f"\n  {kind} " in listed for kind in ("assets", "block", "delta", "dolt", "files", "iceberg", "s3"))
    assert run_plait("import", "fake", "--from", ".").code == 2
