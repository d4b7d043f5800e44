"""Times as INT96, which Spark writes into plain Parquet tables, and so are in tables that were migrated to Iceberg.

pyiceberg reads them as nanoseconds, which end in 2262; what is later, or before 1678, it takes for some other time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from plait.errors import Unsupported
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.types import TimestampType, TimestamptzType

_NANOSECONDS_MAX: Final = 2**63 - 1


def check_times(io: FileIO, file: DataFile, schema: Schema) -> None:
    """Raises: Unsupported for a file with times that pyiceberg takes for others.

    Cost: nothing without columns of times; else the file's footer, and its columns of INT96 where it has any.
    """
    kinds = (schema.find_type(field_id) for field_id in schema.field_ids)
    has_times = any(isinstance(one, TimestampType | TimestamptzType) for one in kinds)
    if not has_times or file.file_format != FileFormat.PARQUET:
        return
    with io.new_input(file.file_path).open() as stream:
        parquet = pq.ParquetFile(stream, coerce_int96_timestamp_unit="us")
        leaves = [parquet.schema.column(number) for number in range(len(parquet.schema))]
        names = [one.path for one in leaves if one.physical_type == "INT96"]
        if not names:
            return
        for batch in parquet.iter_batches(columns=names):
            for times in (leaf for column in batch.columns for leaf in _leaves(column)):
                number = pc.max(pc.abs_checked(times.cast(pa.int64()))).as_py()
                if number is not None and number * 1000 > _NANOSECONDS_MAX:
                    raise Unsupported(
                        f"data file {file.file_path} has times before 1678 or after 2261 as INT96, which pyiceberg "
                        "reads as others",
                        remedy="rewrite its rows with Spark, which writes Iceberg's own times: rewrite_data_files",
                    )


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    """The times in a column, however deep they are."""
    if pa.types.is_timestamp(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for part in column.flatten():
            yield from _leaves(part)
    elif pa.types.is_map(column.type):
        yield from _leaves(column.keys)
        yield from _leaves(column.items)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _leaves(column.flatten())
