"""Reading the history: points, ancestry, merge bases, logs. All walks go down the serial order.

`seq` is a topological order: a commit's seq is larger than each of its ancestors'. So one descending pass over pages of
(seq, id, parents) answers every question about ancestry, without a query per commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from plait.codec import decode_snapshot, encode_key, split_value
from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.persist import Rows
from plait.persist.graph_rows import ChangeRow
from plait.refspec import Spec, format_time, may_be_commit, parse_spec
from plait.tree import Tree
from plait.types import Commit, Key, SnapshotRef

_PAGE_MIN, _PAGE_MAX = 16, 2048


class RowNodes:
    """The tree's chunks in the `node` table: a NodeStore for readers."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        found = self._rows.nodes(ids)
        for node_id in ids:
            if node_id not in found:
                raise Corrupt(f"tree node {node_id.hex()} is missing", remedy="run 'plait verify', restore a backup")
        return found

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        raise AssertionError("a reader writes no nodes")


def resolve(rows: Rows, text: str) -> Commit:
    """The commit to which a point in the history (`main~2`, say) resolves now. Raises: InvalidArgument, NotFound."""
    return resolve_spec(rows, parse_spec(text))


def resolve_spec(rows: Rows, spec: Spec) -> Commit:
    """As `resolve`, for a parsed spec."""
    if spec.commit is not None:
        commit = _named(rows, rows.commit_by_prefix(spec.commit))
        if spec.ref is not None and not is_ancestor(rows, commit, _named(rows, rows.ref(spec.ref).head)):
            raise NotFound(f"commit {commit.id[:12]} is not in the history of {spec.ref!r}")
    elif spec.at_us is not None:
        assert spec.ref is not None
        move = rows.move_at(spec.ref, spec.at_us)
        if move is None or move.after is None:
            rows.ref(spec.ref)
            raise NotFound(
                f"{spec.ref!r} did not exist at {format_time(spec.at_us)}", remedy=f"see 'plait reflog {spec.ref}'"
            )
        commit = _named(rows, move.after)
    else:
        assert spec.ref is not None
        commit = _named(rows, _head(rows, spec.ref))
    for step in spec.steps:
        commit = _back(rows, commit, step.count) if step.kind == "back" else _parent(rows, commit, step.count)
    return commit


def _named(rows: Rows, commit_id: str) -> Commit:
    """A commit whose id was read in the catalog. Raises: Corrupt when it is missing."""
    return rows.commits([commit_id])[commit_id]


def _head(rows: Rows, name: str) -> str:
    """The id of a ref's head; if no ref has this name, of the commit whose id begins with it."""
    try:
        return rows.ref(name).head
    except NotFound as error:
        if not may_be_commit(name):
            raise
        try:
            return rows.commit_by_prefix(name)
        except NotFound:
            raise NotFound(
                f"neither a ref is named {name!r}, nor does a commit's id begin so",
                remedy="see 'plait branch', 'plait tag' and 'plait log'",
            ) from error


def _back(rows: Rows, commit: Commit, count: int) -> Commit:
    """The ancestor `count` first parents back. Reads the serial order in pages."""
    if count == 0:
        return commit
    wanted, left = commit.id, count
    for _, found, parents in _links(rows, commit.seq):
        if found != wanted:
            continue
        if left == 0:
            return _named(rows, found)
        if not parents:
            raise NotFound(f"commit {commit.id[:12]} has only {count - left} first parents before it, not {count}")
        wanted, left = parents[0], left - 1
    raise Corrupt(f"commit {wanted} is a parent, but is missing")


def _parent(rows: Rows, commit: Commit, position: int) -> Commit:
    if position == 0:
        return commit
    if position > len(commit.parents):
        count = len(commit.parents)
        raise NotFound(f"commit {commit.id[:12]} has {count} parent{'' if count == 1 else 's'}, not {position}")
    return _named(rows, commit.parents[position - 1])


