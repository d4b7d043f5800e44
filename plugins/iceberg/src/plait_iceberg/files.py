"""The warehouse's files: one FileIO, one canonical name per file, durable and atomic writes, errors of our own."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeAlias

import pyarrow.fs as pafs
from plait.disk import fsync
from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported
from plait.types import Item, Store
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

Failpoint: TypeAlias = Callable[[str], None]

_LOCAL_SCHEMES = ("", "file")
_S3_ALIASES = ("s3a", "s3n")
FILE_OPTIONS = ("s3.", "client.")
"""What those of a store's options begin with that pyiceberg reaches files by."""
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT")
"""What pyarrow's S3 says in an OSError of no type of its own."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the file system's errors into plait's, naming `what` was asked for."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{what} does not exist") from error
    except PermissionError as error:
        raise PermissionDenied(
            f"{what} may not be read or written: {error}", remedy="check the store's credentials"
        ) from error
    except OSError as error:
        said = str(error)
        if any(code in said for code in _REFUSED):
            raise PermissionDenied(
                f"{what} may not be read or written: {error}", remedy="check the store's credentials"
            ) from error
        if "NO_SUCH_BUCKET" in said:
            raise NotFound(f"{what}: the bucket does not exist", remedy="create it, or check 'warehouse'") from error
        raise StoreUnavailable(
            f"{what} cannot be reached: {error}", remedy="check the store's options s3.* and its network"
        ) from error


class ReadOnlyFileIO(PyArrowFileIO):
    """The FileIO of a committed snapshot: a write fails before it leaves a file behind."""

    def new_output(self, location: str) -> PyArrowFile:
        raise _read_only()

    def delete(self, location: str | InputFile | OutputFile) -> None:
        raise _read_only()


def _read_only() -> Unsupported:
    return Unsupported(
        "this table is a committed snapshot and cannot change",
        remedy="open it inside a transaction: catalog.transaction(ref) as tx, then tx.open(key)",
    )


class Files:
    """All file access of one store. `warehouse` is a URI without a slash at its end."""

    def __init__(self, warehouse: str, properties: Mapping[str, str]) -> None:
        self.warehouse = warehouse
        self.properties = properties
        self.io = PyArrowFileIO(dict(properties))
        self.read_only_io = ReadOnlyFileIO(dict(properties))

    # -- names -------------------------------------------------------------------------------------------------------

    def is_local(self, location: str) -> bool:
        """Whether the location is on this machine's disks."""
        return PyArrowFileIO.parse_location(location)[0] in _LOCAL_SCHEMES

    def local_path(self, location: str) -> str:
        """The path behind a local location."""
        return PyArrowFileIO.parse_location(location)[2]

    def canonical(self, location: str) -> str:
        """The one name of a file, whichever way a manifest spells it: `file:/x`, `/x` and a link to it are one."""
        scheme, _, path = PyArrowFileIO.parse_location(location)
        if scheme in _LOCAL_SCHEMES:
            folder, name = os.path.split(path)
            return f"file://{_real_folder(folder)}/{name}"
        return f"{'s3' if scheme in _S3_ALIASES else scheme}://{path}"

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, location: str) -> bytes:
        """A whole file. Raises: NotFound, PermissionDenied, StoreUnavailable."""
        with translated(f"file {location}"), self.io.new_input(location).open(seekable=False) as stream:
            return bytes(stream.read())

    def size_bytes(self, location: str) -> int | None:
        """The file's length, or None where there is none."""
        with translated(f"file {location}"):
            try:
                return len(self.io.new_input(location))
            except FileNotFoundError:
                return None

    def sha256(self, location: str) -> str:
        """The hash of a local file's bytes, in hexadecimal. Raises: NotFound, PermissionDenied, StoreUnavailable."""
        with translated(f"file {location}"), open(self.local_path(location), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def walk(self, prefix: str, keep_folder: Callable[[str], bool] = lambda path: True) -> Iterator[Item]:
        """Every file below a prefix, named canonically; folders that `keep_folder` refuses are not entered."""
        scheme, netloc, path = PyArrowFileIO.parse_location(prefix)
        filesystem = self.io.fs_by_scheme(scheme, netloc)
        folders = [path]
        while folders:
            folder = folders.pop()
            with translated(f"folder {folder}"):
                found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
            for info in sorted(found, key=lambda info: info.path):
                if info.type == pafs.FileType.Directory:
                    if keep_folder(info.path):
                        folders.append(info.path)
                elif info.type == pafs.FileType.File:
                    location = info.path if scheme in _LOCAL_SCHEMES else f"{scheme}://{info.path}"
                    yield Item(self.canonical(location), info.size, (info.mtime_ns or 0) // 1_000)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write_new(self, location: str, data: bytes, failpoint: Failpoint) -> bytes:
        """Write a file unless it exists, whole or not at all; what is stored under that name afterwards.

        On a local disk the file is linked into place and fsynced, so of two racing writers exactly one wins. Object
        stores put whole objects, but pyarrow cannot put conditionally: there the last of two racers wins.
        """
        if not self.is_local(location):
            with translated(f"file {location}"):
                output = self.io.new_output(location)
                if not output.exists():
                    with output.create(overwrite=True) as stream:
                        stream.write(data)
            return self.read(location)
        path = self.local_path(location)
        folder = os.path.dirname(path)
        temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
        with translated(f"file {location}"):
            os.makedirs(folder, exist_ok=True)
            with open(temporary, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            failpoint("iceberg.files.before_link")
            try:
                os.link(temporary, path)
            except FileExistsError:
                with open(path, "rb") as stream:
                    data = stream.read()
            finally:
                os.unlink(temporary)
        # Not the file: whoever linked it had flushed it.
        self._sync_folders([path])
        return data

    def sync(self, locations: Iterable[str]) -> None:
        """Make files, and the folders that lead to them from the warehouse, survive a power loss.

        Object stores are durable once they have answered. Cost: one fsync per local file and folder.
        """
        paths = [self.local_path(location) for location in locations if self.is_local(location)]
        for path in paths:
            with translated(f"file {path}"):
                fsync(path)
        self._sync_folders(paths)

    def _sync_folders(self, paths: Iterable[str]) -> None:
        root = self.local_path(self.warehouse) if self.is_local(self.warehouse) else ""
        folders = {folder for path in paths for folder in _folders(path, root)}
        for folder in sorted(folders, reverse=True):
            with translated(f"folder {folder}"):
                fsync(folder)

    def delete(self, location: str) -> None:
        """Delete one file; one that is gone already is fine."""
        with translated(f"file {location}"):
            try:
                self.io.delete(location)
            except FileNotFoundError:
                return


def _folders(path: str, root: str) -> Iterator[str]:
    """The folder of a file, and if it is below the root those above it up to the root."""
    folder = os.path.dirname(path)
    yield folder
    while root and folder.startswith(f"{root.rstrip('/')}/"):
        folder = os.path.dirname(folder)
        yield folder


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def file_options(store: Store) -> dict[str, str]:
    """The options by which pyiceberg reaches the files, as they were given: secrets by their sources' names."""
    return {name: value for name, value in store.options.items() if name.startswith(FILE_OPTIONS)}


def warehouse_uri(option: str) -> str:
    """The warehouse as a URI. Raises: InvalidArgument for one that other processes would understand differently."""
    location = option.rstrip("/")
    # urllib leaves tabs and line ends out of an address: the files would go to another folder.
    if any(character in location for character in "#?\t\r\n"):
        raise InvalidArgument(
            f"warehouse {option!r} holds '#', '?', a tab or a line end", remedy="choose a folder without them"
        )
    scheme, _, path = PyArrowFileIO.parse_location(location)
    if scheme == "s3" or scheme in _S3_ALIASES:
        return f"s3://{path}"
    if scheme not in _LOCAL_SCHEMES:
        raise InvalidArgument(f"warehouse {option!r} is neither a local folder nor s3://")
    if location.startswith("file:"):
        return f"file://{os.path.normpath(path)}"
    if not os.path.isabs(location):
        raise InvalidArgument(
            f"warehouse {option!r} is a relative path, which each process would read from its own folder",
            remedy=f"write --option warehouse=./{option}, which the command line makes absolute, "
            "or a URI such as s3://bucket/warehouse",
        )
    return f"file://{os.path.normpath(location)}"
