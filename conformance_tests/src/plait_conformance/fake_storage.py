"""The fake store's bytes: one folder, files written atomically and fsynced, so that any process may die at any time.

objects/<content>                      an asset's items, named after their own hash
versions/<version>.json                an immutable record: which content each of its assets has, and its parents
pins/<tx>/<version>                    keeps a version, made before it
names/<tx>/<name>.json                 what (tx, attempt, arguments) gave: the same question gets the same answer
stagings/<tx>/<place>/                 place.json, items/<item>: where a transaction's clients write
heads/<asset>/<number>.json            the native head: a numbered log, each number written once
working/<asset>.json                   what a torn publish writes second
locks/<asset>                          a writer holds the asset
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from plait.disk import fsync

FOUND = "found"
"""The owner of pins on what somebody else wrote: no transaction's abort may let go of it."""


@dataclass(frozen=True, slots=True)
class Record:
    """An immutable version: asset → content. `salt` makes equal content unequal versions, as Dolt's commits are."""

    members: Mapping[str, str]
    parents: tuple[str, ...] = ()
    salt: str = ""

    @property
    def bytes(self) -> bytes:
        return _pack({"members": dict(self.members), "parents": list(self.parents), "salt": self.salt})

    @property
    def version(self) -> str:
        return hashlib.sha256(self.bytes).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Named:
    """What a call answered: a record that it made (None: it made none), and the assets that it stands for by key."""

    record: Record | None
    assets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """One entry of an asset's numbered log. `version` None: it is gone. `seq` 0: somebody else wrote it."""

    number: int
    version: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where one staging is written: which asset it is, and the versions that it goes on from."""

    location: str
    asset: str
    parents: tuple[str, ...]


class Folder:
    """The bytes of one fake store. Holds no state but the path: two instances, or two processes, see the same."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, over all threads and processes; a dead one lets go."""
        make_folder(self.path)
        with open(self.path / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # -- content and versions ----------------------------------------------------------------------------------------

    def put_object(self, items: Mapping[str, str]) -> str:
        """Store items under their hash. Repeat: no-op."""
        data = _pack(dict(items))
        content = hashlib.sha256(data).hexdigest()
        write_new(self.path / "objects" / content, data)
        return content

    def object(self, content: str) -> dict[str, str]:
        items: dict[str, str] = json.loads((self.path / "objects" / content).read_bytes())
        return items

    def object_bytes(self, content: str) -> bytes | None:
        return _read(self.path / "objects" / content)

    def put_version(self, record: Record) -> str:
        """Repeat: no-op."""
        write_new(self.path / "versions" / f"{record.version}.json", record.bytes)
        return record.version

    def version(self, version: str) -> Record | None:
        """The record, or None when there is none or it is not what its name says."""
        data = _read(self.path / "versions" / f"{version}.json")
        if data is None:
            return None
        found = json.loads(data)
        record = Record(found["members"], tuple(found["parents"]), found["salt"])
        return record if record.version == version else None

    def ancestors(self, version: str) -> Iterator[str]:
        """The version itself and all that it descends from."""
        seen, waiting = {version}, [version]
        while waiting:
            yield (one := waiting.pop())
            record = self.version(one)
            for parent in record.parents if record else ():
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)

    # -- pins and names ----------------------------------------------------------------------------------------------

    def pin(self, tx: str, version: str) -> None:
        """Repeat: no-op."""
        write_new(self.path / "pins" / tx / version, b"")

    def pins(self) -> set[tuple[str, str]]:
        """(tx, version) of every pin."""
        return {(path.parent.name, path.name) for path in self.path.glob("pins/*/*") if not path.name.startswith(".")}

    def pins_of(self, version: str) -> set[str]:
        """The transactions that pin a version."""
        return {path.parent.name for path in self.path.glob(f"pins/*/{version}")}

    def name(self, tx: str, name: str, named: Named) -> Named:
        """Answer a question once and for all; the answer that stands."""
        record = named.record
        packed = None if record is None else [dict(record.members), list(record.parents), record.salt]
        write_new(self._name(tx, name), _pack({"record": packed, "assets": dict(named.assets)}))
        stands = self.named(tx, name)
        assert stands is not None
        return stands

    def named(self, tx: str, name: str) -> Named | None:
        data = _read(self._name(tx, name))
        if data is None:
            return None
        found = json.loads(data)
        packed = found["record"]
        record = None if packed is None else Record(packed[0], tuple(packed[1]), packed[2])
        return Named(record, found["assets"])

    def _name(self, tx: str, name: str) -> Path:
        return self.path / "names" / tx / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json"

    def forget(self, what: str, tx: str) -> None:
        """Remove a transaction's pins, names or stagings. Repeat: no-op."""
        assert tx.strip(".")
        assert "/" not in tx
        shutil.rmtree(self.path / what / tx, ignore_errors=True)
        if (self.path / what).is_dir():
            fsync(self.path / what)

    # -- places ------------------------------------------------------------------------------------------------------

    def make_place(self, tx: str, name: str, asset: str, parents: tuple[str, ...], items: Mapping[str, str]) -> Place:
        """A place with these items, whole or not at all. Repeat: the place as it is now, never reset."""
        location = f"stagings/{tx}/{hashlib.sha256(name.encode()).hexdigest()[:20]}"
        target = self.path / location
        if not target.is_dir():
            temporary = target.parent / f".{uuid.uuid4().hex}"
            make_folder(temporary / "items")
            for item, text in items.items():
                write_over(temporary / "items" / item_file(item), text.encode())
            write_over(temporary / "place.json", _pack({"asset": asset, "parents": list(parents)}))
            try:
                temporary.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                shutil.rmtree(temporary)
            fsync(target.parent)
        place = self.place(location)
        assert place is not None
        return place

    def place(self, location: str) -> Place | None:
        """The place at a location, or None when nothing was ever staged there."""
        if not location.startswith("stagings/"):
            return None
        data = _read(self.path / location / "place.json")
        if data is None:
            return None
        found = json.loads(data)
        return Place(location, found["asset"], tuple(found["parents"]))

    def items(self, location: str) -> dict[str, str]:
        """What is in a place now, by item."""
        paths = (path for path in (self.path / location / "items").iterdir() if not path.name.startswith("."))
        return dict(sorted((unquote(path.name[2:]), path.read_text()) for path in paths))

    def set_item(self, location: str, item: str, text: str | None) -> None:
        """Write one item, or (None) remove it. Repeat: no-op."""
        path = self.path / location / "items" / item_file(item)
        if text is None:
            remove(path)
        else:
            write_over(path, text.encode())

    def freeze(self, location: str) -> None:
        write_new(self.path / location / "frozen", b"")

    def is_frozen(self, location: str) -> bool:
        return (self.path / location / "frozen").exists()

    def thaw(self, location: str) -> None:
        """Repeat: no-op."""
        remove(self.path / location / "frozen")

    # -- heads -------------------------------------------------------------------------------------------------------

    def head(self, asset: str) -> Head:
        """The newest entry of an asset's log; number 0 when there is none."""
        folder = self.path / "heads" / _asset_file(asset)
        numbers = [int(path.stem) for path in folder.glob("[0-9]*.json")] if folder.is_dir() else []
        if not numbers:
            return Head(0, None, 0)
        found = json.loads((folder / f"{max(numbers)}.json").read_bytes())
        return Head(max(numbers), found["version"], found["seq"])

    def log(self, asset: str) -> list[Head]:
        """Every entry, oldest first."""
        folder = self.path / "heads" / _asset_file(asset)
        entries = []
        for number in range(1, self.head(asset).number + 1):
            found = json.loads((folder / f"{number}.json").read_bytes())
            entries.append(Head(number, found["version"], found["seq"]))
        return entries

    def append_head(self, asset: str, head: Head) -> bool:
        """Write one number of the log; False when somebody else has written it."""
        path = self.path / "heads" / _asset_file(asset) / f"{head.number}.json"
        return write_new(path, _pack({"version": head.version, "seq": head.seq}))

    def heads(self) -> dict[str, Head]:
        """The head of every asset that ever had one."""
        folder = self.path / "heads"
        assets = sorted(unquote(path.name) for path in folder.iterdir()) if folder.is_dir() else []
        return {asset: self.head(asset) for asset in assets}

    def working(self, asset: str) -> int:
        """The number of the log up to which the second write of a publish has come."""
        data = _read(self.path / "working" / f"{_asset_file(asset)}.json")
        return 0 if data is None else int(json.loads(data))

    def set_working(self, asset: str, number: int) -> None:
        write_over(self.path / "working" / f"{_asset_file(asset)}.json", _pack(number))

    @property
    def is_down(self) -> bool:
        return (self.path / "down").exists()

    def is_held(self, asset: str) -> bool:
        return (self.path / "locks" / _asset_file(asset)).exists()


