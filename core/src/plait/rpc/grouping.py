"""Groups requests: those made while other calls are under way share the next call. Nobody waits on a timer.

This is group commit, as the sequencer does it, on the client's side. A caller sends at once, in its own thread, if
fewer than `_CALLS_MAX` calls are under way; otherwise it queues. When a call returns, the first in the queue leads: it
sends the queue, up to a group's limits, in one call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from plait.errors import PlaitError

V = TypeVar("V")
A = TypeVar("A")

_CALLS_MAX: Final = 2
"""Calls under way at once: while the server works on one, the client packs and unpacks the other."""


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Asked(Generic[V, A]):
    value: V
    size: int
    turn: threading.Lock = field(default_factory=_taken)
    """Released once: when the request has an answer, or when its caller is to lead a group."""
    group: list[_Asked[V, A]] | None = None
    """The group that this caller leads and sends; None while it waits, and if another caller sends its request."""
    answer: A | PlaitError | None = None


class Grouping(Generic[V, A]):
    """Sends requests in groups. Thread-safe.

    `send` takes one or more requests and gives one answer or error for each, in order; it must be safe to repeat:
    a group whose leader is interrupted is sent again by the next one. A group has at most `group_bytes_max`, but for
    one request that has more by itself: that goes alone.
    """

    def __init__(
        self, send: Callable[[Sequence[V]], Sequence[A | PlaitError]], *, group_max: int, group_bytes_max: int
    ) -> None:
        self._send = send
        self._group_max = group_max
        self._group_bytes_max = group_bytes_max
        self._queue: deque[_Asked[V, A]] = deque()
        self._under_way = 0
        self._lock = threading.Lock()

    def ask(self, value: V, size_bytes: int) -> A:
        """The answer to one request. Raises: the request's own error, or that of the whole call."""
        mine: _Asked[V, A] = _Asked(value, size_bytes)
        with self._lock:
            if self._under_way < _CALLS_MAX:
                self._under_way += 1
                mine.group = [mine]
            else:
                self._queue.append(mine)
        try:
            if mine.group is None:
                mine.turn.acquire()
            if mine.group is not None:
                self._lead(mine)
        except BaseException:
            self._leave(mine)
            raise
        assert mine.answer is not None
        if isinstance(mine.answer, PlaitError):
            raise mine.answer
        return mine.answer

    def _lead(self, mine: _Asked[V, A]) -> None:
        group = mine.group
        assert group is not None
        answers: Sequence[A | PlaitError]
        try:
            answers = self._send([one.value for one in group])
        except PlaitError as error:
            answers = [error] * len(group)
        for one, answer in zip(group, answers, strict=True):
            one.answer = answer
            if one is not mine:
                one.turn.release()
        with self._lock:
            self._hand_on(mine)

    def _leave(self, mine: _Asked[V, A]) -> None:
        """After an interrupt (Ctrl-C): withdraw the request if it is still queued, and let another lead its group."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            elif mine.group is not None:
                self._queue.extendleft(one for one in reversed(mine.group) if one is not mine and one.answer is None)
                self._hand_on(mine)

    def _hand_on(self, mine: _Asked[V, A]) -> None:
        """Let the first in the queue use the free call, as leader of those behind it; or else whoever comes next."""
        mine.group = None
        if not self._queue:
            self._under_way -= 1
            return
        first = self._queue.popleft()
        size, group = first.size, [first]
        while self._queue and len(group) < self._group_max:
            size += self._queue[0].size
            if size > self._group_bytes_max:
                break
            group.append(self._queue.popleft())
        group[0].group = group
        group[0].turn.release()
