"""The Iceberg adapter: a snapshot is a metadata file, and which one a commit names is plait's alone to say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from plait.adapter import Capability, Context, StagingPort
from plait.errors import InvalidArgument, NotFound, PlaitError, Unsupported
from plait.refspec import format_key
from plait.rows.comparing import take
from plait.rows.items import check_row_item
from plait.rows.merging import Decisions
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Depth,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Mode,
    Resolution,
    Risk,
    SnapshotRef,
    Staging,
    Store,
)
from pyiceberg.table import Table
from pyiceberg.view import View

from plait_iceberg import space
from plait_iceberg.changes import Version, compare_rows, differing_files
from plait_iceberg.checksums import new_files, notes
from plait_iceberg.diff import diff
from plait_iceberg.fields import projection
from plait_iceberg.files import FILE_OPTIONS, Files, file_options, warehouse_uri
from plait_iceberg.locating import staging_location, version_location
from plait_iceberg.manifests import ManifestReader, compare
from plait_iceberg.merge import Merge, Sides, check_mergeable, check_rewritable, rewrite, whole_conflict
from plait_iceberg.metadata import TABLE, VIEW, Metadata, check_writable, load, load_side, resolve
from plait_iceberg.mirror import PREFIX, Mirrored
from plait_iceberg.namespace import SnapshotCatalog, TransactionCatalog
from plait_iceberg.rows import Shape
from plait_iceberg.verifying import Verifier
from plait_iceberg.write import Edits, SnapshotWriter, token


class IcebergAdapter(Mirrored):
    """Tables and views under one warehouse, on a local disk or S3.

    A staging's location, and a snapshot's version, is a metadata file. New files have unique names and nothing is ever
    overwritten, so every version of a table stays readable beside all others. There is a native head to publish only
    where another Iceberg catalog is the store's mirror.
    """

    kind: ClassVar[str] = "iceberg"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.OPEN_STORE,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        if "warehouse" not in store.options:
            raise InvalidArgument(
                f"store {store.name!r} needs the option 'warehouse'", remedy="write --option warehouse=/data/warehouse"
            )
        for name in store.options:
            if name != "warehouse" and not name.startswith((*FILE_OPTIONS, PREFIX)):
                raise InvalidArgument(
                    f"stores of kind 'iceberg' have no option {name!r}",
                    remedy="known are warehouse, pyiceberg's s3.* and client.*, and mirror.*",
                )
        self._warehouse = warehouse_uri(store.options["warehouse"])
        self._files: Files | None = None

    @property
    def files(self) -> Files:
        """The warehouse's files, by the credentials that count now: the file that an option names may hold others than
        before. Tables that are open go on with theirs."""
        properties = {name: self.context.credential(value) for name, value in file_options(self.store).items()}
        if self._files is None or self._files.properties != properties:
            self._files = Files(self._warehouse, properties)
        return self._files

    def local_folder(self) -> str:
        return self._warehouse.removeprefix("file://") if self._warehouse.startswith("file://") else ""

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        probe = f"{self._warehouse}/.plait-probe-{uuid.uuid4()}"
        try:
            self.files.write_new(probe, b"plait", self.context.failpoint)
            self.files.delete(probe)
        except PlaitError as error:
            return (f"warehouse {self._warehouse} cannot be written: {error}",)
        return self.check_mirror()

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Name existing tables, in place: by their metadata file, or by their folder (then its newest version).

        Raises: NotFound, Corrupt, and Unsupported for a format that plait could not write, save in pointer stores.
        """
        found: dict[Key, SnapshotRef] = {}
        for done, (key, location) in enumerate(assets.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(assets))
            metadata = load(self.files, resolve(self.files, location))
            if self.store.mode is not Mode.POINTER:
                check_writable(metadata, f"import {format_key(key)}")
            found[key] = self._refer(metadata)
        return found

    def diff(
        self,
        before: SnapshotRef | Staging | None,
        after: SnapshotRef | Staging | None,
        *,
        items: Sequence[str] | None = None,
    ) -> Iterator[ItemChange]:
        wanted = None if items is None else frozenset(items)
        old, new = load_side(self.files, before), load_side(self.files, after)
        found = diff(self.files, old, new, check_cancelled=self.context.check_cancelled)
        return found if wanted is None else (change for change in found if change.item in wanted)

    def locate(self, target: SnapshotRef | Staging) -> Location:
        if isinstance(target, Staging):
            return staging_location(self.store, target)
        return version_location(self.store, target)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return self.verifier(depth)(snapshot)

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        return Verifier(self.files, depth, check_cancelled=self.context.check_cancelled).verify

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A staging starts as its base's metadata file, or as nothing: no file is written or copied."""
        bases = {key: intent.base for key, intent in intents.items()}
        return {key: Staging(tx, key, base, base.version if base else "") for key, base in bases.items()}

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> Table | View:
        """A pyiceberg Table (or View): writable for a staging with its port, else read-only."""
        if isinstance(target, Staging) and port is not None:
            if not target.location:
                raise NotFound(
                    f"{format_key(target.key)} is staged, but no table was created yet",
                    remedy="create it: tx.store(name).create_table(identifier, schema)",
                )
            catalog = TransactionCatalog(self.store, self.files, self.context, port)
            identifier = target.key[1:]
            return catalog.load_table(identifier) if catalog.table_exists(identifier) else catalog.load_view(identifier)
        found = load_side(self.files, target)
        if found is None:
            raise NotFound("no table was created yet in this staging")
        identifier = target.key[1:] if isinstance(target, Staging) else ("snapshot", found.asset)
        if found.format == VIEW:
            return View(identifier, found.view)
        return SnapshotCatalog(self.store, found, self.files.read_only_io).load_table(identifier)

    def open_store(self, port: StagingPort) -> TransactionCatalog:
        """A pyiceberg Catalog: create, drop, rename tables and views inside the transaction."""
        return TransactionCatalog(self.store, self.files, self.context, port)

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """Vote with the metadata file that each staging is at, all its new files on disk. Cost: the new files only."""
        votes: dict[Key, SnapshotRef | None] = {}
        for done, (key, staging) in enumerate(stagings.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(stagings))
            votes[key] = self._vote(staging)
        return votes

    def _vote(self, staging: Staging) -> SnapshotRef | None:
        base = staging.base
        if not staging.location or (base is not None and base.version == staging.location):
            return base
        try:
            found = load(self.files, staging.location)
        except NotFound as error:
            raise NotFound(
                f"what was written to {format_key(staging.key)} is gone: {error.message}",
                remedy="bring the table's folder back and commit again, or discard the working set",
            ) from error
        check_writable(found, f"commit {format_key(staging.key)}")
        self.files.sync(self._new_files(found, load_side(self.files, base)))
        self.context.failpoint("iceberg.prepare.before_vote")
        return self._refer(found)

    def _new_files(self, found: Metadata, base: Metadata | None) -> Iterator[str]:
        """The local files that a version has and its base has not."""
        known = base.document if base else {}
        yield found.location
        old_log = {entry["metadata-file"] for entry in known.get("metadata-log", ())} | {base.location if base else ""}
        for entry in found.document.get("metadata-log", ()):
            if entry["metadata-file"] not in old_log:
                yield entry["metadata-file"]
        if found.format != TABLE:
            return
        old = {snapshot["snapshot-id"] for snapshot in known.get("snapshots", ())}
        files = self.files
        reader = ManifestReader(files.io)
        noted = notes(found.document)
        # From the document: pyiceberg's model of it takes as long as all else here.
        for snapshot in found.document.get("snapshots", ()):
            number, manifest_list = snapshot["snapshot-id"], snapshot["manifest-list"]
            if number not in old and files.is_local(manifest_list):
                yield from new_files(reader, number, manifest_list)
                if note := noted.get(number):
                    yield note

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """The whole table: the snapshot's own metadata file. Rows, by their identifiers: a new Iceberg snapshot."""
        if items is None:
            load_side(self.files, snapshot)
            return replace(staging, location=snapshot.version)
        wanted = {check_row_item(item) for item in items}
        now, then = load_side(self.files, staging), load_side(self.files, snapshot)
        if now is None or then is None or now.asset != then.asset or now.format != TABLE:
            raise Unsupported(
                f"{format_key(staging.key)} and the snapshot are not the same table", remedy="restore it as a whole"
            )
        check_rewritable(now, f"restore {format_key(staging.key)}")
        unique = token("restore", tx, staging.location, snapshot.digest, sorted(wanted))
        writer = SnapshotWriter(self.files, self.context, now, tx, unique)
        restored = writer.found() or self._restore_rows(writer, tx, now, then, wanted)
        return replace(staging, location=restored.location) if restored else staging

    def _restore_rows(
        self, writer: SnapshotWriter, tx: str, now: Metadata, then: Metadata, wanted: set[str]
    ) -> Metadata | None:
        reader = ManifestReader(self.files.io)
        old = Version(now, projection(now.document, now.document))
        new = Version(then, projection(now.document, then.document))
        shape = Shape(old.schema)
        if not shape.identifiers:
            raise Unsupported(
                f"table {now.asset} has no identifier fields, so its rows have no names",
                remedy="restore it as a whole, or declare them: update_schema().set_identifier_fields(...)",
            )
        changes = compare(reader, now.current, then.current)
        found = compare_rows(reader, shape, old, new, changes, check_cancelled=self.context.check_cancelled)
        chosen = [change for change in found.changes() if change.item in wanted]
        if not chosen:
            return None
        leaving = [one.before_index for one in chosen if one.before_index is not None]
        coming = [one.after_index for one in chosen if one.after_index is not None]
        rows = take(found.added, coming)
        for one in now.schema().fields:
            if one.required and rows[one.name].null_count:
                raise Unsupported(
                    f"rows to restore have no {one.name!r}, which the table requires by now",
                    remedy="make the column optional first, or restore the table as a whole",
                )
        candidates = differing_files(reader, now, then, changes).before
        edits: Edits = rewrite(
            reader, writer, now.document, old, shape, candidates,
            take(found.removed, leaving), rows, self.context,
        )  # fmt: skip
        return writer.write(now.document, reader, edits, {"plait.tx": tx, "plait.restored-metadata": then.location})

    def abort(self, tx: str) -> None:
        """Nothing to undo: what the transaction wrote has names of its own, and retention collects the unreachable."""

    # -- joining -----------------------------------------------------------------------------------------------------

    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        """Ours plus one snapshot with what theirs changed since base, schema and properties included.

        Repeat: the metadata file is named after all arguments; where it exists already it is the answer.
        Raises: Unsupported, before anything is written, for delete files that pyiceberg cannot read, and formats
        other than 2.
        """
        _check_resolutions(resolutions)
        sides = [load_side(self.files, side) for side in (base, ours, theirs)]
        old, mine, others = sides
        assert mine is not None
        assert others is not None
        if reason := whole_conflict(old, mine, others):
            return self._take(reason, base, ours, theirs, resolutions)
        assert old is not None
        known = Sides(old, mine, others)
        check_mergeable(known)
        settled = sorted((one.item or "", one.item is None, one.choice, repr(one.value)) for one in resolutions)
        unique = token("merge", tx, attempt, old.digest, mine.digest, others.digest, settled)
        writer = SnapshotWriter(self.files, self.context, mine, tx, unique)
        if found := writer.found():
            return Merged(self._refer(found))
        decisions = Decisions(resolutions)
        merge = Merge(self.files, self.context, known, decisions, writer)
        summary = {
            "plait.tx": tx,
            "plait.merged-metadata": others.location,
            "plait.merged-snapshot": str(others.document.get("current-snapshot-id", "")),
        }
        merged = merge.run(summary)
        if merged is None:
            if decisions.whole:
                return self._take("", base, ours, theirs, resolutions)
            return Conflicted(tuple(decisions.conflicts))
        return Merged(self._refer(merged))

    def _take(
        self,
        reason: str,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution],
    ) -> Merged | Conflicted:
        """One side as a whole, as decided for the table as a whole."""
        whole = next((resolution for resolution in resolutions if resolution.item is None), None)
        side = {Choice.OURS: ours, Choice.THEIRS: theirs, Choice.BASE: base}.get(whole.choice) if whole else None
        if side is not None:
            return Merged(side)
        return Conflicted((Conflict((), ConflictKind.VALUE_DIFFERS, None, detail=reason),))

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        found = load_side(self.files, snapshot)
        assert found is not None
        yield from space.reachable(self.files, found, check_cancelled=self.context.check_cancelled)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        yield from space.inventory(self.files, prefix)

    def delete(self, items: Iterable[Item]) -> None:
        files = self.files
        for item in items:
            self.context.check_cancelled()
            self.context.failpoint("iceberg.delete.before_file")
            files.delete(item.path)

    def retention_risks(self) -> Iterator[Risk]:
        yield from space.retention_risks(self.files)

    def _refer(self, found: Metadata) -> SnapshotRef:
        return found.refer(self.store.name, self.kind)


def _check_resolutions(resolutions: Sequence[Resolution]) -> None:
    for one in resolutions:
        if one.choice is Choice.VALUE and one.item is None:
            raise InvalidArgument(
                "a table as a whole cannot be resolved by a value", remedy="choose ours, theirs or base"
            )
