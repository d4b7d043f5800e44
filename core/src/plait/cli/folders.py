"""Objects: which assets hold some, which file is which of many, and how far the copying is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import InvalidArgument, NotFound, Unsupported

if TYPE_CHECKING:
    from plait.cli.session import Session
    from plait.types import Key


def holds_objects(session: Session, key: Key) -> bool:
    """Whether an asset, or one yet to be made, is opened as a filesystem; asked of its store, before any is opened.

    Raises: NotFound, Unsupported for a store whose kind no plugin reads.
    """
    from plait.adapter import Capability

    return Capability.OBJECTS in session.catalog.capabilities(key[0])


def holds_files(session: Session, key: Key) -> bool:
    """Whether an asset's handle shows it as a filesystem for a while, as a volume's does; else as `holds_objects`."""
    from plait.adapter import Capability

    return Capability.FILES in session.catalog.capabilities(key[0])


def check_files(session: Session, key: Key, remedy: str = "use the asset's native client") -> None:
    """Raises: Unsupported for an asset that holds neither objects nor files; else as `holds_objects`."""
    from plait.refspec import format_key

    if not holds_objects(session, key) and not holds_files(session, key):
        raise Unsupported(f"{format_key(key)} is not in a store of objects or volumes", remedy=remedy)


@contextmanager
def filesystem(session: Session, key: Key, handle: Any, *, write: bool = False) -> Iterator[Any]:
    """What an opened asset holds, as an fsspec filesystem; where it holds files, what is written is taken in when the
    block ends well. Of what `check_files` passes."""
    if holds_objects(session, key):
        yield handle
    else:
        with handle.filesystem(write=write) as files:
            yield files


def files_to_put(source: Path, item: str | None) -> dict[str, Path]:
    """Object name → file: for a folder all of its files, below `item`; for a file `item`, or its own name below an
    `item` that is empty or ends with a slash.

    Raises: InvalidArgument for an empty folder, and for links to folders, which could lead in circles.
    """
    folder = (item or "").strip("/")
    prefix = folder + "/" if folder else ""
    if not source.is_dir():
        return {prefix + source.name if not item or item.endswith("/") else item: source}
    found = {prefix + path.relative_to(source).as_posix(): path for path in sorted(_files_below(source))}
    if not found:
        raise InvalidArgument(f"folder {str(source)!r} holds no file")
    return found


def _files_below(source: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(source):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise InvalidArgument(
                    f"{os.path.join(folder, name)!r} is a link to a folder", remedy="put that folder by itself"
                )
        for name in files:
            yield Path(folder, name)


def objects_to_get(handle: Any, path: str, item: str | None, target: Path | None) -> Mapping[str, Path]:
    """Object name → file: for a folder of objects, or an asset as a whole, all of them below `target`.

    Raises: NotFound, Unsupported for a name that would lead out of `target`: somebody else may have given it.
    """
    folder = (item or "").strip("/")
    is_object = not (item or "/").endswith("/") and handle.isfile(folder)  # A folder may have the same name.
    found = {} if is_object else handle.find(folder, detail=True)
    # What else a volume holds, links and devices, has no content.
    names = [folder] if is_object else [name for name, one in found.items() if one["type"] == "file"]
    if not names:
        raise NotFound(f"{path} does not exist", remedy=f"see 'plait ls {path.partition('::')[0]}::'")
    if names == [folder]:
        name = folder.rpartition("/")[2]
        return {folder: Path(name) if target is None else target / name if target.is_dir() else target}
    below = Path() if target is None else target
    return {name: _inside(below, name[len(folder) :].lstrip("/")) for name in names}


def _inside(folder: Path, name: str) -> Path:
    found = folder / name
    if not found.resolve().is_relative_to(folder.resolve()) or found.resolve() == folder.resolve():
        raise Unsupported(f"object {name!r} cannot be a file below {folder}", remedy="get it alone, into a named file")
    return found


def counting(session: Session, what: str) -> Any:
    """fsspec's callback that shows how many objects are done."""
    from fsspec.callbacks import Callback

    class Counting(Callback):  # type: ignore[misc]
        def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
            session.progress(what, self.value, self.size)

    return Counting()
