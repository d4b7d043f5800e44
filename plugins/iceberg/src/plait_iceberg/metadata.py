"""Metadata files: what a SnapshotRef of this store names. Kept as plain documents, so that nothing in them is lost."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from plait.errors import Corrupt, InvalidArgument, NotFound, Unsupported
from plait.types import SnapshotRef, Staging
from pydantic import ValidationError as ModelError
from pyiceberg.exceptions import ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.view.metadata import ViewMetadata

from plait_iceberg.files import Files
from plait_iceberg.memory import Memory
from plait_iceberg.models import table_model

Document: TypeAlias = "dict[str, Any]"
"""A metadata file, or a part of it, as JSON says it."""

TABLE: Final = "table"
VIEW: Final = "view"
FORMAT_VERSION_MAX: Final = 2
"""The newest table format that pyiceberg writes; newer tables are refused, save as pointers."""

_VERSION = re.compile(r"v?(\d+)[^/]*\.metadata\.json(?:\.gz)?\Z")
_HADOOP_VERSION = re.compile(r"v(\d+)(?:\.gz)?\.metadata\.json(?:\.gz)?\Z")
_GZIP = b"\x1f\x8b"
_DOCUMENTS: Final[Memory[Document]] = Memory(8 << 20)
"""By the size of what is parsed, which then takes some three times as much."""
_CURRENT: Final[Memory[TableMetadata]] = Memory(64)
CHECKSUMS: Final = "plait.checksums"
"""In a snapshot's summary: where the hashes of its files are noted."""
_PREVIOUS_VERSIONS_MAX = "write.metadata.previous-versions-max"


@dataclass(frozen=True)
class Metadata:
    """One metadata file: where it is, the SHA-256 of its bytes, what it says."""

    location: str
    digest: bytes
    document: Document = field(repr=False)

    @property
    def format(self) -> str:
        return VIEW if "view-uuid" in self.document else TABLE

    @property
    def asset(self) -> str:
        """The table's or view's uuid. Version 1 tables may have none: then one made of their location."""
        found = self.document.get("view-uuid") or self.document.get("table-uuid")
        return str(found or uuid.uuid5(uuid.NAMESPACE_URL, self.document["location"]))

    @property
    def format_version(self) -> int:
        return int(self.document.get("format-version", 1))

    @property
    def version(self) -> int:
        """The number in the file's name, which grows by one with each commit; 0 where there is none."""
        match = _VERSION.match(self.location.rpartition("/")[2])
        return int(match.group(1)) if match else 0

    @property
    def properties(self) -> Mapping[str, str]:
        return self.document.get("properties") or {}

    @cached_property
    def table(self) -> TableMetadata:
        """pyiceberg's model of it. Raises: Corrupt, InvalidArgument for a view."""
        if self.format == VIEW:
            raise InvalidArgument(f"{self.location} is a view, a table is expected")
        return parse_table(self.document, self.location)

    @cached_property
    def current(self) -> TableMetadata:
        """pyiceberg's model of it without its history, at a cost that does not grow with that. Not for users, since
        others share it. Raises: as `table`."""
        if self.format == VIEW:
            return self.table
        return _CURRENT.get(self.digest, 1, lambda: parse_current(self.document, self.location))

    @cached_property
    def view(self) -> ViewMetadata:
        """pyiceberg's model of it. Raises: Corrupt."""
        try:
            return ViewMetadata.model_validate(self.document)
        except ModelError as error:
            raise Corrupt(f"view metadata {self.location} cannot be read: {error}") from error

    def schema(self) -> Schema:
        """The current schema."""
        return self.current.schema()

    def refer(self, store: str, kind: str) -> SnapshotRef:
        """The SnapshotRef that names exactly this file."""
        return SnapshotRef(store, kind, self.asset, self.location, self.digest, {"format": self.format})


def parse_table(document: Document, location: str) -> TableMetadata:
    """pyiceberg's model of a table document. Raises: Corrupt."""
    try:
        return table_model(document)
    except (ValidationError, ModelError, KeyError) as error:
        raise Corrupt(f"table metadata {location} cannot be read: {error}") from error


def parse_current(document: Document, location: str) -> TableMetadata:
    """pyiceberg's model of a table document with only its current snapshot, and no logs. Raises: Corrupt."""
    current = document.get("current-snapshot-id")
    snapshots = [one for one in document.get("snapshots") or () if one.get("snapshot-id") == current]
    return parse_table({**document, "snapshots": snapshots, "snapshot-log": [], "metadata-log": []}, location)


def parse(location: str, data: bytes) -> Metadata:
    """Read the bytes of a metadata file. Raises: Corrupt."""
    digest = hashlib.sha256(data).digest()
    try:
        # Not by the name: pyarrow has unpacked what is called .gz, and not what is called .gz.metadata.json.
        text = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise Corrupt(f"metadata file {location} cannot be read: {error}") from error
    return Metadata(location, digest, _DOCUMENTS.get(digest, len(text), lambda: _parse(location, text)))


def _parse(location: str, text: bytes) -> Document:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Corrupt(f"metadata file {location} cannot be read: {error}") from error
    if not isinstance(document, dict) or "location" not in document:
        raise Corrupt(f"metadata file {location} describes neither a table nor a view")
    return document


def load(files: Files, location: str) -> Metadata:
    """Read a metadata file. Raises: NotFound, Corrupt, StoreUnavailable. Cost: one read."""
    return parse(location, files.read(location))


