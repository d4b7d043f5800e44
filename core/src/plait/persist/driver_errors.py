"""Translates the errors of SQLite's and PostgreSQL's drivers into plait's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from plait.errors import Corrupt, InvalidArgument, PermissionDenied, PlaitError, StoreUnavailable

try:
    from pysqlite3 import dbapi2 as sqlite
except ImportError:
    import sqlite3 as sqlite

__all__ = ["cause", "is_crowded", "is_full", "is_outlived", "sqlite", "translated"]

_SIGNS_OF_DAMAGE = ("malformed", "not a database", "decode to UTF-8", "no such column", "no such table")
"""Parts of SQLite's messages. The tables were checked on opening, so a missing name means that the file was altered."""
_SIGNS_OF_CROWDING = ("too many clients", "too many connections", "connection slots")
"""Parts of PostgreSQL's messages: for a refused connection, libpq keeps no error code."""
_READ_ONLY, _NOT_GRANTED = "25006", "42501"
_NOT_WHOLE: Final = {"42P01", "42703", "3F000", "XX001", "XX002"}
"""PostgreSQL's codes for missing tables, columns and schemas, and for pages that it cannot read
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise plait's errors in place of the driver's; an error that is in no list passes unchanged."""
    try:
        yield
    except PlaitError:
        raise
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, sqlite.DatabaseError):
            _raise_for_sqlite(error)
        _raise_for_state(error)
        if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
            raise StoreUnavailable(
                f"the catalog's database does not answer: {cause(error)}", remedy=_remedy(error)
            ) from error
        if isinstance(error, sa.exc.DataError):
            raise InvalidArgument(f"the catalog's database cannot keep a value: {cause(error)}") from error
        raise
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable(
            "the catalog's database does not answer: others wait already on all connections of this process",
            remedy="check that the database runs, and try again",
        ) from error
    except UnicodeDecodeError as error:
        raise Corrupt("the catalog's database is damaged: a text is not UTF-8", remedy="restore a backup") from error
    except (UnicodeEncodeError, sa.exc.StatementError) as error:
        found = error.orig if isinstance(error, sa.exc.StatementError) else error
        if not isinstance(found, UnicodeEncodeError):
            raise
        raise InvalidArgument(f"a text holds half a character: {found.object[:80]!r}") from error


def _raise_for_sqlite(error: sa.exc.DBAPIError) -> None:
    if any(sign in str(error.orig) for sign in _SIGNS_OF_DAMAGE):
        raise Corrupt(f"the catalog's database is damaged: {cause(error)}", remedy="restore a backup") from error
    if "readonly database" in str(error.orig):
        raise PermissionDenied(
            "the catalog may only be read here", remedy="open it where its folder may be written"
        ) from error


def _raise_for_state(error: sa.exc.DBAPIError) -> None:
    """Raise plait's error for PostgreSQL's error code, if it is a known one. SQLite's errors have no code."""
    state = getattr(error.orig, "sqlstate", None)
    if state == _READ_ONLY:
        raise StoreUnavailable(
            f"the catalog's database takes no writes: {cause(error)}",
            remedy="if it is a standby, wait until it is promoted, or name the server that takes writes",
        ) from error
    if state == _NOT_GRANTED:
        raise PermissionDenied(
            f"the catalog's database refuses this user: {cause(error)}",
            remedy="connect as the owner of its tables, or be granted SELECT, INSERT, UPDATE and DELETE on them",
        ) from error
    if state in _NOT_WHOLE:
        raise Corrupt(
            f"the catalog's database is not whole: {cause(error)}", remedy="restore a whole backup"
        ) from error


def _remedy(error: sa.exc.DBAPIError) -> str:
    if is_full(error) or "disk I/O" in str(error.orig):  # SQLite's word where it cannot make room for a lock.
        return "free some space, or see what is wrong with the disk, and try again"
    if is_crowded(error):
        return "raise its max_connections, or end what else is connected: a process keeps up to 16 connections"
    return "check that the database runs, and try again"


def is_full(error: sa.exc.DBAPIError) -> bool:
    """Whether there is no room for what was to be written."""
    return "full" in str(error.orig) or "No space left" in str(error.orig)


def is_crowded(error: sa.exc.DBAPIError) -> bool:
    """Whether PostgreSQL refused a connection because it has as many as it allows."""
    return any(sign in str(error.orig) for sign in _SIGNS_OF_CROWDING)


def is_outlived(error: BaseException) -> bool:
    """Whether the connection's server no longer takes writes: after a failover, another server does."""
    return isinstance(error, sa.exc.DBAPIError) and getattr(error.orig, "sqlstate", None) == _READ_ONLY


def cause(error: sa.exc.DBAPIError) -> str:
    """The first line of the driver's own message."""
    return str(error.orig).strip().split("\n")[0]
