"""Compares the rows of two versions in bulk, in Arrow. Only what differs becomes Python objects, in batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from plait.errors import InvalidArgument
from plait.rows.items import from_json, hashed_item, is_json, keyed_items, to_json, to_values
from plait.types import ItemChange, ItemChangeKind, Json

Row = dict[str, Json]

SIGN, INDEX = "__plait_sign", "__plait_index"

_BATCH_ROWS: Final = 10_000
"""Rows that are Python objects at a time."""


class Shape(Protocol):
    """Which columns identify a row (none: rows are a multiset), and the items that name rows."""

    @property
    def identifiers(self) -> tuple[str, ...]: ...

    def items(self, rows: pa.Table) -> pa.Array:
        """The text after `::` of each row."""

    def keys(self, rows: pa.Table) -> pa.Table:
        """The identifying columns alone, as columns that can be joined on."""


@dataclass(frozen=True, slots=True)
class ByColumns:
    """The shape of a table whose columns are known by their names."""

    identifiers: tuple[str, ...]

    def items(self, rows: pa.Table) -> pa.Array:
        """The text after `::` of each row."""
        if not self.identifiers:
            return pa.array([hashed_item(row) for row in to_rows(rows)], pa.string())
        return keyed_items(self.identifiers, self.keys(rows).columns)

    def keys(self, rows: pa.Table) -> pa.Table:
        """The identifying columns alone."""
        return rows.select(list(self.identifiers))


class RowChange(NamedTuple):
    """One row between two versions. `before_index` is its place among removed rows, `after_index` among added ones."""

    item: str
    before: Row | None
    after: Row | None
    before_index: int | None = None
    after_index: int | None = None


@dataclass(frozen=True, slots=True)
class RowChanges:
    """All rows that differ, as the Arrow tables into which `before_index` and `after_index` point.

    A row is CHANGED where exactly one was removed and one added under the same identifier.
    """

    shape: Shape
    removed: pa.Table
    added: pa.Table
    is_paired: bool = False
    """Whether both are in order of their keys, each key once, the same in the same places."""

    def changes(self) -> Iterator[RowChange]:
        """Each of them, in order of the identifiers (else of the items).

        Cost: a sort in Arrow, then a batch of rows at a time; again for each call.
        """
        for named, before, after in self._batches():
            yield from map(RowChange, named[0].to_pylist(), before, after, *(one.to_pylist() for one in named[1:]))

    def as_items(self) -> Iterator[ItemChange]:
        """The same as what a diff gives."""
        # Chained: each of them would be handed on by a frame of Python's else.
        return chain.from_iterable(
            map(ItemChange, named[0].to_pylist(), _kinds(named, before, after), repeat("row"), before, after)
            for named, before, after in self._batches()
        )

    def _batches(self) -> Iterator[tuple[list[pa.ChunkedArray], list[Row | None], list[Row | None]]]:
        """The columns of `_named`, and the rows that two of them point to."""
        # In one piece: Arrow puts the pieces together for each `take`.
        removed, added = self.removed.combine_chunks(), self.added.combine_chunks()
        named = (_named_in_pairs if self.is_paired else _named)(self.shape, removed, added)
        for start in range(0, named.num_rows, _BATCH_ROWS):
            columns = named.slice(start, _BATCH_ROWS).columns
            yield columns, _rows_at(removed, columns[1]), _rows_at(added, columns[2])


def _kinds(named: list[pa.ChunkedArray], before: list[Row | None], after: list[Row | None]) -> Iterable[ItemChangeKind]:
    is_whole = not any(column.null_count for column in named[1:])
    return repeat(ItemChangeKind.CHANGED) if is_whole else map(_kind, before, after)


def _kind(before: Row | None, after: Row | None) -> ItemChangeKind:
    if before is None:
        return ItemChangeKind.ADDED
    return ItemChangeKind.REMOVED if after is None else ItemChangeKind.CHANGED


def _rows_at(rows: pa.Table, indices: pa.ChunkedArray) -> list[Row | None]:
    """The rows at these places as JSON, None for a null."""
    if not indices.null_count:
        return [*to_rows(rows.take(indices))]
    found = iter(to_rows(rows.take(indices.drop_null())))
    return [next(found) if is_there else None for is_there in indices.is_valid().to_pylist()]


def _named(shape: Shape, removed: pa.Table, added: pa.Table) -> pa.Table:
    """What differs, in order: the `item`, its place among removed rows (`old`) and added ones (`new`), else null."""
    rows = pa.concat_tables([removed, added])
    old = [_places(removed.num_rows), pa.nulls(added.num_rows, pa.int64())]
    new = [pa.nulls(removed.num_rows, pa.int64()), _places(added.num_rows)]
    places = pa.table({"item": _items(shape, rows), "old": pa.chunked_array(old), "new": pa.chunked_array(new)})
    sides = [(side, count) for count in ("min", "count") for side in ("old", "new")]
    groups = places.group_by("item", use_threads=False).aggregate(sides)
    is_pair = pc.and_(pc.equal(groups["old_count"], 1), pc.equal(groups["new_count"], 1))
    pairs = groups.filter(is_pair).select(["item", "old_min", "new_min"]).rename_columns(places.column_names)
    others = places.filter(pc.invert(pc.is_in(places["item"], pairs["item"].combine_chunks())))
    found = pa.concat_tables([pairs, others])
    index = pc.coalesce(found["old"], pc.add(found["new"], removed.num_rows))
    keys = shape.keys(rows).take(index) if shape.identifiers else rows.select([])
    return found.take(_order(keys, found))


def _named_in_pairs(shape: Shape, removed: pa.Table, added: pa.Table) -> pa.Table:
    """As `_named`, of rows that are pairs in their order."""
    places = _places(added.num_rows)
    return pa.table({"item": _items(shape, added), "old": places, "new": places})


def _items(shape: Shape, rows: pa.Table) -> pa.ChunkedArray:
    starts = range(0, rows.num_rows, _BATCH_ROWS)
    return pa.chunked_array([shape.items(rows.slice(start, _BATCH_ROWS)) for start in starts], pa.string())


def _order(keys: pa.Table, named: pa.Table) -> pa.Array:
    """The places of rows in order of their keys, nulls last, then of their items; of one item, as `named`."""
    if any(pa.types.is_nested(column.type) for column in keys.columns):
        # Arrow does not sort by these.
        columns = [map(_orderable, column.to_pylist()) for column in keys.columns]
        texts = list(zip(*columns, named["item"].to_pylist(), strict=True))
        return pa.array(sorted(range(named.num_rows), key=texts.__getitem__), pa.int64())
    return _sorted([*keys.columns, *named.columns])


def _sorted(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    # Numbered, for Arrow takes a dot in a name for a path.
    by = pa.table({str(n): column for n, column in enumerate(columns)})
    return pc.sort_indices(by, sort_keys=[(name, "ascending") for name in by.column_names])


def _orderable(value: object) -> tuple[bool, object]:
    """The value so that Python orders it beside others of its type: nulls last, within lists and structs too."""
    if isinstance(value, dict):
        value = list(value.values())
    return value is None, [*map(_orderable, value)] if isinstance(value, list | tuple) else value


def compare(shape: Shape, before: pa.Table, after: pa.Table) -> RowChanges:
    """What differs. Cost: one hash aggregation in Arrow; none where a side has no rows, or each key is once on both."""
    removed, added = _moved(before, after)
    pairs = _in_pairs(shape, removed, added)
    return RowChanges(shape, *(pairs or _grouped(removed, added)), is_paired=pairs is not None)


def difference(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(removed, added): the rows that one of two multisets has more often, repeated as often as it has them more."""
    return _grouped(*_moved(before, after))


