"""Manifests: which bytes each object of an asset has, as a prolly tree that is kept in the store itself, in packs.

A pack is one object with all the nodes that one commit added, so that a commit is one write:

    "PLT1" · length of the index, 4 bytes · index · the nodes' bytes, one after the other
    index = [format, root, names of other packs, [[node id, length, [where each child is]], …]]

Where a child is: 0 in this pack, n in the n-th other pack. A reader starts at the root in the pack that the snapshot
names, and knows from each interior node's pack where its children are: O(height) reads, whoever wrote them. The nodes'
own bytes say nothing of packs, so equal contents still have equal roots.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plait.codec import FORMAT, digest, pack, unpack
from plait.errors import Corrupt, NotFound
from plait.tree import MemoryNodes, NodeCache, Tree

from plait_s3.blobs import OWN, Blobs, Pinned, address

PACKS: Final = f"{OWN}packs/"
SALT: Final = b"plait_s3"
"""One for all stores: manifests are compared across repositories, and nobody gains by crafting names."""

_MAGIC: Final = b"PLT1"
_FIRST_READ_BYTES: Final = 64 * 1024
_GAP_BYTES_MAX: Final = 16 * 1024
_CACHE_BYTES_MAX: Final = 64 << 20
_REMEDY: Final = "restore it from a backup of the store"


# -- entries -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of an asset: what it holds, and where that is kept."""

    size_bytes: int
    etag: str
    sha256: bytes
    place: str = ""
    version: str = ""

    @property
    def key(self) -> str:
        """The key, below the store's root, that its bytes lie under."""
        return self.place or address(self.sha256)

    @property
    def hash_name(self) -> str:
        """How its content was hashed: an MD5 is what its ETag is, where nothing else was kept."""
        return "sha256" if self.sha256 else "md5"

    @property
    def hash_text(self) -> str:
        return self.sha256.hex() if self.sha256 else self.etag

    def new_hash(self) -> hashlib._Hash:
        """What is to end as `hash_text` when it was given the content."""
        return hashlib.new(self.hash_name, usedforsecurity=False)


def entry_of(pinned: Pinned) -> Entry:
    return Entry(pinned.size_bytes, pinned.etag, pinned.sha256, pinned.place, pinned.version)


def encode_entry(entry: Entry) -> bytes:
    return pack([entry.size_bytes, entry.etag, entry.sha256, entry.place, entry.version])


def decode_entry(data: bytes) -> Entry:
    """Raises: Corrupt."""
    match unpack(data, "a manifest's entry", remedy=_REMEDY):
        case [int(size), str(etag), bytes(sha256), str(place), str(version)]:
            return Entry(size, etag, sha256, place, version)
    raise Corrupt("a manifest's entry does not have the fields of format 1", remedy=_REMEDY)


def optional_entry(data: bytes | None) -> Entry | None:
    return None if data is None else decode_entry(data)


def same_content(one: Entry | None, other: Entry | None) -> bool:
    """Whether two entries surely hold the same bytes, wherever these lie."""
    if one is None or other is None:
        return one is other
    if one.sha256 and other.sha256:
        return (one.sha256, one.size_bytes) == (other.sha256, other.size_bytes)
    return (one.size_bytes, one.etag) == (other.size_bytes, other.etag) and bool(one.etag)


# -- packs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Slot:
    start: int
    length: int
    children: Sequence[int]


@dataclass(slots=True)
class _Pack:
    """A pack's index, and as much of its bytes as has been read."""

    name: str
    root: bytes
    others: Sequence[str]
    slots: Mapping[bytes, _Slot]
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    cost_bytes: int = 0

    def place_of(self, number: int) -> str:
        return self.name if number == 0 else self.others[number - 1]


