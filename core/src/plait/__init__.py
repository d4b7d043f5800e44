"""One history for data that lives in many stores.

`init` makes a catalog, `open` opens one on this machine, `connect` reaches a served one; both give a `Catalog`.
"""

from __future__ import annotations

from plait.catalog import Catalog
from plait.connecting import connect, init, open
from plait.types import Choice, Depth, Mode, RefKind, Session, Strategy
from plait.working_set import WorkingSet

__all__ = [
    "Catalog",
    "Choice",
    "Depth",
    "Mode",
    "RefKind",
    "Session",
    "Strategy",
    "WorkingSet",
    "connect",
    "init",
    "open",
]
