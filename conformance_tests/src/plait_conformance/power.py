"""Power losses: what a process wrote into a folder and did not fsync is gone.

SIGKILL alone proves nothing about fsync, since the system keeps what a dead process wrote. So the process notes what
it made durable (`note_syncs`), and after its death `lose` takes away the rest: files whose content was never synced
lose it, and names that were never synced with their folder go.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import HasFileno


def note_syncs(journal: Path) -> None:
    """From now on, every fsync of this process is noted in a file: of a file by its inode, of a folder by its names."""
    fsync = os.fsync

    def noted(fd: int | HasFileno) -> None:
        fsync(fd)
        descriptor = fd if isinstance(fd, int) else fd.fileno()
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            lines = [f"name {found.st_ino} {name}" for name in os.listdir(descriptor)]
        else:
            lines = [f"content {found.st_ino}"]
        with journal.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    os.fsync = noted


def lose(folder: Path, journal: Path, durable: set[int]) -> None:
    """Take from a folder what was not made durable. `durable`: the inodes that were there when the process began."""
    noted = set(journal.read_text(encoding="utf-8").splitlines()) if journal.exists() else set()
    for path in sorted(folder.rglob("*"), reverse=True):
        inode = path.lstat().st_ino
        if inode in durable:
            continue
        if f"name {path.parent.stat().st_ino} {path.name}" not in noted:
            _remove(path)
        elif path.is_file() and f"content {inode}" not in noted:
            path.write_bytes(b"")


def inodes(folder: Path) -> set[int]:
    """Everything that is in a folder now."""
    return {path.lstat().st_ino for path in folder.rglob("*")}


def _remove(path: Path) -> None:
    """A name that is lost takes all below it along, which comes before it in the order of `lose`."""
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink()
