"""Named places between two writes, where a test can make the process die.

Production code calls `failpoint("publish.before_move")`; with nothing armed that is one attribute test. Tests arm a
handler (record the names, raise, or kill the process), and a server process can be armed through the environment:

    PLAIT_FAILPOINT=sequencer.before_commit@3    SIGKILL itself the third time that place is reached
    PLAIT_FAILPOINT_SIGNAL=SIGSTOP               another signal: this one freezes the process until it gets SIGCONT
    PLAIT_FAILPOINT_RECORD=/path                 append the name of each place reached, one a line
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handler = Callable[[str], None]

_handler: Handler | None = None


def failpoint(name: str) -> None:
    """Mark a place between two writes. Does nothing unless a handler is armed."""
    if _handler is not None:
        _handler(name)


def arm(handler: Handler | None) -> None:
    """Call `handler` with the name at every failpoint of this process; None disarms."""
    global _handler
    _handler = handler


@contextmanager
def armed(handler: Handler) -> Iterator[None]:
    """Arm for the length of a block, then restore what was armed before."""
    before = _handler
    arm(handler)
    try:
        yield
    finally:
        arm(before)


def arm_from_environment(environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Arm what the environment asks for: how a crash test reaches into a real server process."""
    target = environ.get("PLAIT_FAILPOINT", "")
    record = environ.get("PLAIT_FAILPOINT_RECORD", "")
    if not target and not record:
        return
    name, _, count = target.partition("@")
    number = signal.Signals[environ.get("PLAIT_FAILPOINT_SIGNAL", "SIGKILL")]
    remaining = int(count or "1")

    def handle(reached: str) -> None:
        nonlocal remaining
        if record:
            with open(record, "a", encoding="utf-8") as lines:
                lines.write(reached + "\n")
        if reached == name:
            remaining -= 1
            if remaining == 0:
                # To this very thread: sent to the process, another thread may take it while this one goes on.
                signal.pthread_kill(threading.get_ident(), number)

    arm(handle)
