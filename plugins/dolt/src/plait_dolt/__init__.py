"""Dolt databases in plait's history: branches, row and cell diffs, merges in isolation, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_dolt.adapter import DoltAdapter

if TYPE_CHECKING:
    import click

__all__ = ["DoltAdapter", "plait_register_adapters", "plait_register_commands"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `dolt`."""
    return [DoltAdapter]


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """`plait import dolt`."""
    import click

    from plait_dolt.commands import import_dolt

    return [click.Group("import", commands=[import_dolt])]
