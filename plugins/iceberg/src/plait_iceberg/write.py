"""One new snapshot on a table version: manifests, manifest list, metadata file, all durable before they are named."""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
from plait.adapter import Context
from plait.codec import pack
from plait.errors import Unsupported
from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, SnapshotSummaryCollector, Summary, update_snapshot_summaries

from plait_iceberg.checksums import hashes, keep
from plait_iceberg.files import Files, translated
from plait_iceberg.manifests import Held, ManifestReader
from plait_iceberg.metadata import (
    Document,
    Metadata,
    dump,
    metadata_location,
    parse,
    parse_current,
    with_logged,
)


class DeleteManifestWriter(ManifestWriterV2):
    """pyiceberg writes manifests of data files only; this one lists delete files."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


@dataclass
class Edits:
    """What a new snapshot changes: files that come, each under a partition spec, and files that go."""

    added: list[tuple[int, DataFile]] = field(default_factory=list)
    removed: dict[str, Held] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    """Of those that come from another snapshot, as far as it noted any: they are not read again."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def token(*arguments: object) -> uuid.UUID:
    """The same id for the same arguments: what makes a repeated operation find its own result."""
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(pack(arguments)).hexdigest())


class SnapshotWriter:
    """Writes one successor of a table version, named by `unique`, so that a repetition finds it."""

    def __init__(self, files: Files, context: Context, previous: Metadata, tx: str, unique: uuid.UUID) -> None:
        self._files = files
        self._context = context
        self._previous = previous
        self._unique = unique
        self._written: list[str] = []
        self.location = metadata_location(previous.document, previous.version + 1, tx, unique)

    def found(self) -> Metadata | None:
        """The result of an earlier run of the same operation."""
        if self._files.size_bytes(self.location) is None:
            return None
        self._files.sync([self.location])
        return parse(self.location, self._files.read(self.location))

    def write_rows(self, document: Document, rows: pa.Table) -> list[tuple[int, DataFile]]:
        """Write data files of rows under the document's current schema and spec.

        As Parquet: pyiceberg writes nothing else, and a table's default format does not keep out files of others.
        """
        if rows.num_rows == 0:
            return []
        properties = {**(document.get("properties") or {}), TableProperties.WRITE_FILE_FORMAT: "parquet"}
        table = parse_current({**document, "properties": properties}, self.location)
        self._context.failpoint("iceberg.write.before_data")
        with translated(f"a data file of table {table.table_uuid}"):
            try:
                written = list(_dataframe_to_data_files(table, rows, self._files.io, uuid.uuid4()))
            except (pa.ArrowException, NotImplementedError) as error:
                raise Unsupported(
                    f"pyiceberg cannot write rows of table {table.table_uuid}: {error}",
                    remedy="choose a side for the table, or restore it as a whole",
                ) from error
        self._written += [one.file_path for one in written]
        return [(table.default_spec_id, one) for one in written]

    def write(self, document: Document, reader: ManifestReader, edits: Edits, summary: Mapping[str, str]) -> Metadata:
        """Write the metadata file of `document`, with a snapshot of the edits where there are any.

        Returns: what is stored, which a racing repetition may have written.
        """
        known = document == self._previous.document
        table = self._previous.current if known else parse_current(document, self.location)
        now_ms = max(self._context.clock.now_us() // 1_000, int(document["last-updated-ms"]) + 1)
        document = {**document, "last-updated-ms": now_ms}
        if edits:
            taken = {one["snapshot-id"] for one in document.get("snapshots", ())}
            snapshot = self._write_snapshot(table, self._snapshot_id(taken), reader, edits, summary, now_ms)
            document = _with_snapshot(document, snapshot)
        self._files.sync(self._written)
        self._context.failpoint("iceberg.write.before_metadata")
        data = dump(with_logged(document, self._previous))
        stored = self._files.write_new(self.location, data, self._context.failpoint)
        self._context.failpoint("iceberg.write.after_metadata")
        return parse(self.location, stored)

    def _write_snapshot(
        self,
        table: TableMetadata,
        snapshot_id: int,
        reader: ManifestReader,
        edits: Edits,
        summary: Mapping[str, str],
        now_ms: int,
    ) -> Document:
        names = _Names(table)
        before = reader.manifests(table)
        self._context.failpoint("iceberg.write.before_manifests")
        with translated(f"a manifest of table {table.table_uuid}"):
            manifests = [
                *_added_manifests(self._files, table, names, snapshot_id, edits.added),
                *_kept_manifests(self._files, table, names, snapshot_id, before, reader, edits.removed),
            ]
            self._context.failpoint("iceberg.write.before_manifest_list")
            manifest_list = names.new(f"snap-{snapshot_id}-0-{names.unique}.avro")
            with write_manifest_list(
                format_version=table.format_version,
                output_file=self._files.io.new_output(manifest_list),
                snapshot_id=snapshot_id,
                parent_snapshot_id=table.current_snapshot_id,
                sequence_number=table.next_sequence_number(),
                avro_compression=_compression(table),
            ) as writer:
                writer.add_manifests(manifests)
        self._written += names.given
        found = {**edits.hashes, **hashes(self._files, self._written)}
        self._context.failpoint("iceberg.write.before_checksums")
        told = keep(self._files, table, found)
        self._written += told.values()
        snapshot: Document = {
            "snapshot-id": snapshot_id,
            "sequence-number": table.next_sequence_number(),
            "timestamp-ms": now_ms,
            "manifest-list": manifest_list,
            "summary": _summarise(table, edits, {**summary, **told}),
            "schema-id": table.current_schema_id,
        }
        if table.current_snapshot_id is not None:
            snapshot["parent-snapshot-id"] = table.current_snapshot_id
        return snapshot

    def _snapshot_id(self, taken: Collection[int]) -> int:
        candidate = self._unique.int & (2**63 - 1)
        while candidate in taken:
            candidate = (candidate + 1) & (2**63 - 1)
        return candidate


def _with_snapshot(document: Document, snapshot: Document) -> Document:
    refs = document.get("refs", {})
    snapshot_id, timestamp = snapshot["snapshot-id"], snapshot["timestamp-ms"]
    return {
        **document,
        "last-sequence-number": snapshot["sequence-number"],
        "current-snapshot-id": snapshot_id,
        "snapshots": [*document.get("snapshots", ()), snapshot],
        "snapshot-log": [*document.get("snapshot-log", ()), {"snapshot-id": snapshot_id, "timestamp-ms": timestamp}],
        "refs": {**refs, "main": {**refs.get("main", {"type": "branch"}), "snapshot-id": snapshot_id}},
    }


class _Names:
    """Unique names for a snapshot's files."""

    def __init__(self, table: TableMetadata) -> None:
        self.unique = uuid.uuid4()
        self.given: list[str] = []
        self._provider = load_location_provider(table.location, table.properties)

    def new(self, name: str) -> str:
        self.given.append(self._provider.new_metadata_location(name))
        return self.given[-1]

    def manifest(self) -> str:
        return self.new(f"{self.unique}-m{len(self.given)}.avro")


def _compression(table: TableMetadata) -> AvroCompressionCodec:
    default = TableProperties.WRITE_AVRO_COMPRESSION_DEFAULT
    return cast(AvroCompressionCodec, table.properties.get(TableProperties.WRITE_AVRO_COMPRESSION, default))


def _manifest_writer(
    files: Files, table: TableMetadata, path: str, snapshot_id: int, spec_id: int, content: ManifestContent
) -> ManifestWriter:
    spec = table.specs()[spec_id]
    kind = ManifestWriterV2 if content is ManifestContent.DATA else DeleteManifestWriter
    return kind(spec, _schema_of(table, spec), files.io.new_output(path), snapshot_id, _compression(table))


def _schema_of(table: TableMetadata, spec: PartitionSpec) -> Schema:
    """The newest schema that has the spec's source columns: an old spec may name a column that was dropped."""
    sources = {one.source_id for one in spec.fields}
    newest_first = [table.schema(), *sorted(table.schemas, key=lambda schema: schema.schema_id, reverse=True)]
    return next((schema for schema in newest_first if sources <= set(schema.field_ids)), table.schema())


def _added_manifests(
    files: Files, table: TableMetadata, names: _Names, snapshot_id: int, added: Iterable[tuple[int, DataFile]]
) -> Iterator[ManifestFile]:
    """One new manifest for each spec and content. The entries take the new snapshot's sequence number."""
    groups: dict[tuple[ManifestContent, int], list[DataFile]] = defaultdict(list)
    for spec_id, one in added:
        is_data = one.content == DataFileContent.DATA
        groups[ManifestContent.DATA if is_data else ManifestContent.DELETES, spec_id].append(one)
    for (content, spec_id), members in sorted(groups.items(), key=lambda group: (group[0][0].value, group[0][1])):
        with _manifest_writer(files, table, names.manifest(), snapshot_id, spec_id, content) as writer:
            for one in sorted(members, key=lambda member: member.file_path):
                entry = ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, sequence_number=None, data_file=one
                )
                writer.add(entry)
        yield writer.to_manifest_file()