def is_ancestor(rows: Rows, ancestor: Commit, descendant: Commit) -> bool:
    """Whether `ancestor` is reachable from `descendant`; every commit is its own ancestor."""
    if ancestor.seq >= descendant.seq:
        return ancestor.id == descendant.id
    return any(found == ancestor.id for _, found, _ in ancestors(rows, [descendant], seq_min=ancestor.seq))


def ancestors(
    rows: Rows, heads: Iterable[Commit], *, seq_min: int = 0, first_parent: bool = False
) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(seq, id, parents) of the heads and all their ancestors, newest first, lazily."""
    wanted = {head.id: head.seq for head in heads}
    if not wanted:
        return
    for seq, found, parents in _links(rows, max(wanted.values())):
        if seq < seq_min:
            return
        if found not in wanted:
            continue
        del wanted[found]
        wanted.update(dict.fromkeys(parents[:1] if first_parent else parents, 0))
        yield seq, found, parents
        if not wanted:
            return
    raise Corrupt(f"commit {next(iter(wanted))} is a parent, but is missing")


def merge_base(rows: Rows, ours: Commit, theirs: Commit) -> Commit | None:
    """The newest commit that is an ancestor of both, or None for unrelated histories.

    The newest in serial order is an ancestor of no other common ancestor, so it is a best base. Where histories
    criss-cross and have several best bases, it is always the newest. Cost: O(commits made since the base), in pages.
    """
    newest = next(_merge_bases(rows, ours, theirs), None)
    return None if newest is None else _named(rows, newest)


def merge_bases(rows: Rows, ours: Commit, theirs: Commit) -> list[Commit]:
    """Every best merge base, newest first: common ancestors that are no ancestor of another common ancestor.

    There are several where histories criss-cross. Cost: O(commits made since the oldest of them).
    """
    found = list(_merge_bases(rows, ours, theirs))
    commits = rows.commits(found)
    return [commits[one] for one in found]


_BELOW_A_BASE = 2


def _merge_bases(rows: Rows, ours: Commit, theirs: Commit) -> Iterator[str]:
    """The ids of `merge_bases`, lazily. Source: Git's `merge-base` paints commits in order of time; here, of seq."""
    sides: dict[str, set[int]] = {ours.id: {0}}
    sides.setdefault(theirs.id, set()).add(1)
    for _, found, parents in _links(rows, max(ours.seq, theirs.seq)):
        reached = sides.pop(found, None)
        if reached is None:
            continue
        if reached == {0, 1}:
            yield found
            reached = {*reached, _BELOW_A_BASE}
        for parent in parents:
            sides.setdefault(parent, set()).update(reached)
        if all(_BELOW_A_BASE in paint for paint in sides.values()):
            return


def _links(rows: Rows, seq_max: int) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Every commit from seq_max down, in pages that double."""
    page = _PAGE_MIN
    while True:
        links = rows.links(seq_max, page)
        yield from links
        if len(links) < page:
            return
        seq_max = links[-1][0] - 1
        page = min(page * 2, _PAGE_MAX)


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What `log` shows. Unset fields do not filter.

    `author`, `message` and `client` match a part of the text, in any case. `principal` matches the whole name.
    `properties` match those of the commit or of its session.
    """

    author: str | None = None
    message: str | None = None
    principal: str | None = None
    client: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    key: Key | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    first_parent: bool = False

    def __post_init__(self) -> None:
        if self.since_us is not None and self.until_us is not None and self.since_us > self.until_us:
            raise InvalidArgument("the log's 'since' is later than its 'until'")

    def matches(self, commit: Commit) -> bool:
        """Whether a commit passes all filters but the key's."""
        return (
            (self.author is None or self.author.lower() in commit.author.lower())
            and (self.message is None or self.message.lower() in commit.message.lower())
            and (self.principal is None or self.principal == commit.session.principal)
            and (self.client is None or self.client.lower() in commit.session.client.lower())
            and (self.since_us is None or commit.committed_at_us >= self.since_us)
            and (self.until_us is None or commit.committed_at_us < self.until_us)
            and self.properties.items() <= commit.described.items()
        )


