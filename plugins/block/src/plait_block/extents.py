"""What differs between two volumes, by extent: which ranges may, from the layers' own extents, and then by their bytes.

Nothing but those ranges is read. Ranges are (start, end) in bytes, sorted and apart from each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from plait.errors import InvalidArgument
from plait.types import Json

from plait_block import images
from plait_block.layers import Layer, Layers

Range = tuple[int, int]
PAGE: Final = 4096
"""The grain of what is compared: a sub-cluster, and a page of every filesystem."""
CHUNK: Final = 1 << 20
_GAP_MAX: Final = 64 << 10
"""Reading over a small gap costs less than one more request; equal bytes there make no difference."""
_ITEM: Final = re.compile(r"@(\d+)\+(\d+)")


class Reader(Protocol):
    """Something that holds a volume's bytes."""

    @property
    def size_bytes(self) -> int: ...

    def read_many(self, ranges: Iterable[Range]) -> Iterator[bytes]: ...


# -- ranges ------------------------------------------------------------------------------------------------------------


def union(*lists: Iterable[Range], gap: int = 0) -> list[Range]:
    """All ranges as one list; those at most `gap` apart become one."""
    merged: list[Range] = []
    for start, end in sorted(one for ranges in lists for one in ranges):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def intersection(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    """Where both are."""
    found: list[Range] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """The parts of ranges that are not in `taken`."""
    found: list[Range] = []
    for start, end in ranges:
        for low, high in taken:
            if high <= start or low >= end:
                continue
            if low > start:
                found.append((start, low))
            start = max(start, high)
        if start < end:
            found.append((start, end))
    return found


# -- what may differ ---------------------------------------------------------------------------------------------------


def candidates(layers: Layers, before: Layer | None, after: Layer | None) -> list[Range]:
    """Ranges that may differ between two layers: what the layers on the ways to their common ancestor hold.

    Without one, or where a layer on the way is gone (collected), everything that either holds.
    Cost: O(extents of these layers), and no data is read.
    """
    old, new = ([] if side is None else list(layers.lineage(side.id)) for side in (before, after))
    ancestors = {layer.id for layer in old}
    common = next((layer.id for layer in new if layer.id in ancestors), None)
    ranges = []
    for lineage in (old, new):
        for layer in lineage:
            if layer.id == common:
                break
            ranges.append(_own(layers, layer))
        if common is None and lineage and lineage[-1].parent is not None:
            ranges.append(images.own_extents(layers.below(lineage[-1].parent)[0], is_root=True))
    return union(*ranges)


def _own(layers: Layers, layer: Layer) -> list[Range]:
    return images.own_extents(layers.image(layer), is_root=layer.parent is None)


# -- what differs ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Difference:
    """An extent whose bytes differ, and the digests of both sides' bytes; what lies behind an end is zero."""

    extent: Range
    _before: _Content
    _after: _Content

    @property
    def before(self) -> Json:
        """The content, as diffs show it; None where it is nothing but zeroes."""
        return self._before.describe(self.extent)

    @property
    def after(self) -> Json:
        return self._after.describe(self.extent)


@dataclass(slots=True)
class _Content:
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    is_zero: bool = True

    def add(self, page: bytes) -> None:
        self.sha256.update(page)
        self.is_zero = self.is_zero and not any(page)

    def describe(self, extent: Range) -> Json:
        if self.is_zero:
            return None
        return {"offset": extent[0], "length": extent[1] - extent[0], "sha256": self.sha256.hexdigest()}


def differing(ranges: Iterable[Range], one: Reader, other: Reader) -> Iterator[Difference]:
    """The pages within these ranges whose bytes differ, joined where they touch. Nothing else is read."""
    last: Difference | None = None
    for at, left, right in _pages(ranges, one, other):
        if last is None or last.extent[1] != at:
            if last is not None:
                yield last
            last = Difference((at, at), _Content(), _Content())
        last.extent = last.extent[0], at + len(left)
        last._before.add(left)
        last._after.add(right)
    if last is not None:
        yield last


def _pages(ranges: Iterable[Range], one: Reader, other: Reader) -> Iterator[tuple[int, bytes, bytes]]:
    """Each page that differs, with both contents."""
    chunks = list(_chunks(ranges, max(one.size_bytes, other.size_bytes)))
    pairs = zip(chunks, read_many(one, chunks), read_many(other, chunks), strict=True)
    for (start, end), left, right in pairs:
        if left == right:
            continue
        for at in range(0, end - start, PAGE):
            if left[at : at + PAGE] != right[at : at + PAGE]:
                yield start + at, left[at : at + PAGE], right[at : at + PAGE]


def _chunks(ranges: Iterable[Range], size_bytes: int) -> Iterator[Range]:
    pages = ((start // PAGE * PAGE, -(-end // PAGE) * PAGE) for start, end in ranges)
    for start, end in union(pages, gap=_GAP_MAX):
        for at in range(start, min(end, size_bytes), CHUNK):
            yield at, min(at + CHUNK, end, size_bytes)


def read_many(reader: Reader, ranges: Sequence[Range]) -> Iterator[bytes]:
    """Bytes of ranges, in order, zeroes where they lie behind the volume's end."""
    inside = ((min(start, reader.size_bytes), min(end, reader.size_bytes)) for start, end in ranges)
    for (start, end), content in zip(ranges, reader.read_many(inside), strict=True):
        yield content.ljust(end - start, b"\0")


def chunks_of(extent: Range) -> Iterator[Range]:
    """An extent in parts that fit into memory."""
    for at in range(extent[0], extent[1], CHUNK):
        yield at, min(at + CHUNK, extent[1])


# -- as items ----------------------------------------------------------------------------------------------------------


def item_of(extent: Range) -> str:
    """An extent as an item's text: `@offset+length`."""
    return f"@{extent[0]}+{extent[1] - extent[0]}"


def extent_of(item: str) -> Range | None:
    """The extent that an item's text names, or None when it names something else."""
    match = _ITEM.fullmatch(item)
    return None if match is None else (int(match[1]), int(match[1]) + int(match[2]))


def check_inside(extent: Range, size_bytes: int) -> Range:
    """Raises: InvalidArgument."""
    if extent[0] >= extent[1] or extent[1] > size_bytes:
        raise InvalidArgument(f"extent {item_of(extent)} is outside of the volume, which has {size_bytes} bytes")
    return extent


def describe(reader: Reader, extent: Range) -> Json:
    """An extent's content, as conflicts show it; None where it is nothing but zeroes."""
    content = _Content()
    for part in read_many(reader, list(chunks_of(extent))):
        content.add(part)
    return content.describe(extent)
