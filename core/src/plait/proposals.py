"""Proposals as they arrive: what is refused before it queues, and what makes a repeated one the same request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from plait import limits
from plait.codec import check_properties, check_text, pack, pairs, ref_digest
from plait.errors import InvalidArgument
from plait.refspec import check_key, check_ref_name, format_key
from plait.sequencer import Idempotency
from plait.types import Proposal, Put, Session


def stores_of(proposals: Sequence[Proposal]) -> set[str]:
    """The stores whose keys these proposals touch."""
    return {operation.key[0] for proposal in proposals for operation in proposal.operations}


def check_message(message: str) -> None:
    """Raises: InvalidArgument for one that is too long, or that no database can keep."""
    check_text("the message", message)
    if len(message.encode()) > limits.MESSAGE_BYTES_MAX:
        raise InvalidArgument(f"the message has more than {limits.MESSAGE_BYTES_MAX} bytes")


def check_session(session: Session) -> None:
    """Raises: InvalidArgument for what no database can keep."""
    for what in ("principal", "author", "client"):
        check_text(f"the session's {what}", getattr(session, what))
    check_properties(session.properties, limits.PROPERTIES_BYTES_MAX)


def check_proposal(proposal: Proposal) -> None:
    """Refuse what breaks a limit, before it queues."""
    check_ref_name(proposal.ref)
    check_message(proposal.message)
    check_text("the author", proposal.author)
    check_text("the idempotency key", proposal.idempotency_key or "")
    check_session(proposal.session)
    check_properties(proposal.properties, limits.PROPERTIES_BYTES_MAX)
    if len(proposal.operations) > limits.OPERATIONS_MAX:
        raise InvalidArgument(
            f"{len(proposal.operations)} operations in one commit, the limit is {limits.OPERATIONS_MAX}",
            remedy="split it, or use CommitMany with atomic=true",
        )
    seen = set()
    for operation in proposal.operations:
        if check_key(operation.key) in seen:
            raise InvalidArgument(f"{format_key(operation.key)} has two operations in one commit")
        seen.add(operation.key)
        if isinstance(operation, Put) and operation.snapshot.store != operation.key[0]:
            raise InvalidArgument(
                f"{format_key(operation.key)} names a snapshot of store {operation.snapshot.store!r}",
                remedy="a key's first part is its snapshot's store",
            )


def request_digest(proposal: Proposal) -> bytes:
    """What tells a repeated request from another one under the same idempotency key."""
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
    # Everything that decides what is committed; the session only says who asks, and the key belongs to its principal.
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
    """Under which key the commit's success is kept, if its caller gave one."""
    if proposal.idempotency_key is None:
        return None
    return Idempotency(proposal.session.principal, "commit", proposal.idempotency_key, request_digest(proposal))


def once_group(proposals: Sequence[Proposal]) -> Idempotency | None:
    """The same for an atomic group, which is known by its first proposal's key."""
    keys = [proposal.idempotency_key for proposal in proposals]
    if not proposals or keys[0] is None:
        return None
    body = hashlib.sha256(b"".join(request_digest(proposal) for proposal in proposals)).digest()
    return Idempotency(proposals[0].session.principal, "commit-group", keys[0], body)
