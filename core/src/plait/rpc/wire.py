"""Converts values of the history to messages and back. Pure; a property test checks `from_wire(to_wire(x)) == x`.

A message that plait never writes (an enum left unset, an operation without its kind) raises InvalidArgument, since it
came from outside. `wire_writing` converts writes and working sets, `wire_errors` errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

from plait.backend import Problem, Side
from plait.errors import InvalidArgument
from plait.graph import LogFilter
from plait.rpc import plait_pb2 as pb
from plait.types import (
    Change,
    Commit,
    Conflict,
    ConflictKind,
    Depth,
    Entry,
    Event,
    EventKind,
    ItemChange,
    ItemChangeKind,
    Json,
    Key,
    Ref,
    RefKind,
    RefMove,
    Session,
    SnapshotRef,
)

E = TypeVar("E", bound=StrEnum)


class Names(Generic[E]):
    """Maps an enumeration to its protobuf one. Both have the same member names, but for protobuf's prefix."""

    def __init__(self, members: type[E], wire: Any, prefix: str) -> None:
        self._what = prefix
        self._to = {member: wire.Value(f"{prefix}_{member.name}") for member in members}
        self._from = {number: member for member, number in self._to.items()}

    def to(self, member: E) -> Any:
        return self._to[member]

    def of(self, number: int) -> E:
        """Raises: InvalidArgument for a number that this release does not know."""
        try:
            return self._from[number]
        except KeyError:
            raise InvalidArgument(
                f"{number} is no {self._what} that this release knows", remedy="use the same release on both sides"
            ) from None


ITEM_CHANGE_KINDS = Names(ItemChangeKind, pb.ItemChangeKind, "ITEM_CHANGE_KIND")
REF_KINDS = Names(RefKind, pb.RefKind, "REF_KIND")
CONFLICT_KINDS = Names(ConflictKind, pb.ConflictKind, "CONFLICT_KIND")
EVENT_KINDS = Names(EventKind, pb.EventKind, "EVENT_KIND")
DEPTHS = Names(Depth, pb.Depth, "DEPTH")


# -- small things ------------------------------------------------------------------------------------------------------


def to_json(value: Json) -> str | None:
    """None, which means absent, stays unset. Python's dialect: NaN and infinities keep their names."""
    return None if value is None else json.dumps(value, separators=(",", ":"))


def from_json(text: str) -> Json:
    """Raises: InvalidArgument."""
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{text[:80]!r} is no JSON: {error}") from error
    return value


def to_key(key: Key) -> pb.Key:
    return pb.Key(parts=key)


def from_key(message: pb.Key) -> Key:
    return tuple(message.parts)


def to_items(items: Sequence[str] | None) -> pb.Items | None:
    return None if items is None else pb.Items(items=items)


# -- snapshots, entries, changes ---------------------------------------------------------------------------------------


def to_snapshot(snapshot: SnapshotRef) -> pb.SnapshotRef:
    return pb.SnapshotRef(
        store=snapshot.store,
        kind=snapshot.kind,
        asset=snapshot.asset,
        version=snapshot.version,
        digest=snapshot.digest,
        attrs=snapshot.attrs,
    )


def from_snapshot(message: pb.SnapshotRef) -> SnapshotRef:
    return SnapshotRef(message.store, message.kind, message.asset, message.version, message.digest, dict(message.attrs))


def to_entry(entry: Entry) -> pb.Entry:
    return pb.Entry(key=to_key(entry.key), content_id=entry.content_id, snapshot=to_snapshot(entry.snapshot))


def from_entry(message: pb.Entry) -> Entry:
    return Entry(from_key(message.key), message.content_id, from_snapshot(message.snapshot))


def to_change(change: Change) -> pb.Change:
    return pb.Change(
        key=to_key(change.key),
        before=None if change.before is None else to_entry(change.before),
        after=None if change.after is None else to_entry(change.after),
    )


def from_change(message: pb.Change) -> Change:
    return Change(
        from_key(message.key),
        from_entry(message.before) if message.HasField("before") else None,
        from_entry(message.after) if message.HasField("after") else None,
    )


def to_item_change(change: ItemChange) -> pb.ItemChange:
    return pb.ItemChange(
        item=change.item,
        kind=ITEM_CHANGE_KINDS.to(change.kind),
        aspect=change.aspect,
        before_json=to_json(change.before),
        after_json=to_json(change.after),
    )


def from_item_change(message: pb.ItemChange) -> ItemChange:
    return ItemChange(
        message.item,
        ITEM_CHANGE_KINDS.of(message.kind),
        message.aspect,
        from_json(message.before_json) if message.HasField("before_json") else None,
        from_json(message.after_json) if message.HasField("after_json") else None,
    )


def to_conflict(conflict: Conflict) -> pb.Conflict:
    return pb.Conflict(
        key=to_key(conflict.key),
        kind=CONFLICT_KINDS.to(conflict.kind),
        item=conflict.item,
        base_json=to_json(conflict.base),
        ours_json=to_json(conflict.ours),
        theirs_json=to_json(conflict.theirs),
        detail=conflict.detail,
    )


