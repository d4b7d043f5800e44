"""Rows of data files: read under one schema by delta-rs, and which columns identify them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa
from plait.errors import NotFound
from plait.rows.comparing import ByColumns

from plait_delta.actions import Action, FileId, State, joined_protocol, relocate
from plait_delta.files import Native
from plait_delta.log import encode
from plait_delta.roots import Layout, Root
from plait_delta.table import engine_of, misread_rows, open_native, quoted, rows_of, times_in, translated


@dataclass(frozen=True, slots=True)
class Side:
    """One version and the root that holds it."""

    layout: Layout
    root: Root
    state: State


# -- reading -----------------------------------------------------------------------------------------------------------


def read(
    side: Side, files: Collection[FileId], under: State | None = None, sql: str = "SELECT * FROM this"
) -> pa.Table:
    """The live rows of some files of a version, with the columns of another; or what an SQL query says of them.

    Cost: the files. Raises: NotFound for a lost file.
    """
    with _view(side, files, under) as native, translated(f"table {side.root.table}"):
        try:
            return plain(rows_of(open_native(native), sql))
        except Exception:
            check_files(side, files)
            raise


def read_in_order(side: Side, shape: ByColumns) -> Iterator[pa.Table]:
    """All rows of a version in order of the key columns, in batches; without those, in any order.

    Cost: all files; memory for a batch where there are no keys, else what delta-rs sorts by.
    """
    order = ", ".join(f"{quoted(name)} ASC NULLS LAST" for name in shape.identifiers)
    sql = "SELECT * FROM this" + (f" ORDER BY {order}" if order else "")
    with _view(side, side.state.files, None) as native, translated(f"table {side.root.table}"):
        check_files(side, side.state.files)
        for batch in engine_of(open_native(native)).execute(sql):
            yield plain(pa.table(batch))


def has_misread_rows(side: Side, files: Collection[FileId]) -> bool:
    """Whether some files of a version have rows that delta-rs misreads in a change data feed. Cost: as `misread_rows`,
    of these files."""
    if not times_in(side.state.schema, side.state.partition_columns):
        return False
    with _view(side, files, None) as native, translated(f"table {side.root.table}"):
        return misread_rows(open_native(native)) > 0


def check_files(side: Side, files: Iterable[FileId]) -> None:
    """Raises: NotFound for a data file that is not there."""
    places = {path: side.layout.own_places(side.root, path) for path, _ in files}
    found = side.root.files.infos(place for named in places.values() for place in named)
    for named in places.values():
        if not any(place in found for place in named):
            raise NotFound(f"data file {named[0]} does not exist", remedy="see 'plait verify'")


def _view(side: Side, files: Iterable[FileId], under: State | None) -> AbstractContextManager[Native]:
    """A table of just these files, for reading by delta-rs, so that deletion vectors, column mapping and partition
    values are its business."""
    state = side.state
    wanted = under or state
    protocol = joined_protocol(wanted.protocol, state.protocol)
    metadata = {**wanted.metadata, "partitionColumns": state.partition_columns}

    def log(place: Callable[[str], str]) -> bytes:
        adds: Iterable[Action] = ({"add": {**relocate(state.files[one], place), "dataChange": True}} for one in files)
        return encode([{"protocol": protocol}, {"metaData": metadata}, *adds])

    return side.layout.view(side.root, log)


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
