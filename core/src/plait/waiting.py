"""Whether somebody still waits for the answer of the call that runs here.

A server says so of each call whose work may stop at any place; in one's own process somebody always waits. It is kept
in a context variable, which `handing_over` brings along into other threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Final, ParamSpec, TypeVar

from plait.errors import Cancelled

P = ParamSpec("P")
T = TypeVar("T")

_is_awaited: Final[ContextVar[Callable[[], bool]]] = ContextVar("plait_is_awaited", default=lambda: True)


@contextmanager
def awaited(is_active: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, `is_active` says whether its answer is waited for."""
    token = _is_awaited.set(is_active)
    try:
        yield
    finally:
        _is_awaited.reset(token)


def check_cancelled() -> None:
    """Raises: Cancelled when nobody waits any more."""
    if not _is_awaited.get()():
        raise Cancelled(
            "the client cancelled the call, or its deadline has passed",
            remedy="ask again, with a longer deadline if it was that",
        )


def handing_over(call: Callable[P, T]) -> Callable[P, T]:
    """The same call for another thread, in which `check_cancelled` answers as here."""
    return partial(copy_context().run, call)
