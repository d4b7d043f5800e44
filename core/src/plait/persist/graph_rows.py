"""Rows of the history: serial, log, nodes, snapshots, commits, refs, changes, idempotency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound
from plait.persist import schema
from plait.persist.base import (
    Swaps,
    from_json,
    join_ids,
    of_bytes,
    of_bytes_or_none,
    of_enum,
    split_ids,
    to_json,
)
from plait.persist.session_rows import SessionRows, session_id
from plait.refspec import no_ref
from plait.types import Commit, Ref, RefKind, RefMove

_Name = TypeVar("_Name", str, int)


@dataclass(frozen=True, slots=True)
class Serial:
    """The end of the log: its length, the chain's last hash, and its last time, which every later time exceeds."""

    seq: int
    record_hash: bytes
    at_us: int


@dataclass(frozen=True, slots=True)
class LogRow:
    seq: int
    kind: str
    record_hash: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot's canonical bytes and whether its data is still there: live, condemned or expired."""

    body: bytes
    state: str


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One key that a log record changed, as encoded key and ref_digests."""

    seq: int
    key: bytes
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The result stored under an idempotency key, and the digest of the request that it answers."""

    principal: str
    operation: str
    key: str
    request_digest: bytes
    result: bytes


class Commits(dict[_Name, Commit]):
    """Commits by id or by seq. `[…]` asks for one that something else names. Raises: Corrupt when it is missing."""

    def __missing__(self, name: _Name) -> Commit:
        raise Corrupt(f"commit {name} is missing", remedy="run 'plait verify', restore a backup")


