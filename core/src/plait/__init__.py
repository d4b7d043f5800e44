"""One history for data that lives in many stores.

`init` makes a catalog, `open` opens one on this machine, `connect` reaches a served one; both give a `Catalog`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "Catalog": "catalog",
    "Choice": "types",
    "Depth": "types",
    "Mode": "types",
    "RefKind": "types",
    "Session": "types",
    "Strategy": "types",
    "WorkingSet": "working_set",
    "connect": "connecting",
    "init": "connecting",
    "open": "connecting",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for: `plait --help` does not wait a second for SQLAlchemy."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    found: object = getattr(import_module(f"plait.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
