"""The one way into the service: every RPC is authenticated, authorized, timed, and its errors are translated here.

Handlers are made from the service's descriptor by `Guard.handlers` alone, so an RPC that does not pass cannot exist.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

import grpc
from plait import cores, limits, waiting
from plait.errors import PlaitError
from plait.local import LocalBackend
from plait.rpc import plait_pb2 as pb
from plait.rpc.calls import SERVICE
from plait.rpc.wire import from_session
from plait.rpc.wire_errors import ERROR_METADATA, to_error
from plait.types import Session

from plait_server.authentication import Authentication, Authorize
from plait_server.metrics import Metrics
from plait_server.repositories import Repositories
from plait_server.room import Room

T = TypeVar("T")

_log = logging.getLogger("plait.server")
_ONLY_WAIT = frozenset({"Commit", "CommitMany"})
"""Calls that do little but wait for the sequencer: gates have other threads, and to publish they leave the core."""
_MAY_STOP = frozenset({"CheckStore", "DiffItems", "ImportAssets", "Preview", "Restore", "Verify"})
"""Calls that work long for one client and end with nothing when it is gone. Commits go on: they may be decided."""
_STREAM_WAIT_SECONDS = 5.0
"""How long one stream more waits for another's end: most are short."""
_STATUS_CHARACTERS_MAX = 120
"""The status text is for people with a bare gRPC client; the whole message is in the ErrorDetail."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler knows beside the request: who asks, and which repository they ask."""

    principal: str
    backend: LocalBackend
    is_active: Callable[[], bool]
    """Whether somebody waits for the answer still: not once it is cancelled, or past its deadline."""
    is_stopping: Callable[[], bool]
    """Whether the server stops."""
    check: Callable[[], None]
    """Ask again what let the call in, for one that lasts. Raises: Unauthenticated, PermissionDenied."""

    def session(self, claimed: pb.Session) -> Session:
        """The client's claim, under the name that the server authenticated."""
        return replace(from_session(claimed), principal=self.principal)


class Guard:
    """Wraps a service's methods. Thread-safe."""

    def __init__(
        self,
        repositories: Repositories,
        authentication: Authentication,
        metrics: Metrics,
        authorize: Authorize,
    ) -> None:
        self._repositories = repositories
        self._authentication = authentication
        self._metrics = metrics
        self._authorize = authorize
        self._stopping = threading.Event()
        self._watches = Room(
            limits.WATCHES_MAX,
            wait_seconds=0.0,
            refusal=f"{limits.WATCHES_MAX} clients watch this server already",
            remedy="end one of them, or read the events now and then",
        )
        # Clients that read theirs slowly, or not on, leave connections to the database to all other calls.
        self._streams = Room(
            limits.STREAMS_MAX,
            wait_seconds=_STREAM_WAIT_SECONDS,
            refusal=f"{limits.STREAMS_MAX} streams of this server are being read already",
            remedy="read them to their end, or leave them, and ask again",
        )

    def stop(self) -> None:
        """End calls that last until they are cancelled. Repeat: no-op."""
        self._stopping.set()

    def handlers(self, service: object) -> grpc.GenericRpcHandler[Any, Any]:
        """Handlers of all RPCs: `CommitMany` is the service's method `commit_many`."""
        made: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in SERVICE.methods:
            behaviour = getattr(service, snake_case(method.name))
            request = getattr(pb, method.input_type.name)
            wrap, make = (
                (self._streaming, grpc.unary_stream_rpc_method_handler)
                if method.server_streaming
                else (self._unary, grpc.unary_unary_rpc_method_handler)
            )
            made[method.name] = make(
                wrap(method.name, behaviour),
                request_deserializer=request.FromString,
                response_serializer=getattr(pb, method.output_type.name).SerializeToString,
            )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, made)

    def _admit(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Call:
        """Raises: Unauthenticated, PermissionDenied, and NotFound for the repository, in this order."""

        def principal() -> str:
            found = self._authentication.of_call(request.repository, context)
            self._authorize(found, rpc)
            return found

        def check() -> None:
            principal()

        return Call(
            principal(),
            self._repositories.get(request.repository),
            context.is_active,
            self._stopping.is_set,
            check,
        )

    def _unary(self, rpc: str, behaviour: Callable[[Any, Call], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        seconds = self._metrics.seconds.labels(rpc)
        where = nullcontext if rpc in _ONLY_WAIT else cores.elsewhere

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            started = time.perf_counter()
            try:
                call = self._admit(rpc, request, context)
                with where(), _awaited(rpc, call):
                    return behaviour(request, call)
            except Exception as error:
                self._fail(rpc, error, context)
            finally:
                seconds.observe(time.perf_counter() - started)

        return handle

    def _streaming(
        self, rpc: str, behaviour: Callable[[Any, Call], Iterator[Any]]
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        seconds = self._metrics.seconds.labels(rpc)
        room = self._watches if rpc == "Watch" else self._streams

        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            started = time.perf_counter()
            try:
                call = self._admit(rpc, request, context)
                with room.taken(), cores.elsewhere():
                    yield from _awaited_one_by_one(rpc, call, behaviour(request, call))
            except Exception as error:
                self._fail(rpc, error, context)
            finally:
                seconds.observe(time.perf_counter() - started)

        return handle

    def _fail(self, rpc: str, error: Exception, context: grpc.ServicerContext) -> NoReturn:
        """End the call with an error. One that nobody raised on purpose is logged under an id; only that is told."""
        if not isinstance(error, PlaitError):
            error_id = uuid4().hex[:12]
            _log.error("internal error", exc_info=error, extra={"error_id": error_id, "rpc": rpc})
            error = PlaitError(
                f"internal error {error_id}",
                remedy="look for this id in the server's log",
                details={"error_id": error_id},
            )
        detail = to_error(error)
        self._metrics.errors.labels(rpc, error.code).inc()
        # A client that is gone takes no metadata any more.
        with suppress(ValueError):
            context.set_trailing_metadata(((ERROR_METADATA, detail.SerializeToString()),))
        status: grpc.StatusCode = getattr(grpc.StatusCode, error.grpc_status)
        text = detail.message.encode("ascii", "replace").decode()[:_STATUS_CHARACTERS_MAX]
        context.abort(status, " ".join(text.split()))
        raise AssertionError("abort raises")


def _awaited(rpc: str, call: Call) -> AbstractContextManager[None]:
    return waiting.awaited(call.is_active) if rpc in _MAY_STOP else nullcontext()


def _awaited_one_by_one(rpc: str, call: Call, answers: Iterator[T]) -> Iterator[T]:
    """The answers; between them the thread is as it was, for gRPC may leave a stream where it is."""
    while True:
        with _awaited(rpc, call):
            try:
                answer = next(answers)
            except StopIteration:
                return
        yield answer


def snake_case(name: str) -> str:
    """`CommitMany` → `commit_many`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
