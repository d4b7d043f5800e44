"""Converts errors to their message and back: the same class, code, message and remedy on both sides of the wire.

Metadata is small: gRPC stacks drop a call whose headers pass 8 KiB. So an error carries the number of its conflicts and
the first few of them, at most 6 KiB in all; the working set's `conflicts` streams every one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, TypeVar

from plait import limits
from plait.errors import BY_CODE, CommitConflict, InvalidArgument, PlaitError, ResourceExhausted
from plait.rpc import plait_pb2 as pb
from plait.rpc.wire import from_conflict, to_conflict

C = TypeVar("C")
ERROR_METADATA: Final = "plait-error-bin"

_MESSAGE_CHARACTERS_MAX = 400
_REMEDY_CHARACTERS_MAX = 200
_DETAILS_BYTES_MAX = 1024
_FRAME_BYTES: Final = 4
"""What one more field of up to 2 MiB adds to a message beside its own bytes."""


def refusing_unsendable(cls: type[C]) -> type[C]:
    """Make a class's methods raise InvalidArgument for arguments that no message can hold: a lone surrogate, say."""
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(cls, name, _refusing(method))
    return cls


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def answering(*given: Any, **named: Any) -> Any:
        with _refused():
            return method(*given, **named)

    @wraps(method)
    def streaming(*given: Any, **named: Any) -> Iterator[Any]:
        with _refused():
            yield from method(*given, **named)

    return streaming if inspect.isgeneratorfunction(method) else answering


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"an argument holds half a character: {error}", remedy="give it as plain text") from error
    except ValueError as error:
        if not str(error).startswith("Value out of range"):
            raise
        raise InvalidArgument(f"an argument is a number beyond 64 bits: {error}") from error
    except TypeError as error:
        if not str(error).startswith(("bad argument type", "expected bytes")):  # What protobuf says of another type.
            raise
        raise InvalidArgument("an argument is of another type than the call takes", remedy="see its help()") from error


def to_error(error: PlaitError) -> pb.ErrorDetail:
    """The error in at most `limits.ERROR_DETAIL_BYTES_MAX`: long text is cut, only the first conflicts are kept."""
    detail = pb.ErrorDetail(
        code=error.code,
        message=_cut(error.message, _MESSAGE_CHARACTERS_MAX),
        remedy=_cut(error.remedy, _REMEDY_CHARACTERS_MAX),
        details=_small(error.details),
    )
    if isinstance(error, CommitConflict):
        detail.conflicts_total = error.total
        size = detail.ByteSize()
        for conflict in error.conflicts[: limits.ERROR_CONFLICTS_MAX]:
            message = to_conflict(conflict)
            if size + message.ByteSize() + _FRAME_BYTES > limits.ERROR_DETAIL_BYTES_MAX:
                break
            size += message.ByteSize() + _FRAME_BYTES
            detail.conflicts.append(message)
    assert detail.ByteSize() <= limits.ERROR_DETAIL_BYTES_MAX
    return detail


def from_error(detail: pb.ErrorDetail) -> PlaitError:
    """The exception of a message. A newer release's code becomes a plain PlaitError with the same message."""
    cls = BY_CODE.get(detail.code, PlaitError)
    details = dict(detail.details)
    if issubclass(cls, CommitConflict):
        return cls(
            detail.message,
            conflicts=[from_conflict(conflict) for conflict in detail.conflicts],
            total=detail.conflicts_total,
            remedy=detail.remedy,
            details=details,
        )
    if issubclass(cls, ResourceExhausted):
        after_us = details.get("retry_after_us", "")
        if after_us.isdigit():
            return cls(detail.message, retry_after_us=int(after_us), remedy=detail.remedy)
        return cls(detail.message, remedy=detail.remedy)
    return cls(detail.message, remedy=detail.remedy, details=details)


def _cut(text: str, characters_max: int) -> str:
    """Cut a text to size. Invalid Unicode (from a file's name, say) is replaced: it must not hide the error itself."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _small(details: dict[str, str]) -> dict[str, str]:
    """The details that fit, in their order."""
    kept, size = {}, 0
    for name, value in details.items():
        size += len(name.encode(errors="replace")) + len(value.encode(errors="replace")) + 2 * _FRAME_BYTES
        if size <= _DETAILS_BYTES_MAX:
            kept[_cut(name, _DETAILS_BYTES_MAX)] = _cut(value, _DETAILS_BYTES_MAX)
    return kept
