"""Three-way merges of what a table says about itself: columns, partitions, properties."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plait.errors import InvalidArgument, Unsupported
from plait.types import Choice, ConflictKind, Depth, Json, Resolution, SnapshotRef
from plait_conformance.tables import (
    KEY,
    KEYED,
    LOOSE,
    Tables,
    append,
    correct,
    delete,
    order,
    ordered,
    read_back,
    static,
)
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
)


def add_column(name: str, kind: IcebergType) -> Callable[[Table], None]:
    def write(table: Table) -> None:
        with table.update_schema() as update:
            update.add_column(name, kind)

    return write


def evolve(change: Callable[[Any], object]) -> Callable[[Table], None]:
    def write(table: Table) -> None:
        with table.update_schema(allow_incompatible_changes=True) as update:
            change(update)

    return write


def set_property(name: str, value: str) -> Callable[[Table], object]:
    return lambda table: table.transaction().set_properties({name: value}).commit_transaction()


def remove_property(name: str) -> Callable[[Table], object]:
    return lambda table: table.transaction().remove_properties(name).commit_transaction()


def column_names(table: Table) -> list[str]:
    return [field.name for field in table.schema().fields]


def with_column(name: str, value: object, number: int) -> dict[str, Any]:
    return {**order(number), name: value}


def add_plain_file(path: Path, **columns: list[object]) -> Callable[[Table], None]:
    """A Parquet file without field ids, as engines add those of a table that was no Iceberg table before."""
    pq.write_table(pa.table(columns), path)
    return lambda table: table.add_files([str(path)])


# -- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
def test_columns_that_both_sides_added_are_both_there_with_their_values(tables: Tables, schema: Any) -> None:
    """Both sides give their column the same id: read by id alone, theirs' notes would land in ours' weights."""
    base = tables.create([order(1)], schema=schema)
    ours = tables.change(base, add_column("weight", LongType()), append(with_column("weight", 70, 2)))
    theirs = tables.change(base, add_column("note", StringType()), append(with_column("note", "soon", 3)))
    merged = tables.merged(base, ours, theirs)
    assert column_names(static(merged)) == ["id", "item", "price", "weight", "note"]
    assert read_back(merged) == ordered(
        [
            {**order(1), "weight": None, "note": None},
            {**order(2), "weight": 70, "note": None},
            {**order(3), "weight": None, "note": "soon"},
        ]
    )
    assert len({field.field_id for field in static(merged).schema().fields}) == 5


@pytest.mark.parametrize("since", ["base", "theirs"])
def test_names_of_files_without_ids_mean_the_same_columns_after_a_merge(
    tables: Tables, tmp_path: Path, since: str
) -> None:
    old = add_plain_file(tmp_path / "old.parquet", id=[4], item=["cap"])
    base = tables.create([order(1)], schema=LOOSE)
    base = tables.change(base, old) if since == "base" else base
    ours = tables.change(base, add_column("weight", LongType()), append(with_column("weight", 70, 2)))
    theirs = tables.change(base, add_column("note", LongType()), append(with_column("note", 30, 3)))
    theirs = theirs if since == "base" else tables.change(theirs, old)
    merged = tables.merged(base, ours, theirs)
    after = tables.change(merged, add_plain_file(tmp_path / "new.parquet", id=[5], item=["ink"], note=[50]))
    found = [(row["id"], row["item"], row["weight"], row["note"]) for row in read_back(after)]
    assert found == [
        (1, order(1)["item"], None, None),
        (2, order(2)["item"], 70, None),
        (3, order(3)["item"], None, 30),
        (4, "cap", None, None),
        (5, "ink", None, 50),
    ]


@pytest.mark.parametrize(
    "changed",
    ['[{"names":["thing"],"field-id":2}]', '[{"names":["item"]}]', "no JSON"],
    ids=["other", "none", "broken"],
)
def test_a_name_that_both_sides_give_to_different_columns_is_a_conflict(tables: Tables, changed: str) -> None:
    name = "schema.name-mapping.default"
    base = tables.create([order(1)])
    ours = tables.change(base, set_property(name, '[{"names":["thing"],"field-id":3}]'))
    theirs = tables.change(base, set_property(name, changed))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == f"property:{name}"


def test_the_same_column_added_by_both_sides_is_one_column(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("weight", LongType()), append(with_column("weight", 70, 2)))
    theirs = tables.change(
        base, add_column("note", StringType()), add_column("weight", LongType()), append(with_column("weight", 80, 3))
    )
    merged = tables.merged(base, ours, theirs)
    assert sorted(column_names(static(merged))) == ["id", "item", "note", "price", "weight"]
    assert [row["weight"] for row in read_back(merged)] == [None, 70, 80]


def test_one_name_of_two_types_is_a_conflict_on_the_column(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("due", DateType()))
    theirs = tables.change(base, add_column("due", StringType()))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("schema:due", ConflictKind.SCHEMA_CHANGED)
    merged = tables.merged(base, ours, theirs, Resolution(KEY, "schema:due", Choice.THEIRS))
    assert static(merged).schema().find_field("due").field_type == StringType()


def test_of_two_columns_that_take_one_name_the_chosen_side_has_it_and_neither_is_lost(tables: Tables) -> None:
    base = tables.create([order(1, "pen", 7)])
    ours = tables.change(base, evolve(lambda update: update.rename_column("price", "n")))
    theirs = tables.change(base, evolve(lambda update: update.rename_column("item", "n")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("schema:n", ConflictKind.SCHEMA_CHANGED)
    for choice, row in (
        (Choice.OURS, {"id": 1, "item": "pen", "n": 7}),
        (Choice.THEIRS, {"id": 1, "n": "pen", "price": 7}),
        (Choice.BASE, order(1, "pen", 7)),
    ):
        assert read_back(tables.merged(base, ours, theirs, Resolution(KEY, "schema:n", choice))) == [row]
    added = tables.change(base, add_column("n", LongType()), correct({**order(1, "pen", 7), "n": 5}))
    kept = tables.merged(base, added, theirs, Resolution(KEY, "schema:n", Choice.OURS))
    assert read_back(kept) == [{**order(1, "pen", 7), "n": 5}]


def test_a_dropped_column_comes_back_unasked_only_where_no_row_lost_it(tables: Tables) -> None:
    """As the revert of a drop does: base is the drop, and theirs what was before it."""
    before = tables.create([order(1), order(2)])
    drop = tables.change(before, evolve(lambda update: update.delete_column("item")))
    assert read_back(tables.merged(drop, drop, before)) == [order(1), order(2)]
    later = tables.change(drop, correct({"id": 2, "price": 5}))
    for ours, theirs, choice in ((later, before, Choice.THEIRS), (before, later, Choice.OURS)):
        (conflict,) = tables.conflicts(drop, ours, theirs)
        assert (conflict.item, conflict.kind) == ("schema:item", ConflictKind.SCHEMA_CHANGED)
        merged = tables.merged(drop, ours, theirs, Resolution(KEY, "schema:item", choice))
        assert read_back(merged) == [order(1, None), order(2, None, 5)]


def test_a_promotion_is_not_taken_back_from_under_the_rows_written_since(tables: Tables) -> None:
    """As the revert of one does: base is the promotion, and theirs what was before it."""
    narrow = type(KEYED)(
        *KEYED.fields[:2], NestedField(3, "price", IntegerType(), required=False), identifier_field_ids=[1]
    )
    before = tables.create([order(1)], schema=narrow)
    wide = tables.change(before, evolve(lambda update: update.update_column("price", LongType())))
    later = tables.change(wide, append(order(2, "cap", 2**40)))
    for ours, theirs in ((later, before), (before, later)):
        merged = tables.merged(wide, ours, theirs)
        assert read_back(merged) == [order(1), order(2, "cap", 2**40)]
        assert static(merged).schema().find_field("price").field_type == LongType()


def test_a_promotion_of_a_member_is_not_taken_back_either(tables: Tables) -> None:
    member = StructType(NestedField(3, "n", IntegerType(), required=False))
    parts = ListType(5, member, element_required=False)
    schema = type(KEYED)(KEYED.fields[0], NestedField(4, "parts", parts, required=False), identifier_field_ids=[1])
    before = tables.create([{"id": 1, "parts": [{"n": 1}]}], schema=schema)
    path = ("parts", "element", "n")
    wide = tables.change(before, evolve(lambda update: update.update_column(path, LongType())))
    later = tables.change(wide, append({"id": 2, "parts": [{"n": 2**40}]}))
    merged = tables.merged(wide, later, before)
    assert read_back(merged) == [{"id": 1, "parts": [{"n": 1}]}, {"id": 2, "parts": [{"n": 2**40}]}]


def test_of_two_promotions_the_wider_one_is_kept_whichever_is_chosen(tables: Tables) -> None:
    narrow = type(KEYED)(
        *KEYED.fields[:2], NestedField(3, "price", DecimalType(5, 2), required=False), identifier_field_ids=[1]
    )
    base = tables.create([], schema=narrow)
    row = {"id": 1, "item": None, "price": Decimal("123456789.00")}
    ours = tables.change(base, evolve(lambda update: update.update_column("price", DecimalType(9, 2))))
    theirs = tables.change(base, evolve(lambda update: update.update_column("price", DecimalType(12, 2))), append(row))
    for choice in (Choice.OURS, Choice.THEIRS, Choice.BASE):
        assert read_back(tables.merged(base, ours, theirs, Resolution(KEY, "schema:price", choice))) == [row]


def test_rows_changed_by_one_side_and_columns_by_the_other_meet(tables: Tables) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, add_column("weight", LongType()), correct({**order(2), "weight": 7}))
    for mine, others in ((ours, theirs), (theirs, ours)):
        rows = read_back(tables.merged(base, mine, others))
        assert rows == ordered([{**order(1, "cap"), "weight": None}, {**order(2), "weight": 7}])


def test_both_correct_rows_of_one_file_under_columns_of_their_own(tables: Tables) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours = tables.change(base, add_column("weight", LongType()), correct({**order(1), "weight": 5}))
    theirs = tables.change(base, add_column("note", StringType()), correct({**order(2), "note": "late"}))
    assert read_back(tables.merged(base, ours, theirs)) == ordered(
        [
            {**order(1), "weight": 5, "note": None},
            {**order(2), "weight": None, "note": "late"},
            {**order(3), "weight": None, "note": None},
        ]
    )


def test_a_rename_and_a_wider_type_of_one_column_are_both_kept(tables: Tables) -> None:
    narrow = type(KEYED)(
        *KEYED.fields[:2], NestedField(3, "price", IntegerType(), required=False), identifier_field_ids=[1]
    )
    base = tables.create([order(1)], schema=narrow)
    ours = tables.change(base, evolve(lambda update: update.rename_column("price", "amount")))
    theirs = tables.change(base, evolve(lambda update: update.update_column("price", LongType())), append(order(2)))
    merged = tables.merged(base, ours, theirs)
    assert static(merged).schema().find_field("amount").field_type == LongType()
    assert [row["amount"] for row in read_back(merged)] == [1, 1]


def test_two_renames_of_one_column_conflict(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, evolve(lambda update: update.rename_column("price", "amount")))
    theirs = tables.change(base, evolve(lambda update: update.rename_column("price", "cost")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.kind is ConflictKind.SCHEMA_CHANGED
    assert isinstance(conflict.theirs, dict)
    assert conflict.theirs["name"] == "cost"


def test_a_column_dropped_by_one_side_stays_dropped(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)))
    theirs = tables.change(base, evolve(lambda update: update.delete_column("price")))
    for mine, others in ((ours, theirs), (theirs, ours)):
        merged = tables.merged(base, mine, others)
        assert read_back(merged) == ordered([{"id": 1, "item": "pen"}, {"id": 2, "item": "pen"}])


def test_a_new_column_never_shows_the_values_of_one_that_was_dropped(tables: Tables) -> None:
    """Theirs adds a column, writes, and drops it again: its id is in files, but no current schema tells of it."""
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("weight", LongType()), append(with_column("weight", 70, 2)))
    theirs = tables.change(
        base,
        add_column("secret", LongType()),
        append(with_column("secret", 13, 3)),
        evolve(lambda update: update.delete_column("secret")),
    )
    merged = tables.merged(base, ours, theirs)
    assert column_names(static(merged)) == ["id", "item", "price", "weight"]
    assert [row["weight"] for row in read_back(merged)] == [None, 70, None]


def test_nested_columns_that_both_sides_added_keep_their_values(tables: Tables) -> None:
    place = StructType(NestedField(10, "city", StringType(), required=False))
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("ship_to", place), append({**order(2), "ship_to": {"city": "Turin"}}))
    theirs = tables.change(base, add_column("bill_to", place), append({**order(3), "bill_to": {"city": "Kyiv"}}))
    rows = {row["id"]: row for row in read_back(tables.merged(base, ours, theirs))}
    assert (rows[2]["ship_to"], rows[2]["bill_to"]) == ({"city": "Turin"}, None)
    assert (rows[3]["ship_to"], rows[3]["bill_to"]) == (None, {"city": "Kyiv"})


def grown(tables: Tables) -> tuple[SnapshotRef, SnapshotRef, SnapshotRef]:
    """A table, and two sides that each gave a column of their own the same id."""
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("weight", LongType()), append(with_column("weight", 70, 2)))
    theirs = tables.change(base, add_column("note", StringType()), append(with_column("note", "soon", 3)))
    return base, ours, theirs


def test_a_branch_with_columns_of_its_own_is_merged_again_and_again(tables: Tables) -> None:
    """Theirs goes on under its own ids; the merge base is then theirs as it was merged before."""
    base, ours, theirs = grown(tables)
    merged = tables.merged(base, ours, theirs)
    for number in range(4, 7):
        more = tables.change(
            theirs, append(with_column("note", "later", number)), correct(with_column("note", f"now {number}", 3))
        )
        merged = tables.merged(theirs, merged, more)
        theirs = more
    rows = {row["id"]: row for row in read_back(merged)}
    assert {number: row["note"] for number, row in rows.items()} == {
        1: None, 2: None, 3: "now 6", 4: "later", 5: "later", 6: "later",
    }  # fmt: skip
    assert {number: row["weight"] for number, row in rows.items() if row["weight"] is not None} == {2: 70}
    assert column_names(static(merged)) == ["id", "item", "price", "weight", "note"]


def test_the_merged_branch_is_merged_back_into_one_with_other_ids(tables: Tables) -> None:
    """Merge base: ours before; ours: it went on; theirs: the other branch, which holds ours under other ids."""
    base, ours, theirs = grown(tables)
    both = tables.merged(base, theirs, ours)
    onward = tables.change(ours, append(with_column("weight", 80, 4)))
    back = tables.change(both, append({**order(5), "note": "n", "weight": 90}))
    rows = {row["id"]: row for row in read_back(tables.merged(ours, onward, back))}
    assert {number: row["weight"] for number, row in rows.items()} == {1: None, 2: 70, 3: None, 4: 80, 5: 90}
    assert {number: row["note"] for number, row in rows.items()} == {1: None, 2: None, 3: "soon", 4: None, 5: "n"}


def test_a_diff_across_a_merge_knows_a_column_under_its_new_id(tables: Tables) -> None:
    base, ours, theirs = grown(tables)
    merged = tables.merged(base, ours, theirs)
    found = list(tables.adapter.diff(theirs, merged))
    assert [change.item for change in found if change.aspect == "schema"] == ["schema:weight"]
    assert [change.item for change in found if change.aspect == "row"] == ["id=2"]


def test_a_conflict_across_a_merge_is_told_with_the_values_of_the_right_column(tables: Tables) -> None:
    base, ours, theirs = grown(tables)
    merged = tables.merged(base, ours, theirs)
    ours = tables.change(merged, correct({**order(3), "note": "mine", "weight": 1}))
    more = tables.change(theirs, correct(with_column("note", "theirs", 3)))
    (conflict,) = tables.conflicts(theirs, ours, more)
    assert (conflict.item, conflict.base) == ("id=3", {**order(3), "note": "soon", "weight": None})
    assert conflict.ours == {**order(3), "note": "mine", "weight": 1}
    assert conflict.theirs == {**order(3), "note": "theirs", "weight": None}


def test_identifier_fields_set_by_one_side_are_kept(tables: Tables) -> None:
    required = type(LOOSE)(NestedField(1, "id", LongType(), required=True), *LOOSE.fields[1:])
    base = tables.create([order(1)], schema=required)
    ours = tables.change(base, append(order(2)))
    theirs = tables.change(base, evolve(lambda update: update.set_identifier_fields("id")))
    merged = tables.merged(base, ours, theirs)
    assert static(merged).schema().identifier_field_names() == {"id"}
    assert read_back(merged) == ordered([order(1), order(2)])


def test_a_column_made_required_conflicts_with_rows_that_may_lack_it(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, evolve(lambda update: update.update_column("item", required=True)))
    theirs = tables.change(base, append(order(2, None)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("schema:item", ConflictKind.SCHEMA_CHANGED)
    assert tables.merged(base, ours, theirs, Resolution(KEY, None, Choice.THEIRS)) == theirs


# -- partitions --------------------------------------------------------------------------------------------------------


def test_a_partition_spec_of_one_side_takes_the_files_of_the_other(tables: Tables) -> None:
    def partition(table: Table) -> None:
        with table.update_spec() as update:
            update.add_field("item", IdentityTransform(), "item_part")

    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2, "ink")))
    theirs = tables.change(base, partition, append(order(3, "cap")))
    for mine, others in ((ours, theirs), (theirs, ours)):
        merged = tables.merged(base, mine, others)
        assert [field.name for field in static(merged).spec().fields] == ["item_part"]
        assert read_back(merged) == ordered([order(1), order(2, "ink"), order(3, "cap")])
        more = tables.change(merged, append(order(4, "nib")))
        assert static(more).scan(row_filter="item = 'nib'").to_arrow().num_rows == 1


def test_two_partition_specs_conflict_and_one_is_chosen(tables: Tables) -> None:
    def partition(column: str) -> Callable[[Table], None]:
        def write(table: Table) -> None:
            with table.update_spec() as update:
                update.add_field(column, IdentityTransform(), f"{column}_part")

        return write

    base = tables.create([order(1)])
    ours = tables.change(base, partition("item"), append(order(2, "ink")))
    theirs = tables.change(base, partition("price"), append(order(3, "cap", 9)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == "partition"
    for choice, name in ((Choice.OURS, "item_part"), (Choice.THEIRS, "price_part")):
        merged = tables.merged(base, ours, theirs, Resolution(KEY, "partition", choice))
        assert [field.name for field in static(merged).spec().fields] == [name]
        assert read_back(merged) == ordered([order(1), order(2, "ink"), order(3, "cap", 9)])


@pytest.mark.parametrize("item", ["partition", "sort"])
@pytest.mark.parametrize("dropping", [Choice.OURS, Choice.THEIRS])
def test_what_needs_a_column_that_the_other_side_dropped_conflicts(tables: Tables, item: str, dropping: Choice) -> None:
    def define(table: Table) -> None:
        if item == "sort":
            with table.update_sort_order() as order_update:
                order_update.asc("item", IdentityTransform())
        else:
            with table.update_spec() as update:
                update.add_field("item", IdentityTransform(), "item_part")

    base = tables.create([order(1)])
    defining = tables.change(base, define)
    without = tables.change(base, evolve(lambda update: update.delete_column("item")))
    ours, theirs = (without, defining) if dropping is Choice.OURS else (defining, without)
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, "'item'" in conflict.detail) == (item, True)
    other = Choice.THEIRS if dropping is Choice.OURS else Choice.OURS
    (again,) = tables.conflicts(base, ours, theirs, Resolution(KEY, item, other))
    assert again == conflict
    for choice in (dropping, Choice.BASE):
        merged = static(tables.merged(base, ours, theirs, Resolution(KEY, item, choice)))
        assert (merged.spec().fields, merged.sort_order().fields) == ((), [])
        assert merged.schema().column_names == ["id", "price"]


# -- properties --------------------------------------------------------------------------------------------------------


def test_properties_merge_one_by_one(tables: Tables) -> None:
    base = tables.create([order(1)], properties={"owner": "ada", "tier": "1"})
    ours = tables.change(base, set_property("owner", "grace"), set_property("a", "1"))
    theirs = tables.change(base, remove_property("tier"), set_property("b", "2"))
    properties = static(tables.merged(base, ours, theirs)).properties
    assert properties == {"owner": "grace", "a": "1", "b": "2", "gc.enabled": "false"}


@pytest.mark.parametrize(
    ("choice", "value", "expected"),
    [
        (Choice.OURS, None, "grace"),
        (Choice.THEIRS, None, None),
        (Choice.BASE, None, "ada"),
        (Choice.VALUE, "both", "both"),
        (Choice.VALUE, None, None),
    ],
)
def test_a_property_that_both_changed_is_settled_as_decided(
    tables: Tables, choice: Choice, value: Json, expected: str | None
) -> None:
    base = tables.create([order(1)], properties={"owner": "ada"})
    ours = tables.change(base, set_property("owner", "grace"))
    theirs = tables.change(base, remove_property("owner"), append(order(2)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.base, conflict.ours, conflict.theirs) == ("property:owner", "ada", "grace", None)
    merged = tables.merged(base, ours, theirs, Resolution(KEY, "property:owner", choice, value))
    assert static(merged).properties.get("owner") == expected
    assert read_back(merged) == ordered([order(1), order(2)])


def test_a_column_cannot_be_resolved_by_a_value(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, add_column("due", DateType()))
    theirs = tables.change(base, add_column("due", StringType()))
    before = {path for path in warehouse.rglob("*") if path.is_file()}
    with pytest.raises(InvalidArgument, match="cannot be resolved by a value"):
        tables.merged(base, ours, theirs, Resolution(KEY, "schema:due", Choice.VALUE, "date"))
    with pytest.raises(InvalidArgument, match="cannot be resolved by a value"):
        tables.merged(base, ours, theirs, Resolution(KEY, None, Choice.VALUE, "date"))
    assert {path for path in warehouse.rglob("*") if path.is_file()} == before


def test_all_sorts_of_conflicts_are_told_at_once(tables: Tables) -> None:
    base = tables.create([order(1)], properties={"owner": "ada"})
    ours = tables.change(base, set_property("owner", "grace"), add_column("due", DateType()))
    theirs = tables.change(base, set_property("owner", "joan"), add_column("due", StringType()))
    assert [conflict.item for conflict in tables.conflicts(base, ours, theirs)] == ["schema:due", "property:owner"]


def test_rows_arrive_under_the_merged_schema_whatever_order_columns_have(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, evolve(lambda update: update.move_first("price")))
    theirs = tables.change(base, append(order(2)), delete("id = 1"))
    merged = tables.merged(base, ours, theirs)
    assert column_names(static(merged)) == ["price", "id", "item"]
    assert read_back(merged) == [{"price": 1, "id": 2, "item": "pen"}]


# -- refs and formats inside the table ---------------------------------------------------------------------------------


def tag(name: str) -> Callable[[Table], None]:
    def write(table: Table) -> None:
        current = table.current_snapshot()
        assert current is not None
        table.manage_snapshots().create_tag(current.snapshot_id, name).commit()

    return write


def test_a_tag_inside_the_table_comes_along_where_ours_has_its_snapshot(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)))
    theirs = tables.change(base, tag("audited"), append(order(3)))
    merged = static(tables.merged(base, ours, theirs))
    tagged = merged.snapshot_by_name("audited")
    assert tagged is not None
    assert merged.scan(snapshot_id=tagged.snapshot_id).to_arrow().to_pylist() == [order(1)]


def test_a_tag_on_a_snapshot_that_ours_cannot_have_is_refused_before_anything_is_written(
    tables: Tables, warehouse: Path
) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)))
    theirs = tables.change(base, append(order(3)), tag("audited"))
    before = {path for path in warehouse.rglob("*") if path.is_file()}
    with pytest.raises(Unsupported, match="audited"):
        tables.merged(base, ours, theirs)
    assert {path for path in warehouse.rglob("*") if path.is_file()} == before


def expire_all_but_the_current(table: Table) -> None:
    current = table.current_snapshot()
    old = [one.snapshot_id for one in table.snapshots() if current is None or one.snapshot_id != current.snapshot_id]
    table.maintenance.expire_snapshots().by_ids(old).commit()


@pytest.mark.parametrize("expiring", ["ours", "theirs", "both"])
def test_snapshots_that_a_side_expired_are_in_nobodys_way(tables: Tables, expiring: str) -> None:
    """The history keeps them: older versions list them still, and name all their files."""
    base = tables.change(tables.create([order(1)]), append(order(2)), append(order(3)))
    also: list[Callable[[Table], None]] = [expire_all_but_the_current]
    ours = tables.change(base, append(order(4)), *(also if expiring != "theirs" else []))
    theirs = tables.change(base, correct({**order(2), "price": 7}), *(also if expiring != "ours" else []))
    merged = tables.merged(base, ours, theirs)
    assert read_back(merged) == ordered([order(1), {**order(2), "price": 7}, order(3), order(4)])
    assert len(static(merged).snapshots()) == len(static(ours).snapshots()) + 1
    for version in (base, ours, theirs, merged):
        assert tables.adapter.verify(version, Depth.BYTES).problems == ()
    assert [one.snapshot_id for one in static(base).snapshots()] != [
        one.snapshot_id for one in static(ours).snapshots()
    ]
    assert read_back(base) == ordered([order(1), order(2), order(3)])


def test_a_table_of_format_version_1_is_written_and_read_but_not_merged(tables: Tables) -> None:
    base = tables.create([order(1)], schema=LOOSE, properties={"format-version": "1"})
    ours, theirs = tables.change(base, append(order(2))), tables.change(base, append(order(3)))
    assert read_back(ours) == ordered([order(1), order(2)])
    assert len([change for change in tables.adapter.diff(base, ours) if change.aspect == "row"]) == 1
    with pytest.raises(Unsupported, match="format version 1"):
        tables.merged(base, ours, theirs)
