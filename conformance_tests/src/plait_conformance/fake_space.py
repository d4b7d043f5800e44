"""What takes space in a fake store: objects, versions and pins; proving them, listing them, deleting them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from plait.types import Depth, Health, Item, SnapshotRef

from plait_conformance.fake_storage import Folder, remove

_FOLDERS = ("objects", "versions", "pins")


def verify(folder: Folder, snapshot: SnapshotRef, depth: Depth) -> Health:
    """Whether the version is there and pinned; its digest and object; the object's bytes."""
    if not (folder.path / "versions" / f"{snapshot.version}.json").exists():
        return Health(1, (f"version {snapshot.version} is missing",))
    problems = []
    if not folder.pins_of(snapshot.version):
        problems.append(f"version {snapshot.version} is not pinned")
    if depth is Depth.EXISTS:
        return Health(1, tuple(problems))
    record = folder.version(snapshot.version)
    if record is None:
        return Health(1, (*problems, f"version {snapshot.version} is not what its name says"))
    content = record.members.get(snapshot.asset)
    if content != snapshot.digest.hex():
        problems.append(f"version {snapshot.version} holds {content}, expected {snapshot.digest.hex()}")
        return Health(1, tuple(problems))
    data = folder.object_bytes(content)
    if data is None:
        problems.append(f"object {content} is missing")
    elif depth is Depth.BYTES and hashlib.sha256(data).hexdigest() != content:
        problems.append(f"object {content} is not what its name says")
    return Health(2, tuple(problems))


def reachable(folder: Folder, version: str) -> Iterator[Item]:
    """The version, all its objects (a native snapshot is kept whole), its pins, and the records it descends from."""
    record = folder.version(version)
    for content in sorted(set(record.members.values())) if record else ():
        yield _item(folder, f"objects/{content}")
    for ancestor in folder.ancestors(version):
        yield _item(folder, f"versions/{ancestor}.json")
    for tx in sorted(folder.pins_of(version)):
        yield _item(folder, f"pins/{tx}/{version}")


def inventory(folder: Folder, prefix: str) -> Iterator[Item]:
    """Every object, version and pin whose path starts with the prefix, in order."""
    for name in _FOLDERS:
        for path in sorted((folder.path / name).rglob("*")):
            relative = path.relative_to(folder.path).as_posix()
            if path.is_file() and not path.name.startswith(".") and relative.startswith(prefix):
                yield _item(folder, relative)


def delete(folder: Folder, paths: Sequence[str], failpoint: Callable[[str], None]) -> None:
    """Delete exactly these, pins first. Raises: AssertionError when a pin or head that stays needs one of them."""
    gone = set(paths)
    assert all(path.split("/")[0] in _FOLDERS and ".." not in path for path in gone), f"not the store's: {gone}"
    kept = {version for tx, version in folder.pins() if f"pins/{tx}/{version}" not in gone}
    kept |= {head.version for head in folder.heads().values() if head.version is not None}
    for version in kept:
        needed = {item.path for item in reachable(folder, version) if not item.path.startswith("pins/")}
        assert not needed & gone, f"delete of {needed & gone}, which the pinned or published {version} needs"
    for path in sorted(gone, key=lambda path: (not path.startswith("pins/"), path)):
        failpoint("fake.delete.before_item")
        remove(folder.path / path)


def _item(folder: Folder, path: str) -> Item:
    try:
        status = Path(folder.path / path).stat()
    except FileNotFoundError:
        return Item(path)
    return Item(path, status.st_size, status.st_mtime_ns // 1000)
