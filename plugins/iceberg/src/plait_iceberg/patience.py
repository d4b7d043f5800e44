"""Calls to what may never answer: pyiceberg's catalogs wait without an end, be it for a server that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from plait.errors import StoreUnavailable

T = TypeVar("T")

SECONDS_MAX: Final = 30
_AGAIN_SECONDS: Final = 300


class Patience:
    """Thread-safe. Each call has a thread of its own, which is left alone when it takes too long."""

    def __init__(self, what: str, given_up: Callable[[], None]) -> None:
        """`what` is called, for errors; `given_up` hears that a call was left."""
        self._what = what
        self._given_up = given_up
        self._left: tuple[Future[Any], float] | None = None

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. A call that was left may still do its work later.

        Raises: StoreUnavailable after SECONDS_MAX; and at once while a call that was left goes on, for five minutes.
        """
        left = self._left
        if left is not None and not left[0].done() and time.monotonic() < left[1]:
            raise self._unanswered("has not answered an earlier call yet")
        answer: Future[T] = Future()
        threading.Thread(target=_answer, args=(answer, work), name="plait-mirror", daemon=True).start()
        try:
            return answer.result(SECONDS_MAX)
        except TimeoutError:
            if answer.done():
                raise  # Its own.
            self._left = answer, time.monotonic() + _AGAIN_SECONDS
            self._given_up()
            raise self._unanswered(f"has not answered in {SECONDS_MAX} seconds") from None

    def _unanswered(self, told: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._what} {told}", remedy="commits go on without it; once it is back, 'plait store check' catches up"
        )


def _answer(answer: Future[T], work: Callable[[], T]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)
