"""For tests: a root in a real store with adapters over it, and the harnesses of the conformance suite."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import mock

from plait.adapter import Adapter, Context, Merger, StagingPort, State
from plait.clock import ManualClock, SystemClock
from plait.failpoint import arm_from_environment
from plait.stores import resolve_credential
from plait.types import Key, Location, Move, PublishState, SnapshotRef, Store
from plait_conformance import forking
from plait_conformance.harness import Edits, Harness, NotOffered, Rows
from plait_conformance.testing import MemoryPort, MemoryState

from plait_s3 import open_snapshot
from plait_s3.adapter import ObjectAdapter
from plait_s3.blobs import Blob, address
from plait_s3.content import BUILT_IN
from plait_s3.exporting import export
from plait_s3.filesystem import AssetFileSystem
from plait_s3.heads import read_head
from plait_s3.kinds import FilesAdapter, S3Adapter
from plait_s3.manifest import PACKS, Packs

_LANDING = "landing"
_KEY = ("raw", "landing")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test's store is. `versioned`: its bucket keeps versions."""

    kind: str
    options: dict[str, str]
    state: State
    versioned: bool = False

    def adapter(self, mergers: Sequence[Merger] = (), **options: str) -> ObjectAdapter:
        """A new instance, with these mergers before the built-in ones and these options over the place's own."""
        context = Context(
            state=self.state,
            clock=ManualClock(),
            credential=resolve_credential,
            mergers=lambda: [*mergers, *BUILT_IN],
        )
        adapter: type[ObjectAdapter] = FilesAdapter if self.kind == "files" else S3Adapter
        return adapter(Store("raw", self.kind, options={**self.options, **options}), context)


def export_in_a_process(place: Place, snapshot: SnapshotRef, to: str, *, at: str = "") -> int:
    """Export a version as a process of its own, which dies at a failpoint (none: nowhere). Returns: its exit code."""
    words = (place.kind, snapshot.version, snapshot.digest.hex(), dict(place.options), to)
    return forking.run(_export, *words, environment={**os.environ, "PLAIT_FAILPOINT": at})


def _export(kind: str, pack: str, root: str, options: Mapping[str, str], to: str) -> None:
    arm_from_environment()
    export(open_snapshot(kind, pack, root, **options), to)


class Writer:
    """Commits onto what it committed before (None: removed), and opens that."""

    def __init__(self, adapter: ObjectAdapter) -> None:
        self.adapter = adapter
        self.commits: list[SnapshotRef] = []

    def __call__(self, objects: Mapping[str, bytes | None]) -> AssetFileSystem:
        fs = self.stage(objects)
        return self.adapter.open(self.commit(fs), None)

    def stage(self, objects: Mapping[str, bytes | None]) -> AssetFileSystem:
        tx = f"t{len(self.commits)}"
        self.port = MemoryPort(self.adapter, tx, {_KEY: self.commits[-1]} if self.commits else {})
        fs = self.adapter.open(self.port.add(_KEY, new=not self.commits), self.port)
        fs.pipe({name: content for name, content in objects.items() if content is not None})
        for name in (name for name, content in objects.items() if content is None):
            fs.rm(name)
        return fs

    def commit(self, fs: AssetFileSystem) -> SnapshotRef:
        snapshot = self.adapter.prepare(self.port.tx, 1, {_KEY: self.port.add(_KEY)})[_KEY]
        assert snapshot is not None
        self.commits.append(snapshot)
        return snapshot


