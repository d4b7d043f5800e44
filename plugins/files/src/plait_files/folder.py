"""Durable, atomic files below one folder: what the adapter keeps beside the user's objects, under `_plait/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from plait.errors import Corrupt, NotFound, PermissionDenied, StoreUnavailable
from plait.types import Item

_FICLONE = 0x40049409
"""ioctl of Linux: share the blocks of another file until one of the two is written."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """The system's errors as plait's, naming `what` was asked for."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{what} does not exist") from error
    except PermissionError as error:
        raise PermissionDenied(f"{what} may not be read or written", remedy="check the folder's owner") from error
    except OSError as error:
        raise StoreUnavailable(f"{what} cannot be reached: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Make a file, or a folder's list of names, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Folder:
    """The `_plait/` folder of one store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- whole files -------------------------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        """Raises: NotFound, PermissionDenied, StoreUnavailable."""
        with translated(f"file {path}"):
            return path.read_bytes()

    def write(self, path: Path, data: bytes) -> None:
        """Replace a file whole, durable when this returns. Repeat: the same."""
        with translated(f"file {path}"):
            self._make(path.parent)
            temporary = path.parent / f".{secrets.token_hex(8)}"
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync(path.parent)

    def adopt(self, source: Path) -> tuple[bytes, int]:
        """Copy a file to its content address, sharing blocks where the disk can: (SHA-256, bytes), durable.

        Never a hard link: that would share later writes to the source. Cost: the file once.
        """
        with translated(f"file {source}"):
            staging = self.root / "incoming"
            self._make(staging)
            temporary = staging / secrets.token_hex(8)
            try:
                with source.open("rb") as read, temporary.open("xb") as written:
                    try:
                        fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
                    except OSError:
                        shutil.copyfileobj(read, written, 1 << 20)
                    written.flush()
                    os.fsync(written.fileno())
                # Hashed after the copy: the address is that of the bytes that are kept, whatever the source does.
                found, size_bytes = digest_of(temporary), temporary.stat().st_size
                kept = self.object(found)
                self._make(kept.parent)
                temporary.replace(kept)
                sync(kept.parent)
            finally:
                temporary.unlink(missing_ok=True)
            return found, size_bytes

    def put_object(self, content: bytes) -> tuple[bytes, int]:
        """Keep bytes at their content address."""
        found = hashlib.sha256(content).digest()
        if not self.object(found).exists():
            self.write(self.object(found), content)
        return found, len(content)

    def _make(self, folder: Path) -> None:
        """A folder that survives a power loss, and the names that lead to it."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)

    # -- names -------------------------------------------------------------------------------------------------------

    def object(self, digest: bytes) -> Path:
        return self._addressed("objects", digest)

    def node(self, digest: bytes) -> Path:
        return self._addressed("nodes", digest)

    def _addressed(self, kind: str, digest: bytes) -> Path:
        text = digest.hex()
        return self.root / kind / text[:2] / text

    def staging(self, tx: str) -> Path:
        return self.root / "staging" / tx

    def prepared(self, tx: str, attempt: int, asset: str) -> Path:
        return self.root / "prepared" / tx / str(attempt) / asset

    def head(self, asset: str) -> Path:
        return self.root / "heads" / asset

    # -- all of it ---------------------------------------------------------------------------------------------------

    def items(self, prefix: str) -> Iterator[Item]:
        """Objects and nodes, by name."""
        for kind in ("nodes", "objects"):
            for path in sorted((self.root / kind).rglob("*")):
                name = path.relative_to(self.root).as_posix()
                if path.is_file() and name.startswith(prefix):
                    found = path.stat()
                    yield Item(name, found.st_size, found.st_mtime_ns // 1000)

    def delete(self, items: Iterable[Item]) -> None:
        for item in items:
            with translated(item.path):
                (self.root / item.path).unlink(missing_ok=True)

    def remove_tree(self, folder: Path) -> None:
        with translated(f"folder {folder}"):
            if folder.exists():
                shutil.rmtree(folder)

    @contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """One process at a time. The lock ends with the process, however that dies."""
        with translated(f"lock of {path}"):
            self._make(path.parent)
            with (path.parent / f"{path.name}.lock").open("ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield


class FolderNodes:
    """A manifest's chunks as files; `scratch` keeps new ones in memory, for looking at what is not prepared."""

    def __init__(self, folder: Folder, *, scratch: bool = False) -> None:
        self._folder = folder
        self._memory: dict[bytes, bytes] | None = {} if scratch else None
        self.read, self.written, self.written_bytes = 0, 0, 0

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        self.read += len(ids)
        return {node_id: self._get(node_id) for node_id in ids}

    def _get(self, node_id: bytes) -> bytes:
        if self._memory is not None and node_id in self._memory:
            return self._memory[node_id]
        try:
            return self._folder.read(self._folder.node(node_id))
        except NotFound as error:
            raise Corrupt(f"manifest node {node_id.hex()} is missing", remedy="restore it from a backup") from error

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        for node_id, data in nodes.items():
            self.written += 1
            self.written_bytes += len(data)
            if self._memory is not None:
                self._memory[node_id] = data
            elif not self._folder.node(node_id).exists():
                self._folder.write(self._folder.node(node_id), data)


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file, in constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
