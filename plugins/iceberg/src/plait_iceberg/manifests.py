"""Which files a table version holds, and which of them differ from another's, at the cost of what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from plait.errors import Corrupt, PlaitError, Unsupported
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import _read_deletes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
)
from pyiceberg.table import FileScanTask
from pyiceberg.table.delete_file_index import DeleteFileIndex
from pyiceberg.table.metadata import TableMetadata

from plait_iceberg.avro import read_list, read_manifest
from plait_iceberg.files import translated

_DELETE_FORMATS: Final = frozenset({FileFormat.PARQUET, FileFormat.ORC})
"""Of position deletes that pyiceberg reads. (Deletion vectors, in Puffin files, are of format version 3.)"""


@dataclass(frozen=True, slots=True)
class Held:
    """A live file of a table version, and the manifest that lists it."""

    manifest: ManifestFile
    entry: ManifestEntry

    @property
    def file(self) -> DataFile:
        return self.entry.data_file

    @property
    def sequence(self) -> int:
        return self.entry.sequence_number or 0


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Live files, by path, that only one of two table versions holds."""

    removed: Mapping[str, Held]
    added: Mapping[str, Held]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def data_files(held: Mapping[str, Held]) -> dict[str, Held]:
    """Those that hold rows."""
    return {path: one for path, one in held.items() if one.file.content == DataFileContent.DATA}


def delete_files(held: Mapping[str, Held]) -> dict[str, Held]:
    """Those that say which rows of others are deleted."""
    return {path: one for path, one in held.items() if one.file.content != DataFileContent.DATA}


class ManifestReader:
    """Reads manifest lists, manifests and position deletes, each at most once."""

    def __init__(self, io: FileIO) -> None:
        self.io = io
        self._lists: dict[str, tuple[ManifestFile, ...]] = {}
        self._held: dict[str, dict[str, Held]] = {}
        self._positions: dict[str, Mapping[str, pa.ChunkedArray]] = {}

    def manifests(self, table: TableMetadata, snapshot_id: int | None = None) -> tuple[ManifestFile, ...]:
        """The manifests of a snapshot, by default the current one; none for an empty table."""
        snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
        return () if snapshot is None else self.listed(snapshot.manifest_list)

    def listed(self, path: str) -> tuple[ManifestFile, ...]:
        """The manifests that a manifest list names."""
        if path not in self._lists:
            with translated(f"manifest list {path}"), _decoded(f"manifest list {path}"):
                # Not snapshot.manifests(): its process-wide cache would answer for a list that has changed since.
                self._lists[path] = read_list(self.io, path)
        return self._lists[path]

    def live(self, manifest: ManifestFile) -> Mapping[str, Held]:
        """The live files of a manifest, by path."""
        path = manifest.manifest_path
        if path not in self._held:
            with translated(f"manifest {path}"), _decoded(f"manifest {path}"):
                entries = read_manifest(self.io, manifest)
            self._held[path] = {entry.data_file.file_path: Held(manifest, entry) for entry in entries}
        return self._held[path]

    def is_open(self, manifest: ManifestFile) -> bool:
        """Whether reading it again costs nothing."""
        return manifest.manifest_path in self._held

    def deleted(self, delete_file: DataFile) -> Mapping[str, pa.ChunkedArray]:
        """What a position delete file deletes: data file → places of rows. Raises: Unsupported for one that cannot be
        read."""
        check_applicable(delete_file)
        path = delete_file.file_path
        if path not in self._positions:
            with translated(f"delete file {path}"), _decoded(f"delete file {path}"):
                self._positions[path] = _read_deletes(self.io, delete_file)
        return self._positions[path]


@contextmanager
def _decoded(what: str) -> Iterator[None]:
    """Bytes that pyiceberg cannot decode are a corrupt file. Its decoders raise whatever the bytes lead them to."""
    try:
        yield
    except (PlaitError, OSError):
        raise
    except Exception as error:
        raise Corrupt(f"{what} cannot be decoded: {error}") from error


def check_applicable(file: DataFile) -> None:
    """Raises: Unsupported for a delete file that pyiceberg cannot read; data files may be in any format here."""
    if file.content == DataFileContent.EQUALITY_DELETES:
        raise Unsupported(
            f"{file.file_path} holds equality deletes, which pyiceberg cannot read",
            remedy="compact the table with the engine that wrote them, so that the deletes are applied",
        )
    if file.content == DataFileContent.POSITION_DELETES and file.file_format not in _DELETE_FORMATS:
        raise Unsupported(
            f"{file.file_path} holds position deletes as {file.file_format.value}, which pyiceberg cannot read",
            remedy="set write.delete.format.default=parquet, and compact the table with the engine that wrote them",
        )


