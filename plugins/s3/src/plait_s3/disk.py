"""A directory as an object store: the embedded default. What is written is fsynced and appears whole.

put             a temporary file beside the others, fsync, rename, fsync of the folders
put_if_match    the same under an flock'd lock file, after comparing what is there
pin             a reflink where the file system has them, else a copy; never a hard link, which later writes reach
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported

from plait_s3.blobs import CHUNK_BYTES, OWN, Blob, Pinned, address

_FICLONE = 0x40049409
_TEMPORARY = f"{OWN}tmp/"
_LOCKS = f"{OWN}locks/"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"object {what!r} does not exist") from error
    except PermissionError as error:
        raise PermissionDenied(
            f"object {what!r} may not be read or written: {error.strerror}", remedy="check the folder's owner and mode"
        ) from error
    except (IsADirectoryError, FileExistsError) as error:
        raise InvalidArgument(
            f"{what!r} cannot be both an object and a folder on a disk", remedy="choose another name, or a bucket"
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"object {what!r} cannot be reached: {error}", remedy="check the disk and the store's option 'path'"
        ) from error


class FilesBlobs:
    """Objects are files below `root`. Thread-safe, and safe beside other processes on the same disk."""

    versioned = False

    def __init__(self, root: str, failpoint: Callable[[str], None]) -> None:
        self._root = root
        self._failpoint = failpoint

    # -- names -------------------------------------------------------------------------------------------------------

    def uri(self, key: str) -> str:
        return self._path(key)

    def key_of(self, location: str) -> str:
        path = location.removeprefix("file://")
        if not os.path.isabs(path):
            path = os.path.join(self._root, path)
        normal = os.path.normpath(path)
        if normal != self._root and not normal.startswith(self._root + os.sep):
            raise InvalidArgument(f"{location!r} is not below {self._root!r}", remedy="name a folder inside the store")
        key = os.path.relpath(normal, self._root)
        return "" if key == "." else key

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)

    # -- reading -----------------------------------------------------------------------------------------------------

    def head(self, key: str, version: str = "") -> Blob | None:
        with _translated(key):
            try:
                found = os.lstat(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return None if stat.S_ISDIR(found.st_mode) else self._blob(key, found)

    def _blob(self, key: str, found: os.stat_result) -> Blob:
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgument(
                f"{self._path(key)} is no plain file, and a store holds only those",
                remedy="replace a link by a copy of what it points to",
            )
        # The change time too: a copy that keeps an old modification time is new here all the same.
        return Blob(key, found.st_size, modified_at_us=max(found.st_mtime_ns, found.st_ctime_ns) // 1_000)

    def get(self, key: str, *, version: str = "", start: int = 0, stop: int | None = None) -> bytes:
        with _translated(key), self._open(key) as stream:
            if start:
                stream.seek(start)
            return stream.read(-1 if stop is None else max(0, stop - start))

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        with _translated(key), self._open(key) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    def _open(self, key: str) -> BinaryIO:
        """For reading, without following a link at the end of the path."""
        return os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def list(self, prefix: str) -> list[Blob]:
        folder = prefix.rpartition("/")[0]
        found = []
        with _translated(prefix):
            for path, folders, files in os.walk(self._path(folder), onerror=_raise_unless_gone):
                below = "" if path == self._root else os.path.relpath(path, self._root) + "/"
                links = [name for name in folders if os.path.islink(os.path.join(path, name))]
                for name in [*files, *links]:
                    key = below + name
                    if not key.startswith(prefix):
                        continue
                    try:
                        key.encode()
                    except UnicodeEncodeError as error:
                        raise InvalidArgument(
                            f"file name {key!r} is not valid Unicode", remedy="rename the file"
                        ) from error
                    with suppress(FileNotFoundError):
                        found.append(self._blob(key, os.lstat(os.path.join(path, name))))
        return sorted(found, key=lambda blob: blob.key.encode())

    def list_versions(self, prefix: str) -> Iterator[Blob]:
        return iter(self.list(prefix))

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, content: bytes | BinaryIO) -> Blob:
        with _translated(key):
            self._place(self._write_temporary(content), key)
        found = self.head(key)
        return found or Blob(key, 0)

    def _write_temporary(self, content: bytes | BinaryIO) -> str:
        temporary = self._temporary()
        with open(temporary, "xb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                shutil.copyfileobj(content, stream, CHUNK_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        return temporary

    def _temporary(self) -> str:
        folder = self._path(_TEMPORARY)
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, secrets.token_hex(16))

    def _place(self, temporary: str, key: str) -> None:
        """Give a finished temporary file its name, durably: the folders that lead to it are fsynced too."""
        path = self._path(key)
        self._failpoint("objects.place.before_rename")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(temporary, path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self._failpoint("objects.place.before_fsync")
        folder = os.path.dirname(path)
        while True:
            _fsync(folder)
            if folder == self._root or len(folder) <= len(self._root):
                return
            folder = os.path.dirname(folder)

    def read_etag(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = self.get(key)
        except NotFound:
            return None
        return data, hashlib.sha256(data).hexdigest()

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> bool:
        with _translated(key), self._locked(key):
            found = self.read_etag(key)
            if (None if found is None else found[1]) != etag:
                return False
            self._place(self._write_temporary(data), key)
            return True

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Held by one thread of one process at a time; the lock file stays, so that all lock the same one."""
        folder = self._path(_LOCKS)
        os.makedirs(folder, exist_ok=True)
        name = hashlib.sha256(key.encode()).hexdigest()
        descriptor = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def pin(self, blob: Blob) -> Pinned:
        with _translated(blob.key):
            temporary = self._temporary()
            try:
                size, sha256 = self._copy(blob.key, temporary)
                place = address(sha256)
                path = self._path(place)
                if os.path.exists(path) and os.path.getsize(path) == size:
                    # Kept already. Its age is the grace that retention gives to what no commit names yet.
                    os.utime(path)
                    os.unlink(temporary)
                    # Whoever wrote it may not have come to the fsync: this vote must not rest on that.
                    _fsync(path)
                    _fsync(os.path.dirname(path))
                    _fsync(os.path.dirname(os.path.dirname(path)))
                else:
                    self._place(temporary, place)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
        return Pinned(size, "", sha256)

    def _copy(self, key: str, temporary: str) -> tuple[int, bytes]:
        """Copy into a new file, fsync it, and say what the *copy* holds: the original may change meanwhile."""
        hashed = hashlib.sha256()
        with self._open(key) as source, open(temporary, "x+b") as copy:
            try:
                fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
            except OSError:
                while chunk := source.read(CHUNK_BYTES):
                    hashed.update(chunk)
                    copy.write(chunk)
            else:
                while chunk := copy.read(CHUNK_BYTES):
                    hashed.update(chunk)
            copy.flush()
            os.fsync(copy.fileno())
            return os.fstat(copy.fileno()).st_size, hashed.digest()

    def copy(self, key: str, destination: str, version: str = "") -> None:
        with _translated(key):
            temporary = self._temporary()
            self._copy(key, temporary)
            self._place(temporary, destination)

    def delete(self, blobs: Iterable[Blob]) -> None:
        for blob in blobs:
            path = self._path(blob.key)
            with _translated(blob.key), suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)
            self._prune(os.path.dirname(path))

    def _prune(self, folder: str) -> None:
        """Remove folders that a deletion left empty, up to plait's own, and to a staging's: tools copy into that."""
        own = self._path(OWN.rstrip("/"))
        stagings = self._path(f"{OWN}staging") + os.sep
        while folder.startswith(own + os.sep):
            if folder.startswith(stagings) and folder.removeprefix(stagings).count(os.sep) < 2:
                return
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def make_folder(self, prefix: str) -> None:
        with _translated(prefix):
            os.makedirs(self._path(prefix), exist_ok=True)

    def drop_folder(self, prefix: str) -> None:
        with _translated(prefix), suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def presign(self, key: str, *, version: str = "", seconds: int = 3600) -> str:
        raise Unsupported("a directory has no presigned links", remedy=f"read the file {self._path(key)}")

    def close(self) -> None:
        return


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
