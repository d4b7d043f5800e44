"""Queues for writers who merge onto the same key: first come, first served, so that none starves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from plait.codec import encode_key
from plait.types import Key


class Lanes:
    """Locks by (ref, key), granted in arrival order. They only save repeated merges inside one server: the commit point
    decides what is committed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[tuple[str, Key], deque[object]] = {}

    @contextmanager
    def hold(self, ref: str, keys: Sequence[Key]) -> Iterator[None]:
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