def compare(reader: ManifestReader, before: TableMetadata | None, after: TableMetadata | None) -> FileChanges:
    """The files that differ. Cost: both manifest lists, and the manifests that only one of them names."""
    return _compare(reader, reader.manifests(before) if before else (), reader.manifests(after) if after else ())


def removals(reader: ManifestReader, base: Mapping[str, Any], side: Mapping[str, Any]) -> dict[str, FileChanges | None]:
    """For each file that a table's commits since a base took away: all that the last one to do so changed. Who went
    back to a snapshot before the base took away what came since. None: other clients write one change as several
    snapshots, and what came instead is unknown.

    Args:
        base, side: the tables' metadata.
    Cost: the manifest lists of those snapshots, and their own manifests.
    """
    before = {one["snapshot-id"]: one for one in base.get("snapshots", ())}
    known = {**before, **{one["snapshot-id"]: one for one in side.get("snapshots", ())}}
    found: dict[str, FileChanges | None] = {}

    def note(old: int | None, new: int | None, *, is_whole: bool) -> None:
        lists = [known[one]["manifest-list"] for one in (old, new) if one in known and "manifest-list" in known[one]]
        if len(lists) == 2:
            changes = _compare(reader, *map(reader.listed, lists))
            for path in changes.removed:
                found.setdefault(path, changes if is_whole or changes.added else None)

    at = side.get("current-snapshot-id")
    while at in known and at not in before:
        newest, tx = at, _transaction(known[at])
        at = known[at].get("parent-snapshot-id")
        while tx and at in known and at not in before and _transaction(known[at]) == tx:
            at = known[at].get("parent-snapshot-id")
        note(at, newest, is_whole=bool(tx))
    if at in before:
        note(base.get("current-snapshot-id"), at, is_whole=True)
    return found


def _transaction(snapshot: Mapping[str, Any]) -> str | None:
    """Which of plait's transactions wrote a snapshot."""
    told: str | None = (snapshot.get("summary") or {}).get("plait.tx")
    return told


def _compare(reader: ManifestReader, old: Sequence[ManifestFile], new: Sequence[ManifestFile]) -> FileChanges:
    shared = {manifest.manifest_path for manifest in old} & {manifest.manifest_path for manifest in new}
    removed = _collect(reader, old, shared)
    added = _collect(reader, new, shared)
    return FileChanges(
        removed={path: held for path, held in removed.items() if path not in added},
        added={path: held for path, held in added.items() if path not in removed},
    )


def _collect(reader: ManifestReader, manifests: Iterable[ManifestFile], skip: Collection[str]) -> dict[str, Held]:
    found: dict[str, Held] = {}
    for manifest in manifests:
        if manifest.manifest_path not in skip:
            found.update(reader.live(manifest))
    return found


def find(reader: ManifestReader, table: TableMetadata, paths: Collection[str]) -> dict[str, Held]:
    """Those of the paths that are live in the table. Cost: no manifest more than it takes; open ones come first."""
    missing = set(paths)
    found: dict[str, Held] = {}
    manifests = sorted(reader.manifests(table), key=lambda manifest: not reader.is_open(manifest))
    for manifest in manifests:
        if not missing:
            break
        live = reader.live(manifest)
        for path in missing & live.keys():
            found[path] = live[path]
        missing -= live.keys()
    return found


def touched_paths(reader: ManifestReader, held: Mapping[str, Held]) -> dict[str, frozenset[str]]:
    """For each delete file among `held`: the data files whose rows it deletes."""
    return {path: frozenset(reader.deleted(one.file)) for path, one in delete_files(held).items()}


def scan_tasks(reader: ManifestReader, table: TableMetadata, held: Iterable[Held]) -> Iterator[FileScanTask]:
    """What to read for these data files' live rows: each with the position deletes that apply to it.

    Only delete manifests young enough to apply are opened. Raises: Unsupported for a file in one that cannot be read.
    """
    wanted = sorted(held, key=lambda one: one.file.file_path)
    if not wanted:
        return
    oldest = min(one.sequence for one in wanted)
    index = DeleteFileIndex()
    for manifest in reader.manifests(table):
        if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest:
            for one in reader.live(manifest).values():
                check_applicable(one.file)
                index.add_delete_file(one.entry, partition_key=one.file.partition)
    for one in wanted:
        applying = index.for_data_file(one.sequence, one.file, partition_key=one.file.partition)
        yield FileScanTask(one.file, delete_files=applying, residual=AlwaysTrue())
