"""Delta tables as assets: a root per transaction, natively written by deltalake, and published by one put-if-absent.

staged      a root (plait_delta.roots): the base's files in a log of its own, writable by every Delta client
prepared    a version of that root; its new files have names in the table's folder too
published   one commit in the table's own log, written by plait (plait_delta.publish)
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from plait.adapter import Adapter, Capability, Context, StagingPort
from plait.errors import InvalidArgument, NotFound, Unsupported
from plait.refspec import format_key
from plait.types import (
    Depth,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Mode,
    Move,
    Published,
    Risk,
    SnapshotRef,
    Staging,
    Store,
)

from plait_delta import space
from plait_delta.actions import Action, State, difference
from plait_delta.diff import diff
from plait_delta.disk import fsync, keep, make_folders, put_new, read_bytes, replace_file
from plait_delta.features import check_supported
from plait_delta.log import LOG, head_version, put_commit, read_state
from plait_delta.publish import Publishing
from plait_delta.roots import OWN, Layout, Root
from plait_delta.rows import Side
from plait_delta.table import Namespace, SnapshotTable, WorkingTable, translated

_STATES_KEPT = 64


class DeltaAdapter(Adapter):
    """A folder of Delta tables on a local disk. Option: `path`, absolute."""

    kind: ClassVar[str] = "delta"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
            Capability.OPEN_STORE,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        if unknown := sorted(set(store.options) - {"path"}):
            raise InvalidArgument(f"stores of kind 'delta' have no option {unknown[0]!r}", remedy="known is path")
        path = store.options.get("path", "")
        if "://" in path:
            raise Unsupported(f"path {path!r} is no local folder", remedy="Delta tables on object stores come later")
        if not os.path.isabs(path):
            raise InvalidArgument(
                f"store {store.name!r} needs the option 'path', absolute, and has {path!r}",
                remedy="write --option path=/data/delta",
            )
        self._layout = Layout(path)
        self._states: dict[tuple[str, int], State] = {}
        self._lock = threading.Lock()

    @cached_property
    def _publishing(self) -> Publishing:
        return Publishing(self._layout, self.context, lambda one: self._side(one).state, self._refer)

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        """Whether the folder can be written, and has what roots need: symbolic links and an atomic rename."""
        probe = self._layout.root("probe", "check", "probe")
        try:
            make_folders(self._layout.table("probe").folder)
            self._layout.make_root(probe, "check", lambda root: None)
            os.stat(probe.path("_table"))
            self._layout.drop("check", (), self.context.failpoint)
            os.rmdir(self._layout.table("probe").folder)
        except (Unsupported, InvalidArgument, NotFound, OSError) as error:
            return (f"folder {self._layout.path} cannot hold branches of Delta tables: {error}",)
        return ()

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Name existing tables, in place, at their newest version; by their folder, relative to the store or absolute.

        Raises: NotFound, Corrupt, and Unsupported for a feature that plait could not keep, save in pointer stores.
        """
        found: dict[Key, SnapshotRef] = {}
        for done, (key, location) in enumerate(assets.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(assets))
            table = self._layout.table(location.removeprefix("file://"))
            version = head_version(table)
            if version is None:
                raise NotFound(f"{table.folder} holds no Delta table", remedy="name a folder that has a _delta_log")
            if self.store.mode is not Mode.POINTER:
                check_supported(self._state(table, version), f"the table in {table.folder}")
            found[key] = self._refer(table, version)
        return found

    def diff(
        self,
        before: SnapshotRef | Staging | None,
        after: SnapshotRef | Staging | None,
        *,
        items: Sequence[str] | None = None,
    ) -> Iterator[ItemChange]:
        wanted = None if items is None else frozenset(items)
        old, new = self._side_or_none(before), self._side_or_none(after)
        for change in diff(old, new, self.context):
            if wanted is None or change.item in wanted:
                yield change

    def locate(self, snapshot: SnapshotRef) -> Location:
        root, version = self._layout.parse(snapshot.asset, snapshot.version)
        snippet = (
            "# Python\n"
            "from deltalake import DeltaTable\n"
            f"table = DeltaTable({root.folder!r}, version={version})\n"
            "-- Spark\n"
            f"SELECT * FROM delta.`{root.folder}` VERSION AS OF {version};\n"
        )
        return Location(root.folder, {"version": str(version)}, snippet)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return space.verify(self._layout, snapshot, depth, check_cancelled=self.context.check_cancelled)

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A root of the transaction's own for each. Cost: a log with the base's files; no data is copied.

        Raises: Unsupported for a base with a table feature that plait could not keep.
        """
        stagings = {}
        for done, (key, intent) in enumerate(intents.items()):
            self.context.check_cancelled()
            self.context.progress("tables", done, len(intents))
            base = intent.base
            asset = base.asset if base else self._layout.claim(tx, intent.id, ".".join(key[1:]))
            root = self._layout.root(asset, tx, intent.id)
            self._make_root(root, tx, self._side(base).state if base else None)
            stagings[key] = Staging(tx, key, base, root.folder, {"asset": asset})
        return stagings

    def _make_root(self, root: Root, tx: str, state: State | None) -> None:
        def fill(making: Root) -> None:
            if state is not None:
                check_supported(state, f"the table in {root.table}")
                put_commit(making, 0, self._commit_of(root, tx, None, state))

        self._layout.make_root(root, tx, fill)

    def _commit_of(self, root: Root, tx: str, before: State | None, after: State) -> list[Action]:
        """What brings a root to a state, with a word on who did it."""
        now_ms = self.context.clock.now_us() // 1000
        info: Action = {
            "timestamp": now_ms,
            "operation": "PLAIT STAGE" if before is None else "PLAIT RESTORE",
            "operationParameters": {},
            "engineInfo": "plait",
            "plait.tx": tx,
        }
        return [{"commitInfo": info}, *difference(before, after, now_ms=now_ms, place=root.place)]

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> WorkingTable | SnapshotTable:
        """A deltalake DeltaTable: writable for a staging with its port, else read-only."""
        if isinstance(target, Staging):
            if head_version(self._root_of(target)) is None:
                raise NotFound(
                    f"{format_key(target.key)} is staged, but no table was created yet",
                    remedy="create it: tx.store(name).create_table(identifier, schema)",
                )
            if port is not None:
                with translated(f"table {format_key(target.key)}"):
                    return WorkingTable(target.location, port.properties)
        side = self._side_or_none(target)
        assert side is not None
        with translated(f"table {side.root.folder}"):
            return SnapshotTable(side.root.folder, version=side.state.version)

    def open_store(self, port: StagingPort) -> Namespace:
        """Create, drop, rename and list tables inside the transaction."""

        def open_table(staging: Staging) -> WorkingTable:
            opened = self.open(staging, port)
            assert isinstance(opened, WorkingTable)
            return opened

        return Namespace(self.store.name, port, open_table)

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
        root = self._root_of(staging)
        record = root.path(OWN, f"{attempt}.json")
        try:
            version = json.loads(read_bytes(record))["version"]
        except NotFound:
            version = head_version(root)
            if version is not None:
                check_supported(self._state(root, version), format_key(staging.key))
                self._keep_data(root, self._state(root, version))
            self.context.failpoint("delta.prepare.before_record")
            if not put_new(record, json.dumps({"version": version}).encode()):
                return self._vote(attempt, staging)
            self.context.failpoint("delta.prepare.after_record")
        if version is None:
            return None
        base = staging.base
        if base is not None and self._state(root, version).digest() == base.digest:
            return base
        return self._refer(root, version)

    def _keep_data(self, root: Root, state: State, final: Root | None = None) -> None:
        """Make a root's log and its own files durable, and give these their names in the table. Repeat: no-op.

        `final` is the place that the root is going to have, where it is still being made.
        """
        own = (final or root).own
        names = [name for name, _ in space.data_files(state) if name.startswith(own)]
        paths = {name: root.path(*name.removeprefix(own).split("/")) for name in names}
        folders = set()
        for name, path in paths.items():
            self.context.check_cancelled()
            self.context.failpoint("delta.prepare.before_file")
            keep(path, os.path.join(root.table, name))
            folders.add(os.path.dirname(os.path.join(root.table, name)))
            folders.add(os.path.dirname(path))
        for folder in folders:
            fsync(folder)
        if names:
            self._keep_sums(root, own, paths)
        for name in os.listdir(root.path(LOG)):
            if not os.path.isdir(root.path(LOG, name)):
                fsync(root.path(LOG, name))
        fsync(root.path(LOG))
        fsync(root.folder)

    def _keep_sums(self, root: Root, own: str, paths: Mapping[str, str]) -> None:
        """Note the hashes of files, beside those of an earlier attempt."""
        path = os.path.join(root.table, own, space.SUMS)
        known = space.read_sums(root, own)
        missing = {name: place for name, place in paths.items() if name not in known}
        if not missing:
            return
        sums = {**known, **json.loads(space.write_sums(missing))}
        replace_file(path, json.dumps(sums, indent=1).encode())

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        raise Unsupported("stores of kind 'delta' cannot restore yet")

    def abort(self, tx: str) -> None:
        """Drop its roots, what it added to tables, and folders of tables that never came to be."""
        tables = {root.table for root in self._layout.roots_of(tx)}
        claimed = {table.folder for table in self._layout.tables()}
        self._layout.drop(tx, sorted(tables | claimed), self.context.failpoint)

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        published = {}
        for key, move in moves.items():
            self.context.check_cancelled()
            published[key] = self._publishing.move(move)
        return published

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        side = self._side(snapshot)
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

    # -- versions ----------------------------------------------------------------------------------------------------

    def _root_of(self, staging: Staging) -> Root:
        return self._layout.parse_folder(staging.attrs["asset"], staging.location)

    def _side(self, snapshot: SnapshotRef) -> Side:
        root, version = self._layout.parse(snapshot.asset, snapshot.version)
        return Side(root, self._state(root, version))

    def _side_or_none(self, one: SnapshotRef | Staging | None) -> Side | None:
        if isinstance(one, SnapshotRef):
            return self._side(one)
        if one is None:
            return None
        root = self._root_of(one)
        version = head_version(root)
        return None if version is None else Side(root, self._state(root, version))

    def _state(self, root: Root, version: int) -> State:
        """A version's state, kept for a while: it never changes."""
        known = self._states.get((root.folder, version))
        if known is None:
            known = read_state(root, version)
            with self._lock:
                while len(self._states) >= _STATES_KEPT:
                    del self._states[next(iter(self._states))]
                self._states[root.folder, version] = known
        return known

    def _refer(self, root: Root, version: int) -> SnapshotRef:
        state = self._state(root, version)
        asset = self._layout.asset_of(root.table)
        return SnapshotRef(
            self.store.name, self.kind, asset, self._layout.version_text(root, version), state.digest(), {}
        )
