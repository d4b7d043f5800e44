"""New files on a disk: written and fsynced under a temporary name, then renamed, then their folders are fsynced.

So a file that has its name is whole, whatever dies when; and many files cost one fsync each and one for each folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from plait.disk import fsync

from plait_s3.blobs import CHUNK_BYTES, OWN, Content, address
from plait_s3.parallel import side_by_side

_FEW: Final = 32
"""Folders that are flushed one after the other: the first flush makes the changes of all of them durable, and starting
threads takes longer than to hear that of the rest."""

_FICLONE: Final = 0x40049409
"""ioctl of Linux: share the blocks of another file until one of the two is written."""

_TEMPORARY: Final = f"{OWN}tmp"


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds; `temporary` "": that content is kept at its address already."""

    temporary: str
    size_bytes: int
    sha256: bytes


class Placing:
    """Makes files below one root. Thread-safe. Raises: OSError."""

    def __init__(self, root: str, failpoint: Callable[[str], None], temporary: str = _TEMPORARY) -> None:
        """`temporary`: the folder below the root where files are before they have their names."""
        self._root = root
        self._temporary = os.path.join(root, temporary)
        self._failpoint = failpoint

    def path(self, key: str) -> str:
        return os.path.join(self._root, key)

    def write(self, content: Content) -> str:
        """A temporary file with this content, on the disk for good."""
        with self._new() as (temporary, descriptor):
            if isinstance(content, bytes):
                _write_all(descriptor, content)
            elif isinstance(content, Path):
                with open(descriptor, "wb", closefd=False) as stream, content.open("rb") as source:
                    _fill(stream, source)
            else:
                with open(descriptor, "wb", closefd=False) as stream:
                    shutil.copyfileobj(content, stream, CHUNK_BYTES)
            os.fsync(descriptor)
            return temporary

    def take(self, chunks: Iterable[bytes]) -> str:
        """A temporary file with what an iterator gives, on the disk for good; none where that raises."""
        with self._new() as (temporary, descriptor):
            for chunk in chunks:
                _write_all(descriptor, chunk)
            os.fsync(descriptor)
            return temporary

    def clone(self, source: BinaryIO) -> str | None:
        """A temporary file that shares a whole file's blocks, on the disk for good; None where the disk cannot."""
        with self._new() as (temporary, descriptor):
            try:
                fcntl.ioctl(descriptor, _FICLONE, source.fileno())
            except OSError:
                os.unlink(temporary)
                return None
            os.fsync(descriptor)
            return temporary

    def copy(self, source: BinaryIO, *, unless_kept: bool = False) -> Copied:
        """A temporary copy of a file, and what it holds: the original may change meanwhile. Blocks are shared where
        the disk can; never a hard link, which later writes to the original would reach.

        `unless_kept`: none where the content's address holds it.
        """
        size = os.fstat(source.fileno()).st_size
        data = source.read(min(size, CHUNK_BYTES) + 1)
        if len(data) <= CHUNK_BYTES and len(data) <= size:
            sha256 = hashlib.sha256(data).digest()
            if unless_kept and self._is_kept(sha256, len(data)):
                return Copied("", len(data), sha256)
            return Copied(self.write(data), len(data), sha256)
        with self._new() as (temporary, descriptor), open(descriptor, "r+b", closefd=False) as copy:
            source.seek(0)
            _fill(copy, source)
            copy.flush()
            copy.seek(0)
            sha256 = hashlib.file_digest(copy, "sha256").digest()
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        if unless_kept and self._is_kept(sha256, size):
            os.unlink(temporary)
            return Copied("", size, sha256)
        return Copied(temporary, size, sha256)

    def _is_kept(self, sha256: bytes, size_bytes: int) -> bool:
        """It is read: a copy that was damaged meanwhile is to be written again, and not to be committed once more.

        Also makes it look new: its age is the grace that retention gives to what no commit names yet.
        """
        path = self.path(address(sha256))
        try:
            if os.stat(path).st_size != size_bytes:
                return False
            with open(path, "rb") as kept:
                if hashlib.file_digest(kept, "sha256").digest() != sha256:
                    return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _new(self) -> Iterator[tuple[str, int]]:
        """A new temporary file and its descriptor; an error removes it."""
        temporary = os.path.join(self._temporary, secrets.token_hex(16))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._temporary, exist_ok=True)
            descriptor = os.open(temporary, flags, 0o666)
        try:
            yield temporary, descriptor
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)

    def place(self, temporaries: Iterable[tuple[str, str]], *, passing: tuple[str, ...] = ()) -> None:
        """Give finished temporary files their keys ((temporary, key) each), for good when this returns.

        An empty temporary: the key's file is there already, but whoever made it may not have come to its folder.
        `passing`: what keys begin with that a power loss may take, as long as it takes the whole file.
        """
        waiting = list(temporaries)
        made: set[str] = set()
        folders: set[str] = set()
        try:
            while waiting:
                temporary, key = waiting[-1]
                path = self.path(key)
                folder = os.path.dirname(path)
                if temporary:
                    self._failpoint("objects.place.before_rename")
                    if folder not in made:
                        os.makedirs(folder, exist_ok=True)
                        made.add(folder)
                    os.replace(temporary, path)
                if not key.startswith(passing):
                    folders.add(folder)
                waiting.pop()
        except OSError:
            self.drop(temporary for temporary, _ in waiting)
            raise
        self._failpoint("objects.place.before_fsync")
        changed = self._with_parents(folders)
        if len(changed) > _FEW:
            side_by_side(fsync, changed)
            return
        for path in changed:
            fsync(path)

    def _with_parents(self, folders: set[str]) -> set[str]:
        """These folders, and those that lead to them from the root."""
        found: set[str] = set()
        for folder in folders:
            while folder not in found and folder.startswith(self._root):
                found.add(folder)
                folder = os.path.dirname(folder)
        return found

    def drop(self, temporaries: Iterable[str]) -> None:
        """Remove temporary files that get no name after all."""
        for temporary in temporaries:
            if temporary:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)


def _fill(copy: BinaryIO, source: BinaryIO) -> None:
    """A whole file into a new one."""
    try:
        fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
    except OSError:
        shutil.copyfileobj(source, copy, CHUNK_BYTES)


def _write_all(descriptor: int, data: bytes) -> None:
    """One call writes at most 2 GiB."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
