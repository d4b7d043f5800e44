"""Files that appear whole and stay: the few writes that plait makes itself on a local disk."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from plait.errors import NotFound, PermissionDenied, StoreUnavailable

Failpoint: TypeAlias = Callable[[str], None]


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


def read_bytes(path: str) -> bytes:
    """Raises: NotFound, PermissionDenied, StoreUnavailable."""
    with translated(path), open(path, "rb") as stream:
        return stream.read()


def put_new(path: str, data: bytes, failpoint: Failpoint) -> bool:
    """Make a file with this content, whole and durable, unless the name is taken; say whether it did."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".plait-{secrets.token_hex(8)}")
    with translated(path):
        make_folders(folder)
        try:
            with open(temporary, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            failpoint("delta.disk.before_link")
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        failpoint("delta.disk.before_fsync")
        fsync(folder)
    return True


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


def fsync(path: str) -> None:
    """Make a file, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def replace_file(path: str, data: bytes) -> None:
    """Give a file this content, whole and durable, whatever it had."""
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    with translated(path):
        make_folders(os.path.dirname(path))
        try:
            with open(temporary, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        fsync(os.path.dirname(path))
