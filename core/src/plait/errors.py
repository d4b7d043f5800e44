"""All errors that plait raises: one stable code each, with its gRPC and HTTP status and its exit code.

A message says what, which id, expected and found; `remedy` says what to do next. Both are safe to show to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from plait.types import Conflict


_SHOWN_CHARACTERS_MAX = 2_000


def _shown(text: str) -> str:
    """What anybody can read and any output can encode: a name of a megabyte loses its middle, half a character is
    escaped."""
    if len(text) > _SHOWN_CHARACTERS_MAX:
        text = f"{text[: _SHOWN_CHARACTERS_MAX // 2]}…{text[-_SHOWN_CHARACTERS_MAX // 2 :]}"
    return text.encode(errors="backslashreplace").decode()


class PlaitError(Exception):
    """The root of every error that plait raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    grpc_status: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "", details: Mapping[str, str] | None = None) -> None:
        message = _shown(message)
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details: dict[str, str] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} · {self.remedy}" if self.remedy else self.message


class InvalidArgument(PlaitError):
    """The request itself is wrong; it fails the same way whenever it is repeated."""

    code, grpc_status, http_status, exit_code = "INVALID_ARGUMENT", "INVALID_ARGUMENT", 400, 2


class NothingToCommit(InvalidArgument):
    """Every key already holds what the commit would put there."""

    code = "NOTHING_TO_COMMIT"


class NotFound(PlaitError):
    """The named thing does not exist, or not at that point of the history."""

    code, grpc_status, http_status, exit_code = "NOT_FOUND", "NOT_FOUND", 404, 3


class AlreadyExists(PlaitError):
    """The name is taken."""

    code, grpc_status, http_status, exit_code = "ALREADY_EXISTS", "ALREADY_EXISTS", 409, 4


class CommitConflict(PlaitError):
    """The commit or merge does not fit what is there now; `conflicts` lists every place where."""

    code, grpc_status, http_status, exit_code = "COMMIT_CONFLICT", "ABORTED", 409, 5

    def __init__(
        self,
        message: str,
        *,
        conflicts: Sequence[Conflict],
        total: int | None = None,
        remedy: str = "",
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, details=details)
        self.conflicts = tuple(conflicts)
        self.total = len(self.conflicts) if total is None else total


class ProposalRejected(PlaitError):
    """A gate refused the commit; its working set is kept, unless it is that of a `with catalog.transaction` block."""

    code, grpc_status, http_status, exit_code = "PROPOSAL_REJECTED", "FAILED_PRECONDITION", 412, 6


class StoreUnavailable(PlaitError):
    """A store, or the catalog's own database, did not answer; nothing changed and a retry may succeed."""

    code, grpc_status, http_status, exit_code, retryable = "STORE_UNAVAILABLE", "UNAVAILABLE", 503, 7, True


class OutcomeUnknown(PlaitError):
    """The answer was lost: ask again under the same idempotency key, and clean nothing up."""

    code, grpc_status, http_status, exit_code, retryable = "OUTCOME_UNKNOWN", "UNKNOWN", 500, 8, True


class StoreDiverged(PlaitError):
    """Somebody wrote to a store past plait; nothing of theirs is overwritten until it is adopted."""

    code, grpc_status, http_status, exit_code = "STORE_DIVERGED", "FAILED_PRECONDITION", 409, 9


class SnapshotExpired(PlaitError):
    """The commit is known, but retention has deleted the data that it names."""

    code, grpc_status, http_status, exit_code = "SNAPSHOT_EXPIRED", "FAILED_PRECONDITION", 410, 10


class PermissionDenied(PlaitError):
    """The principal may not do this, or the store's own rules forbid it to plait."""

    code, grpc_status, http_status, exit_code = "PERMISSION_DENIED", "PERMISSION_DENIED", 403, 11


class Unauthenticated(PlaitError):
    """No valid credentials came with the request."""

    code, grpc_status, http_status, exit_code = "UNAUTHENTICATED", "UNAUTHENTICATED", 401, 12


class Unsupported(PlaitError):
    """This store, or this release of plait, cannot do it; nothing was written."""

    code, grpc_status, http_status, exit_code = "UNSUPPORTED", "UNIMPLEMENTED", 501, 13


class TransactionClosed(PlaitError):
    """The transaction is sealed, committed, discarded, or its lease is lost."""

    code, grpc_status, http_status, exit_code = "TRANSACTION_CLOSED", "FAILED_PRECONDITION", 409, 14


class ResourceExhausted(PlaitError):
    """Too much at once; repeat after `retry_after_us`."""

    code, grpc_status, http_status, exit_code, retryable = "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", 429, 15, True

    def __init__(self, message: str, *, retry_after_us: int = 100_000, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, details={"retry_after_us": str(retry_after_us)})
        self.retry_after_us = retry_after_us


class Corrupt(PlaitError):
    """Stored bytes are not what was written: stop, and restore from a backup."""

    code, grpc_status, http_status, exit_code = "CORRUPT", "DATA_LOSS", 500, 16


class Cancelled(PlaitError):
    """Nobody waits for the answer any more, so the work was left; nothing of it is kept."""

    code, grpc_status, http_status, exit_code = "CANCELLED", "CANCELLED", 499, 17


BY_CODE: Mapping[str, type[PlaitError]] = {
    cls.code: cls
    for cls in (
        PlaitError, InvalidArgument, NothingToCommit, NotFound, AlreadyExists, CommitConflict, ProposalRejected,
        StoreUnavailable, OutcomeUnknown, StoreDiverged, SnapshotExpired, PermissionDenied, Unauthenticated,
        Unsupported, TransactionClosed, ResourceExhausted, Corrupt, Cancelled,
    )
}  # fmt: skip
