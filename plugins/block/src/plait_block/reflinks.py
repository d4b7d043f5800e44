"""Files that share their blocks: a clone of a whole file in one step, and where two files do not share.

Source: ioctl_ficlone(2); the kernel's Documentation/filesystems/fiemap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from plait.errors import Unsupported

from plait_block.folder import translated
from plait_block.ranges import Range, union

_FICLONE: Final = 0x40049409
_FIEMAP: Final = 0xC020660B
_SYNC = 1
_LAST = 1
_UNSURE = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
"""Where the physical address says nothing: unknown, not on disk yet, compressed, encrypted, inside of metadata."""
_UNWRITTEN = 0x800
_HEADER: Final = struct.Struct("=QQIIII")
_EXTENT: Final = struct.Struct("=QQQ16xI12x")
_EXTENTS_MAX: Final = 4096
_REFUSED: Final = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS}


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a file. `shift`: from its place in the file to its place on the disk, None where that is unsure."""

    start: int
    end: int
    shift: int | None


def filesystem_of(path: Path) -> tuple[str, str]:
    """The type of the filesystem that holds a path, and what it is mounted from."""
    where = os.path.realpath(path)
    found = ("", "a filesystem of unknown type", "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            top = left.split()[4].encode().decode("unicode_escape")
            is_above = where == top or where.startswith(top.rstrip("/") + "/")
            if is_above and len(top) >= len(found[0]):
                kind, source = right.split()[:2]
                found = top, kind, source
    return found[1], found[2]


def clone(source: Path, target: Path, size_bytes: int) -> None:
    """A new file that holds what another does, up to a size, and shares its blocks: one atomic step, under writers.

    Cost: O(extents), and writing out what the source's writers left in memory. Raises: Unsupported where the two
    cannot share.
    """
    with translated(f"file {source}"):
        opened = source.open("rb")
    with opened, translated(f"file {target}"), target.open("wb") as stream:
        try:
            fcntl.ioctl(stream.fileno(), _FICLONE, opened.fileno())
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise elsewhere(source, target.parent) from error
            if error.errno in _REFUSED:
                raise _no_reflinks(target.parent) from error
            raise
        stream.truncate(size_bytes)


def elsewhere(source: Path, folder: Path) -> Unsupported:
    """For two files that are too far from each other."""
    return Unsupported(
        f"{source} is on another filesystem than {folder}, so that they cannot share blocks",
        remedy=f"copy it first to where the store is: cp --sparse=always {source} …",
    )


def _no_reflinks(folder: Path) -> Unsupported:
    kind, source = filesystem_of(folder)
    return Unsupported(
        f"files in {folder} cannot share blocks: it is on {kind} ({source})",
        remedy="put the store on XFS made with 'mkfs.xfs -m reflink=1' or on btrfs, or use --option driver=qcow2",
    )


def check(folder: Path) -> None:
    """Make and drop two small files that share a block. Raises: Unsupported, naming the filesystem."""
    probes = [folder / f".probe-{os.getpid()}-{os.urandom(8).hex()}-{number}" for number in range(2)]
    try:
        with translated(f"folder {folder}"):
            probes[0].write_bytes(b"probe".ljust(4096, b"\0"))
        clone(probes[0], probes[1], 4096)
        extents(probes[1])
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)


def extents(path: Path) -> list[Extent]:
    """Where a file has blocks that were written to, in order. Cost: O(extents); writes out what is in memory."""
    with translated(f"file {path}"), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            return list(_extents(stream.fileno(), size))
        except OSError as error:
            if error.errno in _REFUSED:
                raise _no_reflinks(path.parent) from error
            raise


def _extents(descriptor: int, size: int) -> Iterator[Extent]:
    at = 0
    answer = bytearray(_HEADER.size + _EXTENTS_MAX * _EXTENT.size)
    while at < size:
        _HEADER.pack_into(answer, 0, at, size - at, _SYNC, 0, _EXTENTS_MAX, 0)
        fcntl.ioctl(descriptor, _FIEMAP, answer)
        count = _HEADER.unpack_from(answer)[3]
        flags = _LAST  # A hole up to the end is no extent.
        for number in range(count):
            logical, physical, length, flags = _EXTENT.unpack_from(answer, _HEADER.size + number * _EXTENT.size)
            at = logical + length
            if not flags & _UNWRITTEN and logical < size:
                yield Extent(logical, min(at, size), None if flags & _UNSURE else physical - logical)
        if flags & _LAST:
            return


def differing(one: list[Extent], other: list[Extent]) -> list[Range]:
    """Ranges where two files of one filesystem do not share their blocks."""
    found: list[Range] = []
    i = j = 0
    edges = {edge for side in (one, other) for extent in side for edge in (extent.start, extent.end)}
    for start, end in pairwise(sorted(edges)):
        while i < len(one) and one[i].end <= start:
            i += 1
        while j < len(other) and other[j].end <= start:
            j += 1
        left = one[i] if i < len(one) and one[i].start <= start else None
        right = other[j] if j < len(other) and other[j].start <= start else None
        if left is None and right is None:
            continue
        if left is None or right is None or left.shift is None or left.shift != right.shift:
            found.append((start, end))
    return union(found)
