"""Whether snapshots are whole. Commits share most of their manifests: that is looked at once for many snapshots."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from plait.adapter import Context
from plait.errors import Corrupt, NotFound
from plait.tree import Node
from plait.types import Depth, Health, SnapshotRef

from plait_s3.blobs import Blobs, version_query
from plait_s3.committed import differs
from plait_s3.manifest import Entry, Manifest, Packs, Root, decode_entry
from plait_s3.parallel import side_by_side

_BATCH: Final = 256


class Verifier:
    """Verifies snapshots of one store, at one depth: what one of them shares with another is not asked for again.
    Thread-safe, one snapshot at a time.

    Cost: of the first snapshot of an asset O(objects), of each other O(changes · log objects).
    """

    def __init__(self, blobs: Blobs, context: Context, depth: Depth) -> None:
        self._blobs = blobs
        self._context = context
        self._depth = depth
        self.packs = Packs(blobs)
        self._known: dict[tuple[str, bytes], Sequence[str]] = {}
        """What is wrong below each node that was looked at, by where it is kept: another copy of it may be lost."""
        self._lock = threading.Lock()

    def verify(self, snapshot: SnapshotRef) -> Health:
        """EXISTS: the manifest's root is there, and is the digest. METADATA: the whole manifest, and all objects in
        their size. BYTES: all objects' bytes have the hash that they had when they were pinned."""
        manifest = Manifest(self.packs, Root(snapshot.version, snapshot.digest))
        with self._lock:
            self._checked = 1
            problems = self._below(manifest, snapshot.digest)
            return Health(self._checked, tuple(problems))

    def _below(self, manifest: Manifest, node_id: bytes) -> Sequence[str]:
        """What is wrong with a node, and with all that it leads to."""
        place = manifest.pack_of(node_id), node_id
        if place not in self._known:
            self._known[place] = self._look_below(manifest, node_id)
        return self._known[place]

    def _look_below(self, manifest: Manifest, node_id: bytes) -> Sequence[str]:
        try:
            node = manifest.tree.node(node_id)
        except (Corrupt, NotFound) as error:
            return (error.message,)
        if self._depth is Depth.EXISTS:
            return ()
        if not node.level:
            return self._check_all(manifest, [(node_id, node)])
        new = [child for child in node.values if (manifest.pack_of(child), child) not in self._known]
        with suppress(Corrupt, NotFound):  # With one read, if all are there; each is asked for again, and named.
            leaves = [(child, found) for child, found in manifest.tree.nodes(new).items() if not found.level]
            self._check_all(manifest, leaves)
        return [problem for child in node.values for problem in self._below(manifest, child)]

    def _check_all(self, manifest: Manifest, leaves: Sequence[tuple[bytes, Node]]) -> Sequence[str]:
        """Look at the objects of some leaves, side by side, and know these leaves from then on."""
        found: dict[bytes, list[str]] = {node_id: [] for node_id, _ in leaves}
        entries = _entries(leaves)
        while batch := list(islice(entries, _BATCH)):
            self._context.check_cancelled()
            self._context.progress("objects", self._checked, None)
            checked = side_by_side(lambda one: _check(self._blobs, *one[1:], self._depth), batch)
            for (node_id, _, _), problems in zip(batch, checked, strict=True):
                found[node_id] += problems
            self._checked += len(batch)
        self._known.update(((manifest.pack_of(node_id), node_id), problems) for node_id, problems in found.items())
        return [problem for problems in found.values() for problem in problems]


def _entries(leaves: Sequence[tuple[bytes, Node]]) -> Iterator[tuple[bytes, str, Entry]]:
    for node_id, leaf in leaves:
        for key, value in zip(leaf.keys, leaf.values, strict=True):
            yield node_id, key.decode(), decode_entry(value)


def _check(blobs: Blobs, key: str, entry: Entry, depth: Depth) -> list[str]:
    where = f"object {key!r}, kept at {blobs.uri(entry.key)}{version_query(entry.version)},"
    found = blobs.head(entry.key, entry.version)
    if found is None:
        return [f"{where} does not exist"]
    if found.size_bytes != entry.size_bytes:
        return [f"{where} has {found.size_bytes} bytes, expected {entry.size_bytes}"]
    if depth is not Depth.BYTES:
        return []
    hashed = entry.new_hash()
    try:
        for chunk in blobs.stream(entry.key, entry.version):
            hashed.update(chunk)
    except NotFound as error:
        return [f"{where} cannot be read: {error.message}"]
    return [f"{where} holds other bytes than were committed"] if differs(blobs, entry, hashed.hexdigest()) else []
