"""What a local disk needs so that files survive a power loss."""

from __future__ import annotations

import os


def fsync(path: str | os.PathLike[str]) -> None:
    """Make a file's content, or a folder's list of names, survive a power loss. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
