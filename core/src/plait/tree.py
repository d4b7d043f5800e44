"""The prolly tree: an ordered map of bytes to bytes as content-addressed chunks.

A chunk ends where the hash of a key says so, never where a value does, so the tree is a function of the set of its
entries: equal contents ⇔ equal root, whatever the order of the writes. A change rewrites one path, two trees are
compared by skipping what has equal ids, and everything unchanged is shared.

    leaf      level 0    keys and values
    interior  level n    the last key of each child, and its id

Source: prolly trees as in Noms (https://github.com/attic-labs/noms, "Prolly Trees: Probabilistic B-Trees") and Dolt
(https://docs.dolthub.com/architecture/storage-engine/prolly-tree); boundaries by key hash, with hard limits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from plait.codec import digest
from plait.tree_diff import TreeChange, TreeJoin, diff, join, key_range, window
from plait.tree_nodes import (
    DEFAULT_SHAPE,
    Chunks,
    MemoryNodes,
    Node,
    NodeCache,
    NodeStore,
    Shape,
    decode_node,
    encode_node,
)
from plait.tree_writer import Writer

_AHEAD_MAX = 64

__all__ = ["DEFAULT_SHAPE", "MemoryNodes", "Node", "NodeCache", "NodeStore", "Shape", "Tree", "TreeChange", "TreeJoin"]


class Tree:
    """Trees of one store, salt and shape; a tree is named by its root's id. Thread-safe if the store is."""

    def __init__(
        self, nodes: NodeStore, *, salt: bytes, shape: Shape = DEFAULT_SHAPE, cache: NodeCache | None = None
    ) -> None:
        self._chunks = Chunks(nodes, salt=salt, shape=shape, cache=cache or NodeCache())

    @property
    def empty(self) -> bytes:
        """The root of the tree that holds nothing. `build(())` writes it."""
        return digest(b"node", encode_node(0, [], []))

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, root: bytes, key: bytes) -> bytes | None:
        """The key's value, or None. Cost: the tree's height in nodes."""
        return self.get_many(root, [key]).get(key)

    def get_many(self, root: bytes, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of the keys that exist. Cost: each node on their paths once, with one read per level."""
        found: dict[bytes, bytes] = {}
        level: dict[bytes, list[bytes]] = {root: sorted(set(keys))}
        while level:
            below: dict[bytes, list[bytes]] = {}
            for node_id, node in self._chunks.load_many(list(level)).items():
                for key in level[node_id]:
                    place = bisect_left(node.keys, key)
                    if place == len(node.keys):
                        continue
                    if node.level:
                        below.setdefault(node.values[place], []).append(key)
                    elif node.keys[place] == key:
                        found[key] = node.values[place]
            level = below
        return found

    def scan(
        self, root: bytes, *, prefix: bytes = b"", start: bytes = b"", stop: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Entries with this prefix and start <= key < stop, ascending, lazily.

        Cost: the nodes on the path to the first entry, one by one; then reads ahead, each time twice as many nodes in
        one read, up to `_AHEAD_MAX`. A caller that stops early has read at most twice the nodes that it needed.
        """
        low, high = key_range(prefix, start, stop)
        yield from self._scan(self._chunks.load(root), low, high, {})

    def _scan(self, node: Node, low: bytes, high: bytes | None, ahead: dict[int, int]) -> Iterator[tuple[bytes, bytes]]:
        """`ahead`: by level, how many children to read at the next read."""
        places = window(node, low, high)
        if not node.level:
            for place in places:
                yield node.keys[place], node.values[place]
            return
        while places:
            count = ahead.setdefault(node.level, 1)
            below = [node.values[place] for place in places[:count]]
            children = self._chunks.load_many(below)
            for child in below:
                yield from self._scan(children[child], low, high, ahead)
            places = places[count:]
            ahead[node.level] = min(2 * count, _AHEAD_MAX)

    def walk(
        self, root: bytes, *, skip: Callable[[bytes], bool] = lambda node_id: False
    ) -> Iterator[tuple[bytes, bytes]]:
        """(id, bytes) of every node under a root, children after their parent, none below where skip(id) is true."""
        pending = [root]
        while pending:
            wanted = [node_id for node_id in pending if not skip(node_id)]
            pending = []
            for start in range(0, len(wanted), 256):
                page = wanted[start : start + 256]
                stored = self._chunks.stored(page)
                for node_id in page:
                    node = decode_node(node_id, stored[node_id])
                    yield node_id, stored[node_id]
                    if node.level:
                        pending += node.values

    # -- writing -----------------------------------------------------------------------------------------------------

    def build(self, entries: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Build a tree of these entries, given in ascending key order. Returns: its root. Keeps one path in memory."""
        writer = Writer(self._chunks)
        root = writer.build(entries)
        writer.finish()
        return root

    def apply(self, root: bytes, edits: Mapping[bytes, bytes | None]) -> bytes:
        """The root after setting (or, with None, removing) these keys; the same root if that changes nothing.

        Cost: O(edits · log entries) nodes read and written, all writes in one put.
        """
        writer = Writer(self._chunks)
        changed = writer.apply(root, dict(edits))
        writer.finish()
        return changed

    # -- comparing ---------------------------------------------------------------------------------------------------

    def diff(self, before: bytes, after: bytes, *, prefix: bytes = b"") -> Iterator[TreeChange]:
        """What differs, ascending, lazily. Cost: O(changes · log entries) nodes; equal subtrees are never read."""
        return diff(self._chunks, before, after, prefix=prefix)

    def join(self, base: bytes, ours: bytes, theirs: bytes) -> Iterator[TreeJoin]:
        """Every key that ours or theirs changed since base, ascending, lazily. Cost: that of the two diffs."""
        return join(self._chunks, base, ours, theirs)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def node(self, node_id: bytes) -> Node:
        """One decoded chunk. Raises: Corrupt."""
        return self._chunks.load(node_id)

    def nodes(self, ids: Sequence[bytes]) -> dict[bytes, Node]:
        """Decoded chunks by id, those that are not in the cache with one read. Raises: Corrupt."""
        return self._chunks.load_many(ids)
