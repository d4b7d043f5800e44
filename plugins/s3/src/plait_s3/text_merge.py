"""Three-way merges of text by lines, as Git does them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pygit2
from pygit2.enums import FileMode

_FIRST: Final = b"\x01plait\n"


class _MemoryObjects(pygit2.OdbBackend):
    """Git's object database in a dict: libgit2 merges files only from one."""

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[Any, tuple[Any, bytes]] = {}

    def exists_cb(self, oid: Any) -> bool:
        return oid in self._objects

    def read_cb(self, oid: Any) -> tuple[Any, bytes]:
        return self._objects[oid]

    def read_header_cb(self, oid: Any) -> tuple[Any, int]:
        kind, content = self._objects[oid]
        return kind, len(content)

    def read_prefix_cb(self, prefix: Any) -> Any:
        raise KeyError(prefix)

    def exists_prefix_cb(self, prefix: Any) -> Any:
        raise KeyError(prefix)

    def refresh_cb(self) -> None:
        return

    def __iter__(self) -> Iterator[Any]:
        return iter(self._objects)

    def write_cb(self, oid: Any, content: bytes, kind: Any) -> None:
        self._objects[oid] = (kind, content)


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By lines, as Git does. Only UTF-8 without NUL is text."""
    sides = (base, ours, theirs)
    if any(b"\0" in side for side in sides):
        return None
    try:
        for side in sides:
            side.decode()
    except UnicodeDecodeError:
        return None
    database = pygit2.Odb()
    database.add_backend(_MemoryObjects(), 1)
    repository = pygit2.Repository()
    repository.set_odb(database)
    # pygit2 1.21 fails on an empty result (a NULL buffer): a first line that no side changes keeps it from one.
    entries = [pygit2.IndexEntry("object", repository.create_blob(_FIRST + side), FileMode.BLOB) for side in sides]
    merged = repository.merge_file_from_index(entries[0], entries[1], entries[2])
    if not merged.automergeable:
        return None
    return str(merged.contents).encode().removeprefix(_FIRST)
