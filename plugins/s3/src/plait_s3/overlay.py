"""A working set's view of one asset: what was staged lies over the base manifest.

    _plait/staging/<tx>/<intent>/<key>   plain objects, which any tool may put
    _plait/edits/<tx>/<intent>/<hash>    what a plain object cannot say: a key is removed, or has another one's bytes

A plain object wins over an edit, and an edit over the base: who removes or links a key deletes the plain object last,
and who reads both reads the plain objects first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from plait.codec import pack, unpack
from plait.errors import Corrupt
from plait.types import Staging

from plait_s3.blobs import EDITS, STAGING, Blob, Blobs, check_object_key, sha256_of, unheard
from plait_s3.manifest import NOTHING, Entry, Manifest, Packs, Root, decode_entry, encode_entry
from plait_s3.parallel import side_by_side

Found: TypeAlias = Blob | Entry
"""An object of the view: staged, or kept."""

Change: TypeAlias = Blob | Entry | None
"""A staged object, a kept one under this key now, or a removal."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one transaction stages one asset: named by the intent, since an asset may be staged twice in a row."""

    tx: str
    intent: str

    @property
    def objects(self) -> str:
        return f"{STAGING}{self.tx}/{self.intent}/"

    @property
    def edits(self) -> str:
        return f"{EDITS}{self.tx}/{self.intent}/"

    def edit(self, key: str) -> str:
        """Named by a hash, so that no edit is the folder of another."""
        return self.edits + hashlib.sha256(key.encode()).hexdigest()[:40]


def place_of(staging: Staging) -> Place:
    return Place(staging.tx, staging.attrs["intent"])


def base_of(staging: Staging) -> Root:
    """The manifest under a staging: its base's, or that of the snapshot that it was restored to as a whole."""
    if "restored-root" in staging.attrs:
        return Root(staging.attrs["restored-pack"], bytes.fromhex(staging.attrs["restored-root"]))
    return NOTHING if staging.base is None else Root(staging.base.version, staging.base.digest)


