"""A directory as an object store: the embedded default. What is written is fsynced and appears whole.

put             a temporary file, fsync, rename, fsync of the folders; of what a working set stages the folders are left
                to the disk: prepare copies it, and a vote waits for the copies
put_if_match    the same under an flock'd lock file, after comparing what is there
pin_all         reflinks where the file system has them, else copies, at content addresses
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported

from plait_s3.blobs import CHUNK_BYTES, EDITS, OWN, STAGING, Blob, Content, Pinned, Report, address, pinning, unheard
from plait_s3.parallel import side_by_side
from plait_s3.placing import Copied, Placing

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
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidArgument(
                f"{what!r} is too long for a disk", remedy="choose a name with at most 255 bytes between two slashes"
            ) from error
        raise StoreUnavailable(
            f"object {what!r} cannot be reached: {error}", remedy="check the disk and the store's option 'path'"
        ) from error


class FilesBlobs:
    """Objects are files below `root`. Thread-safe, and safe beside other processes on the same disk."""

    versioned = False

    def __init__(self, root: str, failpoint: Callable[[str], None]) -> None:
        self._root = root
        self._placing = Placing(root, failpoint)

    # -- names -------------------------------------------------------------------------------------------------------

    def uri(self, key: str) -> str:
        return self._path(key)

    def key_of(self, location: str) -> str:
        """The key below the root; for an absolute path elsewhere that path, which all that reads takes too."""
        path = location.removeprefix("file://")
        absolute = os.path.normpath(os.path.join(self._root, path))
        if absolute == self._root:
            return ""
        if absolute.startswith(self._root + os.sep):
            return os.path.relpath(absolute, self._root)
        if not os.path.isabs(path):
            raise InvalidArgument(
                f"{location!r} is not below {self._root!r}",
                remedy="name a folder inside the store, or an absolute path",
            )
        return absolute

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

    def has_md5(self, key: str, version: str = "") -> bool:
        return False

    def _open(self, key: str) -> BinaryIO:
        """For reading, without following a link at the end of the path."""
        descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return os.fdopen(descriptor, "rb")

    def list(self, prefix: str) -> list[Blob]:
        return list(self.list_current(prefix, unheard))

    def list_current(self, prefix: str, report: Report) -> Sequence[Blob]:
        folder = prefix.rpartition("/")[0]
        top = self._path(folder)
        found: list[Blob] = []
        with _translated(prefix):
            for path, folders, files in os.walk(top, onerror=_raise_unless_gone):
                below = os.path.join(folder, path[len(top) :].strip(os.sep), "")
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
                report(len(found))
        return sorted(found, key=lambda blob: blob.key.encode())

    def list_versions(self, prefix: str) -> Iterator[Blob]:
        return iter(self.list(prefix))

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, content: Content) -> Blob:
        with _translated(key):
            self._place([(self._placing.write(content), key)])
        return self.head(key) or Blob(key, 0)

    def put_all(self, contents: Mapping[str, Content], report: Report) -> None:
        written: list[str] = []

        def write(one: tuple[str, Content]) -> str:
            with _translated(one[0]):
                temporary = self._placing.write(one[1])
            written.append(temporary)
            return temporary

        with self._dropping(written):
            temporaries = side_by_side(write, contents.items(), report)
            with _translated(f"{len(contents)} objects"):
                self._place(zip(temporaries, contents, strict=True))

    def _place(self, files: Iterable[tuple[str, str]]) -> None:
        self._placing.place(files, passing=(STAGING, EDITS))

    @contextmanager
    def _dropping(self, temporaries: Sequence[str]) -> Iterator[None]:
        """On an error, remove the files that got no name."""
        try:
            yield
        except BaseException:
            self._placing.drop(temporaries)
            raise

    def read_etag(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = self.get(key)
        except NotFound:
            return None
        return data, _etag(data)

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str | None:
        with _translated(key), self._locked(key):
            found = self.read_etag(key)
            if (None if found is None else found[1]) != etag:
                return None
            self._placing.place([(self._placing.write(data), key)])
            return _etag(data)

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

    def pin_all(self, blobs: Sequence[Blob], report: Report) -> Sequence[Pinned]:
        """Every file is read once; content that is kept already is read too, and not written again."""
        written: list[str] = []

        def copy(blob: Blob) -> Copied:
            with pinning(self.uri(blob.key)), _translated(blob.key), self._open(blob.key) as source:
                copied = self._placing.copy(source, unless_kept=True)
            written.append(copied.temporary)
            return copied

        with self._dropping(written):
            copies = side_by_side(copy, blobs, report)
            with _translated(f"{len(blobs)} objects"):
                self._placing.place((copied.temporary, address(copied.sha256)) for copied in copies)
        return [Pinned(copied.size_bytes, "", copied.sha256) for copied in copies]

    def copy(self, key: str, destination: str, version: str = "") -> None:
        with _translated(key), self._open(key) as source:
            self._place([(self._placing.copy(source).temporary, destination)])

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


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
