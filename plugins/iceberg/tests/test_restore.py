"""Bringing a table, or rows of it, back to what a snapshot holds."""

from __future__ import annotations

import pytest
from plait.errors import InvalidArgument, Unsupported
from plait.types import SnapshotRef, Staging
from plait_conformance.tables import KEY, LOOSE, Tables, append, correct, delete, order, ordered, read_back, static
from plait_iceberg import IcebergAdapter
from pyiceberg.table import Table


def restored(
    tables: Tables, now: SnapshotRef, then: SnapshotRef, items: list[str] | None, times: int = 1
) -> SnapshotRef:
    port = tables.port({KEY: now})
    staging = port.add(KEY)
    for _ in range(times):
        staging = tables.adapter.restore(port.tx, staging, then, items=items)
    voted = tables.adapter.prepare(port.tx, 1, {KEY: staging})[KEY]
    assert voted is not None
    return voted


def test_a_whole_table_is_restored_as_the_very_snapshot(tables: Tables) -> None:
    then = tables.create([order(1)])
    now = tables.change(then, correct(order(1, "cap")), append(order(2)))
    assert restored(tables, now, then, None) == then
    assert restored(tables, now, then, None, times=2) == then


def test_a_restored_table_is_written_on_without_touching_the_old_commit(tables: Tables) -> None:
    then = tables.create([order(1)])
    now = tables.change(then, append(order(2)))
    port = tables.port({KEY: now})
    staging = port.add(KEY)
    moved = tables.adapter.restore(port.tx, staging, then, items=None)
    assert port.compare_and_set(KEY, staging.location, moved.location)
    append(order(3))(tables.table(port))
    assert read_back(tables.vote(port)) == ordered([order(1), order(3)])
    assert read_back(then) == [order(1)]


def test_rows_are_restored_and_the_others_stay(tables: Tables) -> None:
    then = tables.create([order(1), order(2), order(3)])
    now = tables.change(then, correct(order(1, "cap"), order(2, "cap")), delete("id = 3"), append(order(4), order(5)))
    # Changed, deleted and added rows, one each; id=9 is in neither.
    back = restored(tables, now, then, ["id=1", "id=3", "id=4", "id=9"])
    assert read_back(back) == ordered([order(1), order(2, "cap"), order(3), order(5)])
    assert len(static(back).history()) == len(static(now).history()) + 1


def test_rows_that_are_as_they_were_change_nothing(tables: Tables) -> None:
    then = tables.create([order(1), order(2)])
    now = tables.change(then, correct(order(1, "cap")))
    assert restored(tables, now, then, ["id=2"]) == now


def test_restore_twice_is_restore_once(tables: Tables, adapter: IcebergAdapter) -> None:
    then = tables.create([order(1), order(2)])
    now = tables.change(then, correct(order(1, "cap")))
    staging = Staging("tx", KEY, now, now.version)
    first = adapter.restore("tx", staging, then, items=["id=1"])
    assert adapter.restore("tx", staging, then, items=["id=1"]) == first
    assert adapter.restore("tx", first, then, items=["id=1"]) == first


def test_rows_without_identifiers_have_no_names(tables: Tables) -> None:
    then = tables.create([order(1)], schema=LOOSE)
    now = tables.change(then, append(order(2)))
    with pytest.raises(InvalidArgument, match="names no row"):
        restored(tables, now, then, ["row:123"])
    with pytest.raises(Unsupported, match="no identifier fields"):
        restored(tables, now, then, ["id=1"])


def test_rows_of_another_table_are_refused(tables: Tables) -> None:
    now, other = tables.create([order(1)]), tables.create([order(1, "cap")])
    with pytest.raises(Unsupported, match="not the same table"):
        restored(tables, now, other, ["id=1"])


def test_rows_that_share_a_key_with_a_restored_one_stay(tables: Tables) -> None:
    then = tables.change(tables.create([order(1, "a"), order(1, "b")]), delete("item == 'b'"))
    now = tables.change(then, delete("id == 1"), append(order(1, "a"), order(1, "c")))
    assert read_back(restored(tables, now, then, ["id=1"])) == [order(1, "a")]


def test_a_row_without_what_the_table_requires_by_now_is_refused(tables: Tables) -> None:
    def require(table: Table) -> None:
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.update_column("item", required=True)

    then = tables.create([order(1, None), order(2)])
    now = tables.change(then, delete("id = 1"), require)
    with pytest.raises(Unsupported, match="'item'"):
        restored(tables, now, then, ["id=1"])


def test_rows_of_a_format_that_merges_refuse_are_not_restored(tables: Tables) -> None:
    then = tables.create([order(1)], properties={"format-version": "1"})
    now = tables.change(then, correct(order(1, "cap")))
    with pytest.raises(Unsupported, match="format version 1"):
        restored(tables, now, then, ["id=1"])
