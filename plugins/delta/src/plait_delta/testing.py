"""The harnesses of the conformance suite: rows of Delta tables, read and written behind plait by plain deltalake."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, cast
from unittest import mock

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from plait.adapter import Adapter, Context, StagingPort
from plait.stores import NoState, resolve_credential
from plait.types import Json, Key, Location, SnapshotRef, Store
from plait_conformance.delta_tables import storage_options
from plait_conformance.harness import Edits, Harness, Rows

from plait_delta.adapter import DeltaAdapter
from plait_delta.bucket import BucketFiles
from plait_delta.table import Namespace

_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


class DeltaHarness(Harness):
    """Tables in a folder. A row is a row, told apart by its key column."""

    keeps_all_in_folder: ClassVar[bool] = True
    survives_fork: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._made = 0

    @property
    def top(self) -> str:
        """The store's `path`."""
        return str(self.folder / "tables")

    @property
    def options(self) -> dict[str, str]:
        """The store's other options."""
        return {}

    @property
    def storage(self) -> dict[str, str] | None:
        """The storage options of clients that know nothing of plait."""
        return None

    def open(self, context: Context) -> DeltaAdapter:
        return DeltaAdapter(Store("weather", "delta", options={"path": self.top, **self.options}), context)

    def item(self, row: str) -> str:
        return f"id={row}"

    def value(self, row: str, text: str) -> Json:
        return {"id": row, "text": text}

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        namespace = cast(Namespace, adapter.open_store(port))
        _edit(namespace.create_table(key[1:], _SCHEMA, key_columns=["id"]), rows)

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        _edit(cast(DeltaTable, adapter.open(port.add(key), port)), edits)

    def read(self, location: Location) -> Rows:
        version = int(location.options["version"])
        found = _rows(DeltaTable(location.uri, version=version, storage_options=self.storage))
        rows = {row["id"]: row["text"] for row in found}
        assert len(rows) == len(found), f"an identifier is there twice: {found}"
        return rows

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """Into the table's own log, whatever plait has published there."""
        self._made += snapshot is None
        name = f"elsewhere{self._made}" if snapshot is None else snapshot.asset
        folder = f"{self.top}/{name}"
        if snapshot is None:
            DeltaTable.create(
                folder, _SCHEMA, configuration={"plait.key-columns": "id"}, raise_if_key_not_exists=False,
                storage_options=self.storage,
            )  # fmt: skip
        _edit(DeltaTable(folder, storage_options=self.storage), edits)
        return name

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """Bytes that this process has read and written, as the kernel counts them: delta-rs reads past Python.

        What a process reads once, when it first compares rows (libraries, say), is behind it when this answers.
        """
        _compare_once()
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return {"bytes": int(counts["rchar"]) + int(counts["wchar"])}

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """In the values of a page, which plain readers take as they are."""
        path = self._data_file(snapshot)
        middle = os.path.getsize(path) // 3
        with open(path, "r+b") as stream:
            stream.seek(middle)
            byte = stream.read(1)
            stream.seek(middle)
            stream.write(bytes([byte[0] ^ 1]))

    def _data_file(self, snapshot: SnapshotRef) -> str:
        root, _, version = snapshot.version.rpartition("@")
        uris = DeltaTable(f"{self.top}/{root}", version=int(version), storage_options=self.storage).file_uris()
        return uris[0]


class BucketHarness(DeltaHarness):
    """Tables below a prefix of a bucket."""

    keeps_all_in_folder: ClassVar[bool] = False

    def __init__(self, folder: Path, path: str, options: dict[str, str], denied: Mapping[str, str]) -> None:
        """`options` of the store, its keys `env:NAME`; `denied`: what these names hold for who may only read."""
        super().__init__(folder)
        self._top, self._options, self._denied = path, options, denied

    @property
    def top(self) -> str:
        return self._top

    @property
    def options(self) -> dict[str, str]:
        return self._options

    @property
    def storage(self) -> dict[str, str]:
        return storage_options(self._options)

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """What the server was asked for, by the adapter itself and for deltalake."""
        return dict(cast(BucketFiles, cast(DeltaAdapter, adapter)._layout.files).counts())

    def corrupt(self, snapshot: SnapshotRef) -> None:
        bucket = self._top.split("/")[2]
        files = BucketFiles(bucket, self._options, failpoint=lambda name: None, credential=resolve_credential)
        place = self._data_file(snapshot)
        data = bytearray(files.read(place))
        data[len(data) // 3] ^= 1
        files.replace(place, bytes(data))

    @contextmanager
    def denied(self) -> Iterator[None]:
        with mock.patch.dict(os.environ, self._denied):
            yield


@cache
def _compare_once() -> None:
    with TemporaryDirectory() as folder:
        adapter = DeltaAdapter(Store("once", "delta", options={"path": folder}), Context(NoState()))
        found = []
        for name, text in (("a", "one"), ("b", "two")):
            path = os.path.join(folder, name)
            write_deltalake(path, pa.Table.from_pylist([{"id": "r0", "text": text}], schema=_SCHEMA))
            found.append(adapter.snapshot("once", {("once", name): name})["once", name])
        assert list(adapter.diff(*found))


def _rows(table: DeltaTable) -> list[dict[str, str]]:
    found: list[dict[str, str]] = pa.table(
        QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()
    ).to_pylist()
    return found


def _edit(table: DeltaTable, edits: Edits) -> None:
    """By as few native commits as it takes."""
    held = {row["id"]: row["text"] for row in _rows(table)}
    leaving = [row for row, text in edits.items() if row in held and text is None]
    changing = [{"id": row, "text": text} for row, text in edits.items() if text is not None and row in held]
    coming = [{"id": row, "text": text} for row, text in edits.items() if text is not None and row not in held]
    if leaving:
        table.delete("id IN ({})".format(", ".join(f"'{row}'" for row in leaving)))
    if changed := [row for row in changing if held[row["id"]] != row["text"]]:
        source = pa.Table.from_pylist(changed, schema=_SCHEMA)
        table.merge(source, "t.id = s.id", source_alias="s", target_alias="t").when_matched_update_all().execute()
    if coming:
        write_deltalake(table, pa.Table.from_pylist(coming, schema=_SCHEMA), mode="append")
