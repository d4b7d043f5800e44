"""Iceberg tables in plait's history: branches, row diffs, row-level merges, with pyiceberg's own Table and Catalog."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_iceberg.adapter import IcebergAdapter

__all__ = ["IcebergAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `iceberg`."""
    return [IcebergAdapter]
