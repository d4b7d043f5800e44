"""Delta tables as assets: a root per transaction, natively written by deltalake, and published by one put-if-absent.

staged      a root (plait_delta.roots): the base's files in a log of its own, writable by every Delta client
prepared    a version of that root; its new files have names in the table's folder too
published   one commit in the table's own log, written by plait (plait_delta.publish)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from plait.adapter import Adapter, Capability, Context, StagingPort
from plait.codec import digest, pack
from plait.errors import InvalidArgument, NotFound, PlaitError, StoreUnavailable, Unsupported
from plait.refspec import check_key, format_key
from plait.rows.comparing import ByColumns, take
from plait.rows.items import check_row_item
from plait.rows.merging import Decisions
from plait.types import (
    Choice,
    Conflicted,
    ConflictKind,
    Depth,
    Found,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Mode,
    Move,
    Published,
    Resolution,
    Risk,
    SnapshotRef,
    Staging,
    Store,
)

from plait_delta import space
from plait_delta.diff import diff, row_changes, rows_lost, same_types
from plait_delta.disk_roots import DiskLayout
from plait_delta.features import check_supported
from plait_delta.files import OWN, tables_below
from plait_delta.log import head_version, put_commit, read_state
from plait_delta.merge import Merge, write_rows
from plait_delta.places import layout_of, staging_location, version_location
from plait_delta.publish import Publishing
from plait_delta.roots import Root
from plait_delta.rows import Side
from plait_delta.table import Namespace, SnapshotTable, WorkingTable, translated
from plait_delta.verifying import Verifier, refused
from plait_delta.versions import KIND, Versions

_TRIES_MAX = 10


class DeltaAdapter(Adapter):
    """A folder of Delta tables, on a local disk or in a bucket.

    Options: `path`, absolute or `s3://bucket/prefix`; then also `endpoint`, `region`, `access_key`, `secret_key`.
    """

    kind: ClassVar[str] = KIND
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
            Capability.OPEN_STORE,
            Capability.DISCOVER,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self._layout = layout_of(store, context)
        self._versions = Versions(store.name, self._layout, context)

    @cached_property
    def _publishing(self) -> Publishing:
        versions = self._versions
        return Publishing(
            self._layout, self.context, lambda one: versions.side(one).state, versions.state, versions.refer
        )

    def local_folder(self) -> str:
        return self._layout.path if isinstance(self._layout, DiskLayout) else ""

    def close(self) -> None:
        self._layout.files.close()

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        """Whether the place can be written, and has what roots need: a disk's symbolic links and atomic renames, a
        bucket's conditional writes."""
        try:
            return self._layout.problems()
        except PlaitError as error:
            return (f"{self._layout.path} cannot hold branches of Delta tables: {error}",)

    def discover(self, place: str) -> Iterator[Found]:
        """The table in a folder, or all in the folders below it, by their paths; relative to the store or absolute."""
        top = self._layout.table(place).folder
        if not self._layout.files.is_folder(top):
            raise NotFound(f"folder {top} does not exist", remedy="name a folder of Delta tables")
        for folder in tables_below(self._layout.files, top):
            name = folder.removeprefix(f"{top}/").split("/") if folder != top else [top.rpartition("/")[2]]
            yield Found(tuple(name), folder, self._refusal(tuple(name), folder), asset=self._layout.asset_of(folder))

    def _refusal(self, name: Key, folder: str) -> str:
        try:
            check_key((self.store.name, *name))
            self._at_head(folder)
        except PlaitError as error:
            return str(error)
        return ""

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Name existing tables, in place, at their newest version; by their folder, relative to the store or absolute.

        Raises: NotFound, Corrupt, and Unsupported for a feature that plait could not keep, save in pointer stores.
        """
        found: dict[Key, SnapshotRef] = {}
        for done, (key, location) in enumerate(assets.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(assets))
            found[key] = self._versions.refer(*self._at_head(location))
        return found

    def _at_head(self, location: str) -> tuple[Root, int]:
        table = self._layout.table(location)
        version = head_version(table)
        if version is None:
            raise NotFound(f"{table.folder} holds no Delta table", remedy="name a folder that has a _delta_log")
        if self.store.mode is not Mode.POINTER:
            check_supported(self._versions.state(table, version), f"the table in {table.folder}")
            if refusal := refused(table, version):
                raise Unsupported(refusal, remedy="see that other clients read it")
        return table, version

    def diff(
        self,
        before: SnapshotRef | Staging | None,
        after: SnapshotRef | Staging | None,
        *,
        items: Sequence[str] | None = None,
    ) -> Iterator[ItemChange]:
        wanted = None if items is None else frozenset(items)
        old, new = self._versions.side_or_none(before), self._versions.side_or_none(after)
        found = diff(old, new, self.context)
        return found if wanted is None else (change for change in found if change.item in wanted)

    def locate(self, target: SnapshotRef | Staging) -> Location:
        """A folder or a URL, with the version; in a bucket, also how to reach the server, and never a secret."""
        target = _place(target)
        if isinstance(target, Staging):
            return staging_location(self.store, target)
        return version_location(self.store, *self._layout.parse(target.asset, target.version))

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return self.verifier(depth)(snapshot)

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        return Verifier(self._layout, depth, check_cancelled=self.context.check_cancelled).verify

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A root of the transaction's own for each. Cost: a log with the base's files; no data is copied.

        In a pointer store only imports are staged, and nothing is written: the base is what they commit.

        Raises: Unsupported for a base with a table feature that plait could not keep, save in pointer stores.
        """
        stagings = {}
        for done, (key, intent) in enumerate(intents.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(intents))
            base = intent.base
            if base is not None and self.store.mode is Mode.POINTER:
                stagings[key] = Staging(tx, key, base, "", {"asset": base.asset})
                continue
            asset = base.asset if base else self._layout.claim(tx, intent.id, ".".join(key[1:]))
            state = self._versions.side(base).state if base else None
            root = self._versions.make_root(self._layout.root(asset, tx, intent.id), tx, state)
            stagings[key] = Staging(tx, key, base, root.folder, {"asset": asset})
        return stagings

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> WorkingTable | SnapshotTable:
        """A deltalake DeltaTable: writable for a staging with its port, else read-only."""
        target = _place(target)
        if isinstance(target, Staging):
            if head_version(self._versions.root_of(target)) is None:
                raise NotFound(
                    f"{format_key(target.key)} is staged, but no table was created yet",
                    remedy="create it: tx.store(name).create_table(identifier, schema)",
                )
            if port is not None:
                with translated(f"table {format_key(target.key)}"):
                    return WorkingTable(self._layout.files.native(target.location), port.properties)
        side = self._versions.side_or_none(target)
        assert side is not None
        native = self._layout.files.native(side.root.folder)
        with translated(f"table {side.root.folder}"):
            return SnapshotTable(native.uri, version=side.state.version, storage_options=native.options)

    def open_store(self, port: StagingPort) -> Namespace:
        """Create, drop, rename and list tables inside the transaction."""

        def open_table(staging: Staging) -> WorkingTable:
            opened = self.open(staging, port)
            assert isinstance(opened, WorkingTable)
            return opened

        return Namespace(self.store.name, port, self._layout.files, open_table)

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """Vote with the version that each root is at, and name its new files in the table. Cost: the new files' bytes,
        hashed.

        Repeat: the version is kept in the root, by attempt.
        """
        votes: dict[Key, SnapshotRef | None] = {}
        for done, (key, staging) in enumerate(stagings.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(stagings))
            votes[key] = self._vote(attempt, staging)
        return votes

    def _vote(self, attempt: int, staging: Staging) -> SnapshotRef | None:
        if not staging.location:
            return staging.base
        root = self._versions.root_of(staging)
        record = root.path(OWN, f"{attempt}.json")
        try:
            version = json.loads(root.files.read(record))["version"]
        except NotFound:
            version = head_version(root)
            if version is None and (staging.base is not None or not self._layout.is_there(root)):
                raise NotFound(
                    f"the working table of {format_key(staging.key)} is gone from {root.folder}",
                    remedy="bring the store's folder back and commit again, or discard the working set",
                ) from None
            if version is not None:
                check_supported(self._versions.state(root, version), format_key(staging.key))
                self._versions.keep_data(root, self._versions.state(root, version))
            self.context.failpoint("delta.prepare.before_record")
            if not root.files.put_new(record, json.dumps({"version": version}).encode()):
                return self._vote(attempt, staging)
            self.context.failpoint("delta.prepare.after_record")
        if version is None:
            return None
        base = staging.base
        same_table = base is not None and base.asset == staging.attrs["asset"]
        if base is not None and same_table and self._versions.state(root, version).digest() == base.digest:
            return base
        return self._versions.refer(root, version)

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """The whole table: one Delta commit with the snapshot's files. Rows, by their key columns: written anew."""
        then = self._versions.side(snapshot)
        if items is None:
            return self._restore_whole(tx, staging, then)
        wanted = {check_row_item(item) for item in items}
        now = self._versions.side_or_none(staging)
        what = format_key(staging.key)
        if now is None or now.root.table != then.root.table:
            raise Unsupported(f"{what} and the snapshot are not the same table", remedy="restore it as a whole")
        check_supported(now.state, f"restore {what}")
        shape = ByColumns(now.state.key_columns)
        if not shape.identifiers or not same_types(then.state, now.state):
            raise Unsupported(
                f"{what} has no key columns that both versions have, so its rows have no names",
                remedy="restore it as a whole, or name its key columns first: tx.open(KEY).set_key_columns(…)",
            )
        found = row_changes(shape, now, then, self.context, now.state)
        chosen = [change for change in found.changes() if change.item in wanted]
        leaving = [one.before_index for one in chosen if one.before_index is not None]
        coming = [one.after_index for one in chosen if one.after_index is not None]
        # Found anew when it is repeated: a death between the two commits leaves only rows that have yet to come.
        gone = take(found.removed, leaving)
        write_rows(now.root, tx, keys=shape.keys(gone), rows=None, leaving=gone)
        self.context.failpoint("delta.restore.between")
        write_rows(now.root, tx, keys=None, rows=take(found.added, coming))
        return staging

    def _restore_whole(self, tx: str, staging: Staging, then: Side) -> Staging:
        root = self._versions.root_of(staging)
        asset = self._layout.asset_of(then.root.table)
        if root.table != then.root.table:
            # Another table than was staged under this key: its files need a root that links to its folder.
            name = f"{root.folder.rpartition('/')[2]}-{digest(b'delta-restore', pack(asset)).hex()[:16]}"
            root = self._versions.make_root(self._layout.root(asset, tx, name), tx, then.state)
        restored = replace(staging, location=root.folder, attrs={**staging.attrs, "asset": asset})
        check_supported(then.state, f"restore {format_key(staging.key)}")
        for _ in range(_TRIES_MAX):
            version = head_version(root)
            now = None if version is None else self._versions.state(root, version)
            if now is not None and now.digest() == then.state.digest():
                return restored
            self.context.failpoint("delta.restore.before_commit")
            actions = self._versions.commit_of(root, tx, now, then.state)
            if put_commit(root, 0 if version is None else version + 1, actions):
                return restored
        raise StoreUnavailable(f"others write to {format_key(staging.key)} all the time", remedy="restore it again")

    def abort(self, tx: str) -> None:
        """Drop its roots, what it added to tables, and folders of tables that never came to be."""
        self._layout.drop(tx)

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
        """A root with ours' files and what theirs changed since base.

        Repeat: the root is named after all arguments; where it exists already it is the answer.
        """
        for one in resolutions:
            if one.choice is Choice.VALUE and one.item is None:
                raise InvalidArgument(
                    "a table as a whole cannot be resolved by a value", remedy="choose ours, theirs or base"
                )
        decisions = Decisions(resolutions)
        are_different = len({one.asset for one in (base, ours, theirs) if one is not None}) > 1
        if base is None or are_different:
            brought = "both sides brought the table here, in different versions"
            detail = "the sides hold different tables under this key" if are_different else brought
            decisions.conflict(None, None, None, None, ConflictKind.VALUE_DIFFERS, detail)
            return self._settle(decisions, base, ours, theirs)
        settled = sorted((one.item or "", one.item is None, one.choice.value, repr(one.value)) for one in resolutions)
        named = [attempt, [[side.version, side.digest] for side in (base, ours, theirs)], settled]
        root = self._layout.root(ours.asset, tx, f"merge-{digest(b'delta-merge', pack(named)).hex()[:32]}")
        if (made := self._layout.made(root)) is not None:
            return Merged(self._versions.refer(made, self._newest(made)))
        sides = [self._versions.side(side) for side in (base, ours, theirs)]
        for side in sides:
            check_supported(side.state, f"merge of the table in {side.root.table}")
        plan = Merge(sides[0], sides[1], sides[2], decisions, self.context).run()
        if plan is None:
            return self._settle(decisions, base, ours, theirs)
        if not plan.has_rows and plan.state.digest() == ours.digest:
            return Merged(ours)

        def fill(making: Root) -> None:
            put_commit(making, 0, self._versions.commit_of(making, tx, None, plan.state))
            self.context.failpoint("delta.merge.before_rows")
            write_rows(making, tx, keys=plan.keys, rows=plan.rows, leaving=plan.leaving)
            self.context.failpoint("delta.merge.after_rows")
            self._versions.keep_data(making, read_state(making))

        made = self._layout.make_root(root, tx, fill)
        return Merged(self._versions.refer(made, self._newest(made)))

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        """Content itself: the table's log can go from any version to any other, but for rows of an append-only table.

        Raises: InvalidArgument where such rows would go. Cost: nothing, save for append-only tables that lose files.
        """
        before, after = self._versions.side(onto), self._versions.side(content)
        if before.state.is_append_only and after.state.is_append_only:
            lost = rows_lost(before, after, self.context)
            if lost:
                raise InvalidArgument(
                    f"the table in {before.root.table} is append-only, and {lost} rows of it would go",
                    remedy="unset its property delta.appendOnly first",
                )
        return content

    def _newest(self, root: Root) -> int:
        version = head_version(root)
        assert version is not None, "a merge's root has a log before it has its name"
        return version

    def _settle(
        self, decisions: Decisions, base: SnapshotRef | None, ours: SnapshotRef, theirs: SnapshotRef
    ) -> Merged | Conflicted:
        """One side as a whole, where that was decided for what nothing less settles; else the conflicts."""
        whole = decisions.whole
        if whole is not None:
            side = {Choice.OURS: ours, Choice.THEIRS: theirs, Choice.BASE: base}.get(whole.choice)
            if side is not None:
                return Merged(side)
        return Conflicted(tuple(decisions.conflicts))

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        published = {}
        for key, move in moves.items():
            self.context.check_cancelled()
            published[key] = self._publishing.move(move)
        return published

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        side = self._versions.side(snapshot)
        yield from space.reachable(self._layout, side.root, side.state)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        yield from space.inventory(self._layout, prefix)

    def delete(self, items: Iterable[Item]) -> None:
        for item in items:
            self.context.check_cancelled()
            self.context.failpoint("delta.delete.before_file")
            self._layout.delete(item.path)

    def retention_risks(self) -> Iterator[Risk]:
        yield from space.retention_risks(self._layout)


def _place(target: SnapshotRef | Staging) -> SnapshotRef | Staging:
    """What says where a table is: a staging, or its base where it has no root, as in pointer stores."""
    return target.base if isinstance(target, Staging) and not target.location and target.base else target
