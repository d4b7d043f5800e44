"""Calls over one channel: sends each request to its RPC, repeats it where that is safe, and translates errors.

Every write of plait may be repeated with the same effect, so a call whose answer was lost is sent again. If that does
not help, the error is OutcomeUnknown for commits and StoreUnavailable for the rest.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message

from plait import limits
from plait.errors import (
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    PlaitError,
    ResourceExhausted,
    StoreUnavailable,
    Unauthenticated,
    Unsupported,
)
from plait.rpc import plait_pb2 as pb
from plait.rpc.address import Address, channel_credentials
from plait.rpc.wire_errors import ERROR_METADATA, from_error

M = TypeVar("M", bound=Message)

SERVICE = pb.DESCRIPTOR.services_by_name["Catalog"]
METHODS: Final[dict[str, MethodDescriptor]] = {method.input_type.full_name: method for method in SERVICE.methods}
"""The RPCs by the full name of their request: no two RPCs share a request type."""

SECONDS_MAX: Final = 90.0
"""How long a call may take by default: above the time that gates have."""
UNLIMITED: Final = None
"""No time limit, for calls that work on data. Keep-alive pings notice a dead connection."""

_PAUSES_SECONDS = (0.1, 0.4, 1.6, 3.2)
_UNREACHED_MAX = 2
"""Retries of a call that never reached the server: then it is down, and the user should hear of that soon."""

_UNREACHED_SIGNS = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")
_TLS_SIGNS = ("Socket closed", "handshake", "Hostname Verification", "ALPN")
_WRONG_HOST = "call host does not match SSL server name"
_TLS_REMEDY = (
    "check that PLAIT_CA_FILE names who signed the server's certificate, and that it is valid for this host; "
    "write plait:// to a server without TLS; for mtls, that PLAIT_CERT_FILE and PLAIT_KEY_FILE name yours"
)
_UNKNOWN_REMEDY = "ask again under the same idempotency key, or look at the log"

_LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
}
"""gRPC's own codes for a connection or server that dies during a call. plait's own errors carry an ErrorDetail."""

_PLAIN_STATUS: dict[grpc.StatusCode, type[PlaitError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
}


class Repeat(Enum):
    """What to do when an answer is lost, and which error to raise when that does not help."""

    SAFE = "safe"
    COMMIT = "commit"
    NEVER = "never"


@dataclass(slots=True)
class Attempts:
    """What became of a call's earlier attempts. If one may have reached the server and lost its answer, NotFound may
    mean "done already". An attempt that never reached the server has done nothing."""

    may_be_done: bool = False


@contextmanager
def absent_is_done() -> Iterator[Attempts]:
    """For calls that delete something: NotFound counts as success if an earlier attempt may have deleted it."""
    attempts = Attempts()
    try:
        yield attempts
    except NotFound:
        if not attempts.may_be_done:
            raise


class Calls:
    """One channel to one server. Thread-safe; `close` it once."""

    def __init__(self, address: Address, token: str | None) -> None:
        options: list[tuple[str, Any]] = [
            # The server limits the size of requests. Answers, a list of all refs, say, have no limit.
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", 32 * 1024),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # While a channel waits to reconnect, calls fail with its last error. So it waits less than the first pauses
            # between a call's attempts: the next attempt then finds a server that is back.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 250),
            # In spite of its name, this is how long one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", 5_000),
            # Retries are made here, where it is known what may be repeated.
            ("grpc.enable_retries", 0),
        ]
        self._tls = address.tls
        self._where = f"{'plaits' if address.tls else 'plait'}://{address.target}"
        self._channel = (
            grpc.secure_channel(address.target, channel_credentials(), options)
            if address.tls
            else grpc.insecure_channel(address.target, options)
        )
        self._metadata: tuple[tuple[str, str], ...] = () if token is None else (("authorization", f"Bearer {token}"),)
        self._unary: dict[str, Callable[..., Any]] = {}

    def close(self) -> None:
        self._channel.close()

    def ask(
        self,
        request: Message,
        answer: type[M],
        *,
        repeat: Repeat = Repeat.SAFE,
        seconds_max: float | None = SECONDS_MAX,
        attempts: Attempts | None = None,
    ) -> M:
        """Make one call, and repeat it while its answer is lost. Raises: the server's error, or what `repeat` says."""
        _check_size(request)
        attempts = attempts or Attempts()
        call = self._unary.get(request.DESCRIPTOR.full_name) or self._make(request, answer)
        reached = False
        for count, pause in enumerate((*_PAUSES_SECONDS, None), 1):
            attempts.may_be_done = reached
            try:
                answered: M = call(request, timeout=seconds_max, metadata=self._metadata)
                return answered
            except grpc.RpcError as error:
                found = _answered(error)
                reached = reached or not _is_unreached(error)
                if isinstance(found, OutcomeUnknown) and repeat is Repeat.COMMIT and pause is not None:
                    found = None
                if found is not None:
                    raise found from error
                down = not reached and count > _UNREACHED_MAX
                # What never reached the server is safe to repeat, whatever it is.
                if pause is None or down or (reached and repeat is Repeat.NEVER):
                    raise self._lost(error, reached=reached, repeat=repeat) from error
            except ValueError as error:
                raise _closed(may_be_done=reached and repeat is not Repeat.SAFE) from error
            time.sleep(pause * random.uniform(0.8, 1.0))
        raise AssertionError("the last attempt returns or raises")

    def stream(self, request: Message, answer: type[M], *, seconds_max: float | None = UNLIMITED) -> Iterator[M]:
        """The pages of a streamed answer, lazily; leaving the iterator cancels the call, `seconds_max` ends it."""
        _check_size(request)
        method = METHODS[request.DESCRIPTOR.full_name]
        make: Any = self._channel.unary_stream(
            _path(method), request_serializer=_serialize, response_deserializer=answer.FromString
        )
        until = None if seconds_max is None else time.monotonic() + seconds_max
        for pause in (*_PAUSES_SECONDS[:_UNREACHED_MAX], None):
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                call = make(request, timeout=left, metadata=self._metadata)
            except ValueError as error:
                raise _closed(may_be_done=False) from error
            started = False
            try:
                for page in call:
                    started = True
                    yield page
                return
            except grpc.RpcError as error:
                if until is not None and call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return
                found = _answered(error)
                if found is not None:
                    raise found from error
                if started or pause is None:
                    raise self._lost(error, reached=True, repeat=Repeat.SAFE) from error
            finally:
                call.cancel()
            time.sleep(pause * random.uniform(0.8, 1.0))

    def _make(self, request: Message, answer: type[M]) -> Callable[..., Any]:
        method = METHODS[request.DESCRIPTOR.full_name]
        assert method.output_type is answer.DESCRIPTOR
        made: Callable[..., Any] = self._channel.unary_unary(
            _path(method), request_serializer=_serialize, response_deserializer=answer.FromString
        )
        self._unary[request.DESCRIPTOR.full_name] = made
        return made

    def _lost(self, error: grpc.RpcError, *, reached: bool, repeat: Repeat) -> PlaitError:
        what = f"the server {self._where} does not answer: {_text(error)}"
        if reached and repeat is not Repeat.SAFE:
            return OutcomeUnknown(what, remedy=_UNKNOWN_REMEDY)
        return StoreUnavailable(what, remedy=self._remedy(error))

    def _remedy(self, error: grpc.RpcError) -> str:
        """What to do about a failed call. gRPC reports a refused certificate as it reports a server that is down."""
        text = _text(error)
        if self._tls and any(sign in text for sign in _TLS_SIGNS):
            return _TLS_REMEDY
        if not self._tls and "Socket closed" in text:
            return "write plaits:// if it speaks TLS, else check that it runs ('plait serve'), and try again"
        return "check that it runs ('plait serve'), and try again"


def _closed(*, may_be_done: bool) -> PlaitError:
    """What gRPC's ValueError means: another thread, or an earlier line, closed the channel."""
    if may_be_done:
        return OutcomeUnknown("the catalog was closed before the answer came", remedy=_UNKNOWN_REMEDY)
    return StoreUnavailable("the catalog is closed", remedy="connect again")


def _check_size(request: Message) -> None:
    """Raises: InvalidArgument; the server's gRPC would answer RESOURCE_EXHAUSTED, as if a later try could succeed."""
    if request.ByteSize() > limits.RPC_MESSAGE_BYTES_MAX:
        raise InvalidArgument(
            f"the request has {request.ByteSize()} bytes, the limit is {limits.RPC_MESSAGE_BYTES_MAX}",
            remedy="split it",
        )


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _path(method: MethodDescriptor) -> str:
    return f"/{SERVICE.full_name}/{method.name}"


def _text(error: grpc.RpcError) -> str:
    return f"{error.code().name} {error.details() or ''}".strip() if isinstance(error, grpc.Call) else str(error)


def _is_unreached(error: grpc.RpcError) -> bool:
    """Whether gRPC says that it could not even connect, so that the server never saw the call."""
    return (
        isinstance(error, grpc.Call)
        and error.code() is grpc.StatusCode.UNAVAILABLE
        and any(sign in (error.details() or "") for sign in _UNREACHED_SIGNS)
    )


def _answered(error: grpc.RpcError) -> PlaitError | None:
    """The error that the server raised, or None if it is not known what became of the call."""
    if not isinstance(error, grpc.Call):
        return None
    for name, value in error.trailing_metadata() or ():
        if name == ERROR_METADATA and isinstance(value, bytes):
            try:
                return from_error(pb.ErrorDetail.FromString(value))
            except DecodeError:
                break
    if error.code() in _LOST:
        return None
    told = error.details() or error.code().name
    return _PLAIN_STATUS.get(error.code(), PlaitError)(told, remedy=_TLS_REMEDY if _WRONG_HOST in told else "")
