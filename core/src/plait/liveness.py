"""Whether the process behind an owner's name still lives: how recovery tells the dead from the slow."""

from __future__ import annotations

import os
import socket


def is_alive(owner: str) -> bool:
    """Whether `host/pid/…` still runs. Another host's is taken to live until its lease ends."""
    host, _, rest = owner.partition("/")
    pid = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return bool(owner)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
