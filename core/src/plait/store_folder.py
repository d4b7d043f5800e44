"""The folder of a store on a local disk. It is created and marked when the store is added, and never later.

The mark tells an empty store from an empty place, such as a disk that is not mounted or a folder that was moved. A
folder that holds something but has no mark is older than marks, or was restored without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from plait.disk import fsync
from plait.errors import StoreUnavailable
from plait.types import Store

MARK = os.path.join("_plait", "store")
_TEXT = b"plait keeps a store in this folder, and asks nothing of a folder that is empty: leave this file here.\n"
_NOBODYS = {"lost+found"}
"""Names that a new file system holds by itself."""


def make_folder(folder: str) -> str:
    """Create a store's folder, and mark it; the mark survives a power loss. Repeat: no-op.

    Returns: why the folder cannot be used, or "". A folder that holds something may be read-only: it needs no mark.
    """
    mark = os.path.join(folder, MARK)
    try:
        os.makedirs(os.path.dirname(mark), exist_ok=True)
        with open(mark, "wb") as file:
            file.write(_TEXT)
            os.fsync(file.fileno())
        for path in (os.path.dirname(mark), folder, os.path.dirname(folder)):
            fsync(path)
    except OSError as error:
        if not any(_held(folder)):
            return f"folder {folder} cannot be made, or written: {error.strerror}"
    return ""


def check_folder(store: Store, folder: str) -> None:
    """Raises: StoreUnavailable if a store's folder is missing, or an empty place. Writes nothing. Cost: one look-up."""
    if os.path.exists(os.path.join(folder, MARK)) or any(_held(folder)):
        return
    what = "is empty" if os.path.isdir(folder) else "is not there"
    option = next((name for name, value in store.options.items() if value.rstrip("/").endswith(folder)), "path")
    raise StoreUnavailable(
        f"store {store.name!r}: its folder {folder} {what}",
        remedy="mount its disk, or bring the folder back; if it moved: "
        f"'plait store set {store.name} --option {option}=…'; to go on without what it held, make {MARK} in it",
    )


def _held(folder: str) -> Iterator[str]:
    """The names in a folder that somebody put there."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name not in _NOBODYS:
                    yield entry.name
    except PermissionError:
        yield folder  # It cannot be listed, so take it to hold something.
    except OSError:
        return
