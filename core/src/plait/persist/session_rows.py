"""Rows of the sessions of which commits and transactions are: equal ones share one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from plait.codec import digest, pack, pairs
from plait.errors import Corrupt
from plait.persist import schema
from plait.persist.base import BaseRows, from_json, to_json
from plait.types import Session

_SESSIONS_KEPT_MAX = 1024
"""Sessions whose ids are remembered: a client makes many commits in one."""


class SessionRows(BaseRows):
    """Each session's row, under the digest of its fields."""

    def put_sessions(self, sessions: Iterable[Session]) -> None:
        by_id = {session_id(session): session for session in sessions}
        self._upsert(
            schema.session,
            [
                {
                    "id": identity,
                    "principal": session.principal,
                    "author": session.author,
                    "client": session.client,
                    "properties": to_json(session.properties),
                }
                # Always in the same order, so that two inserters cannot deadlock.
                for identity, session in sorted(by_id.items(), key=lambda found: found[0])
            ],
        )

    def sessions(self, ids: Iterable[bytes]) -> dict[bytes, Session]:
        return {
            row.id: Session(row.principal, row.author, row.client, from_json(row.properties, "a session"))
            for row in self._in(schema.session, "id", ids)
        }

    def sessions_of(self, rows: Sequence[sa.Row[Any]], what: str) -> dict[bytes, Session]:
        """The sessions of some commits or transactions. Raises: Corrupt naming the one whose session is missing."""
        found = self.sessions({row.session_id for row in rows})
        for row in rows:
            if row.session_id not in found:
                named = row.id.hex() if isinstance(row.id, bytes) else row.id
                raise Corrupt(f"{what} {named} is of session {row.session_id.hex()}, which is missing")
        return found

    def altered_sessions(self) -> list[bytes]:
        """Ids of sessions whose fields no longer match the id, which is a digest of them."""
        kept = self.sessions([row.id for row in self._all(schema.session)])
        return sorted(identity for identity, session in kept.items() if session_id(session) != identity)


def session_id(session: Session) -> bytes:
    """The id of a session's row, a digest of its fields: equal sessions share one row."""
    return _session_id(session.principal, session.author, session.client, tuple(pairs(session.properties)))


@lru_cache(_SESSIONS_KEPT_MAX)
def _session_id(principal: str, author: str, client: str, properties: tuple[tuple[str, str], ...]) -> bytes:
    return digest(b"session", pack([principal, author, client, properties]))[:16]
