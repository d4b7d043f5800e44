"""Rows of transactions: working sets, their participants, their conflicts. States change by compare-and-swap only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from plait.codec import decode_key, decode_snapshot, decode_source, encode_key, encode_snapshot, encode_source
from plait.persist import schema, statements
from plait.persist.base import Swaps, from_json, join_ids, of_enum, split_ids, to_json
from plait.persist.graph_rows import GraphRows
from plait.persist.session_rows import session_id
from plait.types import Entry, Key, Participant, SnapshotRef, Staging, Tx, TxState


class TxRows(GraphRows):
    # -- transactions ------------------------------------------------------------------------------------------------

    def insert_txs(self, txs: Sequence[Tx]) -> None:
        self.put_sessions([tx.session for tx in txs])
        self._insert(
            schema.tx,
            [
                {
                    "id": tx.id,
                    "state": tx.state.value,
                    "ref": tx.ref,
                    "incarnation": tx.incarnation,
                    "base": bytes.fromhex(tx.base),
                    "name": tx.name,
                    "message": tx.message,
                    "properties": to_json(tx.properties),
                    "session_id": session_id(tx.session),
                    "attempt": tx.attempt,
                    "owner": tx.owner,
                    "lease_until_us": tx.lease_until_us,
                    "implicit": tx.implicit,
                    "merged_parents": join_ids(tx.merged_parents),
                    "source": None if tx.source is None else encode_source(tx.source),
                    "commit_id": None if tx.commit is None else bytes.fromhex(tx.commit),
                    "created_at_us": tx.created_at_us,
                }
                for tx in txs
            ],
        )

    def txs(self, ids: Iterable[str], *, lock: bool = False) -> dict[str, Tx]:
        """Transactions by id; `lock` holds their rows until this database transaction ends."""
        wanted = list(set(ids))
        if lock and self._dialect != "sqlite" and wanted:  # SQLite has only one write transaction at a time anyway.
            # Always in the same order, so that two lockers cannot deadlock.
            ordered = self._select(schema.tx, schema.tx.c.id.in_(wanted)).order_by(schema.tx.c.id).with_for_update()
            rows: Sequence[sa.Row[Any]] = self._connection.execute(ordered).all()
        else:
            rows = self._in(schema.tx, "id", wanted)
        return {tx.id: tx for tx in self._to_txs(rows)}

    def live_txs(self) -> list[Tx]:
        """Transactions that have not ended, oldest first."""
        rows = statements.select_live(self._dialect).rows(self._connection, self._owner)
        return sorted(self._to_txs(rows), key=lambda tx: (tx.created_at_us, tx.id))

    def count_txs(self) -> dict[str, int]:
        """How many transactions are in each state, as the rows say."""
        column = schema.tx.c.state
        counted = sa.select(column, sa.func.count()).where(self._mine(schema.tx)).group_by(column)
        return {row[0]: row[1] for row in self._connection.execute(counted)}

    def swap_tx(self, before: Tx, after: Tx, together: Swaps | None = None) -> bool:
        """Change a transaction's row if its state, attempt and owner are still those of `before`; see `_swap`."""
        values = {
            "state": after.state.value,
            "base": bytes.fromhex(after.base),
            "message": after.message,
            "properties": to_json(after.properties),
            "attempt": after.attempt,
            "owner": after.owner,
            "lease_until_us": after.lease_until_us,
            "merged_parents": join_ids(after.merged_parents),
            "commit_id": None if after.commit is None else bytes.fromhex(after.commit),
        }
        still = {"id": before.id, "state": before.state.value, "attempt": before.attempt, "owner": before.owner}
        return self._swap(schema.tx, still, values, together)

    def _to_txs(self, rows: Sequence[sa.Row[Any]]) -> list[Tx]:
        sessions = self.sessions_of(rows, "working set")
        return [
            Tx(
                id=row.id,
                state=of_enum(TxState, row.state, f"working set {row.id}"),
                ref=row.ref,
                incarnation=row.incarnation,
                base=row.base.hex(),
                session=sessions[row.session_id],
                created_at_us=row.created_at_us,
                name=row.name,
                message=row.message,
                properties=from_json(row.properties, f"working set {row.id}"),
                attempt=row.attempt,
                owner=row.owner,
                lease_until_us=row.lease_until_us,
                implicit=bool(row.implicit),
                merged_parents=split_ids(row.merged_parents),
                source=None if row.source is None else decode_source(row.source),
                commit=None if row.commit_id is None else row.commit_id.hex(),
            )
            for row in rows
        ]

    # -- participants ------------------------------------------------------------------------------------------------

    def put_participants(self, participants: Sequence[Participant]) -> None:
        """Insert whole participants, or overwrite them."""
        rows = [_from_participant(participant) for participant in participants]
        columns = [column.name for column in schema.participant.c if not column.primary_key]
        self._upsert(schema.participant, rows, update=columns)

    def participants(self, tx: str, keys: Sequence[Key] | None = None) -> list[Participant]:
        """A transaction's participants in key order."""
        if keys is None:
            rows: Sequence[sa.Row[Any]] = self._all(schema.participant, tx=tx)
        else:
            rows = self._in(schema.participant, "key", map(encode_key, keys), tx=tx)
        return sorted((_to_participant(row) for row in rows), key=lambda participant: encode_key(participant.key))

    def participants_of(self, txs: Sequence[str]) -> dict[str, list[Participant]]:
        found: dict[str, list[Participant]] = {}
        for row in self._in(schema.participant, "tx", txs):
            found.setdefault(row.tx, []).append(_to_participant(row))
        return found

    def committed_with_participants(self) -> list[str]:
        """Committed transactions whose stagings were not dropped yet, oldest first."""
        held = sa.select(schema.participant.c.tx).where(self._mine(schema.participant)).distinct()
        txs = self.txs(row.tx for row in self._connection.execute(held))
        committed = [tx for tx in txs.values() if tx.state is TxState.COMMITTED]
        return [tx.id for tx in sorted(committed, key=lambda tx: (tx.created_at_us, tx.id))]

    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool:
        """Move a staging's location by compare-and-swap."""
        still = {"tx": tx, "key": encode_key(key), "staged": True, "location": expected}
        return self._swap(schema.participant, still, {"location": location})

    def delete_participants(self, tx: str) -> None:
        self._delete(schema.participant, tx=tx)

    # -- conflicts ---------------------------------------------------------------------------------------------------

    def put_conflicts(self, tx: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Rows of key, item, position, body, resolution. Of several of one item, the last counts."""
        by_item = {(row["key"], row["item"]): {"tx": tx, **row} for row in rows}
        self._upsert(schema.conflict, [*by_item.values()], update=("position", "body", "resolution"))

    def conflicts(self, tx: str) -> list[tuple[int, bytes, bytes | None]]:
        """(position, body, resolution), in order of position."""
        rows = sorted(self._all(schema.conflict, tx=tx), key=lambda row: int(row.position))
        return [(row.position, row.body, row.resolution) for row in rows]

    def set_resolution(self, tx: str, key: Key, item: str | None, resolution: bytes | None) -> bool:
        still = {"tx": tx, "key": encode_key(key), "item": conflict_item(item)}
        return self._swap(schema.conflict, still, {"resolution": resolution})

    def delete_conflicts(self, tx: str) -> None:
        self._delete(schema.conflict, tx=tx)


def conflict_item(item: str | None) -> bytes:
    """Encode an item as the column's bytes. None (a conflict of the whole key) differs from an empty item, and an item
    may hold text that databases do not accept."""
    return b"" if item is None else b"::" + item.encode("utf-8", "surrogatepass")


def _from_participant(participant: Participant) -> dict[str, object]:
    staging, base = participant.staging, participant.base
    return {
        "tx": participant.tx,
        "key": encode_key(participant.key),
        "base": None if base is None else encode_snapshot(base.snapshot),
        "base_content_id": None if base is None else base.content_id,
        "content_id": participant.content_id,
        "staged": staging is not None,
        "staged_base": _optional(staging.base if staging else None),
        "location": staging.location if staging else "",
        "attrs": to_json(staging.attrs if staging else {}),
        "dropped": participant.dropped,
        "attempt": participant.attempt,
        "prepared": _optional(participant.prepared),
        "intent": participant.intent,
    }


def _to_participant(row: sa.Row[Any]) -> Participant:
    key = decode_key(row.key)
    staging = None
    if row.staged:
        base = None if row.staged_base is None else decode_snapshot(row.staged_base)
        staging = Staging(row.tx, key, base, row.location, from_json(row.attrs, f"working set {row.tx}"))
    return Participant(
        tx=row.tx,
        key=key,
        base=None if row.base is None else Entry(key, row.base_content_id, decode_snapshot(row.base)),
        staging=staging,
        dropped=bool(row.dropped),
        content_id=row.content_id,
        attempt=row.attempt,
        prepared=None if row.prepared is None else decode_snapshot(row.prepared),
        intent=row.intent,
    )


def _optional(snapshot: SnapshotRef | None) -> bytes | None:
    return None if snapshot is None else encode_snapshot(snapshot)
