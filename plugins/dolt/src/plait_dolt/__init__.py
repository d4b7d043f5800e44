"""Dolt databases in plait's history: branches, row and cell diffs, merges in isolation, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plait.hookspecs import hookimpl

if TYPE_CHECKING:
    import click

    from plait_dolt.adapter import DoltAdapter

__all__ = ["DoltAdapter", "plait_register_adapters", "plait_register_commands"]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kind `dolt`; SQLAlchemy and PyMySQL are imported with it."""
    return {"dolt": "plait_dolt.adapter:DoltAdapter"}


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """`plait import dolt`."""
    import click

    from plait_dolt.commands import import_dolt

    return [click.Group("import", commands=[import_dolt])]


def __getattr__(name: str) -> object:
    if name == "DoltAdapter":
        from plait_dolt.adapter import DoltAdapter

        return DoltAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
