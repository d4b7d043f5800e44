"""Items as text: unambiguous, alike in every process. What differs between two tables, row by row."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plait.errors import InvalidArgument
from plait.rows import comparing
from plait.rows.comparing import ByColumns, RowChanges, compare, to_rows
from plait.rows.items import check_row_item, hashed_item, keyed_item, keyed_items
from plait.types import ItemChange, ItemChangeKind, Json

_values: st.SearchStrategy[Json] = st.one_of(st.integers(), st.text(), st.booleans())
_names = st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True)


# -- text --------------------------------------------------------------------------------------------------------------


@given(_names, st.data())
def test_every_keyed_item_is_recognised_as_a_row(names: list[str], data: st.DataObject) -> None:
    values = [data.draw(_values) for _ in names]
    assert check_row_item(keyed_item(names, values)) == keyed_item(names, values)


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_two_rows_have_one_item_only_if_their_identifiers_are_equal(one: list[str], two: list[str]) -> None:
    names = ["a", "b"]
    assert (keyed_item(names, one) == keyed_item(names, two)) == (one == two)


@pytest.mark.parametrize("item", ["id", "schema:price", "property:a", "partition", "row:12", "", "id=1,", "=", 'id="a'])
def test_other_items_are_no_rows(item: str) -> None:
    with pytest.raises(InvalidArgument):
        check_row_item(item)


def test_items_read_as_people_write_them() -> None:
    assert keyed_item(["id"], [7]) == "id=7"
    assert keyed_item(["region", "id"], ["eu", 7]) == "region=eu,id=7"
    assert keyed_item(["order id"], ["a,b"]) == '"order id"="a,b"'
    assert keyed_item(["day"], ["2026-11-01"]) == "day=2026-11-01"
    assert keyed_item(["ok"], [True]) == "ok=true"


def test_a_hashed_item_stays_when_a_column_is_added() -> None:
    assert hashed_item({1: "x"}) == hashed_item({1: "x", 2: None})
    assert hashed_item({1: "x"}) != hashed_item({1: "y"})


# -- comparing ---------------------------------------------------------------------------------------------------------


_KEYED = pa.schema([("id", pa.int64()), ("region", pa.string()), ("price", pa.float64())])
_rows = st.lists(
    st.tuples(
        st.integers(0, 5) | st.none(), st.sampled_from(["eu", "u,s", "", None]), st.sampled_from([0.0, -0.0, 2.5, None])
    ),
    max_size=12,
)


def _table(rows: list[tuple[int | None, str | None, float | None]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(_KEYED.names, row, strict=True)) for row in rows], schema=_KEYED)


# Rows of one key, and of two keys that a sort takes for one, change their places.
@example([(1, "eu", 0.0), (1, "eu", 2.5)], [(1, "eu", 2.5), (1, "eu", 0.0)], ("id",), 1)
@example([(1, "", 0.0), (2, "", -0.0), (3, "", 0.0)], [(3, "", 0.0), (5, "", -0.0), (1, "", 0.0)], ("price",), 1)
@given(_rows, _rows, st.sampled_from([("id",), ("id", "region"), ("price",), ()]), st.integers(1, 4))
def test_changes_are_the_difference_of_two_multisets(
    before: list[tuple[int | None, str | None, float | None]],
    after: list[tuple[int | None, str | None, float | None]],
    identifiers: tuple[str, ...],
    batch: int,
) -> None:
    check_changes(before, after, identifiers, batch)


@given(_rows, st.data(), st.sampled_from([("id",), ("id", "region"), ("region", "id")]), st.integers(1, 4))
def test_so_they_are_where_each_key_stays(
    rows: list[tuple[int | None, str | None, float | None]], data: st.DataObject, names: tuple[str, ...], batch: int
) -> None:
    """In another order, and with other values."""
    once = {tuple(row[_KEYED.names.index(name)] for name in names): row for row in rows}
    values = st.sampled_from([0.0, -0.0, 1.0, None])
    before = data.draw(st.permutations(list(once.values())))
    after = [(row[0], row[1], data.draw(values)) for row in data.draw(st.permutations(before))]
    found = check_changes(before, after, names, batch)
    assert found.is_paired or not found.removed.num_rows


def check_changes(
    before: list[tuple[int | None, str | None, float | None]],
    after: list[tuple[int | None, str | None, float | None]],
    identifiers: tuple[str, ...],
    batch: int,
) -> RowChanges:
    shape = ByColumns(identifiers)
    found = compare(shape, _table(before), _table(after))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "_BATCH_ROWS", batch)
        changes = list(found.changes())
    # As text, for 0.0 and -0.0 are two rows.
    old, new = (Counter(map(str, to_rows(_table(rows)))) for rows in (before, after))
    assert Counter(str(one.before) for one in changes if one.before is not None) == old - new
    assert Counter(str(one.after) for one in changes if one.after is not None) == new - old
    removed, added = to_rows(found.removed), to_rows(found.added)
    assert all(one.before_index is None or removed[one.before_index] == one.before for one in changes)
    assert all(one.after_index is None or added[one.after_index] == one.after for one in changes)

    def place(item: str, row: dict[str, Json]) -> tuple[object, ...]:
        return *((row[name] is None, row[name]) for name in identifiers), item

    assert [one.item for one in changes] == [
        item
        for item, _ in sorted(((one.item, one.after or one.before or {}) for one in changes), key=lambda o: place(*o))
    ]
    olds, news = (
        Counter(one.item for one in changes if getattr(one, side) is not None) for side in ("before", "after")
    )
    is_pair = {item: olds[item] == news[item] == 1 for item in {*olds, *news}}
    assert all((one.before is not None and one.after is not None) == is_pair[one.item] for one in changes)
    kinds = [
        ItemChangeKind.CHANGED
        if one.before and one.after
        else ItemChangeKind.REMOVED
        if one.before
        else ItemChangeKind.ADDED
        for one in changes
    ]
    assert list(found.as_items()) == [
        ItemChange(one.item, kind, "row", one.before, one.after) for one, kind in zip(changes, kinds, strict=True)
    ]
    return found


def test_rows_by_keys_that_arrow_does_not_sort_are_in_order_too() -> None:
    rows = pa.table({"tags": pa.array([[10], [9, 1], None, [9]], pa.list_(pa.int64()))})
    found = compare(ByColumns(("tags",)), rows.slice(0, 0), rows)
    assert [one.after for one in found.changes()] == [{"tags": [9]}, {"tags": [9, 1]}, {"tags": [10]}, {"tags": None}]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.list_(pa.int64()), [[2], [None], None]),
        (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 2, "b": "y"}, {"a": 2, "b": None}, {"a": 10}]),
        (pa.list_(pa.struct([("a", pa.int64())])), [[{"a": 2}], [{"a": 2}, {"a": 1}], [{"a": None}]]),
    ],
)
def test_keys_with_structs_and_nulls_inside_are_in_order(kind: pa.DataType, values: list[object]) -> None:
    rows = pa.table({"key": pa.array(values[::-1], kind)})
    found = compare(ByColumns(("key",)), rows.slice(0, 0), rows)
    assert [one.after for one in found.changes()] == pa.table({"key": pa.array(values, kind)}).to_pylist()


@given(
    st.lists(st.integers(0, 255) | st.none()), st.lists(st.text(max_size=3) | st.none()), st.sampled_from(["a", "b c"])
)
def test_items_of_many_rows_are_those_of_each(numbers: list[int | None], texts: list[str | None], name: str) -> None:
    count = min(len(numbers), len(texts))
    columns = [
        pa.chunked_array([pa.array(numbers[:count], pa.uint8())]),
        pa.chunked_array([pa.array(texts[:count], pa.string())]),
    ]
    names = [name, "text"]
    each = [keyed_item(names, values) for values in zip(numbers[:count], texts[:count], strict=True)]
    assert keyed_items(names, columns).to_pylist() == each
