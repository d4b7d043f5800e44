"""Replays the log to check the other tables. The log is chained by hash: where they differ, the tables are wrong.

Refs, the reflog, stores, the keys that each commit changed, and the ends of working sets are stored a second time in
tables of their own, for queries. Replaying the log finds what was altered there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plait import codec
from plait.backend import Problem
from plait.errors import Corrupt, PlaitError
from plait.persist import Rows
from plait.persist.graph_rows import ChangeRow, LogRow
from plait.refspec import format_key
from plait.tree import Tree
from plait.types import Commit, EventKind, Mode, Ref, RefKind, RefMove, Store, TxState

_NAMED_MAX = 3
_MOVES = {EventKind.REPOSITORY_CREATED, EventKind.COMMIT}
_MOVES |= {EventKind.REF_CREATED, EventKind.REF_MOVED, EventKind.REF_DELETED}


class Replay:
    """One pass over the log: call `page` for each page, then `finish`. Cost: each record, commit and change once."""

    def __init__(self, rows: Rows, tree: Tree) -> None:
        self._rows = rows
        self._tree = tree
        self._refs: dict[str, Ref] = {}
        self._stores: dict[str, Store] = {}
        self._ended = {TxState.COMMITTED: 0, TxState.ABORTED: 0}
        self._seq = 0
        self._at_us = 0

    def page(self, records: Sequence[LogRow], commits: Mapping[int, Commit]) -> Iterator[Problem]:
        """Problems of the next page of records: table rows that do not fit them. `commits`: the page's, by seq."""
        moves: dict[int, RefMove] = {}
        for record in records:
            try:
                move = self._apply(record)
            except (PlaitError, TypeError, ValueError) as error:
                yield Problem(f"log record {record.seq}", f"its payload cannot be read: {error}")
            else:
                if move is not None:
                    moves[record.seq] = move
        first, self._seq = self._seq, records[-1].seq
        yield from self._check_moves(moves, self._rows.moves_between(first, self._seq), commits)
        yield from self._check_changes(records, commits)
        yield from self._check_ends(records, commits)

    @property
    def at_us(self) -> int:
        """The time of the last move in the log."""
        return self._at_us

    def finish(self) -> Iterator[tuple[str, Iterator[Problem]]]:
        """Compare the reflog, refs, stores and working sets with what the records made of them, part by part."""
        yield "the reflog", self._check_rest()
        yield "refs", self._check_refs()
        yield "stores", self._check_stores()
        yield "working sets", self._check_counts()

    def _check_rest(self) -> Iterator[Problem]:
        for move in self._rows.moves_between(self._seq, None):
            yield Problem(f"reflog of {move.ref!r}", f"has record {move.seq}, the log ends at {self._seq}")

    def _check_refs(self) -> Iterator[Problem]:
        yield from _differing("ref", self._refs, {ref.name: ref for ref in self._rows.refs()})

    def _check_stores(self) -> Iterator[Problem]:
        yield from _differing("store", self._stores, self._rows.stores())

    def _check_counts(self) -> Iterator[Problem]:
        found = self._rows.count_txs()
        for state, count in self._ended.items():
            if found.get(state, 0) != count:
                yield Problem("working sets", f"{found.get(state, 0)} are {state.value}, the log says {count}")

    # -- one record --------------------------------------------------------------------------------------------------

    def _apply(self, record: LogRow) -> RefMove | None:
        kind = EventKind(record.kind)
        payload = codec.unpack(record.payload, f"log record {record.seq}")
        if kind is EventKind.STORE_CHANGED:
            self._change_store(payload)
        return self._move(record.seq, kind, payload) if kind in _MOVES else None

    def _change_store(self, payload: list[object]) -> None:
        fields, session = codec.split_store_record(payload)
        match fields:
            case [str(name), None]:
                self._stores.pop(name, None)
            case [str(name), str(kind), str(mode), str(bound_ref), list(options)]:
                self._stores[name] = Store(name, kind, Mode(mode), bound_ref, dict(options))
            case _:
                raise Corrupt("a store's record does not have its fields")
        if session is not None and session not in self._rows.sessions([session]):
            raise Corrupt(f"it is of session {session.hex()}, which is missing")

    def _move(self, seq: int, kind: EventKind, payload: list[object]) -> RefMove:
        """Apply a record to the replayed ref. Returns: the line of the reflog that it must have written."""
        match payload:
            case [bytes(made), str(name), bytes()] if kind is EventKind.REPOSITORY_CREATED:
                after: Ref | None = Ref(name, RefKind.BRANCH, made.hex(), seq, False)
            case [bytes(made), str(name), int(), bytes()] if kind is EventKind.COMMIT:
                after = replace(self._refs[name], head=made.hex()) if name in self._refs else None
            case [str(name), str(of), int(incarnation), _, bytes(head), bool(protected)]:
                after = Ref(name, RefKind(of), head.hex(), incarnation, protected)
            case [str(name), str(), int(), bytes(), None, bool()]:
                after = None
            case _:
                raise Corrupt("a ref's record does not have its fields")
        before = self._refs.pop(name, None)
        ref = after or before
        if ref is None:
            raise Corrupt(f"ref {name!r} is not there at this point of the log")
        if after is not None:
            self._refs[name] = after
        heads = [None if side is None else side.head for side in (before, after)]
        return RefMove(seq, 0, name, ref.kind, ref.incarnation, heads[0], heads[1])

    # -- one page ----------------------------------------------------------------------------------------------------

    def _check_moves(
        self, wanted: Mapping[int, RefMove], stored: Sequence[RefMove], commits: Mapping[int, Commit]
    ) -> Iterator[Problem]:
        found = {move.seq: move for move in stored}
        for seq in sorted(wanted.keys() | found.keys()):
            move, expected = found.get(seq), wanted.get(seq)
            if move is None or expected is None or replace(move, moved_at_us=0) != expected:
                name = (expected or found[seq]).ref
                yield Problem(f"reflog of {name!r}", f"does not say what log record {seq} says")
                continue
            commit = commits.get(seq)
            if move.moved_at_us <= self._at_us or (commit is not None and commit.committed_at_us != move.moved_at_us):
                yield Problem(f"reflog of {move.ref!r}", f"has a time at record {seq} that does not fit the log")
            self._at_us = max(self._at_us, move.moved_at_us)

    def _check_changes(self, records: Sequence[LogRow], commits: Mapping[int, Commit]) -> Iterator[Problem]:
        first_parents = {commit.parents[0] for commit in commits.values() if commit.parents}
        roots = {commit.id: commit.root for commit in self._rows.commits(first_parents).values()}
        stored = self._rows.changes_of_seqs([record.seq for record in records])
        for record in records:
            commit = commits.get(record.seq)
            try:
                wanted = [] if commit is None or not commit.parents else self._changes(commit, roots[commit.parents[0]])
            except (Corrupt, KeyError):
                continue  # Reported already: its nodes or its parent are missing or damaged.
            if wanted != (found := stored.get(record.seq, [])):
                keys = sorted({change.key for change in {*wanted} ^ {*found}})
                named = ", ".join(_named(key) for key in keys[:_NAMED_MAX])
                what = f"its changes are not those of its commit, at {len(keys)} keys: {named}"
                yield Problem(f"log record {record.seq}", what)

    def _changes(self, commit: Commit, before: bytes) -> list[ChangeRow]:
        def stored(value: bytes | None) -> bytes | None:
            return None if value is None else codec.split_value(value)[1]

        return [
            ChangeRow(commit.seq, change.key, stored(change.before), stored(change.after))
            for change in self._tree.diff(before, commit.root)
        ]

    def _check_ends(self, records: Sequence[LogRow], commits: Mapping[int, Commit]) -> Iterator[Problem]:
        """Check that the rows of working sets that the log ends have the same end. (One-call commits have no row.)"""
        ends: dict[str, tuple[TxState, str | None]] = {}
        for record in records:
            if record.kind == EventKind.TX_ABORTED:
                ends[codec.unpack(record.payload, f"log record {record.seq}")[0]] = (TxState.ABORTED, None)
            elif (commit := commits.get(record.seq)) is not None:
                ends[commit.tx] = (TxState.COMMITTED, commit.id)
        for tx in self._rows.txs(ends).values():
            state, commit_id = ends[tx.id]
            if (tx.state, tx.commit) == (state, commit_id):
                self._ended[state] += 1
            else:
                yield Problem(f"working set {tx.id}", f"is {tx.state.value}, the log says {state.value}")


def _differing(what: str, wanted: Mapping[str, object], found: Mapping[str, object]) -> Iterator[Problem]:
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            how = "is missing" if name not in found else "is not in the log" if name not in wanted else "is altered"
            yield Problem(f"{what} {name!r}", f"{how}: the log says {_shown(wanted.get(name))}")


def _shown(value: object) -> str:
    """A value as a problem shows it. A store's options are never shown: they may say where secrets are."""
    if isinstance(value, Ref):
        return f"{value.kind.value} at {value.head[:12]}, {'' if value.protected else 'not '}protected"
    return f"kind {value.kind}, {value.mode.value}, of {value.bound_ref!r}" if isinstance(value, Store) else "nothing"


def _named(key: bytes) -> str:
    try:
        return format_key(codec.decode_key(key))
    except PlaitError:
        return repr(key)
