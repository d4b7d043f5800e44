"""Files as items: two trees compared, and one entry brought from one tree into another.

Items are paths relative to the filesystem's root, such as `etc/hosts`. Folders, links and devices are items too. Times
are none: a file that was only touched did not change.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from plait.errors import InvalidArgument
from plait.types import Json

_LOST: Final = "lost+found"
_ESCAPED: Final = re.compile(r"\\x([89a-f][0-9a-f]|5c)")
"""A byte in an item that is none in UTF-8, and a backslash that would look like one."""
_ZEROS: Final = bytes(1 << 16)
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class File:
    """One entry of a tree, as `stat` describes it. Its content is read only where that does not decide."""

    path: str
    root: Path
    stat: os.stat_result

    @property
    def where(self) -> Path:
        return self.root / self.path

    @property
    def kind(self) -> str:
        return _KINDS[stat.S_IFMT(self.stat.st_mode)]

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)


def tree(root: Path) -> dict[str, File]:
    """Every entry below a root, by path, in order; an empty `lost+found` is none, which each new filesystem has. What
    e2fsck put into it are files like others, or a merge would drop them. Cost: one `stat` each; no content is read."""
    found = {}
    for folder, folders, files in os.walk(root, onerror=_raise):
        if folder == str(root) and _is_unused(root, folders):
            folders.remove(_LOST)
        for name in (*folders, *files):
            path = (Path(folder) / name).relative_to(root).as_posix()
            found[path] = entry(root, path)
    return dict(sorted(found.items()))


def entry(root: Path, path: str) -> File:
    """One entry below a root. Raises: FileNotFoundError, NotADirectoryError."""
    return File(path, root, (root / path).lstat())


def entries(root: Path, folder: str) -> list[File]:
    """What is in a folder below a root ("": the root itself), in order, as `tree` has it."""
    names = os.listdir(root / folder)
    if not folder and _is_unused(root, names):
        names.remove(_LOST)
    return [entry(root, f"{folder}/{name}" if folder else name) for name in sorted(names)]


def _is_unused(root: Path, names: Collection[str]) -> bool:
    return _LOST in names and not os.listdir(root / _LOST)


def _raise(error: OSError) -> None:
    raise error


def describe(file: File | None) -> Json:
    """As people read it in diffs and conflicts. Cost: the file's content."""
    if file is None:
        return None
    found = file.stat
    said: dict[str, Json] = {"kind": file.kind, "mode": f"{stat.S_IMODE(found.st_mode):04o}"}
    said["owner"] = f"{found.st_uid}:{found.st_gid}"
    if file.is_regular:
        with file.where.open("rb") as stream:
            said.update(size=found.st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())
    elif stat.S_ISLNK(found.st_mode):
        said["target"] = item_of(os.readlink(file.where))
    elif file.kind.endswith("device"):
        said["device"] = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    extended = attributes(file.where)
    if extended:
        said["attributes"] = {item_of(name): value.hex() for name, value in sorted(extended.items())}
    return said


def attributes(where: Path) -> Mapping[str, bytes]:
    """Extended attributes: access lists, capabilities."""
    return {
        name: os.getxattr(where, name, follow_symlinks=False) for name in os.listxattr(where, follow_symlinks=False)
    }


def same(one: File | None, other: File | None) -> bool:
    """Whether two entries hold the same. Cost: nothing for one that was not touched since both were one."""
    if one is None or other is None:
        return one is other
    left, right = one.stat, other.stat
    if _untouched(left) == _untouched(right) and left.st_ctime_ns % 1_000_000_000:
        return True
    if (left.st_mode, left.st_uid, left.st_gid) != (right.st_mode, right.st_uid, right.st_gid):
        return False
    if one.is_regular and left.st_size != right.st_size:
        return False
    return describe(one) == describe(other)


def _untouched(found: os.stat_result) -> tuple[int, ...]:
    """What no write leaves as it is. (Whole seconds say nothing: tools that write them can write twice in one.)"""
    return found.st_ino, found.st_ctime_ns, found.st_mode, found.st_size


def changes(before: Mapping[str, File], after: Mapping[str, File]) -> Iterator[tuple[str, File | None, File | None]]:
    """Paths whose entries differ, in order, with both entries."""
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if not same(old, new):
            yield path, old, new


