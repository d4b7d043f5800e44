"""The log as subscribers see it: one event per record, in order, without gaps."""

from __future__ import annotations

from collections.abc import Sequence

from plait.codec import decode_key, unpack
from plait.graph import load_snapshots
from plait.persist import Rows
from plait.types import Change, Entry, Event, EventKind, Json


def events(rows: Rows, after_seq: int, limit: int) -> Sequence[Event]:
    """Up to `limit` events with seq > after_seq, ascending. Cost: a few statements, whatever the history's length."""
    records = rows.log(after_seq, limit)
    commits = rows.commits_by_seq([record.seq for record in records])
    changes = rows.changes_of_seqs(list(commits))
    digests = {d for found in changes.values() for row in found for d in (row.before, row.after) if d is not None}
    snapshots = load_snapshots(rows, digests)
    made = []
    for record in records:
        key_changes = []
        for row in changes.get(record.seq, ()):
            key = decode_key(row.key)
            before, after = (None if d is None else Entry(key, "", snapshots[d]) for d in (row.before, row.after))
            key_changes.append(Change(key, before, after))
        payload: dict[str, Json] = {"record": _plain(unpack(record.payload, f"log record {record.seq}"))}
        made.append(
            Event(
                record.seq,
                EventKind(record.kind),
                record.record_hash,
                payload,
                commits.get(record.seq),
                tuple(key_changes),
            )
        )
    return made


def _plain(value: object) -> Json:
    """A payload as JSON can say it: bytes as hexadecimal digits."""
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(one) for one in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)