class Packs:
    """The packs of one store, with the newest read ones kept in memory: they never change. Thread-safe."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, _Pack] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.reads = 0

    def read(self, name: str, ids: Sequence[bytes]) -> Mapping[bytes, tuple[bytes, list[str]]]:
        """The bytes of nodes of one pack, and the names of the packs that their children are in. Raises: Corrupt."""
        found = self._open(name)
        for node_id in ids:
            if node_id not in found.slots:
                raise Corrupt(f"manifest node {node_id.hex()} is not in pack {name!r}", remedy=_REMEDY)
        missing = {node_id: found.slots[node_id] for node_id in ids if node_id not in found.nodes}
        read = {node_id: data for run in _runs(missing) for node_id, data in self._read(found, run).items()}
        return {
            node_id: (
                read[node_id] if node_id in read else found.nodes[node_id],
                [found.place_of(number) for number in found.slots[node_id].children],
            )
            for node_id in ids
        }

    def keep(self, name: str, data: bytes) -> None:
        """Know a pack that was just written, as if it were read; a large one is read when it is wanted."""
        stop = 8 + int.from_bytes(data[4:8], "big")
        if len(data) <= _FIRST_READ_BYTES:
            self._add(_parse(name, data, stop), stop)

    def root(self, name: str) -> bytes:
        """The root of the manifest that a pack was written for. Raises: Corrupt."""
        return self._open(name).root

    def forget(self) -> None:
        """Read everything anew: what `verify` wants."""
        with self._lock:
            self._known.clear()
            self._bytes = 0

    def _read(self, found: _Pack, run: Sequence[tuple[bytes, _Slot]]) -> Mapping[bytes, bytes]:
        """What lies in some slots, in the order of their places, with one request."""
        start, stop = run[0][1].start, run[-1][1].start + run[-1][1].length
        data = self._get(found.name, start, stop)
        read = {node_id: data[slot.start - start : slot.start - start + slot.length] for node_id, slot in run}
        self._grow(found, sum(map(len, read.values())))
        # What is damaged is not kept under the name of what it should be.
        found.nodes.update((digest(b"node", part), part) for part in read.values())
        return read

    def _get(self, name: str, start: int, stop: int) -> bytes:
        self.reads += 1
        try:
            return self._blobs.get(PACKS + name, start=start, stop=stop)
        except NotFound as error:
            raise Corrupt(f"manifest pack {name!r} is lost", remedy=_REMEDY) from error

    def _open(self, name: str) -> _Pack:
        with self._lock:
            found = self._known.get(name)
            if found is not None:
                self._known.move_to_end(name)
                return found
        first = self._get(name, 0, _FIRST_READ_BYTES)
        if first[:4] != _MAGIC or len(first) < 8:
            raise Corrupt(f"object {PACKS + name!r} is no manifest pack of this release", remedy=_REMEDY)
        stop = 8 + int.from_bytes(first[4:8], "big")
        if stop > len(first):
            first += self._get(name, len(first), stop)
        return self._add(_parse(name, first, stop), stop)

    def _add(self, opened: _Pack, index_bytes: int) -> _Pack:
        with self._lock:
            known = self._known.setdefault(opened.name, opened)
        if known is opened:
            self._grow(opened, index_bytes + sum(map(len, opened.nodes.values())))
        return known

    def _grow(self, opened: _Pack, count: int) -> None:
        with self._lock:
            opened.cost_bytes += count
            self._bytes += count
            while self._bytes > _CACHE_BYTES_MAX and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._bytes -= dropped.cost_bytes


def _runs(slots: Mapping[bytes, _Slot]) -> Iterator[Sequence[tuple[bytes, _Slot]]]:
    """Slots that lie so near to each other that reading what is between them costs less than another request."""
    run: list[tuple[bytes, _Slot]] = []
    for node_id, slot in sorted(slots.items(), key=lambda one: one[1].start):
        if run and slot.start - (run[-1][1].start + run[-1][1].length) > _GAP_BYTES_MAX:
            yield run
            run = []
        run.append((node_id, slot))
    if run:
        yield run


def _parse(name: str, first: bytes, stop: int) -> _Pack:
    match unpack(first[8:stop], f"manifest pack {name!r}", remedy=_REMEDY):
        case [int(version), bytes(root), list(others), list(listed)] if version == FORMAT:
            pass
        case _:
            raise Corrupt(f"manifest pack {name!r} does not have the index of format {FORMAT}", remedy=_REMEDY)
    slots: dict[bytes, _Slot] = {}
    nodes: dict[bytes, bytes] = {}
    for node_id, length, children in listed:
        slots[node_id] = _Slot(stop, length, children)
        if stop + length <= len(first):
            nodes[node_id] = first[stop : stop + length]
        stop += length
    return _Pack(name, root, others, slots, nodes)


# -- trees over packs --------------------------------------------------------------------------------------------------


def _empty_tree() -> Mapping[bytes, bytes]:
    nodes = MemoryNodes()
    Tree(nodes, salt=SALT).build(())
    return nodes.nodes


_EMPTY: Final = _empty_tree()
EMPTY_ROOT: Final = next(iter(_EMPTY))


@dataclass(frozen=True, slots=True)
class Root:
    """A manifest: the pack to begin with, and the tree's root in it."""

    pack: str
    node: bytes


