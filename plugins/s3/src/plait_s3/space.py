"""Which objects a snapshot needs, and which there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from plait.adapter import Context
from plait.errors import InvalidArgument
from plait.types import Item, SnapshotRef

from plait_s3.blobs import EDITS, OWN, STAGING, Blob, Blobs, version_query
from plait_s3.manifest import PACKS, Manifest, Packs, Root

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
