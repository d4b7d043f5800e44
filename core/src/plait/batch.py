"""The running state of one batch: what the history will be once its database transaction commits.

Requests read from it and put their effects into it in memory; `flush` writes everything in bulk statements. Nothing is
visible to anyone before the transaction commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait import codec
from plait.clock import Clock
from plait.errors import CommitConflict, OutcomeUnknown
from plait.failpoint import failpoint
from plait.graph import RowNodes
from plait.persist import Repository, Rows
from plait.persist.base import Swaps
from plait.persist.graph_rows import Answer, ChangeRow, LogRow, Serial, SnapshotRow
from plait.refspec import no_ref
from plait.store_names import known_store
from plait.tree import Tree
from plait.types import Commit, Conflict, ConflictKind, EventKind, Participant, Ref, RefMove, Store, Tx

if TYPE_CHECKING:
    from plait.sequencer import Request


class BatchNodes:
    """The tree's chunks while a batch runs: the `node` table, and on top of it what the batch adds."""

    def __init__(self) -> None:
        self.rows: Rows | None = None
        self.added: dict[bytes, bytes] = {}

    def get_many(self, ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        found = {node_id: self.added[node_id] for node_id in ids if node_id in self.added}
        missing = [node_id for node_id in ids if node_id not in found]
        if missing:
            assert self.rows is not None
            found.update(RowNodes(self.rows).get_many(missing))
        return found

    def put_many(self, nodes: Mapping[bytes, bytes]) -> None:
        self.added.update(nodes)


_REFS_KEPT_MAX = 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """What the last durable batch had read. It holds while the serial row is unchanged: refs and stores change only
    with a log record."""

    serial: Serial
    refs: dict[str, Ref | None]
    heads: dict[str, Commit]
    stores: dict[str, Store] | None


class Batch:
    """One batch. Lives inside one database transaction that holds the serial row."""

    def __init__(
        self,
        repository: Repository,
        rows: Rows,
        serial: Serial,
        clock: Clock,
        tree: Tree,
        nodes: BatchNodes,
        kept: Kept | None = None,
    ) -> None:
        """`kept`: what the batch before had read; used unless another process has written since."""
        self.repository = repository
        self.rows = rows
        self.clock = clock
        self.tree = tree
        self._nodes = nodes
        nodes.rows, nodes.added = rows, {}
        self._written, self._serial = serial, serial
        still = kept if kept is not None and kept.serial == serial else Kept(serial, {}, {}, None)
        self._stored_refs: dict[str, Ref | None] = dict(still.refs)
        self._refs: dict[str, Ref | None] = dict(still.refs)
        self._txs: dict[str, Tx] = {}
        self._participants: dict[str, list[Participant]] = {}
        self._snapshots: dict[bytes, SnapshotRow] = {}
        self._commits: dict[str, Commit] = dict(still.heads)
        self._stores = still.stores
        self._new_records: list[LogRow] = []
        self._new_commits: list[tuple[Commit, bytes]] = []
        self._new_moves: list[RefMove] = []
        self._new_changes: list[ChangeRow] = []
        self._new_snapshots: dict[bytes, bytes] = {}
        self._tx_swaps: list[tuple[Tx, Tx]] = []
        self.answers: list[Answer] = []

    # -- what is there -----------------------------------------------------------------------------------------------

    def prefetch(self, requests: Sequence[Request[object]]) -> None:
        """Read everything that the requests declare (`refs`, `txs`, `digests`), in a few statements."""
        named = {name for request in requests for name in request.refs}
        unknown = named - self._refs.keys()
        found = self.rows.refs_named(unknown)
        self._stored_refs.update({name: found.get(name) for name in unknown})
        self._refs.update(self._stored_refs)
        txs = sorted({tx for request in requests for tx in request.txs})
        self._txs.update(self.rows.txs(txs, lock=True))
        self._participants.update(self.rows.participants_of(txs))
        self._snapshots.update(self.rows.snapshots(digest for request in requests for digest in request.digests))
        heads = {ref.head for name in named if (ref := self._refs[name]) is not None}
        self._commits.update(self.rows.commits(heads - self._commits.keys()))

    def ref(self, name: str) -> Ref | None:
        """The ref with this batch's changes so far, or None."""
        if name not in self._refs:
            self._stored_refs[name] = self._refs[name] = self.rows.refs_named([name]).get(name)
        return self._refs[name]

    def existing_ref(self, name: str) -> Ref:
        """Raises: NotFound."""
        ref = self.ref(name)
        if ref is None:
            raise no_ref(name)
        return ref

    def commit(self, commit_id: str) -> Commit:
        """A commit of the history or of this batch. Raises: NotFound."""
        if commit_id not in self._commits:
            self._commits[commit_id] = self.rows.commit(commit_id)
        return self._commits[commit_id]

    def tx(self, tx: str) -> Tx | None:
        return self._txs.get(tx)

    def participants(self, tx: str) -> Sequence[Participant]:
        return self._participants.get(tx, ())

    def snapshot(self, digest: bytes) -> SnapshotRow | None:
        """The snapshot's row, or None if no commit, nor this batch, has named the snapshot yet."""
        return self._snapshots.get(digest)

    def store(self, name: str) -> Store:
        """Raises: NotFound."""
        if self._stores is None:
            self._stores = self.rows.stores()
        return known_store(self._stores, name)

    @property
    def next_seq(self) -> int:
        return self._serial.seq + 1

    @property
    def next_at_us(self) -> int:
        """The current time, or just after the log's last time if the clock is behind: times always grow with seq."""
        return max(self.clock.now_us(), self._serial.at_us + 1)

    # -- what is added -----------------------------------------------------------------------------------------------

    def append(self, kind: EventKind, payload: bytes) -> int:
        """Chain one record to the log. Returns: its seq."""
        seq, at_us = self.next_seq, self.next_at_us
        record_hash = codec.record_hash(
            repository=self.repository.uuid,
            previous=self._serial.record_hash,
            seq=seq,
            kind=kind.value,
            payload=payload,
        )
        self._serial = Serial(seq, record_hash, at_us)
        if kind is EventKind.STORE_CHANGED:
            self._stores = None
        self._new_records.append(LogRow(seq, kind.value, record_hash, payload))
        return seq

    def add_commit(self, commit: Commit, salt: bytes, changes: Sequence[ChangeRow]) -> None:
        self._commits[commit.id] = commit
        self._new_commits.append((commit, salt))
        self._new_changes.extend(changes)

    def add_snapshot(self, digest: bytes, body: bytes) -> None:
        self._snapshots[digest] = SnapshotRow(body, "live")
        self._new_snapshots[digest] = body

    def set_ref(self, name: str, ref: Ref | None, *, seq: int, at_us: int) -> None:
        """Create, move or delete a ref, and write its log line."""
        before = self.ref(name)
        changed = ref or before
        assert changed is not None
        self._refs[name] = ref
        head_before = before.head if before is not None else None
        head_after = ref.head if ref is not None else None
        self._new_moves.append(RefMove(seq, at_us, name, changed.kind, changed.incarnation, head_before, head_after))

    def swap_tx(self, before: Tx, after: Tx) -> None:
        """Change a transaction that the request named in `txs`, so that its row is locked."""
        self._txs[before.id] = after
        self._tx_swaps.append((before, after))

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo everything the block put into the batch if it raises."""
        serial, refs, txs = self._serial, dict(self._refs), dict(self._txs)
        commits, snapshots, added = dict(self._commits), dict(self._snapshots), dict(self._new_snapshots)
        lists: tuple[list[Any], ...] = (
            self._new_records,
            self._new_commits,
            self._new_moves,
            self._new_changes,
            self._tx_swaps,
        )
        lengths = [len(items) for items in lists]
        try:
            yield
        except BaseException:
            self._serial, self._refs, self._txs = serial, refs, txs
            self._commits, self._snapshots, self._new_snapshots = commits, snapshots, added
            for items, length in zip(lists, lengths, strict=True):
                del items[length:]
            raise

    def kept(self) -> Kept:
        """What the next batch need not read again. Valid once this batch is durable."""
        refs = self._refs if len(self._refs) <= _REFS_KEPT_MAX else {}
        heads = {ref.head for ref in refs.values() if ref is not None} & self._commits.keys()
        return Kept(self._serial, refs, {head: self._commits[head] for head in heads}, self._stores)

    # -- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what was added since the last flush. Every conditional write's answer is checked."""
        if self._serial.seq == self._written.seq and not self._tx_swaps and not self.answers:
            return
        rows = self.rows
        with rows.together() as swaps:
            rows.put_nodes(self._nodes.added, self._serial.seq)
            rows.put_snapshots(self._new_snapshots, self._serial.seq)
            rows.insert_commits(self._new_commits)
            rows.insert_changes(self._new_changes)
            rows.insert_log(self._new_records)
            rows.insert_moves(self._new_moves)
            rows.insert_answers(self.answers)
            failpoint("sequencer.rows_written")
            for before, after in self._tx_swaps:
                rows.swap_tx(before, after, swaps)
            self._swap_refs(swaps)
            rows.swap_serial(self._written, self._serial, swaps)
        if not all(swapped() for swapped in swaps):
            # Impossible while this transaction holds the serial row, unless somebody bypasses it: so write nothing.
            raise OutcomeUnknown("the history changed under a commit that held its serial row", remedy="ask again")
        self._forget()

    def _swap_refs(self, swaps: Swaps) -> None:
        for name, ref in self._refs.items():
            stored = self._stored_refs.get(name)
            if stored == ref:
                continue
            if stored is not None and ref is not None and stored.incarnation == ref.incarnation:
                self.rows.swap_ref(stored, ref, swaps)
            else:
                if stored is not None:
                    self.rows.swap_ref(stored, None, swaps)
                if ref is not None:
                    self.rows.insert_ref(ref)

    def _forget(self) -> None:
        self._written = self._serial
        self._stored_refs = dict(self._refs)
        self._nodes.added = {}
        self._new_records, self._new_commits, self._new_moves = [], [], []
        self._new_changes, self._new_snapshots, self._tx_swaps = [], {}, []
        self.answers = []


def moved(ref: Ref, head: str) -> Ref:
    """The same ref at another head."""
    return Ref(ref.name, ref.kind, head, ref.incarnation, ref.protected)


def unexpected_head(ref: Ref, expected: str) -> CommitConflict:
    """The error for a ref whose head somebody moved since the caller read it."""
    return CommitConflict(
        f"{ref.name!r} is at {ref.head[:12]}, expected {expected[:12]}",
        conflicts=[Conflict((), ConflictKind.UNEXPECTED_HEAD, ours=ref.head, theirs=expected)],
        remedy="look at what came, and repeat it from there",
    )
