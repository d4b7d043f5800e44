"""Block volumes in plait: a branch is an overlay, a snapshot a frozen layer, every version is served over NBD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plait.hookspecs import hookimpl

if TYPE_CHECKING:
    from plait_block.adapter import BlockAdapter
    from plait_block.volume import Volume, Volumes

__all__ = ["BlockAdapter", "Volume", "Volumes", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kind `block`, imported when a store of it is opened."""
    return {"block": "plait_block.adapter:BlockAdapter"}


def __getattr__(name: str) -> object:
    if name in __all__:
        from plait_block import adapter, volume

        return getattr(adapter if name == "BlockAdapter" else volume, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
