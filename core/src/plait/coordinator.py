"""Commits a working set: seal, prepare, join with the ref's head, ask the gates, propose.

Stores prepare side by side. When the head moved meanwhile, writers to the same key queue in its lane, and each merges
once, onto the commit before it, so that all succeed and no caller has to retry. After any failure the working set is
kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from plait import limits
from plait.adapter import Adapter
from plait.codec import (
    decode_conflict,
    encode_conflict,
    encode_key,
    optional_digest,
)
from plait.commit_point import CommitRequest
from plait.divergence import settle
from plait.errors import CommitConflict, NothingToCommit, OutcomeUnknown, PlaitError, TransactionClosed
from plait.failpoint import failpoint
from plait.gates import Gates
from plait.lanes import Lanes
from plait.liveness import is_alive
from plait.persist.tx_rows import conflict_item
from plait.planning import Planner, adopted_keys
from plait.refspec import format_path
from plait.store_names import known_store
from plait.transaction import Transactions, taken_over
from plait.types import (
    Change,
    Commit,
    Conflict,
    Key,
    Operation,
    Participant,
    Proposal,
    Session,
    SnapshotRef,
    Store,
    Tx,
    TxState,
    Unchanged,
)
from plait.waiting import handing_over

if TYPE_CHECKING:
    from plait.catalog import Catalog

_log = logging.getLogger("plait.coordinator")


class Coordinator:
    """Commits working sets. Thread-safe; holds no state but the lanes."""

    def __init__(
        self,
        transactions: Transactions,
        gates: Gates,
        executor: Executor,
        catalog: Catalog,
        planner: Planner,
    ) -> None:
        self._transactions = transactions
        self._repository = transactions.repository
        self._sequencer = transactions.sequencer
        self._gates = gates
        self._executor = executor
        self._catalog = catalog
        self._planner = planner
        self._lanes = Lanes()
        self._running: dict[str, Future[Commit]] = {}
        self._running_lock = threading.Lock()

    def commit(
        self,
        tx_id: str,
        session: Session,
        *,
        message: str | None = None,
        author: str = "",
        properties: Mapping[str, str] | None = None,
        unchanged: Sequence[Key] = (),
        allow_empty: bool = False,
    ) -> Commit:
        """Commit a working set in the name of this session, which need not be the one that began it.

        `unchanged`: keys at which the ref's head must still hold what the working set's base holds.

        Raises: CommitConflict (its conflicts are kept with the working set), ProposalRejected, TransactionClosed, and
        what stores raise while preparing; after these the working set is open again. OutcomeUnknown: call it again.
        Repeat: returns the same commit, once there is one.
        """
        with self._running_lock:
            running = self._running.get(tx_id)
            if running is None:
                mine: Future[Commit] = Future()
                self._running[tx_id] = mine
        if running is not None:
            # This process is committing the transaction already: the caller lost the first answer and asks again.
            return running.result()
        try:
            commit = self._commit(tx_id, session, message, author, properties or {}, unchanged, allow_empty)
            self._transactions.release(tx_id)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(commit)
            return commit
        finally:
            with self._running_lock:
                del self._running[tx_id]

    def _commit(
        self,
        tx_id: str,
        session: Session,
        message: str | None,
        author: str,
        properties: Mapping[str, str],
        unchanged: Sequence[Key],
        allow_empty: bool,
    ) -> Commit:
        try:
            sealed = self._transactions.seal(tx_id)
        except TransactionClosed:
            with self._repository.read() as rows:
                found = rows.txs([tx_id])[tx_id]
                if found.state is TxState.COMMITTED and found.commit is not None:
                    return rows.commit(found.commit)
            if found.state is not TxState.SEALED or not self._is_abandoned(found):
                raise
            # The call that sealed it no longer runs. Its outcome was unknown; the row now says: not committed.
            self._transactions.unseal(found)
            sealed = self._transactions.seal(tx_id)
        described = replace(
            sealed,
            session=session,
            message=sealed.message if message is None else message,
            properties={**sealed.properties, **properties},
        )
        try:
            # Keeps the lease alive: recovery must leave this attempt alone, however long stores prepare and merge.
            with self._transactions.writing_natively(tx_id), self._transactions.held(sealed):
                participants = self.prepare(sealed)
                return self._land(described, participants, author=author, unchanged=unchanged, allow_empty=allow_empty)
        except OutcomeUnknown:
            # It may be committed or not. Whoever asks again, or recovery, reads that from its rows.
            raise
        except NothingToCommit:
            self._transactions.unseal(sealed)
            if adopted_keys(sealed) is not None:
                self._settle_empty(sealed)
            raise
        except BaseException as error:
            if self._transactions.unseal(sealed) or not isinstance(error, Exception):
                raise
            raise taken_over(self._transactions.find(tx_id)) from error

    def _settle_empty(self, tx: Tx) -> None:
        """End an adoption that changes nothing: every conflict was settled by what the branch holds.

        What was found at the native heads is recorded as published all the same. A store that is down does not stop
        this: recovery drops there what the working set staged.
        """
        try:
            self._transactions.discard(tx.id)
        except PlaitError as error:
            _log.warning("working set %s is not dropped everywhere yet: %s", tx.id, error)
        failpoint("coordinator.adoption_discarded")
        with self._repository.write() as rows:
            settle(rows, adopted_keys(tx) or ())

    def _is_abandoned(self, sealed: Tx) -> bool:
        """Whether this process sealed it, or one that is dead: then there is no need to wait for recovery."""
        return sealed.owner == self._transactions.owner or not is_alive(sealed.owner)

    def prepare(self, sealed: Tx) -> list[Participant]:
        """Ask the stores, side by side, to prepare what is staged. Returns: every participant, with its vote recorded.

        Raises: TransactionClosed when the working set was ended or reopened meanwhile.
        Repeat: the same votes for the same attempt.
        """
        with self._repository.read() as rows:
            participants = rows.participants(sealed.id)
            stores = rows.stores()
        by_store: dict[str, list[Participant]] = {}
        for participant in participants:
            if participant.staging is not None:
                by_store.setdefault(participant.key[0], []).append(participant)
        # Make all adapters before the first call: if one failed later, calls would go on in a reopened working set.
        adapters = {store: self._adapter(stores, store) for store in by_store}
        calls = [
            self._executor.submit(
                handing_over(adapters[store].prepare),
                sealed.id,
                sealed.attempt,
                {participant.key: participant.staging for participant in staged if participant.staging is not None},
            )
            for store, staged in by_store.items()
        ]
        wait(calls)
        votes = {key: vote for call in calls for key, vote in call.result().items()}
        failpoint("coordinator.prepared")
        voted = [
            replace(
                participant,
                attempt=sealed.attempt,
                prepared=votes.get(participant.key),
                dropped=participant.dropped or (participant.key in votes and votes[participant.key] is None),
            )
            for participant in participants
        ]
        with self._repository.write(flush=False) as rows:  # The commit point flushes the votes; without it, no need.
            self._transactions.check_sealed(rows, sealed)
            rows.put_participants(voted)
        failpoint("coordinator.voted")
        return voted

    def _land(
        self,
        tx: Tx,
        participants: Sequence[Participant],
        *,
        author: str,
        unchanged: Sequence[Key],
        allow_empty: bool,
    ) -> Commit:
        reads = self._reads(tx, unchanged)
        bases = self._planner.bases(tx, participants)
        with self._lanes.turn(tx.ref) as turn:
            for _ in range(limits.MERGE_ROUNDS_MAX):
                view = self._planner.view(tx, participants, bases)
                while turn.wait_for(view.met):  # Before merging: a merge onto a head that then moves is made in vain.
                    view = self._planner.view(tx, participants, bases)
                plan = self._planner.join(tx, view)
                if plan.conflicts:
                    raise self._conflicted(tx, plan.conflicts)
                self._own_made(tx, plan.made)
                proposal = Proposal(
                    ref=tx.ref,
                    operations=_with_reads(plan.operations, reads),
                    message=tx.message,
                    author=author,
                    properties={**tx.properties, **_naming(plan.mergers)},
                    session=tx.session,
                    incarnation=tx.incarnation,
                    tx=tx.id,
                    attempt=tx.attempt,
                    merged_parents=tx.merged_parents,
                    allow_empty=allow_empty,
                )
                try:
                    return self.propose(proposal, plan.changes, adopted=adopted_keys(tx) or ())
                except CommitConflict as error:
                    moved = {conflict.key for conflict in error.conflicts} - {()}
                    if not moved or moved & {read.key for read in reads}:
                        raise
                    turn.wait_for(moved)
        raise CommitConflict(
            f"{tx.ref!r} moved {limits.MERGE_ROUNDS_MAX} times while this commit was being merged onto it",
            conflicts=(),
            remedy="commit again",
        )

    def propose(self, proposal: Proposal, changes: Sequence[Change], *, adopted: Sequence[Key] = ()) -> Commit:
        """Ask the gates, then commit. The same database transaction settles the divergences of the adopted keys."""
        gated = self.gate(proposal, changes)
        failpoint("coordinator.before_commit_point")
        request = CommitRequest(gated, also=(lambda rows: settle(rows, adopted)) if adopted else None)
        commit = self._sequencer.do(request)
        failpoint("coordinator.after_commit_point")
        return commit

    def gate(self, proposal: Proposal, changes: Sequence[Change]) -> Proposal:
        """The proposal, extended by the reads that the gates' verdicts depend on. Raises: ProposalRejected."""
        if not self._gates.are_there:
            return proposal
        reads = self._gates.check(proposal, changes, self._catalog)
        return replace(proposal, operations=_with_reads(proposal.operations, reads))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _reads(self, tx: Tx, keys: Sequence[Key]) -> tuple[Unchanged, ...]:
        if not keys:
            return ()
        with self._repository.read() as rows:
            held, stores = self._transactions.base_entries(rows, tx, keys), rows.stores()
        for key in keys:
            known_store(stores, key[0])  # A key may be absent, and stay so; in a store that is not there it is a typo.
        return tuple(Unchanged(key, optional_digest(held[key].snapshot if key in held else None)) for key in keys)

    def _own_made(self, tx: Tx, made: Mapping[Key, SnapshotRef]) -> None:
        """Record merged snapshots as this transaction's: so the commit point accepts them, and recovery finds them."""
        if not made:
            return
        with self._repository.write(flush=False) as rows:  # As with the votes: the commit point flushes it.
            self._transactions.check_sealed(rows, tx)
            known = {participant.key: participant for participant in rows.participants(tx.id, list(made))}
            rows.put_participants(
                [
                    replace(known.get(key, Participant(tx.id, key, None)), attempt=tx.attempt, prepared=snapshot)
                    for key, snapshot in made.items()
                ]
            )
        failpoint("coordinator.merged")

    def _conflicted(self, tx: Tx, conflicts: Sequence[Conflict]) -> CommitConflict:
        """Store the conflicts with the working set. Returns: the error to raise, which says what to do."""
        with self._repository.write() as rows:
            settled = [(position, body, kept) for position, body, kept in rows.conflicts(tx.id) if kept is not None]
            rows.delete_conflicts(tx.id)
            first = max((position for position, _, _ in settled), default=-1) + 1
            known = [
                {**_conflict_row(position, decode_conflict(body)), "resolution": kept}
                for position, body, kept in settled
            ]
            fresh = [_conflict_row(first + place, conflict) for place, conflict in enumerate(conflicts)]
            taken = {(row["key"], row["item"]) for row in fresh}
            rows.put_conflicts(tx.id, [row for row in known if (row["key"], row["item"]) not in taken] + fresh)
        first_names = ", ".join(format_path(conflict.key, conflict.item) for conflict in conflicts[:3])
        how_many = "1 conflict" if len(conflicts) == 1 else f"{len(conflicts)} conflicts"
        return CommitConflict(
            f"{how_many} with {tx.ref!r}, the first at {first_names}",
            conflicts=conflicts,
            remedy=f"see 'plait conflicts {tx.name or tx.id}', settle them with 'plait resolve', then commit again",
            details={"tx": tx.id},
        )

    def _adapter(self, stores: Mapping[str, Store], name: str) -> Adapter:
        return self._transactions.adapters.of(known_store(stores, name))


def _naming(mergers: Sequence[str]) -> dict[str, str]:
    """The property by which a commit names what merged inside of its items."""
    return {"plait.mergers": ", ".join(mergers)} if mergers else {}


def _with_reads(operations: Sequence[Operation], reads: Sequence[Unchanged]) -> tuple[Operation, ...]:
    """The operations, and a check for each key that is only read: a written key checks its expected value anyway."""
    written = {operation.key for operation in operations}
    return (*operations, *(read for read in reads if read.key not in written))


def _conflict_row(position: int, conflict: Conflict) -> dict[str, object]:
    return {
        "key": encode_key(conflict.key),
        "item": conflict_item(conflict.item),
        "position": position,
        "body": encode_conflict(conflict),
        "resolution": None,
    }
