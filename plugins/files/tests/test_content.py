"""Merges of bytes: what each side changed is kept, what both changed differently is a conflict."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from plait_files.content import merge_csv, merge_json, merge_text

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join).map(str.encode)
VALUES = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))


def test_json_joins_members() -> None:
    merged = merge_json(b'{"a":1,"b":{"c":1}}', b'{"a":2,"b":{"c":1}}', b'{"a":1,"b":{"c":1,"d":4}}')
    assert merged is not None
    assert json.loads(merged) == {"a": 2, "b": {"c": 1, "d": 4}}


def test_json_removal_against_change_is_a_conflict() -> None:
    assert merge_json(b'{"a":1}', b"{}", b'{"a":2}') is None


def test_broken_json_is_a_conflict() -> None:
    assert merge_json(b"{", b"{}", b'{"a":2}') is None


def test_csv_joins_cells_of_a_row() -> None:
    base, ours, theirs = b"id,x,y\n1,a,b\n", b"id,x,y\n1,A,b\n2,n,n\n", b"id,x,y\n1,a,B\n"
    assert merge_csv(base, ours, theirs) == b"id,x,y\n1,A,B\n2,n,n\n"


def test_csv_cell_changed_twice_is_a_conflict() -> None:
    assert merge_csv(b"id,x\n1,a\n", b"id,x\n1,b\n", b"id,x\n1,c\n") is None


def test_csv_deletion_is_kept() -> None:
    assert merge_csv(b"id,x\n1,a\n2,b\n", b"id,x\n2,b\n", b"id,x\n1,a\n2,c\n") == b"id,x\n2,c\n"


def test_text_joins_regions() -> None:
    assert merge_text(b"1\n2\n3\n", b"0\n1\n2\n3\n", b"1\n2\n3\n4\n") == b"0\n1\n2\n3\n4\n"


def test_text_region_changed_twice_is_a_conflict() -> None:
    assert merge_text(b"1\n2\n3\n", b"1\nx\n3\n", b"1\ny\n3\n") is None


def test_binary_is_a_conflict() -> None:
    assert merge_text(b"\0a", b"\0b", b"\0c") is None


@given(LINES, LINES)
def test_text_with_one_side_unchanged_is_the_other(base: bytes, other: bytes) -> None:
    assert merge_text(base, base, other) == other
    assert merge_text(base, other, base) == other
    assert merge_text(base, other, other) == other


@given(LINES, LINES, LINES)
def test_text_is_symmetric(base: bytes, ours: bytes, theirs: bytes) -> None:
    assert merge_text(base, ours, theirs) == merge_text(base, theirs, ours)


@given(VALUES, VALUES, VALUES)
def test_json_merge_is_symmetric_and_keeps_one_sides_changes(base: object, ours: object, theirs: object) -> None:
    old, mine, others = (json.dumps(side).encode() for side in (base, ours, theirs))
    left, right = merge_json(old, mine, others), merge_json(old, others, mine)
    assert (left is None) == (right is None)
    if left is not None and right is not None:
        assert json.loads(left) == json.loads(right)
    alone = merge_json(old, old, others)
    assert alone is not None
    assert json.loads(alone) == theirs