class Overlay:
    """Reads and writes one staging. Keeps nothing but edits it has read, so it sees what others write at once."""

    def __init__(self, blobs: Blobs, packs: Packs, place: Place | None, base: Root) -> None:
        """`place` None: the base alone, read-only."""
        self._blobs = blobs
        self._place = place
        self.packs = packs
        self.base = base
        self.manifest = Manifest(packs, base)
        self._root = base.node
        self._edits_read: dict[tuple[str, str, int], tuple[str, Entry | None]] = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    def staged(self, folder: str) -> dict[str, Blob]:
        """The plain objects below a folder ("": all), by key. (Markers of empty folders are none.)"""
        if self._place is None:
            return {}
        return self._plain(self._blobs.list(self._place.objects + folder))

    def _plain(self, found: Iterable[Blob]) -> dict[str, Blob]:
        assert self._place is not None
        start = len(self._place.objects)
        return {blob.key[start:]: blob for blob in found if not blob.key.endswith("/")}

    def edits(self) -> dict[str, Entry | None]:
        """All edits, by key."""
        if self._place is None:
            return {}
        return dict(side_by_side(self._read_edit, self._blobs.list(self._place.edits)))

    def _read_edit(self, blob: Blob) -> tuple[str, Entry | None]:
        name = (blob.key, blob.etag, blob.modified_at_us)
        if not blob.etag or name not in self._edits_read:
            self._edits_read[name] = _decode_edit(self._blobs.get(blob.key))
        return self._edits_read[name]

    def changes(self) -> dict[str, Change]:
        """Everything that the staging says, in key order; objects with their versions, where the store keeps these."""
        if self._place is None:
            return {}
        staged = self._plain(self._blobs.list_current(self._place.objects, unheard))
        merged: dict[str, Change] = {**self.edits(), **staged}
        return {key: merged[key] for key in sorted(merged, key=str.encode)}

    def as_edits(self) -> dict[bytes, bytes | None]:
        """What the staging changes in the base's tree. Staged objects are hashed as they are now, and not pinned."""

        def edit(one: tuple[str, Change]) -> tuple[bytes, bytes | None]:
            key, change = one
            if isinstance(change, Blob):
                hashed = sha256_of(self._blobs, change.key)
                change = Entry(change.size_bytes, change.etag, hashed, change.key)
            return key.encode(), None if change is None else encode_entry(change)

        return dict(side_by_side(edit, self.changes().items()))

    def find(self, key: str) -> Found | None:
        """The object of this key. Cost: at most one look at the staging, one at its edits, the tree's height."""
        if self._place is not None:
            staged = self._blobs.head(self._place.objects + key)
            if staged is not None:
                return staged
            edit = self._edit(key)
            if edit is not None:
                return edit[1]
        return self.kept(key)

    def kept(self, key: str) -> Entry | None:
        """What the base holds."""
        value = self.manifest.tree.get(self._root, key.encode())
        return None if value is None else decode_entry(value)

    def _edit(self, key: str) -> tuple[str, Entry | None] | None:
        assert self._place is not None
        found = self._blobs.read_etag(self._place.edit(key))
        return None if found is None else _decode_edit(found[0])

    def below(self, folder: str) -> Iterator[tuple[str, Found]]:
        """Every object below a folder ("" or with a slash at its end), ascending by bytes."""
        changed = {key: change for key, change in self._changes_below(folder).items() if key.startswith(folder)}
        ahead = sorted(changed, key=str.encode, reverse=True)
        for key, entry in self.manifest.entries(self._root, prefix=folder):
            while ahead and ahead[-1].encode() < key.encode():
                yield from _alive(ahead[-1], changed[ahead.pop()])
            if ahead and ahead[-1] == key:
                yield from _alive(key, changed[ahead.pop()])
            else:
                yield key, entry
        while ahead:
            yield from _alive(ahead[-1], changed[ahead.pop()])

    def _changes_below(self, folder: str) -> dict[str, Change]:
        staged = self.staged(folder)
        return {**self.edits(), **staged}

    def children(self, folder: str) -> tuple[dict[str, Found], set[str]]:
        """The objects and the folders right below a folder. Cost: O(children · log objects), not O(objects)."""
        changed = {key: change for key, change in self._changes_below(folder).items() if key.startswith(folder)}
        objects: dict[str, Found] = {}
        folders: set[str] = set()
        for key, change in changed.items():
            if change is not None:
                name, slash, _ = key[len(folder) :].partition("/")
                if slash:
                    folders.add(folder + name)
                else:
                    objects[key] = change
        start = folder.encode()
        while (found := self._next_kept(folder, start)) is not None:
            key, entry = found
            name, slash, _ = key[len(folder) :].partition("/")
            if slash:
                below = f"{folder}{name}/"
                if folder + name not in folders and self._any_kept(below, changed):
                    folders.add(folder + name)
                # "0" follows "/": on to what comes after everything in that folder.
                start = below[:-1].encode() + b"0"
            else:
                if key not in changed:
                    objects[key] = entry
                start = key.encode() + b"\0"
        return objects, folders

    def _next_kept(self, folder: str, start: bytes) -> tuple[str, Entry] | None:
        for key, value in self.manifest.tree.scan(self._root, prefix=folder.encode(), start=start):
            return key.decode(), decode_entry(value)
        return None

    def _any_kept(self, folder: str, changed: Mapping[str, Change]) -> bool:
        return any(key not in changed for key, _ in self.manifest.entries(self._root, prefix=folder))

    def holds_folder(self, folder: str) -> bool:
        """Whether anything is below a folder."""
        return next(self.below(folder), None) is not None

    # -- writing -----------------------------------------------------------------------------------------------------

    def object_key(self, key: str) -> str:
        """Where a plain object of this key is put."""
        assert self._place is not None
        return self._place.objects + check_object_key(key)

    def remove(self, key: str) -> None:
        """Repeat: no-op."""
        assert self._place is not None
        if self.kept(key) is not None or self._edit(key) is not None:
            self._put_edit(key, None)
        self._delete_plain(key)

    def link(self, key: str, entry: Entry) -> None:
        """Give this key the bytes of a kept object, without copying them."""
        self._put_edit(check_object_key(key), entry)
        self._delete_plain(key)

    def _put_edit(self, key: str, entry: Entry | None) -> None:
        assert self._place is not None
        self._blobs.put(self._place.edit(key), pack([key, None if entry is None else encode_entry(entry)]))

    def _delete_plain(self, key: str) -> None:
        assert self._place is not None
        staged = self._place.objects + key
        if self._blobs.head(staged) is not None:
            self._blobs.delete([Blob(staged, 0)])

    def clear(self) -> None:
        """Drop everything that was staged."""
        assert self._place is not None
        for prefix in (self._place.objects, self._place.edits):
            self._blobs.delete([Blob(blob.key, 0) for blob in self._blobs.list(prefix)])


def _alive(key: str, change: Change) -> Iterator[tuple[str, Found]]:
    if change is not None:
        yield key, change


def _decode_edit(data: bytes) -> tuple[str, Entry | None]:
    match unpack(data, "a staged edit"):
        case [str(key), None]:
            return key, None
        case [str(key), bytes(entry)]:
            return key, decode_entry(entry)
    raise Corrupt("a staged edit is neither a removal nor a link")
