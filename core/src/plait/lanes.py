"""Queues for writers who merge onto the same key: first come, first served, so that none starves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from plait.codec import encode_key
from plait.types import Key


class Lanes:
    """Locks by (ref, key), granted in arrival order. They only save repeated merges inside one server: the commit point
    decides what is committed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[tuple[str, Key], deque[object]] = {}

    @contextmanager
    def hold(self, ref: str, keys: Iterable[Key]) -> Iterator[None]:
        """Hold the lanes of these keys while the block runs. All are joined at once, so callers cannot deadlock."""
        ticket = object()
        lanes = [(ref, key) for key in sorted(set(keys), key=encode_key)]
        with self._condition:
            for lane in lanes:
                self._waiting.setdefault(lane, deque()).append(ticket)
        try:
            with self._condition:
                self._condition.wait_for(lambda: all(self._waiting[lane][0] is ticket for lane in lanes))
            yield
        finally:
            with self._condition:
                for lane in lanes:
                    # The ticket need not be first: an interrupted wait leaves from the middle of the queue.
                    self._waiting[lane].remove(ticket)
                    if not self._waiting[lane]:
                        del self._waiting[lane]
                self._condition.notify_all()

    @contextmanager
    def turn(self, ref: str) -> Iterator[Turn]:
        """A turn in the lanes of a ref, at first in none of them. It ends with the block."""
        with ExitStack() as held:
            yield Turn(self, ref, held)


class Turn:
    """The lanes that one caller holds, while it finds out which ones it needs."""

    def __init__(self, lanes: Lanes, ref: str, held: ExitStack) -> None:
        self._lanes, self._ref, self._held = lanes, ref, held
        self._keys: frozenset[Key] = frozenset()

    def wait_for(self, keys: Iterable[Key]) -> bool:
        """Hold the lanes of these keys too. Returns: whether they were not held yet, so that the caller waited."""
        wanted = self._keys.union(keys)
        if wanted == self._keys:
            return False
        # All anew: who waited for one lane while holding another could deadlock.
        self._held.close()
        self._keys = frozenset()
        self._held.enter_context(self._lanes.hold(self._ref, wanted))
        self._keys = wanted
        return True
