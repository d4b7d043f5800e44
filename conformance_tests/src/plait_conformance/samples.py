"""Snapshots and operations as small as they come, for tests of the history: assets of a pointer store named ``p``."""

from __future__ import annotations

from plait.codec import ref_digest
from plait.commit_point import CommitRequest
from plait.tree import Shape
from plait.types import Delete, Mode, Operation, Proposal, Put, SnapshotRef, Store, Unchanged

POINTER_STORE = Store("p", "pointer", Mode.POINTER)

SMALL = Shape(entries_min=2, entries_target=3, entries_max=5)
"""A shape in which a dozen keys make a tree of several levels."""


def pointer(name: str, number: int) -> SnapshotRef:
    """The `number`-th snapshot of the asset `name`."""
    return SnapshotRef("p", "pointer", name, f"v{number}", number.to_bytes(32, "big"))


def expected(name: str, number: int | None) -> bytes | None:
    """What a key that holds this snapshot (None: that is absent) is expected to hold."""
    return None if number is None else ref_digest(pointer(name, number))


def put(name: str, number: int, before: int | None = None) -> Put:
    """Set ``p.name``, which holds `before`."""
    return Put(("p", name), pointer(name, number), expected(name, before))


def delete(name: str, before: int) -> Delete:
    return Delete(("p", name), expected(name, before))


def unchanged(name: str, before: int | None) -> Unchanged:
    return Unchanged(("p", name), expected(name, before))


def commit_request(*operations: Operation, ref: str = "main", message: str = "m") -> CommitRequest:
    """A one-call commit, ready for a sequencer."""
    return CommitRequest(Proposal(ref, operations, message=message))
