"""Tokens, which identify a server's clients."""

from __future__ import annotations

from collections.abc import Sequence

from plait.rpc import plait_pb2 as pb
from plait.rpc.calls import Calls, Repeat, absent_is_done
from plait.rpc.wire_errors import refusing_unsendable


@refusing_unsendable
class Tokens:
    """The part of `RemoteBackend` that makes and deletes them."""

    _calls: Calls
    _repository: str

    def create_token(self, name: str) -> str:
        """As the server's. Raises also OutcomeUnknown if the answer is lost: delete the token then, it cannot be shown
        again."""
        request = pb.CreateTokenRequest(repository=self._repository, name=name)
        return self._calls.ask(request, pb.CreateTokenResponse, repeat=Repeat.NEVER).token

    def tokens(self) -> Sequence[tuple[str, int]]:
        answer = self._calls.ask(pb.TokensRequest(repository=self._repository), pb.TokensResponse)
        return [(token.name, token.created_at_us) for token in answer.tokens]

    def delete_token(self, name: str) -> None:
        request = pb.DeleteTokenRequest(repository=self._repository, name=name)
        with absent_is_done() as attempts:
            self._calls.ask(request, pb.DeleteTokenResponse, attempts=attempts)
