"""Moving a table's own head: one commit of its log, written by plait, put only where nobody else has put one.

deltalake's transaction is not used for it: that rebases over foreign commits silently. Who published what is in the
commit itself: `commitInfo` names the snapshot, a `txn` action counts the publications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from deltalake.exceptions import DeltaError
from plait.adapter import Context
from plait.errors import NotFound, StoreUnavailable
from plait.types import Move, Published, PublishState, SnapshotRef

from plait_delta.actions import APP_ID, Action, State, difference
from plait_delta.features import check_supported
from plait_delta.log import head_version, put_commit, read_commit
from plait_delta.roots import Layout, Root
from plait_delta.table import open_table

ENGINE: Final = "plait"
_INFO: Final = "plait"
_CHECKPOINT_EVERY: Final = 100
_TRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Head:
    """Where a table stands: its newest version, and, if plait wrote that, which publication it was."""

    version: int | None
    snapshot: str | None = None
    """The published `SnapshotRef.version`; None when somebody else wrote the newest version; "" for unpublished."""
    seq: int = 0


def read_head(table: Root) -> Head:
    """Cost: one listing, one small file."""
    version = head_version(table)
    if version is None:
        return Head(None)
    try:
        actions = read_commit(table, version)
    except NotFound:
        return Head(version)  # Only its checkpoint is left.
    told: dict[str, Any] = {}
    for action in actions:
        told = action.get("commitInfo", {}).get(_INFO) or told
    if "snapshot" not in told:
        return Head(version)
    return Head(version, told["snapshot"], int(told["seq"]))


class Publishing:
    """Publishes snapshots of one store. `refer` describes what a table was found at."""

    def __init__(
        self,
        layout: Layout,
        context: Context,
        state_of: Callable[[SnapshotRef], State],
        state_at: Callable[[Root, int], State],
        refer: Callable[[Root, int], SnapshotRef],
    ) -> None:
        self._layout = layout
        self._context = context
        self._state_of = state_of
        self._state_at = state_at
        self._refer = refer

    def move(self, move: Move) -> Published:
        """Repeat: DONE, without a write, for a head that is at after. BUSY: a later move was here already."""
        one = move.after or move.before
        if one is None:
            return Published(PublishState.DONE)
        table = self._layout.table(one.asset)
        for _ in range(_TRIES_MAX):
            head = read_head(table)
            if self._is_at(table, head, move.after):
                return Published(PublishState.DONE)
            if not self._is_at(table, head, move.before):
                return Published(PublishState.DIVERGED, self._found(table, head))
            if head.seq > move.seq:
                return Published(PublishState.BUSY)
            version = 0 if head.version is None else head.version + 1
            actions = self._actions(table, head, move)
            self._context.failpoint("delta.publish.before_commit")
            put = put_commit(table, version, actions)
            self._context.failpoint("delta.publish.after_commit")
            if put:
                self._checkpoint(table, version)
                return Published(PublishState.DONE)
        return Published(PublishState.BUSY)

    def _is_at(self, table: Root, head: Head, snapshot: SnapshotRef | None) -> bool:
        if snapshot is None:
            return head.version is None or head.snapshot == ""
        if head.version is None:
            return False
        return snapshot.version in (head.snapshot, self._layout.version_text(table, head.version))

    def _found(self, table: Root, head: Head) -> SnapshotRef | None:
        if head.version is None or head.snapshot == "":
            return None
        return self._refer(table, head.version)

    def _actions(self, table: Root, head: Head, move: Move) -> list[Action]:
        """The commit. Raises: Unsupported, before anything is written."""
        now_ms = self._context.clock.now_us() // 1000
        before = None if head.version is None else self._state_at(table, head.version)
        if move.after is not None:
            after = self._state_of(move.after)
        else:
            assert before is not None, "there is a table, for it is at `before`"
            after = State(before.version, before.protocol, before.metadata, {}, before.transactions)
        check_supported(after, f"the table in {table.folder}")
        told = {
            "snapshot": "" if move.after is None else move.after.version,
            "digest": "" if move.after is None else move.after.digest.hex(),
            "seq": move.seq,
        }
        info = {
            "timestamp": now_ms,
            "operation": "PLAIT PUBLISH" if move.after is not None else "PLAIT UNPUBLISH",
            "operationParameters": {},
            "engineInfo": ENGINE,
            _INFO: told,
        }
        counted = {"appId": APP_ID, "version": move.seq, "lastUpdated": now_ms}
        return [{"commitInfo": info}, *difference(before, after, now_ms=now_ms), {"txn": counted}]

    def _checkpoint(self, table: Root, version: int) -> None:
        """Keep the log short for its readers, as every Delta writer does. What fails here, the next one does again."""
        if version and version % _CHECKPOINT_EVERY == 0:
            try:
                open_table(table, version).create_checkpoint()
            except (DeltaError, OSError, StoreUnavailable) as error:
                self._context.log.warning("checkpoint of %s at version %d failed: %s", table.folder, version, error)
