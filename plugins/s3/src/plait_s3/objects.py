"""Joining two manifests with their base, object by object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plait.adapter import Context, Merger
from plait.errors import InvalidArgument
from plait.mergers import merged_by, mergers_for
from plait.tree import TreeJoin
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

from plait_s3.blobs import Blobs, address
from plait_s3.committed import Reading, holds_same
from plait_s3.content import write_json
from plait_s3.manifest import Entry, Manifest, encode_entry, optional_entry, same_content

_MERGED_BYTES_MAX: Final = 32 << 20
"""Larger objects are not read into memory to be merged: both sides changing one is a conflict."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What to change in ours; without conflicts it is the merge. `mergers`: titles of those that made some of it."""

    edits: Mapping[bytes, bytes | None]
    conflicts: tuple[Conflict, ...]
    mergers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Both:
    """One object that both sides changed, differently."""

    key: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


class ObjectMerge:
    """One merge of three manifests."""

    def __init__(
        self, blobs: Blobs, context: Context, resolutions: Sequence[Resolution], mergers: Sequence[Merger]
    ) -> None:
        self._blobs = blobs
        self._context = context
        self._mergers = mergers
        self._titles: set[str] = set()
        self._resolutions = {one.item: one for one in resolutions if one.item is not None}

    def run(self, manifest: Manifest, *, base: bytes, ours: bytes, theirs: bytes) -> Joined:
        """Cost: the two diffs; only objects that both sides changed are read. Raises: Corrupt for damaged ones."""
        edits: dict[bytes, bytes | None] = {}
        conflicts: list[Conflict] = []
        for done, joined in enumerate(manifest.tree.join(base, ours, theirs)):
            self._context.check_cancelled()
            if done % 256 == 0:
                self._context.progress("objects", done, None)
            both = _decode(joined)
            if same_content(both.ours, both.theirs) or same_content(both.base, both.theirs):
                continue
            if holds_same(self._blobs, both.base, both.ours):
                edits[joined.key] = joined.theirs
                continue
            if holds_same(self._blobs, both.ours, both.theirs) or holds_same(self._blobs, both.base, both.theirs):
                continue
            decided = self._decide(both)
            if isinstance(decided, Conflict):
                conflicts.append(decided)
            elif decided != both.ours:
                edits[joined.key] = None if decided is None else encode_entry(decided)
        return Joined(edits, tuple(conflicts), tuple(sorted(self._titles)))

    def _decide(self, both: _Both) -> Entry | Conflict | None:
        resolution = self._resolutions.get(both.key)
        if resolution is not None:
            return self._resolve(both, resolution)
        entries = (both.base, both.ours, both.theirs)
        detail = "both sides changed it"
        if both.base is None:
            detail = "both sides created it"
        elif both.ours is None or both.theirs is None:
            detail = "one side changed it, the other removed it"
        elif max(entry.size_bytes for entry in entries if entry) > _MERGED_BYTES_MAX:
            detail = f"both sides changed it, and it is larger than {_MERGED_BYTES_MAX >> 20} MiB"
        else:
            merger = next(mergers_for(both.key, self._mergers), None)
            if merger is not None:
                base, ours, theirs = (self._read(both.key, entry) for entry in entries if entry)
                merged, found = merged_by(merger, base, ours, theirs)
                if merged is not None:
                    self._titles.update(filter(None, [merger.title]))
                    return self._keep(merged)
                detail = f"both sides changed it, {found}"
        return Conflict(
            (), ConflictKind.ITEM_CHANGED, both.key,
            base=describe(both.base), ours=describe(both.ours), theirs=describe(both.theirs), detail=detail,
        )  # fmt: skip

    def _resolve(self, both: _Both, resolution: Resolution) -> Entry | None:
        if resolution.choice is not Choice.VALUE:
            return {Choice.BASE: both.base, Choice.OURS: both.ours, Choice.THEIRS: both.theirs}[resolution.choice]
        if resolution.value is None:
            return None
        if isinstance(resolution.value, str):
            return self._keep(resolution.value.encode())
        if not isinstance(resolution.value, dict | list):
            raise InvalidArgument(
                f"object {both.key!r} cannot be resolved by {type(resolution.value).__name__}",
                remedy="give the object's text, a JSON object or array that it shall hold, or null to remove it",
            )
        like = both.ours or both.theirs
        layout = self._read(both.key, like) if like is not None and like.size_bytes <= _MERGED_BYTES_MAX else b""
        try:
            return self._keep(write_json(resolution.value, layout))
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"object {both.key!r} cannot hold that as JSON: {error}", remedy="give it as text, or without NaN"
            ) from error

    def _read(self, key: str, entry: Entry) -> bytes:
        """Compared with its hash: what is damaged must not become part of a merge. Raises: Corrupt."""
        return Reading(self._blobs, key, entry).whole()

    def _keep(self, content: bytes) -> Entry:
        """Put content at its address. Repeat: the same place and bytes."""
        sha256 = hashlib.sha256(content).digest()
        self._context.failpoint("objects.merge.before_object")
        kept = self._blobs.put(address(sha256), content)
        return Entry(len(content), kept.etag, sha256)


def _decode(joined: TreeJoin) -> _Both:
    return _Both(
        joined.key.decode(), optional_entry(joined.base), optional_entry(joined.ours), optional_entry(joined.theirs)
    )


def describe(entry: Entry | None) -> Json:
    """An object, as people and programs read it."""
    if entry is None:
        return None
    described: dict[str, Json] = {"size": entry.size_bytes}
    if entry.sha256:
        described["sha256"] = entry.sha256.hex()
    if entry.etag:
        described["etag"] = entry.etag
    return described


def changed_entries(
    manifest: Manifest, before: bytes, after: bytes, items: Sequence[str] | None
) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """(key, before, after) of every object whose content differs, ascending by bytes, lazily."""
    if items is not None:
        wanted = sorted({item.encode() for item in items})
        old, new = manifest.tree.get_many(before, wanted), manifest.tree.get_many(after, wanted)
        pairs = ((key, old.get(key), new.get(key)) for key in wanted)
    else:
        pairs = ((change.key, change.before, change.after) for change in manifest.tree.diff(before, after))
    for key, was, now in pairs:
        entries = optional_entry(was), optional_entry(now)
        if not same_content(*entries):
            yield key.decode(), *entries
