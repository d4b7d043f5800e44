"""Tables from, and into, a real catalog of pyiceberg's."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from plait.errors import StoreUnavailable
from plait.types import Entry, Found, SnapshotRef
from plait_conformance.tables import KEYED, Tables, append, batch, order, ordered, read_back
from plait_iceberg.transfer import ExportState, discover, export
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.typedef import Identifier


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog("other", uri=f"sqlite:///{tmp_path}/other.db", warehouse=f"file://{tmp_path}/other")
    for namespace in ("sales", "sales.eu", "raw"):
        opened.create_namespace(namespace)
    for name in ("sales.orders", "sales.eu.orders", "sales.lines", "raw.clicks"):
        table = opened.create_table(name, KEYED)
        table.append(batch(table, [order(1)]))
    yield opened
    opened.close()


def names(found: list[Found]) -> list[str]:
    return [".".join(one.name) for one in found]


def entry(key: tuple[str, ...], snapshot: SnapshotRef) -> Entry:
    return Entry(key, str(uuid.uuid4()), snapshot)


# -- into plait --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("*", ["raw.clicks", "sales.lines", "sales.orders", "sales.eu.orders"]),
        ("sales.*", ["sales.lines", "sales.orders", "sales.eu.orders"]),
        ("*.orders", ["sales.orders", "sales.eu.orders"]),
        ("raw.clicks", ["raw.clicks"]),
        ("none.*", []),
    ],
)
def test_a_glob_says_which_tables_come(source: SqlCatalog, match: str, expected: list[str]) -> None:
    assert names(list(discover(source, match))) == expected


def test_what_is_discovered_is_imported_in_place_and_read_back(
    source: SqlCatalog, tables: Tables, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assets = {("lake", *one.name): one.location for one in discover(source)}
    found = tables.adapter.snapshot("tx", assets)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(found) == [
        ("lake", "raw", "clicks"),
        ("lake", "sales", "eu", "orders"),
        ("lake", "sales", "lines"),
        ("lake", "sales", "orders"),
    ]
    assert all(read_back(snapshot) == [order(1)] for snapshot in found.values())
    key = ("lake", "sales", "eu", "orders")
    changed = tables.change(found[key], append(order(2)), key=key)
    assert read_back(changed) == ordered([order(1), order(2)])
    # The source's table is where it was.
    assert source.load_table("sales.eu.orders").metadata_location == assets[key]


def test_a_table_that_cannot_be_loaded_is_told_and_the_others_come(source: SqlCatalog) -> None:
    lost = source.load_table("sales.orders").metadata_location
    Path(lost.removeprefix("file://")).unlink()
    found = {".".join(one.name): one.refusal for one in discover(source)}
    assert "cannot be loaded" in found.pop("sales.orders")
    assert set(found.values()) == {""}


def test_a_newer_format_is_told_with_its_remedy(source: SqlCatalog, tmp_path: Path) -> None:
    document = json.loads(Path(source.load_table("raw.clicks").metadata_location.removeprefix("file://")).read_text())
    newer = tmp_path / "v3.metadata.json"
    newer.write_text(json.dumps({**document, "format-version": 3, "next-row-id": 0}))
    source.register_table("raw.newer", f"file://{newer}")
    (one,) = discover(source, "raw.newer")
    assert "format version is 3" in one.refusal
    assert "mode=pointer" in one.refusal


def test_rules_of_the_old_owner_that_could_delete_files_come_as_risks(source: SqlCatalog) -> None:
    (one,) = discover(source, "raw.clicks")
    assert [risk.rule for risk in one.risks] == ["gc.enabled=true"]
    table = source.load_table("raw.clicks")
    table.transaction().set_properties({"gc.enabled": "false"}).commit_transaction()
    (one,) = discover(source, "raw.clicks")
    assert one.risks == ()


class Away(InMemoryCatalog):
    """A catalog whose server went away after it listed its namespaces."""

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        return [] if namespace else [("sales",)]

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        raise ConnectionError("connection refused")


def test_a_catalog_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    catalog = Away("away", warehouse=f"file://{tmp_path}/away")
    try:
        with pytest.raises(StoreUnavailable, match="'away' does not answer"):
            list(discover(catalog))
    finally:
        catalog.close()


class Looping(InMemoryCatalog):
    """A catalog with one level of namespaces that answers with it whatever is asked."""

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        return [("sales",)]


def test_a_catalog_that_repeats_its_namespaces_is_walked_once(tmp_path: Path) -> None:
    catalog = Looping("loop", warehouse=f"file://{tmp_path}/loop")
    try:
        catalog.create_namespace("sales")
        catalog.create_table("sales.orders", KEYED)
        assert names(list(discover(catalog))) == ["sales.orders"]
    finally:
        catalog.close()


# -- out of plait ------------------------------------------------------------------------------------------------------


def test_a_commits_tables_are_registered_and_read_through_the_target(tables: Tables, source: SqlCatalog) -> None:
    one = tables.create([order(7)])
    two = tables.create([order(8)], key=("lake", "new", "deep", "lines"))
    entries = [entry(("lake", "new", "orders"), one), entry(("lake", "new", "deep", "lines"), two)]
    assert [found.state for found in export(source, entries)] == [ExportState.REGISTERED] * 2
    assert source.load_table("new.orders").scan().to_arrow().to_pylist() == [order(7)]
    assert source.load_table("new.deep.lines").scan().to_arrow().to_pylist() == [order(8)]


def test_export_twice_is_export_once(tables: Tables, source: SqlCatalog) -> None:
    entries = [entry(("lake", "new", "orders"), tables.create([order(7)]))]
    list(export(source, entries))
    assert [found.state for found in export(source, entries)] == [ExportState.UNCHANGED]


def test_a_table_that_the_target_has_is_never_replaced_unasked(tables: Tables, source: SqlCatalog) -> None:
    snapshot = tables.create([order(7)])
    before = source.load_table("sales.orders").metadata_location
    for replace in (False, True):
        (found,) = export(source, [entry(("lake", "sales", "orders"), snapshot)], replace=replace)
        assert found.state is ExportState.REFUSED
        assert ("cannot replace" if replace else before) in found.reason
    assert source.load_table("sales.orders").metadata_location == before


def test_a_target_that_can_replace_does_when_asked(tables: Tables) -> None:
    """Here the target is a transaction of plait's own, which is a pyiceberg catalog too."""
    first = tables.create([order(1)])
    second = tables.change(first, append(order(2)))
    target = tables.catalog(tables.port())
    states = [
        found.state
        for snapshot in (first, second)
        for found in export(target, [entry(("lake", "sales", "orders"), snapshot)], replace=True)
    ]
    assert states == [ExportState.REGISTERED, ExportState.REPLACED]
    assert target.load_table("sales.orders").metadata_location == second.version


def test_what_no_catalog_takes_is_told_and_the_others_go(tables: Tables, source: SqlCatalog) -> None:
    good = tables.create([order(1)])
    view = SnapshotRef("lake", "iceberg", "v", "file:///nowhere/v.metadata.json", b"", {"format": "view"})
    lost = SnapshotRef("lake", "iceberg", "t", "file:///nowhere/t.metadata.json", b"", {"format": "table"})
    keys = [("lake", "new", "view"), ("lake", "flat"), ("lake", "new", "lost"), ("lake", "new", "good")]
    entries = [entry(key, snapshot) for key, snapshot in zip(keys, (view, good, lost, good), strict=True)]
    found = list(export(source, entries))
    assert [one.key for one in found] == keys
    assert [one.state for one in found] == [ExportState.REFUSED] * 3 + [ExportState.REGISTERED]
    assert "view" in found[0].reason
    assert "no namespace" in found[1].reason
    assert "does not exist" in found[2].reason
    assert not source.table_exists("new.lost")
