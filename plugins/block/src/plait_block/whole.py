"""What drivers have in common whose layers are each whole in itself: no chains, and a digest of all the content."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import ClassVar

from plait.codec import digest, pack
from plait.types import Depth

from plait_block import content
from plait_block.extents import NOTHING, Reader
from plait_block.layers import Known, Layer, Layers
from plait_block.ranges import Range


class WholeLayers(Layers):
    """Layers whose store shares what they have in common, below what plait sees."""

    flips: ClassVar[bool] = False

    @abstractmethod
    def reading(self, layer: Layer) -> AbstractContextManager[Reader]:
        """The layer's bytes."""

    @abstractmethod
    def _harden(self, layer: Layer) -> None:
        """Make the bytes immutable and durable. Repeat: no-op."""

    @abstractmethod
    def _size(self, layer: Layer) -> int | None:
        """How many bytes the layer's volume has; None where it is gone."""

    def written(self, layer: Layer) -> list[Range]:
        return self.changed(None if layer.parent is None else self.get(layer.parent), layer)

    def _hardened(self, layer: Layer, parent: Layer | None) -> Layer:
        self._harden(layer)
        self._failpoint("block.seal.before_record")
        return self._hashed(layer, parent)

    def _hashed(self, layer: Layer, parent: Layer | None) -> Layer:
        """With its sum, from its parent's and what changed."""
        pages = self._sum(parent, layer)
        return replace(layer, pages=pages, digest=_digest(layer.size_bytes, pages))

    def _sum(self, parent: Layer | None, layer: Layer) -> str:
        ranges = self.changed(parent, layer)
        with self.reading(layer) as after:
            if parent is None:
                return content.brought_up("", ranges, NOTHING, after)
            with self.reading(parent) as before:
                return content.brought_up(parent.pages, ranges, before, after)

    def verify(self, layer: Layer, depth: Depth, known: Known) -> tuple[int, list[str]]:
        """The layer alone: it needs no other."""
        return 1, self._problems(layer, depth)

    def _problems(self, layer: Layer, depth: Depth) -> list[str]:
        size = self._size(layer)
        if size is None:
            return [f"layer {layer.id} is missing: {self.image(layer)}"]
        if depth is Depth.EXISTS:
            return []
        if size != layer.size_bytes:
            return [f"layer {layer.id} is of {size} bytes, expected {layer.size_bytes}"]
        if not layer.is_sealed:
            return [f"layer {layer.id} was never sealed"]
        if layer.digest != _digest(layer.size_bytes, layer.pages):
            return [f"the record of layer {layer.id} does not hash to its digest"]
        if depth is Depth.BYTES and self._sum(None, layer) != layer.pages:
            return [f"layer {layer.id} holds other bytes than were committed: {self.image(layer)}"]
        return []


def _digest(size_bytes: int, pages: str) -> str:
    """Equal for equal content, whatever its history, and only for that."""
    return digest(b"block-volume", pack([size_bytes, pages])).hex()
