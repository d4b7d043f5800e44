"""How many calls that last may run at once: one more is refused, so that short ones find threads and connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from plait.errors import ResourceExhausted

_RETRY_US: Final = 10_000_000


class Room:
    """Thread-safe."""

    def __init__(self, places: int, *, wait_seconds: float, refusal: str, remedy: str) -> None:
        """`wait_seconds`: for another's end, before one more is refused."""
        self._places = threading.BoundedSemaphore(places)
        self._wait_seconds = wait_seconds
        self._refusal = refusal
        self._remedy = remedy

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place while the block runs. Raises: ResourceExhausted."""
        if not self._places.acquire(timeout=self._wait_seconds):
            raise ResourceExhausted(self._refusal, remedy=self._remedy, retry_after_us=_RETRY_US)
        try:
            yield
        finally:
            self._places.release()
