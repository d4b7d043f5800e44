"""Blame: which commit last changed each item. Walks down from a point; each item follows a parent that holds it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plait.backend import Backend, Side
from plait.errors import NotFound
from plait.refspec import format_key
from plait.types import Commit, Entry, ItemChange, ItemChangeKind, Key

_ITEMS = ("row", "object", "file", "extent", "item")
"""The aspects of a change that concern one item; the others describe the asset as a whole."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """One item and the commit that made it what it is."""

    item: str
    commit: Commit


@dataclass(slots=True)
class _Pending:
    """The items of one commit that have no commit to blame yet: these names, or (`all_but`) all but these."""

    names: set[str] = field(default_factory=set)
    all_but: bool = False

    def __contains__(self, item: str) -> bool:
        return (item in self.names) is not self.all_but

    def __bool__(self) -> bool:
        return self.all_but or bool(self.names)

    def without(self, gone: set[str]) -> _Pending:
        return _Pending(self.names | gone, True) if self.all_but else _Pending(self.names - gone)

    def joined(self, other: _Pending) -> _Pending:
        if self.all_but and other.all_but:
            return _Pending(self.names & other.names, True)
        if self.all_but:
            return _Pending(self.names - other.names, True)
        if other.all_but:
            return _Pending(other.names - self.names, True)
        return _Pending(self.names | other.names)


def blame(backend: Backend, spec: str, key: Key, items: Sequence[str] | None) -> Iterator[Blamed]:
    """The items that the asset holds at a point, each with the commit that last changed it, newest commits first.

    At each commit that changed the asset, an item that the first parent holds unchanged is passed to that parent, else
    to another parent that holds it unchanged. Only the rest is blamed on the commit itself: so a merge is blamed only
    for what it joined. A renamed asset is followed to its former key.

    Raises: NotFound. Cost: one diff for each parent of each commit that touched the key, until all is settled.
    Source: as `git blame` passes blame to parents (https://git-scm.com/docs/git-blame).
    """
    entry = backend.get(spec, [key]).get(key)
    if entry is None:
        raise NotFound(f"{format_key(key)} does not exist at {spec!r}", remedy="see 'plait ls'")
    start = _holder(backend, spec, key, entry)
    pending = {(start.seq, key): _Pending(all_but=True) if items is None else _Pending(set(items))}
    commits = {start.seq: start}
    heap = [(-start.seq, key)]
    while heap:
        order, key = heapq.heappop(heap)
        commit, wanted = commits[-order], pending.pop((-order, key))
        own: set[str] | None = None
        for parent, held in _parents(backend, commit, key):
            changes = _changes(backend, key, commit, parent, held, wanted)
            names = set(changes)
            if own is None:
                own = {name for name in names if changes[name] is not ItemChangeKind.REMOVED and name in wanted}
                passed = wanted.without(names)
            else:
                passed = _Pending(own - names)
                own &= names
            if held is not None and passed:
                holder = _holder(backend, parent, held.key, held)
                there = (holder.seq, held.key)
                if there not in pending:
                    heapq.heappush(heap, (-holder.seq, held.key))
                commits[holder.seq] = holder
                pending[there] = pending.get(there, _Pending()).joined(passed)
        yield from (Blamed(name, commit) for name in sorted(own or ()))


def _parents(backend: Backend, commit: Commit, key: Key) -> list[tuple[str, Entry | None]]:
    """The commit's parents, each with what it holds at the key, or at the key that the commit renamed to this one. The
    first parent is always among them, the others only if they hold something."""
    specs = [f"@{parent}" for parent in commit.parents]
    content_id = backend.get(f"@{commit.id}", [key])[key].content_id
    found = [(spec, _held(backend, spec, commit, key, content_id)) for spec in specs]
    return found[:1] + [pair for pair in found[1:] if pair[1] is not None]


def _held(backend: Backend, parent: str, commit: Commit, key: Key, content_id: str) -> Entry | None:
    """What a parent holds of the asset; where that is nothing, what it holds at the key."""
    here = backend.get(parent, [key]).get(key)
    if here is not None and here.content_id == content_id:
        return here
    # Not `renames`: the commit may have put another asset at the old key, or taken one from the new key.
    changes = backend.diff(parent, f"@{commit.id}", key[:1])
    was = (change.before for change in changes if change.before is not None)
    return next((before for before in was if before.content_id == content_id != ""), here)


def _changes(
    backend: Backend, key: Key, commit: Commit, parent: str, held: Entry | None, wanted: _Pending
) -> dict[str, ItemChangeKind]:
    """Which items differ from what a parent holds, and how."""
    only = None if wanted.all_but else sorted(wanted.names)
    before = Side() if held is None else Side(spec=parent, key=held.key)
    found: Iterator[ItemChange] = backend.diff_items(key, before, Side(spec=f"@{commit.id}"), only)
    return {change.item: change.kind for change in found if only is not None or change.aspect in _ITEMS}


def _holder(backend: Backend, spec: str, key: Key, entry: Entry) -> Commit:
    """The newest commit reachable from a point that put exactly this snapshot under the key."""
    for commit, change in backend.history(spec, key):
        if change.after is not None and change.after.snapshot == entry.snapshot:
            return commit
    return backend.resolve(spec)
