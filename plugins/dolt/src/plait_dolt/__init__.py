"""Dolt databases in plait's history: branches, row and cell diffs, merges in isolation, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_dolt.adapter import DoltAdapter

__all__ = ["DoltAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `dolt`."""
    return [DoltAdapter]
