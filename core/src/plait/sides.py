"""What each side of a merge, cherry-pick, revert, restore or adoption changed, read from the trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plait.codec import decode_key, encode_key
from plait.commit_point import unpack_value
from plait.criss_cross import Bases, Parted
from plait.divergence import found_candidates
from plait.graph import load_snapshots, merge_base, merge_bases
from plait.persist import Rows
from plait.renames import Followed, follow, renames
from plait.threeway import Candidate
from plait.transaction import entries_at, stored_entry
from plait.tree import Tree
from plait.types import Commit, Entry, Key, Source, SourceKind


def source_candidates(rows: Rows, tree: Tree, source: Source, head: Commit) -> Iterator[Candidate]:
    """What theirs changed since the source's base, in key order."""
    if source.kind is SourceKind.ADOPT:
        yield from found_candidates(rows, source.keys)
        return
    before = head.root if source.kind is SourceKind.RESTORE else _base_root(rows, tree, source)
    yield from changes_between(rows, tree, before, rows.commit(source.theirs).root, source.keys)


def followed(
    rows: Rows,
    tree: Tree,
    source: Source | None,
    head: Commit,
    candidates: Sequence[Candidate],
    ours: Mapping[Key, Entry],
    bases: Bases | None,
) -> Followed:
    """The candidates, moved to the keys where they meet the head's entries when either side renamed them.

    `bases`: the merged bases, where histories criss-cross.
    """
    if source is None or source.kind in (SourceKind.ADOPT, SourceKind.RESTORE):
        return Followed(candidates)
    base = _base_root(rows, tree, source)

    def ours_changed() -> Sequence[Candidate]:
        changed = list(changes_between(rows, tree, base, head.root, ()))
        return changed if bases is None else bases.since(changed)

    return follow(candidates, ours, ours_changed)


def own_followed(
    rows: Rows, tree: Tree, base: str, head: Commit, own: Sequence[Candidate], ours: Mapping[Key, Entry]
) -> Followed:
    """A working set's own writes, at the keys where they meet the head's entries when either side renamed an asset that
    the other wrote to.

    Cost: none, unless the head no longer has a key that was written, or changed one that was renamed; then what changed
    since the base commit.
    """
    renamed = renames((one.base, one.theirs) for one in own)
    parted = {one.key for was, now in renamed.values() if ours.get(was.key) != was for one in (was, now)}
    met = [one for one in own if one.key in parted or (one.base is not None and one.key not in ours)]
    if not met:
        return Followed(own)
    since = follow(met, ours, lambda: changes_between(rows, tree, rows.commit(base).root, head.root, ()))
    taken = {one.key for one in own} - {one.key for one in met}
    if taken & since.ours.keys():
        return Followed(own)
    kept = [one for one in own if one not in met]
    return replace(since, candidates=sorted([*kept, *since.candidates], key=lambda one: encode_key(one.key)))


def parted_bases(rows: Rows, tree: Tree, ours: str, source: Source) -> tuple[dict[Key, Entry], list[Parted]]:
    """For each best base of a merge after the first: what it and the first changed since they parted.

    Returns also what the first base, which is the source's, holds at the keys that the others changed.
    """
    if source.base is None:
        return {}, []
    first, *others = merge_bases(rows, rows.commit(ours), rows.commit(source.theirs))
    parted = []
    for other in others:
        base = merge_base(rows, first, other)
        root = tree.empty if base is None else base.root
        changed = [list(changes_between(rows, tree, root, one.root, source.keys)) for one in (first, other)]
        parted.append(Parted(*changed))
    keys = [change.key for one in parted for change in one.other]
    return entries_at(rows, tree, first.root, keys), parted


def changes_between(rows: Rows, tree: Tree, before: bytes, after: bytes, keys: Sequence[Key]) -> Iterator[Candidate]:
    """What changed between two roots under these prefixes (none: everywhere), in key order under each prefix."""
    prefixes = [encode_key(key) for key in keys] or [b""]
    changes = [change for prefix in prefixes for change in tree.diff(before, after, prefix=prefix)]
    values = {value for change in changes for value in (change.before, change.after) if value is not None}
    snapshots = load_snapshots(rows, {unpack_value(value)[1] for value in values})
    for change in changes:
        key = decode_key(change.key)
        yield Candidate(key, stored_entry(key, change.before, snapshots), stored_entry(key, change.after, snapshots))


def _base_root(rows: Rows, tree: Tree, source: Source) -> bytes:
    return tree.empty if source.base is None else rows.commit(source.base).root
