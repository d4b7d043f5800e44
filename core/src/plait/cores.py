"""On which processor cores this process's threads run, where a server asks for it; elsewhere nothing happens here.

The interpreter lets one thread run at a time. A commit over gRPC hands it on some twenty times, between the threads of
gRPC, of the calls, and the sequencer. On one core such a handover costs next to nothing. Across cores each wakes a
thread that finds the interpreter taken and sleeps again: a third of a server's processor time, measured. So calls that
only wait for the sequencer stay together with it on one core, and all that calls adapters and plugins may run anywhere:
their native code is why there are more cores. See https://www.dabeaz.com/python/UnderstandingGIL.pdf on the effect.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

_ONE: set[int] = set()
_ANY: set[int] = set()


def keep_together() -> None:
    """From now on `together` has a core, any of those that this process may use. No-op where the system has no such
    call (it is Linux's), and when repeated."""
    if hasattr(os, "sched_setaffinity") and not _ONE:
        _ANY.update(os.sched_getaffinity(0))
        _ONE.add(random.choice(sorted(_ANY)))


def together() -> None:
    """This thread, and those that it starts, run on the one core from now on. Cost: a system call, about 1 µs."""
    _run_on(_ONE)


def anywhere() -> None:
    """This thread, and the threads and processes that it starts, run on any core from now on."""
    _run_on(_ANY)


def starting_together() -> AbstractContextManager[None]:
    """`together`, while something is started that is to stay so; this thread then goes back to where it was."""
    return _on(_ONE)


def elsewhere() -> AbstractContextManager[None]:
    """`anywhere`, for as long as something lasts that is more than a wait for the sequencer."""
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
        # A core that is taken from the process meanwhile is no reason to fail: the system then lets it run elsewhere.
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
