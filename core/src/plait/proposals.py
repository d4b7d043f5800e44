"""Checks of writes as they arrive, before they queue; and how a repeated proposal is recognised as the same request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from uuid import UUID

from plait import limits
from plait.codec import check_properties, check_text, encode_snapshot, pack, pairs, ref_digest
from plait.errors import InvalidArgument
from plait.ref_point import RefRequest
from plait.refspec import check_key, check_ref_name, format_key
from plait.sequencer import Idempotency
from plait.types import Proposal, Put, Session

_COMMIT_ID = re.compile(r"[0-9a-f]{64}\Z")


def stores_of(proposals: Sequence[Proposal]) -> set[str]:
    """The stores whose keys these proposals touch. Skips empty keys, which a refused proposal may hold."""
    return {operation.key[0] for proposal in proposals for operation in proposal.operations if operation.key}


def check_uuid(what: str, text: str) -> None:
    """Raises: InvalidArgument unless it is a UUID in its usual form, since adapters name folders and branches by it."""
    try:
        plain = str(UUID(text)) == text
    except ValueError:
        plain = False
    if not plain:
        raise InvalidArgument(
            f"{what} {text[:80]!r} is no UUID", remedy="write it as 01a22491-467f-703e-8df2-7acacda99164"
        )


def check_commit_id(text: str) -> None:
    """Raises: InvalidArgument for what cannot be a commit's whole id."""
    if not _COMMIT_ID.match(text):
        raise InvalidArgument(f"{text[:80]!r} is no commit's id", remedy="give all of its 64 hexadecimal digits")


def check_idempotency_key(text: str | None) -> None:
    """Raises: InvalidArgument for one that is empty or too long, or that no database can keep."""
    if text is None:
        return
    check_text("the idempotency key", text)
    if not 0 < len(text.encode()) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        raise InvalidArgument(
            f"an idempotency key has 1 to {limits.IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {len(text.encode())}"
        )


def check_begin(tx: str, name: str, *, commits: Sequence[str]) -> None:
    """Refuse what a working set cannot begin with. An empty `tx` is allowed: the catalog makes the id then."""
    if tx:
        check_uuid("the working set's id", tx)
    check_name("the working set's name", name)
    for commit in commits:
        check_commit_id(commit)


def check_message(message: str) -> None:
    """Raises: InvalidArgument for one that is too long, or that no database can keep."""
    check_text("the message", message)
    if len(message.encode()) > limits.MESSAGE_BYTES_MAX:
        raise InvalidArgument(f"the message has more than {limits.MESSAGE_BYTES_MAX} bytes")


def check_name(what: str, text: str) -> None:
    """Raises: InvalidArgument for one that is too long, or that no database can keep."""
    check_text(what, text)
    if len(text.encode()) > limits.NAME_BYTES_MAX:
        raise InvalidArgument(f"{what} has {len(text.encode())} bytes, the limit is {limits.NAME_BYTES_MAX}")


def check_session(session: Session) -> None:
    """Raises: InvalidArgument for what is too long, or what no database can keep."""
    for what in ("principal", "author", "client"):
        check_name(f"the session's {what}", getattr(session, what))
    check_properties(session.properties, limits.PROPERTIES_BYTES_MAX)


def check_proposal(proposal: Proposal) -> None:
    """Refuse a proposal that exceeds a limit, before it queues."""
    check_ref_name(proposal.ref)
    check_message(proposal.message)
    check_name("the author", proposal.author)
    check_idempotency_key(proposal.idempotency_key)
    check_session(proposal.session)
    check_properties(proposal.properties, limits.PROPERTIES_BYTES_MAX)
    if len(proposal.operations) > limits.OPERATIONS_MAX:
        raise InvalidArgument(
            f"{len(proposal.operations)} operations in one commit, the limit is {limits.OPERATIONS_MAX}",
            remedy="split it, or use CommitMany with atomic=true",
        )
    for parent in proposal.merged_parents:
        check_commit_id(parent)
    seen = set()
    for operation in proposal.operations:
        if check_key(operation.key) in seen:
            raise InvalidArgument(f"{format_key(operation.key)} has two operations in one commit")
        seen.add(operation.key)
        if isinstance(operation, Put):
            _check_put(operation)


def _check_put(put: Put) -> None:
    snapshot = put.snapshot
    texts = (snapshot.store, snapshot.kind, snapshot.asset, snapshot.version, *snapshot.attrs, *snapshot.attrs.values())
    if not isinstance(snapshot.digest, bytes) or not all(isinstance(text, str) for text in texts):
        raise InvalidArgument(
            f"the snapshot of {format_key(put.key)} is not of texts and a digest of bytes: {snapshot!r}",
            remedy="give its digest as bytes, and everything else as text",
        )
    if put.snapshot.store != put.key[0]:
        raise InvalidArgument(
            f"{format_key(put.key)} names a snapshot of store {put.snapshot.store!r}",
            remedy="a key's first part is its snapshot's store",
        )
    try:
        size = len(encode_snapshot(put.snapshot))
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the snapshot of {format_key(put.key)} holds half a character: {error}") from error
    if size > limits.SNAPSHOT_BYTES_MAX:
        raise InvalidArgument(
            f"the snapshot of {format_key(put.key)} has {size} bytes, the limit is {limits.SNAPSHOT_BYTES_MAX}"
        )
    if put.content_id:
        check_uuid(f"the content id of {format_key(put.key)}", put.content_id)


def request_digest(proposal: Proposal) -> bytes:
    """A digest that tells a repeated proposal from a different one under the same idempotency key."""
    operations = [
        [
            type(operation).__name__,
            operation.key,
            operation.expected,
            ref_digest(operation.snapshot) if isinstance(operation, Put) else None,
            operation.content_id if isinstance(operation, Put) else None,
        ]
        for operation in proposal.operations
    ]
    # All that decides what is committed. Not the session: it only says who asks, and its principal owns the key.
    body = [
        proposal.ref,
        operations,
        proposal.message,
        proposal.author,
        pairs(proposal.properties),
        proposal.incarnation,
        proposal.tx,
        proposal.attempt,
        proposal.merged_parents,
        proposal.expected_head,
        proposal.allow_empty,
    ]
    return hashlib.sha256(pack(body)).digest()


def once(proposal: Proposal) -> Idempotency | None:
    """The key under which a proposal's commit is stored, or None if the caller gave none."""
    if proposal.idempotency_key is None:
        return None
    return Idempotency(proposal.session.principal, "commit", proposal.idempotency_key, request_digest(proposal))


def once_group(proposals: Sequence[Proposal]) -> Idempotency | None:
    """As `once`, for an atomic group, which is recognised by its first proposal's key."""
    keys = [proposal.idempotency_key for proposal in proposals]
    if not proposals or keys[0] is None:
        return None
    body = hashlib.sha256(b"".join(request_digest(proposal) for proposal in proposals)).digest()
    return Idempotency(proposals[0].session.principal, "commit-group", keys[0], body)


def once_ref(request: RefRequest, session: Session, idempotency_key: str | None) -> Idempotency | None:
    """As `once`, for creating, moving, protecting or deleting a ref."""
    if idempotency_key is None:
        return None
    body = pack([request.name, request.kind.value, request.expected, request.after, request.protect])
    return Idempotency(session.principal, "ref", idempotency_key, hashlib.sha256(body).digest())
