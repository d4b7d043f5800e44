"""Who asks, and whether they may. The principal in every session is what is found here, never what a client says."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import grpc
from plait.errors import NotFound, Unauthenticated

from plait_server.config import Auth
from plait_server.repositories import Repositories

ANONYMOUS = "anonymous"
Authorize: TypeAlias = Callable[[str, str], None]
"""(principal, name of an RPC, or path of a gateway): returns, or raises PermissionDenied."""

_TOKEN_KEPT_SECONDS = 5.0
_TOKENS_KEPT_MAX = 10_000
_REMEDY = "make a token with 'plait token create NAME', and set PLAIT_TOKEN"


def authorize(principal: str, asked: str) -> None:
    """Whoever is authenticated may do everything: roles come with a later release, and will be asked for here."""


class Tokens:
    """Who holds which token. A token that was deleted may work for five seconds more. Thread-safe."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._known: dict[tuple[str, bytes], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def name(self, repository: str, authorization: str) -> str:
        """The token's name, from an `Authorization: Bearer` value. Raises: Unauthenticated.

        A repository that does not exist has no tokens: strangers cannot find out which ones there are.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("no token came with the request", remedy=_REMEDY)
        known = repository, hashlib.sha256(token.encode(errors="replace")).digest()
        name, until = self._known.get(known, ("", 0.0))
        if time.monotonic() < until:
            return name
        try:
            found = self._repositories.get(repository).token_name(token)
        except NotFound:
            found = None
        if found is None:
            remedy = f"check the repository's name in the address, each has its own tokens; or {_REMEDY}"
            raise Unauthenticated("the token is not valid here", remedy=remedy)
        with self._lock:
            if len(self._known) >= _TOKENS_KEPT_MAX:
                self._known.clear()
            self._known[known] = found, time.monotonic() + _TOKEN_KEPT_SECONDS
        return found

    def forget(self) -> None:
        """Ask the database again for each: a token was deleted."""
        with self._lock:
            self._known.clear()


class Authentication:
    """One way to authenticate, for all calls of a server."""

    def __init__(self, auth: Auth, tokens: Tokens) -> None:
        self.auth = auth
        self.tokens = tokens

    def of_call(self, repository: str, context: grpc.ServicerContext) -> str:
        """The principal of a gRPC call. Raises: Unauthenticated."""
        match self.auth:
            case Auth.NONE:
                return ANONYMOUS
            case Auth.TOKEN:
                for name, value in context.invocation_metadata():
                    if name == "authorization":
                        return self.tokens.name(repository, value if isinstance(value, str) else "")
                return self.tokens.name(repository, "")
            case Auth.MTLS:
                return _common_name(context.auth_context())

    def of_request(self, repository: str, authorization: str) -> str:
        """The principal of an HTTP request. Certificates do not reach it, so `mtls` asks for a token too."""
        return ANONYMOUS if self.auth is Auth.NONE else self.tokens.name(repository, authorization)


def _common_name(proved: Mapping[str, object]) -> str:
    """Raises: Unauthenticated; gRPC tells of a certificate without a common name that it is empty."""
    names = proved.get("x509_common_name")
    name = names[0] if isinstance(names, Sequence) and names else b""
    if not isinstance(name, bytes) or not name.strip():
        raise Unauthenticated("the client's certificate has no common name", remedy="issue one with a CN")
    return name.decode(errors="replace")
