"""An asset as an fsspec filesystem: a manifest, and on top of it, in a transaction, a real folder of new files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import quote, unquote

from fsspec import AbstractFileSystem
from plait.errors import InvalidArgument, Unsupported

from plait_files.folder import Folder
from plait_files.manifest import Content, Manifests


class Overlay:
    """A transaction's own files of one asset. Any tool may write plain files below `files`."""

    def __init__(self, location: Path) -> None:
        self.files = location / "files"
        self.deleted = location / "deleted"

    def make(self) -> None:
        self.files.mkdir(parents=True, exist_ok=True)
        self.deleted.mkdir(parents=True, exist_ok=True)

    def names(self) -> Iterator[str]:
        """Objects written here, sorted."""
        found = []
        for folder, _, names in os.walk(self.files):
            found += [(Path(folder) / name).relative_to(self.files).as_posix() for name in names]
        return iter(sorted(found))

    def tombstones(self) -> set[str]:
        """Objects deleted here, but for those written again."""
        if not self.deleted.is_dir():
            return set()
        return {unquote(path.name) for path in self.deleted.iterdir()} - set(self.names())

    def path(self, name: str) -> Path:
        return self.files / name

    def bury(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)
        (self.deleted / quote(name, safe="")).touch()

    def unbury(self, name: str) -> None:
        (self.deleted / quote(name, safe="")).unlink(missing_ok=True)


def check_name(name: str) -> str:
    """Return an object's name, or raise InvalidArgument: one that would leave its folder, or that none can hold."""
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(
            f"{name!r} is no object name", remedy="use parts joined by single slashes, as 2013/01.csv"
        )
    if any(len(part.encode()) > 255 for part in parts):
        raise InvalidArgument(f"object name {name[:40]!r}… has a part of more than 255 bytes")
    return name


class AssetFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Paths are object names. Read-only without an overlay."""

    protocol: ClassVar[str] = "plait"
    root_marker: ClassVar[str] = ""
    cachable: ClassVar[bool] = False

    def __init__(self, folder: Folder, manifests: Manifests, root: bytes, overlay: Overlay | None) -> None:
        super().__init__(skip_instance_cache=True)
        self._folder = folder
        self._manifests = manifests
        self._root = root
        self._overlay = overlay

    # -- reading -----------------------------------------------------------------------------------------------------

    def _objects(self, prefix: str) -> dict[str, int]:
        """Names with this prefix and their sizes, as seen here."""
        found = {name: content.size_bytes for name, content in self._manifests.under(self._root, prefix)}
        if self._overlay is not None:
            for name in self._overlay.tombstones():
                found.pop(name, None)
            for name in self._overlay.names():
                if name.startswith(prefix):
                    found[name] = self._overlay.path(name).stat().st_size
        return found

    def _content(self, name: str) -> Path | Content | None:
        """Where an object's bytes are."""
        if self._overlay is not None:
            if self._overlay.path(name).is_file():
                return self._overlay.path(name)
            if (self._overlay.deleted / quote(name, safe="")).exists():
                return None
        return self._manifests.get(self._root, name)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is directly below a path. Cost: the names below it."""
        name = self._strip_protocol(path).strip("/")
        prefix = f"{name}/" if name else ""
        found: dict[str, dict[str, Any]] = {}
        for each, size in self._objects(prefix).items():
            head, slash, _ = each[len(prefix) :].partition("/")
            below = prefix + head
            kind = "directory" if slash else "file"
            found.setdefault(below, {"name": below, "type": kind, "size": 0 if slash else size})
        if not found and name:
            return [self.info(name)] if detail else [self.info(name)["name"]]
        listed = [found[each] for each in sorted(found)]
        return listed if detail else [one["name"] for one in listed]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        name = self._strip_protocol(path).strip("/")
        if not name:
            return {"name": "", "type": "directory", "size": 0}
        content = self._content(name)
        if isinstance(content, Path):
            return {"name": name, "type": "file", "size": content.stat().st_size}
        if content is not None:
            return {"name": name, "type": "file", "size": content.size_bytes, "sha256": content.digest.hex()}
        if self._objects(f"{name}/"):
            return {"name": name, "type": "directory", "size": 0}
        raise FileNotFoundError(name)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> IO[bytes]:
        name = self._strip_protocol(path).strip("/")
        if mode == "rb":
            content = self._content(name)
            if content is None:
                raise FileNotFoundError(name)
            found = content if isinstance(content, Path) else self._folder.object(content.digest)
            return found.open("rb")
        overlay = self._writable()
        target = overlay.path(check_name(name))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidArgument(f"{name!r} lies below an object, and folders cannot hold both") from error
        if mode == "ab" and not target.exists():
            content = self._content(name)
            if isinstance(content, Content):
                target.write_bytes(self._folder.read(self._folder.object(content.digest)))
        stream = target.open(mode)
        overlay.unbury(name)
        return stream

    # -- writing -----------------------------------------------------------------------------------------------------

    def _writable(self) -> Overlay:
        if self._overlay is None:
            raise Unsupported(
                "these objects are a committed snapshot and cannot change",
                remedy="open them inside a transaction: catalog.transaction(ref) as tx, then tx.open(key)",
            )
        return self._overlay

    def rm_file(self, path: str) -> None:
        name = self._strip_protocol(path).strip("/")
        if self._content(name) is None:
            raise FileNotFoundError(name)
        self._writable().bury(name)

    def _rm(self, path: str) -> None:
        if self.isfile(path):
            self.rm_file(path)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.pipe_file(path2, self.cat_file(path1))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing: folders are their objects' names."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing, as `mkdir`."""

    def rmdir(self, path: str) -> None:
        """Nothing, as `mkdir`."""
