"""Plans a commit: joins a working set with its ref's current head, before the commit point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plait import sides
from plait.codec import decode_resolution
from plait.criss_cross import Bases, merged_bases
from plait.failpoint import failpoint
from plait.native_heads import assets_coming, check_not_held, keeps_asset
from plait.persist import Rows
from plait.store_names import known_store
from plait.threeway import Candidate, ThreeWay, join_both
from plait.transaction import Transactions, entries_at
from plait.types import (
    Change,
    Commit,
    Conflict,
    Entry,
    Key,
    Operation,
    Participant,
    Put,
    Resolution,
    SnapshotRef,
    SourceKind,
    Store,
    Strategy,
    Tx,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a working set would commit onto this head. `changes` are against the head.

    `made`: snapshots that merging made, which the transaction must own. `mergers`: what made some of their content.
    """

    head: str
    operations: tuple[Operation, ...]
    conflicts: tuple[Conflict, ...]
    made: Mapping[Key, SnapshotRef]
    changes: tuple[Change, ...]
    mergers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A working set beside its ref's head as it was read: what a plan is made of.

    `met`: keys that the working set wrote and that the head holds otherwise than the base did, to be merged.
    """

    head: Commit
    threeway: ThreeWay
    source: Sequence[Candidate]
    own: Sequence[Candidate]
    ours: Mapping[Key, Entry]
    moving: Mapping[Key, Entry]
    own_moving: Mapping[Key, Entry]

    @property
    def met(self) -> frozenset[Key]:
        return frozenset(
            one.key
            for one in self.own
            if one.base is not None and one.theirs is not None and self.ours.get(one.key, one.base) != one.base
        )


class Planner:
    """Joins working sets with their refs' heads. Thread-safe, has no state."""

    def __init__(self, transactions: Transactions, native_ref: Callable[[Store, str], bool]) -> None:
        """`native_ref(store, ref)`: whether moves of the ref are published to the store's native heads."""
        self._transactions = transactions
        self._repository = transactions.repository
        self.native_ref = native_ref

    def plan(self, tx: Tx, participants: Sequence[Participant]) -> Plan:
        """Join a working set with its ref's head as it stands now; conflicts are part of the answer."""
        return self.join(tx, self.view(tx, participants, self.bases(tx, participants)))

    def view(self, tx: Tx, participants: Sequence[Participant], bases: Bases | None) -> View:
        """Read what is to be joined; merges nothing."""
        with self._repository.read() as rows:
            tree = self._transactions.tree(rows)
            head = rows.commit(rows.ref(tx.ref).head)
            threeway = self._threeway(rows, tx, participants)
            source: Sequence[Candidate] = ()
            if tx.source is not None:
                source = list(sides.source_candidates(rows, tree, tx.source, head))
            if bases is not None:
                source = bases.since(source)
            own: Sequence[Candidate] = [one for one in map(_own, participants) if one is not None]
            ours = entries_at(rows, tree, head.root, [candidate.key for candidate in [*source, *own]])
            followed = sides.followed(rows, tree, tx.source, head, source, ours, bases)
            written = sides.own_followed(rows, tree, tx.base, head, own, ours)
        ours = {**ours, **followed.ours, **written.ours}
        return View(head, threeway, followed.candidates, written.candidates, ours, followed.moving, written.moving)

    def join(self, tx: Tx, view: View) -> Plan:
        """Join what was read; conflicts are part of the answer."""
        head, ours = view.head, view.ours
        outcome = join_both(view.threeway, view.source, view.own, ours, view.moving, view.own_moving)
        if not outcome.conflicts:  # Else not all operations are there: the key that holds an asset may be in conflict.
            bound = [one for one in outcome.operations if view.threeway.bound(one.key[0])]
            self._check_native_heads(head.root, bound, ours)
        changes = tuple(_change(operation, ours) for operation in outcome.operations)
        if adopted_keys(tx) is not None:
            # A snapshot found at a diverged head is in no commit and no prepare: the transaction has to own it.
            outcome.made.update({put.key: put.snapshot for put in outcome.operations if isinstance(put, Put)})
        operations, conflicts = tuple(outcome.operations), tuple(outcome.conflicts)
        return Plan(head.id, operations, conflicts, outcome.made, changes, tuple(sorted(outcome.mergers)))

    def bases(self, tx: Tx, participants: Sequence[Participant]) -> Bases | None:
        """The several bases of a merge of criss-crossing histories, merged into one; None if there is only one base."""
        if tx.source is None or tx.source.kind is not SourceKind.MERGE:
            return None
        with self._repository.read() as rows:
            held, parted = sides.parted_bases(rows, self._transactions.tree(rows), tx.base, tx.source)
            if not parted:
                return None
            threeway = self._threeway(rows, tx, participants)
        return merged_bases(threeway, held, parted)

    def _threeway(self, rows: Rows, tx: Tx, participants: Sequence[Participant]) -> ThreeWay:
        stores = rows.stores()
        return ThreeWay(
            tx=tx.id,
            attempt=tx.attempt,
            adapter=lambda name: self._transactions.adapters.of(known_store(stores, name)),
            capabilities=lambda name: self._transactions.adapters.capabilities(known_store(stores, name)),
            bound=lambda name: name in stores and self.native_ref(stores[name], tx.ref),
            intend=self._intending(tx, {participant.key[0] for participant in participants}),
            default=tx.source.default if tx.source else Strategy.NORMAL,
            strategies=dict(tx.source.strategies) if tx.source else {},
            resolutions=_resolutions(rows, tx.id),
            adopts=adopted_keys(tx) is not None,
        )

    def _intending(self, tx: Tx, taking_part: set[str]) -> Callable[[Key], None]:
        """What makes the first key for which a store may write an intended participant, if the store takes no part
        yet: so whatever becomes of the join, its stores are asked to drop what they wrote, and no others."""

        def intend(key: Key) -> None:
            if key[0] in taking_part:
                return
            with self._repository.write() as rows:
                self._transactions.check_sealed(rows, tx)
                if not rows.participants(tx.id, [key]):
                    rows.put_participants([Participant(tx.id, key, None)])
            taking_part.add(key[0])
            failpoint("planner.intended")

        return intend

    def _check_native_heads(self, root: bytes, operations: Sequence[Operation], ours: Mapping[Key, Entry]) -> None:
        """Raises: AlreadyExists for an asset that another key holds: a native head can follow only one key."""
        coming = assets_coming(operations, ours)
        if coming:
            with self._repository.read() as rows:
                leaving = {one.key for one in operations if not keeps_asset(one, ours)}
                check_not_held(rows, self._transactions.tree(rows), root, coming, leaving)