class ObjectHarness(Harness):
    """Rows are objects. Subclasses say in which store."""

    adapter: ClassVar[type[ObjectAdapter]]

    @property
    def options(self) -> Mapping[str, str]:
        raise NotImplementedError

    def open(self, context: Context) -> ObjectAdapter:
        return self.adapter(Store("raw", self.adapter.kind, options=dict(self.options)), context)

    def _own(self) -> ObjectAdapter:
        """An instance of the harness's own."""
        return self.open(Context(MemoryState(), credential=resolve_credential))

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        port.add(key, new=True)
        self.write(adapter, port, key, dict(rows))

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        objects: Any = adapter.open(port.add(key), port)
        objects.pipe({row: text.encode() for row, text in edits.items() if text is not None})
        for row in (row for row, text in edits.items() if text is None and objects.exists(row)):
            objects.rm(row)

    def read(self, location: Location) -> Rows:
        """As the snippet of the location does it: with the store's credentials alone."""
        from plait_s3 import open_snapshot

        pack, _, root = location.uri.partition(PACKS)[2].partition("#")
        objects = open_snapshot(self.adapter.kind, pack, root, **self.options)
        return {row: objects.cat_file(row).decode() for row in objects.find("")}

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """Plain objects below a prefix; and where a snapshot's asset has a head, another catalog moves that."""
        adapter = self._own()
        rows: dict[str, str | None] = {}
        while snapshot is not None:
            head = read_head(adapter.blobs, snapshot.asset)
            rows = dict(self.read(adapter.locate(head.snapshot or snapshot)))
            if head.snapshot is None:
                break
            key = ("raw", "elsewhere")
            port = MemoryPort(adapter, SystemClock().new_id(), {key: head.snapshot})
            self.write(adapter, port, key, edits)
            move = Move(head.snapshot, adapter.prepare(port.tx, 1, port.stagings)[key], head.seq)
            if adapter.publish({key: move})[key].state is PublishState.DONE:
                break  # Else the head has moved meanwhile.
        for row, text in {**rows, **edits}.items():
            if text is not None:
                adapter.blobs.put(f"{_LANDING}/{row}", text.encode())
            else:
                adapter.blobs.delete(adapter.blobs.list(f"{_LANDING}/{row}"))
        adapter.close()
        return _LANDING

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """Requests and bytes of the store, and nodes of manifests. Nothing that is cached stays uncounted."""
        assert isinstance(adapter, ObjectAdapter)
        if not isinstance(adapter.blobs, _CountedBlobs):
            adapter.__dict__["blobs"] = _CountedBlobs(adapter.blobs)
            adapter.__dict__["packs"] = _CountedPacks(adapter.blobs)
        blobs, packs = cast(Any, adapter.blobs), cast(_CountedPacks, adapter.packs)
        packs.forget()
        return {**blobs.counts, "nodes": packs.nodes}


class FilesHarness(ObjectHarness):
    """A directory on a local disk."""

    adapter = FilesAdapter
    keeps_all_in_folder: ClassVar[bool] = True

    @property
    def options(self) -> Mapping[str, str]:
        return {"path": str(self.folder), "copy": "true"}

    @contextmanager
    def denied(self) -> Iterator[None]:
        if os.geteuid() == 0:
            raise NotOffered("the superuser may write everywhere")
        folders = [path for path in (self.folder, *self.folder.rglob("*")) if path.is_dir()]
        for path in folders:
            path.chmod(0o500)
        try:
            yield
        finally:
            for path in folders:
                path.chmod(0o700)

    def corrupt(self, snapshot: SnapshotRef) -> None:
        adapter = self._own()
        text = next(iter(self.read(adapter.locate(snapshot)).values())).encode()
        path = self.folder / address(hashlib.sha256(text).digest())
        path.chmod(0o644)
        path.write_bytes(bytes([text[0] ^ 1]) + text[1:])


class _CountedPacks(Packs):
    """Packs that count the nodes that are asked for."""

    nodes = 0

    def read(self, name: str, ids: Sequence[bytes]) -> Mapping[bytes, tuple[bytes, list[str]]]:
        self.nodes += len(ids)
        return super().read(name, ids)


class _CountedBlobs:
    """An object store that counts what it is asked for."""

    def __init__(self, blobs: Any) -> None:
        self._blobs = blobs
        self.counts = Counter({"requests": 0, "bytes": 0})

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._blobs, name)
        if not callable(found) or name in ("uri", "key_of"):
            return found

        def counted(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            self.counts["requests"] += 1
            parts = [*args, answer, *(answer if isinstance(answer, tuple) else ())]
            self.counts["bytes"] += sum(len(part) for part in parts if isinstance(part, bytes))
            return answer

        return counted


class S3Harness(ObjectHarness):
    """A prefix of a bucket on a real server."""

    adapter = S3Adapter

    def __init__(self, folder: Path, options: Mapping[str, str], reader: Mapping[str, str]) -> None:
        """`options` name their secrets as ``env:NAME``; `reader` is what NAMEs are for somebody who may only read."""
        super().__init__(folder)
        self._options = options
        self._reader = reader

    @property
    def options(self) -> Mapping[str, str]:
        return self._options

    @contextmanager
    def denied(self) -> Iterator[None]:
        with mock.patch.dict(os.environ, self._reader):
            yield

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """Past a server nothing can be changed: other bytes are put there, or, where versions are kept, it is lost."""
        adapter = self._own()
        row, text = next(iter(self.read(adapter.locate(snapshot)).items()))
        entry = adapter._view(snapshot).kept(row)
        assert entry is not None
        if entry.version:
            adapter.blobs.delete([Blob(entry.key, entry.size_bytes, entry.etag, entry.version)])
        else:
            adapter.blobs.put(entry.key, text.upper().encode())
        adapter.close()
