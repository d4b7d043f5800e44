"""Proving the history: every record's place in the chain, every id from its bytes, every snapshot in its store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

from plait import codec
from plait.adapter import Progress
from plait.backend import Problem
from plait.commit_point import unpack_value
from plait.errors import Corrupt, PlaitError
from plait.graph import RowNodes
from plait.persist import Repository
from plait.stores import Adapters
from plait.tree import Tree
from plait.types import Depth, Mode, SnapshotRef

_PAGE = 1000


def verify_metadata(repository: Repository, progress: Progress) -> Iterator[Problem]:
    """Walk the log from its start: what does not fit is named by seq, commit or node.

    Cost: every record, commit and node once; memory for the ids of the nodes.
    """
    previous, seq = bytes(32), 0
    seen_nodes: set[bytes] = set()
    seen_snapshots: set[bytes] = set()
    with repository.read() as rows:
        tree = Tree(RowNodes(rows), salt=repository.salt)
        end = rows.serial()
        while page := rows.log(seq, _PAGE):
            progress("log records", seq, end.seq)
            commits = rows.commits_by_seq([record.seq for record in page])
            for record in page:
                if record.seq != seq + 1:
                    yield Problem(f"log record {seq + 1}", f"is missing: {record.seq} follows {seq}")
                expected = codec.record_hash(
                    repository=repository.uuid,
                    previous=previous,
                    seq=record.seq,
                    kind=record.kind,
                    payload=record.payload,
                )
                if expected != record.record_hash:
                    yield Problem(f"log record {record.seq}", "its hash is not that of its bytes and its predecessor")
                previous, seq = record.record_hash, record.seq
                commit = commits.get(record.seq)
                if record.kind in ("commit", "repository-created"):
                    if commit is None:
                        yield Problem(f"log record {record.seq}", "its commit is missing")
                        continue
                    salt = rows.commit_salt(commit.id)
                    if salt is not None:
                        text = codec.text_digest(salt, commit.author, commit.message, commit.properties)
                        remade = codec.commit_id(
                            repository=repository.uuid,
                            parents=commit.parents,
                            root=commit.root,
                            tx=commit.tx,
                            committed_at_us=commit.committed_at_us,
                            text=text,
                        )
                        if remade != commit.id:
                            yield Problem(f"commit {commit.id}", "its id is not that of its bytes")
                    if bytes.fromhex(commit.id) not in record.payload:
                        yield Problem(f"log record {record.seq}", f"does not name commit {commit.id}")
                    yield from _verify_tree(tree, commit.id, commit.root, seen_nodes, seen_snapshots)
        if (seq, previous) != (end.seq, end.record_hash):
            yield Problem(f"log record {seq}", f"is the last, the serial row says {end.seq}")
        missing = set(seen_snapshots)
        found = rows.snapshots(seen_snapshots)
        for digest, row in found.items():
            missing.discard(digest)
            if codec.digest(b"snapshot", row.body) != digest:
                yield Problem(f"snapshot {digest.hex()}", "its bytes are not those that its digest was made of")
        for digest in sorted(missing):
            yield Problem(f"snapshot {digest.hex()}", "is missing")


def _verify_tree(tree: Tree, commit: str, root: bytes, seen: set[bytes], snapshots: set[bytes]) -> Iterator[Problem]:
    try:
        for node_id, _ in tree.walk(root, skip=lambda node_id: node_id in seen):
            seen.add(node_id)
            node = tree.node(node_id)
            if node.level == 0:
                snapshots.update(unpack_value(value)[1] for value in node.values)
    except Corrupt as error:
        seen.add(root)
        yield Problem(f"commit {commit}", error.message)


def verify_stores(
    repository: Repository, adapters: Adapters, depth: Depth, executor: Executor, progress: Progress
) -> Iterator[Problem]:
    """Ask every store for every live snapshot of the reachable history, side by side, each once."""
    with repository.read() as rows:
        pointers = {store.name for store in rows.stores().values() if store.mode is Mode.POINTER}
        known = {store.name for store in rows.stores().values()}
        wanted: list[SnapshotRef] = []
        for row in rows.all_snapshots():
            if row.state == "live":
                try:
                    wanted.append(codec.decode_snapshot(row.body))
                except Corrupt:
                    continue  # Named by verify_metadata.
    checks = [
        (snapshot, executor.submit(adapters.get(snapshot.store).verify, snapshot, depth))
        for snapshot in wanted
        if snapshot.store in known - pointers
    ]
    for done, (snapshot, check) in enumerate(checks):
        progress("snapshots", done, len(checks))
        where = f"store {snapshot.store}, {snapshot.asset} at {snapshot.version}"
        try:
            for problem in check.result().problems:
                yield Problem(where, problem)
        except PlaitError as error:
            yield Problem(where, error.message)
