"""Chunks of a prolly tree: their bytes, where they live, where they end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from plait.codec import FORMAT, digest, pack, unpack
from plait.errors import Corrupt


@dataclass(frozen=True, slots=True)
class Shape:
    """How large chunks are, in entries. Part of the stored format: trees of another shape have other roots."""

    entries_min: int = 8
    entries_target: int = 32
    entries_max: int = 128


DEFAULT_SHAPE = Shape()


class NodeStore(Protocol):
    """Where chunks live. Content-addressed: an id is the digest of the bytes, so a repeated put is harmless."""

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bytes of each id. Raises: Corrupt for one that is missing."""
        ...

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None: ...


class MemoryNodes:
    """Chunks in a dict, for tests, and for manifests being built. Counts reads, by node and by call, and writes."""

    def __init__(self, nodes: Mapping[bytes, bytes] | None = None) -> None:
        self.nodes = dict(nodes or {})
        self.read, self.written, self.asked = 0, 0, 0

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        self.asked += 1
        self.read += len(ids)
        try:
            return {node_id: self.nodes[node_id] for node_id in ids}
        except KeyError as error:
            raise Corrupt(f"tree node {error.args[0].hex()} is missing") from error

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        self.written += len(nodes)
        self.nodes.update(nodes)


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded chunk: keys ascending; values, or the ids of children whose last keys they are."""

    level: int
    keys: list[bytes]
    values: list[bytes]


class NodeCache:
    """Decoded chunks by id, the oldest dropped first. Content-addressed, so never stale; shared by many trees."""

    def __init__(self, nodes_max: int = 8192) -> None:
        self._nodes: dict[bytes, Node] = {}
        self._nodes_max = nodes_max
        self._lock = threading.Lock()

    def get(self, node_id: bytes) -> Node | None:
        return self._nodes.get(node_id)

    def put(self, node_id: bytes, node: Node) -> None:
        with self._lock:
            self._nodes[node_id] = node
            if len(self._nodes) > self._nodes_max:
                for oldest in list(self._nodes)[: self._nodes_max // 8]:
                    del self._nodes[oldest]


_BOUNDARIES_MAX = 1 << 16
"""Remembered answers of `may_end`: a writer asks about the same neighbours again and again."""


class Chunks:
    """The chunks of one store, decoded, and where this salt and shape end them. Thread-safe if the store is."""

    def __init__(self, nodes: NodeStore, *, salt: bytes, shape: Shape, cache: NodeCache) -> None:
        self.shape = shape
        self._nodes = nodes
        self._salt = salt
        self._cache = cache
        self._boundaries: dict[tuple[int, bytes], bool] = {}
        # A boundary can fall from entry `entries_min` on; from there the length is geometric with this mean.
        self._threshold = (1 << 32) // max(1, shape.entries_target - shape.entries_min + 1)

    def load(self, node_id: bytes) -> Node:
        """One chunk. Raises: Corrupt."""
        return self._cache.get(node_id) or self.load_many([node_id])[node_id]

    def load_many(self, ids: Sequence[bytes]) -> dict[bytes, Node]:
        """Chunks by id, those that are not in the cache in one read. Raises: Corrupt."""
        loaded: dict[bytes, Node] = {}
        missing = []
        for node_id in ids:
            node = self._cache.get(node_id)
            if node is None:
                missing.append(node_id)
            else:
                loaded[node_id] = node
        if missing:
            stored = self._nodes.get_many(missing)
            for node_id in missing:
                loaded[node_id] = node = decode_node(node_id, stored[node_id])
                self._cache.put(node_id, node)
        return loaded

    def stored(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bytes of chunks as they are stored, past the cache. Raises: Corrupt for one that is missing."""
        return self._nodes.get_many(ids)

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        self._nodes.put_many(nodes)

    def cached(self, node_id: bytes) -> Node | None:
        return self._cache.get(node_id)

    def keep(self, node_id: bytes, node: Node) -> None:
        """Put a chunk that was just made into the cache: it is read next."""
        self._cache.put(node_id, node)

    def may_end(self, level: int, key: bytes) -> bool:
        """Whether a chunk of this level may end after this key."""
        known = self._boundaries.get((level, key))
        if known is None:
            hashed = hashlib.blake2b(key, digest_size=4, key=self._salt, person=b"plait%d" % level)
            known = int.from_bytes(hashed.digest(), "big") < self._threshold
            if len(self._boundaries) >= _BOUNDARIES_MAX:
                self._boundaries.clear()
            self._boundaries[level, key] = known
        return known


def encode_node(level: int, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    return pack([FORMAT, level, keys, values])


def decode_node(node_id: bytes, data: bytes) -> Node:
    """Raises: Corrupt naming the node whose bytes are not those that its id was made of."""
    if digest(b"node", data) != node_id:
        raise Corrupt(f"tree node {node_id.hex()} holds other bytes than were written", remedy="restore a backup")
    version, level, keys, values = unpack(data, f"tree node {node_id.hex()}")
    if version != FORMAT:
        raise Corrupt(f"tree node {node_id.hex()} has format {version}, expected {FORMAT}")
    return Node(level, keys, values)
