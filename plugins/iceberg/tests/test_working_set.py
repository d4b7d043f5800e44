"""Tables inside a transaction: pyiceberg's Catalog and Table, and the vote."""

from __future__ import annotations

import gzip
import json
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, TransactionClosed, Unsupported
from plait.types import Intent, Mode, SnapshotRef, Store
from plait_conformance.tables import (
    KEY,
    KEYED,
    Tables,
    append,
    batch,
    correct,
    delete,
    order,
    ordered,
    read_back,
    static,
)
from plait_conformance.testing import MemoryPort, make_adapter
from plait_iceberg import IcebergAdapter
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NoSuchViewError,
    TableAlreadyExistsError,
    ViewAlreadyExistsError,
)
from pyiceberg.table import Table
from pyiceberg.view import View
from pyiceberg.view.metadata import SQLViewRepresentation, ViewVersion


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def view_of(sql: str) -> ViewVersion:
    return ViewVersion(
        version_id=1,
        timestamp_ms=1,
        schema_id=0,
        summary={},
        representations=[SQLViewRepresentation(type="sql", sql=sql, dialect="spark")],
        default_namespace=["sales"],
    )


# -- writing -----------------------------------------------------------------------------------------------------------


def test_appends_overwrites_and_deletes_read_back_through_plain_pyiceberg(tables: Tables) -> None:
    base = tables.create([order(1), order(2), order(3)])
    changed = tables.change(
        base,
        append(order(4, "ink")),
        delete("id = 1"),
        correct(order(2, "cap", 9)),
        lambda table: table.overwrite(batch(table, [order(5)]), "id = 3"),
    )
    assert read_back(base) == ordered([order(1), order(2), order(3)])
    assert read_back(changed) == ordered([order(2, "cap", 9), order(4, "ink"), order(5)])


def test_the_snapshot_log_and_every_older_snapshot_stay(tables: Tables) -> None:
    base = tables.create([order(1)])
    changed = tables.change(base, append(order(2)), append(order(3)), delete("id = 1"))
    before, after = static(base), static(changed)
    log = [entry.snapshot_id for entry in after.history()]
    assert log[: len(before.history())] == [entry.snapshot_id for entry in before.history()]
    # Each history entry can still be read.
    counts = [after.scan(snapshot_id=snapshot_id).to_arrow().num_rows for snapshot_id in log]
    assert counts == [1, 2, 3, 2]


def test_new_snapshots_carry_the_transaction_and_its_author(tables: Tables) -> None:
    port = tables.port()
    table = tables.catalog(port).create_table("sales.orders", KEYED)
    append(order(1))(table)
    snapshot = static(tables.vote(port)).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["plait.tx"] == port.tx
    assert snapshot.summary["plait.author"] == "Ada <ada@example.org>"


