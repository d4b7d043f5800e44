"""Native heads follow the bound ref. What is wanted is compared with what is published, so a repeat does nothing.

For each store with native heads: a cursor tells up to which head of the bound ref the publications have their targets.
The tree diff from there to the head sets new targets, by asset (a rename is one move). Whoever claims a publication,
by compare-and-swap, moves its head; DONE, BUSY (later) and DIVERGED (recorded, never overwritten) are its ends.
One write sets the targets and takes the claims of all stores, which then move their heads side by side.
Several moves in a row become one: native readers see each state that the ref rested in, not each that it passed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

from plait import limits
from plait.adapter import Adapter, Capability
from plait.clock import Clock
from plait.codec import decode_key, encode_key, encode_snapshot
from plait.commit_point import unpack_value
from plait.errors import Corrupt, PlaitError, StoreUnavailable
from plait.failpoint import failpoint
from plait.graph import RowNodes, load_snapshots
from plait.native_heads import still_holds
from plait.persist import Repository, Rows
from plait.persist.store_rows import NO_SNAPSHOT, Publication, in_order
from plait.refspec import format_key
from plait.stores import Adapters, side_by_side
from plait.tree import NodeCache, Tree
from plait.tree_diff import TreeChange
from plait.types import Commit, Depth, Key, Move, Published, PublishState, SnapshotRef, Store

_log = logging.getLogger("plait.publisher")
_MOVES_MAX = 8
"""Further moves of a store's heads in one run: a ref that moves faster is caught up with in the next."""
_CLAIMS_MAX = 16
"""Heads of a store that are claimed at once: the last of them has to be moved before the lease ends."""


_Claim = tuple[Publication, Move]


