"""`plait import iceberg` and `plait export iceberg`, with real pyiceberg SQL catalogs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import plait
import pyarrow as pa
import pytest
from plait.cli import run
from plait.types import Mode
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An Iceberg catalog of another's with three tables, and a plait catalog with an empty store in the directory."""
    uri = f"sqlite:///{tmp_path}/source.db"
    catalog = load_catalog("prod", uri=uri, warehouse=f"file://{tmp_path}/source")
    rows = pa.table({"id": [1, 2]})
    catalog.create_namespace("sales")
    catalog.create_namespace("staff")
    for name in ("sales.orders", "sales.returns", "staff.people"):
        catalog.create_table(name, rows.schema).append(rows)
    catalog.close()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PLAIT_CATALOG", raising=False)
    with plait.init(".") as made:
        made.add_store("lake", "iceberg", {"warehouse": str(tmp_path / "lake")})
    return uri


def plaited(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, object]:
    capfd.readouterr()
    code = run(["import", "iceberg", "--name", "prod", *words, "--json"])
    printed = capfd.readouterr()
    return code, json.loads(printed.out or printed.err)


def keys() -> list[tuple[str, ...]]:
    with plait.open(".") as catalog:
        return [entry.key for entry in catalog.at("main").entries()]


def test_a_dry_run_lists_the_tables_and_takes_none(
    source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, rows = plaited(capfd, "--from", source, "--match", "sales.*", "--dry-run")
    assert code == 0
    assert isinstance(rows, list)
    for row in rows:
        table = row["key"].rpartition(".")[2]
        assert row["location"].startswith(f"file://{tmp_path}/source/sales/{table}/metadata/")
    assert [(row["key"], row["take"]) for row in rows] == [("lake.sales.orders", True), ("lake.sales.returns", True)]
    assert keys() == []


def test_matching_tables_are_one_commit_and_stay_where_they_are(
    source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, made = plaited(capfd, "--from", source, "--match", "sales.*", "-m", "Taken")
    assert code == 0
    assert isinstance(made, dict)
    assert made["commit"]["message"] == "Taken"
    assert [(row["key"], row["take"]) for row in made["assets"]] == [
        ("lake.sales.orders", True),
        ("lake.sales.returns", True),
    ]
    assert keys() == [("lake", "sales", "orders"), ("lake", "sales", "returns")]
    with plait.open(".") as catalog:
        entry = catalog.at("main").entry("lake.sales.orders")
        assert entry.snapshot.version.startswith(f"file://{tmp_path}/source/")
    code, again = plaited(capfd, "--from", source, "--match", "sales.*")
    assert isinstance(again, dict)
    assert (code, again["commit"], [row["take"] for row in again["assets"]]) == (0, None, [False, False])
    assert plaited(capfd, "--from", source)[0] == 0
    assert len(keys()) == 3


def test_a_table_in_a_newer_format_comes_into_a_pointer_store_as_its_refusal_advises(
    source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with plait.open(".") as catalog:
        catalog.add_store("seen", "iceberg", {"warehouse": str(tmp_path / "lake")}, mode=Mode.POINTER)
    (metadata,) = (tmp_path / "source" / "sales" / "orders" / "metadata").glob("00001-*.metadata.json")
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "format-version": 3, "next-row-id": 0}))
    _, refused = plaited(capfd, "--from", source, "--match", "sales.orders", "--store", "lake", "--dry-run")
    _, taken = plaited(capfd, "--from", source, "--match", "sales.orders", "--store", "seen", "--dry-run")
    assert isinstance(refused, list)
    assert isinstance(taken, list)
    assert [row["take"] for row in (*refused, *taken)] == [False, True]
    assert plaited(capfd, "--from", source, "--match", "sales.orders", "--store", "seen")[0] == 0
    assert keys() == [("seen", "sales", "orders")]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--match", "nothing.*"), 3),
        (("--store", "nowhere"), 3),
        (("--option", "odd"), 2),
    ],
    ids=str,
)
def test_what_takes_nothing_is_an_error(
    words: tuple[str, ...], code: int, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plaited(capfd, "--from", source, *words)[0] == code
    assert keys() == []


def test_an_origin_that_is_no_catalog_is_refused(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, told = plaited(capfd, "--from", "unheard-of")
    assert code == 2
    assert isinstance(told, dict)
    assert "unheard-of" in told["message"]


def test_a_database_that_is_no_catalog_is_refused_and_stays_as_it_is(
    source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as made:
        made.execute("CREATE TABLE mine (number INTEGER)")
    before = other.read_bytes()
    code, told = plaited(capfd, "--from", f"sqlite:///{other}", "--dry-run")
    assert code != 0
    assert isinstance(told, dict)
    assert "no such table" in told["message"]
    assert "see that it is an Iceberg catalog" in told["remedy"]
    assert other.read_bytes() == before


@pytest.fixture
def configured(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write pyiceberg's configuration, which it reads once in a process, with catalogs of these names."""

    def write(*names: str) -> None:
        text = "catalog:\n" + "".join(
            f"  {name}:\n    uri: {source}\n    warehouse: file://{tmp_path}/{name}\n" for name in names
        )
        (tmp_path / ".pyiceberg.yaml").write_text(text if names else "max-workers: 1\n")
        monkeypatch.setenv("PYICEBERG_HOME", str(tmp_path))
        monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())

    return write


def test_the_only_configured_catalog_needs_no_name(
    configured: Callable[..., None], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configured("prod")
    assert run(["import", "iceberg", "--match", "sales.orders"]) == 0
    assert keys() == [("lake", "sales", "orders")]
    with plait.open(".") as catalog:
        assert catalog.resolve("main").message == "Import 1 of prod"
    capfd.readouterr()
    assert run(["export", "iceberg", "--json"]) == 0
    assert [row["state"] for row in json.loads(capfd.readouterr().out)] == ["unchanged"]


@pytest.mark.parametrize("words", [("import", "iceberg"), ("export", "iceberg")], ids=" ".join)
@pytest.mark.parametrize(("names", "told"), [(("prod", "archive"), "archive, prod"), ((), "none")])
def test_which_catalog_is_asked_where_it_is_not_plain(
    words: tuple[str, ...],
    names: tuple[str, ...],
    told: str,
    configured: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    configured(*names)
    assert run([*words, "--json"]) == 2
    error = json.loads(capfd.readouterr().err)
    assert error["message"] == f"which Iceberg catalog? pyiceberg's configuration has {told}"
    assert "--from" in error["remedy"] or "--to" in error["remedy"]
    assert keys() == []


def test_a_configuration_that_names_no_catalogs_is_said(
    configured: Callable[..., None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG", "odd")
    configured()
    assert run(["import", "iceberg"]) == 2
    assert "pyiceberg's configuration cannot be read" in capfd.readouterr().err


def test_a_name_without_a_uri_is_of_the_configuration(
    configured: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    configured("prod", "archive")
    assert run(["import", "iceberg", "--name", "prod"]) == 0
    assert len(keys()) == 3


def test_a_catalog_under_another_name_is_told_of_the_name(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "iceberg", "--from", source, "--json"]) == 3
    remedy = json.loads(capfd.readouterr().err)["remedy"]
    assert "'default' has none" in remedy
    assert "--name" in remedy


def test_a_file_that_is_not_there_is_refused_and_not_made(
    source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, told = plaited(capfd, "--from", f"sqlite:///{tmp_path}/nowhere.db")
    assert (code, "nowhere.db does not exist" in str(told)) == (3, True)
    assert not (tmp_path / "nowhere.db").exists()


def test_passwords_of_an_origin_are_never_told(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, told = plaited(capfd, "--from", "nonsense://ann:secret@host/db?token=hidden")
    assert code == 2
    assert "nonsense://host/db" in str(told)
    assert "secret" not in str(told)
    assert "hidden" not in str(told)


def test_a_commit_is_exported_for_reading(source: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert plaited(capfd, "--from", source, "--match", "sales.orders")[0] == 0
    target = f"sqlite:///{tmp_path}/target.db"
    warehouse = f"warehouse=file://{tmp_path}/target"
    words = ["export", "iceberg", "--to", target, "--name", "readers", "--option", warehouse, "--json"]
    states = []
    for _ in range(2):
        capfd.readouterr()
        assert run(words) == 0
        states.append([(row["key"], row["state"]) for row in json.loads(capfd.readouterr().out)])
    assert states == [[("lake.sales.orders", "registered")], [("lake.sales.orders", "unchanged")]]
    catalog = load_catalog("readers", uri=target, warehouse=f"file://{tmp_path}/target")
    assert catalog.load_table("sales.orders").scan().to_arrow().num_rows == 2
    catalog.close()