def test_a_handle_goes_on_after_its_own_commits(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    table = tables.table(port)
    append(order(2))(table)
    append(order(3))(table)
    assert table.scan().to_arrow().num_rows == 3
    assert len(read_back(tables.vote(port))) == 3


@pytest.mark.parametrize("format_version", ["1", "2"])
def test_metadata_is_copied_without_its_snapshots_and_equals_pyicebergs(tables: Tables, format_version: str) -> None:
    """pyiceberg copies it deeply for each look at what a transaction staged."""
    port = tables.port()
    table = tables.catalog(port).create_table("sales.orders", KEYED, properties={"format-version": format_version})
    append(order(1))(table)
    found, copied = table.metadata, table.metadata.model_copy(deep=True)
    assert found.snapshots
    assert all(one is other for one, other in zip(copied.snapshots, found.snapshots, strict=True))
    plain = static(tables.vote(port)).metadata
    assert type(plain) is not type(found)
    assert (plain == found, found == plain, copied == plain) == (True, True, True)
    changed = found.model_copy(update={"location": "elsewhere"})
    assert (changed == plain, plain == changed, found == plain) == (False, False, True)
    assert found.model_dump_json() == plain.model_dump_json()


def test_a_transaction_sees_each_of_its_own_changes(tables: Tables) -> None:
    port = tables.port({KEY: tables.create([order(1)])})
    table = tables.table(port)
    with table.transaction() as changing:
        assert changing.table_metadata == table.metadata
        changing.set_properties(owner="Ada")
        assert changing.table_metadata.properties["owner"] == "Ada"
        changing.append(batch(table, [order(2)]))
        changing.append(batch(table, [order(3)]))
        assert [snapshot.sequence_number for snapshot in changing.table_metadata.snapshots] == [1, 2, 3]
        changing.delete("id = 2")
        assert table.metadata.properties.get("owner") is None
    assert (table.metadata.properties["owner"], table.scan().to_arrow().num_rows) == ("Ada", 2)
    assert read_back(tables.vote(port)) == ordered([order(1), order(3)])


def test_create_table_as_one_transaction_lands_with_its_rows(tables: Tables) -> None:
    port = tables.port()
    with tables.catalog(port).create_table_transaction("sales.orders", KEYED) as creating:
        creating.append(pa.Table.from_pylist([order(1)], schema=KEYED.as_arrow()))
    assert read_back(tables.vote(port)) == [order(1)]


def test_writing_in_one_transaction_never_touches_a_file_of_another(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    before = {path: Path(path).read_bytes() for path in files_below(warehouse)}
    ours = tables.change(base, delete("id = 1"))
    theirs = tables.change(base, append(order(2)))
    assert {path: Path(path).read_bytes() for path in before} == before
    assert (read_back(ours), read_back(theirs)) == ([], ordered([order(1), order(2)]))


def test_a_property_that_deletes_old_metadata_does_not_delete_a_commits_file(tables: Tables) -> None:
    deleting = {"write.metadata.delete-after-commit.enabled": "true", "write.metadata.previous-versions-max": "1"}
    base = tables.create([order(1)], properties=deleting)
    tables.change(base, *(append(order(number)) for number in range(2, 6)))
    assert read_back(base) == [order(1)]


# -- concurrent clients ------------------------------------------------------------------------------------------------


def test_two_handles_of_one_transaction_cannot_lose_a_commit(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    one, two = tables.table(port), tables.table(port)
    append(order(2))(one)
    try:
        append(order(3))(two)
    except CommitFailedException:
        append(order(3))(two.refresh())
    assert read_back(tables.vote(port)) == ordered([order(1), order(2), order(3)])


class RacingPort(MemoryPort):
    """Another client of the same transaction commits just before the first compare-and-set of this one."""

    def __init__(self, tables: Tables, base: object, losing: int) -> None:
        super().__init__(tables.adapter, tables.tx(), {KEY: base})  # type: ignore[dict-item]
        self._tables = tables
        self.losing = losing

    def compare_and_set(self, key: tuple[str, ...], expected: str, location: str) -> bool:
        if self.losing:
            number, self.losing = 100 + self.losing, 0
            append(order(number))(self._tables.table(self))
        return super().compare_and_set(key, expected, location)


def test_a_commit_that_loses_the_race_is_refused_or_repeated_but_never_half_there(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = RacingPort(tables, base, losing=1)
    try:
        append(order(2))(tables.table(port))
        survived = [order(1), order(2), order(101)]
    except CommitFailedException:
        survived = [order(1), order(101)]
    assert read_back(tables.vote(port)) == ordered(survived)


def test_a_move_whose_answer_was_lost_is_not_made_twice(tables: Tables) -> None:
    class Forgetful(MemoryPort):
        def compare_and_set(self, key: tuple[str, ...], expected: str, location: str) -> bool:
            super().compare_and_set(key, expected, location)
            return False  # what a retry below us would answer

    base = tables.create([order(1)])
    port = Forgetful(tables.adapter, tables.tx(), {KEY: base})
    append(order(2))(tables.table(port))
    assert read_back(tables.vote(port)) == ordered([order(1), order(2)])


def test_a_sealed_transaction_refuses_commits(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    table = tables.table(port)
    port.closed = True
    with pytest.raises(TransactionClosed):
        append(order(2))(table)
    assert tables.vote(port) == base


# -- the vote ----------------------------------------------------------------------------------------------------------


def test_prepare_twice_is_the_same_vote(tables: Tables) -> None:
    port = tables.port()
    append(order(1))(tables.catalog(port).create_table("sales.orders", KEYED))
    assert tables.vote(port) == tables.vote(port)


def test_an_untouched_staging_votes_its_base(tables: Tables) -> None:
    base = tables.create([order(1)])
    assert tables.change(base, lambda table: None) == base


def test_a_commit_that_changes_nothing_leaves_the_base(tables: Tables) -> None:
    base = tables.create([order(1)], properties={"owner": "ada"})
    again = tables.change(base, lambda table: table.transaction().set_properties(owner="ada").commit_transaction())
    assert again == base


def test_a_staging_without_a_table_votes_nothing(tables: Tables) -> None:
    port = tables.port()
    port.add(KEY, new=True)
    assert tables.adapter.prepare(port.tx, 1, port.stagings) == {KEY: None}


def test_staging_again_is_the_same_place(tables: Tables) -> None:
    base = tables.create([order(1)])
    intents = {KEY: Intent("i", base)}
    assert tables.adapter.stage("t", intents) == tables.adapter.stage("t", intents)


def test_abort_leaves_committed_snapshots_readable(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    append(order(2))(tables.table(port))
    tables.adapter.abort(port.tx)
    tables.adapter.abort("never begun")
    assert read_back(base) == [order(1)]


def test_the_asset_is_the_table_whatever_its_name_and_the_digest_differs_where_content_does(tables: Tables) -> None:
    base = tables.create([order(1)])
    changed = tables.change(base, append(order(2)))
    assert changed.asset == base.asset
    assert changed.digest != base.digest


# -- names -------------------------------------------------------------------------------------------------------------


def test_rename_keeps_the_asset_and_a_table_of_the_old_name_is_another(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    catalog = tables.catalog(port)
    catalog.rename_table("sales.orders", "archive.orders_2025")
    assert catalog.load_table("archive.orders_2025").scan().to_arrow().num_rows == 1
    assert not catalog.table_exists("sales.orders")
    again = catalog.create_table("sales.orders", KEYED)
    votes = tables.adapter.prepare(port.tx, 1, port.stagings)
    assert votes[("lake", "archive", "orders_2025")] == base
    fresh = votes[KEY]
    assert fresh is not None
    assert fresh.asset != base.asset
    assert again.location() != static(base).location()


def test_rename_onto_a_taken_name_is_refused(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    catalog = tables.catalog(port)
    catalog.create_table("sales.lines", KEYED)
    with pytest.raises(TableAlreadyExistsError):
        catalog.rename_table("sales.lines", "sales.orders")
    with pytest.raises(NoSuchTableError):
        catalog.rename_table("sales.nothing", "sales.orders2")


def test_drop_deletes_no_file_and_the_name_is_free(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    before = files_below(warehouse)
    port = tables.port({KEY: base})
    catalog = tables.catalog(port)
    catalog.drop_table("sales.orders")
    assert files_below(warehouse) == before
    assert port.dropped == {KEY}
    with pytest.raises(NoSuchTableError):
        catalog.load_table("sales.orders")
    with pytest.raises(NoSuchTableError):
        catalog.drop_table("sales.orders")
    catalog.create_table("sales.orders", KEYED)
    assert tables.vote(port).asset != base.asset


def test_purge_is_refused_and_deletes_nothing(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    before = files_below(warehouse)
    with pytest.raises(Unsupported, match="drop_table"):
        tables.catalog(tables.port({KEY: base})).purge_table("sales.orders")
    assert files_below(warehouse) == before


def test_a_taken_name_cannot_be_created(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    with pytest.raises(TableAlreadyExistsError):
        tables.catalog(port).create_table("sales.orders", KEYED)
    assert tables.catalog(port).create_table_if_not_exists("sales.orders", KEYED).scan().to_arrow().num_rows == 1


def test_namespaces_follow_from_tables_and_an_empty_one_can_be_made(tables: Tables) -> None:
    base = tables.create([order(1)])
    catalog = tables.catalog(tables.port({KEY: base}))
    catalog.create_namespace("raw.eu")
    assert catalog.list_namespaces() == [("raw",), ("sales",)]
    assert catalog.list_namespaces("raw") == [("raw", "eu")]
    assert catalog.list_tables("sales") == [("sales", "orders")]
    assert catalog.list_tables("raw.eu") == []
    with pytest.raises(NamespaceAlreadyExistsError):
        catalog.create_namespace("sales")
    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace("sales")
    catalog.drop_namespace("raw")
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("raw")
    with pytest.raises(Unsupported):
        catalog.create_namespace("other", {"owner": "ada"})


def test_register_takes_a_foreign_table_where_it_is(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    before = files_below(warehouse)
    port = tables.port()
    catalog = tables.catalog(port)
    catalog.register_table("sales.orders", base.version)
    assert tables.vote(port) == base
    assert files_below(warehouse) == before
    with pytest.raises(TableAlreadyExistsError):
        catalog.register_table("sales.orders", base.version)
    newer = tables.change(base, append(order(2)))
    catalog.register_table("sales.orders", newer.version, overwrite=True)
    assert tables.vote(port) == newer


# -- views -------------------------------------------------------------------------------------------------------------


def test_views_are_created_listed_registered_and_dropped(tables: Tables) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    catalog = tables.catalog(port)
    catalog.create_view("sales.cheap", KEYED, view_of("SELECT * FROM orders WHERE price < 5"))
    key = ("lake", "sales", "cheap")
    assert catalog.list_views("sales") == [("sales", "cheap")]
    assert catalog.list_tables("sales") == [("sales", "orders")]
    assert not catalog.table_exists("sales.cheap")
    assert isinstance(tables.adapter.open(port.stagings[key], port), View)
    voted = tables.vote(port, key)
    assert voted.attrs["format"] == "view"
    opened = tables.adapter.open(voted, None)
    assert isinstance(opened, View)
    assert opened.metadata.versions[0].representations[0].root.sql == "SELECT * FROM orders WHERE price < 5"
    with pytest.raises(ViewAlreadyExistsError):
        catalog.create_view("sales.cheap", KEYED, view_of("SELECT 1"))
    catalog.drop_view("sales.cheap")
    with pytest.raises(NoSuchViewError):
        catalog.load_view("sales.cheap")
    catalog.register_view("sales.again", voted.version)
    assert catalog.view_exists("sales.again")


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_a_committed_snapshot_is_read_only_and_leaves_no_file(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    before = files_below(warehouse)
    opened = tables.adapter.open(base, None)
    assert isinstance(opened, Table)
    assert opened.refresh().scan().to_arrow().num_rows == 1
    with pytest.raises(Unsupported, match="cannot change"):
        append(order(2))(opened)
    with pytest.raises(Unsupported):
        opened.transaction().set_properties(a="b").commit_transaction()
    assert files_below(warehouse) == before


def test_locate_names_exactly_this_version_for_an_engine(tables: Tables) -> None:
    base = tables.create([order(1)])
    tables.change(base, append(order(2)))
    located = tables.adapter.locate(base)
    assert located.uri == base.version
    names: dict[str, Table] = {}
    exec(located.snippet.partition("-- DuckDB")[0], names)
    assert names["table"].scan().to_arrow().num_rows == 1


def test_an_import_names_a_table_by_its_folder_or_its_metadata_file(tables: Tables) -> None:
    base = tables.create([order(1)])
    changed = tables.change(base, append(order(2)))
    folder = static(base).location()
    found = tables.adapter.snapshot("tx", {KEY: folder, ("lake", "old"): base.version})
    assert found == {KEY: changed, ("lake", "old"): base}


def test_an_import_of_a_folder_with_two_newest_files_says_which(tables: Tables) -> None:
    base = tables.create([order(1)])
    tables.change(base, append(order(2)))
    tables.change(base, append(order(3)))
    with pytest.raises(InvalidArgument, match="2 metadata files"):
        tables.adapter.snapshot("tx", {KEY: static(base).location()})


@pytest.mark.parametrize("name", ["v{}.metadata.json", "v{}.gz.metadata.json", "v{}.metadata.json.gz"])
def test_an_import_of_a_folder_follows_its_version_hint_as_spark_does(
    tables: Tables, warehouse: Path, name: str
) -> None:
    base = tables.create([order(1)])
    content = Path(base.version.removeprefix("file://")).read_bytes()
    folder = warehouse / "foreign" / "metadata"
    folder.mkdir(parents=True)
    (folder / "00009-a-branch-of-plait.metadata.json").write_bytes(content)
    hint = folder / "version-hint.text"
    for number in (1, 2):
        (folder / name.format(number)).write_bytes(gzip.compress(content) if "gz" in name else content)
        for hinted in range(1, number + 1):  # Spark commits before it writes the hint, which may stay behind.
            hint.write_text(str(hinted))
            found = tables.adapter.snapshot("tx", {KEY: f"file://{warehouse}/foreign"})[KEY]
            assert found.version == f"file://{folder}/{name.format(number)}"
            opened = tables.adapter.open(found, None)
            assert isinstance(opened, Table)
            assert opened.scan().to_arrow().to_pylist() == [order(1)]


def test_an_import_of_nothing_is_not_found(tables: Tables, warehouse: Path) -> None:
    with pytest.raises(NotFound):
        tables.adapter.snapshot("tx", {KEY: f"file://{warehouse}/none"})


def rewritten(version: str, folder: Path, **changes: object) -> str:
    """A copy of a metadata file with some of it replaced, as another engine may have written it."""
    document = json.loads(Path(version.removeprefix("file://")).read_text())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "v9.metadata.json"
    path.write_text(json.dumps({**document, **changes}))
    return f"file://{path}"


def test_format_version_3_is_refused_in_a_managed_store_and_a_pointer_store_takes_it(
    tables: Tables, warehouse: Path
) -> None:
    base = tables.create([order(1)])
    location = rewritten(base.version, warehouse / "foreign", **{"format-version": 3, "next-row-id": 0})
    before = files_below(warehouse)
    with pytest.raises(Unsupported, match="format version 3"):
        tables.adapter.snapshot("tx", {KEY: location})
    with pytest.raises(Unsupported, match="format version 3"):
        tables.catalog(tables.port()).register_table("sales.orders", location)
    with pytest.raises(Unsupported, match="format version 3"):
        tables.catalog(tables.port()).create_table("sales.new", KEYED, properties={"format-version": "3"})
    pointers = make_adapter(
        IcebergAdapter, Store("lake", "iceberg", Mode.POINTER, options={"warehouse": f"file://{warehouse}"})
    )
    assert pointers.snapshot("tx", {KEY: location})[KEY].version == location
    assert files_below(warehouse) == before


def test_a_metadata_file_keeps_what_pyiceberg_does_not_know_through_a_merge(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    location = rewritten(base.version, warehouse / "foreign", **{"x-owner": {"team": "ops"}})
    imported = tables.adapter.snapshot("tx", {KEY: location})[KEY]
    theirs = tables.change(base, append(order(2)))
    merged = tables.merged(base, imported, theirs)
    assert json.loads(Path(merged.version.removeprefix("file://")).read_text())["x-owner"] == {"team": "ops"}
    assert read_back(merged) == ordered([order(1), order(2)])


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option 'warehouse'"),
        ({"warehouse": "relative/path"}, "relative path"),
        ({"warehouse": "ftp://host/x"}, "neither a local folder nor s3"),
        ({"warehouse": "/data/a#b"}, "holds '#'"),
        ({"warehouse": "/data/a\nb"}, "or a line end"),
        ({"warehouse": "/data", "colour": "red"}, "no option 'colour'"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_adapter(IcebergAdapter, Store("lake", "iceberg", options=options))


def test_check_finds_a_warehouse_fit_and_leaves_nothing(tables: Tables, warehouse: Path) -> None:
    assert tables.adapter.check() == ()
    assert files_below(warehouse) == set()


def test_a_table_that_another_client_started_is_gone_on_with(tables: Tables) -> None:
    port = tables.port()
    port.add(KEY, new=True)
    with pytest.raises(NotFound, match="no table was created yet"):
        tables.adapter.open(port.stagings[KEY], port)
    tables.catalog(port).create_table("sales.orders", KEYED)
    with pytest.raises((TableAlreadyExistsError, AlreadyExists)):
        tables.catalog(port).create_table("sales.orders", KEYED)


def test_nothing_is_written_on_top_of_a_damaged_base(tables: Tables) -> None:
    base = tables.create([order(1)])
    path = Path(base.version.removeprefix("file://"))
    path.write_bytes(path.read_bytes().replace(b'"item"', b'"itum"'))
    for add in (True, False):  # Staged already, and not yet.
        port = tables.port({KEY: base})
        if add:
            port.add(KEY)
        with pytest.raises(Corrupt, match="has digest"):
            tables.catalog(port).load_table(KEY[1:])
    with pytest.raises(Corrupt, match="has digest"):
        tables.table(port)


def read_document(snapshot: SnapshotRef) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(snapshot.version.removeprefix("file://")).read_text())
    return document


def test_times_in_a_table_grow_whatever_the_clock_does(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java's readers refuse a snapshot log or a metadata log that goes back by more than a minute."""
    base = tables.create([order(1)])
    first = read_document(base)
    hour = timedelta(hours=1)

    class Late(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Late:
            return cls.fromtimestamp(super().now(tz).timestamp() - hour.total_seconds(), tz)

    now = time.time
    monkeypatch.setattr("time.time", lambda: now() - hour.total_seconds())
    monkeypatch.setattr("pyiceberg.table.update.datetime", Late)
    old = first["snapshots"][0]["snapshot-id"]
    changed = tables.change(
        base,
        append(order(2)),
        lambda table: table.transaction().set_properties(owner="ada").commit_transaction(),
        lambda table: table.manage_snapshots().rollback_to_snapshot(old).commit(),
        append(order(3)),
    )
    document = read_document(changed)
    for times in (
        [one["timestamp-ms"] for one in document["snapshots"]],
        [one["timestamp-ms"] for one in document["snapshot-log"]],
        [*(one["timestamp-ms"] for one in document["metadata-log"]), document["last-updated-ms"]],
    ):
        assert times == sorted(set(times))
    assert len(document["snapshot-log"]) == 4
    assert document["snapshots"][:1] == first["snapshots"]
    assert read_back(changed) == ordered([order(1), order(3)])