def item_of(path: str) -> str:
    r"""A path as an item's text: names are bytes, and those that are no UTF-8 are written `\xe9`."""
    escaped = _ESCAPED.sub(lambda found: rf"\x5c{found[0][1:]}", path)
    return "".join(rf"\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else one for one in escaped)


def path_of(item: str) -> str:
    """The path that an item names: the inverse of `item_of`."""
    return _ESCAPED.sub(lambda found: "\\" if found[1] == "5c" else chr(0xDC00 + int(found[1], 16)), item)


def check_path(item: str) -> str:
    """The path. Raises: InvalidArgument unless it is one inside of the filesystem."""
    parts = item.split("/")
    if not item or any(part in ("", ".", "..") for part in parts) or "\0" in item:
        raise InvalidArgument(f"item {item!r} is no path in the volume", remedy="name it as a diff does: etc/hosts")
    return path_of(item)


# -- changing a tree ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What a path is to become: another tree's entry, with other content where it was merged; None: nothing."""

    file: File | None
    content: bytes | None = None


def apply(root: Path, wanted: Mapping[str, Change], check_cancelled: Callable[[], None]) -> None:
    """Make a tree hold what is wanted of these paths: removals from below, then the rest from above.

    Names of one file stay names of one file. Raises: OSError, half done.
    """
    for path in sorted(wanted, reverse=True):
        change = wanted[path]
        where = root / path
        if not _is_behind_link(root, path) and os.path.lexists(where) and not _can_stay(where, change):
            _remove(where)
    names: dict[Name, Path] = {}
    for path in sorted(wanted):
        check_cancelled()
        change = wanted[path]
        if change.file is not None:
            assert not _is_behind_link(root, path)
            _put(root / path, change.file, change.content, names)


def folders_of(path: str) -> list[str]:
    """The folders that lead to a path, from above."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _is_behind_link(root: Path, path: str) -> bool:
    """Whether a path leads elsewhere: to other files of the volume, or out of it, to the machine's own."""
    return any((root / folder).is_symlink() for folder in folders_of(path))


def _can_stay(where: Path, change: Change) -> bool:
    """Only folders do: a file is written anew, so that its other names, and readers, keep what they have."""
    return change.file is not None and change.file.is_folder and where.is_dir() and not where.is_symlink()


def _remove(where: Path) -> None:
    if where.is_dir() and not where.is_symlink():
        where.rmdir()
    else:
        where.unlink()


Name: TypeAlias = tuple[Path, int, bytes | None]
"""What has one content: a tree's inode, and what it became."""


def _put(where: Path, file: File, content: bytes | None, names: dict[Name, Path]) -> None:
    found = file.stat
    known = names.get((file.root, found.st_ino, content))
    if known is not None and not file.is_folder:
        os.link(known, where, follow_symlinks=False)
        return
    if file.is_folder:
        where.mkdir(exist_ok=True)
    elif stat.S_ISLNK(found.st_mode):
        where.symlink_to(os.readlink(file.where))
    elif content is not None:
        _write(where, io.BytesIO(content))
    elif file.is_regular:
        with file.where.open("rb") as stream:
            _write(where, stream)
    else:
        os.mknod(where, found.st_mode, found.st_rdev)
    names[file.root, found.st_ino, content] = where
    os.chown(where, found.st_uid, found.st_gid, follow_symlinks=False)
    if not where.is_symlink():
        where.chmod(stat.S_IMODE(found.st_mode))
        _set_attributes(where, attributes(file.where))
        if content is None:
            os.utime(where, ns=(found.st_atime_ns, found.st_mtime_ns))


def _write(where: Path, content: BinaryIO) -> None:
    """A file with this content, and holes where it is zero: a sparse one may be larger than the filesystem."""
    with where.open("wb") as stream:
        while piece := content.read(len(_ZEROS)):
            if piece == _ZEROS[: len(piece)]:
                stream.seek(len(piece), os.SEEK_CUR)
            else:
                stream.write(piece)
        stream.truncate()


def _set_attributes(where: Path, wanted: Mapping[str, bytes]) -> None:
    for name in set(os.listxattr(where)) - set(wanted):
        os.removexattr(where, name)
    for name, value in wanted.items():
        os.setxattr(where, name, value)


def under(trees: Iterable[Mapping[str, File]], items: Iterable[str]) -> list[str]:
    """Every path of these trees that is, or lies below, one of the items; those of the items in any case.

    Raises: InvalidArgument for an item that is no path.
    """
    chosen = [check_path(item) for item in items]
    found = set(chosen)
    for paths in trees:
        found.update(path for path in paths if any(path.startswith(f"{top}/") for top in chosen))
    return sorted(found)
