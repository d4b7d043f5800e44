"""Messages: each value survives the wire, each error keeps its class, and stays small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from plait import limits
from plait.backend import BeginRequest, Preview, Problem, Side
from plait.errors import BY_CODE, CommitConflict, InvalidArgument, PlaitError, ResourceExhausted
from plait.graph import LogFilter
from plait.persist.store_rows import Publication
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.wire_errors import from_error, to_error
from plait.types import (
    Change,
    Commit,
    Conflict,
    ConflictKind,
    Delete,
    Entry,
    Event,
    ItemChange,
    Lack,
    Participant,
    Proposal,
    Put,
    Ref,
    RefMove,
    Resolution,
    Risk,
    Session,
    SnapshotRef,
    Source,
    Staging,
    Store,
    Strategy,
    Tx,
    Unchanged,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PROPERTIES = st.dictionaries(TEXT, TEXT, max_size=3)
KEY = st.lists(TEXT, max_size=4).map(tuple)
for kind, strategy in ((int, INT64), (str, TEXT), (bytes, st.binary(max_size=40))):
    st.register_type_strategy(kind, strategy)
SNAPSHOT = st.builds(SnapshotRef, attrs=PROPERTIES)
ENTRY = st.builds(Entry, key=KEY, snapshot=SNAPSHOT)
CHANGE = st.builds(Change, key=KEY, before=st.none() | ENTRY, after=st.none() | ENTRY)
SESSION = st.builds(Session, TEXT, TEXT, TEXT, PROPERTIES)
COMMIT = st.builds(
    Commit, parents=st.lists(TEXT, max_size=3).map(tuple), properties=PROPERTIES, session=SESSION, seq=INT64
)
CONFLICT = st.builds(Conflict, key=KEY, item=st.none() | TEXT, base=JSON, ours=JSON, theirs=JSON, detail=TEXT)
EXPECTED = st.none() | st.binary(max_size=32)
OPERATION = (
    st.builds(Put, KEY, SNAPSHOT, EXPECTED, st.none() | TEXT)
    | st.builds(Delete, KEY, EXPECTED)
    | st.builds(Unchanged, KEY, EXPECTED)
)
SOURCE = st.builds(
    Source,
    base=st.none() | TEXT,
    keys=st.lists(KEY, max_size=2).map(tuple),
    default=...,
    strategies=st.lists(st.tuples(KEY, st.sampled_from(list(Strategy))), max_size=2).map(tuple),
)
STAGING = st.builds(Staging, key=KEY, base=st.none() | SNAPSHOT, attrs=PROPERTIES)

ROUND_TRIPS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Message], Callable[[Any], Any]]] = {
    "snapshot": (SNAPSHOT, wire.to_snapshot, wire.from_snapshot),
    "entry": (ENTRY, wire.to_entry, wire.from_entry),
    "change": (CHANGE, wire.to_change, wire.from_change),
    "item change": (st.builds(ItemChange, before=JSON, after=JSON), wire.to_item_change, wire.from_item_change),
    "session": (SESSION, wire.to_session, wire.from_session),
    "commit": (COMMIT, wire.to_commit, wire.from_commit),
    "ref": (st.builds(Ref, protected=st.booleans()), wire.to_ref, wire.from_ref),
    "ref move": (st.builds(RefMove), wire.to_ref_move, wire.from_ref_move),
    "conflict": (CONFLICT, wire.to_conflict, wire.from_conflict),
    "event": (
        st.builds(
            Event,
            payload=st.dictionaries(TEXT, JSON, max_size=3),
            commit=st.none() | COMMIT,
            changes=st.lists(CHANGE, max_size=2).map(tuple),
        ),
        wire.to_event,
        wire.from_event,
    ),
    "side": (st.builds(Side, st.none() | TEXT, st.none() | TEXT), wire.to_side, wire.from_side),
    "problem": (st.builds(Problem), wire.to_problem, wire.from_problem),
    "log filter": (
        st.builds(
            LogFilter,
            author=st.none() | TEXT,
            message=st.none() | TEXT,
            principal=st.none() | TEXT,
            client=st.none() | TEXT,
            since_us=st.none() | st.integers(-(2**40), 0),
            until_us=st.none() | st.integers(0, 2**40),
            key=st.none() | KEY,
            properties=PROPERTIES,
            first_parent=st.booleans(),
        ),
        wire.to_log_filter,
        wire.from_log_filter,
    ),
    "operation": (OPERATION, wire_writing.to_operation, wire_writing.from_operation),
    "proposal": (
        st.builds(
            Proposal,
            TEXT,
            st.lists(OPERATION, max_size=3).map(tuple),
            message=TEXT,
            author=TEXT,
            properties=PROPERTIES,
            session=SESSION,
            incarnation=st.none() | INT64,
            tx=st.none() | TEXT,
            attempt=INT64,
            merged_parents=st.lists(TEXT, max_size=2).map(tuple),
            expected_head=st.none() | TEXT,
            idempotency_key=st.none() | TEXT,
            allow_empty=st.booleans(),
        ),
        wire_writing.to_proposal,
        wire_writing.from_proposal,
    ),
    "source": (SOURCE, wire_writing.to_source, wire_writing.from_source),
    "begin": (
        st.builds(
            BeginRequest,
            name=TEXT,
            message=TEXT,
            properties=PROPERTIES,
            implicit=st.booleans(),
            merged_parents=st.lists(TEXT, max_size=2).map(tuple),
            source=st.none() | SOURCE,
            base=TEXT,
        ),
        lambda request: wire_writing.to_begin("r", request, Session()),
        wire_writing.from_begin,
    ),
    "tx": (
        st.builds(
            Tx,
            session=SESSION,
            name=TEXT,
            message=TEXT,
            properties=PROPERTIES,
            attempt=INT64,
            owner=TEXT,
            lease_until_us=INT64,
            implicit=st.booleans(),
            merged_parents=st.lists(TEXT, max_size=2).map(tuple),
            source=st.none() | SOURCE,
            commit=st.none() | TEXT,
        ),
        wire_writing.to_tx,
        wire_writing.from_tx,
    ),
    "staging": (STAGING, wire_writing.to_staging, wire_writing.from_staging),
    "participant": (
        st.builds(
            Participant,
            key=KEY,
            base=st.none() | ENTRY,
            staging=st.none() | STAGING,
            dropped=st.booleans(),
            content_id=st.none() | TEXT,
            attempt=INT64,
            prepared=st.none() | SNAPSHOT,
        ),
        wire_writing.to_participant,
        wire_writing.from_participant,
    ),
    "preview": (
        st.builds(Preview, st.lists(CHANGE, max_size=2).map(tuple), st.lists(CONFLICT, max_size=2).map(tuple)),
        wire_writing.to_preview,
        wire_writing.from_preview,
    ),
    "resolution": (
        st.builds(Resolution, key=KEY, value=JSON),
        wire_writing.to_resolution,
        wire_writing.from_resolution,
    ),
    "store": (
        st.builds(Store, mode=..., bound_ref=TEXT, options=PROPERTIES),
        wire_writing.to_store,
        wire_writing.from_store,
    ),
    "lack": (st.builds(Lack), wire_writing.to_lack, wire_writing.from_lack),
    "risk": (st.builds(Risk), wire_writing.to_risk, wire_writing.from_risk),
    "publication": (
        st.builds(Publication, key=KEY, moving=EXPECTED, found=EXPECTED, state=TEXT, owner=TEXT, epoch=INT64),
        wire_writing.to_publication,
        wire_writing.from_publication,
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_crosses_the_wire_is_the_same_after_it(name: str) -> None:
    strategy, to_message, from_message = ROUND_TRIPS[name]

    @settings(max_examples=40, deadline=None)
    @given(strategy)
    def check(value: Any) -> None:
        message = to_message(value)
        assert from_message(type(message).FromString(message.SerializeToString())) == value

    check()


def test_an_operation_of_no_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="neither put, delete nor unchanged"):
        wire_writing.from_operation(pb.Operation())


@pytest.mark.parametrize("text", ["", "[", "{1:2}", "[" * 100_000, "9" * 5_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no JSON"):
        wire.from_json(text)


def test_an_enumeration_left_unset_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="REF_KIND"):
        wire.from_ref(pb.Ref(name="main"))


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_keeps_its_class_its_message_and_its_remedy(code: str) -> None:
    cls = BY_CODE[code]
    error: PlaitError
    if issubclass(cls, CommitConflict):
        error = cls("what", conflicts=[], total=3, remedy="do", details={"tx": "t"})
    elif issubclass(cls, ResourceExhausted):
        error = cls("what", retry_after_us=7, remedy="do")
    else:
        error = cls("what", remedy="do", details={"a": "b"})
    again = from_error(pb.ErrorDetail.FromString(to_error(error).SerializeToString()))
    assert type(again) is cls
    assert (again.message, again.remedy, again.details) == (error.message, error.remedy, error.details)
    assert str(again) == str(error)
    if isinstance(again, CommitConflict):
        assert again.total == 3
    if isinstance(again, ResourceExhausted):
        assert again.retry_after_us == 7


def test_a_code_that_is_not_known_is_still_an_error_with_its_message() -> None:
    error = from_error(pb.ErrorDetail(code="OF_A_NEWER_RELEASE", message="what"))
    assert type(error) is PlaitError
    assert error.message == "what"


def many_conflicts(count: int, value: str = "v") -> CommitConflict:
    conflicts = [
        Conflict(("s", "t"), ConflictKind.ITEM_CHANGED, f"id={number}", value, value, value) for number in range(count)
    ]
    return CommitConflict(f"{count} conflicts", conflicts=conflicts, details={"tx": "the-tx"})


def test_of_a_hundred_thousand_conflicts_the_first_travel_and_the_number() -> None:
    error = many_conflicts(100_000)
    detail = to_error(error)
    assert detail.ByteSize() <= limits.ERROR_DETAIL_BYTES_MAX
    again = from_error(detail)
    assert isinstance(again, CommitConflict)
    assert again.total == 100_000
    assert again.conflicts == error.conflicts[: limits.ERROR_CONFLICTS_MAX]
    assert again.details == {"tx": "the-tx"}


@settings(max_examples=60, deadline=None)
@given(
    message=st.text(max_size=3000),
    details=st.dictionaries(st.text(max_size=60), st.text(max_size=900), max_size=9),
    value=st.integers(0, 9000),
)
def test_an_error_is_small_whatever_it_says(message: str, details: dict[str, str], value: int) -> None:
    error = many_conflicts(100, "x" * value)
    error.message, error.remedy, error.details = message * 3, message, details
    detail = to_error(error)
    assert detail.ByteSize() <= limits.ERROR_DETAIL_BYTES_MAX
    assert detail.conflicts_total == 100
