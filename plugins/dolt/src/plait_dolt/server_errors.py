"""The errors of a Dolt SQL server and of PyMySQL as plait's."""

from __future__ import annotations

import re
from typing import Final

import pymysql
from plait.errors import Corrupt, NotFound, PermissionDenied, PlaitError, StoreUnavailable

from plait_dolt.engine import Refused

_LOST: Final = frozenset({2003, 2006, 2013, 2014, 2055, 1053, 4031})
"""MySQL's codes for a connection that is gone, or never came to be."""
CUT: Final = 2013
FULL: Final = 1040
"""MySQL's code for "Too many connections". Dolt (1.83) does not say it: it lets those who connect wait."""
_DENIED: Final = frozenset({1044, 1045, 1142, 1227, 1370})
_DENIED_TEXTS: Final = ("access denied", "command denied", "does not have the correct permissions", "read only mode")
_NO_DATABASE: Final = 1049
_DAMAGED: Final = re.compile(
    r"checksum error|\bEOF$|corrupted|invalid file signature|root hash doesn't exist"
    r"|^unexpected end of JSON input$|^invalid character .* (looking for|after) |repo_state\.json: no such file"
)
"""Dolt's words for chunks, or for a database's `repo_state.json`, that are not what was written."""


def translate(error: Exception, address: str) -> PlaitError:
    """A driver's error in plait's words; passwords are in none of them. `address`: what the server is told by."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    if code in _DENIED or any(words in text.lower() for words in _DENIED_TEXTS):
        return PermissionDenied(
            f"Dolt at {address} denies it: {text}",
            remedy="check user and password of the store's options, and its rights with 'plait store check'",
        )
    if code == _NO_DATABASE or text.startswith("database not found"):
        return NotFound(
            f"Dolt at {address} has no {text.partition(': ')[2] or text!r}",
            remedy="where a commit names it, 'plait verify' says what is lost",
        )
    if code == FULL:
        return StoreUnavailable(
            f"Dolt at {address} does not answer: {text}; all its max_connections may be in use, or it hangs",
            remedy="close clients of it or raise max_connections in its configuration, then retry; "
            "start it anew where it hangs",
        )
    if code in _LOST or isinstance(error, pymysql.err.InterfaceError) or "connection was killed" in text:
        remedy = "start its sql-server, then retry"
        if code == CUT:
            remedy += "; where it runs, 'plait verify --depth bytes' tells whether it is damage that ends connections"
        return StoreUnavailable(f"Dolt at {address} does not answer: {text}", remedy=remedy)
    if "no space left" in text:
        return StoreUnavailable(f"Dolt at {address} cannot write: {text}", remedy="make room on its disk")
    if text.endswith(": permission denied"):
        return PermissionDenied(
            f"Dolt at {address} may not read its own files: {text}",
            remedy="give them to the user whom its sql-server runs as",
        )
    if _DAMAGED.search(text):
        return Corrupt(f"Dolt at {address} cannot read what it holds: {text}", remedy="restore a backup")
    return Refused(text, what=f"Dolt at {address} refused a statement")
