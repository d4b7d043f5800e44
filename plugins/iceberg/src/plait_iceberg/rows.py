"""Rows of the files that differ: read under one schema, compared in bulk, named as items."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from plait.errors import InvalidArgument, Unsupported
from plait.types import ItemChangeKind, Json
from pyiceberg.exceptions import ResolveError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from plait_iceberg.files import translated
from plait_iceberg.items import from_json, hashed_item, keyed_item, to_json
from plait_iceberg.manifests import Held, ManifestReader, scan_tasks

Row = dict[str, Json]

_SIGN, _INDEX = "__plait_sign", "__plait_index"


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns that rows are compared by, and which of them identify a row (none: rows are a multiset)."""

    schema: Schema

    @property
    def arrow(self) -> pa.Schema:
        return schema_to_pyarrow(self.schema, include_field_ids=False)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Column names in order of their ids; nested ones as `struct.field`."""
        names = (self.schema.find_column_name(field_id) for field_id in sorted(self.schema.identifier_field_ids))
        return tuple(name for name in names if name is not None)

    def item(self, row: Row) -> str:
        """The row's text after `::`."""
        if not self.identifiers:
            return hashed_item(row, {field.name: field.field_id for field in self.schema.fields})
        return keyed_item(self.identifiers, [_value_at(row, name) for name in self.identifiers])

    def keys(self, rows: pa.Table) -> pa.Table:
        """The identifier columns alone, as columns that can be joined on."""
        return pa.table({name: _plain(_column_at(rows, name)) for name in self.identifiers})


def _value_at(row: Row, name: str) -> Json:
    if name in row:
        return row[name]
    value: Json = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _column_at(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name in rows.column_names:
        return rows[name]
    first, *rest = name.split(".")
    column = rows[first].combine_chunks()
    for part in rest:
        column = column.field(part)
    return pa.chunked_array([column])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that Arrow can group and join by; equal exactly where the values are."""
    if isinstance(column.type, pa.BaseExtensionType):
        return column.cast(column.type.storage_type)
    if pa.types.is_nested(column.type):
        texts = (None if value is None else json.dumps(to_json(value)) for value in column.to_pylist())
        return pa.chunked_array([pa.array(texts, pa.large_string())])
    return column


# -- reading -----------------------------------------------------------------------------------------------------------


def read(
    reader: ManifestReader,
    table: TableMetadata,
    schema: Schema,
    held: Iterable[Held],
    *,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Held, pa.Table]]:
    """The live rows of each data file, projected on a schema by field ids; in order of the files' paths.

    Raises: NotFound for a lost file, Unsupported for one that pyiceberg cannot read.
    """
    by_path = {one.file.file_path: one for one in held}
    scan = ArrowScan(table, reader.io, schema, AlwaysTrue())
    arrow = schema_to_pyarrow(schema, include_field_ids=False)
    for task in scan_tasks(reader, table, by_path.values()):
        check_cancelled()
        path = task.file.file_path
        with translated(f"data file {path}"):
            try:
                batches = [pa.Table.from_batches([batch]).cast(arrow) for batch in scan.to_record_batches([task])]
            except (ValueError, ResolveError, NotImplementedError) as error:
                raise Unsupported(f"data file {path} cannot be read by pyiceberg: {error}") from error
        yield by_path[path], pa.concat_tables(batches) if batches else arrow.empty_table()


def read_all(
    reader: ManifestReader,
    table: TableMetadata,
    schema: Schema,
    held: Iterable[Held],
    *,
    check_cancelled: Callable[[], None] = lambda: None,
) -> pa.Table:
    """The rows of all these files in one table."""
    parts = [rows for _, rows in read(reader, table, schema, held, check_cancelled=check_cancelled)]
    return pa.concat_tables([schema_to_pyarrow(schema, include_field_ids=False).empty_table(), *parts])


# -- comparing ---------------------------------------------------------------------------------------------------------


def difference(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that only one of two multisets has, each as often as it has it more.

    Cost: one hash aggregation in Arrow; no row that both have becomes a Python object.
    """
    both = pa.concat_tables([before, after])
    signs = pa.chunked_array([pa.repeat(pa.scalar(-1), before.num_rows), pa.repeat(pa.scalar(1), after.num_rows)])
    keyed = pa.table({f"c{n}": _plain(column) for n, column in enumerate(both.columns)})
    names = keyed.column_names
    keyed = keyed.append_column(_SIGN, signs).append_column(_INDEX, pa.array(range(both.num_rows), pa.int64()))
    groups = keyed.group_by(names, use_threads=False).aggregate([(_SIGN, "sum"), (_INDEX, "min")])
    removed: list[int] = []
    added: list[int] = []
    counts = zip(groups[f"{_INDEX}_min"].to_pylist(), groups[f"{_SIGN}_sum"].to_pylist(), strict=True)
    for index, count in counts:
        (added if count > 0 else removed).extend([index] * abs(count))
    return take(both, sorted(removed)), take(both, sorted(added))


def take(rows: pa.Table, indices: Sequence[int]) -> pa.Table:
    """The rows at these places. (Arrow takes an empty Python list for one of nulls.)"""
    return rows.take(pa.array(indices, pa.int64()))


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


def to_rows(rows: pa.Table) -> list[Row]:
    """Rows as JSON."""
    return [{name: to_json(value) for name, value in row.items()} for row in rows.to_pylist()]


def pair(shape: Shape, removed: pa.Table, added: pa.Table) -> list[RowChange]:
    """Join removed and added rows into changes, in order of their identifier fields (else of their items).

    A row is CHANGED where exactly one was removed and one added under the same identifier.
    """
    olds, news = _by_item(shape, removed), _by_item(shape, added)
    changes: list[RowChange] = []
    for item in {**olds, **news}:
        old, new = olds.get(item, []), news.get(item, [])
        if len(old) == 1 and len(new) == 1:
            changes.append(RowChange(item, new[0][0], old[0][1], new[0][1], old[0][2], new[0][2]))
            continue
        changes.extend(RowChange(item, order, row, None, index, None) for order, row, index in old)
        changes.extend(RowChange(item, order, None, row, None, index) for order, row, index in new)
    return sorted(changes, key=lambda change: (change.order, change.item))


_Found = tuple[tuple[tuple[bool, object], ...], Row, int]


def _by_item(shape: Shape, rows: pa.Table) -> dict[str, list[_Found]]:
    found: dict[str, list[_Found]] = defaultdict(list)
    orders = shape.keys(rows).to_pylist() if shape.identifiers else [{} for _ in range(rows.num_rows)]
    for index, (row, order) in enumerate(zip(to_rows(rows), orders, strict=True)):
        found[shape.item(row)].append((tuple((value is None, value) for value in order.values()), row, index))
    return found


def without(shape: Shape, rows: pa.Table, keys: pa.Table) -> pa.Table:
    """The rows whose identifiers are not among `keys`, in their order. `shape` has identifiers."""
    indexed = shape.keys(rows).append_column(_INDEX, pa.array(range(rows.num_rows), pa.int64()))
    kept = indexed.join(keys, keys=list(shape.identifiers), join_type="left anti", use_threads=False)
    return rows.take(kept[_INDEX].sort())


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
