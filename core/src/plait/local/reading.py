"""Queries of commits, refs and their trees. Each call reads one consistent state of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from plait.codec import decode_key, encode_key, ref_digest
from plait.commit_point import unpack_value
from plait.errors import NotFound, SnapshotExpired
from plait.graph import LogFilter, RowNodes, history, load_snapshots, log, merge_base, resolve
from plait.persist import Repository, Rows
from plait.refspec import format_key
from plait.transaction import entries_at, stored_entry
from plait.tree import NodeCache, Tree
from plait.types import Change, Commit, Entry, Key, Ref, RefMove, SnapshotRef

_PAGE = 500
"""Entries that streams read at a time."""


class Reading:
    """The part of `LocalBackend` that reads the database only, and calls no store."""

    _repository: Repository
    _cache: NodeCache

    def refs(self) -> Sequence[Ref]:
        with self._repository.read() as rows:
            return rows.refs()

    def reflog(self, name: str) -> Iterator[RefMove]:
        with self._repository.read() as rows:
            before_us = None
            while page := rows.moves(name, before_us=before_us, limit=_PAGE):
                yield from page
                before_us = page[-1].moved_at_us
            if before_us is None:
                raise NotFound(f"ref {name!r} never existed", remedy="see 'plait branch'")

    def resolve(self, spec: str) -> Commit:
        with self._repository.read() as rows:
            return resolve(rows, spec)

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        with self._repository.read() as rows:
            return merge_base(rows, resolve(rows, ours), resolve(rows, theirs))

    def log(self, spec: str, wanted: LogFilter) -> Iterator[Commit]:
        with self._repository.read() as rows:
            yield from log(rows, self._tree(rows), resolve(rows, spec), wanted)

    def scan(self, spec: str, prefix: Key) -> Iterator[Entry]:
        with self._repository.read() as rows:
            found = self._tree(rows).scan(resolve(rows, spec).root, prefix=encode_key(prefix))
            while page := list(islice(found, _PAGE)):
                snapshots = load_snapshots(rows, {unpack_value(value)[1] for _, value in page})
                for encoded, value in page:
                    key = decode_key(encoded)
                    entry = stored_entry(key, value, snapshots)
                    assert entry is not None
                    yield entry

    def get(self, spec: str, keys: Sequence[Key]) -> Mapping[Key, Entry]:
        with self._repository.read() as rows:
            return entries_at(rows, self._tree(rows), resolve(rows, spec).root, keys)

    def diff(self, before: str, after: str, prefix: Key) -> Iterator[Change]:
        with self._repository.read() as rows:
            left, right = resolve(rows, before), resolve(rows, after)
            changes = self._tree(rows).diff(left.root, right.root, prefix=encode_key(prefix))
            while page := list(islice(changes, _PAGE)):
                values = {value for change in page for value in (change.before, change.after) if value is not None}
                snapshots = load_snapshots(rows, {unpack_value(value)[1] for value in values})
                for change in page:
                    key = decode_key(change.key)
                    yield Change(
                        key, stored_entry(key, change.before, snapshots), stored_entry(key, change.after, snapshots)
                    )

    def _check_live(self, key: Key, snapshot: SnapshotRef) -> None:
        with self._repository.read() as rows:
            row = rows.snapshots([ref_digest(snapshot)]).get(ref_digest(snapshot))
        if row is not None and row.state != "live":
            raise SnapshotExpired(
                f"{format_key(key)}: the data of snapshot {snapshot.version} is {row.state}",
                remedy="read a newer commit, or restore a backup",
            )

    def history(self, spec: str, key: Key) -> Iterator[tuple[Commit, Change]]:
        with self._repository.read() as rows:
            for commit, row in history(rows, resolve(rows, spec), key):
                snapshots = load_snapshots(rows, {d for d in (row.before, row.after) if d is not None})
                before, after = (
                    None if digest is None else Entry(key, "", snapshots[digest]) for digest in (row.before, row.after)
                )
                yield commit, Change(key, before, after)

    def _tree(self, rows: Rows) -> Tree:
        return Tree(RowNodes(rows), salt=self._repository.salt, cache=self._cache)
