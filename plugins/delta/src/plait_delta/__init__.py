"""Delta tables in plait's history: branches over one table's files, row diffs and merges, by deltalake's DeltaTable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plait.hookspecs import hookimpl

if TYPE_CHECKING:
    from plait_delta.adapter import DeltaAdapter

__all__ = ["DeltaAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kind `delta`; deltalake is imported with it."""
    return {"delta": "plait_delta.adapter:DeltaAdapter"}


def __getattr__(name: str) -> object:
    if name == "DeltaAdapter":
        from plait_delta.adapter import DeltaAdapter

        return DeltaAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
