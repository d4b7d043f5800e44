"""Harnesses of the strict fake store's kinds, and an example of how small a harness is."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import ClassVar, cast
from unittest import mock
from urllib.parse import unquote, urlparse

from plait.adapter import Adapter, Context, StagingPort
from plait.errors import PermissionDenied
from plait.types import Key, Location, SnapshotRef, Store

from plait_conformance import fake_storage
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_kinds import FakeBlockAdapter, FakeDeltaAdapter, FakeDoltAdapter, FakeSharedAdapter
from plait_conformance.fake_storage import Folder, head_items, write_behind
from plait_conformance.harness import Edits, Harness, Rows


class FakeHarness(Harness):
    """Rows are items, as JSON text."""

    adapter: ClassVar[type[FakeAdapter]] = FakeAdapter
    keeps_all_in_folder: ClassVar[bool] = True

    def open(self, context: Context) -> Adapter:
        return self.adapter(Store("fakes", self.adapter.kind, options={"path": str(self.folder)}), context)

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        port.add(key, new=True)
        self.write(adapter, port, key, dict(rows))

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        items = cast("MutableMapping[str, str]", adapter.open(port.add(key), port))
        for row, text in edits.items():
            if text is not None:
                items[row] = json.dumps(text)
            elif row in items:
                del items[row]

    def read(self, location: Location) -> Rows:
        with open(unquote(urlparse(location.uri).path), encoding="utf-8") as file:
            return {row: json.loads(text) for row, text in json.load(file).items()}

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        asset = "foreign" if snapshot is None else snapshot.asset
        items = head_items(self.folder, asset)
        if items is None and snapshot is not None:
            record = Folder(self.folder).version(snapshot.version)
            assert record is not None
            items = Folder(self.folder).object(record.members[asset])
        changed = {**(items or {}), **{row: json.dumps(text) for row, text in edits.items() if text is not None}}
        write_behind(self.folder, asset, {row: text for row, text in changed.items() if edits.get(row, "") is not None})
        return asset

    @contextmanager
    def denied(self) -> Iterator[None]:
        refusal = PermissionDenied("the fake store refuses to be written")
        with mock.patch.object(fake_storage, "_temporary", side_effect=refusal):
            yield

    def corrupt(self, snapshot: SnapshotRef) -> None:
        path = self.folder / "objects" / snapshot.digest.hex()
        stored = bytearray(path.read_bytes())
        stored[len(stored) // 2] ^= 1
        path.write_bytes(stored)


class FakeDoltHarness(FakeHarness):
    adapter = FakeDoltAdapter


class FakeDeltaHarness(FakeHarness):
    adapter = FakeDeltaAdapter


class FakeBlockHarness(FakeHarness):
    adapter = FakeBlockAdapter


class FakeSharedHarness(FakeHarness):
    adapter = FakeSharedAdapter


HARNESSES: tuple[type[FakeHarness], ...] = (
    FakeHarness,
    FakeDoltHarness,
    FakeDeltaHarness,
    FakeBlockHarness,
    FakeSharedHarness,
)
