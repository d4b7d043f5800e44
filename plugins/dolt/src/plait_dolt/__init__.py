"""Dolt databases in plait's history: branches, row and cell diffs, merges in isolation, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plait.hookspecs import hookimpl

if TYPE_CHECKING:
    from plait_dolt.adapter import DoltAdapter

__all__ = ["DoltAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kind `dolt`; SQLAlchemy and PyMySQL are imported with it."""
    return {"dolt": "plait_dolt.adapter:DoltAdapter"}


def __getattr__(name: str) -> object:
    if name == "DoltAdapter":
        from plait_dolt.adapter import DoltAdapter

        return DoltAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
