"""Which files a version needs, which there are, whether they are whole, and what rules could delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
import pyarrow.dataset as ds
from plait.errors import Corrupt, NotFound
from plait.types import Depth, Health, Item, Risk, SnapshotRef
from pyiceberg.io.pyarrow import _get_file_format
from pyiceberg.manifest import DataFile, FileFormat

from plait_iceberg.files import Files
from plait_iceberg.manifests import ManifestReader
from plait_iceberg.metadata import VIEW, Metadata, load, load_side
from plait_iceberg.new_tables import OWN_FOLDER

_LOST = (NotFound, Corrupt)
"""What `verify` reports; a store that does not answer is an error."""


def reachable(files: Files, found: Metadata, *, check_cancelled: Callable[[], None]) -> Iterator[Item]:
    """Every file that any Iceberg snapshot of this version needs, each once, named canonically.

    Cost: each manifest list and manifest of the version, read once.
    """
    seen: set[str] = set()

    def once(location: str, size_bytes: int = 0) -> Iterator[Item]:
        name = files.canonical(location)
        if name not in seen:
            seen.add(name)
            yield Item(name, size_bytes)

    yield from once(found.location)
    if found.format == VIEW:
        return
    for entry in found.document.get("metadata-log", ()):
        yield from once(entry["metadata-file"])
    for kind in ("statistics", "partition-statistics"):
        for one in found.document.get(kind, ()):
            yield from once(one["statistics-path"], one.get("file-size-in-bytes", 0))
    manifests: set[str] = set()
    for snapshot in found.table.snapshots:
        # A reader of its own for each snapshot: the entries of a whole history need not fit into memory.
        reader = ManifestReader(files.io)
        yield from once(snapshot.manifest_list)
        for manifest in reader.manifests(found.table, snapshot.snapshot_id):
            if manifest.manifest_path in manifests:
                continue
            check_cancelled()
            manifests.add(manifest.manifest_path)
            yield from once(manifest.manifest_path, manifest.manifest_length)
            for path, held in reader.live(manifest).items():
                yield from once(path, held.file.file_size_in_bytes)


def inventory(files: Files, prefix: str) -> Iterator[Item]:
    """Every file in the folders of tables that plait created, below a prefix of the warehouse.

    Files elsewhere (of imported tables, of a table with a location that a user chose) are not plait's alone, and are
    never listed, so never collected.
    """
    root = files.canonical(f"{files.warehouse}/-").removesuffix("-")
    for item in files.walk(prefix or files.warehouse):
        folders = item.path.removeprefix(root).split("/")[:-1]
        if item.path.startswith(root) and any(OWN_FOLDER.search(folder) for folder in folders):
            yield item


def verify(files: Files, snapshot: SnapshotRef, depth: Depth, *, check_cancelled: Callable[[], None]) -> Health:
    """EXISTS: the metadata file has the snapshot's digest. METADATA: all manifests can be read and all files that
    they name are there, in their size. BYTES: every data file can be decoded, by the checksums of its pages where its
    writer made any, and has as many rows as it should."""
    try:
        found = load_side(files, snapshot)
    except _LOST as error:
        return Health(1, (str(error),))
    if found is None or depth is Depth.EXISTS or found.format == VIEW:
        return Health(1)
    problems: list[str] = []
    seen: set[str] = set()
    reader = ManifestReader(files.io)
    for one in found.table.snapshots:
        seen.add(one.manifest_list)
        try:
            manifests = reader.manifests(found.table, one.snapshot_id)
        except _LOST as error:
            problems.append(str(error))
            continue
        for manifest in manifests:
            path = manifest.manifest_path
            if path in seen:
                continue
            seen.add(path)
            problems += _check_size(files, path, manifest.manifest_length)
            try:
                live = reader.live(manifest)
            except _LOST as error:
                problems.append(str(error))
                continue
            for data_path, held in live.items():
                if data_path not in seen:
                    check_cancelled()
                    seen.add(data_path)
                    problems += _check_file(files, held.file, depth)
    return Health(1 + len(seen), tuple(problems))


def _check_size(files: Files, path: str, expected: int) -> list[str]:
    try:
        size_bytes = files.size_bytes(path)
    except _LOST as error:
        return [str(error)]
    except ValueError as error:
        # Bytes that changed inside a manifest can make a path that no file system takes.
        return [f"file {path!r} cannot be named: {error}"]
    if size_bytes is None:
        return [f"file {path} does not exist"]
    return [] if size_bytes == expected else [f"file {path} has {size_bytes} bytes, expected {expected}"]


_CHECKED_PAGES = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
"""Checks what has a checksum: the pages that Java engines write. pyiceberg writes none."""


def _check_file(files: Files, one: DataFile, depth: Depth) -> list[str]:
    problems = _check_size(files, one.file_path, one.file_size_in_bytes)
    if problems or depth is not Depth.BYTES or one.file_format not in (FileFormat.PARQUET, FileFormat.ORC):
        return problems
    try:
        with files.io.new_input(one.file_path).open() as stream:
            fragment = _get_file_format(one.file_format).make_fragment(stream)
            options = _CHECKED_PAGES if one.file_format is FileFormat.PARQUET else None
            scanner = ds.Scanner.from_fragment(fragment, fragment_scan_options=options)
            count = sum(batch.num_rows for batch in scanner.to_batches())
    except (OSError, pa.ArrowException) as error:
        return [f"file {one.file_path} cannot be decoded: {error}"]
    return [] if count == one.record_count else [f"file {one.file_path} has {count} rows, expected {one.record_count}"]


_EXPIRE = "history.expire."


def retention_risks(files: Files) -> Iterator[Risk]:
    """Table properties that let other engines delete files which a commit names. Cost: one read for each table."""
    newest: dict[str, Item] = {}
    for item in files.walk(files.warehouse):
        folder, _, name = item.path.rpartition("/")
        if folder.endswith("/metadata") and name.endswith(".metadata.json"):
            known = newest.setdefault(folder, item)
            if (item.modified_at_us, item.path) > (known.modified_at_us, known.path):
                newest[folder] = item
    for _, item in sorted(newest.items()):
        try:
            found = load(files, item.path)
        except _LOST:
            continue  # no metadata of any table, or deleted since: `verify` tells what a commit has lost
        yield from risks_of(found.document["location"], found.properties, is_view=found.format == VIEW)


def risks_of(table: str, properties: Mapping[str, str], *, is_view: bool = False) -> Iterator[Risk]:
    """What the properties of one table, here named by its location, let other engines delete."""
    if properties.get("write.metadata.delete-after-commit.enabled", "false").lower() == "true":
        yield Risk(
            "write.metadata.delete-after-commit.enabled=true",
            table,
            "set it to false: engines that write past plait delete metadata files that commits name",
        )
    if not is_view and properties.get("gc.enabled", "true").lower() != "false":
        yield Risk(
            "gc.enabled=true",
            table,
            "set gc.enabled=false: else an engine's expire_snapshots or orphan removal may delete what commits need",
        )
    for name in sorted(properties):
        if name.startswith(_EXPIRE):
            yield Risk(f"{name}={properties[name]}", table, f"remove {name}: plait's retention decides what is kept")
