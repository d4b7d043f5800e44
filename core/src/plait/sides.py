"""What each side of a join changed, as the trees say: of a merge, a cherry-pick, a revert, a restore, an adoption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from plait.codec import decode_key, encode_key
from plait.commit_point import unpack_value
from plait.divergence import found_candidates
from plait.graph import load_snapshots, merge_base, merge_bases
from plait.persist import Rows
from plait.renames import Followed, follow
from plait.threeway import Candidate
from plait.transaction import entries_at, stored_entry
from plait.tree import Tree
from plait.types import Commit, Entry, Key, Source, SourceKind, Tx


def source_candidates(rows: Rows, tree: Tree, source: Source, head: Commit) -> Iterator[Candidate]:
    """What the source's theirs changed since its base, in key order."""
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
) -> Followed:
    """The candidates where they meet the head, whichever side renamed what."""
    if source is None or source.kind in (SourceKind.ADOPT, SourceKind.RESTORE):
        return Followed(candidates)
    base = _base_root(rows, tree, source)
    return follow(candidates, ours, lambda: changes_between(rows, tree, base, head.root, ()))


def other_bases(rows: Rows, tree: Tree, tx: Tx) -> tuple[list[list[Candidate]], dict[Key, Entry]]:
    """What each further best base of a merge changed since it parted from the first, and what that holds there."""
    source = tx.source
    if source is None or source.kind is not SourceKind.MERGE or source.base is None:
        return [], {}
    first, *others = merge_bases(rows, rows.commit(tx.base), rows.commit(source.theirs))
    changed = []
    for other in others:
        parted = merge_base(rows, first, other)
        root = tree.empty if parted is None else parted.root
        changed.append(list(changes_between(rows, tree, root, other.root, source.keys)))
    return changed, entries_at(rows, tree, first.root, [one.key for one in chain(*changed)])


def changes_between(rows: Rows, tree: Tree, before: bytes, after: bytes, keys: Sequence[Key]) -> Iterator[Candidate]:
    """What changed between two roots under these prefixes (none: everywhere), in key order."""
    prefixes = [encode_key(key) for key in keys] or [b""]
    changes = [change for prefix in prefixes for change in tree.diff(before, after, prefix=prefix)]
    values = {value for change in changes for value in (change.before, change.after) if value is not None}
    snapshots = load_snapshots(rows, {unpack_value(value)[1] for value in values})
    for change in changes:
        key = decode_key(change.key)
        yield Candidate(key, stored_entry(key, change.before, snapshots), stored_entry(key, change.after, snapshots))


def _base_root(rows: Rows, tree: Tree, source: Source) -> bytes:
    return tree.empty if source.base is None else rows.commit(source.base).root
