"""The files in a volume for tools that speak fsspec, such as `plait get` and `put`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar, Final

from fsspec.spec import AbstractFileSystem
from plait.errors import InvalidArgument, Unsupported

from plait_block.files import File, check_path, entries, entry, folders_of, item_of

_NAME_BYTES_MAX: Final = 255
"""As ext4 says; fuse2fs says of longer ones that they do not exist."""
_DEPTH_MAX: Final = 256
"""Of folders in each other: fsspec walks them by recursion."""


class VolumeFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Rooted at the volume's filesystem; names are a volume's items. It holds while the `with` block that gave it does.

    Links are listed and never followed: where they lead from here is the machine's, not the volume's.
    """

    protocol: ClassVar[str] = "plait-volume"
    cachable: ClassVar[bool] = False
    root_marker: ClassVar[str] = ""

    def __init__(self, root: Path, *, is_writable: bool) -> None:
        super().__init__()
        self._root = root
        self._is_writable = is_writable

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(path).strip("/")

    # -- looking -----------------------------------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        item = self._strip_protocol(path)
        known = self._entry(item) if item else None
        found = entries(self._root, known.path if known else "") if known is None or known.is_folder else [known]
        listed = [_described(one) for one in found]
        return listed if detail else [one["name"] for one in listed]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        item = self._strip_protocol(path)
        return _described(self._entry(item)) if item else {"name": "", "size": 0, "type": "directory"}

    # -- reading and writing -----------------------------------------------------------------------------------------

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Written: with the folders that lead to it. Raises: Unsupported for what is no regular file, and for writing
        to a commit; InvalidArgument for writing over a folder, or below a file."""
        item = self._strip_protocol(path)
        where = self._path(item)
        if mode != "rb":
            self._check_writable()
            self._make_folders(where.parent)
        if mode == "rb" or os.path.lexists(where):
            self._check_regular(self._entry(item), is_written=mode != "rb")
        return where.open(mode)

    def _check_regular(self, found: File, *, is_written: bool) -> None:
        if found.is_regular:
            return
        item = item_of(found.path)
        if found.is_folder and is_written:
            raise InvalidArgument(f"{item} is a folder in the volume", remedy=f"put into it with {item}/")
        if found.is_folder:
            raise IsADirectoryError(item)
        raise Unsupported(f"{item} is a {found.kind} in the volume, no regular file", remedy="name a file")

    def _make_folders(self, where: Path) -> None:
        path = where.relative_to(self._root).as_posix()
        for folder in [*folders_of(path), path]:
            try:
                (self._root / folder).mkdir(exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                told = f"{item_of(folder)} is no folder in the volume"
                raise InvalidArgument(told, remedy="choose another name") from error

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        self._check_writable()
        self._path(self._strip_protocol(path)).mkdir(parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._check_writable()
        item = self._strip_protocol(path)
        if item and not exist_ok and os.path.lexists(self._path(item)):
            raise FileExistsError(path)
        self._make_folders(self._path(item) if item else self._root)

    def rm_file(self, path: str) -> None:
        """Remove a file, a link, or an empty folder, as fsspec asks of every path below one that is removed."""
        self._check_writable()
        found = self._entry(self._strip_protocol(path))
        if found.is_folder:
            found.where.rmdir()
        else:
            found.where.unlink()

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rmdir(self, path: str) -> None:
        self.rm_file(path)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb") as target:
            shutil.copyfileobj(source, target)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if not self._is_writable:
            raise Unsupported(
                "these files are shown to be read",
                remedy="write inside a transaction: with tx.open(key).filesystem(write=True) as files",
            )

    def _entry(self, item: str) -> File:
        return entry(self._root, self._path(item).relative_to(self._root).as_posix())

    def _path(self, item: str) -> Path:
        """Where an item is. Raises: InvalidArgument, also for one behind a link."""
        path = check_path(item)
        names = path.split("/")
        if len(names) > _DEPTH_MAX or max(len(os.fsencode(name)) for name in names) > _NAME_BYTES_MAX:
            raise InvalidArgument(
                f"item {item!r} cannot be a path in the volume",
                remedy=f"use names of at most {_NAME_BYTES_MAX} bytes, and at most {_DEPTH_MAX} folders deep",
            )
        for folder in folders_of(path):
            if (self._root / folder).is_symlink():
                raise InvalidArgument(
                    f"{item} is behind the link {item_of(folder)}, which is not followed",
                    remedy="name the file by the folder that the link leads to",
                )
        return self._root / path


def _described(file: File) -> dict[str, Any]:
    """As fsspec wants it; what is neither file nor folder is called what it is."""
    kind = "directory" if file.is_folder else file.kind
    return {"name": item_of(file.path), "size": file.stat.st_size if file.is_regular else None, "type": kind}