def log(rows: Rows, tree: Tree, head: Commit, wanted: LogFilter) -> Iterator[Commit]:
    """Commits reachable from head that pass the filter, newest first, lazily.

    With a key: only commits that differ from their first parent at that key, or at a key below it. A renamed asset is
    followed to its former keys. Cost: O(commits walked), and one diff at each rename.
    """
    keys = {} if wanted.key is None else {head.id: {encode_key(wanted.key)}}
    walk = ancestors(rows, [head], first_parent=wanted.first_parent)
    while page := list(islice(walk, _PAGE_MIN)):
        commits = rows.commits([found for _, found, _ in page])
        changes = {} if wanted.key is None else rows.changes_of_seqs([seq for seq, _, _ in page])
        for seq, found, parents in page:
            commit = commits[found]
            if wanted.key is not None:
                here, changed = keys.pop(found), changes.get(seq, [])
                for place, parent in enumerate(parents[:1] if wanted.first_parent else parents):
                    former = {_former(rows, tree, commit, place, key, changed) for key in here}
                    keys.setdefault(parent, set()).update(former)
                if not any(change.key.startswith(tuple(here)) for change in changed):
                    continue
            if wanted.matches(commit):
                yield commit


def _former(rows: Rows, tree: Tree, commit: Commit, place: int, key: bytes, changed: Sequence[ChangeRow]) -> bytes:
    """The key at which a parent (`place` in the commit's parents) holds the asset that the commit holds at `key`.

    Renames are found by the content id. If the commit did not change the asset against its first parent, no parent is
    asked.
    """
    own = next((one for one in changed if one.key == key and one.after is not None), None)
    if own is None:
        return key
    # Renamed from a key that is gone, or at which the commit put another asset.
    if place == 0 and not any(one.after is None or (own.before is None and one.before is not None) for one in changed):
        return key
    root = _named(rows, commit.parents[place]).root
    content_id = _content_id(tree.get(commit.root, key))
    if content_id != _content_id(tree.get(root, key)):
        store = key[: key.index(b"\0") + 1]
        for one in tree.diff(root, commit.root, prefix=store):
            if _content_id(one.before) == content_id:
                return one.key
    return key


def _content_id(value: bytes | None) -> bytes | None:
    return None if value is None else split_value(value)[0]


def history(rows: Rows, head: Commit, key: Key) -> Iterator[tuple[Commit, ChangeRow]]:
    """The commits reachable from head that changed exactly this key, newest first, each with its change.

    Cost: reads the key's changes on all refs, and walks the history once down to the oldest of them.
    """
    encoded, seq_max = encode_key(key), head.seq
    walk = ancestors(rows, [head])
    at = next(walk, None)
    while True:
        changes = rows.changes_of_key(encoded, seq_max, _PAGE_MIN)
        commits = rows.commits_by_seq([change.seq for change in changes])
        for change in changes:
            while at is not None and at[0] > change.seq:
                at = next(walk, None)
            if at is not None and at[0] == change.seq:
                yield commits[change.seq], change
        if len(changes) < _PAGE_MIN:
            return
        seq_max = changes[-1].seq - 1


def load_snapshots(rows: Rows, digests: Iterable[bytes]) -> dict[bytes, SnapshotRef]:
    """Snapshots by ref_digest, expired ones too. Raises: Corrupt for one that is missing."""
    wanted = set(digests)
    found = rows.snapshots(wanted)
    for digest in wanted:
        if digest not in found:
            raise Corrupt(f"snapshot {digest.hex()} is missing", remedy="run 'plait verify', restore a backup")
    return {digest: decode_snapshot(row.body) for digest, row in found.items()}
