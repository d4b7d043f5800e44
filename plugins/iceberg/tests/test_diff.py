"""What differs between two versions: the table's own description first, then rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from plait.errors import Corrupt, Unsupported
from plait.types import ItemChange, ItemChangeKind, SnapshotRef, Staging
from plait_conformance.tables import KEY, LOOSE, Tables, append, correct, delete, order, static
from plait_iceberg import IcebergAdapter
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DecimalType, IntegerType, ListType, LongType, NestedField, StructType, TimestamptzType

ADDED, REMOVED, CHANGED = ItemChangeKind.ADDED, ItemChangeKind.REMOVED, ItemChangeKind.CHANGED


def rows(found: Sequence[ItemChange]) -> list[tuple[str, ItemChangeKind]]:
    return [(change.item, change.kind) for change in found if change.aspect == "row"]


def aspects(found: Sequence[ItemChange]) -> list[str]:
    """The aspects in the order that they come in, each once."""
    return list(dict.fromkeys(change.aspect for change in found))


def evolve(table: Table) -> None:
    with table.transaction() as tx:
        tx.set_properties(owner="ada")
        with tx.update_schema() as update:
            update.add_column("weight", LongType())
        with tx.update_spec() as update_spec:
            update_spec.add_field("item", IdentityTransform(), "item_part")
        with tx.update_sort_order() as update_sort:
            update_sort.asc("price", IdentityTransform())


def test_equal_sides_differ_in_nothing(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    assert list(adapter.diff(base, base)) == []
    assert list(adapter.diff(None, None)) == []


def test_rows_differ_by_their_identifiers_in_order(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(2), order(10), order(1)])
    changed = tables.change(base, correct(order(10, "cap")), delete("id = 1"), append(order(3)))
    found = list(adapter.diff(base, changed))
    assert rows(found) == [("id=1", REMOVED), ("id=3", ADDED), ("id=10", CHANGED)]
    ten = next(change for change in found if change.item == "id=10")
    assert (ten.before, ten.after) == (order(10), order(10, "cap"))
    assert rows(list(adapter.diff(changed, base))) == [("id=1", ADDED), ("id=3", REMOVED), ("id=10", CHANGED)]


def test_rows_without_identifiers_differ_as_a_multiset(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(1), order(2)], schema=LOOSE)
    changed = tables.change(base, delete("id = 1"), append(order(1), order(2, "cap")))
    found = rows(list(adapter.diff(base, changed)))
    # One of two equal rows went, and one row came.
    assert sorted(kind for _, kind in found) == [ADDED, REMOVED]
    assert all(item.startswith("row:") for item, _ in found)


def test_rows_that_only_moved_between_files_do_not_differ(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    base = tables.change(base, append(order(2)))
    compacted = tables.change(base, lambda table: table.overwrite(table.scan().to_arrow()))
    assert rows(list(adapter.diff(base, compacted))) == []
    assert "snapshot" in aspects(list(adapter.diff(base, compacted)))


def test_the_tables_description_comes_before_its_rows(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)], properties={"tier": "1"})
    changed = tables.change(base, evolve, append({**order(2), "weight": 5}))
    found = list(adapter.diff(base, changed))
    assert aspects(found) == ["schema", "partition", "sort", "property", "snapshot", "row"]
    by_item = {change.item: change for change in found}
    assert by_item["schema:weight"].kind is ADDED
    assert (by_item["property:owner"].before, by_item["property:owner"].after) == (None, "ada")
    (snapshot,) = (change for change in found if change.aspect == "snapshot")
    assert isinstance(snapshot.after, dict)
    assert snapshot.after["operation"] == "append"


def test_a_new_column_alone_changes_no_row(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    changed = tables.change(base, evolve)
    assert rows(list(adapter.diff(base, changed))) == []


def test_rows_under_promoted_types_are_read_in_either_direction(tables: Tables, adapter: IcebergAdapter) -> None:
    narrow = Schema(
        NestedField(1, "id", IntegerType(), required=True),
        NestedField(2, "price", DecimalType(4, 2)),
        NestedField(3, "part", StructType(NestedField(4, "n", IntegerType()))),
        identifier_field_ids=[1],
    )
    old, new = ({"id": n, "price": Decimal("1.50"), "part": {"n": n}} for n in (1, 2))
    base = tables.create([old], schema=narrow)

    def promote(table: Table) -> None:
        with table.update_schema() as update:
            update.update_column("id", LongType())
            update.update_column("price", DecimalType(12, 2))
            update.update_column("part.n", LongType())

    wide = {"id": 1 << 40, "price": Decimal("1234567890.25"), "part": {"n": 1 << 40}}
    rewritten = tables.change(base, promote, delete("id = 1"), append(new), append(wide))
    there, back = list(adapter.diff(base, rewritten)), list(adapter.diff(rewritten, base))
    assert rows(there) == [("id=1", REMOVED), ("id=2", ADDED), (f"id={1 << 40}", ADDED)]
    assert rows(back) == [("id=1", ADDED), ("id=2", REMOVED), (f"id={1 << 40}", REMOVED)]
    told = [None, *({**row, "price": str(row["price"])} for row in (new, wide))]
    assert [change.before for change in back if change.aspect == "row"] == told
    assert [change.after for change in there if change.aspect == "row"] == told
    assert {change.item for change in back if change.aspect == "schema"} == {"schema:id", "schema:price", "schema:part"}


def test_a_whole_table_is_added_or_removed(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2)])
    assert rows(list(adapter.diff(None, base))) == [("id=1", ADDED), ("id=2", ADDED)]
    assert rows(list(adapter.diff(base, None))) == [("id=1", REMOVED), ("id=2", REMOVED)]


def test_two_tables_under_one_key_are_one_removed_and_one_added(tables: Tables, adapter: IcebergAdapter) -> None:
    one, two = tables.create([order(1)]), tables.create([order(1)])
    assert rows(list(adapter.diff(one, two))) == [("id=1", REMOVED), ("id=1", ADDED)]


def test_items_limit_a_diff(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2)])
    changed = tables.change(base, correct(order(1, "cap"), order(2, "cap")))
    assert [change.item for change in adapter.diff(base, changed, items=["id=2", "id=7"])] == ["id=2"]


def test_a_staging_is_a_side_too(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    port = tables.port({KEY: base})
    append(order(2))(tables.table(port))
    staging = port.stagings[KEY]
    assert isinstance(staging, Staging)
    assert rows(list(adapter.diff(base, staging))) == [("id=2", ADDED)]


def test_a_diff_does_not_read_ahead(tables: Tables, adapter: IcebergAdapter) -> None:
    """The first change of a big diff comes before the last file is read: here that one is lost."""
    base = tables.create([order(1)])
    changed = tables.change(base, append(order(2)), append(order(3)))
    paths = sorted(item.path for item in adapter.reachable(changed) if item.path.endswith(".parquet"))
    adapter.files.delete(paths[-1])
    stream = adapter.diff(None, changed)
    assert next(change for change in stream if change.aspect == "row").kind is ADDED


def test_a_snapshot_whose_metadata_was_overwritten_is_corrupt(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    lying = SnapshotRef(base.store, base.kind, base.asset, base.version, b"\0" * 32, base.attrs)
    with pytest.raises(Corrupt, match="digest"):
        list(adapter.diff(lying, None))


AT = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "at", ListType(3, TimestamptzType(), element_required=False), required=False),
    identifier_field_ids=[1],
)


@pytest.mark.parametrize(("year", "is_misread"), [(2024, False), (2262, False), (2263, True), (1, True), (9999, True)])
def test_times_as_int96_that_pyiceberg_would_misread_are_refused_and_others_are_rows(
    tables: Tables, year: int, is_misread: bool
) -> None:
    """As they are in tables that Spark migrated."""
    at = datetime(year, 1, 1, tzinfo=UTC)
    base = tables.create([{"id": 1, "at": [at, None]}], schema=AT)
    (task,) = static(base).scan().plan_files()
    path = task.file.file_path.removeprefix("file://")
    pq.write_table(pq.read_table(path), path, use_deprecated_int96_timestamps=True, store_schema=False)
    if is_misread:
        with pytest.raises(Unsupported, match="which pyiceberg reads as others"):
            list(tables.adapter.diff(None, base))
    else:
        (row,) = [change for change in tables.adapter.diff(None, base) if change.aspect == "row"]
        assert row.after == {"id": 1, "at": [at.isoformat(), None]}