class GraphRows(SessionRows):
    """The history's rows. Writers call `lock_serial` first: it orders them, in every process."""

    # -- serial and log ----------------------------------------------------------------------------------------------

    def lock_serial(self) -> Serial:
        """The end of the log, locked until the transaction ends, so that nobody else appends. Raises: Corrupt."""
        return self._serial(lock=True)

    def serial(self) -> Serial:
        """The end of the log. Raises: Corrupt when its row is missing."""
        return self._serial(lock=False)

    def _serial(self, *, lock: bool) -> Serial:
        row = self._named(schema.serial, lock=lock)
        if row is None:
            raise Corrupt(f"repository {self._repository_id} has no serial row")
        return Serial(row.seq, row.record_hash, row.at_us)

    def swap_serial(self, before: Serial, after: Serial, together: Swaps | None = None) -> bool:
        """Move the end of the log by compare-and-swap, in case `lock_serial` failed. `together`: see `_swap`."""
        values = {"seq": after.seq, "record_hash": after.record_hash, "at_us": after.at_us}
        return self._swap(schema.serial, {"seq": before.seq, "record_hash": before.record_hash}, values, together)

    def insert_log(self, records: Sequence[LogRow]) -> None:
        rows = [{"seq": r.seq, "kind": r.kind, "record_hash": r.record_hash, "payload": r.payload} for r in records]
        self._insert(schema.log, rows)

    def log(self, after_seq: int, limit: int) -> list[LogRow]:
        """Records with seq > after_seq, ascending."""
        column = schema.log.c
        statement = self._select(schema.log, column.seq > after_seq).order_by(column.seq).limit(limit)
        return [LogRow(row.seq, row.kind, row.record_hash, row.payload) for row in self._connection.execute(statement)]

    # -- nodes and snapshots -----------------------------------------------------------------------------------------

    def nodes(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        return {row.id: row.data for row in self._in(schema.node, "id", ids)}

    def put_nodes(self, nodes: Mapping[bytes, bytes], seq: int) -> None:
        rows = [{"id": node_id, "data": data, "touched_seq": seq} for node_id, data in nodes.items()]
        self._upsert(schema.node, rows, update=("touched_seq",))

    def snapshots(self, digests: Iterable[bytes]) -> dict[bytes, SnapshotRow]:
        rows = self._in(schema.snapshot, "ref_digest", digests)
        return {row.ref_digest: SnapshotRow(row.body, row.state) for row in rows}

    def all_snapshots(self) -> dict[bytes, SnapshotRow]:
        """Every snapshot of the repository by its digest, in the order in which commits named them last."""
        rows = sorted(self._all(schema.snapshot), key=lambda row: int(row.touched_seq))
        return {row.ref_digest: SnapshotRow(row.body, row.state) for row in rows}

    def put_snapshots(self, bodies: Mapping[bytes, bytes], seq: int) -> None:
        """Record snapshots as live. Known ones keep their state; their `touched_seq` becomes `seq`."""
        rows = [{"ref_digest": d, "body": body, "state": "live", "touched_seq": seq} for d, body in bodies.items()]
        self._upsert(schema.snapshot, rows, update=("touched_seq",))

    # -- commits -----------------------------------------------------------------------------------------------------

    def insert_commits(self, commits: Sequence[tuple[Commit, bytes]]) -> None:
        """Insert (commit, salt) rows and their sessions."""
        self.put_sessions([commit.session for commit, _ in commits])
        self._insert(
            schema.commit,
            [
                {
                    "id": bytes.fromhex(commit.id),
                    "seq": commit.seq,
                    "parents": join_ids(commit.parents),
                    "root": commit.root,
                    "tx": commit.tx,
                    "committed_at_us": commit.committed_at_us,
                    "salt": salt,
                    "author": commit.author,
                    "message": commit.message,
                    "properties": to_json(commit.properties),
                    "session_id": session_id(commit.session),
                }
                for commit, salt in commits
            ],
        )

    def commits(self, ids: Iterable[str]) -> Commits[str]:
        rows = self._in(schema.commit, "id", map(bytes.fromhex, ids))
        return Commits({commit.id: commit for commit in self._to_commits(rows)})

    def commit(self, commit_id: str) -> Commit:
        """Raises: NotFound."""
        found = self.commits([commit_id]).get(commit_id)
        if found is None:
            raise NotFound(f"commit {commit_id} does not exist", remedy="look at 'plait log'")
        return found

    def commits_by_seq(self, seqs: Iterable[int]) -> Commits[int]:
        rows = self._in(schema.commit, "seq", seqs)
        return Commits({commit.seq: commit for commit in self._to_commits(rows)})

    def commit_salt(self, commit_id: str) -> bytes | None:
        row = self._named(schema.commit, id=bytes.fromhex(commit_id))
        return None if row is None else row.salt

    def commit_by_prefix(self, prefix: str) -> str:
        """The one id that begins with these hexadecimal digits. Raises: NotFound, InvalidArgument when several do."""
        low = bytes.fromhex(prefix.ljust(64, "0"))
        high = bytes.fromhex(prefix.ljust(64, "f"))
        column = schema.commit.c
        statement = sa.select(column.id).where(self._mine(schema.commit), column.id >= low, column.id <= high).limit(2)
        found = self._connection.execute(statement).scalars().all()
        if not found:
            raise NotFound(f"no commit id begins with {prefix}", remedy="look at 'plait log'")
        if len(found) > 1:
            raise InvalidArgument(f"several commit ids begin with {prefix}", remedy="give more digits")
        return str(found[0].hex())

    def links(self, seq_max: int, limit: int) -> list[tuple[int, str, tuple[str, ...]]]:
        """(seq, id, parents) of up to `limit` commits with seq <= seq_max, descending: one page of a graph walk."""
        column = schema.commit.c
        statement = (
            sa.select(column.seq, column.id, column.parents)
            .where(self._mine(schema.commit), column.seq <= seq_max)
            .order_by(column.seq.desc())
            .limit(limit)
        )
        return [(row.seq, row.id.hex(), split_ids(row.parents)) for row in self._connection.execute(statement)]

    def _to_commits(self, rows: Sequence[sa.Row[Any]]) -> list[Commit]:
        sessions = self.sessions_of(rows, "commit")
        return [
            Commit(
                id=row.id.hex(),
                parents=split_ids(row.parents),
                root=row.root,
                author=row.author,
                message=row.message,
                committed_at_us=row.committed_at_us,
                properties=from_json(row.properties, f"commit {row.id.hex()}"),
                tx=row.tx,
                session=sessions[row.session_id],
                seq=row.seq,
            )
            for row in rows
        ]

    # -- refs --------------------------------------------------------------------------------------------------------

    def refs(self) -> list[Ref]:
        """All refs, by name."""
        return sorted((_to_ref(row) for row in self._all(schema.ref)), key=lambda ref: ref.name)

    def refs_named(self, names: Iterable[str]) -> dict[str, Ref]:
        return {row.name: _to_ref(row) for row in self._in(schema.ref, "name", names)}

    def ref(self, name: str) -> Ref:
        """Raises: NotFound."""
        row = self._named(schema.ref, name=name)
        if row is None:
            raise no_ref(name)
        return _to_ref(row)

    def insert_ref(self, ref: Ref) -> None:
        """Raises: AlreadyExists."""
        if self._named(schema.ref, name=ref.name) is not None:
            raise AlreadyExists(f"ref {ref.name!r} exists already", remedy="choose another name")
        row = {"name": ref.name, "kind": ref.kind.value, "head": bytes.fromhex(ref.head)}
        self._insert(schema.ref, [{**row, "incarnation": ref.incarnation, "protected": ref.protected}])

    def swap_ref(self, before: Ref, after: Ref | None, together: Swaps | None = None) -> bool:
        """Change a ref, or delete it (None), if it is still exactly `before`. Returns: whether it was; see `_swap`."""
        head = bytes.fromhex(before.head)
        if after is None:
            deleted = self._deleting(schema.ref, name=before.name, incarnation=before.incarnation, head=head)
            return self._done(deleted, together)
        still = {"name": before.name, "incarnation": before.incarnation, "head": head}
        values = {"head": bytes.fromhex(after.head), "protected": after.protected}
        return self._swap(schema.ref, still, values, together)

    def insert_moves(self, moves: Sequence[RefMove]) -> None:
        self._insert(
            schema.ref_log,
            [
                {
                    "seq": move.seq,
                    "ref": move.ref,
                    "kind": move.kind.value,
                    "incarnation": move.incarnation,
                    "moved_at_us": move.moved_at_us,
                    "before": None if move.before is None else bytes.fromhex(move.before),
                    "after": None if move.after is None else bytes.fromhex(move.after),
                }
                for move in moves
            ],
        )

    def moves(self, ref: str, *, before_us: int | None, limit: int) -> list[RefMove]:
        """A ref's log over all incarnations, newest first. Times are distinct, and grow with seq."""
        column = schema.ref_log.c
        statement = self._select(schema.ref_log, column.ref == ref)
        if before_us is not None:
            statement = statement.where(column.moved_at_us < before_us)
        ordered = statement.order_by(column.moved_at_us.desc()).limit(limit)
        return [_to_move(row) for row in self._connection.execute(ordered)]

    def moves_between(self, after_seq: int, last_seq: int | None) -> list[RefMove]:
        """Moves of all refs with after_seq < seq <= last_seq (None: to the end), ascending."""
        column = schema.ref_log.c
        statement = self._select(schema.ref_log, column.seq > after_seq)
        if last_seq is not None:
            statement = statement.where(column.seq <= last_seq)
        return [_to_move(row) for row in self._connection.execute(statement.order_by(column.seq))]

    def move_at(self, ref: str, at_us: int) -> RefMove | None:
        """The ref's last move at or before a time, which says where it stood then; None if there is none."""
        return next(iter(self.moves(ref, before_us=at_us + 1, limit=1)), None)

    # -- changes -----------------------------------------------------------------------------------------------------

    def insert_changes(self, changes: Sequence[ChangeRow]) -> None:
        rows = [{"seq": c.seq, "key": c.key, "before": c.before, "after": c.after} for c in changes]
        self._insert(schema.change, rows)

    def changes_of_key(self, key: bytes, seq_max: int, limit: int) -> list[ChangeRow]:
        """Up to `limit` changes of a key on any ref with seq <= seq_max, newest first."""
        column = schema.change.c
        statement = self._select(schema.change, column.key == key, column.seq <= seq_max)
        rows = self._connection.execute(statement.order_by(column.seq.desc()).limit(limit))
        return [ChangeRow(row.seq, row.key, row.before, row.after) for row in rows]

    def changes_of_seqs(self, seqs: Iterable[int]) -> dict[int, list[ChangeRow]]:
        """The changes of these log records, in key order."""
        found: dict[int, list[ChangeRow]] = {}
        for row in self._in(schema.change, "seq", seqs):
            found.setdefault(row.seq, []).append(ChangeRow(row.seq, row.key, row.before, row.after))
        for rows in found.values():
            rows.sort(key=lambda row: row.key)
        return found

    def first_changes(self) -> dict[bytes, ChangeRow]:
        """By the digest of each snapshot, the change that brought it first. Cost: O(changes of all history)."""
        column = schema.change.c
        statement = self._select(schema.change, column.after.is_not(None)).order_by(column.seq, column.key)
        found: dict[bytes, ChangeRow] = {}
        for row in self._connection.execute(statement):
            found.setdefault(row.after, ChangeRow(row.seq, row.key, row.before, row.after))
        return found

    # -- idempotency -------------------------------------------------------------------------------------------------

    def answers(self, keys: Iterable[str]) -> dict[tuple[str, str, str], Answer]:
        """Kept answers by (principal, operation, key)."""
        return {
            (row.principal, row.operation, row.key): Answer(
                row.principal, row.operation, row.key, row.request_digest, row.result
            )
            for row in self._in(schema.idempotency, "key", keys)
        }

    def insert_answers(self, answers: Sequence[Answer]) -> None:
        self._insert(
            schema.idempotency,
            [
                {
                    "principal": answer.principal,
                    "operation": answer.operation,
                    "key": answer.key,
                    "request_digest": answer.request_digest,
                    "result": answer.result,
                }
                for answer in answers
            ],
        )


def _to_ref(row: sa.Row[Any]) -> Ref:
    kind = of_enum(RefKind, row.kind, f"ref {row.name!r}")
    head = of_bytes(row.head, f"ref {row.name!r}").hex()
    return Ref(row.name, kind, head, row.incarnation, bool(row.protected))


def _to_move(row: sa.Row[Any]) -> RefMove:
    what = f"the reflog of {row.ref!r} at record {row.seq}"
    before, after = (of_bytes_or_none(side, what) for side in (row.before, row.after))
    kind = of_enum(RefKind, row.kind, what)
    heads = [None if side is None else side.hex() for side in (before, after)]
    return RefMove(row.seq, row.moved_at_us, row.ref, kind, row.incarnation, heads[0], heads[1])