def _moved(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both without the rows that are alike in the same place, in columns of one type.

    A file that was written anew has most rows where they were, which is seen much faster than by grouping them.
    """
    both = pa.concat_tables([before, after], promote_options="permissive")
    number = min(before.num_rows, after.num_rows)
    old, new = both.slice(0, before.num_rows), both.slice(before.num_rows)
    if not number:
        return old, new
    keyed = _comparable(both)
    moved = pc.invert(_alike(keyed.slice(0, number), keyed.slice(before.num_rows, number)))
    old_rest, new_rest = (pa.repeat(True, one.num_rows - number) for one in (old, new))
    return old.filter(pa.chunked_array([moved, old_rest])), new.filter(pa.chunked_array([moved, new_rest]))


def _comparable(rows: pa.Table) -> pa.Table:
    return pa.table({f"c{n}": groupable(column) for n, column in enumerate(rows.columns)})


def _in_pairs(shape: Shape, removed: pa.Table, added: pa.Table) -> tuple[pa.Table, pa.Table] | None:
    """Both in order of their keys, without what is alike, where they have the same keys, each once; else None.

    So no row of one side is among the others of the other: two sorts tell what takes a hash aggregation else.
    """
    number = removed.num_rows
    if not shape.identifiers or not number or number != added.num_rows:
        return None
    keys = [shape.keys(rows) for rows in (removed, added)]
    # Arrow does not sort by the first of these, and takes 0.0 and -0.0 for the same, which are two keys.
    if any(pa.types.is_nested(column.type) or pa.types.is_floating(column.type) for column in keys[0].columns):
        return None
    orders = [_sorted(one.columns) for one in keys]
    old, new = (_comparable(one.take(order)) for one, order in zip(keys, orders, strict=True))
    if not pc.all(_alike(old, new)).as_py() or pc.any(_alike(old.slice(1), old.slice(0, number - 1))).as_py():
        return None
    return _moved(*(rows.take(order) for rows, order in zip((removed, added), orders, strict=True)))


def _grouped(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The difference of two multisets whose columns have one type."""
    if not before.num_rows or not after.num_rows:
        return before, after
    both = pa.concat_tables([before, after])
    keyed = _comparable(both)
    names = keyed.column_names
    signs = [pa.repeat(pa.scalar(-1), before.num_rows), pa.repeat(pa.scalar(1), after.num_rows)]
    keyed = keyed.append_column(SIGN, pa.chunked_array(signs)).append_column(INDEX, _places(both.num_rows))
    groups = keyed.group_by(names, use_threads=False).aggregate([(SIGN, "sum"), (INDEX, "min")])
    counts, indices = groups[f"{SIGN}_sum"], groups[f"{INDEX}_min"]
    less, more = pc.less(counts, 0), pc.greater(counts, 0)
    removed = _repeated(indices.filter(less), pc.negate(counts.filter(less)))
    added = _repeated(indices.filter(more), counts.filter(more))
    return both.take(removed), both.take(added)


def _places(number: int) -> pa.Array:
    """0, 1, 2 … (without a Python object for each)."""
    return pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), number)), 1)


