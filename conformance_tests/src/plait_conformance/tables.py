"""Iceberg tables for tests: one commit a call, and reading back with nothing but pyiceberg.

The adapter arrives as an argument, since nobody imports a plugin. Needs what that plugin brings: pyiceberg, pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import pyarrow as pa
from plait.adapter import Adapter
from plait.types import Conflict, Conflicted, Merged, Resolution, SnapshotRef
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.upsert_util import create_match_filter
from pyiceberg.types import LongType, NestedField, StringType

from plait_conformance.testing import MemoryPort

KEY = ("lake", "sales", "orders")

Rows = list[dict[str, Any]]

KEYED = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "item", StringType(), required=False),
    NestedField(3, "price", LongType(), required=False),
    identifier_field_ids=[1],
)
"""Orders, told apart by their id."""

LOOSE = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "item", StringType(), required=False),
    NestedField(3, "price", LongType(), required=False),
)
"""The same without identifier fields: rows are a multiset."""


def order(number: int, item: str | None = "pen", price: int | None = 1) -> dict[str, Any]:
    return {"id": number, "item": item, "price": price}


def batch(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as Arrow, under the table's current schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=table.schema().as_arrow())


def append(*rows: Mapping[str, Any]) -> Callable[[Table], None]:
    return lambda table: table.append(batch(table, rows))


def correct(*rows: Mapping[str, Any]) -> Callable[[Table], None]:
    """Rewrite the rows of these identifiers, as an engine with copy-on-write does."""
    return lambda table: _correct(table, rows)


def _correct(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    corrected = batch(table, rows)
    table.overwrite(corrected, create_match_filter(corrected, sorted(table.schema().identifier_field_names())))


def delete(predicate: str) -> Callable[[Table], None]:
    return lambda table: table.delete(predicate)


class Tables:
    """One adapter, and a new transaction for each call."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._numbers = count(1)

    def tx(self) -> str:
        """A transaction's id that was not used before."""
        return f"tx-{next(self._numbers)}"

    def port(self, base: Mapping[tuple[str, ...], SnapshotRef] | None = None) -> MemoryPort:
        return MemoryPort(self.adapter, self.tx(), base)

    def catalog(self, port: MemoryPort) -> Catalog:
        opened = self.adapter.open_store(port)
        assert isinstance(opened, Catalog)
        return opened

    def table(self, port: MemoryPort, key: tuple[str, ...] = KEY) -> Table:
        opened = self.adapter.open(port.add(key), port)
        assert isinstance(opened, Table)
        return opened

    def vote(self, port: MemoryPort, key: tuple[str, ...] = KEY) -> SnapshotRef:
        voted = self.adapter.prepare(port.tx, 1, port.stagings)[key]
        assert voted is not None
        return voted

    def create(
        self,
        rows: Iterable[Mapping[str, Any]] = (),
        *,
        schema: Schema = KEYED,
        key: tuple[str, ...] = KEY,
        **options: Any,
    ) -> SnapshotRef:
        """A committed table: its rows are in one data file."""
        port = self.port()
        made = self.catalog(port).create_table(key[1:], schema, **options)
        if found := list(rows):
            append(*found)(made)
        return self.vote(port, key)

    def change(self, base: SnapshotRef, *writes: Callable[[Table], object], key: tuple[str, ...] = KEY) -> SnapshotRef:
        """A commit on `base`: each write is an Iceberg commit of its own."""
        port = self.port({key: base})
        port.add(key)
        for write in writes:
            write(self.table(port, key))
        return self.vote(port, key)

    def merged(
        self, base: SnapshotRef | None, ours: SnapshotRef, theirs: SnapshotRef, *resolutions: Resolution
    ) -> SnapshotRef:
        found = self.adapter.merge(self.tx(), 1, base=base, ours=ours, theirs=theirs, resolutions=resolutions)
        assert isinstance(found, Merged), found
        return found.snapshot

    def conflicts(
        self, base: SnapshotRef | None, ours: SnapshotRef, theirs: SnapshotRef, *resolutions: Resolution
    ) -> tuple[Conflict, ...]:
        found = self.adapter.merge(self.tx(), 1, base=base, ours=ours, theirs=theirs, resolutions=resolutions)
        assert isinstance(found, Conflicted), found
        return found.conflicts


def static(snapshot: SnapshotRef) -> Table:
    """The snapshot as anybody opens it: by its metadata file, plait not asked."""
    return StaticTable.from_metadata(snapshot.version)


def read_back(snapshot: SnapshotRef) -> Rows:
    """All rows, read by plain pyiceberg, in a fixed order."""
    return ordered(static(snapshot).scan().to_arrow().to_pylist())


def ordered(rows: Iterable[Mapping[str, Any]]) -> Rows:
    return sorted((dict(row) for row in rows), key=repr)
