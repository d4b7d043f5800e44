"""Tokens, which identify a server's clients. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from plait.clock import Clock
from plait.errors import AlreadyExists, InvalidArgument, NotFound
from plait.persist import Repository
from plait.proposals import check_name


class Tokens:
    """The part of `LocalBackend` by which servers identify their clients."""

    _repository: Repository
    clock: Clock

    def create_token(self, name: str) -> str:
        """A new token of 256 random bits. Only its hash is kept: it cannot be shown again.

        Raises: AlreadyExists, and InvalidArgument for a name that the history cannot record as who committed.
        """
        check_name("the token's name", name)
        if not name.strip() or not name.isprintable():
            raise InvalidArgument(
                f"{name[:80]!r} is no name for a token",
                remedy="say who will hold it, on one line: the history names it",
            )
        token = "plait_" + secrets.token_urlsafe(32)
        with self._repository.write() as rows:
            if any(known == name for known, _ in rows.tokens()):
                raise AlreadyExists(f"a token named {name!r} exists already", remedy="delete it, or choose a name")
            rows.insert_token(name, hashlib.sha256(token.encode()).digest(), self.clock.now_us())
        return token

    def tokens(self) -> Sequence[tuple[str, int]]:
        with self._repository.read() as rows:
            return rows.tokens()

    def delete_token(self, name: str) -> None:
        with self._repository.write() as rows:
            if not rows.delete_token(name):
                raise NotFound(f"token {name!r} does not exist", remedy="see 'plait token list'")

    def token_name(self, token: str) -> str | None:
        """The name of the token, or None if it is not a token of this repository."""
        with self._repository.read() as rows:
            return rows.token_name(hashlib.sha256(token.encode()).digest())