@dataclass(frozen=True, slots=True)
class _Behind:
    """A store whose targets are to be set for the moves of its bound ref from one root (None: the first) to a head."""

    store: str
    since: bytes | None
    head: Commit


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
        self._turns = count(1)
        self._runs: set[str] = set()
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
            rows.set_publish_cursors({store.name: (first.id, first.seq)})

    def native_ref(self, store: Store, ref: str) -> bool:
        """Whether moves of this ref are published to the store's native heads."""
        return store.bound_ref == ref and self.follows(store)

    def run(
        self,
        stores: Iterable[str] | None = None,
        *,
        is_alive: Callable[[str], bool] = lambda owner: True,
        spare_down: bool = False,
    ) -> None:
        """Bring native heads of these stores (None: all) to their bound ref's head, as far as they can be now.

        Which they all are is told by rows (`begin`), so that whoever only opens a catalog imports no adapter.
        A store that is down leaves its publications pending and does not stop the others. It is asked once, not for
        each of its heads; and with `spare_down` not at all for `STORE_RETRY_US`, since it may cost a time-out.
        """
        with self._repository.read() as rows:
            cursors = rows.publish_cursors()
            wanted = self._wanted(rows, stores, cursors)
            if not spare_down:
                for name in wanted:
                    self._down_until_us.pop(name, None)
            behind = self._behind(rows, wanted, cursors)
            is_moved = any(True for one in behind for _ in self._moved(rows, one))
            if not is_moved and not any(self._undone(rows, wanted, is_alive)):
                return
        failpoint("publisher.behind")
        with self._claiming() as owner:
            with self._repository.write() as rows:  # Targets and claims, which are needed before the first move.
                # One publisher at a time: PostgreSQL would let two wait for each other.
                cursors = rows.publish_cursors(lock=True)
                self._set_targets(rows, self._behind(rows, wanted, cursors))
                waiting: dict[str, list[Publication]] = {}
                for publication in self._undone(rows, wanted, is_alive):
                    waiting.setdefault(publication.store, []).append(publication)
                claims = {name: self._claim(rows, undone, owner) for name, undone in waiting.items()}
            failpoint("publisher.claimed")
            side_by_side(
                self._executor,
                lambda name: self._follow(wanted[name], claims[name], waiting[name], owner),
                list(claims),
            )

    def undone(self, stores: Iterable[str] | None = None) -> list[Publication]:
        """The publications of these stores (None: all) that are not done, by store and asset."""
        with self._repository.read() as rows:
            wanted = self._wanted(rows, stores, rows.publish_cursors())
            return [one for one in rows.undone_publications() if one.store in wanted]

    def look(self, store: Store, keys: Iterable[Key] | None = None) -> None:
        """Find the heads of these keys (None: all) that somebody moved while plait had nothing to publish there.

        Each is asked to move to where it is, which no adapter writes for; one that is elsewhere is claimed, asked
        again, and recorded as diverged. Those that had diverged before are asked too: what was found there may be
        out of date by now. Raises: StoreUnavailable, Corrupt. Cost: one read per head, a write per moved one.
        """
        if not self.follows(store):
            return
        with self._repository.read() as rows:
            looked_at = rows.publications(store.name) if keys is None else rows.publications_under(keys)
            settled = {one.key: one for one in looked_at if one.published and (one.is_done or one.state == "diverged")}
            snapshots = load_snapshots(rows, {one.published for one in settled.values() if one.published})
        moves = {}
        for key, one in settled.items():
            there = _look_up(snapshots, one.published)
            moves[key] = Move(there, there, one.seq, one.epoch)
        adapter = self._adapters.of(store)
        published = adapter.publish(moves) if moves else {}
        lost = [key for key, answer in published.items() if _has_lost(adapter, moves[key].before, answer)]
        elsewhere = [
            settled[key]
            for key, answer in published.items()
            if key not in lost and not _is_recorded(settled[key], answer)
        ]
        with self._claiming() as owner:
            self._follow(store, [], elsewhere, owner)
        if lost:
            raise _lost(lost)

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def _wanted(
        self, rows: Rows, names: Iterable[str] | None, cursors: Mapping[str, tuple[str, int]]
    ) -> dict[str, Store]:
        known = rows.stores()
        if names is None:
            return {name: store for name, store in known.items() if name in cursors}
        return {name: known[name] for name in names if name in known and self.follows(known[name])}

    def _undone(
        self, rows: Rows, wanted: Mapping[str, Store], is_alive: Callable[[str], bool]
    ) -> Iterator[Publication]:
        """The publications that are not done and can be claimed, without those of stores that are known to be down."""
        now = self._clock.now_us()
        for one in rows.undone_publications():
            if one.store not in wanted or self._is_down(one.store) or one.state == "diverged":
                continue  # A diverged one waits to be adopted.
            is_left = one.owner.startswith(f"{self._owner}/") and one.owner not in self._runs
            if not one.owner or is_left or one.lease_until_us <= now or not is_alive(one.owner):
                yield one

    def _behind(self, rows: Rows, wanted: Mapping[str, Store], cursors: Mapping[str, tuple[str, int]]) -> list[_Behind]:
        """The stores whose bound ref moved since their targets were set."""
        since = {store: head for store, (head, _) in cursors.items()}
        refs = rows.refs_named({store.bound_ref for store in wanted.values()})
        heads = {name: refs[store.bound_ref].head for name, store in wanted.items() if store.bound_ref in refs}
        moved = {name: head for name, head in heads.items() if head != since.get(name)}
        named = {*moved.values(), *(since[name] for name in moved if name in since)}
        commits = {commit: rows.commit(commit) for commit in named}
        return [
            _Behind(name, commits[since[name]].root if name in since else None, commits[head])
            for name, head in moved.items()
        ]

    def _moved(self, rows: Rows, one: _Behind) -> Iterator[TreeChange]:
        tree = self._tree(rows)
        before = tree.empty if one.since is None else one.since
        return tree.diff(before, one.head.root, prefix=encode_key((one.store,)))

    def _set_targets(self, rows: Rows, behind: Sequence[_Behind]) -> None:
        """Turn the bound refs' moves since the cursors into targets; cursors and targets are one write."""
        for one in behind:
            changes = list(self._moved(rows, one))
            if changes:
                rows.set_targets(self._targets(rows, one, changes))
        rows.set_publish_cursors({one.store: (one.head.id, one.head.seq) for one in behind})

    def _targets(self, rows: Rows, one: _Behind, changes: Sequence[TreeChange]) -> list[Publication]:
        tree, root = self._tree(rows), one.head.root
        changed: dict[str, Publication] = {}
        gone: dict[str, Publication] = {}
        digests = {unpack_value(v)[1] for c in changes for v in (c.before, c.after) if v is not None}
        snapshots = load_snapshots(rows, digests)
        known = rows.publications_of(one.store, {snapshot.asset for snapshot in snapshots.values()})
        for change in changes:
            key = decode_key(change.key)
            for value, into in ((change.before, gone), (change.after, changed)):
                if value is None:
                    continue
                digest = unpack_value(value)[1]
                asset = snapshots[digest].asset
                last = known[asset].key if asset in known else key
                if last != key and still_holds(rows, tree, root, last, (one.store, asset)):
                    continue  # The head follows the key that it was published under, as long as that holds it.
                start = known.get(asset) or Publication(one.store, asset, key, None, None, 0)
                target = digest if into is changed else None
                into[asset] = replace(start, key=key, target=target, seq=one.head.seq)
        return list({**gone, **changed}.values())

    def _tree(self, rows: Rows) -> Tree:
        return Tree(RowNodes(rows), salt=self._repository.salt, cache=self._cache)

    # -- moves -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _claiming(self) -> Iterator[str]:
        """The owner of what the block claims: where it fails, what it leaves claimed is free at once, by no lease."""
        owner = f"{self._owner}/{next(self._turns)}"
        self._runs.add(owner)
        try:
            yield owner
        finally:
            self._runs.discard(owner)

    def _follow(self, store: Store, claims: Sequence[_Claim], waiting: list[Publication], owner: str) -> None:
        """Make the moves that bring heads of one store to their targets, finishing first what a dead publisher began.

        Claimed ones first, then those that wait, some at a time.
        """
        for _ in range(_MOVES_MAX + len(waiting)):
            settled = [(claimed, self._publish(store, claimed, move)) for claimed, move in claims]
            if settled:
                with self._repository.write(flush=False) as rows:  # Lost, the claimed moves are repeated, and done.
                    waiting += self._settle(rows, settled)
            if not waiting or self._is_down(store.name):
                return
            with self._repository.write() as rows:
                rows.publish_cursors(lock=True)  # As in `run`.
                claims = self._claim(rows, waiting, owner)
            failpoint("publisher.claimed")

    def _settle(self, rows: Rows, settled: Iterable[tuple[Publication, Publication]]) -> list[Publication]:
        """Record where heads are; the publications that have a further target by now."""
        further = []
        for claimed, after in settled:
            if not rows.swap_publication(claimed, after):
                continue  # Another publisher took over when the lease had run out: the rest is its job.
            now = rows.publication(claimed.store, claimed.asset)
            if not now.is_done and now.moving is None and now.state == "idle":
                further.append(now)
        return further

    def _claim(self, rows: Rows, waiting: list[Publication], owner: str) -> list[_Claim]:
        """Take some of the waiting, for an owner, unless somebody else took them first; with their moves."""
        lease_until_us = self._clock.now_us() + limits.LEASE_US
        taken, waiting[:] = sorted(waiting[:_CLAIMS_MAX], key=in_order), waiting[_CLAIMS_MAX:]
        claims = [
            replace(
                one,
                owner=owner,
                lease_until_us=lease_until_us,
                epoch=one.epoch + 1,
                moving=(one.target or NO_SNAPSHOT) if one.moving is None else one.moving,
            )
            for one in taken
        ]
        claimed = [claim for one, claim in zip(taken, claims, strict=True) if rows.swap_publication(one, claim)]
        named = {digest for claim in claimed for digest in (claim.published, claim.moving) if digest}
        snapshots = load_snapshots(rows, named)
        return [(claim, _move(claim, snapshots)) for claim in claimed]

    def _is_down(self, store: str) -> bool:
        # One that is down for longer than any is was noted before the clock was set back.
        return 0 < self._down_until_us.get(store, 0) - self._clock.now_us() <= limits.STORE_RETRY_US

    def _publish(self, store: Store, claimed: Publication, move: Move) -> Publication:
        """Move the head; the publication as it is to be recorded then."""
        free = replace(claimed, owner="", lease_until_us=0)
        if self._is_down(store.name):
            return free
        try:
            adapter = self._adapters.of(store)
            published = adapter.publish({claimed.key: move})[claimed.key]
            if _has_lost(adapter, move.before, published):
                if move.after is not None:
                    raise _lost([claimed.key])
                published = Published(PublishState.DONE)  # Its branch gave it up: nothing is left to unpublish.
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
        return replace(free, state="diverged", found=_found(published))


