"""(being written) The prolly tree: an ordered map of bytes to bytes as content-addressed chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Shape:
    """How large chunks are, in entries. Part of the stored format: trees of another shape have other roots."""

    entries_min: int = 8
    entries_target: int = 32
    entries_max: int = 128


class NodeStore(Protocol):
    """Where chunks live. Content-addressed: an id is the digest of the bytes, so a repeated put is harmless."""

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bytes of each id. Raises: Corrupt for one that is missing."""
        ...

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class TreeChange:
    key: bytes
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class TreeJoin:
    """One key that ours or theirs changed since base."""

    key: bytes
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None


class Tree:
    def __init__(self, nodes: NodeStore, *, salt: bytes, shape: Shape = Shape()) -> None: ...
    @property
    def empty(self) -> bytes: ...
    def build(self, entries: Iterable[tuple[bytes, bytes]]) -> bytes: ...
    def get(self, root: bytes, key: bytes) -> bytes | None: ...
    def get_many(self, root: bytes, keys: Iterable[bytes]) -> dict[bytes, bytes]: ...
    def scan(
        self, root: bytes, *, prefix: bytes = b"", start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]: ...
    def apply(self, root: bytes, edits: Mapping[bytes, bytes | None]) -> bytes: ...
    def diff(self, before: bytes, after: bytes, *, prefix: bytes = b"") -> Iterator[TreeChange]: ...
    def join(self, base: bytes, ours: bytes, theirs: bytes) -> Iterator[TreeJoin]: ...
    def walk(self, root: bytes, *, skip=lambda node_id: False) -> Iterator[tuple[bytes, bytes]]: ...