# -- what others do to a store: for tests ------------------------------------------------------------------------------


def write_behind(path: str | os.PathLike[str], asset: str, items: Mapping[str, str] | None) -> str | None:
    """Write past plait, as a native client would: a new head of `asset` (None: it is gone); its version."""
    folder = Folder(path)
    with folder.locked():
        head = folder.head(asset)
        version = None
        if items is not None:
            content = folder.put_object(items)
            parents = () if head.version is None else (head.version,)
            version = folder.put_version(Record({asset: content}, parents, uuid.uuid4().hex))
        written = folder.append_head(asset, Head(head.number + 1, version, 0))
        assert written
        folder.set_working(asset, head.number + 1)
    return version


def take_down(path: str | os.PathLike[str]) -> None:
    """The store answers nobody until `bring_up`."""
    write_over(Path(path) / "down", b"")


def bring_up(path: str | os.PathLike[str]) -> None:
    """Repeat: no-op."""
    remove(Path(path) / "down")


def hold(path: str | os.PathLike[str], asset: str) -> None:
    """A writer opens the asset: its head is busy until `release`."""
    write_over(Path(path) / "locks" / _asset_file(asset), b"")


def release(path: str | os.PathLike[str], asset: str) -> None:
    """The writer closes the asset. Repeat: no-op."""
    remove(Path(path) / "locks" / _asset_file(asset))