def _has_lost(adapter: Adapter, before: SnapshotRef | None, answer: Published) -> bool:
    """Whether a head is elsewhere because its store has lost the pinned snapshot that it stood at: no change of
    anybody's. A disk is not mounted, or was restored from a backup that is older than the catalog."""
    if answer.state is not PublishState.DIVERGED or before is None:
        return False
    return bool(adapter.verify(before, Depth.EXISTS).problems)


def _lost(keys: Sequence[Key]) -> Corrupt:
    """Adopting what is there would take acknowledged commits back, so it is no divergence."""
    name = format_key(keys[0])
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    return Corrupt(
        f"store {keys[0][0]!r} has lost the snapshot at which plait left {name}{more}",
        remedy="bring back its disk, its folder or its newest backup; to go on without what is lost, "
        f"'plait rm {name}', and then 'plait restore {name} --from SPEC' takes an older commit that is there",
    )


def _is_recorded(one: Publication, answer: Published) -> bool:
    """Whether the row says already what a look has found."""
    if one.state != "diverged":
        return answer.state is PublishState.DONE
    # Busy is no news of a head that has diverged: it waits for its adoption all the same.
    return answer.state is PublishState.BUSY or (answer.state is PublishState.DIVERGED and _found(answer) == one.found)


def _found(answer: Published) -> bytes | None:
    return None if answer.found is None else encode_snapshot(answer.found)


def _move(claimed: Publication, snapshots: Mapping[bytes, SnapshotRef]) -> Move:
    # A move that was begun for an older target comes before the one to the target that `seq` belongs to.
    is_overtaken = claimed.moving != (claimed.target or NO_SNAPSHOT)
    seq = claimed.seq - 1 if is_overtaken else claimed.seq
    before, after = _look_up(snapshots, claimed.published), _look_up(snapshots, claimed.moving)
    return Move(before, after, seq=seq, epoch=claimed.epoch)


def _look_up(snapshots: Mapping[bytes, SnapshotRef], digest: bytes | None) -> SnapshotRef | None:
    return snapshots[digest] if digest else None