NOTHING: Final = Root("", EMPTY_ROOT)
"""The manifest of no objects, which needs no pack."""


class Manifest:
    """The manifests behind some roots, readable and comparable with each other, and what is being made from them.

    Where a node is becomes known when its parent is read, from these roots down: so a new pack refers only to packs
    that one of these manifests needs already, never to a stray copy elsewhere that may be deleted.
    """

    def __init__(self, packs: Packs, *roots: Root) -> None:
        self.packs = packs
        self._where: dict[bytes, str] = {root.node: root.pack for root in roots}
        self._pending: dict[bytes, bytes] = {}
        self.tree = Tree(self, salt=SALT, cache=NodeCache(1 << 16))

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """`NodeStore`: unwritten nodes, then packs, each of them once."""
        answer: dict[bytes, bytes] = {}
        by_pack: dict[str, list[bytes]] = {}
        for node_id in ids:
            if node_id in self._pending:
                answer[node_id] = self._pending[node_id]
            elif node_id in _EMPTY:
                answer[node_id] = _EMPTY[node_id]
            elif node_id in self._where:
                by_pack.setdefault(self._where[node_id], []).append(node_id)
            else:
                raise Corrupt(f"nothing says where manifest node {node_id.hex()} is", remedy=_REMEDY)
        for name, wanted in by_pack.items():
            for node_id, (data, places) in self.packs.read(name, wanted).items():
                if places:
                    for child, place in zip(unpack(data, "a manifest node")[3], places, strict=True):
                        self._where.setdefault(child, place)
                answer[node_id] = data
        return answer

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        """`NodeStore`: kept until `seal`."""
        self._pending.update(nodes)

    def seal(self, root: bytes) -> tuple[Root | None, bytes]:
        """The pack to write for a new root: (None, its bytes) to be named and put; or (where it is, b"") if known.

        Holds the new nodes only. Its size is O(changes · log objects): every child of a new node is one small number.
        """
        if root not in self._pending:
            if root in _EMPTY:
                return NOTHING, b""
            return Root(self._where[root], root), b""
        others: dict[str, int] = {}
        listed: list[list[object]] = []
        bodies: list[bytes] = []
        ahead = [root]
        seen = {root}
        while ahead:
            node_id = ahead.pop()
            data = self._pending[node_id]
            _, level, _, values = unpack(data, "a new manifest node")
            places: list[int] = []
            for child in values if level else ():
                if child in self._pending:
                    places.append(0)
                    if child not in seen:
                        seen.add(child)
                        ahead.append(child)
                else:
                    places.append(others.setdefault(self._where[child], len(others) + 1))
            listed.append([node_id, len(data), places])
            bodies.append(data)
        index = pack([FORMAT, root, list(others), listed])
        return None, b"".join([_MAGIC, len(index).to_bytes(4, "big"), index, *bodies])

    def entries(self, root: bytes, *, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """(object key, entry) below a prefix, ascending by the keys' bytes, lazily."""
        for key, value in self.tree.scan(root, prefix=prefix.encode()):
            yield key.decode(), decode_entry(value)

    def pack_of(self, node_id: bytes) -> str:
        """The name of the pack that a known node is read from; "" for the empty manifest's."""
        return self._where.get(node_id, "")

    def packs_of(self, root: bytes) -> set[str]:
        """The names of all packs that reading this manifest needs. Cost: reads every node."""
        return {self._where[node_id] for node_id, _ in self.tree.walk(root) if node_id in self._where} - {""}


def write_manifest(blobs: Blobs, manifest: Manifest, root: bytes, stem: str, failpoint: Callable[[str], None]) -> Root:
    """Put the pack of a new manifest, in one write, named `<stem>.<digest of its bytes>`. Repeat: the same name."""
    known, data = manifest.seal(root)
    if known is not None:
        return known
    name = f"{stem}.{hashlib.sha256(data).hexdigest()[:32]}"
    failpoint("objects.pack.before_put")
    blobs.put(PACKS + name, data)
    manifest.packs.keep(name, data)
    failpoint("objects.pack.after_put")
    return Root(name, root)
