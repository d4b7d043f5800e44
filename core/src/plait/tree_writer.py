"""Writing prolly trees: building, and applying edits so that a tree stays a function of its set of entries."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from plait.codec import digest
from plait.tree_nodes import Chunks, Node, decode_node, encode_node

Entries = list[tuple[bytes, bytes]]
Edits = dict[bytes, bytes | None]

_PAGE_ENTRIES = 1024
_ADDED_MAX = 4096
"""New chunks that a build holds in memory before it puts them."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A chunk of the tree being edited. It takes keys above `low`, up to its last key; without limit if `is_last`."""

    chunk: Node
    low: bytes | None
    is_last: bool

    def takes(self, key: bytes) -> bool:
        return (self.low is None or self.low < key) and (self.is_last or key <= self.chunk.keys[-1])


class Writer:
    """One build or apply: collects new chunks, children before parents, and puts them at its end."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._added: dict[bytes, bytes] = {}
        self._path: dict[int, _Place] = {}

    def finish(self) -> None:
        if self._added:
            self._chunks.put_many(self._added)
            self._added = {}

    def build(self, entries: Iterable[tuple[bytes, bytes]], level: int = 0) -> bytes:
        """Cut entries of one level into chunks, then the level above, until one chunk is left. Returns: its id."""
        chunker = _Chunker(self, self._chunks, level)
        previous: bytes | None = None
        remaining = iter(entries)
        while page := list(islice(remaining, _PAGE_ENTRIES)):
            keys = [key for key, _ in page]
            for key in keys:
                if previous is not None and key <= previous:
                    raise ValueError(f"entries are not in ascending key order: {previous!r} before {key!r}")
                previous = key
            chunker.run(keys, [value for _, value in page], range(len(keys)))
            if len(self._added) >= _ADDED_MAX:
                self.finish()
        chunker.end()
        above = chunker.made
        if not above:
            return self.emit(0, [], [])
        return above[0][1] if len(above) == 1 else self.build(above, level + 1)

    def emit(self, level: int, keys: list[bytes], values: list[bytes]) -> bytes:
        data = encode_node(level, keys, values)
        node_id = digest(b"node", data)
        self._added[node_id] = data
        self._chunks.keep(node_id, Node(level, keys, values))
        return node_id

    def apply(self, root: bytes, edits: Edits) -> bytes:
        top = self._chunks.load(root)
        if not top.keys:
            entries = sorted((key, value) for key, value in edits.items() if value is not None)
            return self.build(entries) if entries else root
        self._path = {top.level: _Place(top, None, True)}
        for level in range(top.level + 1):
            edits = self._rechunk(level, edits)
            edits = self._effective(level, edits) if level < top.level else edits
            if not edits or edits == {top.keys[-1]: root}:
                return root
        tops: Edits = {top.keys[-1]: root, **edits}
        entries = sorted((key, value) for key, value in tops.items() if value is not None)
        changed = self.build(entries, top.level + 1) if len(entries) != 1 else entries[0][1]
        return self._without_single_children(changed)

    def _rechunk(self, level: int, edits: Edits) -> Edits:
        """Rewrite the chunks of one level that the edits fall into. Returns: the edits of the level above.

        Rewriting continues into following chunks until a new boundary falls on an old one: the rest is unchanged.
        """
        above: Edits = {}
        keys = sorted(edits)
        start = 0
        while start < len(keys):
            place = self._find(level, keys[start])
            chunker = _Chunker(self, self._chunks, level)
            while True:
                chunk = place.chunk
                stop = len(keys) if place.is_last else bisect_right(keys, chunk.keys[-1], start)
                here, start = keys[start:stop], stop
                above[chunk.keys[-1]] = None
                if chunker.is_empty and (values := _replaced(chunk, here, edits)) is not None:
                    # Equal keys end the chunk at the same place: the usual case on all levels above the leaves.
                    if values == chunk.values:
                        del above[chunk.keys[-1]]
                    else:
                        above[chunk.keys[-1]] = self.emit(level, chunk.keys, values)
                    break
                chunker.run(*_edited(chunk, here, edits, self._chunks.shape.entries_min))
                if place.is_last or chunker.is_empty:
                    break
                place = self._find(level, chunk.keys[-1] + b"\0")
            chunker.end()
            above.update(chunker.made)
        return above

    def _effective(self, level: int, above: Edits) -> Edits:
        """The edits of the level above, without those that change nothing."""
        effective: Edits = {}
        for key, value in above.items():
            parent = self._find(level + 1, key).chunk
            place = bisect_left(parent.keys, key)
            held = parent.values[place] if place < len(parent.keys) and parent.keys[place] == key else None
            if held != value:
                effective[key] = value
            elif value is not None:
                del self._added[value]
        return effective

    def _find(self, level: int, key: bytes) -> _Place:
        """The chunk of this level where the key belongs. Edits come in order, so it often is the last one found."""
        known = self._path.get(level)
        if known is not None and known.takes(key):
            return known
        parent = self._find(level + 1, key)
        place = min(bisect_left(parent.chunk.keys, key), len(parent.chunk.keys) - 1)
        low = parent.chunk.keys[place - 1] if place else parent.low
        is_last = parent.is_last and place == len(parent.chunk.keys) - 1
        found = _Place(self._chunks.load(parent.chunk.values[place]), low, is_last)
        self._path[level] = found
        return found

    def _without_single_children(self, root: bytes) -> bytes:
        while True:
            node = self._load(root)
            if not node.level or len(node.keys) > 1:
                return root
            self._added.pop(root, None)
            root = node.values[0]

    def _load(self, node_id: bytes) -> Node:
        """A chunk, which may be a new one that is not stored yet and has been dropped from the cache."""
        added = self._added.get(node_id)
        if added is None:
            return self._chunks.load(node_id)
        return self._chunks.cached(node_id) or decode_node(node_id, added)


class _Chunker:
    """Cuts runs of entries of one level into chunks: `made` has the last key and the id of each."""

    __slots__ = ("_chunks", "_keys", "_level", "_values", "_writer", "made")

    def __init__(self, writer: Writer, chunks: Chunks, level: int) -> None:
        self._writer, self._chunks, self._level = writer, chunks, level
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self.made: Entries = []

    @property
    def is_empty(self) -> bool:
        return not self._keys

    def run(self, keys: list[bytes], values: list[bytes], candidates: Sequence[int]) -> None:
        """Add entries. `candidates`, ascending: the places whose keys may end a chunk, all others are known not to."""
        shape, start = self._chunks.shape, 0
        while start < len(keys):
            # The places of the entry with which the chunk is long enough to end, and of the one that fills it.
            least = start + max(0, shape.entries_min - 1 - len(self._keys))
            end = start + shape.entries_max - 1 - len(self._keys)
            for candidate in candidates[bisect_left(candidates, least) :]:
                if candidate >= end or self._chunks.may_end(self._level, keys[candidate]):
                    end = min(end, candidate)
                    break
            self._keys += keys[start : end + 1]
            self._values += values[start : end + 1]
            if end < len(keys):
                self.end()
            start = end + 1

    def end(self) -> None:
        if self._keys:
            node_id = self._writer.emit(self._level, self._keys, self._values)
            self.made.append((self._keys[-1], node_id))
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


def _edited(
    chunk: Node, edited: Sequence[bytes], edits: Mapping[bytes, bytes | None], entries_min: int
) -> tuple[list[bytes], list[bytes], list[int]]:
    """A chunk's entries with some edits on top, ascending, and the places among them that may end a chunk.

    Those are the new keys, the chunk's last key, and its first ones, which came too early to end it. Any other key
    that may end a chunk would have ended this one already.
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    candidates: list[int] = []
    place, last = 0, len(chunk.keys) - 1
    for key in [*edited, None]:
        following = last + 1 if key is None else bisect_left(chunk.keys, key, place)
        shift = len(keys) - place
        candidates += range(place + shift, min(following, entries_min - 1) + shift)
        if following > max(last, entries_min - 1, place):
            candidates.append(last + shift)
        keys += chunk.keys[place:following]
        values += chunk.values[place:following]
        if key is None:
            break
        place = following + (following <= last and chunk.keys[following] == key)
        value = edits[key]
        if value is not None:
            candidates.append(len(keys))
            keys.append(key)
            values.append(value)
    return keys, values, candidates
