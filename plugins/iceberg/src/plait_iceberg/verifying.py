"""Whether versions of tables are whole. They share most of their files: those are looked at once for many versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
from plait.errors import Corrupt, NotFound
from plait.types import Depth, Health, SnapshotRef
from pyiceberg.io.pyarrow import _get_file_format
from pyiceberg.manifest import FileFormat, ManifestFile
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from plait_iceberg.checksums import Checksums, notes
from plait_iceberg.files import Files
from plait_iceberg.manifests import Held, ManifestReader
from plait_iceberg.metadata import VIEW, load_side

LOST = (NotFound, Corrupt)
"""What is reported; a store that does not answer is an error."""

_CHECKED_PAGES = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
"""Checks what has a checksum: the pages that Java engines write. pyiceberg writes none."""

_Listed = tuple[str, int]
"""A manifest, and the size that a manifest list says it has; or a manifest list, and 0."""


class _File(NamedTuple):
    """A data file as a manifest lists it, and its hash, if one was noted."""

    path: str
    size_bytes: int
    rows: int
    format: FileFormat
    sha256: str | None


_BATCH = 256


class Verifier:
    """Verifies versions of tables, at one depth: what one shares with another is not looked at again. Thread-safe, one
    version at a time.

    Cost: of the first version of a table all that it needs, of each other its metadata file and what is new in it.
    """

    def __init__(self, files: Files, depth: Depth, *, check_cancelled: Callable[[], None]) -> None:
        self._files = files
        self._depth = depth
        self._check_cancelled = check_cancelled
        self._bad_in_lists: dict[str, Sequence[_Listed]] = {}
        self._wrong: dict[_Listed, Sequence[str]] = {}
        self._wrong_in_files: dict[_File, Sequence[str]] = {}
        self._checksums = Checksums(files)
        self._checked = 0
        self._lock = threading.Lock()

    def verify(self, snapshot: SnapshotRef) -> Health:
        """EXISTS: the metadata file has the snapshot's digest. METADATA: all manifests can be read and all files that
        they name are there, in their size; manifests, and lists of them, hold the bytes that plait's commit noted.
        BYTES: so do the data files. Those of imported snapshots, and in object stores, can be decoded, by the checksums
        of their pages where their writer made any, and have as many rows as they should."""
        with self._lock:
            self._checked = 1
            problems = tuple(dict.fromkeys(self._problems(snapshot)))
            return Health(self._checked, problems)

    def _problems(self, snapshot: SnapshotRef) -> Iterable[str]:
        try:
            found = load_side(self._files, snapshot)
        except LOST as error:
            return [str(error)]
        if found is None or self._depth is Depth.EXISTS or found.format == VIEW:
            return []
        noted = notes(found.document)
        # Lists of one table share manifests: each is told of once.
        bad = dict.fromkeys(listed for one in found.table.snapshots for listed in self._bad_in(one, noted))
        lost = [problem for note in noted.values() for problem in self._checksums.problems(note)]
        return [*(problem for listed in bad for problem in self._wrong[listed]), *lost]

    def _bad_in(self, snapshot: Snapshot, noted: Mapping[int, str]) -> Sequence[_Listed]:
        """What is wrong in a manifest list: itself, or some of its manifests."""
        path = snapshot.manifest_list
        if path not in self._bad_in_lists:
            self._bad_in_lists[path] = self._look_in(snapshot, noted)
        return self._bad_in_lists[path]

    def _look_in(self, snapshot: Snapshot, noted: Mapping[int, str]) -> Sequence[_Listed]:
        self._checked += 1
        # A reader of its own for each list: the entries of a whole history need not fit into memory.
        reader = ManifestReader(self._files.io)
        path = snapshot.manifest_list
        try:
            manifests = reader.listed(path)
            problems = self._check_hash(path, self._checksums.of(noted, snapshot.snapshot_id, path))
        except LOST as error:
            manifests, problems = (), [str(error)]
        self._wrong[path, 0] = problems
        bad = [(path, 0)] if problems else []
        for manifest in manifests:
            listed = manifest.manifest_path, manifest.manifest_length
            if listed not in self._wrong:
                self._wrong[listed] = self._look_at(reader, manifest, noted)
            if self._wrong[listed]:
                bad.append(listed)
        return bad

    def _look_at(self, reader: ManifestReader, manifest: ManifestFile, noted: Mapping[int, str]) -> Sequence[str]:
        self._checked += 1
        path = manifest.manifest_path
        problems = self._check_size(path, manifest.manifest_length)
        try:
            live = reader.live(manifest)
            problems = problems or self._check_hash(path, self._checksums.of(noted, manifest.added_snapshot_id, path))
        except LOST as error:
            return [*problems, str(error)]
        files = [self._file(held, noted) for held in live.values()]
        self._check_all([file for file in files if file not in self._wrong_in_files])
        return [*problems, *(problem for file in files for problem in self._wrong_in_files[file])]

    def _file(self, held: Held, noted: Mapping[int, str]) -> _File:
        one = held.file
        expected = self._checksums.of(noted, held.entry.snapshot_id, one.file_path)
        return _File(one.file_path, one.file_size_in_bytes, one.record_count, one.file_format, expected)

    def _check_all(self, new: Sequence[_File]) -> None:
        """Look at files side by side: on object stores each is a request."""
        for start in range(0, len(new), _BATCH):
            self._check_cancelled()
            batch = new[start : start + _BATCH]
            found = ExecutorFactory.get_or_create().map(self._check_file, batch)
            self._wrong_in_files.update(zip(batch, found, strict=True))
            self._checked += len(batch)

    def _check_file(self, file: _File) -> Sequence[str]:
        problems = self._check_size(file.path, file.size_bytes)
        if problems or self._depth is not Depth.BYTES:
            return problems
        if file.sha256 is not None:
            return self._check_hash(file.path, file.sha256)
        if file.format not in (FileFormat.PARQUET, FileFormat.ORC):
            return []
        try:
            with self._files.io.new_input(file.path).open() as stream:
                fragment = _get_file_format(file.format).make_fragment(stream)
                options = _CHECKED_PAGES if file.format is FileFormat.PARQUET else None
                scanner = ds.Scanner.from_fragment(fragment, fragment_scan_options=options)
                count = sum(batch.num_rows for batch in scanner.to_batches())
        except (OSError, pa.ArrowException) as error:
            return [f"file {file.path} cannot be decoded: {error}"]
        return [] if count == file.rows else [f"file {file.path} has {count} rows, expected {file.rows}"]

    def _check_hash(self, path: str, expected: str | None) -> list[str]:
        if expected is None or self._files.sha256(path) == expected:
            return []
        return [f"file {path} holds other bytes than were committed"]

    def _check_size(self, path: str, expected: int) -> list[str]:
        try:
            size_bytes = self._files.size_bytes(path)
        except LOST as error:
            return [str(error)]
        except ValueError as error:
            # Bytes that changed inside a manifest can make a path that no file system takes.
            return [f"file {path!r} cannot be named: {error}"]
        if size_bytes is None:
            return [f"file {path} does not exist"]
        return [] if size_bytes == expected else [f"file {path} has {size_bytes} bytes, expected {expected}"]
