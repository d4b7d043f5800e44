"""Three-way merges of rows: replayed by files where that is exact, joined by identifier fields where sides met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plait.errors import InvalidArgument
from plait.types import Choice, ConflictKind, Json, Resolution, SnapshotRef
from plait_conformance.tables import (
    KEY,
    KEYED,
    LOOSE,
    Rows,
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
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, Transform, TruncateTransform


def resolve(choice: Choice, item: str | None = None, value: Json = None) -> Resolution:
    return Resolution(KEY, item, choice, value)


def replace(row: dict[str, Any]) -> Callable[[Table], None]:
    """As `correct`, also without identifiers."""
    return lambda table: table.overwrite(batch(table, [row]), f"id = {row['id']}")


def data_files(snapshot: SnapshotRef) -> set[str]:
    return {task.file.file_path for task in static(snapshot).scan().plan_files()}


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
def test_appends_of_both_sides_are_all_kept_and_no_file_is_written_anew(tables: Tables, schema: Any) -> None:
    base = tables.create([order(1)], schema=schema)
    ours = tables.change(base, append(order(2)), append(order(3)))
    theirs = tables.change(base, append(order(4)), append(order(5)))
    merged = tables.merged(base, ours, theirs)
    assert read_back(merged) == ordered(order(number) for number in range(1, 6))
    assert data_files(merged) == data_files(ours) | data_files(theirs)


def test_a_merged_table_can_be_written_and_merged_again(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)))
    theirs = tables.change(base, append(order(3)))
    merged = tables.merged(base, ours, theirs)
    more = tables.change(merged, append(order(4)), delete("id = 3"), correct(order(2, "cap")))
    theirs_again = tables.change(theirs, append(order(5)))
    assert read_back(tables.merged(theirs, more, theirs_again)) == ordered(
        [order(1), order(2, "cap"), order(4), order(5)]
    )


def test_equal_rows_of_both_sides_are_two_rows_without_identifiers_and_one_with(tables: Tables) -> None:
    for schema, expected in ((LOOSE, [order(1), order(2), order(2)]), (KEYED, [order(1), order(2)])):
        key = ("lake", "t", str(len(expected)))
        base = tables.create([order(1)], schema=schema, key=key)
        ours = tables.change(base, append(order(2)), key=key)
        theirs = tables.change(base, append(order(2)), key=key)
        assert read_back(tables.merged(base, ours, theirs)) == ordered(expected)


def test_the_snapshot_log_of_ours_stays_and_one_snapshot_is_added(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)), append(order(3)))
    theirs = tables.change(base, append(order(4)))
    merged = static(tables.merged(base, ours, theirs))
    log = [entry.snapshot_id for entry in merged.history()]
    assert log[:-1] == [entry.snapshot_id for entry in static(ours).history()]
    current = merged.current_snapshot()
    assert current is not None
    assert log[-1] == current.snapshot_id
    assert current.parent_snapshot_id == log[-2]
    assert current.summary is not None
    theirs_snapshot = static(theirs).current_snapshot()
    assert theirs_snapshot is not None
    assert current.summary["plait.merged-snapshot"] == str(theirs_snapshot.snapshot_id)
    assert current.summary["total-records"] == "4"
    assert current.summary["total-data-files"] == "4"


def test_deletes_of_whole_files_and_appends_meet_without_a_conflict(tables: Tables) -> None:
    base = tables.create([order(1)], schema=LOOSE)
    base = tables.change(base, append(order(2)), append(order(3)))
    ours = tables.change(base, delete("id = 1"), append(order(4)))
    theirs = tables.change(base, delete("id = 2"), append(order(5)))
    assert read_back(tables.merged(base, ours, theirs)) == ordered([order(3), order(4), order(5)])


def test_both_delete_the_same_file_is_no_conflict(tables: Tables) -> None:
    for schema in (KEYED, LOOSE):
        key = ("lake", "t", "loose" if schema is LOOSE else "keyed")
        base = tables.create([order(1)], schema=schema, key=key)
        base = tables.change(base, append(order(2)), key=key)
        ours = tables.change(base, delete("id = 1"), key=key)
        theirs = tables.change(base, delete("id = 1"), key=key)
        assert read_back(tables.merged(base, ours, theirs)) == [order(2)]


def test_rows_are_merged_as_parquet_in_a_table_whose_engine_writes_another_format(tables: Tables) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours = tables.change(base, correct(order(1, "cap")))
    orc = {"write.format.default": "orc"}
    theirs = tables.change(
        base, correct(order(2, "ink")), lambda table: table.transaction().set_properties(orc).commit_transaction()
    )
    for mine, others in ((ours, theirs), (theirs, ours)):
        merged = tables.merged(base, mine, others)
        assert read_back(merged) == ordered([order(1, "cap"), order(2, "ink"), order(3)])
        assert static(merged).properties["write.format.default"] == "orc"


def test_partitions_are_merged_and_stay_pruned(tables: Tables) -> None:
    spec = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=IdentityTransform(), name="item"))
    base = tables.create([order(1, "pen"), order(2, "ink")], partition_spec=spec)
    ours = tables.change(base, append(order(3, "pen")))
    theirs = tables.change(base, correct(order(2, "ink", 5)), append(order(4, "cap")))
    merged = tables.merged(base, ours, theirs)
    expected = [order(1, "pen"), order(2, "ink", 5), order(3, "pen"), order(4, "cap")]
    assert read_back(merged) == ordered(expected)
    pens = list(static(merged).scan(row_filter="item = 'pen'").plan_files())
    assert {str(task.file.partition[0]) for task in pens} == {"pen"}


@pytest.mark.parametrize("transform", [BucketTransform(2), TruncateTransform(100)])
def test_rows_merge_where_partitions_are_of_what_is_computed(tables: Tables, transform: Transform[Any, Any]) -> None:
    spec = PartitionSpec(PartitionField(source_id=1, field_id=1000, transform=transform, name="part"))
    base = tables.create([order(n) for n in range(1, 9)], partition_spec=spec)
    ours, theirs = (tables.change(base, correct(order(n, "cap"))) for n in (1, 2))
    merged = tables.merged(base, ours, theirs)
    assert read_back(merged) == ordered([order(n, "cap" if n < 3 else "pen") for n in range(1, 9)])


def test_a_compaction_of_theirs_loses_no_correction_of_ours(tables: Tables) -> None:
    def compact(table: Table) -> None:
        table.overwrite(table.scan().to_arrow())

    base = tables.create([order(1), order(2)])
    base = tables.change(base, append(order(3)))
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, compact)
    assert read_back(tables.merged(base, ours, theirs)) == ordered([order(1, "cap"), order(2), order(3)])
    assert read_back(tables.merged(base, theirs, ours)) == ordered([order(1, "cap"), order(2), order(3)])


def test_theirs_changed_nothing_that_ours_lacks_is_ours(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, correct(order(1, "cap")), append(order(2)))
    theirs = tables.change(base, correct(order(1, "cap")))
    assert tables.merged(base, ours, theirs) == ours


# -- rows --------------------------------------------------------------------------------------------------------------


def test_different_rows_corrected_in_one_file_are_both_kept(tables: Tables) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(2, "ink")), append(order(4)))
    for mine, others in ((ours, theirs), (theirs, ours)):
        merged = tables.merged(base, mine, others)
        assert read_back(merged) == ordered([order(1, "cap"), order(2, "ink"), order(3), order(4)])


def test_only_the_files_that_hold_a_changed_row_are_written_anew(tables: Tables) -> None:
    base = tables.create([order(1), order(2)])
    base = tables.change(base, append(order(3)), append(order(4)))
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(2, "ink")))
    merged = tables.merged(base, ours, theirs)
    assert read_back(merged) == ordered([order(1, "cap"), order(2, "ink"), order(3), order(4)])
    assert len(data_files(merged) & data_files(base)) == 2


def test_a_row_that_both_changed_is_a_conflict_with_its_three_values(tables: Tables) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours = tables.change(base, correct(order(2, "cap"), order(3, "cap")))
    theirs = tables.change(base, correct(order(2, "ink"), order(3, "ink"), order(1, "ink")))
    two, three = tables.conflicts(base, ours, theirs)
    assert (two.item, three.item) == ("id=2", "id=3")
    assert two.kind is ConflictKind.ITEM_CHANGED
    assert (two.base, two.ours, two.theirs) == (order(2), order(2, "cap"), order(2, "ink"))


def test_a_row_that_both_changed_alike_is_no_conflict(tables: Tables) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(1, "cap"), order(2, "ink")))
    assert read_back(tables.merged(base, ours, theirs)) == ordered([order(1, "cap"), order(2, "ink")])


def test_both_add_a_row_of_one_identifier(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2, "cap")))
    theirs = tables.change(base, append(order(2, "ink"), order(3)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.base, conflict.ours, conflict.theirs) == (
        "id=2",
        None,
        order(2, "cap"),
        order(2, "ink"),
    )
    merged = tables.merged(base, ours, theirs, resolve(Choice.THEIRS, "id=2"))
    assert read_back(merged) == ordered([order(1), order(2, "ink"), order(3)])


@pytest.mark.parametrize("deleted_by_ours", [True, False])
def test_delete_against_update_is_a_conflict_on_the_row(tables: Tables, deleted_by_ours: bool) -> None:
    base = tables.create([order(1), order(2)])
    deleted = tables.change(base, delete("id = 1"))
    updated = tables.change(base, correct(order(1, "ink")))
    ours, theirs = (deleted, updated) if deleted_by_ours else (updated, deleted)
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.base) == ("id=1", order(1))
    assert (conflict.ours, conflict.theirs) == ((None, order(1, "ink")) if deleted_by_ours else (order(1, "ink"), None))
    kept = ordered([order(1, "ink"), order(2)])
    answers = {
        choice: read_back(tables.merged(base, ours, theirs, resolve(choice, "id=1")))
        for choice in (Choice.OURS, Choice.THEIRS, Choice.BASE)
    }
    assert answers == {
        Choice.OURS: [order(2)] if deleted_by_ours else kept,
        Choice.THEIRS: kept if deleted_by_ours else [order(2)],
        Choice.BASE: ordered([order(1), order(2)]),
    }


CORRECTED: dict[Choice, Rows] = {
    Choice.OURS: [order(1, "cap"), order(2, "ink")],
    Choice.THEIRS: [order(1, "nib"), order(2, "ink")],
    Choice.BASE: [order(1), order(2, "ink")],
}


@pytest.mark.parametrize("item", ["id=1", None])
@pytest.mark.parametrize("choice", list(CORRECTED))
def test_a_conflict_is_settled_for_its_row_or_for_all(tables: Tables, choice: Choice, item: str | None) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(1, "nib"), order(2, "ink")))
    # What did not conflict is merged whatever was decided for the conflict.
    assert read_back(tables.merged(base, ours, theirs, resolve(choice, item))) == ordered(CORRECTED[choice])


def test_a_conflict_is_settled_by_a_row_of_the_users(tables: Tables) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap", 5)))
    theirs = tables.change(base, correct(order(1, "nib", 7), order(2, "ink")))
    value: Json = {"id": 1, "item": "cap", "price": 7}
    merged = tables.merged(base, ours, theirs, resolve(Choice.VALUE, "id=1", value))
    assert read_back(merged) == ordered([order(1, "cap", 7), order(2, "ink")])
    gone = tables.merged(base, ours, theirs, resolve(Choice.VALUE, "id=1", None))
    assert read_back(gone) == [order(2, "ink")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cap", "is no row"),
        ({"id": 2}, "another key, id=2"),
        ({"id": 1, "colour": "red"}, "no column 'colour'"),
        ({"id": 1, "price": "much"}, "column 'price' cannot hold"),
        ({"id": 1, "price": 2**70}, "column 'price' cannot hold"),
        ({"item": "cap"}, "without 'id', which the table requires"),
    ],
)
def test_a_value_that_fits_no_row_is_refused_and_nothing_is_written(
    tables: Tables, warehouse: Path, value: Json, message: str
) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(1, "nib")))
    before = files_below(warehouse)
    with pytest.raises(InvalidArgument, match=message):
        tables.merged(base, ours, theirs, resolve(Choice.VALUE, "id=1", value))
    assert files_below(warehouse) == before


def test_some_conflicts_settled_leaves_the_others(tables: Tables) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap"), order(2, "cap")))
    theirs = tables.change(base, correct(order(1, "nib"), order(2, "nib")))
    (left,) = tables.conflicts(base, ours, theirs, resolve(Choice.OURS, "id=1"))
    assert left.item == "id=2"


def test_rewritten_files_without_identifiers_are_one_conflict_on_the_table(tables: Tables) -> None:
    base = tables.create([order(1), order(2)], schema=LOOSE)
    ours = tables.change(base, delete("id = 1"))
    theirs = tables.change(base, delete("id = 2"))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item is None
    assert "identifier" in conflict.detail
    assert tables.merged(base, ours, theirs, resolve(Choice.OURS)) == ours
    assert tables.merged(base, ours, theirs, resolve(Choice.THEIRS)) == theirs
    assert tables.merged(base, ours, theirs, resolve(Choice.BASE)) == base


# -- what the sides have of each other ---------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
@pytest.mark.parametrize(
    ("edit", "left"),
    [
        (append(order(5)), [order(1), order(2), order(5)]),
        (delete("id = 1"), [order(2)]),
        (delete("id > 0"), []),
        (replace(order(1, "cap")), [order(1, "cap"), order(2)]),
    ],
    ids=["append", "delete", "delete all", "replace"],
)
def test_what_was_cherry_picked_before_comes_once(
    tables: Tables, schema: Any, edit: Callable[[Table], None], left: Rows
) -> None:
    base = tables.create([order(1), order(2)], schema=schema)
    edited = tables.change(base, edit)
    ours = tables.merged(base, tables.change(base, append(order(3))), edited)
    theirs = tables.change(edited, append(order(4)))
    for mine, others in ((ours, theirs), (theirs, ours)):
        merged = tables.merged(base, mine, others)
        assert read_back(merged) == ordered([*left, order(3), order(4)])
        assert len(data_files(merged)) == len(data_files(ours)) + 1


def test_what_was_cherry_picked_and_rewritten_since_is_a_conflict_without_identifiers(tables: Tables) -> None:
    base = tables.create([order(1), order(2)], schema=LOOSE)
    edited = tables.change(base, delete("id = 1"))
    ours = tables.change(tables.merged(base, tables.change(base, append(order(3))), edited), replace(order(2, "cap")))
    theirs = tables.change(edited, append(order(4)))
    for mine, others in ((ours, theirs), (theirs, ours)):
        (conflict,) = tables.conflicts(base, mine, others)
        assert conflict.item is None


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
def test_what_both_sides_reverted_is_gone(tables: Tables, schema: Any) -> None:
    before = tables.create([order(1)], schema=schema)
    base = tables.change(before, append(order(2)))
    ours = tables.merged(base, tables.change(base, append(order(3))), before)
    theirs = tables.change(before, append(order(4)))
    for mine, others in ((ours, theirs), (theirs, ours)):
        assert read_back(tables.merged(base, mine, others)) == ordered([order(1), order(3), order(4)])


def test_rows_that_both_sides_replaced_whole_files_of_are_a_conflict_without_identifiers(tables: Tables) -> None:
    base = tables.create([order(1)], schema=LOOSE)
    ours = tables.change(base, replace(order(1, "cap")), append(order(2)))
    theirs = tables.change(base, replace(order(1, "ink")), append(order(3)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item is None
    gone = tables.change(base, delete("id = 1"))
    (conflict,) = tables.conflicts(base, ours, tables.change(gone, append(order(3))))
    assert conflict.item is None


def test_identifiers_of_several_columns_name_rows_and_conflicts(tables: Tables) -> None:
    schema = KEYED.model_copy(deep=True)
    schema = type(schema)(
        *(field.model_copy(update={"required": field.name != "price"}) for field in schema.fields),
        identifier_field_ids=[1, 2],
    )
    base = tables.create([order(1, "a,b"), order(1, "pen"), order(2, "pen")], schema=schema)
    ours = tables.change(base, correct(order(1, "a,b", 5), order(2, "pen", 5)))
    theirs = tables.change(base, correct(order(1, "a,b", 7), order(1, "pen", 7)))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == 'id=1,item="a,b"'
    merged = tables.merged(base, ours, theirs, resolve(Choice.THEIRS, 'id=1,item="a,b"'))
    assert read_back(merged) == ordered([order(1, "a,b", 7), order(1, "pen", 7), order(2, "pen", 5)])


def test_different_tables_under_one_key_are_taken_whole(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, append(order(2)))
    other = tables.create([order(3)])
    for merge_base in (base, None):
        (conflict,) = tables.conflicts(merge_base, ours, other)
        assert conflict.item is None
        assert tables.merged(merge_base, ours, other, resolve(Choice.THEIRS)) == other


# -- repetition --------------------------------------------------------------------------------------------------------


def test_merge_twice_is_one_answer_and_writes_nothing_more(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(2, "ink")))

    def merge(attempt: int = 1) -> object:
        return tables.adapter.merge("tx-m", attempt, base=base, ours=ours, theirs=theirs)

    first = merge()
    before = files_below(warehouse)
    assert merge() == first
    assert files_below(warehouse) == before
    assert merge(attempt=2) != first


def test_other_resolutions_are_another_answer(tables: Tables) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(1, "nib")))
    found = [
        tables.adapter.merge("tx-m", 1, base=base, ours=ours, theirs=theirs, resolutions=[resolve(choice, "id=1")])
        for choice in (Choice.BASE, Choice.THEIRS, Choice.BASE)
    ]
    assert found[0] == found[2] != found[1]


def test_conflicts_are_found_again_the_same_and_nothing_is_written(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(1, "nib")))
    before = files_below(warehouse)
    assert tables.conflicts(base, ours, theirs) == tables.conflicts(base, ours, theirs)
    assert files_below(warehouse) == before


def test_revert_is_a_merge_with_base_and_theirs_swapped(tables: Tables) -> None:
    first = tables.create([order(1), order(2)])
    second = tables.change(first, correct(order(1, "cap")), append(order(3)))
    third = tables.change(second, correct(order(2, "ink")), append(order(4)))
    reverted = tables.merged(second, third, first)
    assert read_back(reverted) == ordered([order(1), order(2, "ink"), order(4)])


# -- any history -------------------------------------------------------------------------------------------------------

_edits = st.dictionaries(st.integers(0, 5), st.one_of(st.none(), st.sampled_from(["pen", "ink", "cap"])), max_size=4)
"""id → the item that it gets, None: the row is deleted."""


def _apply(rows: dict[int, str], edits: dict[int, str | None]) -> dict[int, str]:
    merged = {**rows, **edits}
    return {number: item for number, item in merged.items() if item is not None}


def _write(rows: dict[int, str], edits: dict[int, str | None]) -> list[Any]:
    gone = [number for number, item in edits.items() if item is None and number in rows]
    fixed = [order(number, item) for number, item in edits.items() if item is not None and number in rows]
    new = [order(number, item) for number, item in edits.items() if item is not None and number not in rows]
    writes: list[Any] = []
    if gone:
        writes.append(delete(f"id in ({', '.join(map(str, gone))})"))
    if fixed:
        writes.append(correct(*fixed))
    if new:
        writes.append(append(*new))
    return writes


@pytest.mark.slow
@settings(max_examples=8, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ours=_edits, theirs=_edits)
def test_a_merge_equals_the_merge_of_plain_dictionaries(
    tables: Tables, ours: dict[int, str | None], theirs: dict[int, str | None]
) -> None:
    before = {0: "nib", 1: "nib", 2: "nib", 3: "nib"}
    base = tables.create([order(0, "nib"), order(1, "nib")])
    base = tables.change(base, append(order(2, "nib"), order(3, "nib")))
    mine, others = _apply(before, ours), _apply(before, theirs)
    numbers = range(6)
    clashing = [
        number
        for number in numbers
        if mine.get(number) != others.get(number) and before.get(number) not in (mine.get(number), others.get(number))
    ]
    left = tables.change(base, *_write(before, ours))
    right = tables.change(base, *_write(before, theirs))
    if clashing:
        found = tables.conflicts(base, left, right)
        assert [conflict.item for conflict in found] == [f"id={number}" for number in clashing]
    taken = {
        number: others.get(number) if mine.get(number) == before.get(number) else mine.get(number) for number in numbers
    }
    merged = tables.merged(base, left, right, *(resolve(Choice.OURS, f"id={number}") for number in clashing))
    assert read_back(merged) == ordered(order(number, item) for number, item in taken.items() if item is not None)


# -- keys that several rows have ---------------------------------------------------------------------------------------


def test_rows_that_share_a_key_with_a_changed_one_stay(tables: Tables) -> None:
    base = tables.create([order(1, "a"), order(1, "b"), order(1, "c"), order(2)])
    ours = tables.change(base, correct(order(2, "cap")))
    theirs = tables.change(base, delete("id == 1 and item in ('a', 'b')"))
    assert read_back(tables.merged(base, ours, theirs)) == ordered([order(1, "c"), order(2, "cap")])
    assert read_back(tables.merged(base, theirs, ours)) == ordered([order(1, "c"), order(2, "cap")])


def test_different_rows_of_one_key_that_both_sides_deleted_are_a_conflict(tables: Tables) -> None:
    base = tables.create([order(1, "a"), order(1, "b"), order(1, "c")])
    ours, theirs = (tables.change(base, delete(f"id == 1 and item == '{item}'")) for item in "ab")
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("id=1", ConflictKind.CONSTRAINT)
    for choice, items in ((Choice.OURS, "bc"), (Choice.THEIRS, "ac"), (Choice.BASE, "abc")):
        merged = tables.merged(base, ours, theirs, resolve(choice, "id=1"))
        assert read_back(merged) == [order(1, item) for item in items]
    given: Json = {"id": 1, "item": "new", "price": 1}
    merged = tables.merged(base, ours, theirs, resolve(Choice.VALUE, "id=1", given))
    assert read_back(merged) == [order(1, "c"), order(1, "new")]
