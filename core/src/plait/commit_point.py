"""The commit point: a proposal is checked against the running state, and becomes a commit or a list of conflicts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plait import codec
from plait.batch import Batch, moved, unexpected_head
from plait.codec import encode_key, encode_snapshot
from plait.errors import (
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    PlaitError,
    SnapshotExpired,
    TransactionClosed,
)
from plait.persist import Rows
from plait.persist.graph_rows import ChangeRow
from plait.refspec import format_key
from plait.types import (
    Commit,
    Conflict,
    ConflictKind,
    Delete,
    EventKind,
    Json,
    Key,
    Mode,
    Proposal,
    Put,
    Ref,
    RefKind,
    SnapshotRef,
    TxState,
    Unchanged,
)


def describe(snapshot: SnapshotRef) -> Json:
    """A snapshot as a conflict shows it to people."""
    return {"store": snapshot.store, "asset": snapshot.asset, "version": snapshot.version}


def unpack_value(value: bytes) -> tuple[str, bytes]:
    """(content id, ref_digest). Raises: Corrupt."""
    content_id, digest = codec.split_value(value)
    return str(uuid.UUID(bytes=content_id)), digest


@dataclass(slots=True)
class CommitRequest:
    """A checked proposal, as a request to the sequencer. `refs`, `txs`, `digests`: see `sequencer.Request`.

    `also`: called to write further rows in the same database transaction, if the proposal is accepted.
    """

    proposal: Proposal
    also: Callable[[Rows], None] | None = None
    _encoded: dict[bytes, bytes] = field(default_factory=dict)
    _digest_of: dict[Key, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for operation in self.proposal.operations:
            if isinstance(operation, Put):
                body = encode_snapshot(operation.snapshot)
                digest = codec.digest(b"snapshot", body)
                self._encoded[digest] = body
                self._digest_of[operation.key] = digest

    @property
    def refs(self) -> Sequence[str]:
        return (self.proposal.ref,)

    @property
    def txs(self) -> Sequence[str]:
        return () if self.proposal.tx is None else (self.proposal.tx,)

    @property
    def digests(self) -> Sequence[bytes]:
        return tuple(self._encoded)

    def remember(self, result: object) -> bytes:
        assert isinstance(result, Commit)
        return bytes.fromhex(result.id)

    def recall(self, rows: Rows, kept: bytes) -> Commit:
        return rows.commit(kept.hex())

    def decide(self, batch: Batch) -> Commit:
        """Check everything the proposal expects, then chain its commit onto the ref's head.

        Raises: NotFound, InvalidArgument, TransactionClosed, SnapshotExpired, CommitConflict with every conflict.
        Cost: O(operations · log keys) tree nodes.
        """
        ref = self._branch(batch)
        self._check_tx(batch)
        head = batch.commit(ref.head)
        keys = {operation.key: encode_key(operation.key) for operation in self.proposal.operations}
        held = batch.tree.get_many(head.root, keys.values())
        self._check_expected(batch, ref, {key: held.get(encoded) for key, encoded in keys.items()})
        self._check_snapshots(batch)
        tx = self.proposal.tx or batch.clock.new_id()
        edits: dict[bytes, bytes | None] = {}
        for operation in self.proposal.operations:
            if isinstance(operation, Delete):
                edits[keys[operation.key]] = None
            elif isinstance(operation, Put):
                there = held.get(keys[operation.key])
                if operation.content_id:
                    content_id = uuid.UUID(operation.content_id).bytes
                else:
                    content_id = codec.split_value(there)[0] if there else _content_id(batch, tx, operation.key)
                edits[keys[operation.key]] = content_id + self._digest_of[operation.key]
        edits = {key: value for key, value in edits.items() if held.get(key) != value}
        if not edits and not self.proposal.merged_parents and not self.proposal.allow_empty:
            raise NothingToCommit(
                "nothing to commit: every key already holds what the commit would put there",
                remedy="change something first, or allow an empty commit",
            )
        commit = self._chain(batch, ref, head, tx, edits, held)
        if self.also is not None:
            self.also(batch.rows)
        return commit

    def _branch(self, batch: Batch) -> Ref:
        ref = batch.existing_ref(self.proposal.ref)
        if ref.kind is not RefKind.BRANCH:
            raise InvalidArgument(f"{ref.name!r} is a tag, and tags never move", remedy="commit to a branch")
        if self.proposal.incarnation is not None and ref.incarnation != self.proposal.incarnation:
            raise NotFound(
                f"branch {ref.name!r} was deleted and made anew since this working set began",
                remedy="discard the working set and begin another on the new branch",
            )
        if self.proposal.expected_head is not None and ref.head != self.proposal.expected_head:
            raise unexpected_head(ref, self.proposal.expected_head)
        for parent in self.proposal.merged_parents:
            batch.commit(parent)
        return ref

    def _check_tx(self, batch: Batch) -> None:
        if self.proposal.tx is None:
            return
        tx = batch.tx(self.proposal.tx)
        if tx is None:
            raise NotFound(f"working set {self.proposal.tx} does not exist", remedy="see 'plait tx list'")
        if tx.state is not TxState.SEALED or tx.attempt != self.proposal.attempt:
            raise TransactionClosed(
                f"working set {tx.id} is {tx.state.value} ({tx.attempt}), expected sealed ({self.proposal.attempt})"
            )

    def _check_expected(self, batch: Batch, ref: Ref, held: Mapping[Key, bytes | None]) -> None:
        conflicts = []
        for operation in self.proposal.operations:
            there = held[operation.key]
            digest = _stored_digest(there)
            if digest != operation.expected:
                conflicts.append(self._conflict(batch, operation, digest))
        if conflicts:
            names = ", ".join(format_key(conflict.key) for conflict in conflicts[:3])
            raise CommitConflict(
                f"{len(conflicts)} of {len(self.proposal.operations)} keys changed on {ref.name!r} meanwhile: {names}",
                conflicts=conflicts,
                remedy="read them again and repeat, or merge",
            )

    def _conflict(self, batch: Batch, operation: Put | Delete | Unchanged, there: bytes | None) -> Conflict:
        if operation.expected is None:
            kind = ConflictKind.KEY_EXISTS
        elif there is None:
            kind = ConflictKind.KEY_DOES_NOT_EXIST
        else:
            kind = ConflictKind.VALUE_DIFFERS
        theirs = describe(operation.snapshot) if isinstance(operation, Put) else None
        base, ours = _describe_stored(batch, operation.expected), _describe_stored(batch, there)
        return Conflict(operation.key, kind, base=base, ours=ours, theirs=theirs)

    def _check_snapshots(self, batch: Batch) -> None:
        """Check that each Put names a store that is still there, and a snapshot that its transaction prepared or a
        commit of this repository holds, or a pointer."""
        participants = batch.participants(self.proposal.tx) if self.proposal.tx else ()
        prepared_digests = {
            codec.ref_digest(participant.prepared)
            for participant in participants
            if participant.prepared is not None and participant.attempt == self.proposal.attempt
        }
        for operation in self.proposal.operations:
            if not isinstance(operation, Put):
                continue
            store = batch.store(operation.key[0])
            snapshot, digest = operation.snapshot, self._digest_of[operation.key]
            row = batch.snapshot(digest)
            if row is not None and row.state != "live":
                raise SnapshotExpired(
                    f"{format_key(operation.key)}: the data of snapshot {snapshot.version} is {row.state}",
                    remedy="restore another commit, or import the data again",
                )
            if row is None and digest not in prepared_digests and store.mode is not Mode.POINTER:
                raise InvalidArgument(
                    f"{format_key(operation.key)}: no working set prepared snapshot {snapshot.version}",
                    remedy=f"store {store.name!r} is {store.mode.value}: write to it through a working set",
                )

    def _chain(
        self,
        batch: Batch,
        ref: Ref,
        head: Commit,
        tx: str,
        edits: Mapping[bytes, bytes | None],
        held: Mapping[bytes, bytes],
    ) -> Commit:
        proposal = self.proposal
        root = batch.tree.apply(head.root, edits) if edits else head.root
        salt, at_us = batch.clock.random_bytes(16), batch.next_at_us
        author = proposal.author or proposal.session.author or proposal.session.principal
        text = codec.text_digest(salt, author, proposal.message, proposal.properties)
        parents = (head.id, *proposal.merged_parents)
        commit_id = codec.commit_id(
            repository=batch.repository.uuid, parents=parents, root=root, tx=tx, committed_at_us=at_us, text=text
        )
        seq = batch.next_seq
        commit = Commit(
            commit_id, parents, root, author, proposal.message, at_us, proposal.properties, tx, proposal.session, seq
        )
        batch.add_commit(
            commit,
            salt,
            [
                ChangeRow(seq, key, _stored_digest(held.get(key)), _stored_digest(value))
                for key, value in sorted(edits.items())
            ],
        )
        for digest, body in self._encoded.items():
            batch.add_snapshot(digest, body)
        batch.set_ref(ref.name, moved(ref, commit_id), seq=seq, at_us=at_us)
        if proposal.tx is not None:
            row = batch.tx(proposal.tx)
            assert row is not None
            batch.swap_tx(row, replace(row, state=TxState.COMMITTED, commit=commit_id, owner="", lease_until_us=0))
        payload = [bytes.fromhex(commit_id), ref.name, ref.incarnation, bytes.fromhex(head.id)]
        appended = batch.append(EventKind.COMMIT, codec.pack(payload))
        assert appended == seq
        return commit


@dataclass(slots=True)
class CommitGroup:
    """Several proposals, all or nothing, in order."""

    requests: Sequence[CommitRequest]

    @property
    def refs(self) -> Sequence[str]:
        return [name for request in self.requests for name in request.refs]

    @property
    def txs(self) -> Sequence[str]:
        return [tx for request in self.requests for tx in request.txs]

    @property
    def digests(self) -> Sequence[bytes]:
        return [digest for request in self.requests for digest in request.digests]

    def decide(self, batch: Batch) -> list[Commit]:
        with batch.all_or_nothing():
            return [request.decide(batch) for request in self.requests]

    def remember(self, result: object) -> bytes:
        assert isinstance(result, list)
        return b"".join(bytes.fromhex(commit.id) for commit in result)

    def recall(self, rows: Rows, kept: bytes) -> list[Commit]:
        return [rows.commit(kept[start : start + 32].hex()) for start in range(0, len(kept), 32)]


def _content_id(batch: Batch, tx: str, key: Key) -> bytes:
    """A new key's content id, derived from transaction and key: deciding the transaction again gives the same."""
    name = codec.pack([batch.repository.uuid, tx, list(key)])
    return codec.digest(b"content", name)[:16]


def _stored_digest(value: bytes | None) -> bytes | None:
    return None if value is None else codec.split_value(value)[1]


def _describe_stored(batch: Batch, digest: bytes | None) -> Json:
    if digest is None:
        return None
    row = batch.snapshot(digest) or batch.rows.snapshots([digest]).get(digest)
    try:
        return {"digest": digest.hex()} if row is None else describe(codec.decode_snapshot(row.body))
    except PlaitError:
        return {"digest": digest.hex()}
