"""A folder of plain files as the target of an export.

Each file is written under a temporary name, fsynced and renamed, and then remembered with how it looks, so that the
next export sees by that alone whether somebody has touched it. Times are coarse: a file that was new when it was
remembered is read again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from plait.disk import fsync
from plait.errors import InvalidArgument, PermissionDenied, StoreUnavailable

from plait_s3.blobs import CHUNK_BYTES, OWN, Blobs
from plait_s3.disk import FilesBlobs
from plait_s3.export_state import OWN_FOLDER, STATE, Record, State, head_line, read_state, record_lines
from plait_s3.file_names import collisions, folders_above, is_plaits, unsafe
from plait_s3.manifest import Entry
from plait_s3.placing import Placing
from plait_s3.selection import content_of
from plait_s3.targets import Group, Held, Moved, Target, checked

_TEMPORARY: Final = f"{OWN_FOLDER}/tmp"
_NEW_NS: Final = 2_000_000_000
"""The coarsest clock of a file system: within it, a file may be written again and look the same."""
_LINES_WASTED_MAX: Final = 1000


@dataclass(frozen=True)
class _File:
    """`identity`: size, change times of the content and of all else, and number; of what is no plain file, nothing."""

    path: str
    size_bytes: int
    identity: tuple[int, ...]
    known: str = ""
    """What it holds, if its looks tell."""

    def holds(self, content: str) -> bool:
        if not self.identity or not content.endswith(f":{self.size_bytes}"):
            return False
        if self.known.partition(":")[0] == content.partition(":")[0]:
            return self.known == content
        return content in self._contents

    @cached_property
    def _contents(self) -> tuple[str, str]:
        """Raises: OSError."""
        hashes = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with _translated(self.path), open(self.path, "rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                for one in hashes:
                    one.update(chunk)
        sha256, md5 = (one.hexdigest() for one in hashes)
        return f"sha256:{sha256}:{self.size_bytes}", f"md5:{md5}:{self.size_bytes}"

    def record(self, content: str, *, is_left: bool) -> Record:
        return Record(content, is_left, self.identity)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(
            f"{path} cannot be exported to: {error.strerror}", remedy="check the folder's owner and mode"
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be exported to: {error}", remedy="check the disk, then repeat: it goes on where it stopped"
        ) from error


class FolderTarget(Target):
    """Plain files below a folder; the only other thing there is the folder `.plait-export`."""

    remembers_all: ClassVar[bool] = True

    def __init__(self, folder: str, source: Blobs, failpoint: Callable[[str], None]) -> None:
        """Raises: InvalidArgument for plait's own folders, and for what is no folder."""
        self.uri = os.path.abspath(folder)
        self._source = source
        self._failpoint = failpoint
        self._placing = Placing(self.uri, failpoint, _TEMPORARY)
        self._appending = threading.Lock()
        self._locked: int | None = None
        self._made: list[str] = []
        self._records: Mapping[str, Record] = {}
        self._lines = 0
        self._saved_at_ns = 0
        if OWN.rstrip("/") in self.uri.split(os.sep):
            raise InvalidArgument(f"{self.uri} is plait's own", remedy="export to another folder")
        if os.path.lexists(self.uri) and not os.path.isdir(self.uri):
            raise InvalidArgument(f"{self.uri} is no folder", remedy="name a folder, or one that can be made")

    def _path(self, name: str) -> str:
        return os.path.join(self.uri, name)

    # -- looking -----------------------------------------------------------------------------------------------------

    def load(self) -> State | None:
        path = self._path(STATE)
        with _translated(path):
            try:
                with open(path, "rb") as stream:
                    data = stream.read()
                    self._saved_at_ns = os.fstat(stream.fileno()).st_mtime_ns
            except FileNotFoundError:
                return None
        state = read_state(data, path)
        self._lines = data.count(b"\n")
        self._records = {} if state is None else dict(state.records)
        if self._locked is not None and not data.endswith(b"\n"):
            with _translated(path):
                os.truncate(path, data.rfind(b"\n") + 1)
        return state

    @cached_property
    def _found(self) -> tuple[dict[str, tuple[int, ...]], set[str]]:
        """How each file looks, and the folders. Links are files that look like nothing, and are never followed."""
        files: dict[str, tuple[int, ...]] = {}
        folders: set[str] = set()
        ahead = [""]
        while ahead:
            below = ahead.pop()
            with _translated(self._path(below)), suppress(FileNotFoundError), os.scandir(self._path(below)) as entries:
                for entry in entries:
                    name = below + entry.name
                    if is_plaits(name + "/"):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(name)
                        ahead.append(name + "/")
                    else:
                        files[name] = _identity(entry.stat(follow_symlinks=False))
        return files, folders

    def names(self) -> Collection[str]:
        return self._found[0]

    def disturbed(self, state: State, *, check: bool) -> set[str]:
        if check:
            self._records = {}
        return {name for name, one in state.records.items() if not one.is_left and not self._looks_known(name)}

    def _looks_known(self, name: str) -> bool:
        record, found = self._records.get(name), self._found[0].get(name)
        return record is not None and record.identity == found and found[2] + _NEW_NS < self._saved_at_ns

    def held(self, name: str) -> Held | None:
        identity = self._found[0].get(name)
        if identity is None:
            return None
        known = self._records[name].content if self._looks_known(name) else ""
        return _File(self._path(name), identity[0] if identity else 0, identity, known)

    # -- names -------------------------------------------------------------------------------------------------------

    def blocking(self, written: Collection[str], doomed: Collection[str]) -> set[str]:
        names = set(written)
        above = {folder for name in written for folder in folders_above(name)}
        return {name for name in doomed if name in above or not names.isdisjoint(folders_above(name))}

    def refused(self, written: Collection[str], doomed: Collection[str]) -> Iterator[str]:
        bad = {name: reason for name in written if (reason := unsafe(name, self.uri, self._name_bytes_max))}
        yield from bad.values()
        files, folders = self._found
        stay = files.keys() - doomed
        yield from collisions(written, stay, folders - self._emptied(stay, doomed), folds_case=self._folds_case)

    @staticmethod
    def _emptied(stay: Collection[str], doomed: Collection[str]) -> set[str]:
        """Folders that are gone when the doomed are."""
        needed = {folder for name in stay for folder in folders_above(name)}
        return {folder for name in doomed for folder in folders_above(name)} - needed

    @cached_property
    def _name_bytes_max(self) -> int:
        there = self.uri
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        with _translated(there):
            return os.pathconf(there, "PC_NAME_MAX")

    @cached_property
    def _folds_case(self) -> bool:
        """Whether `a` and `A` are one file here; a folder that is not there yet is not known to."""
        return os.path.exists(self._path(OWN_FOLDER.swapcase()))

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        own = self._path(OWN_FOLDER)
        folder = self.uri
        while not os.path.exists(folder):
            self._made.append(folder)
            folder = os.path.dirname(folder)
        with _translated(own):
            os.makedirs(own, exist_ok=True)
            descriptor = os.open(os.path.join(own, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise StoreUnavailable(
                    f"another export is writing to {self.uri}", remedy="wait until it has ended"
                ) from error
            self._locked = descriptor
            shutil.rmtree(self._path(_TEMPORARY), ignore_errors=True)

    def save(self, state: State, changed: Iterable[str]) -> None:
        lines = record_lines((name, state.records.get(name)) for name in changed)
        with self._appending, _translated(self._path(STATE)):
            if not self._lines or self._lines > 2 * len(state.records) + _LINES_WASTED_MAX:
                lines = head_line(state) + record_lines(state.records.items())
                self._placing.place([(self._placing.write(lines), STATE)])
                self._lines = lines.count(b"\n")
            else:
                self._append(lines + head_line(state))

    def _append(self, lines: bytes) -> None:
        with open(self._path(STATE), "ab") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
        self._lines += lines.count(b"\n")

    def write(self, group: Group, moved: Moved) -> Mapping[str, Record]:
        placed: list[tuple[str, str]] = []
        try:
            for name, entry in group:
                with _translated(self._path(name)):
                    placed.append((self._take(entry, moved), name))
        except BaseException:
            self._placing.drop(temporary for temporary, _ in placed)
            raise
        self._failpoint("export.before_place")
        records: dict[str, Record] = {}
        with _translated(self._path(group[0][0])):
            self._placing.place(placed)
            self._failpoint("export.after_place")
            for name, entry in group:
                records[name] = Record(content_of(entry), identity=_identity(os.lstat(self._path(name))))
            with self._appending:
                self._append(record_lines(records.items()))
        return records

    def _take(self, entry: Entry, moved: Moved) -> str:
        """A temporary file with an object's bytes. What lies at the address of its content cannot change, so its
        blocks are shared unread."""
        if isinstance(self._source, FilesBlobs) and not entry.place:
            # Where it is lost, reading it says so.
            with suppress(FileNotFoundError), open(self._source.uri(entry.key), "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                shared = self._placing.clone(stream) if size == entry.size_bytes else None
                if shared is not None:
                    moved(size)
                    return shared
        return self._placing.take(checked(self._source, entry, moved))

    def delete(self, names: Sequence[str]) -> None:
        folders = set()
        for name in names:
            self._failpoint("export.before_delete")
            path = self._path(name)
            with _translated(path), suppress(FileNotFoundError):
                os.unlink(path)
            folders.add(os.path.dirname(path))
        for folder in folders:
            while folder != self.uri:
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError:
                    break
                folder = os.path.dirname(folder)
            with _translated(folder):
                fsync(folder)
        with self._appending, _translated(self._path(STATE)):
            self._append(record_lines((name, None) for name in names))

    def close(self) -> None:
        if self._locked is None:
            return
        with suppress(OSError):
            os.rmdir(self._path(_TEMPORARY))
        if not os.path.exists(self._path(STATE)):
            # Nothing was exported: leave nothing.
            with suppress(OSError):
                os.unlink(os.path.join(self._path(OWN_FOLDER), "lock"))
                os.rmdir(self._path(OWN_FOLDER))
                for folder in self._made:
                    os.rmdir(folder)
        os.close(self._locked)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
