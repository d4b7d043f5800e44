"""Power losses: what a process wrote into a folder and did not fsync is gone.

SIGKILL alone proves nothing about fsync, since the system keeps what a dead process wrote. So the process notes what
it made durable (`note_syncs`), and after its death `lose` takes away the rest: files whose content was never synced
lose it, and names that were never synced with their folder go. Of a catalog in SQLite (`note_flushes`) goes what its
write-ahead log holds behind the last write that was flushed (`lose_end`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plait.persist import Database
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from _typeshed import HasFileno


_CHECKPOINT_BYTES: Final = 1000 * 4096
"""From here on SQLite begins its log anew, and what a flush covered cannot be told by its length."""


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


def note_flushes(journal: Path) -> None:
    """From now on, the length of the write-ahead log is noted in a file after each write that SQLite flushed."""
    write = Database.write

    @contextmanager
    def noted(self: Database, *, flush: bool = True) -> Iterator[Connection]:
        with self._write_lock:  # Nobody else's write is behind this one when its length is taken.
            with write(self, flush=flush) as connection:
                place = Path(str(connection.engine.url.database))
                yield connection
            if flush:
                with journal.open("a", encoding="utf-8") as file:
                    file.write(f"flushed {_log_of(place).stat().st_size}\n")

    Database.write = noted  # type: ignore[method-assign]


def lose_end(database: Path, journal: Path) -> int:
    """Take from a catalog, that nobody had open before the process began, what was never flushed: so many bytes."""
    log = _log_of(database)
    noted = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    flushed = max((int(line.split()[1]) for line in noted if line.startswith("flushed ")), default=0)
    written = log.stat().st_size if log.exists() else flushed
    assert written < _CHECKPOINT_BYTES, "the scenario is too long to tell what was flushed"
    if written > flushed:
        os.truncate(log, flushed)
    return written - flushed


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


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
