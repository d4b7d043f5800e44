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

import hashlib
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Chunks in a dict, with counts of what was read and written: for tests, and for manifests being built."""

    def __init__(self, nodes: Mapping[bytes, bytes] | None = None) -> None:
        self.nodes = dict(nodes or {})
        self.read, self.written = 0, 0

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        self.read += len(ids)
        try:
            return {node_id: self.nodes[node_id] for node_id in ids}
        except KeyError as error:
            raise Corrupt(f"tree node {error.args[0].hex()} is missing") from error

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        self.written += len(nodes)
        self.nodes.update(nodes)


@dataclass(frozen=True, slots=True)
class TreeChange:
    """One key between two trees; None means absent."""

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
"""Remembered answers of `ends_chunk`: a writer asks about the same neighbours again and again."""

Entries = list[tuple[bytes, bytes]]
Edits = dict[bytes, bytes | None]


class Tree:
    """Trees of one store, salt and shape; a tree is named by its root's id. Thread-safe if the store is."""

    def __init__(
        self, nodes: NodeStore, *, salt: bytes, shape: Shape = DEFAULT_SHAPE, cache: NodeCache | None = None
    ) -> None:
        self._nodes = nodes
        self._salt = salt
        self._shape = shape
        self._cache = cache or NodeCache()
        # A boundary can fall from entry `entries_min` on; from there the length is geometric with this mean.
        self._boundaries: dict[tuple[int, bytes], bool] = {}
        self._threshold = (1 << 32) // max(1, shape.entries_target - shape.entries_min + 1)

    @property
    def empty(self) -> bytes:
        """The root of the tree that holds nothing. `build(())` writes it."""
        return digest(b"node", _encode(0, [], []))

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, root: bytes, key: bytes) -> bytes | None:
        """The key's value, or None. Cost: the tree's height in nodes."""
        return self.get_many(root, [key]).get(key)

    def get_many(self, root: bytes, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are there. Cost: each node on their paths once, one read a level."""
        found: dict[bytes, bytes] = {}
        level: dict[bytes, list[bytes]] = {root: sorted(set(keys))}
        while level:
            below: dict[bytes, list[bytes]] = {}
            for node_id, node in self._load_many(list(level)).items():
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
        """Entries with this prefix and start <= key < stop, ascending, lazily."""
        low, high = _range(prefix, start, stop)
        yield from self._scan(root, low, high)

    def _scan(self, node_id: bytes, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        node = self._load(node_id)
        for place in _window(node, low, high):
            if node.level:
                yield from self._scan(node.values[place], low, high)
            else:
                yield node.keys[place], node.values[place]

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
                stored = self._nodes.get_many(page)
                for node_id in page:
                    node = _decode(node_id, stored[node_id])
                    yield node_id, stored[node_id]
                    if node.level:
                        pending += node.values

    # -- writing -----------------------------------------------------------------------------------------------------

    def build(self, entries: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The root of a tree of these entries, given in ascending key order; memory for one path only."""
        writer = _Writer(self)
        root = writer.build(entries)
        writer.finish()
        return root

    def apply(self, root: bytes, edits: Mapping[bytes, bytes | None]) -> bytes:
        """The root after setting (or, with None, removing) these keys; the same root if that changes nothing.

        Cost: O(edits · log entries) nodes read and written, all writes in one put.
        """
        writer = _Writer(self)
        changed = writer.apply(root, dict(edits))
        writer.finish()
        return changed

    def ends_chunk(self, level: int, key: bytes) -> bool:
        """Whether a chunk of this level may end after this key."""
        known = self._boundaries.get((level, key))
        if known is None:
            hashed = hashlib.blake2b(key, digest_size=4, key=self._salt, person=b"plait%d" % level)
            known = int.from_bytes(hashed.digest(), "big") < self._threshold
            if len(self._boundaries) >= _BOUNDARIES_MAX:
                self._boundaries.clear()
            self._boundaries[level, key] = known
        return known

    # -- comparing ---------------------------------------------------------------------------------------------------

    def diff(self, before: bytes, after: bytes, *, prefix: bytes = b"") -> Iterator[TreeChange]:
        """What differs, ascending, lazily. Cost: O(changes · log entries) nodes; equal subtrees are never read."""
        low, high = _range(prefix, b"", None)
        left, right = _Cursor(self, before, low, high), _Cursor(self, after, low, high)
        while True:
            if left.at_subtree and right.at_subtree:
                if left.subtree == right.subtree:
                    left.skip()
                    right.skip()
                else:
                    # The higher one first: the two line up again where their boundaries do.
                    level = max(left.level, right.level)
                    if left.level == level:
                        left.descend()
                    if right.level == level:
                        right.descend()
            elif left.at_subtree:
                left.descend()
            elif right.at_subtree:
                right.descend()
            elif left.at_end and right.at_end:
                return
            elif right.at_end or (not left.at_end and left.key < right.key):
                yield TreeChange(left.key, left.take(), None)
            elif left.at_end or right.key < left.key:
                yield TreeChange(right.key, None, right.take())
            else:
                key, old, new = left.key, left.take(), right.take()
                if old != new:
                    yield TreeChange(key, old, new)

    def join(self, base: bytes, ours: bytes, theirs: bytes) -> Iterator[TreeJoin]:
        """Every key that ours or theirs changed since base, ascending, lazily. Cost: that of the two diffs."""
        left, right = self.diff(base, ours), self.diff(base, theirs)
        ours_change, theirs_change = next(left, None), next(right, None)
        while ours_change is not None or theirs_change is not None:
            if theirs_change is None or (ours_change is not None and ours_change.key < theirs_change.key):
                assert ours_change is not None
                yield TreeJoin(ours_change.key, ours_change.before, ours_change.after, ours_change.before)
                ours_change = next(left, None)
            elif ours_change is None or theirs_change.key < ours_change.key:
                yield TreeJoin(theirs_change.key, theirs_change.before, theirs_change.before, theirs_change.after)
                theirs_change = next(right, None)
            else:
                yield TreeJoin(ours_change.key, ours_change.before, ours_change.after, theirs_change.after)
                ours_change, theirs_change = next(left, None), next(right, None)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def node(self, node_id: bytes) -> Node:
        """One decoded chunk. Raises: Corrupt."""
        return self._load(node_id)

    def _load(self, node_id: bytes) -> Node:
        return self._cache.get(node_id) or self._load_many([node_id])[node_id]

    def _load_many(self, ids: Sequence[bytes]) -> dict[bytes, Node]:
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
                loaded[node_id] = node = _decode(node_id, stored[node_id])
                self._cache.put(node_id, node)
        return loaded


class _Cursor:
    """One side of a diff: a stack of what is still ahead in key order, opened only as far as needed."""

    __slots__ = ("_end", "_high", "_leaf", "_low", "_place", "_stack", "_tree", "level", "subtree")

    def __init__(self, tree: Tree, root: bytes, low: bytes, high: bytes | None) -> None:
        self._tree = tree
        self._low, self._high = low, high
        self._stack: list[tuple[bytes, int]] = []
        self._leaf: Node | None = None
        self._place, self._end = 0, 0
        self.subtree, self.level = root, tree._load(root).level

    @property
    def at_subtree(self) -> bool:
        return self._leaf is None and self.level >= 0

    @property
    def at_end(self) -> bool:
        return self._leaf is None and self.level < 0

    @property
    def key(self) -> bytes:
        assert self._leaf is not None
        return self._leaf.keys[self._place]

    def take(self) -> bytes:
        """The value here, and go on."""
        assert self._leaf is not None
        value = self._leaf.values[self._place]
        self._place += 1
        self._settle()
        return value

    def skip(self) -> None:
        """Leave the subtree unread."""
        if self._stack:
            self.subtree, self.level = self._stack.pop()
        else:
            self.level = -1

    def descend(self) -> None:
        """Open the subtree."""
        node = self._tree._load(self.subtree)
        window = _window(node, self._low, self._high)
        if node.level:
            self._stack += [(node.values[place], node.level - 1) for place in reversed(window)]
            self.skip()
        else:
            self.skip()
            self._leaf, self._place, self._end = node, window.start, window.stop
            self._settle()

    def _settle(self) -> None:
        assert self._leaf is not None
        if self._place >= self._end:
            self._leaf = None


class _Writer:
    """One build or apply: collects new nodes, children before parents, and puts them at its end."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._added: dict[bytes, bytes] = {}

    def finish(self) -> None:
        if self._added:
            self._tree._nodes.put_many(self._added)

    def build(self, entries: Iterable[tuple[bytes, bytes]], level: int = 0) -> bytes:
        """The root over these entries of one level: chunks of chunks until there is one."""
        above: Entries = []
        chunker = _Chunker(self, level, above.append)
        previous: bytes | None = None
        for key, value in entries:
            if previous is not None and key <= previous:
                raise ValueError(f"entries are not in ascending key order: {previous!r} before {key!r}")
            previous = key
            chunker.add(key, value)
            if len(self._added) >= 4096:
                self.finish()
                self._added = {}
        chunker.end()
        if not above:
            return self.emit(0, [], [])
        return above[0][1] if len(above) == 1 else self.build(above, level + 1)

    def emit(self, level: int, keys: list[bytes], values: list[bytes]) -> bytes:
        data = _encode(level, keys, values)
        node_id = digest(b"node", data)
        self._added[node_id] = data
        self._tree._cache.put(node_id, Node(level, keys, values))
        return node_id

    def apply(self, root: bytes, edits: Edits) -> bytes:
        top = self._tree._load(root)
        if not top.keys:
            entries = sorted((key, value) for key, value in edits.items() if value is not None)
            return self.build(entries) if entries else root
        for level in range(top.level + 1):
            edits = self._rechunk(root, level, edits)
            if not edits:
                return root
        tops: Edits = {top.keys[-1]: root, **edits}
        entries = sorted((key, value) for key, value in tops.items() if value is not None)
        changed = self.build(entries, top.level + 1) if len(entries) != 1 else entries[0][1]
        return self._without_single_children(changed)

    def _rechunk(self, root: bytes, level: int, edits: Edits) -> Edits:
        """Rewrite the chunks of one level that the edits fall into: what that changes one level up.

        Rewriting goes on into the following chunk until a new boundary falls on an old one; all after it is as it was.
        """
        above: Edits = {}
        keys = sorted(edits)
        place = 0
        while place < len(keys):
            chunk, is_last = self._find(root, level, keys[place])
            emitted: Entries = []
            chunker = _Chunker(self, level, emitted.append)
            replaced: Edits = {}
            while True:
                replaced[chunk.keys[-1]] = None
                end = len(keys) if is_last else bisect_left(keys, chunk.keys[-1] + b"\0", place)
                if chunker.is_empty and (values := _replaced(chunk, keys[place:end], edits)) is not None:
                    # The same keys end the same chunk: what every level above the leaves does for most changes.
                    if values == chunk.values:
                        del replaced[chunk.keys[-1]]
                    else:
                        emitted.append((chunk.keys[-1], self.emit(level, chunk.keys, values)))
                    place = end
                    break
                for key, value in _overlay(chunk, keys[place:end], edits):
                    chunker.add(key, value)
                place = end
                if is_last or chunker.is_empty:
                    break
                chunk, is_last = self._find(root, level, chunk.keys[-1] + b"\0")
            chunker.end()
            replaced.update(emitted)
            above.update(replaced)
        return self._effective(root, level, above)

    def _effective(self, root: bytes, level: int, above: Edits) -> Edits:
        """The edits one level up, without those that put there what is there."""
        top = self._tree._load(root)
        if level == top.level:
            return {key: value for key, value in above.items() if (key, value) != (top.keys[-1], root)}
        effective: Edits = {}
        for key, value in above.items():
            parent, _ = self._find(root, level + 1, key)
            place = bisect_left(parent.keys, key)
            held = parent.values[place] if place < len(parent.keys) and parent.keys[place] == key else None
            if held == value and value is not None:
                del self._added[value]
            if held != value:
                effective[key] = value
        return effective

    def _find(self, root: bytes, level: int, key: bytes) -> tuple[Node, bool]:
        """The chunk of this level where the key belongs, and whether it is the level's last."""
        node, is_last = self._tree._load(root), True
        while node.level > level:
            place = min(bisect_left(node.keys, key), len(node.keys) - 1)
            is_last = is_last and place == len(node.keys) - 1
            node = self._tree._load(node.values[place])
        return node, is_last

    def _without_single_children(self, root: bytes) -> bytes:
        while True:
            # What was just emitted is not stored yet, and other users of the cache may have pushed it out.
            added = self._added.get(root)
            node = self._tree._load(root) if added is None else _decode(root, added)
            if not node.level or len(node.keys) > 1:
                return root
            self._added.pop(root, None)
            root = node.values[0]


class _Chunker:
    """Cuts a run of entries of one level into chunks, and tells of each by its last key and id."""

    __slots__ = ("_keys", "_level", "_on_chunk", "_shape", "_values", "_writer")

    def __init__(self, writer: _Writer, level: int, on_chunk: Callable[[tuple[bytes, bytes]], None]) -> None:
        self._writer, self._level, self._on_chunk = writer, level, on_chunk
        self._shape = writer._tree._shape
        self._keys: list[bytes] = []
        self._values: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        return not self._keys

    def add(self, key: bytes, value: bytes) -> None:
        self._keys.append(key)
        self._values.append(value)
        count = len(self._keys)
        if count >= self._shape.entries_min and (
            count >= self._shape.entries_max or self._writer._tree.ends_chunk(self._level, key)
        ):
            self.end()

    def end(self) -> None:
        if self._keys:
            node_id = self._writer.emit(self._level, self._keys, self._values)
            self._on_chunk((self._keys[-1], node_id))
            self._keys, self._values = [], []


def _replaced(chunk: Node, keys: Sequence[bytes], edits: Mapping[bytes, bytes | None]) -> list[bytes] | None:
    """The chunk's values after edits that only replace values; None when a key comes or goes."""
    values = list(chunk.values)
    for key in keys:
        place, value = bisect_left(chunk.keys, key), edits[key]
        is_there = place < len(chunk.keys) and chunk.keys[place] == key
        if not is_there and value is None:
            continue
        if not is_there or value is None:
            return None
        values[place] = value
    return values


def _overlay(chunk: Node, keys: Sequence[bytes], edits: Mapping[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    """A chunk's entries with some edits on top, ascending."""
    place = 0
    for key in keys:
        following = bisect_left(chunk.keys, key, place)
        yield from zip(chunk.keys[place:following], chunk.values[place:following], strict=True)
        place = following + (following < len(chunk.keys) and chunk.keys[following] == key)
        value = edits[key]
        if value is not None:
            yield key, value
    yield from zip(chunk.keys[place:], chunk.values[place:], strict=True)


def _window(node: Node, low: bytes, high: bytes | None) -> range:
    """The places in a node that hold, or lead to, keys with low <= key < high."""
    first, last = bisect_left(node.keys, low), len(node.keys)
    if high is not None:
        # A child's keys may begin below `high` although its last key, the one we see, is not.
        last = min(last, bisect_left(node.keys, high) + (1 if node.level else 0))
    return range(first, max(first, last))


def _range(prefix: bytes, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
    """The half-open range of keys with this prefix and start <= key < stop."""
    after = prefix.rstrip(b"\xff")
    ceiling = after[:-1] + bytes([after[-1] + 1]) if after else None
    stops = [bound for bound in (ceiling, stop) if bound is not None]
    return max(prefix, start), min(stops, default=None)


def _encode(level: int, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    return pack([FORMAT, level, keys, values])


def _decode(node_id: bytes, data: bytes) -> Node:
    """Raises: Corrupt naming the node whose bytes are not those that its id was made of."""
    if digest(b"node", data) != node_id:
        raise Corrupt(f"tree node {node_id.hex()} holds other bytes than were written", remedy="restore a backup")
    version, level, keys, values = unpack(data, f"tree node {node_id.hex()}")
    if version != FORMAT:
        raise Corrupt(f"tree node {node_id.hex()} has format {version}, expected {FORMAT}")
    return Node(level, keys, values)
