"""An asset as an fsspec file system: what a snapshot holds, or a working set's own view of it that can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from plait.errors import Corrupt, InvalidArgument, Unsupported

from plait_s3.blobs import Blob, Blobs, Content, check_object_key
from plait_s3.committed import Reading
from plait_s3.handles import Reader, Writer
from plait_s3.manifest import Entry, Packs
from plait_s3.overlay import Found, Overlay
from plait_s3.parallel import side_by_side
from plait_s3.selection import Selection


class AssetFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Rooted at the asset: paths are object keys, with or without a leading slash. Folders exist by what is in them.

    Nothing is cached but what never changes, so two handles on one staging see each other's writes. A copy or a move
    of what the base holds copies no bytes.
    """

    protocol: ClassVar[str] = "plait"
    cachable: ClassVar[bool] = False
    root_marker: ClassVar[str] = ""

    def __init__(self, blobs: Blobs, overlay: Overlay, *, is_writable: bool, asset: str = "") -> None:
        """`asset`: the id of what this shows, if that is known."""
        super().__init__()
        self._blobs = blobs
        self._overlay = overlay
        self.is_writable = is_writable
        self.asset = asset

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(path).removeprefix("plait://").strip("/")

    def selection(self, folder: str = "", match: str = "*") -> Selection:
        """What this shows now, or some of it: for `plait_s3.export`. Cost: reads what a working set has staged."""
        folder = folder.strip("/")
        return Selection(
            self._overlay.base, tuple(self._overlay.as_edits().items()), folder + "/" if folder else "", match
        )

    @property
    def blobs(self) -> Blobs:
        """Where its bytes are."""
        return self._blobs

    @property
    def packs(self) -> Packs:
        """Where its manifests are."""
        return self._overlay.packs

    def _check_writable(self) -> None:
        if not self.is_writable:
            raise Unsupported(
                "these objects are a committed snapshot and cannot change",
                remedy="open the asset inside a transaction: with catalog.transaction(ref) as tx, tx.open(key)",
            )

    # -- looking -----------------------------------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        key = self._strip_protocol(path)
        folder = key + "/" if key else ""
        objects, folders = self._overlay.children(folder)
        if not objects and not folders and key:
            found = self._find(key)
            if found is None:
                raise FileNotFoundError(path)
            objects = {key: found}
        listed = [_described(name, one) for name, one in objects.items()]
        listed += [_folder(name) for name in folders]  # One may have an object's name.
        listed.sort(key=lambda one: str(one["name"]).encode())
        return listed if detail else [one["name"] for one in listed]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        key = self._strip_protocol(path)
        found = self._find(key)
        if found is not None:
            return _described(key, found)
        if not key or self._overlay.holds_folder(key + "/"):
            return _folder(key)
        raise FileNotFoundError(path)

    def _find(self, key: str) -> Found | None:
        try:
            check_object_key(key)
        except InvalidArgument:
            return self._overlay.kept(key)  # Never put here, but others may name theirs so, and an import brings them.
        return self._overlay.find(key)

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        if maxdepth is not None:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        key = self._strip_protocol(path)
        found = dict(self._overlay.below(key + "/" if key else ""))
        if not found and key and (one := self._find(key)) is not None:
            found = {key: one}
        listed = {name: _described(name, one) for name, one in found.items()}
        if withdirs:
            listed |= {name: _folder(name) for name in _folders_of(found, key) if name not in listed}
            listed = {name: listed[name] for name in sorted(listed, key=str.encode)}
        return listed if detail else list(listed)

    def created(self, path: str) -> datetime:
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """When the bytes were put, as the store says."""
        found = self._known(self._strip_protocol(path))
        blob = found if isinstance(found, Blob) else self._blobs.head(found.key, found.version)
        return datetime.fromtimestamp((blob.modified_at_us if blob else 0) / 1_000_000, UTC)

    def checksum(self, path: str) -> int:
        return int(self.ukey(path)[:15], 16)

    def ukey(self, path: str) -> str:
        return str(self.info(path).get("sha256") or self.info(path).get("ETag") or "0")

    def sign(self, path: str, expiration: int = 3600, **kwargs: Any) -> str:
        key, version = _lies_at(self._known(self._strip_protocol(path)))
        return self._blobs.presign(key, version=version, seconds=expiration)

    def _known(self, key: str) -> Found:
        found = self._find(key)
        if found is None:
            raise FileNotFoundError(key)
        return found

    # -- reading -----------------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Without a range, compared with what was committed. Raises: Corrupt."""
        key = self._strip_protocol(path)
        found = self._known(key)
        size = found.size_bytes
        first = 0 if start is None else start if start >= 0 else max(0, size + start)
        last = size if end is None else end if end >= 0 else max(0, size + end)
        if first >= min(last, size):
            return b""
        reading = Reading(self._blobs, key, found)
        return reading.whole() if start is None and end is None else reading.get(first, last)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **kwargs: Any,
    ) -> Any:
        key = self._strip_protocol(path)
        if mode == "rb":
            return Reader(self, self._blobs, key, self._known(key), block_size, cache_options)
        self._check_writable()
        target = self._overlay.object_key(key)
        before = self._find(key) if mode != "wb" else None
        if mode == "xb" and before is not None:
            raise FileExistsError(path)
        writer = Writer(self._blobs, target)
        if mode == "ab" and before is not None:
            try:
                for chunk in Reading(self._blobs, key, before).stream():
                    writer.write(chunk)
            except BaseException:
                writer.discard()
                raise
        return writer

    # -- writing -----------------------------------------------------------------------------------------------------

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._check_writable()
        key = self._strip_protocol(path)
        target = self._overlay.object_key(key)
        if mode == "create" and self._find(key) is not None:
            raise FileExistsError(path)
        self._blobs.put(target, _as_bytes(value))

    def pipe(self, path: Any, value: bytes | None = None, **kwargs: Any) -> None:
        """As fsspec's; objects given as a dict are written together."""
        if isinstance(path, dict) and not kwargs:
            self._put_all(
                {self._strip_protocol(name): _as_bytes(content) for name, content in path.items()}, DEFAULT_CALLBACK
            )
        else:
            super().pipe(path, value, **kwargs)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """As fsspec's; files are read as they are written, and written together. The callback counts files."""
        if kwargs:
            super().put(lpath, rpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
            return
        planned = self._planned()
        AbstractFileSystem.put(planned, lpath, rpath, recursive=recursive, maxdepth=maxdepth)
        files = {target: Path(source) for source, target in planned.files if not os.path.isdir(source)}
        self._put_all(files, callback)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """As fsspec's; objects are read side by side. The callback counts objects."""
        planned = self._planned()
        AbstractFileSystem.get(planned, rpath, lpath, recursive=recursive, maxdepth=maxdepth, **kwargs)
        callback.set_size(len(planned.files))
        side_by_side(lambda one: self.get_file(*one), planned.files, callback.absolute_update)

    def get_file(self, rpath: Any, lpath: Any = None, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        """What is not as it was committed leaves no file. Raises: Corrupt."""
        key = self._strip_protocol(rpath)
        found = self._find(key) if isinstance(lpath, str) and not kwargs else None
        if found is None:
            super().get_file(rpath, lpath, callback=callback, **kwargs)
            return
        callback.set_size(found.size_bytes)
        os.makedirs(os.path.dirname(lpath) or ".", exist_ok=True)
        try:
            with open(lpath, "wb") as written:
                for chunk in Reading(self._blobs, key, found).stream():
                    callback.relative_update(written.write(chunk))
        except Corrupt:
            if os.path.isfile(lpath):  # Not a device.
                os.unlink(lpath)
            raise

    def _planned(self) -> _Planned:
        return _Planned(self._blobs, self._overlay, is_writable=self.is_writable)

    def _put_all(self, contents: Mapping[str, Content], callback: Any) -> None:
        self._check_writable()
        callback.set_size(len(contents))
        targets = {self._overlay.object_key(key): content for key, content in contents.items()}
        self._blobs.put_all(targets, callback.absolute_update)

    def rm_file(self, path: str) -> None:
        self._check_writable()
        key = self._strip_protocol(path)
        self._known(key)
        self._overlay.remove(key)

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        self._check_writable()
        keys = self.expand_path(path, recursive=recursive, maxdepth=maxdepth)
        self._remove_all(key for key in keys if self._find(key) is not None)

    def _remove_all(self, keys: Iterable[str]) -> None:
        side_by_side(self._overlay.remove, keys)

    def rmdir(self, path: str) -> None:
        self._check_writable()
        key = self._strip_protocol(path)
        if self._overlay.holds_folder(key + "/" if key else ""):
            raise OSError(f"folder {key!r} is not empty")

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._check_writable()
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        found = self._find(source)
        if found is None:
            if self._overlay.holds_folder(source + "/" if source else ""):
                return  # A folder exists by what is in it.
            raise FileNotFoundError(path1)
        if isinstance(found, Entry):
            self._overlay.link(target, found)
        elif source != target:
            self._blobs.copy(found.key, self._overlay.object_key(target))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Folders exist by what is in them."""
        self._check_writable()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._check_writable()

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        self._check_writable()
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")


class _Planned(AssetFileSystem):
    """Takes down which files fsspec would copy where, by its own rules for folders, globs and trailing slashes."""

    def __init__(self, blobs: Blobs, overlay: Overlay, *, is_writable: bool) -> None:
        super().__init__(blobs, overlay, is_writable=is_writable)
        self.files: list[tuple[str, str]] = []

    def put_file(self, lpath: Any, rpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        self.files.append((os.fspath(lpath), self._strip_protocol(rpath)))

    def get_file(self, rpath: Any, lpath: Any = None, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        self.files.append((rpath, lpath))


def _as_bytes(value: bytes) -> bytes:
    """Also of what only looks like them. (Of a number, `bytes` makes that many zeros.) Raises: TypeError."""
    return value if isinstance(value, bytes) else bytes(memoryview(value))


def _folders_of(keys: Iterable[str], top: str) -> set[str]:
    """The folders that lead from a folder to these keys, itself included unless it is the root."""
    found: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        while folder and len(folder) >= len(top) and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _lies_at(found: Found) -> tuple[str, str]:
    return found.key, found.version


def _described(name: str, found: Found) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "size": found.size_bytes, "type": "file"}
    if found.etag:
        described["ETag"] = found.etag
    if isinstance(found, Entry) and found.sha256:
        described["sha256"] = found.sha256.hex()
    return described


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}
