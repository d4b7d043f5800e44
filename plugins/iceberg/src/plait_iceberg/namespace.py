"""The pyiceberg catalog of one transaction: every change of a table is a move of its staging."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plait.adapter import Context, StagingPort
from plait.errors import AlreadyExists, NotFound, Unsupported
from plait.refspec import format_key
from plait.types import Key, SnapshotRef, Staging, Store
from pyiceberg.catalog import MetastoreCatalog, PropertiesUpdateSummary
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NoSuchViewError,
    TableAlreadyExistsError,
    ViewAlreadyExistsError,
)
from pyiceberg.io import FileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, CreateTableTransaction, StagedTable, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, Summary
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import AddSnapshotUpdate, TableRequirement, TableUpdate, update_table_metadata
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from pyiceberg.view import View
from pyiceberg.view.metadata import ViewVersion

from plait_iceberg.checksums import hashes, keep, new_files
from plait_iceberg.files import Files, translated
from plait_iceberg.manifests import ManifestReader
from plait_iceberg.metadata import (
    TABLE,
    VIEW,
    Metadata,
    check_writable,
    in_order,
    load,
    load_side,
    metadata_location,
)
from plait_iceberg.new_tables import new_table, new_view

if TYPE_CHECKING:
    import pyarrow as pa


class TransactionCatalog(MetastoreCatalog):
    """Tables and views of one store as one transaction sees them. Namespaces follow from the tables' keys."""

    def __init__(self, store: Store, files: Files, context: Context, port: StagingPort) -> None:
        super().__init__(store.name)
        self._files = files
        self._context = context
        self._port = port
        self._namespaces: set[Identifier] = set()

    # -- tables ------------------------------------------------------------------------------------------------------

    def create_table(
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> Table:
        staged = self._create_staged_table(identifier, schema, location, partition_spec, sort_order, properties)
        key = self._key(identifier)
        with _table_errors(key):
            self._intend(key)
            self._write(staged.metadata, staged.metadata_location)
            self._place_new(key, staged.metadata_location)
        return self.load_table(identifier)

    def create_table_transaction(
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> CreateTableTransaction:
        return CreateTableTransaction(
            self._create_staged_table(identifier, schema, location, partition_spec, sort_order, properties)
        )

    def register_table(self, identifier: str | Identifier, metadata_location: str, overwrite: bool = False) -> Table:
        key = self._key(identifier)
        found = load(self._files, metadata_location)
        check_writable(found, f"register {format_key(key)}")
        if overwrite and key in self._port.keys(key):
            with _table_errors(key):
                self._place(key, self._port.add(key).location, metadata_location)
        else:
            with _table_errors(key):
                self._intend(key)
                self._place_new(key, metadata_location)
        return self.load_table(identifier)

    def load_table(self, identifier: str | Identifier) -> Table:
        found = self._load(self._key(identifier), TABLE)
        if found is None:
            raise NoSuchTableError(f"Table does not exist: {self._dotted(identifier)}")
        return Table(self.identifier_to_tuple(identifier), found.table, found.location, self._files.io, self)

    def table_exists(self, identifier: str | Identifier) -> bool:
        return self._format(self._key(identifier)) == TABLE

    def drop_table(self, identifier: str | Identifier) -> None:
        if not self.table_exists(identifier):
            raise NoSuchTableError(f"Table does not exist: {self._dotted(identifier)}")
        self._port.drop(self._key(identifier))

    def purge_table(self, identifier: str | Identifier) -> None:
        raise Unsupported(
            "purge_table deletes files that other branches may need",
            remedy="call drop_table: retention deletes the files once no kept commit reaches them",
        )

    def rename_table(self, from_identifier: str | Identifier, to_identifier: str | Identifier) -> Table:
        with _table_errors(self._key(to_identifier)):
            self._port.move(self._key(from_identifier), self._key(to_identifier))
        return self.load_table(to_identifier)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Write the updated metadata and move the staging to it, if nobody else moved it meanwhile.

        Raises: CommitFailedException, after which pyiceberg refreshes and tries again; TransactionClosed.
        """
        key = self._key(table.name())
        current = self._current(key, table)
        for requirement in requirements:
            requirement.validate(current.table if current else None)
        updated = update_table_metadata(
            base_metadata=current.table if current else self._empty_table_metadata(),
            updates=tuple(self._stamped(update, table.metadata) for update in updates),
            enforce_validation=current is None,
            metadata_location=current.location if current else None,
        )
        if current and _says_the_same(updated, current.table):
            return CommitTableResponse(metadata=current.table, metadata_location=current.location)
        if current:
            updated = in_order(updated, current.table)
        document = {"location": updated.location, "properties": updated.properties}
        location = metadata_location(document, current.version + 1 if current else 0, self._port.tx)
        self._write(updated, location)
        landed = self._place(key, current.location if current else "", location)
        if landed is not None:
            return CommitTableResponse(metadata=landed.table, metadata_location=landed.location)
        return CommitTableResponse(metadata=updated, metadata_location=location)

    def _current(self, key: Key, table: Table) -> Metadata | None:
        """The version that the staging is at, staged now if it was not; None for a table that is being created."""
        staging = self._port.get(key)
        if staging is None:
            with _table_errors(key):
                staging = self._port.add(key, new=isinstance(table, StagedTable))
        found = load_side(self._files, staging)
        if found is None:
            return None
        check_writable(found, f"commit to {format_key(key)}")
        return found

    def _stamped(self, update: TableUpdate, table: TableMetadata) -> TableUpdate:
        """The update, a new snapshot with the transaction's properties in its summary, and where its hashes are."""
        if not isinstance(update, AddSnapshotUpdate) or update.snapshot.summary is None:
            return update
        summary = update.snapshot.summary
        told = {**summary.additional_properties, **self._port.properties, **self._checksums(update.snapshot, table)}
        stamped = Summary(summary.operation, **told)
        return update.model_copy(update={"snapshot": update.snapshot.model_copy(update={"summary": stamped})})

    def _checksums(self, snapshot: Snapshot, table: TableMetadata) -> dict[str, str]:
        if not self._files.is_local(snapshot.manifest_list):
            return {}
        reader = ManifestReader(self._files.io)
        found = hashes(self._files, new_files(reader, snapshot.snapshot_id, snapshot.manifest_list))
        self._context.failpoint("iceberg.commit.before_checksums")
        return keep(self._files, table, found)

    def _place(self, key: Key, expected: str, location: str) -> Metadata | None:
        """Move the staging; None, or where another commit came on top of ours already, that version's metadata.

        An answer may get lost and the move be repeated below us: so a refused move is looked up before it is believed.
        """
        self._context.failpoint("iceberg.commit.before_move")
        if self._port.compare_and_set(key, expected, location):
            return None
        staging = self._port.get(key)
        if staging is not None and staging.location == location:
            return None
        if staging is not None and staging.location:
            now = load(self._files, staging.location)
            if any(entry["metadata-file"] == location for entry in now.document.get("metadata-log", ())):
                return now
        raise CommitFailedException(f"{format_key(key)} was changed by another client of this working set")

    def _place_new(self, key: Key, location: str) -> None:
        try:
            self._place(key, "", location)
        except CommitFailedException as error:
            raise AlreadyExists(f"{format_key(key)} was created by another client of this working set") from error

    @staticmethod
    def _delete_old_metadata(io: FileIO, base: TableMetadata, metadata: TableMetadata) -> None:
        """Never: the base's commit names its metadata file, whatever the table's properties ask for."""

    # -- creating ----------------------------------------------------------------------------------------------------

    def _create_staged_table(
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> StagedTable:
        metadata = new_table(
            self._files.warehouse,
            self.identifier_to_tuple(identifier),
            self._convert_schema_if_needed(schema),
            location=location,
            partition_spec=partition_spec,
            sort_order=sort_order,
            properties=properties,
        )
        document = {"location": metadata.location, "properties": metadata.properties}
        named = metadata_location(document, 0, self._port.tx)
        return StagedTable(self.identifier_to_tuple(identifier), metadata, named, self._files.io, self)

    def _intend(self, key: Key) -> None:
        """Start an asset, or go on with one that was started here but never got its metadata."""
        staging = self._port.get(key)
        if staging is None:
            self._port.add(key, new=True)
        elif staging.location:
            raise AlreadyExists(f"{format_key(key)} exists already")

    def _write(self, metadata: TableMetadata, location: str) -> None:
        self._context.failpoint("iceberg.commit.before_metadata")
        with translated(f"metadata file {location}"):
            ToOutputFile.table_metadata(metadata, self._files.io.new_output(location))

    # -- looking -----------------------------------------------------------------------------------------------------

    def _key(self, identifier: str | Identifier) -> Key:
        return (self.name, *self.identifier_to_tuple(identifier))

    def _dotted(self, identifier: str | Identifier) -> str:
        return ".".join(self.identifier_to_tuple(identifier))

    def _load(self, key: Key, wanted: str) -> Metadata | None:
        held: SnapshotRef | Staging | None = self._port.get(key)
        if held is None and key in self._port.keys(key):
            held = self._port.base(key)
        found = load_side(self._files, held)
        return found if found and found.format == wanted else None

    def _format(self, key: Key) -> str | None:
        """Table, view, or None for nothing. Reads a file only for what this transaction created."""
        staging = self._port.get(key)
        base = staging.base if staging else (self._port.base(key) if key in self._port.keys(key) else None)
        if base is not None:
            return base.attrs.get("format", TABLE)
        return load(self._files, staging.location).format if staging and staging.location else None

    def _identifiers(self, namespace: str | Identifier, wanted: str) -> list[Identifier]:
        prefix = self._namespace_key(namespace)
        if not self.namespace_exists(prefix[1:]):
            raise NoSuchNamespaceError(f"Namespace does not exist: {'.'.join(prefix[1:])}")
        direct = (key for key in self._port.keys(prefix) if len(key) == len(prefix) + 1)
        return [key[1:] for key in direct if self._format(key) == wanted]

    def _namespace_key(self, namespace: str | Identifier) -> Key:
        return (self.name, *(self.identifier_to_tuple(namespace) if namespace else ()))

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        return self._identifiers(namespace, TABLE)

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        prefix = self._namespace_key(namespace)
        depth = len(prefix)
        derived = {key[1 : depth + 1] for key in self._port.keys(prefix) if len(key) > depth + 1}
        created = {one[:depth] for one in self._namespaces if len(one) >= depth and one[: depth - 1] == prefix[1:]}
        return sorted(derived | created)

    # -- namespaces --------------------------------------------------------------------------------------------------

    def namespace_exists(self, namespace: str | Identifier) -> bool:
        prefix = self._namespace_key(namespace)
        if len(prefix) == 1 or any(one[: len(prefix) - 1] == prefix[1:] for one in self._namespaces):
            return True
        return any(len(key) > len(prefix) for key in self._port.keys(prefix))

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """Remember a namespace until it has a table; it needs none to exist."""
        if properties:
            raise Unsupported("namespaces have no properties here", remedy="create the namespace without properties")
        if self.namespace_exists(namespace):
            raise NamespaceAlreadyExistsError(f"Namespace already exists: {namespace}")
        self._namespaces.add(self._namespace_key(namespace)[1:])

    def drop_namespace(self, namespace: str | Identifier) -> None:
        self.load_namespace_properties(namespace)
        prefix = self._namespace_key(namespace)
        if any(len(key) > len(prefix) for key in self._port.keys(prefix)):
            raise NamespaceNotEmptyError(f"Namespace is not empty: {namespace}")
        self._namespaces = {one for one in self._namespaces if one[: len(prefix) - 1] != prefix[1:]}

    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        if not self.namespace_exists(namespace):
            raise NoSuchNamespaceError(f"Namespace does not exist: {namespace}")
        return {}

    def update_namespace_properties(
        self, namespace: str | Identifier, removals: set[str] | None = None, updates: Properties = EMPTY_DICT
    ) -> PropertiesUpdateSummary:
        raise Unsupported("namespaces have no properties here", remedy="set properties on tables")

    # -- views -------------------------------------------------------------------------------------------------------

    def create_view(
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        view_version: ViewVersion,
        location: str | None = None,
        properties: Properties = EMPTY_DICT,
    ) -> View:
        key = self._key(identifier)
        metadata = new_view(
            self._files.warehouse,
            self.identifier_to_tuple(identifier),
            self._convert_schema_if_needed(schema),
            view_version,
            location=location,
            properties=properties,
        )
        named = metadata_location({"location": metadata.location}, 0, self._port.tx)
        with _view_errors(key):
            self._intend(key)
            self._context.failpoint("iceberg.commit.before_metadata")
            with translated(f"metadata file {named}"), self._files.io.new_output(named).create() as stream:
                stream.write(metadata.model_dump_json().encode())
            self._place_new(key, named)
        return self.load_view(identifier)

    def register_view(self, identifier: str | Identifier, metadata_location: str) -> View:
        key = self._key(identifier)
        load(self._files, metadata_location)
        with _view_errors(key):
            self._intend(key)
            self._place_new(key, metadata_location)
        return self.load_view(identifier)

    def load_view(self, identifier: str | Identifier) -> View:
        found = self._load(self._key(identifier), VIEW)
        if found is None:
            raise NoSuchViewError(f"View does not exist: {self._dotted(identifier)}")
        return View(self.identifier_to_tuple(identifier), found.view)

    def view_exists(self, identifier: str | Identifier) -> bool:
        return self._format(self._key(identifier)) == VIEW

    def list_views(self, namespace: str | Identifier) -> list[Identifier]:
        return self._identifiers(namespace, VIEW)

    def drop_view(self, identifier: str | Identifier) -> None:
        if not self.view_exists(identifier):
            raise NoSuchViewError(f"View does not exist: {self._dotted(identifier)}")
        self._port.drop(self._key(identifier))


def _says_the_same(updated: TableMetadata, current: TableMetadata) -> bool:
    """Whether an update changed nothing but the marks that every update leaves, whatever it asked for."""
    marks = {"last_updated_ms": current.last_updated_ms, "metadata_log": current.metadata_log}
    return bool(updated.model_copy(update=marks) == current)


@contextmanager
def _table_errors(key: Key) -> Iterator[None]:
    """The port's answers in the words that callers of a pyiceberg catalog catch."""
    try:
        yield
    except AlreadyExists as error:
        raise TableAlreadyExistsError(f"Table already exists: {format_key(key)}") from error
    except NotFound as error:
        raise NoSuchTableError(f"Table does not exist: {error.message}") from error


@contextmanager
def _view_errors(key: Key) -> Iterator[None]:
    try:
        yield
    except AlreadyExists as error:
        raise ViewAlreadyExistsError(f"View already exists: {format_key(key)}") from error


class SnapshotCatalog(NoopCatalog):
    """Stands behind the table of a committed snapshot: it can be refreshed, to the same, and not changed."""

    def __init__(self, store: Store, found: Metadata, io: FileIO) -> None:
        super().__init__(store.name)
        self._found = found
        self._io = io

    def load_table(self, identifier: str | Identifier) -> Table:
        return Table(self.identifier_to_tuple(identifier), self._found.table, self._found.location, self._io, self)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        raise Unsupported(
            "this table is a committed snapshot and cannot change",
            remedy="open it inside a transaction: catalog.transaction(ref) as tx, then tx.open(key)",
        )