def adopted_keys(tx: Tx) -> tuple[Key, ...] | None:
    """The keys whose diverged native heads a transaction adopts; None when it is not an adoption."""
    return tx.source.keys if tx.source is not None and tx.source.kind is SourceKind.ADOPT else None


def _own(participant: Participant) -> Candidate | None:
    """What the user's own writes changed at a participant's key; None if nothing."""
    if participant.dropped:
        return Candidate(participant.key, participant.base, None) if participant.base is not None else None
    if participant.staging is None or participant.prepared is None:
        return None
    base = participant.base
    if base is not None and base.snapshot == participant.prepared:
        return None
    theirs = Entry(participant.key, participant.content_id or "", participant.prepared)
    # An import that nobody wrote to is prepared as the very snapshot that it was staged from.
    return Candidate(participant.key, base, theirs, is_version=participant.prepared == participant.staging.base)


def _change(operation: Operation, ours: Mapping[Key, Entry]) -> Change:
    after = None
    if isinstance(operation, Put):
        after = Entry(operation.key, operation.content_id or "", operation.snapshot)
    return Change(operation.key, ours.get(operation.key), after)


def _resolutions(rows: Rows, tx: str) -> dict[Key, list[Resolution]]:
    found: dict[Key, list[Resolution]] = {}
    for _, _, kept in rows.conflicts(tx):
        if kept is not None:
            resolution = decode_resolution(kept)
            found.setdefault(resolution.key, []).append(resolution)
    return found
