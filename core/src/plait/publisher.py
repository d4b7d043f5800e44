"""Native heads follow the bound ref. What is wanted is compared with what is published, so a repeat does nothing.

For each store with native heads: a cursor tells up to which head of the bound ref the publications have their targets.
The tree diff from there to the head sets new targets, by asset (a rename is one move). Whoever claims a publication,
by compare-and-swap, moves its head; DONE, BUSY (later) and DIVERGED (recorded, never overwritten) are its ends.
Several moves in a row become one: native readers see each state that the ref rested in, not each that it passed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace

from plait import limits
from plait.adapter import Capability
from plait.clock import Clock
from plait.codec import decode_key, encode_key, encode_snapshot
from plait.commit_point import unpack_value
from plait.errors import NotFound, PlaitError, StoreUnavailable
from plait.failpoint import failpoint
from plait.graph import RowNodes, load_snapshots
from plait.native_heads import still_holds
from plait.persist import Repository, Rows
from plait.persist.store_rows import NO_SNAPSHOT, Publication
from plait.refspec import format_key
from plait.stores import Adapters, side_by_side
from plait.tree import NodeCache, Tree
from plait.types import Key, Move, PublishState, SnapshotRef, Store

_log = logging.getLogger("plait.publisher")
_MOVES_MAX = 8
"""Moves of one head in one run: a ref that moves faster is caught up with in the next."""


class Publisher:
    """Publishes one repository's native heads. Thread-safe; a second publisher, anywhere, is harmless."""

    def __init__(
        self,
        repository: Repository,
        adapters: Adapters,
        clock: Clock,
        cache: NodeCache,
        owner: str,
        executor: Executor,
    ) -> None:
        self._executor = executor
        self._repository = repository
        self._adapters = adapters
        self._clock = clock
        self._cache = cache
        self._owner = owner
        self._down_until_us: dict[str, int] = {}

    def follows(self, store: Store) -> bool:
        """Whether plait moves native heads of this store."""
        return Capability.NATIVE_HEAD in self._adapters.capabilities(store)

    def follows_named(self, name: str) -> bool:
        """`follows`, by the store's name; False for one that does not exist. Asked on every one-call commit."""
        store = self._adapters.known(name)
        return store is not None and self.follows(store)

    def begin(self, rows: Rows, store: Store) -> None:
        """A store was added: its native heads are followed from the start, before it holds anything."""
        if self.follows(store):
            (first,) = rows.commits_by_seq([1]).values()
            rows.set_publish_cursor(store.name, first.id, first.seq)

    def native_ref(self, store: Store, ref: str) -> bool:
        """Whether moves of this ref are published to the store's native heads."""
        return store.bound_ref == ref and self.follows(store)

    def run(
        self,
        stores: Iterable[str] | None = None,
        *,
        is_alive: Callable[[str], bool] = lambda owner: True,
        spare_down: bool = False,
    ) -> list[Publication]:
        """Bring native heads of these stores (None: all) to their bound ref's head; the publications not done.

        Which they all are is told by rows (`begin`), so that whoever only opens a catalog imports no adapter.
        A store that is down leaves its publications pending and does not stop the others. It is asked once, not for
        each of its heads; and with `spare_down` not at all for `STORE_RETRY_US`, since it may cost a time-out.
        """
        named = None if stores is None else set(stores)
        with self._repository.read() as rows:
            wanted = [
                store
                for store in rows.stores().values()
                if (rows.publish_cursor(store.name) if named is None else store.name in named and self.follows(store))
            ]
            behind = {one.name for one in wanted if self._is_behind(rows, one)}

        def follow(store: Store) -> None:
            if not spare_down:
                self._down_until_us.pop(store.name, None)
            for publication in self._unpublished(store, store.name in behind):
                if self._down_until_us.get(store.name, 0) > self._clock.now_us():
                    break
                self._advance(store, publication, is_alive)

        side_by_side(self._executor, follow, wanted)
        with self._repository.read() as rows:
            return [undone for store in wanted for undone in rows.undone_publications(store.name)]

    def look(
        self, store: Store, keys: Iterable[Key] | None = None, *, is_alive: Callable[[str], bool] = lambda owner: True
    ) -> None:
        """Find the heads of these keys (None: all) that somebody moved while plait had nothing to publish there.

        Each is asked to move to where it is, which no adapter writes for; one that is elsewhere is claimed, asked
        again, and recorded as diverged. Raises: StoreUnavailable. Cost: one read per head, a write per moved one.
        """
        if not self.follows(store):
            return
        with self._repository.read() as rows:
            looked_at = rows.publications(store.name) if keys is None else rows.publications_under(keys)
            idle = {one.key: one for one in looked_at if one.is_done and one.published}
            snapshots = load_snapshots(rows, {one.published for one in idle.values() if one.published})
        moves = {}
        for key, one in idle.items():
            there = _look_up(snapshots, one.published)
            moves[key] = Move(there, there, one.seq, one.epoch)
        for key, published in (self._adapters.of(store).publish(moves) if moves else {}).items():
            if published.state is not PublishState.DONE:
                self._advance(store, idle[key], is_alive)

    def _unpublished(self, store: Store, is_behind: bool) -> list[Publication]:
        """What is to be moved, once the bound ref's moves since the cursor are targets."""
        if is_behind:
            with self._repository.write(flush=False) as rows:  # The claim carries them, before the first move.
                self._set_targets(rows, store)
                undone = rows.undone_publications(store.name)
        else:
            with self._repository.read() as rows:
                undone = rows.undone_publications(store.name)
        failpoint("publisher.targets_set")
        return undone

    def _set_targets(self, rows: Rows, store: Store) -> None:
        """Turn the bound ref's moves since the cursor into targets; cursor and targets are one write."""
        try:
            ref = rows.ref(store.bound_ref)
        except NotFound:
            return
        cursor = rows.publish_cursor(store.name)
        head = rows.commit(ref.head)
        tree = Tree(RowNodes(rows), salt=self._repository.salt, cache=self._cache)
        before = tree.empty if cursor is None else rows.commit(cursor[0]).root
        changed: dict[str, Publication] = {}
        gone: dict[str, Publication] = {}
        changes = list(tree.diff(before, head.root, prefix=encode_key((store.name,))))
        digests = {unpack_value(v)[1] for c in changes for v in (c.before, c.after) if v is not None}
        snapshots = load_snapshots(rows, digests)
        known = rows.publications_of(store.name, {snapshot.asset for snapshot in snapshots.values()})
        for change in changes:
            key = decode_key(change.key)
            for value, into in ((change.before, gone), (change.after, changed)):
                if value is None:
                    continue
                digest = unpack_value(value)[1]
                asset = snapshots[digest].asset
                last = known[asset].key if asset in known else key
                if last != key and still_holds(rows, tree, head.root, last, (store.name, asset)):
                    continue  # The head follows the key that it was published under, as long as that holds it.
                start = known.get(asset) or Publication(store.name, asset, key, None, None, 0)
                target = digest if into is changed else None
                into[asset] = replace(start, key=key, target=target, seq=head.seq)
        rows.set_targets(list({**gone, **changed}.values()))
        rows.set_publish_cursor(store.name, head.id, head.seq)

    def _is_behind(self, rows: Rows, store: Store) -> bool:
        ref = rows.refs_named([store.bound_ref]).get(store.bound_ref)
        cursor = rows.publish_cursor(store.name)
        return ref is not None and (cursor is None or cursor[0] != ref.head)

    def _advance(self, store: Store, publication: Publication, is_alive: Callable[[str], bool]) -> None:
        """Make the moves that bring one head to its target, finishing first what a dead publisher began."""
        for _ in range(_MOVES_MAX):
            claim = self._claim(publication, is_alive)
            if claim is None:
                return
            claimed, snapshots = claim
            failpoint("publisher.claimed")
            settled = self._publish(store, claimed, snapshots)
            with self._repository.write(flush=False) as rows:  # Lost, the claimed move is repeated, and done already.
                if not rows.swap_publication(claimed, settled):
                    return  # Another publisher took over when the lease had run out: the rest is its job.
                publication = rows.publication(store.name, settled.asset)
            if publication.is_done or publication.moving is not None or publication.state != "idle":
                return

    def _claim(
        self, publication: Publication, is_alive: Callable[[str], bool]
    ) -> tuple[Publication, Mapping[bytes, SnapshotRef]] | None:
        """Become the one owner of a publication, or None: somebody else is at it, or it waits to be adopted.

        With it come the snapshots that it names.
        """
        now = self._clock.now_us()
        if publication.state == "diverged":
            return None
        if publication.owner and publication.lease_until_us > now and is_alive(publication.owner):
            return None
        claimed = replace(
            publication,
            owner=self._owner,
            lease_until_us=now + limits.LEASE_US,
            epoch=publication.epoch + 1,
            moving=(publication.target or NO_SNAPSHOT) if publication.moving is None else publication.moving,
        )
        with self._repository.write() as rows:
            if not rows.swap_publication(publication, claimed):
                return None
            digests = [digest for digest in (claimed.published, claimed.moving) if digest]
            return claimed, load_snapshots(rows, digests)

    def _publish(self, store: Store, claimed: Publication, snapshots: Mapping[bytes, SnapshotRef]) -> Publication:
        """Move the head; the publication as it is to be recorded then."""
        before, after = _look_up(snapshots, claimed.published), _look_up(snapshots, claimed.moving)
        # A move that was begun for an older target comes before the one to the target that `seq` belongs to.
        is_overtaken = claimed.moving != (claimed.target or NO_SNAPSHOT)
        seq = claimed.seq - 1 if is_overtaken else claimed.seq
        free = replace(claimed, owner="", lease_until_us=0)
        try:
            published = self._adapters.of(store).publish(
                {claimed.key: Move(before, after, seq=seq, epoch=claimed.epoch)}
            )[claimed.key]
        except PlaitError as error:
            if isinstance(error, StoreUnavailable):
                self._down_until_us[store.name] = self._clock.now_us() + limits.STORE_RETRY_US
            # Left as it is, and free to be claimed: the store may be back the next time.
            _log.warning("publishing %s failed: %s", format_key(claimed.key), error)
            return free
        failpoint("publisher.moved")
        if published.state is PublishState.DONE:
            return replace(free, published=claimed.moving or None, moving=None, state="idle", found=None)
        if published.state is PublishState.BUSY:
            return replace(free, state="busy")
        found = None if published.found is None else encode_snapshot(published.found)
        return replace(free, state="diverged", found=found)


def _look_up(snapshots: Mapping[bytes, SnapshotRef], digest: bytes | None) -> SnapshotRef | None:
    return snapshots[digest] if digest else None
