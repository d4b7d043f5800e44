"""Rows of data files: read under one schema, and which columns identify them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from plait.errors import Unsupported
from plait.rows.comparing import INDEX, groupable, to_rows
from plait.rows.items import hashed_item, keyed_items
from pyiceberg.exceptions import ResolveError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from plait_iceberg.files import translated
from plait_iceberg.manifests import Held, ManifestReader, scan_tasks
from plait_iceberg.times import check_times


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

    def items(self, rows: pa.Table) -> pa.Array:
        """The text after `::` of each row."""
        if self.identifiers:
            return keyed_items(self.identifiers, [_column_at(rows, name) for name in self.identifiers])
        ids = {field.name: field.field_id for field in self.schema.fields}
        by_id = ({ids[name]: value for name, value in row.items()} for row in to_rows(rows))
        return pa.array(map(hashed_item, by_id), pa.string())

    def keys(self, rows: pa.Table) -> pa.Table:
        """The identifier columns alone, as columns that can be joined on."""
        return pa.table({name: groupable(_column_at(rows, name)) for name in self.identifiers})


def _column_at(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name in rows.column_names:
        return rows[name]
    first, *rest = name.split(".")
    column = rows[first]
    for part in rest:
        column = pc.struct_field(column, [part])
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
                check_times(reader.io, task.file, schema)
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


# -- by key ------------------------------------------------------------------------------------------------------------


def without(shape: Shape, rows: pa.Table, keys: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows whose identifiers are not among `keys`, and those whose are; in their order. `shape` has identifiers."""
    indexed = shape.keys(rows).append_column(INDEX, pa.array(range(rows.num_rows), pa.int64()))
    parts = (
        indexed.join(keys, keys=list(shape.identifiers), join_type=f"left {kind}", use_threads=False)
        for kind in ("anti", "semi")
    )
    kept, gone = (rows.take(part[INDEX].sort()) for part in parts)
    return kept, gone
