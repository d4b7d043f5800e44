"""Liveness: recovery tells dead owners from slow ones by whether the owner's process still runs, and by leases."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plait import limits
from plait.errors import PlaitError


def owner_name(unique: str) -> str:
    """The name under which something in this process owns rows: `host/pid/started/unique`."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{unique}"


def is_alive(owner: str) -> bool:
    """Whether the owner's process still runs. A process on another host counts as alive: only its lease can tell."""
    host, _, rest = owner.partition("/")
    pid, _, rest = rest.partition("/")
    started = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return bool(owner)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # Process ids are reused: in a restarted container the same program has the same id, 1 say.
    return started == _started(int(pid))


class _Renewer:
    """A thread that renews some leases, three times per lease duration, until it is stopped."""

    def __init__(self) -> None:
        self.renewals: list[Callable[[], object]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plait-lease", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """False in a process that was forked since, too."""
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(limits.LEASE_US / 3 / 1_000_000):
            for renew in list(self.renewals):
                with suppress(PlaitError):
                    renew()


class _Here(threading.local):
    renewer: _Renewer | None = None


_here = _Here()


@contextmanager
def renewing(renew: Callable[[], object]) -> Iterator[None]:
    """Renew a lease while the block runs, from another thread.

    A failed renewal is tried again: a database or server that is down may be back before the lease ends. Blocks inside
    each other, as a commit is in its transaction's, share a thread; so the last renewal may outlast the inner block.
    """
    renewer = _here.renewer
    if renewer is None or not renewer.is_running:
        renewer = _here.renewer = _Renewer()
    renewer.renewals.append(renew)
    try:
        yield
    finally:
        renewer.renewals.remove(renew)
        if not renewer.renewals:
            renewer.stop()


def _started(pid: int) -> str:
    """When a process started, in the system's own units; empty where the system does not say."""
    try:
        # The second field is the program's name in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in ("Z", "X") else fields[19]
