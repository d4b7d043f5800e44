"""Tokens by which clients of a server are known. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from plait.clock import Clock
from plait.codec import check_text
from plait.errors import AlreadyExists, NotFound
from plait.persist import Repository


class Tokens:
    """The part of `LocalBackend` that servers ask who is there."""

    _repository: Repository
    clock: Clock

    def create_token(self, name: str) -> str:
        """A new token of 256 random bits. Only its hash is kept: it cannot be shown again. Raises: AlreadyExists."""
        check_text("the token's name", name)
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
        """Whose token this is, or None."""
        with self._repository.read() as rows:
            return rows.token_name(hashlib.sha256(token.encode()).digest())
