"""Ranges of a volume: (start, end) in bytes, lists of them sorted and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]


def union(*lists: Iterable[Range], gap: int = 0) -> list[Range]:
    """All ranges as one list; those at most `gap` apart become one."""
    merged: list[Range] = []
    for start, end in sorted(one for ranges in lists for one in ranges):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def intersection(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    """Where both are."""
    found: list[Range] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """The parts of ranges that are not in `taken`."""
    found: list[Range] = []
    for start, end in ranges:
        for low, high in taken:
            if high <= start or low >= end:
                continue
            if low > start:
                found.append((start, low))
            start = max(start, high)
        if start < end:
            found.append((start, end))
    return found
