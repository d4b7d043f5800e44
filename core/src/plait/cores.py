"""Chooses the processor cores on which a server's threads run. Only a server asks for it; elsewhere this does nothing.

The interpreter runs one thread at a time. A commit over gRPC hands the interpreter over some twenty times, between the
threads of gRPC, of the calls, and the sequencer. On one core a handover costs next to nothing. Across cores each one
wakes a thread that finds the interpreter taken and sleeps again: a third of a server's processor time, measured. So
calls that only wait for the sequencer run on the same core as it, and everything that calls adapters and plugins may
run on any core, which their native code can use. See https://www.dabeaz.com/python/UnderstandingGIL.pdf on the effect.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

_ONE: set[int] = set()
_ANY: set[int] = set()


def keep_together() -> None:
    """Choose the core for `together`, at random among those that this process may use. No-op on systems other than
    Linux, which lack the call, and when repeated."""
    if hasattr(os, "sched_setaffinity") and not _ONE:
        _ANY.update(os.sched_getaffinity(0))
        _ONE.add(random.choice(sorted(_ANY)))


def together() -> None:
    """From now on, run this thread, and those that it starts, on the one core. Cost: a system call, about 1 µs."""
    _run_on(_ONE)


def anywhere() -> None:
    """From now on, run this thread, and the threads and processes that it starts, on any core."""
    _run_on(_ANY)


def starting_together() -> AbstractContextManager[None]:
    """`together` while the block runs, for starting threads that stay on the one core; then this thread goes back."""
    return _on(_ONE)


def elsewhere() -> AbstractContextManager[None]:
    """`anywhere` while the block runs: for work that is more than a wait for the sequencer."""
    return _on(_ANY)


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0) if cores else set()
    _run_on(cores)
    try:
        yield
    finally:
        _run_on(before)


def _run_on(cores: set[int]) -> None:
    if cores:
        # If the core was taken from the process meanwhile, do not fail: the system then runs the thread elsewhere.
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
