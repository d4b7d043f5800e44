"""The vote on one staging: its objects pinned, its manifest written."""

from __future__ import annotations

from plait.adapter import Context
from plait.types import Staging

from plait_s3.blobs import Blob, Blobs
from plait_s3.committed import holds_same
from plait_s3.manifest import (
    PACKS,
    Entry,
    Packs,
    Root,
    encode_entry,
    entry_of,
    optional_entry,
    write_manifest,
)
from plait_s3.overlay import Overlay, base_of, place_of

_UNCHANGED = "unchanged"


def vote(blobs: Blobs, packs: Packs, context: Context, staging: Staging, attempt: int) -> Root:
    """The manifest of what a staging holds now; its base's own where that is the same content.

    Repeat: what this attempt of it voted the first time, whatever was written since. Cost: O(changes).
    """
    place, base = place_of(staging), base_of(staging)
    stem = f"{place.tx}/{attempt}.{place.intent}"
    known = find_pack(blobs, packs, stem)
    if known is not None:
        return base if known.pack.endswith(_UNCHANGED) else known
    overlay = Overlay(blobs, packs, place, base)
    pinned = _pin_changes(blobs, context, overlay)
    manifest = overlay.manifest
    held = manifest.tree.get_many(base.node, (key.encode() for key in pinned))
    edits: dict[bytes, bytes | None] = {}
    for name, entry in pinned.items():
        key = name.encode()
        if not holds_same(blobs, entry, optional_entry(held.get(key))):
            edits[key] = None if entry is None else encode_entry(entry)
    root = manifest.tree.apply(base.node, edits) if edits else base.node
    context.failpoint("objects.prepare.before_pack")
    if root == base.node:
        blobs.put(f"{PACKS}{stem}.{_UNCHANGED}", b"")
        return base
    written = write_manifest(blobs, manifest, root, stem, context.failpoint)
    context.failpoint("objects.prepare.after_pack")
    return written


def find_pack(blobs: Blobs, packs: Packs, stem: str) -> Root | None:
    """The manifest that was written under this stem before, if one was."""
    found = blobs.list(f"{PACKS}{stem}.")
    if not found:
        return None
    name = found[0].key.removeprefix(PACKS)
    return Root(name, b"" if name.endswith(_UNCHANGED) else packs.root(name))


def _pin_changes(blobs: Blobs, context: Context, overlay: Overlay) -> dict[str, Entry | None]:
    """Every change with the bytes it has now, in key order."""
    changes = overlay.changes()
    staged = {key: change for key, change in changes.items() if isinstance(change, Blob)}

    def report(done: int) -> None:
        context.check_cancelled()
        context.progress("objects", done, len(staged))

    context.failpoint("objects.prepare.before_pins")
    pinned = dict(zip(staged, blobs.pin_all(list(staged.values()), report), strict=True))
    context.failpoint("objects.prepare.after_pins")
    return {key: entry_of(pinned[key]) if isinstance(change, Blob) else change for key, change in changes.items()}
