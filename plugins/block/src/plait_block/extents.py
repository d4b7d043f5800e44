"""What differs between two volumes, by extent: of the ranges that may, as the layers say, those whose bytes do.

Nothing but those ranges is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from plait.errors import InvalidArgument
from plait.types import Json

from plait_block.ranges import Range, union

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


class _Nothing:
    size_bytes: int = 0

    def read_many(self, ranges: Iterable[Range]) -> Iterator[bytes]:
        return (b"" for _ in ranges)


NOTHING: Final[Reader] = _Nothing()
"""The side that does not exist."""


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
    """Hashed from the first byte that is not zero on: of what is nothing but zeroes no digest is shown."""

    sha256: hashlib._Hash | None = None
    zeroes: int = 0

    def add(self, part: bytes) -> None:
        if self.sha256 is None:
            if part == bytes(len(part)):
                self.zeroes += len(part)
                return
            self.sha256 = hashlib.sha256(bytes(self.zeroes))
        self.sha256.update(part)

    def describe(self, extent: Range) -> Json:
        if self.sha256 is None:
            return None
        return {"offset": extent[0], "length": extent[1] - extent[0], "sha256": self.sha256.hexdigest()}


def differing(ranges: Iterable[Range], one: Reader, other: Reader) -> Iterator[Difference]:
    """The pages within these ranges whose bytes differ, joined where they touch. Nothing else is read."""
    last: Difference | None = None
    for at, left, right in pages(ranges, one, other):
        if last is None or last.extent[1] != at:
            if last is not None:
                yield last
            last = Difference((at, at), _Content(), _Content())
        last.extent = last.extent[0], at + len(left)
        last._before.add(left)
        last._after.add(right)
    if last is not None:
        yield last


def pages(ranges: Iterable[Range], one: Reader, other: Reader) -> Iterator[tuple[int, bytes, bytes]]:
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
    whole = ((start // PAGE * PAGE, -(-end // PAGE) * PAGE) for start, end in ranges)
    for start, end in union(whole, gap=_GAP_MAX):
        for at in range(start, min(end, size_bytes), CHUNK):
            yield at, min(at + CHUNK, end, size_bytes)


def read_many(reader: Reader, ranges: Sequence[Range]) -> Iterator[bytes]:
    """Bytes of ranges, in order, zeroes where they lie behind the volume's end."""
    if max((end for _, end in ranges), default=0) <= reader.size_bytes:
        return reader.read_many(ranges)
    return _padded(reader, ranges)


def _padded(reader: Reader, ranges: Sequence[Range]) -> Iterator[bytes]:
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