def _alike(before: pa.Table, after: pa.Table) -> pa.Array:
    """Whether both tables have the same row in each place; as grouping tells rows apart, so 0.0 is not -0.0."""
    same = pa.chunked_array([pa.repeat(True, before.num_rows)])
    for one, other in zip(before.columns, after.columns, strict=True):
        if not pa.types.is_null(one.type):
            equal = pc.fill_null(pc.equal(_bits(one), _bits(other)), False)
            same = pc.and_(same, pc.or_(equal, pc.and_(one.is_null(), other.is_null())))
    return same.combine_chunks()


def _bits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    kind = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[column.type.bit_width]
    return pa.chunked_array([chunk.view(kind) for chunk in column.chunks], kind)


def _repeated(indices: pa.ChunkedArray, counts: pa.ChunkedArray) -> pa.Array:
    """The indices in order, each as often as its count says."""
    indices, counts = indices.combine_chunks(), counts.combine_chunks()
    runs = pa.RunEndEncodedArray.from_arrays(pc.cumulative_sum(counts), indices)
    repeated = pc.run_end_decode(runs)
    return repeated.take(pc.sort_indices(repeated))


def staying(leaving: pa.Table, dropped: pa.Table) -> pa.Table:
    """The rows that were dropped by their keys, but must stay: `leaving` names other rows of the same keys, not these.

    Cost: nothing where keys are unique.
    """
    if dropped.num_rows <= leaving.num_rows:
        return dropped.slice(0, 0)
    return difference(leaving, dropped)[1]


def groupable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that Arrow can group and join by; equal exactly where the values are."""
    if isinstance(column.type, pa.BaseExtensionType):
        return column.cast(column.type.storage_type)
    if pa.types.is_nested(column.type):
        texts = (None if value is None else json.dumps(to_json(value)) for value in column.to_pylist())
        return pa.chunked_array([pa.array(texts, pa.large_string())])
    return column


def take(rows: pa.Table, indices: Sequence[int]) -> pa.Table:
    """The rows at these places. (Arrow takes an empty Python list for one of nulls.)"""
    return rows.take(pa.array(indices, pa.int64()))


# -- rows as JSON ------------------------------------------------------------------------------------------------------


def to_rows(rows: pa.Table) -> list[Row]:
    """Rows as JSON."""
    if all(is_json(column.type) for column in rows.schema):
        found: list[Row] = rows.to_pylist()
        return found
    columns = [to_values(column) for column in rows.columns]
    return [dict(zip(rows.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def from_rows(arrow: pa.Schema, rows: Sequence[Mapping[str, Json]]) -> pa.Table:
    """Rows given as JSON, as Arrow. Columns left out are null. Raises: InvalidArgument naming the column."""
    for row in rows:
        if unknown := sorted(set(row) - set(arrow.names)):
            raise InvalidArgument(
                f"a row has no column {unknown[0]!r}", remedy=f"the table's columns are {', '.join(arrow.names)}"
            )
    return pa.table([_column(column, rows) for column in arrow], schema=arrow)


def _column(column: pa.Field, rows: Sequence[Mapping[str, Json]]) -> pa.Array:
    values = [from_json(row.get(column.name), column.type, column.name) for row in rows]
    is_extension = isinstance(column.type, pa.BaseExtensionType)
    try:
        plain = pa.array(values, column.type.storage_type if is_extension else column.type)
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidArgument(f"column {column.name!r} cannot hold {values!r}: {error}") from error
    return pa.ExtensionArray.from_storage(column.type, plain) if is_extension else plain
