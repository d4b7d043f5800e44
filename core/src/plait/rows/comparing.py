"""Compares the rows of two versions in bulk, in Arrow. Only rows that differ become Python objects."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from plait.errors import InvalidArgument
from plait.rows.items import from_json, to_json
from plait.types import ItemChangeKind, Json

Row = dict[str, Json]

SIGN, INDEX = "__plait_sign", "__plait_index"


class Shape(Protocol):
    """Which columns identify a row (none: rows are a multiset), and the item that names a row."""

    @property
    def identifiers(self) -> tuple[str, ...]: ...

    def item(self, row: Row) -> str:
        """The row's text after `::`."""

    def keys(self, rows: pa.Table) -> pa.Table:
        """The identifying columns alone, as columns that can be joined on."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row between two versions. `before_index` is its place among removed rows, `after_index` among added ones."""

    item: str
    order: tuple[tuple[bool, object], ...]
    before: Row | None
    after: Row | None
    before_index: int | None = None
    after_index: int | None = None

    @property
    def kind(self) -> ItemChangeKind:
        if self.before is None:
            return ItemChangeKind.ADDED
        return ItemChangeKind.REMOVED if self.after is None else ItemChangeKind.CHANGED


@dataclass(frozen=True, slots=True)
class RowChanges:
    """All rows that differ, and the Arrow tables into which `before_index` and `after_index` point."""

    changes: tuple[RowChange, ...]
    removed: pa.Table
    added: pa.Table


def compare(shape: Shape, before: pa.Table, after: pa.Table) -> RowChanges:
    """What differs, in order of the identifiers (else of the items).

    A row is CHANGED where exactly one was removed and one added under the same identifier.
    Cost: one hash aggregation in Arrow; no row that both have becomes a Python object.
    """
    removed, added = difference(before, after)
    olds, news = _by_item(shape, removed), _by_item(shape, added)
    changes: list[RowChange] = []
    for item in {**olds, **news}:
        old, new = olds.get(item, []), news.get(item, [])
        if len(old) == 1 and len(new) == 1:
            changes.append(RowChange(item, new[0][0], old[0][1], new[0][1], old[0][2], new[0][2]))
            continue
        changes.extend(RowChange(item, order, row, None, index, None) for order, row, index in old)
        changes.extend(RowChange(item, order, None, row, None, index) for order, row, index in new)
    return RowChanges(tuple(sorted(changes, key=lambda change: (change.order, change.item))), removed, added)


_Found = tuple[tuple[tuple[bool, object], ...], Row, int]


def _by_item(shape: Shape, rows: pa.Table) -> dict[str, list[_Found]]:
    found: dict[str, list[_Found]] = defaultdict(list)
    orders = shape.keys(rows).to_pylist() if shape.identifiers else [{} for _ in range(rows.num_rows)]
    for index, (row, order) in enumerate(zip(to_rows(rows), orders, strict=True)):
        found[shape.item(row)].append((tuple((value is None, value) for value in order.values()), row, index))
    return found


def difference(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(removed, added): the rows that one of two multisets has more often, repeated as often as it has them more."""
    both = pa.concat_tables([before, after], promote_options="permissive")
    signs = pa.chunked_array([pa.repeat(pa.scalar(-1), before.num_rows), pa.repeat(pa.scalar(1), after.num_rows)])
    keyed = pa.table({f"c{n}": groupable(column) for n, column in enumerate(both.columns)})
    names = keyed.column_names
    keyed = keyed.append_column(SIGN, signs).append_column(INDEX, pa.array(range(both.num_rows), pa.int64()))
    groups = keyed.group_by(names, use_threads=False).aggregate([(SIGN, "sum"), (INDEX, "min")])
    removed: list[int] = []
    added: list[int] = []
    counts = zip(groups[f"{INDEX}_min"].to_pylist(), groups[f"{SIGN}_sum"].to_pylist(), strict=True)
    for index, count in counts:
        (added if count > 0 else removed).extend([index] * abs(count))
    return take(both, sorted(removed)), take(both, sorted(added))


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
    return [{name: to_json(value) for name, value in row.items()} for row in rows.to_pylist()]


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
