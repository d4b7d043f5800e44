"""Compares prolly trees: subtrees with equal ids are never read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from plait.tree_nodes import Chunks, Node


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


def diff(chunks: Chunks, before: bytes, after: bytes, *, prefix: bytes = b"") -> Iterator[TreeChange]:
    """What differs, ascending, lazily. Cost: O(changes · log entries) nodes; equal subtrees are never read."""
    low, high = key_range(prefix, b"", None)
    left, right = Cursor(chunks, before, low, high), Cursor(chunks, after, low, high)
    while True:
        if left.at_subtree and right.at_subtree:
            if left.subtree == right.subtree:
                left.skip()
                right.skip()
            else:
                # Open the higher subtree first: the cursors align again where both trees have a boundary.
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


def join(chunks: Chunks, base: bytes, ours: bytes, theirs: bytes) -> Iterator[TreeJoin]:
    """Every key that ours or theirs changed since base, ascending, lazily. Cost: that of the two diffs."""
    left, right = diff(chunks, base, ours), diff(chunks, base, theirs)
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


class Cursor:
    """One side of a diff: a stack of what is still ahead in key order, opened only as far as needed."""

    __slots__ = ("_chunks", "_end", "_high", "_leaf", "_low", "_place", "_stack", "level", "subtree")

    def __init__(self, chunks: Chunks, root: bytes, low: bytes, high: bytes | None) -> None:
        self._chunks = chunks
        self._low, self._high = low, high
        self._stack: list[tuple[bytes, int]] = []
        self._leaf: Node | None = None
        self._place, self._end = 0, 0
        self.subtree, self.level = root, chunks.load(root).level

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
        """Return the value at the cursor, and advance."""
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
        node = self._chunks.load(self.subtree)
        ahead = window(node, self._low, self._high)
        if node.level:
            self._stack += [(node.values[place], node.level - 1) for place in reversed(ahead)]
            self.skip()
        else:
            self.skip()
            self._leaf, self._place, self._end = node, ahead.start, ahead.stop
            self._settle()

    def _settle(self) -> None:
        assert self._leaf is not None
        if self._place >= self._end:
            self._leaf = None


def window(node: Node, low: bytes, high: bytes | None) -> range:
    """The places in a node that hold, or lead to, keys with low <= key < high."""
    first, last = bisect_left(node.keys, low), len(node.keys)
    if high is not None:
        # A child's keys may begin below `high` although its last key, the one we see, is not.
        last = min(last, bisect_left(node.keys, high) + (1 if node.level else 0))
    return range(first, max(first, last))


def key_range(prefix: bytes, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
    """The half-open range of keys with this prefix and start <= key < stop."""
    after = prefix.rstrip(b"\xff")
    ceiling = after[:-1] + bytes([after[-1] + 1]) if after else None
    stops = [bound for bound in (ceiling, stop) if bound is not None]
    return max(prefix, start), min(stops, default=None)
