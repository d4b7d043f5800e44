"""Iceberg tables in plait's history: branches, row diffs, row-level merges, with pyiceberg's own Table and Catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plait.hookspecs import hookimpl

if TYPE_CHECKING:
    import click

    from plait_iceberg.adapter import IcebergAdapter

__all__ = ["IcebergAdapter", "plait_register_adapters", "plait_register_commands"]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kind `iceberg`; pyiceberg is imported with it."""
    return {"iceberg": "plait_iceberg.adapter:IcebergAdapter"}


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """`plait import iceberg` and `plait export iceberg`."""
    import click

    from plait_iceberg.commands import export_iceberg, import_iceberg

    return [
        click.Group("import", commands=[import_iceberg]),
        click.Group("export", commands=[export_iceberg]),
    ]


def __getattr__(name: str) -> object:
    if name == "IcebergAdapter":
        from plait_iceberg.adapter import IcebergAdapter

        return IcebergAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
