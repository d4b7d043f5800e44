"""Block volumes in plait: a branch is an overlay, a snapshot a frozen layer, every version is served over NBD."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_block.adapter import BlockAdapter
from plait_block.volume import Volume, Volumes

__all__ = ["BlockAdapter", "Volume", "Volumes", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `block`."""
    return [BlockAdapter]
