"""The life of working sets: begin, seal, discard, recover. `staging` does their staging, `coordinator` their commits.

    OPEN ⇄ SEALED(attempt) → COMMITTED         OPEN | SEALED → ABORTING → ABORTED

Every arrow is a compare-and-swap of one row. The transaction's row is written before anything is written in a store,
and a participant's row before its staging: recovery finds whatever a dead process left, and continues or cleans it up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

from plait import limits
from plait.batch import Batch
from plait.clock import Clock
from plait.codec import encode_key, pack
from plait.commit_point import unpack_value
from plait.errors import AlreadyExists, InvalidArgument, NotFound, PlaitError, TransactionClosed
from plait.failpoint import failpoint
from plait.graph import RowNodes, load_snapshots
from plait.liveness import owner_name, renewing
from plait.persist import Repository, Rows
from plait.ref_point import RecordRequest
from plait.sequencer import Sequencer
from plait.store_names import known_store
from plait.stores import Adapters, side_by_side
from plait.tree import NodeCache, Tree
from plait.types import (
    Entry,
    EventKind,
    Key,
    Mode,
    Participant,
    RefKind,
    Session,
    SnapshotRef,
    Source,
    Tx,
    TxState,
)

_log = logging.getLogger("plait.transaction")


class Transactions:
    """The working sets of one repository. Thread-safe; state lives in rows only."""

    def __init__(
        self,
        repository: Repository,
        sequencer: Sequencer,
        adapters: Adapters,
        clock: Clock,
        cache: NodeCache,
        executor: Executor,
    ) -> None:
        self.repository = repository
        self.sequencer = sequencer
        self.adapters = adapters
        self.clock = clock
        self.cache = cache
        self.executor = executor
        self.owner = owner_name(clock.new_id())

    # -- life --------------------------------------------------------------------------------------------------------

    def begin(
        self,
        ref: str,
        session: Session,
        *,
        tx_id: str = "",
        name: str = "",
        message: str = "",
        properties: Mapping[str, str] | None = None,
        implicit: bool = False,
        merged_parents: Sequence[str] = (),
        source: Source | None = None,
        base: str = "",
    ) -> Tx:
        """Begin a working set at a branch's head, or at the commit `base`; what it writes since then is joined with the
        branch. It is durable before anything is staged.

        An implicit one that has staged nothing may be lost in a power failure: its lease would have ended it anyway.

        Repeat: with the same `tx_id`, returns the same working set.

        Raises: NotFound, InvalidArgument for a tag, AlreadyExists when a live working set has the name.
        """
        now = self.clock.now_us()
        with self.repository.write(flush=not implicit) as rows:
            if name:
                rows.lock_serial()  # On PostgreSQL, two that begin at once would not see each other's name.
            begun = rows.txs([tx_id]).get(tx_id) if tx_id else None
            if begun is not None:
                return begun
            branch = rows.ref(ref)
            if branch.kind is not RefKind.BRANCH:
                raise InvalidArgument(f"{ref!r} is a tag, and tags never move", remedy="begin on a branch")
            if name and any(tx.name == name for tx in rows.live_txs()):
                raise AlreadyExists(f"a working set named {name!r} is open already", remedy="choose another name")
            tx = Tx(
                id=tx_id or self.clock.new_id(),
                state=TxState.OPEN,
                ref=branch.name,
                incarnation=branch.incarnation,
                base=rows.commit(base).id if base else branch.head,
                session=session,
                created_at_us=now,
                name=name,
                message=message,
                properties=dict(properties or {}),
                implicit=implicit,
                lease_until_us=now + limits.LEASE_US if implicit else 0,
                merged_parents=tuple(merged_parents),
                source=source,
            )
            rows.insert_txs([tx])
        failpoint("transaction.begun")
        return tx

    def find(self, text: str) -> Tx:
        """A transaction by id, by an id's unambiguous beginning or end, or a live one by name.

        Raises: NotFound, also for the empty text: it never means a transaction without a name.
        """
        with self.repository.read() as rows:
            exact = rows.txs([text]).get(text)
            if exact is not None:
                return exact
            live = rows.live_txs()
        named = [tx for tx in live if text and tx.name == text] or [
            tx for tx in live if len(text) >= 4 and (tx.id.startswith(text) or tx.id.endswith(text))
        ]
        if len(named) != 1:
            some = "several open working sets match" if named else "no open working set is named"
            raise NotFound(f"{some} {text!r}", remedy="see 'plait tx list'")
        return named[0]

    def live(self) -> list[Tx]:
        """Working sets that are open, sealed or being cleaned up, oldest first."""
        with self.repository.read() as rows:
            return rows.live_txs()

    def participants(self, tx: str) -> list[Participant]:
        with self.repository.read() as rows:
            return rows.participants(tx)

    def renew(self, tx: str) -> None:
        """Keep an implicit transaction alive; no-op for others. Raises: TransactionClosed unless it is open."""
        with self.repository.write() as rows:
            before = self.open_tx(rows, tx)
            if before.implicit:
                self._swap(rows, before, replace(before, lease_until_us=self.clock.now_us() + limits.LEASE_US))

    def seal(self, tx: str) -> Tx:
        """OPEN → SEALED with the next attempt, owned by this process. Raises: TransactionClosed."""
        with self.repository.write() as rows:
            before = self.open_tx(rows, tx)
            lease = self.clock.now_us() + limits.LEASE_US
            after = replace(
                before, state=TxState.SEALED, attempt=before.attempt + 1, owner=self.owner, lease_until_us=lease
            )
            self._swap(rows, before, after)
        failpoint("transaction.sealed")
        return after

    def held(self, sealed: Tx) -> AbstractContextManager[None]:
        """Call `hold` regularly while the block runs, so that recovery leaves the attempt alone, however long it is."""
        return renewing(lambda: self.hold(sealed))

    def hold(self, sealed: Tx) -> None:
        """Renew the lease of a running attempt. No-op when the transaction is no longer sealed by this attempt."""
        with self.repository.write() as rows:
            rows.swap_tx(sealed, replace(sealed, lease_until_us=self.clock.now_us() + limits.LEASE_US))

    def unseal(self, sealed: Tx) -> bool:
        """SEALED → OPEN: the attempt failed, the working set is kept. Returns: whether it was still that attempt's."""
        lease = self.clock.now_us() + limits.LEASE_US if sealed.implicit else 0
        with self.repository.write() as rows:
            return rows.swap_tx(sealed, replace(sealed, state=TxState.OPEN, owner="", lease_until_us=lease))

    def discard(self, tx: str) -> None:
        """End a working set: no commit is made, and stores drop what it staged.

        Repeat: no-op once it is gone. Raises: TransactionClosed when it is committed.
        """
        with self.repository.write() as rows:
            before = self._tx(rows, tx)
            if before.state is TxState.ABORTED:
                return
            if before.state is TxState.COMMITTED:
                raise TransactionClosed(f"working set {tx} is committed", remedy="use 'plait revert' to undo it")
            if before.state is not TxState.ABORTING:
                self._swap(rows, before, replace(before, state=TxState.ABORTING, owner="", lease_until_us=0))
        failpoint("transaction.aborting")
        self.finish_abort(tx)

    def finish_abort(self, tx: str) -> None:
        """Clean up natively, then ABORTING → ABORTED with a log record. Repeat: no-op.

        When a store fails, the others are still cleaned up; then its error is raised, and the state stays ABORTING.
        """
        with self.repository.read() as rows:
            # A store that does not exist was never written to.
            stores = {participant.key[0] for participant in rows.participants(tx)} & rows.stores().keys()
        errors = []
        for store in sorted(stores):
            try:
                self.adapters.get(store).abort(tx)
            except PlaitError as error:
                errors.append(error)
            failpoint("transaction.store_aborted")
        if errors:
            raise errors[0]

        def end(batch: Batch) -> bytes:
            before = batch.tx(tx)
            assert before is not None
            if before.state is not TxState.ABORTING:
                raise TransactionClosed(f"working set {tx} is {before.state.value} already")
            batch.swap_tx(before, replace(before, state=TxState.ABORTED))
            batch.rows.delete_participants(tx)
            batch.rows.delete_conflicts(tx)
            return pack([tx])

        try:
            self.sequencer.do(RecordRequest(EventKind.TX_ABORTED, end, txs=(tx,)))
        except TransactionClosed:
            return

    @contextmanager
    def writing_natively(self, tx: str) -> Iterator[None]:
        """Guard a block that writes in stores. If it fails because the transaction was discarded meanwhile, abort in
        the stores once more: the block may have written after the first abort, and nobody else would clean that up."""
        try:
            yield
        except Exception:
            with suppress(PlaitError):
                self._abort_late(tx)
            raise

    def _abort_late(self, tx: str) -> None:
        with self.repository.read() as rows:
            row = rows.txs([tx]).get(tx)
            stores = [store for store in rows.stores().values() if store.mode is not Mode.POINTER]
        if row is None or row.state not in (TxState.ABORTING, TxState.ABORTED):
            return
        for store in stores:
            try:
                self.adapters.of(store).abort(tx)
            except PlaitError as error:
                _log.warning("what %s wrote in store %s is not dropped: %s", tx, store.name, error)

    def release(self, tx: str) -> bool:
        """After a commit: let the stores drop what only the working set needed, then delete its participants' rows.

        The commit is durable whatever happens here. When a store or the database fails, the rows stay, and recovery
        tries again. Returns: whether everything is released. Repeat: no-op.
        """
        try:
            self._release(tx)
        except PlaitError as error:
            _log.warning("what working set %s staged is not dropped yet: %s", tx, error)
            return False
        return True

    def _release(self, tx: str) -> None:
        with self.repository.read() as rows:
            participants = rows.participants(tx)
            stores = rows.stores()
        # A store that was removed since is no longer plait's to clean up.
        kept: dict[str, list[SnapshotRef]] = {one.key[0]: [] for one in participants if one.key[0] in stores}
        for participant in participants:
            if participant.prepared is not None and participant.key[0] in kept:
                kept[participant.key[0]].append(participant.prepared)

        def release(store: str) -> None:
            self.adapters.of(known_store(stores, store)).release(tx, kept[store])
            failpoint("transaction.store_released")

        side_by_side(self.executor, release, sorted(kept))
        with self.repository.write(flush=False) as rows:  # If a power loss undoes this, recovery releases again.
            rows.delete_participants(tx)
            rows.delete_conflicts(tx)

    # -- recovery ----------------------------------------------------------------------------------------------------

    def recover(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Repair what dead processes left: finish aborts, reopen abandoned sealed ones, discard expired implicit ones.

        A transaction whose store is down waits for the next recovery; it holds up neither the others nor the catalog.
        Returns: a sentence for each one repaired. Repeat: no-op.
        """
        done = []
        for tx in self.live():
            # Read the row again: the ones before may have taken long, and this lease may have been renewed meanwhile.
            if not self._is_left(tx, is_alive) or not self._is_left(tx := self.find(tx.id), is_alive):
                continue
            try:
                if tx.state is TxState.ABORTING:
                    self.finish_abort(tx.id)
                    done.append(f"finished discarding {tx.id}")
                elif tx.state is TxState.SEALED:
                    self.unseal(tx)
                    done.append(f"reopened {tx.id}, whose commit had stopped half-way")
                else:
                    self.discard(tx.id)
                    done.append(f"discarded {tx.id}, whose lease had run out")
            except PlaitError as error:
                _log.warning("working set %s is not put right yet: %s", tx.id, error)
        with self.repository.read() as rows:
            unreleased = rows.committed_with_participants()
        done += [f"dropped what {tx} had staged for its commit" for tx in unreleased if self.release(tx)]
        return done

    def _is_left(self, tx: Tx, is_alive: Callable[[str], bool]) -> bool:
        """Whether nobody will continue with this transaction, so that recovery has to."""
        has_lapsed = tx.lease_until_us < self.clock.now_us()
        match tx.state:
            case TxState.ABORTING:
                return True
            case TxState.SEALED:
                return has_lapsed or not is_alive(tx.owner)
            case TxState.OPEN:
                return tx.implicit and has_lapsed
            case TxState.COMMITTED | TxState.ABORTED:
                return False

    # -- rows --------------------------------------------------------------------------------------------------------

    def _tx(self, rows: Rows, tx: str) -> Tx:
        found = rows.txs([tx], lock=True).get(tx)
        if found is None:
            raise NotFound(f"working set {tx} does not exist", remedy="see 'plait tx list'")
        return found

    def open_tx(self, rows: Rows, tx: str) -> Tx:
        """An open transaction; its row stays locked until this write ends. Raises: NotFound, TransactionClosed."""
        found = self._tx(rows, tx)
        if found.state is TxState.SEALED:
            raise TransactionClosed(
                f"working set {tx} is being committed or previewed",
                remedy="try again; 'plait tx recover' opens one that died",
            )
        if found.state is not TxState.OPEN:
            raise TransactionClosed(f"working set {tx} is {found.state.value}", remedy="begin another one")
        return found

    def check_sealed(self, rows: Rows, sealed: Tx) -> None:
        """Check that the transaction is still sealed by this attempt, and lock its row until this write ends.

        So no rows are written for a transaction that has ended. Raises: TransactionClosed.
        """
        found = self._tx(rows, sealed.id)
        if (found.state, found.attempt) != (TxState.SEALED, sealed.attempt):
            raise taken_over(found)

    def _swap(self, rows: Rows, before: Tx, after: Tx) -> None:
        if not rows.swap_tx(before, after):
            raise TransactionClosed(f"working set {before.id} changed meanwhile", remedy="look at 'plait tx list'")

    def tree(self, rows: Rows) -> Tree:
        return Tree(RowNodes(rows), salt=self.repository.salt, cache=self.cache)

    def base_entries(self, rows: Rows, tx: Tx, keys: Sequence[Key]) -> dict[Key, Entry]:
        """The entries that its base commit holds under these keys; absent keys are left out."""
        return entries_at(rows, self.tree(rows), rows.commit(tx.base).root, keys)


def taken_over(tx: Tx) -> TransactionClosed:
    """The error for a commit or preview whose working set somebody else committed, discarded or reopened meanwhile."""
    return TransactionClosed(
        f"working set {tx.id} is {tx.state.value}, by somebody else while this went on", remedy="see 'plait tx list'"
    )


def entries_at(rows: Rows, tree: Tree, root: bytes, keys: Sequence[Key]) -> dict[Key, Entry]:
    """The entries that a root holds under these keys; absent keys are left out. Cost: O(keys · log entries) nodes."""
    held = tree.get_many(root, [encode_key(key) for key in keys])
    values = {key: unpack_value(held[encode_key(key)]) for key in keys if encode_key(key) in held}
    snapshots = load_snapshots(rows, {digest for _, digest in values.values()})
    return {key: Entry(key, content_id, snapshots[digest]) for key, (content_id, digest) in values.items()}


def stored_entry(key: Key, value: bytes | None, snapshots: Mapping[bytes, SnapshotRef]) -> Entry | None:
    """Decode a tree's value into an entry; None for None."""
    if value is None:
        return None
    content_id, digest = unpack_value(value)
    return Entry(key, content_id, snapshots[digest])
