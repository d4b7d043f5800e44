"""How native things are named: every branch and tag of plait's own begins with ``plait/`` and carries a transaction.

    plait/w/<tx>/<intent>                  branch: where a transaction writes one asset
    plait/m/<tx>/<join>/<step>             branch: scratch work of a merge, gone when it ends
    plait/txn/<tx>/<attempt>/<intent>      tag: THE record of a prepare, put if absent
    plait/txn/<tx>/<attempt>/join-<hash>   tag: what a merge or a succession made, by all arguments
    plait/txn/<tx>/head/<commit>           tag: a native head that was described
    plait/found/<commit>                   tag: a native head that was found where plait did not put it
    plait/kept/<commit>                    tag: on doltlite, what a commit keeps, with all that it descends from

A place is ``<database>/<branch>``, which Dolt's own clients take as a database's name.
"""

from __future__ import annotations

import re
from typing import Final

from plait.errors import InvalidArgument
from plait.types import Key, Staging

OWN: Final = "plait/"
FOUND: Final = "plait/found/"
KEPT: Final = "plait/kept/"
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
_NAME_MAX = 40


def checked_id(text: str) -> str:
    """An id that may be part of a branch's name. Raises: InvalidArgument."""
    if not _ID.match(text):
        raise InvalidArgument(f"{text!r} is no working set's id")
    return text


def staging_branch(tx: str, intent: str) -> str:
    return f"{OWN}w/{checked_id(tx)}/{checked_id(intent)}"


def scratch_branch(tx: str, join: str, step: str) -> str:
    return f"{OWN}m/{checked_id(tx)}/{join}/{step}"


def attempt_tag(tx: str, attempt: int, intent: str) -> str:
    return f"{OWN}txn/{checked_id(tx)}/{attempt}/{intent}"


def join_tag(tx: str, attempt: int, join: str) -> str:
    return f"{OWN}txn/{checked_id(tx)}/{attempt}/join-{join}"


def head_tag(tx: str, commit: str) -> str:
    return f"{OWN}txn/{checked_id(tx)}/head/{commit}"


def branches_of(tx: str) -> tuple[str, str]:
    """The beginnings of a transaction's branches: stagings, scratch work."""
    return f"{OWN}w/{checked_id(tx)}/", f"{OWN}m/{checked_id(tx)}/"


def tags_of(tx: str) -> str:
    return f"{OWN}txn/{checked_id(tx)}/"


def place(database: str, branch: str) -> str:
    return f"{database}/{branch}"


def database_of(staging: Staging) -> str:
    return staging.location.partition("/")[0]


def branch_of(staging: Staging) -> str:
    return staging.location.partition("/")[2]


def intent_of(staging: Staging) -> str:
    return staging.location.rpartition("/")[2]


def wanted_database(key: Key) -> str:
    """What a new database would be called after its key, were the name free."""
    text = "_".join(key[1:]) or key[0]
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:_NAME_MAX]


def claim(tx: str, intent: str) -> bytes:
    """What says in the adapter's state who made a database."""
    return f"{tx} {intent}".encode()


def quote(name: str) -> str:
    """An identifier, as both MySQL's dialect and SQLite's take it, in a statement whose parameters are ``%s``."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"
