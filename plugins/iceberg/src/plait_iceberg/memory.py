"""What was read lately, kept by the digest of its bytes: the bytes are read each time, and a file that changed since is
another one here. What is kept is shared, so nobody may change it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """The latest answers, as many as fit. Thread-safe; two threads may make one answer at the same time."""

    def __init__(self, size_max: int) -> None:
        """`size_max`: the sizes of all answers together; one of more than a quarter of it is not kept."""
        self._size_max = size_max
        self._size = 0
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, size: int, make: Callable[[], T]) -> T:
        """The answer that is kept under this key, else a new one. Raises: what `make` raises; that is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        if size <= self._size_max // 4:
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = made, size
                    self._size += size
                while self._size > self._size_max:
                    self._size -= self._kept.popitem(last=False)[1][1]
        return made