def _kept_manifests(
    files: Files,
    table: TableMetadata,
    names: _Names,
    snapshot_id: int,
    before: Iterable[ManifestFile],
    reader: ManifestReader,
    removed: Mapping[str, Held],
) -> Iterator[ManifestFile]:
    """The manifests as they are; only those that hold a removed file are written anew, with it as DELETED.

    One whose files are all gone told so in its own snapshot, and is not named again.
    """
    holders = {held.manifest.manifest_path for held in removed.values()}
    for manifest in before:
        if manifest.manifest_path not in holders:
            if manifest.has_added_files() or manifest.has_existing_files():
                yield manifest
            continue
        spec_id, content = manifest.partition_spec_id, manifest.content
        with _manifest_writer(files, table, names.manifest(), snapshot_id, spec_id, content) as writer:
            for path, held in reader.live(manifest).items():
                if path in removed:
                    writer.delete(held.entry)
                else:
                    writer.existing(held.entry)
        yield writer.to_manifest_file()


def _summarise(table: TableMetadata, edits: Edits, properties: Mapping[str, str]) -> dict[str, Any]:
    collector = SnapshotSummaryCollector(
        int(table.properties.get(TableProperties.WRITE_PARTITION_SUMMARY_LIMIT, 0)),
    )
    specs = table.specs()
    for spec_id, one in edits.added:
        collector.add_file(one, partition_spec=specs[spec_id], schema=_schema_of(table, specs[spec_id]))
    for held in edits.removed.values():
        spec = specs[held.manifest.partition_spec_id]
        collector.remove_file(held.file, partition_spec=spec, schema=_schema_of(table, spec))
    only_data = all(one.content == DataFileContent.DATA for _, one in edits.added)
    operation = Operation.OVERWRITE if edits.added else Operation.DELETE
    if only_data and not edits.removed:
        operation = Operation.APPEND
    previous = table.current_snapshot()
    summary = update_snapshot_summaries(
        Summary(operation, **collector.build(), **properties), previous.summary if previous else None
    )
    return {"operation": summary.operation.value, **summary.additional_properties}
