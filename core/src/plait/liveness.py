"""Whether the process behind an owner's name still lives: how recovery tells the dead from the slow."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def owner_name(unique: str) -> str:
    """The name under which something in this process owns rows: `host/pid/started/unique`."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{unique}"


def is_alive(owner: str) -> bool:
    """Whether that process still runs. Another host's is taken to live until its lease ends."""
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
    # A process id is used again: in a restarted container the same program has the same one, 1 say.
    return started == _started(int(pid))


def _started(pid: int) -> str:
    """When a process started, in the system's own count; empty where the system does not tell."""
    try:
        # The second field is the program's name in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in ("Z", "X") else fields[19]
