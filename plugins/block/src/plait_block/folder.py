"""Durable, atomic files below one store's folder, and the locks between the processes that share it.

layers/<id>.json                one frozen or working layer's record: who its parent is, what it must hash to
layers/<id>.qcow2, <id>.raw     its bytes, as its driver keeps them
layers/<id>.key.qcow2, .json    a key frame: the same content as the layer, without a parent
places/<tx>/<intent>/           a working set's writable volume: place.json says which layer is on top
places/<tx>/made/<id>           layers that this transaction made, noted before each is
votes/<tx>/<attempt>-<intent>   what was prepared or merged, put once
heads/<asset>/                  what is published, and the writable live volume on it
run/                            the daemon's sockets and locks: nothing durable
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plait.disk import fsync
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


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
        raise StoreUnavailable(
            f"{what} cannot be reached: {error.strerror or error}", remedy="check the disk, and make room on it"
        ) from error


def check_id(text: str) -> str:
    """The text, if it can be a file's name. Raises: InvalidArgument."""
    if not _ID.fullmatch(text):
        raise InvalidArgument(f"{text!r} is no id of a working set, staging or layer")
    return text


class Folder:
    """The folder of one store. Nothing in it is written but by adapters and their daemon."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self.run = root / "run"

    # -- names -------------------------------------------------------------------------------------------------------

    def places(self, tx: str) -> Path:
        return self.root / "places" / check_id(tx)

    def votes(self, tx: str) -> Path:
        return self.root / "votes" / check_id(tx)

    def head(self, asset: str) -> Path:
        return self.root / "heads" / check_id(asset)

    # -- layers made -------------------------------------------------------------------------------------------------

    def note_made(self, places: Path, layer: str) -> None:
        """Note a layer beside the places of its transaction, before it is made: so an abort finds it."""
        self.make(places / "made")
        (places / "made" / layer).touch()

    def made(self, places: Path) -> list[str]:
        """The layers that are noted there, in order of their ids."""
        return sorted(path.name for path in (places / "made").glob("*"))

    # -- whole files -------------------------------------------------------------------------------------------------

    def read(self, path: Path) -> Mapping[str, Any] | None:
        """A record, or None where there is none. Raises: Corrupt, PermissionDenied, StoreUnavailable."""
        try:
            with translated(f"file {path}"):
                text = path.read_text(encoding="utf-8")
            found = json.loads(text)
        except NotFound:
            return None
        except ValueError as error:
            raise Corrupt(f"record {path} cannot be read: {error}", remedy="restore it from a backup") from error
        if not isinstance(found, dict):
            raise Corrupt(f"record {path} is no record", remedy="restore it from a backup")
        return found

    def write(self, path: Path, record: Mapping[str, Any]) -> None:
        """Replace a record whole, durable when this returns. Repeat: the same."""
        with translated(f"file {path}"):
            self.make(path.parent)
            temporary = path.parent / f".{secrets.token_hex(8)}"
            try:
                with temporary.open("x", encoding="utf-8") as stream:
                    json.dump(record, stream, indent=1, sort_keys=True)
                    stream.write("\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            fsync(path.parent)

    def make(self, folder: Path) -> None:
        """A folder that survives a power loss, and the names that lead to it."""
        if folder.is_dir():
            return
        self.make(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync(folder.parent)

    def remove_tree(self, folder: Path) -> None:
        with translated(f"folder {folder}"):
            if folder.exists():
                shutil.rmtree(folder)

    @contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """One thread of one process at a time. The lock ends with the process, however that dies."""
        with translated(f"lock {path}"):
            self.make(path.parent)
            stream = path.open("ab")
        with stream:
            with translated(f"lock {path}"):
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield
