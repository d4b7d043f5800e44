"""Publishing: native heads follow the bound ref. A publication's target is compared with what is published, so a
repeat does nothing.

What the bound ref holds sets the targets (see `targets`). Whoever claims a publication, by compare-and-swap, moves its
native head. The move ends as DONE, BUSY (tried again later) or DIVERGED (recorded, never overwritten). One write sets
the targets and takes the claims of all stores; then the stores move their heads side by side. Several moves of the ref
in a row become one move of the native head: native readers see each state that the ref rested in, not each that it
passed through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from plait import limits
from plait.adapter import Adapter, Capability
from plait.clock import Clock
from plait.codec import encode_snapshot
from plait.errors import Corrupt, PlaitError, StoreUnavailable
from plait.failpoint import failpoint
from plait.graph import load_snapshots
from plait.persist import Repository, Rows
from plait.persist.store_rows import NO_SNAPSHOT, Publication, in_order
from plait.refspec import format_key
from plait.stores import Adapters, side_by_side
from plait.targets import Targets
from plait.tree import NodeCache
from plait.types import Depth, Key, Move, Published, PublishState, SnapshotRef, Store

_log = logging.getLogger("plait.publisher")
_MOVES_MAX = 8
"""Rounds of moves in one run, beyond one per waiting publication: the next run catches up with a faster ref."""
_CLAIMS_MAX = 16
"""Heads of a store that are claimed together: the last of them has to be moved before the claims' lease ends."""


