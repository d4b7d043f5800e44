"""Versions of tables in one store: replayed, described, made into roots, and made durable."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Final

from plait.adapter import Context
from plait.errors import Corrupt
from plait.types import SnapshotRef, Staging

from plait_delta import space
from plait_delta.actions import Action, State, difference
from plait_delta.disk import fsync, keep, replace_file
from plait_delta.features import check_supported
from plait_delta.log import head_version, put_commit, read_state
from plait_delta.roots import LOG, Layout, Root
from plait_delta.rows import Side

KIND: Final = "delta"
_STATES_KEPT: Final = 64


class Versions:
    """Thread-safe."""

    def __init__(self, store: str, layout: Layout, context: Context) -> None:
        self.layout = layout
        self._store = store
        self._context = context
        self._states: dict[tuple[str, int], State] = {}
        self._lock = threading.Lock()

    def make_root(self, root: Root, tx: str, state: State | None) -> None:
        """A root that starts at a state (None: without a table). Repeat: no-op. Raises: Unsupported."""

        def fill(making: Root) -> None:
            if state is not None:
                check_supported(state, f"the table in {root.table}")
                put_commit(making, 0, self.commit_of(root, tx, None, state), self._context.failpoint)

        self.layout.make_root(root, tx, fill)

    def commit_of(self, root: Root, tx: str, before: State | None, after: State) -> list[Action]:
        """What brings a root to a state, with a word on who did it."""
        now_ms = self._context.clock.now_us() // 1000
        info: Action = {
            "timestamp": now_ms,
            "operation": "PLAIT STAGE" if before is None else "PLAIT RESTORE",
            "operationParameters": {},
            "engineInfo": "plait",
            "plait.tx": tx,
        }
        return [{"commitInfo": info}, *difference(before, after, now_ms=now_ms, place=root.place)]

    def keep_data(self, root: Root, state: State) -> None:
        """Make a root's log and its own files durable, and give these their names in the table. Repeat: no-op."""
        own = root.own
        names = [name for name, _ in space.data_files(state) if name.startswith(own)]
        paths = {name: root.path(*name.removeprefix(own).split("/")) for name in names}
        folders = set()
        for name, path in paths.items():
            self._context.check_cancelled()
            self._context.failpoint("delta.prepare.before_file")
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

    def root_of(self, staging: Staging) -> Root:
        """The root of a working set."""
        return self.layout.parse_folder(staging.attrs["asset"], staging.location)

    def side(self, snapshot: SnapshotRef) -> Side:
        """A snapshot, replayed. Raises: NotFound; Corrupt, where its log says something else than was committed."""
        root, version = self.layout.parse(snapshot.asset, snapshot.version)
        side = Side(root, self.state(root, version))
        if side.state.digest() != snapshot.digest:
            raise Corrupt(
                f"the log of {root.folder} at version {version} has digest {side.state.digest().hex()}, "
                f"expected {snapshot.digest.hex()}",
                remedy="restore its _delta_log from a backup: it was damaged or overwritten",
            )
        return side

    def side_or_none(self, one: SnapshotRef | Staging | None) -> Side | None:
        """One side of a diff, replayed; None for nothing, and for a staging without a table."""
        if isinstance(one, SnapshotRef):
            return self.side(one)
        if one is None:
            return None
        root = self.root_of(one)
        version = head_version(root)
        return None if version is None else Side(root, self.state(root, version))

    def state(self, root: Root, version: int) -> State:
        """A version's state, kept for a while: it never changes."""
        known = self._states.get((root.folder, version))
        if known is None:
            known = read_state(root, version)
            with self._lock:
                while len(self._states) >= _STATES_KEPT:
                    del self._states[next(iter(self._states))]
                self._states[root.folder, version] = known
        return known

    def refer(self, root: Root, version: int) -> SnapshotRef:
        """Describe a version."""
        state = self.state(root, version)
        asset = self.layout.asset_of(root.table)
        return SnapshotRef(self._store, KIND, asset, self.layout.version_text(root, version), state.digest(), {})
