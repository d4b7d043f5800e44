"""Three-way merges of objects' bytes: JSON by path, CSV by its first column, text by lines.

Each gives the merged bytes, or None when both sides changed the same place differently.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Sequence
from typing import TypeVar

from plait.adapter import Merger

T = TypeVar("T")
_ABSENT = object()


class _Conflict(Exception):
    pass


def merge_json(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By path: members of objects are joined, anything else is one value. Ours' indentation is kept."""
    try:
        merged = _join(json.loads(base), json.loads(ours), json.loads(theirs))
    except (_Conflict, ValueError):
        return None
    indent = 2 if b"\n " in ours else None
    end = b"\n" if ours.endswith(b"\n") else b""
    return json.dumps(merged, indent=indent, ensure_ascii=False).encode() + end


def _join(base: object, ours: object, theirs: object) -> object:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        old = base if isinstance(base, dict) else {}
        merged = {}
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            value = _join(old.get(name, _ABSENT), ours.get(name, _ABSENT), theirs.get(name, _ABSENT))
            if value is not _ABSENT:
                merged[name] = value
        return merged
    raise _Conflict


def merge_csv(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By rows named by their first column, then by cells; by lines where headers differ or names are not unique."""
    try:
        tables = [_table(side) for side in (base, ours, theirs)]
    except (ValueError, csv.Error, UnicodeDecodeError):
        return merge_text(base, ours, theirs)
    (header, old), (ours_header, mine), (theirs_header, others) = tables
    if not header == ours_header == theirs_header:
        return merge_text(base, ours, theirs)
    merged: list[list[str]] = []
    for name in [*mine, *(name for name in others if name not in mine)]:
        try:
            row = _join_row(old.get(name), mine.get(name), others.get(name))
        except _Conflict:
            return None
        if row is not None:
            merged.append(row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n" if b"\r\n" in ours else "\n")
    writer.writerow(header)
    writer.writerows(merged)
    return text.getvalue().encode()


def _table(data: bytes) -> tuple[list[str], dict[str, list[str]]]:
    rows = list(csv.reader(io.StringIO(data.decode()), strict=True))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("rows of different lengths")
    named = {row[0]: row for row in rows[1:]}
    if len(named) != len(rows) - 1:
        raise ValueError("the first column does not name rows")
    return rows[0], named


def _join_row(base: list[str] | None, ours: list[str] | None, theirs: list[str] | None) -> list[str] | None:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if base is None or ours is None or theirs is None:
        raise _Conflict
    cells = []
    for old, mine, other in zip(base, ours, theirs, strict=True):
        if mine not in (old, other) and other != old:
            raise _Conflict
        cells.append(other if mine == old else mine)
    return cells


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By lines, as diff3 does: a region that one side changed is taken from it, touching regions conflict.

    Source: Khanna, Kunal, Pierce, "A Formal Investigation of Diff3" (2007).
    """
    if b"\0" in base + ours + theirs:
        return None
    old, mine, others = (side.splitlines(keepends=True) for side in (base, ours, theirs))
    merged: list[bytes] = []
    at, ours_at, theirs_at = 0, 0, 0
    for start, ours_start, theirs_start, length in _stable(old, mine, others):
        region = old[at:start], mine[ours_at:ours_start], others[theirs_at:theirs_start]
        if region[1] == region[2] or region[2] == region[0]:
            merged += region[1]
        elif region[1] == region[0]:
            merged += region[2]
        else:
            return None
        merged += old[start : start + length]
        at, ours_at, theirs_at = start + length, ours_start + length, theirs_start + length
    return b"".join(merged)


def _stable(old: Sequence[T], mine: Sequence[T], others: Sequence[T]) -> list[tuple[int, int, int, int]]:
    """Runs that all three share: (in old, in mine, in others, length), with an empty one at the end."""
    ours = difflib.SequenceMatcher(None, old, mine, autojunk=False).get_matching_blocks()
    theirs = difflib.SequenceMatcher(None, old, others, autojunk=False).get_matching_blocks()
    runs = []
    left, right = 0, 0
    while left < len(ours) and right < len(theirs):
        one, other = ours[left], theirs[right]
        start, end = max(one.a, other.a), min(one.a + one.size, other.a + other.size)
        if start < end:
            runs.append((start, one.b + start - one.a, other.b + start - other.a, end - start))
        if one.a + one.size < other.a + other.size:
            left += 1
        else:
            right += 1
    return [*runs, (len(old), len(mine), len(others), 0)]


_TEXT = ("*.txt", "*.md", "*.yaml", "*.yml", "*.toml", "*.sql", "*.py")

BUILT_IN: Sequence[Merger] = (
    Merger("json", "*.json", merge_json),
    Merger("csv", "*.csv", merge_csv),
    *(Merger("text", pattern, merge_text) for pattern in _TEXT),
)
