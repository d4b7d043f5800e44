"""Delta tables for tests: one commit a call, and reading back with nothing but deltalake.

The adapter arrives as an argument, since nobody imports a plugin. Needs what that plugin brings: deltalake,
obstore, pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from obstore.store import S3Store
from plait.adapter import Adapter
from plait.stores import resolve_credential
from plait.types import (
    Conflict,
    Conflicted,
    Key,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Store,
)

from plait_conformance.testing import MemoryPort, make_adapter

KEY: Key = ("weather", "hourly")
ROWS = pa.schema([pa.field("id", pa.int64()), pa.field("item", pa.string()), pa.field("price", pa.int64())])

Rows = list[dict[str, Any]]
Write = Callable[[Any], object]
"""One native commit on an open table."""


def row(number: int | None, item: str | None = "pen", price: int | None = 1) -> dict[str, Any]:
    return {"id": number, "item": item, "price": price}


def batch(rows: Iterable[Mapping[str, Any]], schema: pa.Schema = ROWS) -> pa.Table:
    return pa.Table.from_pylist([dict(one) for one in rows], schema=schema)


def append(*rows: Mapping[str, Any]) -> Write:
    return lambda table: table.append(batch(rows))


def delete(predicate: str) -> Write:
    return lambda table: table.delete(predicate)


def correct(*rows: Mapping[str, Any]) -> Write:
    """Rewrite the rows of these ids."""

    def write(table: Any) -> None:
        merger = table.merge(batch(rows), "t.id = s.id", source_alias="s", target_alias="t")
        merger.when_matched_update_all().execute()

    return write


def ordered(rows: Iterable[Mapping[str, Any]]) -> Rows:
    return sorted((dict(one) for one in rows), key=repr)


def rows_in(folder: str | Path, version: int | None = None, storage: dict[str, str] | None = None) -> Rows:
    """All rows, by a plain deltalake table that knows nothing of plait, in a fixed order."""
    table = DeltaTable(str(folder), version=version, storage_options=storage)
    found = pa.table(QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all())
    return ordered(found.to_pylist())


def storage_options(options: Mapping[str, str]) -> dict[str, str]:
    """What a client that knows nothing of plait is told of a bucket, by a store's options."""
    return {
        "AWS_ENDPOINT_URL": options["endpoint"],
        "AWS_ACCESS_KEY_ID": resolve_credential(options["access_key"]),
        "AWS_SECRET_ACCESS_KEY": resolve_credential(options["secret_key"]),
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


class Tables:
    """One adapter, and a new transaction for each call."""

    def __init__(self, kind: type[Adapter], path: Path | str, options: Mapping[str, str] | None = None) -> None:
        """`path` and `options` of the store; in a bucket, `endpoint`, `access_key` and `secret_key` are needed."""
        self._kind = kind
        self.options = dict(options or {})
        self.path = Path(path)
        self.place = str(path)
        self.storage = storage_options(self.options) if self.options else None
        self.adapter = self.restarted()
        self._numbers = count(1)
        self._seqs = count(1)

    def restarted(self) -> Adapter:
        """A new adapter on the same folder."""
        return make_adapter(self._kind, Store("weather", "delta", options={"path": self.place, **self.options}))

    def tx(self) -> str:
        return f"tx-{next(self._numbers)}"

    def port(self, base: Mapping[Key, SnapshotRef] | None = None) -> MemoryPort:
        return MemoryPort(self.adapter, self.tx(), base)

    def namespace(self, port: MemoryPort) -> Any:
        return self.adapter.open_store(port)

    def table(self, port: MemoryPort, key: Key = KEY) -> Any:
        return self.adapter.open(port.add(key), port)

    def vote(self, port: MemoryPort, key: Key = KEY, attempt: int = 1) -> SnapshotRef:
        voted = self.adapter.prepare(port.tx, attempt, port.stagings)[key]
        assert voted is not None
        return voted

    def create(
        self, rows: Sequence[Mapping[str, Any]] = (), *, keyed: bool = True, key: Key = KEY, **options: Any
    ) -> SnapshotRef:
        """A committed table: its rows are in one data file."""
        port = self.port()
        options.setdefault("schema", ROWS)
        made = self.namespace(port).create_table(key[1:], key_columns=("id",) if keyed else (), **options)
        if rows:
            made.append(batch(rows, options["schema"]))
        return self.vote(port, key)

    def change(self, base: SnapshotRef, *writes: Write, key: Key = KEY) -> SnapshotRef:
        """A commit on `base`: each write is a Delta commit of its own."""
        port = self.port({key: base})
        port.add(key)
        for write in writes:
            write(self.table(port, key))
        return self.vote(port, key)

    def located(self, snapshot: SnapshotRef) -> DeltaTable:
        """A snapshot, as anybody opens it where `locate` says."""
        found = self.adapter.locate(snapshot)
        return DeltaTable(found.uri, version=int(found.options["version"]), storage_options=self.storage)

    def read(self, snapshot: SnapshotRef) -> Rows:
        """The rows of a snapshot, as anybody reads them where `locate` says."""
        found = self.adapter.locate(snapshot)
        return rows_in(found.uri, int(found.options["version"]), self.storage)

    def native(self, folder: str = "hourly", version: int | None = None) -> DeltaTable:
        """The published table, as anybody opens it."""
        return DeltaTable(f"{self.place}/{folder}", version=version, storage_options=self.storage)

    def head(self, folder: str = "hourly") -> Rows:
        """The rows of the published table, as anybody reads them."""
        return rows_in(f"{self.place}/{folder}", storage=self.storage)

    def publish(self, before: SnapshotRef | None, after: SnapshotRef | None, *, seq: int | None = None) -> Published:
        move = Move(before, after, seq=next(self._seqs) if seq is None else seq)
        return self.adapter.publish({KEY: move})[KEY]

    def published(self, before: SnapshotRef | None, after: SnapshotRef | None) -> None:
        assert self.publish(before, after).state is PublishState.DONE

    def lay(self, folder: Path, name: str) -> None:
        """Bring a table that was made elsewhere on the disk to the store, without its log being read."""
        for path in (one for one in folder.rglob("*") if one.is_file()):
            place = f"{name}/{path.relative_to(folder)}"
            if self.storage is None:
                (self.path / place).parent.mkdir(parents=True, exist_ok=True)
                (self.path / place).write_bytes(path.read_bytes())
            else:
                config: Any = {name.lower(): value for name, value in self.storage.items() if name != "AWS_ALLOW_HTTP"}
                store = S3Store.from_url(self.place, config=config, client_options={"allow_http": True})
                obstore.put(store, place, path.read_bytes())

    def foreign(self, *rows: Mapping[str, Any], folder: str = "hourly") -> None:
        """Somebody appends past plait."""
        write_deltalake(f"{self.place}/{folder}", batch(rows), mode="append", storage_options=self.storage)

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
