"""Iceberg tables in plait's history: branches, row diffs, row-level merges, with pyiceberg's own Table and Catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_iceberg.adapter import IcebergAdapter

if TYPE_CHECKING:
    import click

__all__ = ["IcebergAdapter", "plait_register_adapters", "plait_register_commands"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `iceberg`."""
    return [IcebergAdapter]


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """`plait import iceberg` and `plait export iceberg`."""
    import click

    from plait_iceberg.commands import export_iceberg, import_iceberg

    return [
        click.Group("import", commands=[import_iceberg]),
        click.Group("export", commands=[export_iceberg]),
    ]