def head_items(path: str | os.PathLike[str], asset: str) -> dict[str, str] | None:
    """What a native reader sees at the head, or None when there is none."""
    folder = Folder(path)
    version = folder.head(asset).version
    record = None if version is None else folder.version(version)
    return None if record is None else folder.object(record.members[asset])


# -- files -------------------------------------------------------------------------------------------------------------


def write_new(path: Path, data: bytes) -> bool:
    """Write a whole file durably unless the name is taken; say whether it was free."""
    if path.exists():
        return False
    temporary = _temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    fsync(path.parent)
    return True


def write_over(path: Path, data: bytes) -> None:
    """Write a whole file durably, in place of what had the name."""
    os.replace(_temporary(path, data), path)
    fsync(path.parent)


def remove(path: Path) -> None:
    """Repeat: no-op."""
    if path.exists():
        path.unlink(missing_ok=True)
        fsync(path.parent)


def make_folder(path: Path) -> None:
    """A folder and those above it, durably. Repeat: no-op."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync(path.parent)


def item_file(item: str) -> str:
    """An item as a file's name; the prefix keeps "." and ".." and hidden names apart from the folder's own."""
    return f"i-{quote(item, safe='')}"


def _temporary(path: Path, data: bytes) -> Path:
    make_folder(path.parent)
    temporary = path.parent / f".{uuid.uuid4().hex}"
    with open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _asset_file(asset: str) -> str:
    return quote(asset, safe="")


def _pack(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
