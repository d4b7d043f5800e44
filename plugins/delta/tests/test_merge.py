"""Three-way merges: by files, by rows, of schemas and properties; conflicts and their resolutions."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from plait.errors import InvalidArgument
from plait.types import Choice, Conflicted, ConflictKind, Merged, Resolution, SnapshotRef
from plait_conformance.delta_tables import ROWS, Tables, Write, append, batch, correct, delete, ordered, row
from plait_delta import DeltaAdapter

pytestmark = pytest.mark.parametrize(
    "tables", ["folder", pytest.param("seaweedfs", marks=pytest.mark.s3server)], indirect=True
)


def all_files(tables: Tables) -> list[str]:
    layout = cast(DeltaAdapter, tables.adapter)._layout
    return [place for place, _ in layout.files.below(layout.path)]


def data_files(tables: Tables) -> set[str]:
    return {place.rpartition("/")[2] for place in all_files(tables) if place.endswith(".parquet")}


def item(name: str | None, choice: Choice, value: Any = None) -> Resolution:
    return Resolution((), name, choice, value)


def set_properties(**properties: str) -> Write:
    named = {name.replace("__", "."): value for name, value in properties.items()}
    return lambda table: table.alter.set_table_properties(named, raise_if_not_exists=False)


def add_column(name: str, kind: str = "string") -> Write:
    def write(table: Any) -> None:
        from deltalake import Field
        from deltalake.schema import PrimitiveType

        table.alter.add_columns([Field(name, PrimitiveType(kind))])

    return write


@pytest.mark.parametrize("keyed", [True, False])
def test_appends_of_both_sides_are_joined_without_reading_or_copying(tables: Tables, keyed: bool) -> None:
    base = tables.create([row(1)], keyed=keyed)
    ours = tables.change(base, append(row(2)))
    theirs = tables.change(base, append(row(3)))
    before = data_files(tables)
    merged = tables.merged(base, ours, theirs)
    assert tables.read(merged) == ordered([row(1), row(2), row(3)])
    assert data_files(tables) == before


def test_files_that_one_side_took_away_are_gone(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)], keyed=False), append(row(2)))
    ours = tables.change(base, append(row(3)))
    theirs = tables.change(base, delete("id = 1"))
    assert tables.read(tables.merged(base, ours, theirs)) == ordered([row(2), row(3)])
    assert tables.read(tables.merged(base, theirs, ours)) == ordered([row(2), row(3)])


def test_a_file_that_one_side_dropped_and_the_other_rewrote_is_dropped(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)]), append(row(2), row(3)))
    ours = tables.change(base, lambda table: table.optimize.compact())
    theirs = tables.change(base, delete("id > 1"))
    assert tables.read(tables.merged(base, ours, theirs)) == [row(1)]
    assert tables.read(tables.merged(base, theirs, ours)) == [row(1)]


def test_without_keys_a_file_that_one_side_dropped_and_the_other_rewrote_is_a_conflict(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)], keyed=False), append(row(2), row(3)))
    ours = tables.change(base, lambda table: table.optimize.compact())
    theirs = tables.change(base, delete("id > 1"))
    for sides in ((ours, theirs), (theirs, ours)):
        (conflict,) = tables.conflicts(base, *sides)
        assert (conflict.item, conflict.kind) == (None, ConflictKind.ITEM_CHANGED)


def test_without_keys_a_side_that_was_made_on_top_of_the_other_is_the_merge(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)], keyed=False), append(row(2), row(3)))
    below = tables.change(base, delete("id = 2"), append(row(4)))
    above = tables.change(below, append(row(5)), delete("id = 1"))
    expected = ordered([row(3), row(4), row(5)])
    assert tables.read(tables.merged(base, below, above)) == expected
    assert tables.read(tables.merged(base, above, below)) == expected


def test_rows_of_one_file_changed_on_both_sides_are_joined_by_key(tables: Tables) -> None:
    base = tables.create([row(number) for number in range(1, 7)])
    ours = tables.change(base, correct(row(1, "cap")), delete("id = 3"), append(row(7)))
    theirs = tables.change(base, correct(row(2, "ink")), delete("id = 4"), append(row(8)))
    merged = tables.merged(base, ours, theirs)
    expected = [row(1, "cap"), row(2, "ink"), row(5), row(6), row(7), row(8)]
    assert tables.read(merged) == ordered(expected)


def test_equal_changes_of_one_row_are_no_conflict(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    ours = tables.change(base, correct(row(1, "cap")))
    theirs = tables.change(base, correct(row(1, "cap")), correct(row(2, "ink")))
    assert tables.read(tables.merged(base, ours, theirs)) == ordered([row(1, "cap"), row(2, "ink")])


def test_a_row_changed_on_both_sides_is_a_conflict_that_is_settled_by_item(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    ours = tables.change(base, correct(row(1, "cap")))
    theirs = tables.change(base, correct(row(1, "ink"), row(2, "ink")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("id=1", ConflictKind.ITEM_CHANGED)
    assert (conflict.base, conflict.ours, conflict.theirs) == (row(1), row(1, "cap"), row(1, "ink"))
    for choice, value, expected in (
        (Choice.OURS, None, [row(1, "cap")]),
        (Choice.THEIRS, None, [row(1, "ink")]),
        (Choice.BASE, None, [row(1)]),
        (Choice.VALUE, row(1, "bag", 7), [row(1, "bag", 7)]),
        (Choice.VALUE, None, []),
    ):
        merged = tables.merged(base, ours, theirs, item("id=1", choice, value))
        assert tables.read(merged) == ordered([*expected, row(2, "ink")]), choice


def test_a_row_deleted_on_one_side_and_changed_on_the_other_is_a_conflict(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    ours = tables.change(base, delete("id = 1"))
    theirs = tables.change(base, correct(row(1, "ink")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.ours, conflict.theirs) == (None, row(1, "ink"))
    assert tables.read(tables.merged(base, ours, theirs, item("id=1", Choice.THEIRS))) == ordered(
        [row(1, "ink"), row(2)]
    )
    assert tables.read(tables.merged(base, ours, theirs, item("id=1", Choice.OURS))) == [row(2)]


def test_one_key_added_on_both_sides_is_a_conflict_even_in_files_apart(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, append(row(5, "cap"))), tables.change(base, append(row(5, "ink")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == "id=5"
    assert tables.read(tables.merged(base, ours, theirs, item("id=5", Choice.THEIRS))) == ordered(
        [row(1), row(5, "ink")]
    )


def test_a_bad_value_for_a_row_is_refused(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, correct(row(1, "cap"))), tables.change(base, correct(row(1, "ink")))
    for value, message in ((7, "no row"), ({"id": 2}, "other key"), ({"id": 1, "x": 1}, "no column")):
        with pytest.raises(InvalidArgument, match=message):
            tables.merged(base, ours, theirs, item("id=1", Choice.VALUE, value))
    with pytest.raises(InvalidArgument, match="as a whole"):
        tables.merged(base, ours, theirs, item(None, Choice.VALUE, {}))


def test_keys_that_are_null_are_joined_too(tables: Tables) -> None:
    base = tables.create([row(None), row(1)])
    ours = tables.change(base, correct(row(1, "cap")))
    theirs = tables.change(base, lambda table: table.update(new_values={"item": "ink"}, predicate="id IS NULL"))
    assert tables.read(tables.merged(base, ours, theirs)) == ordered([row(None, "ink"), row(1, "cap")])


def test_files_that_both_sides_rewrote_without_keys_are_a_conflict_on_the_table(tables: Tables) -> None:
    base = tables.create([row(1), row(2)], keyed=False)
    ours, theirs = tables.change(base, delete("id = 1")), tables.change(base, delete("id = 2"))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item is None
    assert "set_key_columns" in conflict.detail
    assert tables.merged(base, ours, theirs, item(None, Choice.THEIRS)) == theirs


def test_a_table_gets_its_key_columns_later(tables: Tables) -> None:
    """An imported one has none: nobody has to make it anew, or to start Spark, for merges by rows."""
    made = tables.create([row(1), row(2)], keyed=False)
    base = tables.change(made, lambda table: table.set_key_columns("id"))
    ours, theirs = tables.change(base, delete("id = 1")), tables.change(base, correct(row(2, "ink")))
    assert tables.read(tables.merged(base, ours, theirs)) == [row(2, "ink")]
    with pytest.raises(InvalidArgument, match="column 'nope' is not in the schema"):
        tables.change(base, lambda table: table.set_key_columns("nope"))
    without = tables.change(base, lambda table: table.set_key_columns())
    ours, theirs = tables.change(without, delete("id = 1")), tables.change(without, delete("id = 2"))
    assert [one.item for one in tables.conflicts(without, ours, theirs)] == [None]


def test_a_compaction_on_one_side_goes_with_changes_on_the_other(tables: Tables) -> None:
    base = tables.change(tables.create([row(1), row(2)]), append(row(3)))
    ours = tables.change(base, lambda table: table.optimize.compact())
    theirs = tables.change(base, correct(row(2, "ink")), delete("id = 3"))
    for one, other in ((ours, theirs), (theirs, ours)):
        assert tables.read(tables.merged(base, one, other)) == ordered([row(1), row(2, "ink")])


def test_what_holds_all_of_ours_already_is_no_conflict(tables: Tables) -> None:
    """Found in the table: our own publication, with a foreign commit on top of it."""
    base = tables.create([row(1), row(2)], keyed=False)
    ours = tables.change(base, delete("id = 1"))
    theirs = tables.change(ours, append(row(3)))
    assert tables.read(tables.merged(base, ours, theirs)) == ordered([row(2), row(3)])
    assert tables.merged(base, theirs, ours).digest == theirs.digest


def test_partitioned_tables_are_merged_by_row(tables: Tables) -> None:
    base = tables.create([row(1, "a b"), row(2, "ü/ö"), row(3, None)], partition_by=["item"])
    ours = tables.change(base, correct(row(1, "a b", 7)))
    theirs = tables.change(base, correct(row(2, "ü/ö", 8)), delete("id = 3"))
    merged = tables.merged(base, ours, theirs)
    assert tables.read(merged) == ordered([row(1, "a b", 7), row(2, "ü/ö", 8)])
    tables.published(None, merged)
    assert tables.head() == ordered([row(1, "a b", 7), row(2, "ü/ö", 8)])


def test_merge_twice_is_the_same_snapshot(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    ours, theirs = tables.change(base, correct(row(1, "cap"))), tables.change(base, correct(row(2, "ink")))
    first = tables.adapter.merge("tx-m", 1, base=base, ours=ours, theirs=theirs)
    assert isinstance(first, Merged)
    files = data_files(tables)
    assert tables.restarted().merge("tx-m", 1, base=base, ours=ours, theirs=theirs) == first
    assert data_files(tables) == files


def test_different_tables_under_one_key_are_a_conflict_on_the_table(tables: Tables) -> None:
    one, other = tables.create([row(1)]), tables.create([row(1)])
    (conflict,) = tables.conflicts(None, one, other)
    assert (conflict.item, conflict.kind) == (None, ConflictKind.VALUE_DIFFERS)
    assert tables.merged(None, one, other, item(None, Choice.OURS)) == one


def test_a_merge_is_published_and_adopts_what_was_found(tables: Tables) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    ours = tables.change(base, append(row(2)))
    tables.foreign(row(3))
    found = tables.publish(base, ours).found
    assert found is not None
    merged = tables.merged(base, ours, found)
    tables.published(found, merged)
    assert tables.head() == ordered([row(1), row(2), row(3)])


# -- schema, properties, rules ---------------------------------------------------------------------------------------


def columns(tables: Tables, snapshot: SnapshotRef) -> list[str]:
    return [one.name for one in tables.located(snapshot).schema().fields]


def test_columns_that_both_sides_added_are_all_there(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    wider = batch([{**row(3), "left": "l"}], ROWS.append(pa.field("left", pa.string())))
    ours = tables.change(base, lambda table: table.append(wider, schema_mode="merge"), correct(row(1, "cap")))
    theirs = tables.change(base, add_column("right", "long"), correct(row(2, "ink")))
    merged = tables.merged(base, ours, theirs)
    assert columns(tables, merged) == ["id", "item", "price", "left", "right"]
    more = {"left": None, "right": None}
    expected = [{**row(1, "cap"), **more}, {**row(2, "ink"), **more}, {**row(3), "left": "l", "right": None}]
    assert tables.read(merged) == ordered(expected)


def test_one_column_added_with_two_types_is_a_conflict(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, add_column("size", "long")), tables.change(base, add_column("size", "string"))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("schema:size", ConflictKind.SCHEMA_CHANGED)
    assert columns(tables, tables.merged(base, ours, theirs, item("schema:size", Choice.THEIRS)))[-1] == "size"


def test_properties_are_merged_one_by_one(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours = tables.change(base, set_properties(my__a="1", my__both="ours"))
    theirs = tables.change(base, set_properties(my__b="2", my__both="theirs"))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == "property:my.both"
    merged = tables.merged(base, ours, theirs, item("property:my.both", Choice.VALUE, "we"))
    settings = tables.located(merged).metadata().configuration
    assert {name: settings[name] for name in settings if name.startswith("my.")} == {
        "my.a": "1",
        "my.b": "2",
        "my.both": "we",
    }


def test_rows_that_break_a_constraint_of_the_other_side_are_a_conflict(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours = tables.change(base, lambda table: table.alter.add_constraint({"cheap": "price < 10"}))
    theirs = tables.change(base, append(row(2, price=99)))
    for one, other in ((ours, theirs), (theirs, ours)):
        (conflict,) = tables.conflicts(base, one, other)
        assert (conflict.item, conflict.kind) == ("property:delta.constraints.cheap", ConflictKind.CONSTRAINT)
    kept = tables.change(base, append(row(2, price=9)))
    assert tables.read(tables.merged(base, ours, kept)) == ordered([row(1), row(2, price=9)])


def test_a_table_made_append_only_does_not_take_deletions(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours = tables.change(base, set_properties(delta__appendOnly="true"))
    theirs = tables.change(base, delete("id = 1"))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == (None, ConflictKind.CONSTRAINT)


def test_two_batches_of_one_streaming_writer_are_a_conflict(tables: Tables) -> None:
    def load(version: int, number: int) -> Write:
        properties = CommitProperties(app_transactions=[Transaction("loader", version)])
        return lambda table: write_deltalake(table, batch([row(number)]), mode="append", commit_properties=properties)

    base = tables.create([row(1)])
    ours, theirs = tables.change(base, load(1, 2)), tables.change(base, load(2, 3))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == "txn:loader"
    alone = tables.merged(base, tables.change(base, append(row(4))), theirs)
    tables.published(None, alone)
    assert tables.native().transaction_version("loader") == 2


def test_conflicts_leave_nothing_behind(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, correct(row(1, "cap"))), tables.change(base, correct(row(1, "ink")))
    before = all_files(tables)
    assert isinstance(tables.adapter.merge("tx-c", 1, base=base, ours=ours, theirs=theirs), Conflicted)
    assert all_files(tables) == before


def test_rows_that_share_a_key_with_a_changed_one_stay(tables: Tables) -> None:
    base = tables.create([row(1, "a"), row(1, "b"), row(1, "c"), row(2)])
    ours = tables.change(base, correct(row(2, "cap")))
    theirs = tables.change(base, delete("id = 1 AND item IN ('a', 'b')"))
    assert tables.read(tables.merged(base, ours, theirs)) == ordered([row(1, "c"), row(2, "cap")])
    assert tables.read(tables.merged(base, theirs, ours)) == ordered([row(1, "c"), row(2, "cap")])


def test_different_rows_of_one_key_that_both_sides_deleted_are_a_conflict(tables: Tables) -> None:
    base = tables.create([row(1, "a"), row(1, "b"), row(1, "c")])
    ours, theirs = (tables.change(base, delete(f"id = 1 AND item = '{name}'")) for name in "ab")
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.kind) == ("id=1", ConflictKind.CONSTRAINT)
    for choice, names in ((Choice.OURS, "bc"), (Choice.THEIRS, "ac"), (Choice.BASE, "abc")):
        merged = tables.merged(base, ours, theirs, item("id=1", choice))
        assert tables.read(merged) == [row(1, name) for name in names]


@pytest.mark.parametrize("keyed", [True, False])
def test_rows_in_files_of_another_partitioning_or_type_are_a_conflict_on_the_table(tables: Tables, keyed: bool) -> None:
    """Named as they are, their values were read as null, or not at all."""
    base = tables.create([row(1), row(2)], keyed=keyed)
    ours = tables.change(base, append(row(3, "cap", 2**40)))
    narrow = ROWS.set(2, pa.field("price", pa.int32()))
    for schema, partitions in ((ROWS, ["item"]), (narrow, None)):
        rows = batch([row(1), row(2), row(4)], schema)
        options: dict[str, Any] = {"mode": "overwrite", "schema_mode": "overwrite", "partition_by": partitions}
        theirs = tables.change(base, lambda table, rows=rows, options=options: write_deltalake(table, rows, **options))
        for mine, others in ((ours, theirs), (theirs, ours)):
            (conflict,) = tables.conflicts(base, mine, others)
            assert (conflict.item, conflict.kind) == (None, ConflictKind.SCHEMA_CHANGED)
            assert tables.merged(base, mine, others, item(None, Choice.THEIRS)) == others
        kept = tables.merged(base, tables.change(base, set_properties(note="ours")), theirs)
        assert tables.read(kept) == tables.read(theirs)


def test_a_conflict_that_no_item_settles_is_settled_by_a_side_for_the_table(tables: Tables) -> None:
    base = tables.create([row(1)])
    ours = tables.change(base, lambda table: table.alter.add_constraint({"cheap": "price < 10"}))
    theirs = tables.change(base, append(row(2, price=10)))
    assert tables.merged(base, ours, theirs, item(None, Choice.OURS)) == ours
    assert tables.merged(base, ours, theirs, item(None, Choice.THEIRS)) == theirs


def test_a_row_that_breaks_a_constraint_is_no_resolution(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)]), lambda table: table.alter.add_constraint({"cheap": "price < 10"}))
    ours, theirs = (tables.change(base, correct(row(1, name))) for name in ("cap", "ink"))
    with pytest.raises(InvalidArgument, match="constraint"):
        tables.merged(base, ours, theirs, item("id=1", Choice.VALUE, row(1, price=10)))
