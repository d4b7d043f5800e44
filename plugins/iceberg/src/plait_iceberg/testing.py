"""The harness of the conformance suite: rows of an Iceberg table, read and written behind plait by plain pyiceberg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import unquote, urlparse

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from plait.adapter import Adapter, Context, StagingPort
from plait.types import Json, Key, Location, SnapshotRef, Store
from plait_conformance.harness import Edits, Harness, Rows
from pyarrow.fs import FSSpecHandler, PyFileSystem
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.expressions import BooleanExpression, In
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable, Table
from pyiceberg.types import NestedField, StringType

from plait_iceberg.adapter import IcebergAdapter

_SCHEMA = Schema(
    NestedField(1, "id", StringType(), required=True),
    NestedField(2, "text", StringType(), required=False),
    identifier_field_ids=[1],
)


class IcebergHarness(Harness):
    """A warehouse in a folder. A row is a row, told apart by its identifier field."""

    keeps_all_in_folder: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names = count()

    def open(self, context: Context) -> IcebergAdapter:
        return IcebergAdapter(Store("lake", "iceberg", options={"warehouse": str(self.folder / "warehouse")}), context)

    def name(self, asset: str) -> tuple[str, ...]:
        return ("sales", asset)

    def item(self, row: str) -> str:
        return f"id={row}"

    def value(self, row: str, text: str) -> Json:
        return {"id": row, "text": text}

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        catalog = cast(Any, adapter.open_store(port))
        _edit(catalog.create_table(key[1:], _SCHEMA), dict(rows))

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        _edit(cast(Table, adapter.open(port.add(key), port)), edits)

    def read(self, location: Location) -> Rows:
        found = StaticTable.from_metadata(location.uri).scan().to_arrow().to_pylist()
        rows = {row["id"]: row["text"] for row in found}
        assert len(rows) == len(found), f"an identifier is there twice: {found}"
        return rows

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """By a catalog of its own, which has never heard of plait."""
        catalog = InMemoryCatalog("elsewhere", warehouse=(self.folder / "warehouse").as_uri())
        catalog.create_namespace("elsewhere")
        name = f"elsewhere.t{next(self._names)}"
        table = (
            catalog.create_table(name, _SCHEMA) if snapshot is None else catalog.register_table(name, snapshot.version)
        )
        _edit(table, edits)
        found = catalog.load_table(name).metadata_location
        catalog.close()
        return found

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """Files opened, and their bytes."""
        assert isinstance(adapter, IcebergAdapter)
        if not isinstance(adapter.files.io, _CountedFileIO):
            adapter.files.io = _CountedFileIO()
        return dict(adapter.files.io.counts)

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """A byte of a data file, which may well decode."""
        task = next(iter(StaticTable.from_metadata(snapshot.version).scan().plan_files()))
        path = Path(unquote(urlparse(task.file.file_path).path))
        stored = bytearray(path.read_bytes())
        stored[len(stored) // 2] ^= 1
        path.write_bytes(stored)


class MirroredHarness(IcebergHarness):
    """The same with a mirror: a SQL catalog beside the warehouse, through which somebody else writes."""

    def open(self, context: Context) -> IcebergAdapter:
        options = {"warehouse": str(self.folder / "warehouse"), "mirror.type": "sql", "mirror.uri": self._uri}
        return IcebergAdapter(Store("lake", "iceberg", options=options), context)

    @property
    def _uri(self) -> str:
        return f"sqlite:///{self.folder / 'mirror.db'}"

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """At the mirror's table of the asset; on top of the snapshot where the mirror has none."""
        mirror = load_catalog("default", type="sql", uri=self._uri, warehouse=(self.folder / "warehouse").as_uri())
        try:
            mirror.create_namespace_if_not_exists("sales")
            for name in mirror.list_tables("sales"):
                table = mirror.load_table(name)
                if snapshot is not None and str(table.metadata.table_uuid) == snapshot.asset:
                    _edit(table, edits)
                    return mirror.load_table(name).metadata_location
        finally:
            mirror.close()
        return super().write_behind(snapshot, edits)


def _edit(table: Table, edits: Edits) -> None:
    held = {row["id"]: row["text"] for row in table.scan().to_arrow().to_pylist()}
    leaving = sorted(row for row, text in edits.items() if row in held and held[row] != text)
    coming = [{"id": row, "text": text} for row, text in edits.items() if text is not None and held.get(row) != text]
    rows = pa.Table.from_pylist(coming, schema=table.schema().as_arrow())
    if leaving and coming:
        table.overwrite(rows, _those(leaving))
    elif leaving:
        table.delete(_those(leaving))
    elif coming:
        table.append(rows)


def _those(rows: Sequence[str]) -> BooleanExpression:
    found: BooleanExpression = cast(Any, In)("id", rows)
    return found


class _CountedFileIO(PyArrowFileIO):
    """Local files through fsspec, counted."""

    def __init__(self) -> None:
        super().__init__({})
        self.counts = Counter({"requests": 0, "bytes": 0})
        counted = PyFileSystem(FSSpecHandler(_CountedFileSystem(self.counts)))
        self.fs_by_scheme = cast(Any, lambda scheme, netloc=None: counted)


class _CountedFileSystem(LocalFileSystem):  # type: ignore[misc]
    cachable = False

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__(auto_mkdir=True)
        self._counts = counts

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._counts["requests"] += 1
        opened = super()._open(path, mode, **kwargs)
        if "r" in mode:
            read = opened.read

            def counted(size: int = -1) -> bytes:
                found: bytes = read(size)
                self._counts["bytes"] += len(found)
                return found

            opened.read = counted
        return opened
