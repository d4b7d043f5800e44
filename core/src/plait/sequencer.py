"""The one serial order: requests queue here, and a single thread makes them durable in groups.

A batch is whatever queued while the last one was being made durable; nobody waits on a timer. One database transaction
locks the repository's `serial` row, decides every request of the batch against the running state, writes all rows in
bulk, and commits. A request that is refused fails alone. Several servers on one database need no leader: the lock on
`serial` orders their batches.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from plait import cores, limits
from plait.batch import Batch, BatchNodes, Kept
from plait.clock import Clock
from plait.errors import InvalidArgument, OutcomeUnknown, PlaitError, ResourceExhausted, StoreUnavailable
from plait.failpoint import failpoint
from plait.persist import Repository, Rows
from plait.persist.graph_rows import Answer
from plait.tree import DEFAULT_SHAPE, NodeCache, Shape, Tree

_log = logging.getLogger("plait.sequencer")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Request(Protocol[R_co]):
    """Something to be decided at its place in the serial order."""

    @property
    def refs(self) -> Sequence[str]:
        """Names of refs that `decide` reads: fetched for the whole batch at once."""
        ...

    @property
    def txs(self) -> Sequence[str]:
        """Transactions whose rows are locked, so that they cannot change while this is decided."""
        ...

    @property
    def digests(self) -> Sequence[bytes]:
        """ref_digests of snapshots that `decide` reads."""
        ...

    def decide(self, batch: Batch) -> R_co:
        """Put the effects into the batch, or raise a PlaitError and leave the batch as it was."""
        ...

    def remember(self, result: object) -> bytes:
        """Encode the result, to be stored under the idempotency key."""
        ...

    def recall(self, rows: Rows, kept: bytes) -> R_co:
        """Make the result again from the bytes that `remember` gave."""
        ...


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The key under which a request's result is stored if it succeeds. A different request under it is refused."""

    principal: str
    operation: str
    key: str
    request_digest: bytes


@dataclass(slots=True)
class _Queued(Generic[R]):
    request: Request[R]
    idempotency: Idempotency | None
    future: Future[R]


class Sequencer:
    """Thread-safe. One per repository and process; `close` it once."""

    def __init__(
        self,
        repository: Repository,
        clock: Clock,
        *,
        shape: Shape = DEFAULT_SHAPE,
        cache: NodeCache | None = None,
        batch_max: int = limits.BATCH_PROPOSALS_MAX,
        on_durable: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._nodes = BatchNodes()
        self._tree = Tree(self._nodes, salt=repository.salt, shape=shape, cache=cache)
        self._kept: Kept | None = None
        self._batch_max = batch_max
        self._on_durable = on_durable
        self._queue: queue.Queue[_Queued[object] | None] = queue.Queue(limits.QUEUE_PROPOSALS_MAX)
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="plait-sequencer", daemon=True)
        self._thread.start()

    def submit(self, request: Request[R], idempotency: Idempotency | None = None) -> Future[R]:
        """Queue a request. The future ends with its result once that is durable, or with its error.

        Raises: ResourceExhausted when the queue is full, StoreUnavailable once closed, InvalidArgument in a fork.
        """
        self._repository.database.check_usable()
        queued = _Queued(request, idempotency, Future[R]())
        with self._closing:
            if self._closed:
                raise StoreUnavailable("the catalog is closed")
            try:
                self._queue.put_nowait(queued)  # type: ignore[arg-type]  # a Future is invariant, a queue of any is meant
            except queue.Full:
                raise ResourceExhausted(
                    f"{limits.QUEUE_PROPOSALS_MAX} commits are waiting already", remedy="repeat a little later"
                ) from None
        return queued.future

    def do(self, request: Request[R], idempotency: Idempotency | None = None) -> R:
        """`submit`, and wait for the result."""
        return self.submit(request, idempotency).result()

    @property
    def waiting(self) -> int:
        """The approximate number of queued requests, for metrics."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish the queued requests, then stop. Repeat: no-op."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        cores.together()
        while True:
            first = self._queue.get()
            batch: list[_Queued[object]] = []
            last = first is None
            if first is not None:
                batch.append(first)
            while not last and len(batch) < self._batch_max:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                else:
                    batch.append(following)
            # From here on a caller cannot cancel: its request is being made durable, so it gets an answer.
            batch = [one for one in batch if one.future.set_running_or_notify_cancel()]
            if batch:
                self._process(batch)
            if last:
                return

    def _process(self, queued: list[_Queued[object]]) -> None:
        """Make a batch durable. If that fails with an unexpected error, find the request that causes it by halving."""
        try:
            settled = self._transact(queued)
        except (StoreUnavailable, OutcomeUnknown) as error:
            for one in queued:
                one.future.set_exception(error)
        except Exception as error:
            if len(queued) == 1:
                queued[0].future.set_exception(error)
            else:
                half = len(queued) // 2
                self._process(queued[:half])
                self._process(queued[half:])
        else:
            failpoint("sequencer.after_commit")
            try:
                self._on_durable()
            except Exception:
                _log.exception("on_durable failed; the batch is durable all the same")
            for settle in settled:
                settle()

    def _transact(self, queued: list[_Queued[object]]) -> list[Callable[[], None]]:
        """Decide and write a batch in one database transaction. Returns: calls that answer the waiting callers."""
        settled: list[Callable[[], None]] = []
        kept, self._kept = self._kept, None
        with self._repository.write() as rows:
            before = rows.lock_serial()
            batch = Batch(self._repository, rows, before, self._clock, self._tree, self._nodes, kept)
            answers = rows.answers([one.idempotency.key for one in queued if one.idempotency])
            batch.prefetch([one.request for one in queued])
            for one in queued:
                try:
                    result = self._settle_one(one, batch, rows, answers)
                except OutcomeUnknown:
                    raise  # This concerns the batch's rows as a whole, not this one request.
                except PlaitError as error:
                    settled.append(_setter(one.future.set_exception, error))
                else:
                    settled.append(_setter(one.future.set_result, result))
            batch.flush()
            failpoint("sequencer.before_commit")
        self._kept = batch.kept()
        return settled

    def _settle_one(
        self, one: _Queued[object], batch: Batch, rows: Rows, answers: dict[tuple[str, str, str], Answer]
    ) -> object:
        asked = one.idempotency
        if asked is None:
            return one.request.decide(batch)
        known = answers.get((asked.principal, asked.operation, asked.key))
        if known is not None:
            if known.request_digest != asked.request_digest:
                raise InvalidArgument(
                    f"idempotency key {asked.key!r} was used for another request",
                    remedy="use a new key for a new request",
                )
            if known in batch.answers:
                batch.flush()  # The first request with this key is in the same batch: `recall` needs its rows written.
            return one.request.recall(rows, known.result)
        result = one.request.decide(batch)
        answer = Answer(asked.principal, asked.operation, asked.key, asked.request_digest, one.request.remember(result))
        batch.answers.append(answer)
        answers[asked.principal, asked.operation, asked.key] = answer
        return result


def _setter(setter: Callable[[R], None], value: R) -> Callable[[], None]:
    return lambda: setter(value)
