"""Delta tables in plait's history: branches over one table's files, row diffs and merges, by deltalake's DeltaTable."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_delta.adapter import DeltaAdapter

__all__ = ["DeltaAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `delta`."""
    return [DeltaAdapter]
