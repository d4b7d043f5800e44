"""Time and ids, behind one small interface, so that tests never sleep and simulations repeat exactly."""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, makes ids, and waits."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC. Wall time: it may jump; order comes from `seq`, never from here."""
        ...

    def new_id(self) -> str:
        """A UUIDv7 in its text form: unique, and sorted roughly by time."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes: salts and tokens."""
        ...


class SystemClock:
    """The machine's clock and its random numbers."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def new_id(self) -> str:
        return uuid7(self.now_us() // 1_000, os.urandom(10))

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


class ManualClock:
    """A clock that moves only when told (`advance`), with repeatable ids: for tests and simulation."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us
        self._issued = 0
        self._lock = threading.Lock()

    def now_us(self) -> int:
        with self._lock:
            self._now_us += 1
            return self._now_us

    def advance(self, us: int) -> None:
        with self._lock:
            self._now_us += us

    def new_id(self) -> str:
        return uuid7(self._now_us // 1_000, self.random_bytes(10))

    def random_bytes(self, count: int) -> bytes:
        with self._lock:
            self._issued += 1
            return (self._issued.to_bytes(8, "big") * (count // 8 + 1))[:count]


def uuid7(unix_ms: int, random: bytes) -> str:
    """RFC 9562 §5.7: 48 bits of milliseconds, then 74 random bits."""
    value = bytearray(unix_ms.to_bytes(6, "big") + random[:10])
    value[6] = 0x70 | (value[6] & 0x0F)
    value[8] = 0x80 | (value[8] & 0x3F)
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
