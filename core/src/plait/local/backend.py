"""The embedded catalog: `Backend`, implemented in the process that opens the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from plait import audit, cores, limits
from plait.adapter import Progress, silent
from plait.backend import Problem, Side
from plait.clock import Clock, SystemClock
from plait.commit_point import CommitGroup, CommitRequest
from plait.coordinator import Coordinator
from plait.errors import InvalidArgument, PlaitError
from plait.events import EventHooks, Outbox
from plait.gates import Gates
from plait.local.creating import DEFAULT_REPOSITORY
from plait.local.tokens import Tokens
from plait.local.working_sets import WorkingSets
from plait.persist import Database, Repository, find_repository
from plait.planning import Planner
from plait.plugins import Plugins
from plait.proposals import (
    check_commit_id,
    check_idempotency_key,
    check_proposal,
    check_session,
    once,
    once_group,
    once_ref,
    stores_of,
)
from plait.publisher import Publisher
from plait.ref_point import RefRequest
from plait.refspec import check_key, check_ref_name
from plait.sequencer import Sequencer
from plait.staging import Stagings
from plait.stores import Adapters, row_context
from plait.transaction import Transactions
from plait.tree import NodeCache
from plait.types import (
    Change,
    Commit,
    Delete,
    Depth,
    Entry,
    Event,
    ItemChange,
    Key,
    Proposal,
    Put,
    Ref,
    RefKind,
    Session,
    SnapshotRef,
    Staging,
    Store,
)

if TYPE_CHECKING:
    from plait.catalog import Catalog

_EXECUTOR_THREADS = 16


class LocalBackend(WorkingSets, Tokens):
    """One repository in a database that this process has open. Closing it ends its threads and adapters only."""

    def __init__(
        self,
        database: Database,
        repository: str = DEFAULT_REPOSITORY,
        *,
        plugins: Plugins | None = None,
        clock: Clock | None = None,
        progress: Progress = silent,
        catalog: Callable[[LocalBackend], Catalog],
    ) -> None:
        """`catalog`: called once with this backend, to make the Catalog that gates, event hooks and gateways get.

        Raises: NotFound when there is no such repository, InvalidArgument for a schema of another release.
        """
        database.check_schema()
        self.clock = clock or SystemClock()
        self.plugins = plugins or Plugins()
        self._repository: Repository = find_repository(database, repository)
        self._cache = NodeCache()
        self.outbox = Outbox(self._repository)
        self._sequencer = Sequencer(self._repository, self.clock, cache=self._cache, on_durable=self.outbox.wake)
        self._executor, self._gate_executor = (
            ThreadPoolExecutor(_EXECUTOR_THREADS, thread_name_prefix=f"plait-{use}", initializer=cores.anywhere)
            for use in ("prepare", "gate")  # Apart, so that slow gates and slow stores do not wait for each other.
        )
        self._progress = progress
        context = row_context(self._repository, self.plugins, self.clock, progress)
        self.adapters = Adapters(self.plugins, self._store, context)
        self._transactions = Transactions(
            self._repository, self._sequencer, self.adapters, self.clock, self._cache, self._executor
        )
        self._stagings = Stagings(self._transactions)
        owner = self._transactions.owner
        self._publisher = Publisher(self._repository, self.adapters, self.clock, self._cache, owner, self._executor)
        self.catalog = catalog(self)
        self._gates = Gates(self.plugins, self._gate_executor)
        self._planner = Planner(self._transactions, self._publisher.native_ref)
        self._coordinator = Coordinator(self._transactions, self._gates, self._executor, self.catalog, self._planner)
        self._event_hooks = EventHooks(self.plugins, self.outbox, self.catalog)

    @property
    def repository(self) -> str:
        return self._repository.name

    @property
    def waiting(self) -> int:
        """The approximate number of requests that wait for the sequencer, for metrics."""
        return self._sequencer.waiting

    def close(self) -> None:
        """Finish the queued requests, and deliver their events to plugins. Repeat: no-op."""
        self._sequencer.close()
        self.outbox.close()
        self._event_hooks.close()
        self._executor.shutdown()
        self._gate_executor.shutdown()
        self.adapters.close()

    def _store(self, name: str) -> Store:
        with self._repository.read() as rows:
            return rows.store(name)

    # -- looking at stores too -----------------------------------------------------------------------------------------

    def diff_items(self, key: Key, before: Side, after: Side, items: Sequence[str] | None) -> Iterator[ItemChange]:
        check_key(key)
        left, right = self._side(before.key or key, before), self._side(after.key or key, after)
        return self.adapters.get(key[0]).diff(left, right, items=items)

    def _side(self, key: Key, side: Side) -> SnapshotRef | Staging | None:
        if side.tx is not None:
            tx = self._transactions.find(side.tx)
            known = {participant.key: participant for participant in self._transactions.participants(tx.id)}
            if key in known and known[key].is_own:
                return known[key].staging
            entry = self._stagings.base_entry(tx, key)
        elif side.spec is not None:
            entry = self.get(side.spec, [key]).get(key)
        else:
            return None
        if entry is not None:
            self._check_live(key, entry.snapshot)
        return None if entry is None else entry.snapshot

    def events(self, after_seq: int, limit: int) -> Sequence[Event]:
        self._repository.database.check_usable()
        return self.outbox.read(after_seq, limit)

    def watch(self, from_seq: int | None, seconds_max: float | None) -> Iterator[Event]:
        until = float("inf") if seconds_max is None else time.monotonic() + seconds_max
        for page in self.outbox.follow(from_seq, lambda: time.monotonic() >= until):
            yield from page

    def verify(self, depth: Depth) -> Iterator[Problem]:
        damage = self._repository.database.damage()
        yield from (Problem("database", line) for line in damage)
        survey, now_us = audit.Survey(is_damaged=bool(damage)), self.clock.now_us()
        yield from audit.verify_metadata(self._repository, self._progress, now_us, survey)
        yield from audit.verify_working_rows(self._repository, survey)
        asked = audit.verify_stores(
            self._repository, self.adapters, self._publisher, depth, self._executor, self._progress
        )
        yield from survey.part("stores", asked)

    # -- writing -------------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal) -> Commit:
        check_proposal(proposal)
        commit = self._sequencer.do(CommitRequest(self._gated(proposal)), once(proposal))
        self._publish_moved(stores_of([proposal]))
        return commit

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        if len(proposals) > limits.PROPOSALS_MAX:
            raise InvalidArgument(f"{len(proposals)} proposals in one call, the limit is {limits.PROPOSALS_MAX}")
        results: list[Commit | PlaitError]
        if atomic:
            for proposal in proposals:
                check_proposal(proposal)
            requests = [CommitRequest(self._gated(proposal)) for proposal in proposals]
            results = [*self._sequencer.do(CommitGroup(requests), once_group(proposals))]
        else:
            results = [_result(queued) for queued in [self._queued(proposal) for proposal in proposals]]
        self._publish_moved(stores_of(proposals))
        return results

    def _queued(self, proposal: Proposal) -> Future[Commit] | PlaitError:
        """Check, gate and queue one of many independent proposals. Returns: its future, or why it was refused."""
        try:
            check_proposal(proposal)
            return self._sequencer.submit(CommitRequest(self._gated(proposal)), once(proposal))
        except PlaitError as error:
            return error

    @property
    def is_gated(self) -> bool:
        """Whether gates are asked about every commit."""
        return self._gates.are_there

    def _gated(self, proposal: Proposal) -> Proposal:
        """Ask the gates about a one-call commit. Returns: the proposal with the reads of their verdicts."""
        return self._coordinator.gate(proposal, self._changes(proposal)) if self._gates.are_there else proposal

    def _changes(self, proposal: Proposal) -> Sequence[Change]:
        """What a proposal changes, if each key holds the value that the proposal expects there."""
        held = self.get(proposal.ref, [operation.key for operation in proposal.operations])
        changes = []
        for operation in proposal.operations:
            if isinstance(operation, Put):
                after = Entry(operation.key, operation.content_id or "", operation.snapshot)
                changes.append(Change(operation.key, held.get(operation.key), after))
            elif isinstance(operation, Delete) and operation.key in held:
                changes.append(Change(operation.key, held[operation.key], None))
        return changes

    def set_ref(
        self,
        name: str,
        kind: RefKind,
        *,
        expected: str | None,
        after: str | None,
        protect: bool | None,
        session: Session,
        idempotency_key: str | None,
    ) -> Ref:
        check_ref_name(name)
        check_session(session)
        check_idempotency_key(idempotency_key)
        if after is not None:
            check_commit_id(after)
        request = RefRequest(name, kind, expected, after, protect)
        moved = self._sequencer.do(request, once_ref(request, session, idempotency_key))
        self._follow()
        return moved


def _result(queued: Future[Commit] | PlaitError) -> Commit | PlaitError:
    if isinstance(queued, PlaitError):
        return queued
    try:
        return queued.result()
    except PlaitError as error:
        return error