def load_side(files: Files, side: SnapshotRef | Staging | None) -> Metadata | None:
    """What a snapshot or a staging stands for; None for nothing, also for a table not created yet.

    Raises: Corrupt when a snapshot's file is lost, or its bytes are not the ones that its digest was made of; also for
    a staging that is still at its base, so that nothing is written on top of damage.
    """
    if side is None:
        return None
    if isinstance(side, Staging):
        if side.base is not None and side.location == side.base.version:
            return load_side(files, side.base)
        return load(files, side.location) if side.location else None
    try:
        found = load(files, side.version)
    except NotFound as error:
        raise Corrupt(f"metadata file {side.version} is lost", remedy="restore the file from a backup") from error
    if found.digest != side.digest:
        raise Corrupt(
            f"metadata file {side.version} has digest {found.digest.hex()}, expected {side.digest.hex()}",
            remedy="restore the file from a backup: somebody overwrote it",
        )
    return found


def resolve(files: Files, location: str) -> str:
    """The metadata file that a location means: itself, or the newest one of a table's folder.

    Raises: NotFound, InvalidArgument when two files claim to be the newest.
    """
    if location.endswith((".metadata.json", ".metadata.json.gz")):
        return location
    folder = f"{location.rstrip('/')}/metadata"
    hint = f"{folder}/version-hint.text"
    if files.size_bytes(hint) is not None:
        return _hinted(files, folder, files.read(hint).decode().strip())
    versions: dict[int, list[str]] = {}
    for item in files.walk(folder, keep_folder=lambda path: False):
        name = item.path.rpartition("/")[2]
        if match := _VERSION.match(name):
            versions.setdefault(int(match.group(1)), []).append(f"{folder}/{name}")
    if not versions:
        raise NotFound(
            f"{location} holds no Iceberg table: there is no metadata file in {folder}",
            remedy="name the metadata file itself (…/metadata/00003-….metadata.json)",
        )
    newest = versions[max(versions)]
    if len(newest) > 1:
        raise InvalidArgument(
            f"{location} has {len(newest)} metadata files of version {max(versions)}: {', '.join(sorted(newest))}",
            remedy="name the metadata file that the table's catalog points to",
        )
    return newest[0]


def _hinted(files: Files, folder: str, hint: str) -> str:
    """The metadata file that a version hint means, as Iceberg's Hadoop tables read it.

    They write the hint last and do not insist on it: versions after it count. Compressed files say so in their names.
    """
    if not hint.isdecimal():
        return f"{folder}/{hint if hint.endswith('.json') else f'v{hint}.metadata.json'}"
    names = (item.path.rpartition("/")[2] for item in files.walk(folder, keep_folder=lambda path: False))
    known = {int(match[1]): f"{folder}/{name}" for name in names if (match := _HADOOP_VERSION.match(name))}
    version = int(hint)
    while version + 1 in known:
        version += 1
    return known.get(version, f"{folder}/v{version}.metadata.json")


def check_writable(metadata: Metadata, what: str) -> None:
    """Raises: Unsupported for a format that pyiceberg cannot write."""
    if metadata.format == TABLE and metadata.format_version > FORMAT_VERSION_MAX:
        raise Unsupported(
            f"{what}: table {metadata.asset} has format version {metadata.format_version}, "
            f"the newest that can be written is {FORMAT_VERSION_MAX}",
            remedy="read it with an engine that knows the format, or keep it in a store with mode=pointer",
        )


# -- names of new files ------------------------------------------------------------------------------------------------


def metadata_location(document: Document, version: int, tx: str, unique: uuid.UUID | None = None) -> str:
    """A new metadata file's name: version and uuid as every engine expects them, and whose transaction it is of."""
    name = f"{version:05d}-{unique or uuid.uuid4()}.plait_{re.sub(r'[^A-Za-z0-9]', '', tx)}.metadata.json"
    return load_location_provider(document["location"], document.get("properties") or {}).new_metadata_location(name)


def with_logged(document: Document, previous: Metadata) -> Document:
    """The document with `previous` as the newest entry of its metadata log, cut to the length the table asks for."""
    keep = max(1, int(document.get("properties", {}).get(_PREVIOUS_VERSIONS_MAX, 100)))
    entry = {"metadata-file": previous.location, "timestamp-ms": previous.document["last-updated-ms"]}
    log = [*previous.document.get("metadata-log", ()), entry]
    return {**document, "metadata-log": log[-keep:]}


def in_order(updated: TableMetadata, current: TableMetadata) -> TableMetadata:
    """The update, none of its times before those of the version it follows.

    Clocks are set back, and machines have different ones; Java's readers refuse a table whose snapshot log goes back
    by more than a minute (https://github.com/apache/iceberg/issues/1109).
    """
    since = current.last_updated_ms
    known = {snapshot.snapshot_id for snapshot in current.snapshots}
    logged = {(entry.snapshot_id, entry.timestamp_ms) for entry in current.snapshot_log}
    late = {"timestamp_ms": since + 1}
    times = {
        "last_updated_ms": updated.last_updated_ms if updated.last_updated_ms >= since else since + 1,
        "snapshots": [
            one.model_copy(update=late) if one.timestamp_ms < since and one.snapshot_id not in known else one
            for one in updated.snapshots
        ],
        "snapshot_log": [
            one.model_copy(update=late)
            if one.timestamp_ms < since and (one.snapshot_id, one.timestamp_ms) not in logged
            else one
            for one in updated.snapshot_log
        ],
    }
    return updated.model_copy(update=times)


def dump(document: Document) -> bytes:
    """The bytes of a metadata file."""
    return json.dumps(document, separators=(",", ":")).encode()
