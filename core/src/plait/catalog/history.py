"""Queries of a catalog's history: refs, points, logs, diffs, blame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from plait import tables
from plait.adapter import Capability
from plait.backend import Backend, Problem, Side
from plait.blame import Blamed, blame
from plait.clock import Clock
from plait.errors import InvalidArgument, NotFound, Unsupported
from plait.graph import LogFilter
from plait.point import Point
from plait.refspec import as_choice, as_key, check_flag, check_ref_name, no_ref
from plait.stores import Adapters
from plait.tables import Listing, Stream
from plait.types import Change, Commit, Depth, Entry, Event, ItemChange, Key, Ref, RefKind, RefMove, Session, Store

KeyText = str | Key
"""A key, as its text or as its parts."""


class History:
    """The part of `Catalog` that reads, and that moves branches and tags."""

    backend: Backend
    session: Session
    _adapters: Adapters
    _clock: Clock

    # -- refs --------------------------------------------------------------------------------------------------------

    def refs(self, kind: RefKind | None = None) -> Listing[Ref]:
        """All refs by name, or those of one kind."""
        wanted = None if kind is None else as_choice(RefKind, kind)
        return Listing(tables.REFS, [ref for ref in self.backend.refs() if wanted in (None, ref.kind)])

    def ref(self, name: str) -> Ref:
        """Raises: NotFound."""
        for ref in self.backend.refs():
            if ref.name == name:
                return ref
        raise no_ref(name)

    def create_branch(self, name: str, at: str = "main", *, protect: bool = False) -> Ref:
        """A new branch. Free, whatever the data's size. Raises: AlreadyExists, NotFound."""
        return self._set_ref(name, RefKind.BRANCH, None, self.resolve(at).id, protect)

    def create_tag(self, name: str, at: str = "main") -> Ref:
        """A new tag, which never moves."""
        return self._set_ref(name, RefKind.TAG, None, self.resolve(at).id, None)

    def delete_ref(self, name: str) -> Ref:
        """Delete a branch or tag; `undelete` brings it back."""
        ref = self.ref(name)
        return self._set_ref(name, ref.kind, ref.head, None, None)

    def undelete(self, name: str) -> Ref:
        """Create a deleted ref again, at the commit where it last stood. Raises: AlreadyExists, NotFound."""
        last = next((move for move in self.reflog(name) if move.before is not None and move.after is None), None)
        if last is None or last.before is None:
            raise NotFound(f"ref {name!r} was never deleted", remedy=f"see 'plait reflog {name}'")
        return self._set_ref(name, last.kind, None, last.before, None)

    def reset_branch(self, name: str, to: str) -> Ref:
        """Move a branch to another commit; the reflog keeps where it was. Native heads of stores bound to the branch
        must be able to follow: for changes of those stores use `revert` or `restore`, which make a new commit.

        Raises: Unsupported when it would change a bound store with native heads, InvalidArgument when protected.
        """
        bound = {
            store.name
            for store in self.stores()
            if store.bound_ref == name and Capability.NATIVE_HEAD in self._adapters.capabilities(store)
        }
        ref, commit = self.ref(name), self.resolve(to)
        touched = {change.key[0] for change in self.diff(f"@{ref.head}", f"@{commit.id}")}
        if touched & bound:
            raise Unsupported(
                f"{name!r} is published to the native heads of {', '.join(sorted(touched & bound))}",
                remedy=f"use 'plait restore --from {to}': it makes a new commit that they can follow",
            )
        return self._set_ref(name, ref.kind, ref.head, commit.id, None)

    def protect_branch(self, name: str, *, protect: bool = True) -> Ref:
        """Protected branches take commits and merges, and are neither deleted nor moved by hand."""
        check_flag("protect", protect)
        ref = self.ref(name)
        return self._set_ref(name, ref.kind, ref.head, ref.head, protect)

    def reflog(self, name: str) -> Stream[RefMove]:
        """The moves of a ref, also before it was deleted and made again, newest first, lazily. Raises: NotFound, on the
        first read."""
        return Stream(tables.MOVES, lambda: self.backend.reflog(name))

    def _set_ref(self, name: str, kind: RefKind, expected: str | None, after: str | None, protect: bool | None) -> Ref:
        return self.backend.set_ref(
            check_ref_name(name),
            kind,
            expected=expected,
            after=after,
            protect=protect,
            session=self.session,
            idempotency_key=self._clock.new_id(),
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def resolve(self, spec: str) -> Commit:
        """The commit to which a point in the history resolves now: main, main~3, main^2, main*2026-11-01, an id, or the
        first 8 or more digits of an id (if no ref has that name).

        Raises: NotFound, InvalidArgument for digits that several ids begin with.
        """
        return self.backend.resolve(spec)

    def stores(self) -> Listing[Store]:
        """All stores, by name."""
        return Listing(tables.STORES, self.backend.stores())

    def at(self, spec: str = "main") -> Point:
        """The stores as they were at one commit, read-only: resolved once, so that all reads agree."""
        return Point(self.backend, self._adapters, self.resolve(spec))

    def open(self, entry: Entry) -> object:
        """The native read-only handle of an entry, by which a gate, say, reads a change that is not committed yet.

        Raises: StoreUnavailable, Unsupported.
        """
        return self._adapters.get(entry.key[0]).open(entry.snapshot, None)

    def log(self, spec: str = "main", wanted: LogFilter | None = None) -> Stream[Commit]:
        """Commits that are reachable from a point, newest first, lazily."""
        return Stream(tables.COMMITS, lambda: self.backend.log(spec, wanted or LogFilter()))

    def diff(self, before: str, after: str, *, prefix: KeyText = ()) -> Stream[Change]:
        """The keys that differ, in key order, lazily. Cost: O(changes)."""
        return Stream(tables.CHANGES, lambda: self.backend.diff(before, after, as_key(prefix)))

    def diff_items(
        self, key: KeyText, before: str | None, after: str | None, *, items: Sequence[str] | None = None
    ) -> Stream[ItemChange]:
        """The items that differ inside one asset between two points; None stands for an empty asset."""
        parts, sides = as_key(key), (Side(spec=before), Side(spec=after))
        return Stream(tables.ITEMS, lambda: self.backend.diff_items(parts, *sides, items))

    def history(self, key: KeyText, spec: str = "main") -> Stream[tuple[Commit, Change]]:
        """The commits that changed exactly this key, newest first, each with its change."""
        return Stream(tables.HISTORY, lambda: self.backend.history(spec, as_key(key)))

    def blame(self, key: KeyText, spec: str = "main", *, items: Sequence[str] | None = None) -> Stream[Blamed]:
        """For each item that the asset holds at a point: the commit that last changed it.

        Cost: diffs the snapshots of commits that changed the key, newest first, until every item has its commit.
        """
        return Stream(tables.BLAMES, lambda: blame(self.backend, spec, as_key(key), items))

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        """The newest common ancestor of both, or None for unrelated histories."""
        return self.backend.merge_base(ours, theirs)

    def events(self, after_seq: int = 0, limit: int = 1000) -> Listing[Event]:
        """Durable changes with seq > after_seq, in order and without gaps."""
        return Listing(tables.EVENTS, self.backend.events(after_seq, limit))

    def watch(self, from_seq: int | None = None, *, seconds_max: float | None = None) -> Iterator[Event]:
        """Events with seq >= `from_seq` (None: those after the first `next`), then each new one as it happens, for ever
        or for `seconds_max`. Leaving the iterator ends it.

        Raises: StoreUnavailable when the server goes: watch again from the seq after the last one seen.
        """
        if seconds_max is not None and math.isnan(seconds_max):
            raise InvalidArgument("seconds_max is no number", remedy="leave it out to watch for ever")
        return self.backend.watch(from_seq, seconds_max)

    def verify(self, depth: Depth = Depth.METADATA) -> Iterator[Problem]:
        """Problems of the history's own bytes, then of what the stores hold, then native heads that diverged; each has
        the code of its error. Empty when all is well."""
        return self.backend.verify(as_choice(Depth, depth))
