"""The remote backend: its channel, one-call commits, and moves of refs."""

from __future__ import annotations

from collections.abc import Sequence

from plait import limits
from plait.client.reading import Reading
from plait.client.stores import NONE_KNOWN, StoreKeeping
from plait.client.tokens import Tokens
from plait.client.working_sets import WorkingSets
from plait.errors import PlaitError
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.calls import Calls, Repeat
from plait.rpc.grouping import Grouping
from plait.rpc.wire_errors import from_error, refusing_unsendable
from plait.types import Commit, Proposal, Ref, RefKind, Session

_GROUP_BYTES_MAX = 1024 * 1024
"""How many bytes of commits share one call: far from the server's limit, which one commit alone may reach."""


@refusing_unsendable
class RemoteBackend(Reading, WorkingSets, StoreKeeping, Tokens):
    """`Backend` over a channel. Thread-safe; closing it closes the channel."""

    def __init__(self, calls: Calls, repository: str) -> None:
        self._calls = calls
        self._repository = repository
        self._stores = NONE_KNOWN
        self._commits = Grouping(
            self._commit_group, group_max=limits.BATCH_PROPOSALS_MAX, group_bytes_max=_GROUP_BYTES_MAX
        )
        self._is_gated = False

    @property
    def repository(self) -> str:
        return self._repository

    def close(self) -> None:
        """Repeat: no-op."""
        self._calls.close()

    def commit(self, proposal: Proposal) -> Commit:
        """As the server's `commit`. Raises also OutcomeUnknown, if the answer is lost and the call cannot be repeated.

        Commits that several threads make at once share calls, unless gates would make them wait for each other.
        """
        message = wire_writing.to_proposal(proposal)
        if self._is_gated or proposal.idempotency_key is None:
            return self._commit_alone(message)
        return self._commits.ask(message, message.ByteSize())

    def _commit_alone(self, proposal: pb.Proposal) -> Commit:
        request = pb.CommitRequest(repository=self._repository, proposal=proposal)
        answer = self._calls.ask(request, pb.CommitResponse, repeat=_repeat([proposal]))
        self._is_gated = answer.gated
        return wire.from_commit(answer.commit)

    def _commit_group(self, proposals: Sequence[pb.Proposal]) -> Sequence[Commit | PlaitError]:
        return [self._commit_alone(proposals[0])] if len(proposals) == 1 else self._commit_many(proposals, atomic=False)

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        return self._commit_many([wire_writing.to_proposal(proposal) for proposal in proposals], atomic=atomic)

    def _commit_many(self, proposals: Sequence[pb.Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        request = pb.CommitManyRequest(repository=self._repository, proposals=proposals, atomic=atomic)
        answer = self._calls.ask(request, pb.CommitManyResponse, repeat=_repeat(proposals))
        self._is_gated = answer.gated
        return [
            wire.from_commit(one.commit) if one.HasField("commit") else from_error(one.error) for one in answer.results
        ]

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
        request = pb.SetRefRequest(
            repository=self._repository,
            name=name,
            kind=wire.REF_KINDS.to(kind),
            expected=expected,
            after=after,
            protect=protect,
            session=wire.to_session(session),
            idempotency_key=idempotency_key,
        )
        repeat = Repeat.NEVER if idempotency_key is None else Repeat.SAFE
        return wire.from_ref(self._calls.ask(request, pb.SetRefResponse, repeat=repeat).ref)


def _repeat(proposals: Sequence[pb.Proposal]) -> Repeat:
    """How a call may be repeated: the server recognises a repeated proposal only by its idempotency key."""
    keyed = all(proposal.HasField("idempotency_key") for proposal in proposals)
    return Repeat.COMMIT if keyed else Repeat.NEVER
