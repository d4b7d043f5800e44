"""Rows of the files that differ: read under one schema by delta-rs, compared in bulk in Arrow, named as items."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from plait.errors import InvalidArgument, NotFound
from plait.types import ItemChangeKind, Json

from plait_delta.actions import Action, FileId, State, joined_protocol, relocate
from plait_delta.disk import translated as disk_translated
from plait_delta.items import from_json, hashed_item, keyed_item, to_json
from plait_delta.log import LOG, encode
from plait_delta.roots import LINK, Root
from plait_delta.table import rows_of, translated

Row = dict[str, Json]

_SIGN, _INDEX = "__plait_sign", "__plait_index"
_OWN_LINK = "_own"


@dataclass(frozen=True, slots=True)
class Side:
    """One version and the root that holds it."""

    root: Root
    state: State


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns that rows are compared by, and which of them identify a row (none: rows are a multiset)."""

    identifiers: tuple[str, ...]

    def item(self, row: Row) -> str:
        """The row's text after `::`."""
        if not self.identifiers:
            return hashed_item(row)
        return keyed_item(self.identifiers, [row[name] for name in self.identifiers])

    def keys(self, rows: pa.Table) -> pa.Table:
        """The key columns alone."""
        return rows.select(list(self.identifiers))


# -- reading -----------------------------------------------------------------------------------------------------------


def read(
    side: Side, files: Collection[FileId], under: State | None = None, sql: str = "SELECT * FROM this"
) -> pa.Table:
    """The live rows of some files of a version, with the columns of another; or what an SQL query says of them.

    Cost: the files. Raises: NotFound for a lost file.
    """
    with _view(side, files, under) as folder, translated(f"table {side.root.table}"):
        try:
            return plain(rows_of(DeltaTable(folder), sql))
        except Exception:
            check_files(side, files)
            raise


def read_in_order(side: Side, shape: Shape) -> Iterator[pa.Table]:
    """All rows of a version in order of the key columns, in batches; without those, in any order.

    Cost: all files; memory for a batch where there are no keys, else what delta-rs sorts by.
    """
    order = ", ".join(f"{quoted(name)} ASC NULLS LAST" for name in shape.identifiers)
    sql = "SELECT * FROM this" + (f" ORDER BY {order}" if order else "")
    with _view(side, side.state.files, None) as folder, translated(f"table {side.root.table}"):
        check_files(side, side.state.files)
        for batch in QueryBuilder().register("this", DeltaTable(folder)).execute(sql):
            yield plain(pa.table(batch))


def check_files(side: Side, files: Iterable[FileId]) -> None:
    """Raises: NotFound for a data file that is not there."""
    for path, _ in files:
        place = os.path.join(side.root.table, path)
        own = side.root.path(path.removeprefix(side.root.own)) if path.startswith(side.root.own) else place
        if not (os.path.exists(place) or os.path.exists(own)):
            raise NotFound(f"data file {place} does not exist", remedy="see 'plait verify'")


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _view(side: Side, files: Iterable[FileId], under: State | None) -> Iterator[str]:
    """A table of just these files, for reading by delta-rs, so that deletion vectors, column mapping and partition
    values are its business: a log in a temporary folder, with links to where the files are."""
    root, state = side.root, side.state
    wanted = under or state
    protocol = joined_protocol(wanted.protocol, state.protocol)
    metadata = {**wanted.metadata, "partitionColumns": state.partition_columns}
    actions: list[Action] = [{"protocol": protocol}, {"metaData": metadata}]

    def place(path: str) -> str:
        if root.own and path.startswith(root.own):
            return f"{_OWN_LINK}/{path.removeprefix(root.own)}"
        return f"{LINK}/{path}"

    actions += [{"add": {**relocate(state.files[one], place), "dataChange": True}} for one in files]
    with tempfile.TemporaryDirectory(prefix="plait-delta-") as folder:
        with disk_translated(folder):
            os.symlink(root.table, os.path.join(folder, LINK))
            os.symlink(root.folder, os.path.join(folder, _OWN_LINK))
            os.mkdir(os.path.join(folder, LOG))
            with open(os.path.join(folder, LOG, f"{0:020}.json"), "wb") as stream:
                stream.write(encode(actions))
        yield folder


def plain(rows: pa.Table) -> pa.Table:
    """Columns in the types that Arrow can group, join and compare: views become plain text and bytes."""
    fields = [pa.field(one.name, _plain_type(one.type), one.nullable) for one in rows.schema]
    return rows.cast(pa.schema(fields))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind) or types.is_large_binary(kind):
        return pa.binary()
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(pa.field(kind.value_field.name, _plain_type(kind.value_type), kind.value_field.nullable))
    if types.is_struct(kind):
        return pa.struct([pa.field(one.name, _plain_type(one.type), one.nullable) for one in kind])
    return kind


# -- comparing ---------------------------------------------------------------------------------------------------------


def difference(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that only one of two multisets has, each as often as it has it more.

    Cost: one hash aggregation in Arrow; no row that both have becomes a Python object.
    """
    both = pa.concat_tables([before, after], promote_options="permissive")
    signs = pa.chunked_array([pa.repeat(pa.scalar(-1), before.num_rows), pa.repeat(pa.scalar(1), after.num_rows)])
    keyed = pa.table({f"c{n}": _groupable(column) for n, column in enumerate(both.columns)})
    names = keyed.column_names
    keyed = keyed.append_column(_SIGN, signs).append_column(_INDEX, pa.array(range(both.num_rows), pa.int64()))
    groups = keyed.group_by(names, use_threads=False).aggregate([(_SIGN, "sum"), (_INDEX, "min")])
    removed: list[int] = []
    added: list[int] = []
    counts = zip(groups[f"{_INDEX}_min"].to_pylist(), groups[f"{_SIGN}_sum"].to_pylist(), strict=True)
    for index, count in counts:
        (added if count > 0 else removed).extend([index] * abs(count))
    return take(both, sorted(removed)), take(both, sorted(added))


def _groupable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        texts = (None if value is None else json.dumps(to_json(value)) for value in column.to_pylist())
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column


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


@dataclass(frozen=True, slots=True)
class RowChanges:
    """All rows that differ, and as Arrow what `before_index` and `after_index` point into."""

    changes: tuple[RowChange, ...]
    removed: pa.Table
    added: pa.Table


def compare(shape: Shape, before: pa.Table, after: pa.Table) -> RowChanges:
    """What differs, in order of the key columns (else of the items).

    A row is CHANGED where exactly one was removed and one added under the same identifier.
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
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidArgument(f"column {column.name!r} cannot hold {values!r}: {error}") from error
