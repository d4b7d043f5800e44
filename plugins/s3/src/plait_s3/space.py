"""Which objects a snapshot needs, which there are, and whether they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from plait.adapter import Context
from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.types import Depth, Health, Item, SnapshotRef

from plait_s3.blobs import OWN, Blob, Blobs, version_query
from plait_s3.committed import differs
from plait_s3.manifest import PACKS, Entry, Manifest, Packs, Root, decode_entry
from plait_s3.overlay import EDITS, STAGING
from plait_s3.parallel import side_by_side

_BATCH: Final = 256
_KEPT: Final = (f"{OWN}objects/", PACKS, f"{OWN}tmp/")
"""Under plait's care and never overwritten with other bytes: one name each. Stagings have versions that commits pin."""


def reachable(blobs: Blobs, packs: Packs, snapshot: SnapshotRef, context: Context) -> Iterator[Item]:
    """Every pack and every object that reading a snapshot needs, each once."""
    manifest = Manifest(packs, Root(snapshot.version, snapshot.digest))
    seen: set[str] = set()
    for done, (_, entry) in enumerate(manifest.entries(snapshot.digest)):
        if done % _BATCH == 0:
            context.check_cancelled()
            context.progress("objects", done, None)
        path = blobs.uri(entry.key) + version_query(entry.version)
        if path not in seen:
            seen.add(path)
            yield Item(path, entry.size_bytes)
    for name in sorted(manifest.packs_of(snapshot.digest)):
        yield Item(blobs.uri(PACKS + name))


def inventory(blobs: Blobs, prefix: str) -> Iterator[Item]:
    """Every object under plait's care, in place imports and heads not included: the former are their owner's."""
    for area in _KEPT:
        for blob in blobs.list(area):
            yield from _item(blobs, blob, "", prefix)
    for area in (STAGING, EDITS):
        for blob in blobs.list_versions(area):
            yield from _item(blobs, blob, blob.version, prefix)


def _item(blobs: Blobs, blob: Blob, version: str, prefix: str) -> Iterator[Item]:
    path = blobs.uri(blob.key) + version_query(version)
    if path.startswith(prefix):
        yield Item(path, blob.size_bytes, blob.modified_at_us)


def delete(blobs: Blobs, items: Iterable[Item], context: Context) -> None:
    """Delete these, in their version or in all of them. Raises: InvalidArgument for what is not under plait's care."""
    root = blobs.uri("")
    ahead = iter(items)
    while batch := list(islice(ahead, _BATCH)):
        context.check_cancelled()
        context.failpoint("objects.delete.before_objects")
        doomed: list[Blob] = []
        for item in batch:
            key = item.path.removeprefix(root)
            version = ""
            if blobs.versioned:
                named, mark, version = key.rpartition("?versionId=")
                key = named if mark else key
                version = version if mark else ""
            if not item.path.startswith(root) or not key.startswith((*_KEPT, STAGING, EDITS)):
                raise InvalidArgument(f"{item.path} is not under plait's care, so it is not deleted")
            if blobs.versioned and not version:
                doomed += [blob for blob in blobs.list_versions(key) if blob.key == key]
            else:
                doomed.append(Blob(key, item.size_bytes, version=version))
        blobs.delete(doomed)


def verify(blobs: Blobs, packs: Packs, snapshot: SnapshotRef, depth: Depth, context: Context) -> Health:
    """EXISTS: the manifest's root is there, and is the digest. METADATA: the whole manifest, and all objects in their
    size. BYTES: all objects' bytes have the hash that they had when they were pinned."""
    packs.forget()
    manifest = Manifest(packs, Root(snapshot.version, snapshot.digest))
    problems: list[str] = []
    checked = 0
    entries = _entries(manifest, snapshot.digest, depth, problems)
    while batch := list(islice(entries, _BATCH)):
        context.check_cancelled()
        context.progress("objects", checked, None)
        for found in side_by_side(lambda one: _check(blobs, *one, depth), batch):
            problems += found
        checked += len(batch)
    return Health(1 + checked, tuple(problems))


def _entries(manifest: Manifest, root: bytes, depth: Depth, problems: list[str]) -> Iterator[tuple[str, Entry]]:
    """Every entry that can still be read; what cannot becomes a problem."""
    ahead = [root]
    while ahead:
        try:
            node = manifest.tree.node(ahead.pop())
        except (Corrupt, NotFound) as error:
            problems.append(error.message)
            continue
        if depth is Depth.EXISTS:
            return
        if node.level:
            with suppress(Corrupt, NotFound):  # With one read, if all are there; each is asked for again, and named.
                manifest.tree.nodes(node.values)
            ahead += reversed(node.values)
        else:
            for key, value in zip(node.keys, node.values, strict=True):
                yield key.decode(), decode_entry(value)


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