_Claim = tuple[Publication, Move]


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
        self._targets = Targets(repository.salt, cache)
        self._owner = owner
        self._turns = count(1)
        self._runs: set[str] = set()
        self._down_until_us: dict[str, int] = {}

    def follows(self, store: Store) -> bool:
        """Whether plait moves native heads of this store."""
        return Capability.NATIVE_HEAD in self._adapters.capabilities(store)

    def follows_named(self, name: str) -> bool:
        """`follows`, by the store's name; False if there is no such store. Cheap: every one-call commit asks it."""
        store = self._adapters.known(name)
        return store is not None and self.follows(store)

    def begin(self, rows: Rows, store: Store) -> None:
        """Start to follow a store that was just added: set its cursor to the first commit, which holds nothing."""
        if self.follows(store):
            (first,) = rows.commits_by_seq([1]).values()
            rows.set_publish_cursors({store.name: (first.id, first.seq)})

    def begin_anew(self, rows: Rows, before: Store, after: Store) -> None:
        """Where a store's options were changed so that it has native heads by now, other ones or none any more: forget
        the old ones as they stand, and start to follow the new ones from the first commit on."""
        if self._heads(before) != self._heads(after):
            rows.delete_publications(after.name)
            self.begin(rows, after)

    def _heads(self, store: Store) -> str | None:
        return self._adapters.heads(store) if self.follows(store) else None

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
        """Move native heads of these stores (None: all) to their bound ref's head, as far as is possible now.

        "All" are the stores with a cursor (`begin`), so that opening a catalog imports no adapter.
        A store that is down keeps its publications pending and does not stop the others. It is asked once per run, not
        for each of its heads. With `spare_down`, it is not asked again for `STORE_RETRY_US`: that may cost a time-out.
        """
        with self._repository.read() as rows:
            cursors = rows.publish_cursors()
            wanted = self._wanted(rows, stores, cursors)
            if not spare_down:
                for name in wanted:
                    self._down_until_us.pop(name, None)
            behind = self._targets.behind(rows, wanted, cursors)
            is_moved = any(self._targets.has_changes(rows, one) for one in behind)
            if not is_moved and not any(self._undone(rows, wanted, is_alive)):
                return
        failpoint("publisher.behind")
        with self._claiming() as owner:
            with self._repository.write() as rows:  # Targets and claims must be durable before the first move.
                # One publisher at a time: without the lock, two could deadlock on PostgreSQL.
                cursors = rows.publish_cursors(lock=True)
                self._targets.set(rows, self._targets.behind(rows, wanted, cursors))
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
        """The publications of these stores (None: all) that are not done, ordered by store and asset."""
        with self._repository.read() as rows:
            wanted = self._wanted(rows, stores, rows.publish_cursors())
            return [one for one in rows.undone_publications() if one.store in wanted]

    def look(self, store: Store, keys: Iterable[Key] | None = None) -> None:
        """Find native heads of these keys (None: all) that somebody moved while plait had nothing to publish there.

        Asks the adapter to move each head to where plait left it, for which no adapter writes anything. A head that is
        elsewhere is claimed, asked for again, and recorded as diverged. Heads that diverged before are asked for too:
        what was found there may be out of date. Raises: StoreUnavailable, Corrupt.
        Cost: one read per head, one write per moved head.
        """
        answers, lost = self._ask(store, keys)
        elsewhere = [one for one, answer in answers if not _is_recorded(one, answer)]
        with self._claiming() as owner:
            self._follow(store, [], elsewhere, owner)
        if lost:
            raise _lost(lost)

    def astray(self, store: Store) -> list[Publication]:
        """The publications of a store whose native heads somebody moved past plait, seen before or not.

        Records nothing; the store pins what it finds elsewhere, as `look` has it do. Leaves out heads that plait itself
        moves meanwhile. Raises: StoreUnavailable. Cost: one read per head.
        """
        answers, _ = self._ask(store)
        with self._repository.read() as rows:
            publications = {one.asset: one for one in rows.publications(store.name)}
        back = {one.asset for one, answer in answers if answer.state is PublishState.DONE}
        away = {
            one.asset
            for one, answer in answers
            if answer.state is PublishState.DIVERGED and publications.get(one.asset) == one
        }
        return [
            one
            for one in publications.values()
            if one.asset in away or (one.state == "diverged" and one.asset not in back)
        ]

    def _ask(
        self, store: Store, keys: Iterable[Key] | None = None
    ) -> tuple[list[tuple[Publication, Published]], dict[Key, str]]:
        """Ask for heads that have nothing to be published, or that diverged, to be moved to where plait left them.

        Returns: the answers, and the keys of heads whose snapshot the store has lost, with what is missing: also of
        heads that still wait to be moved, which they would do for ever.
        """
        if not self.follows(store):
            return [], {}
        with self._repository.read() as rows:
            looked_at = rows.publications(store.name) if keys is None else rows.publications_under(keys)
            settled = {one.key: one for one in looked_at if one.published and (one.is_done or one.state == "diverged")}
            waiting = [one for one in looked_at if one.published and one.key not in settled]
            snapshots = load_snapshots(rows, {one.published for one in looked_at if one.published})
        moves = {}
        for key, one in settled.items():
            there = _look_up(snapshots, one.published)
            moves[key] = Move(there, there, one.seq, one.epoch)
        adapter = self._adapters.of(store)
        published = adapter.publish(moves) if moves else {}
        asked = {key: _lacking(adapter, moves[key].before, answer) for key, answer in published.items()}
        asked |= {one.key: _missing(adapter, _look_up(snapshots, one.published)) for one in waiting}
        lost = {key: lacking for key, lacking in asked.items() if lacking}
        return [(settled[key], answer) for key, answer in published.items() if key not in lost], lost

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
        """The publications that are not done and can be claimed now, except in stores that are known to be down."""
        now = self._clock.now_us()
        for one in rows.undone_publications():
            if one.store not in wanted or self._is_down(one.store) or one.state == "diverged":
                continue  # A diverged one waits to be adopted.
            is_left = one.owner.startswith(f"{self._owner}/") and one.owner not in self._runs
            if not one.owner or is_left or one.lease_until_us <= now or not is_alive(one.owner):
                yield one

    # -- moves -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _claiming(self) -> Iterator[str]:
        """The owner name for the block's claims. Claims left when it ends are free at once, before their lease ends."""
        owner = f"{self._owner}/{next(self._turns)}"
        self._runs.add(owner)
        try:
            yield owner
        finally:
            self._runs.discard(owner)

    def _follow(self, store: Store, claims: Sequence[_Claim], waiting: list[Publication], owner: str) -> None:
        """Move native heads of one store to their targets; a move that a dead publisher began is finished first.

        Moves what is claimed, then claims and moves what is waiting, at most `_CLAIMS_MAX` at a time.
        """
        repeated: set[str] = set()
        for _ in range(_MOVES_MAX + len(waiting)):
            # What goes first: a native head that is named after its key may come under the name of one that went.
            claims = sorted(claims, key=lambda one: one[1].after is not None)
            settled = [(claimed, self._publish(store, claimed, move)) for claimed, move in claims]
            if settled:
                with self._repository.write(flush=False) as rows:  # If a power loss undoes this, the moves repeat.
                    waiting += self._settle(rows, settled)
                    if len(settled) > 1:  # Another may have been in the way of one that is busy, and be gone now.
                        busy = [one for _, one in settled if one.state == "busy" and one.asset not in repeated]
                        repeated.update(one.asset for one in busy)
                        waiting += busy
            if not waiting or self._is_down(store.name):
                return
            with self._repository.write() as rows:
                rows.publish_cursors(lock=True)  # As in `run`.
                claims = self._claim(rows, waiting, owner)
            failpoint("publisher.claimed")

    def _settle(self, rows: Rows, settled: Iterable[tuple[Publication, Publication]]) -> list[Publication]:
        """Record the outcome of moves. Returns: the publications that got a newer target meanwhile."""
        further = []
        for claimed, after in settled:
            if not rows.swap_publication(claimed, after):
                continue  # The lease ran out and another publisher took over: the rest is its job.
            now = rows.publication(claimed.store, claimed.asset)
            if not now.is_done and now.moving is None and now.state == "idle":
                further.append(now)
        return further

    def _claim(self, rows: Rows, waiting: list[Publication], owner: str) -> list[_Claim]:
        """Claim up to `_CLAIMS_MAX` of the waiting for an owner, except those that somebody else claimed first.

        Removes them from `waiting`. Returns: the claims, each with the move to make.
        """
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
        # A time further ahead than STORE_RETRY_US was noted before the clock was set back: ignore it.
        return 0 < self._down_until_us.get(store, 0) - self._clock.now_us() <= limits.STORE_RETRY_US

    def _publish(self, store: Store, claimed: Publication, move: Move) -> Publication:
        """Move the native head. Returns: the publication to record; unclaimed, else unchanged, if the store failed."""
        free = replace(claimed, owner="", lease_until_us=0)
        if self._is_down(store.name):
            return free
        try:
            adapter = self._adapters.of(store)
            published = adapter.publish({claimed.key: move})[claimed.key]
            lacking = _lacking(adapter, move.before, published)
            if lacking:
                if move.after is not None:
                    raise _lost({claimed.key: lacking})
                published = Published(PublishState.DONE)  # The ref dropped the asset: nothing is left to unpublish.
        except PlaitError as error:
            if isinstance(error, StoreUnavailable):
                self._down_until_us[store.name] = self._clock.now_us() + limits.STORE_RETRY_US
            # Stays pending and free to be claimed: the store may be back in the next run.
            _log.warning("publishing %s failed: %s", format_key(claimed.key), error)
            return free
        failpoint("publisher.moved")
        if published.state is PublishState.DONE:
            return replace(free, published=claimed.moving or None, moving=None, state="idle", found=None)
        if published.state is PublishState.BUSY:
            return replace(free, state="busy")
        return replace(free, state="diverged", found=_found(published))


