"""What native heads are to be moved to: each move of a bound ref sets the targets of publications, by asset.

Each store with native heads has a cursor: the head of the bound ref up to which its publications have their targets.
The tree diff from the cursor to the ref's head sets new ones (a rename is one move), and the cursor goes there.
Whoever was renamed and not changed is moved to where it is, since a store may name its native heads after keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from plait.codec import decode_key, encode_key
from plait.commit_point import unpack_value
from plait.graph import RowNodes, load_snapshots
from plait.native_heads import still_holds
from plait.persist import Rows
from plait.persist.store_rows import Publication
from plait.tree import NodeCache, Tree
from plait.tree_diff import TreeChange
from plait.types import Commit, SnapshotRef, Store


@dataclass(frozen=True, slots=True)
class Behind:
    """A store whose bound ref moved, from root `since` (None: from the start) to `head`, since its targets were set."""

    store: str
    since: bytes | None
    head: Commit


_BeforeAfter = tuple[Publication, Publication]


class Targets:
    """Sets the targets of one repository's publications. Reads and writes rows alone, no store."""

    def __init__(self, salt: bytes, cache: NodeCache) -> None:
        self._salt = salt
        self._cache = cache

    def behind(self, rows: Rows, wanted: Mapping[str, Store], cursors: Mapping[str, tuple[str, int]]) -> list[Behind]:
        """The stores whose bound ref moved since their targets were set."""
        since = {store: head for store, (head, _) in cursors.items()}
        refs = rows.refs_named({store.bound_ref for store in wanted.values()})
        heads = {name: refs[store.bound_ref].head for name, store in wanted.items() if store.bound_ref in refs}
        moved = {name: head for name, head in heads.items() if head != since.get(name)}
        named = {*moved.values(), *(since[name] for name in moved if name in since)}
        commits = {commit: rows.commit(commit) for commit in named}
        return [
            Behind(name, commits[since[name]].root if name in since else None, commits[head])
            for name, head in moved.items()
        ]

    def has_changes(self, rows: Rows, one: Behind) -> bool:
        """Whether the move changed anything of the store's. Cost: as the beginning of a diff."""
        return any(True for _ in self._changes(rows, one))

    def set(self, rows: Rows, behind: Sequence[Behind]) -> None:
        """Turn the bound refs' moves since the cursors into targets, and advance the cursors, in the same write."""
        changes = [(one, list(self._changes(rows, one))) for one in behind]
        snapshots = load_snapshots(rows, {digest for _, changed in changes for digest in _digests(changed)})
        self._set(
            rows,
            [
                publication
                for one, changed in changes
                if changed
                for publication in self._publications(rows, one, changed, snapshots)
            ],
        )
        rows.set_publish_cursors({one.store: (one.head.id, one.head.seq) for one in behind})

    def _set(self, rows: Rows, publications: Sequence[_BeforeAfter]) -> None:
        rows.set_targets([after for _, after in publications])
        for before, after in publications:
            is_renamed = before.key != after.key and before.is_done and before.published == after.target
            if is_renamed and after.target is not None and not before.owner:
                rows.swap_publication(after, replace(after, moving=after.target))

    def _publications(
        self, rows: Rows, one: Behind, changes: Sequence[TreeChange], snapshots: Mapping[bytes, SnapshotRef]
    ) -> list[_BeforeAfter]:
        """Each that gets a target: as it is, and as it will be."""
        tree, root = self._tree(rows), one.head.root
        changed: dict[str, _BeforeAfter] = {}
        gone: dict[str, _BeforeAfter] = {}
        known = rows.publications_of(one.store, {snapshots[digest].asset for digest in _digests(changes)})
        for change in changes:
            key = decode_key(change.key)
            for value, into in ((change.before, gone), (change.after, changed)):
                if value is None:
                    continue
                digest = unpack_value(value)[1]
                asset = snapshots[digest].asset
                last = known[asset].key if asset in known else key
                if last != key and still_holds(rows, tree, root, last, (one.store, asset)):
                    continue  # The head follows the key that it was published under, while that key holds the asset.
                start = known.get(asset) or Publication(one.store, asset, key, None, None, 0)
                target = digest if into is changed else None
                into[asset] = start, replace(start, key=key, target=target, seq=one.head.seq)
        return list({**gone, **changed}.values())

    def _changes(self, rows: Rows, one: Behind) -> Iterator[TreeChange]:
        tree = self._tree(rows)
        before = tree.empty if one.since is None else one.since
        return tree.diff(before, one.head.root, prefix=encode_key((one.store,)))

    def _tree(self, rows: Rows) -> Tree:
        return Tree(RowNodes(rows), salt=self._salt, cache=self._cache)


def _digests(changes: Iterable[TreeChange]) -> set[bytes]:
    """Of the snapshots that the changes name."""
    return {unpack_value(value)[1] for one in changes for value in (one.before, one.after) if value is not None}