def from_conflict(message: pb.Conflict) -> Conflict:
    return Conflict(
        from_key(message.key),
        CONFLICT_KINDS.of(message.kind),
        message.item if message.HasField("item") else None,
        from_json(message.base_json) if message.HasField("base_json") else None,
        from_json(message.ours_json) if message.HasField("ours_json") else None,
        from_json(message.theirs_json) if message.HasField("theirs_json") else None,
        message.detail,
    )


# -- commits, refs, events ---------------------------------------------------------------------------------------------


def to_session(session: Session) -> pb.Session:
    return pb.Session(
        principal=session.principal, author=session.author, client=session.client, properties=session.properties
    )


def from_session(message: pb.Session) -> Session:
    return Session(message.principal, message.author, message.client, _properties(message.properties))


def _properties(message: Mapping[str, str]) -> dict[str, str]:
    """In order, as an embedded catalog gives them: protobuf's own is another each time."""
    return dict(sorted(message.items()))


def to_commit(commit: Commit) -> pb.Commit:
    return pb.Commit(
        id=commit.id,
        parents=commit.parents,
        root=commit.root,
        author=commit.author,
        message=commit.message,
        committed_at_us=commit.committed_at_us,
        properties=commit.properties,
        tx=commit.tx,
        session=to_session(commit.session),
        seq=commit.seq,
    )


def from_commit(message: pb.Commit) -> Commit:
    return Commit(
        id=message.id,
        parents=tuple(message.parents),
        root=message.root,
        author=message.author,
        message=message.message,
        committed_at_us=message.committed_at_us,
        properties=_properties(message.properties),
        tx=message.tx,
        session=from_session(message.session),
        seq=message.seq,
    )


def to_ref(ref: Ref) -> pb.Ref:
    return pb.Ref(
        name=ref.name,
        kind=REF_KINDS.to(ref.kind),
        head=ref.head,
        incarnation=ref.incarnation,
        protected=ref.protected,
    )


def from_ref(message: pb.Ref) -> Ref:
    return Ref(message.name, REF_KINDS.of(message.kind), message.head, message.incarnation, message.protected)


def to_ref_move(move: RefMove) -> pb.RefMove:
    return pb.RefMove(
        seq=move.seq,
        moved_at_us=move.moved_at_us,
        ref=move.ref,
        kind=REF_KINDS.to(move.kind),
        incarnation=move.incarnation,
        before=move.before,
        after=move.after,
    )


def from_ref_move(message: pb.RefMove) -> RefMove:
    return RefMove(
        message.seq,
        message.moved_at_us,
        message.ref,
        REF_KINDS.of(message.kind),
        message.incarnation,
        message.before if message.HasField("before") else None,
        message.after if message.HasField("after") else None,
    )


def to_event(event: Event) -> pb.Event:
    return pb.Event(
        seq=event.seq,
        kind=EVENT_KINDS.to(event.kind),
        record_hash=event.record_hash,
        payload_json=to_json(dict(event.payload)),
        commit=None if event.commit is None else to_commit(event.commit),
        changes=[to_change(change) for change in event.changes],
    )


def from_event(message: pb.Event) -> Event:
    payload = from_json(message.payload_json)
    if not isinstance(payload, Mapping):
        raise InvalidArgument(f"the payload of event {message.seq} is no JSON object")
    return Event(
        message.seq,
        EVENT_KINDS.of(message.kind),
        message.record_hash,
        payload,
        from_commit(message.commit) if message.HasField("commit") else None,
        tuple(from_change(change) for change in message.changes),
    )


# -- what is asked -----------------------------------------------------------------------------------------------------


def to_side(side: Side) -> pb.Side:
    return pb.Side(spec=side.spec, tx=side.tx, key=None if side.key is None else to_key(side.key))


def from_side(message: pb.Side) -> Side:
    return Side(
        message.spec if message.HasField("spec") else None,
        message.tx if message.HasField("tx") else None,
        from_key(message.key) if message.HasField("key") else None,
    )


def to_log_filter(wanted: LogFilter) -> pb.LogFilter:
    return pb.LogFilter(
        author=wanted.author,
        message=wanted.message,
        principal=wanted.principal,
        client=wanted.client,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
        key=None if wanted.key is None else to_key(wanted.key),
        properties=wanted.properties,
        first_parent=wanted.first_parent,
    )


def from_log_filter(message: pb.LogFilter) -> LogFilter:
    """Raises: InvalidArgument, as LogFilter does."""
    return LogFilter(
        author=message.author if message.HasField("author") else None,
        message=message.message if message.HasField("message") else None,
        principal=message.principal if message.HasField("principal") else None,
        client=message.client if message.HasField("client") else None,
        since_us=message.since_us if message.HasField("since_us") else None,
        until_us=message.until_us if message.HasField("until_us") else None,
        key=from_key(message.key) if message.HasField("key") else None,
        properties=dict(message.properties),
        first_parent=message.first_parent,
    )


def to_problem(problem: Problem) -> pb.Problem:
    return pb.Problem(where=problem.where, what=problem.what, remedy=problem.remedy, code=problem.code)


def from_problem(message: pb.Problem) -> Problem:
    return Problem(message.where, message.what, message.remedy, message.code)
