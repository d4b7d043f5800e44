"""Files of a local disk that appear whole and stay."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, ClassVar, Final

from plait.disk import fsync
from plait.errors import NotFound, PermissionDenied, StoreUnavailable

from plait_delta.files import LOG, Failpoint, Files, Info, Native

_CHUNK_BYTES: Final = 1 << 20


@contextmanager
def translated(path: str) -> Iterator[None]:
    """The system's errors about a path as plait's own."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"file {path} does not exist") from error
    except PermissionError as error:
        raise PermissionDenied(f"{path} may not be read or written", remedy="check its owner and mode") from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be reached: {error}", remedy="check the disk") from error


class DiskFiles(Files):
    """Absolute paths."""

    is_remote: ClassVar[bool] = False
    misread: ClassVar[re.Pattern[str]] = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]|^\\\x00-\x1f\x7f]")

    def __init__(self, failpoint: Failpoint) -> None:
        self._failpoint = failpoint

    def normal(self, place: str) -> str:
        return os.path.normpath(place.removeprefix("file://"))

    def read(self, place: str) -> bytes:
        with translated(place), open(place, "rb") as stream:
            return stream.read()

    def open(self, place: str) -> AbstractContextManager[IO[bytes]]:
        with translated(place):
            return open(place, "rb")

    def put_new(self, place: str, data: bytes) -> bool:
        folder = os.path.dirname(place)
        temporary = os.path.join(folder, f".plait-{secrets.token_hex(8)}")
        with translated(place):
            make_folders(folder)
            try:
                _write(temporary, data)
                self._failpoint("delta.disk.before_link")
                try:
                    os.link(temporary, place)
                except FileExistsError:
                    return False
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            self._failpoint("delta.disk.before_fsync")
            fsync(folder)
        return True

    def replace(self, place: str, data: bytes) -> None:
        temporary = f"{place}.{secrets.token_hex(8)}.tmp"
        with translated(place):
            make_folders(os.path.dirname(place))
            try:
                _write(temporary, data)
                os.replace(temporary, place)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            fsync(os.path.dirname(place))

    def infos(self, places: Iterable[str]) -> Mapping[str, Info]:
        found = {}
        for place in places:
            with suppress(OSError):
                found[place] = _info(place)
        return found

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        files: list[str] = []
        with suppress(NotFound), translated(folder), os.scandir(folder) as entries:
            for entry in entries:
                # No link is followed to search for tables, but one to its log makes a table.
                (folders if entry.is_dir(follow_symlinks=entry.name == LOG) else files).append(entry.name)
        return sorted(folders), sorted(files)

    def is_folder(self, folder: str) -> bool:
        return os.path.isdir(folder)

    def below(self, folder: str) -> Iterator[tuple[str, Info]]:
        for path, folders, files in os.walk(folder):
            folders.sort()
            links = [name for name in folders if os.path.islink(os.path.join(path, name))]
            for name in sorted([*files, *links]):
                with suppress(FileNotFoundError):  # gone since it was listed
                    yield os.path.join(path, name), _described(os.lstat(os.path.join(path, name)))

    def remove(self, place: str) -> None:
        with translated(place), suppress(FileNotFoundError, NotADirectoryError):
            if os.path.isdir(place) and not os.path.islink(place):
                shutil.rmtree(place)
            else:
                os.unlink(place)

    def sha256(self, place: str, *, trusting: bool = False) -> str:
        hashed = hashlib.sha256()
        with translated(place), open(place, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hashed.update(chunk)
        return hashed.hexdigest()

    def native(self, folder: str) -> Native:
        return Native(self.check_native(folder), None)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _info(path: str) -> Info:
    """Of a file, also where a link leads to it; of the link itself, where it leads to a folder."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) and not os.path.isdir(path):
        found = os.stat(path)
    return _described(found)


def _described(found: os.stat_result) -> Info:
    return Info(found.st_size, max(found.st_mtime_ns, found.st_ctime_ns) // 1000)


def make_folders(folder: str) -> None:
    """Make a folder and those above it, each durable in the one above."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for one in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(one)
        fsync(os.path.dirname(one))


def keep(source: str, target: str) -> None:
    """Give a finished file a second name, durably: a hard link, or a copy where the disk has none. Repeat: no-op."""
    with translated(source):
        if os.path.exists(target) and os.path.getsize(target) == os.path.getsize(source):
            fsync(target)
            return
        fsync(source)
        make_folders(os.path.dirname(target))
        temporary = f"{target}.{secrets.token_hex(8)}.tmp"
        try:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
                fsync(temporary)
            os.replace(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def place_folder(temporary: str, folder: str, failpoint: Failpoint) -> bool:
    """Give a finished folder its name, unless one with content has it; say whether it did.

    Everything in the temporary folder is made durable first.
    """
    with translated(folder):
        for path, _, files in os.walk(temporary):
            for name in files:
                one = os.path.join(path, name)
                if not os.path.islink(one):
                    fsync(one)
            fsync(path)
        make_folders(os.path.dirname(folder))
        failpoint("delta.disk.before_rename")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
            shutil.rmtree(temporary)
            return False
        failpoint("delta.disk.after_rename")
        fsync(os.path.dirname(folder))
    return True
