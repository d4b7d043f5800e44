"""Versions of tables in one store: replayed, described, made into roots, and made durable."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from plait.adapter import Context
from plait.errors import Corrupt
from plait.types import SnapshotRef, Staging

from plait_delta import space
from plait_delta.actions import Action, State, difference
from plait_delta.features import check_supported
from plait_delta.log import head_version, put_commit, read_state
from plait_delta.roots import Layout, Root
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

    def make_root(self, root: Root, tx: str, state: State | None) -> Root:
        """A root that starts at a state (None: without a table). Repeat: the same. Raises: Unsupported."""

        is_filled = False

        def fill(making: Root) -> None:
            nonlocal is_filled
            if state is not None:
                check_supported(state, f"the table in {root.table}")
                is_filled = put_commit(making, 0, self.commit_of(making, tx, None, state))

        made = self.layout.make_root(root, tx, fill)
        if state is not None and is_filled:
            self._keep(made, replace(state, version=0))  # What a replay of that commit comes to, of every file.
        return made

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
        """Make a root's log and its own files durable, and found in the table. Repeat: no-op. Cost: their bytes.

        Raises: NotFound where the table itself is gone, and writes nothing there.
        """
        self.layout.check_table(root)
        names = [name for name, _ in space.data_files(state) if name.startswith(root.own)]
        self.layout.keep(root, names, self._context.check_cancelled)
        if names:
            self._keep_sums(root, names)

    def _keep_sums(self, root: Root, names: Sequence[str]) -> None:
        """Note the hashes of files, beside those of an earlier attempt."""
        known = space.read_sums(root, root.own)
        missing = [name for name in names if name not in known]
        if not missing:
            return
        sums = {
            name: root.files.sha256(self.layout.own_places(root, name)[-1], trusting=True) for name in sorted(missing)
        }
        content = json.dumps({**known, **sums}, indent=1).encode()
        root.files.replace(f"{root.table}/{root.own}{space.SUMS}", content)

    def root_of(self, staging: Staging) -> Root:
        """The root of a working set."""
        return self.layout.parse_folder(staging.attrs["asset"], staging.location)

    def side(self, snapshot: SnapshotRef) -> Side:
        """A snapshot, replayed. Raises: NotFound; Corrupt, where its log says something else than was committed."""
        root, version = self.layout.parse(snapshot.asset, snapshot.version)
        side = Side(self.layout, root, self.state(root, version))
        if side.state.digest() != snapshot.digest:
            raise Corrupt(
                f"the log of {root.folder} at version {version} has digest {side.state.digest().hex()}, "
                f"expected {snapshot.digest.hex()}",
                remedy="restore its _delta_log from a backup: it was damaged or overwritten",
            )
        return side

    def side_or_none(self, one: SnapshotRef | Staging | None) -> Side | None:
        """One side of a diff, replayed; None for nothing, and for a staging without a table."""
        if isinstance(one, Staging) and not one.location:
            one = one.base  # Of a pointer store, which has no roots.
        if isinstance(one, SnapshotRef):
            return self.side(one)
        if one is None:
            return None
        root = self.root_of(one)
        version = head_version(root)
        return None if version is None else Side(self.layout, root, self.state(root, version))

    def state(self, root: Root, version: int) -> State:
        """A version's state, kept for a while: it never changes. Cost: as `read_state`, since the newest of those."""
        with self._lock:
            earlier = [one for one in self._states if one[0] == root.folder and one[1] <= version]
            known = self._states[max(earlier)] if earlier else None
        if known is None or known.version != version:
            known = read_state(root, version, known)
            self._keep(root, known)
        return known

    def _keep(self, root: Root, state: State) -> None:
        with self._lock:
            while len(self._states) >= _STATES_KEPT:
                del self._states[next(iter(self._states))]
            self._states[root.folder, state.version] = state

    def refer(self, root: Root, version: int) -> SnapshotRef:
        """Describe a version."""
        state = self.state(root, version)
        asset = self.layout.asset_of(root.table)
        return SnapshotRef(self._store, KIND, asset, self.layout.version_text(root, version), state.digest(), {})