def _lacking(adapter: Adapter, before: SnapshotRef | None, answer: Published) -> str:
    """What the store has lost of the pinned snapshot that a head was at, where it is elsewhere because of that, so that
    nobody has moved it: a disk is not mounted, or was restored from a backup older than the catalog. Else nothing."""
    if answer.state is not PublishState.DIVERGED:
        return ""
    return _missing(adapter, before)


def _missing(adapter: Adapter, snapshot: SnapshotRef | None) -> str:
    problems = () if snapshot is None else adapter.verify(snapshot, Depth.EXISTS).problems
    return next(iter(problems), "")


def _lost(lacking: Mapping[Key, str]) -> Corrupt:
    """The error for a store that has lost snapshots. Not a divergence: adopting would undo acknowledged commits."""
    key, problem = next(iter(lacking.items()))
    name = format_key(key)
    more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return Corrupt(
        f"store {key[0]!r} has lost the snapshot at which plait left {name}{more}: {problem}",
        remedy="bring back its disk, its folder or its newest backup; to go on without what is lost, "
        f"'plait rm {name}', and then 'plait restore {name} --from SPEC' takes an older commit that is there",
    )


def _is_recorded(one: Publication, answer: Published) -> bool:
    """Whether the row already records what `look` has found."""
    if one.state != "diverged":
        return answer.state is PublishState.DONE
    # BUSY changes nothing for a head that has diverged: it still waits to be adopted.
    return answer.state is PublishState.BUSY or (answer.state is PublishState.DIVERGED and _found(answer) == one.found)


def _found(answer: Published) -> bytes | None:
    return None if answer.found is None else encode_snapshot(answer.found)


def _move(claimed: Publication, snapshots: Mapping[bytes, SnapshotRef]) -> Move:
    # `seq` belongs to the newest target. A move begun for an older target must be ordered before it.
    is_overtaken = claimed.moving != (claimed.target or NO_SNAPSHOT)
    seq = claimed.seq - 1 if is_overtaken else claimed.seq
    before, after = _look_up(snapshots, claimed.published), _look_up(snapshots, claimed.moving)
    return Move(before, after, seq=seq, epoch=claimed.epoch)


def _look_up(snapshots: Mapping[bytes, SnapshotRef], digest: bytes | None) -> SnapshotRef | None:
    return snapshots[digest] if digest else None
