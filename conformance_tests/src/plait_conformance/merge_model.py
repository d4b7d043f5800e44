"""Merges of tables against a model: whatever two sides did to rows and files, the merge is what their rows say.

For adapters of tables with rows `id, item`, through four native writes. With key columns the model is a map; without, a
multiset, where a conflict on the whole table is always allowed and a wrong row never is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st
from plait.types import Conflicted, SnapshotRef

Step = tuple[str, int, str]
Held = dict[int, str]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "correct", "delete", "delete-from", "compact"]),
        st.integers(1, 9),
        st.sampled_from("xyz"),
    ),
    max_size=4,
)
FILES = st.lists(st.sets(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=3)


class Writes(Protocol):
    """What a test of one adapter lends: each makes a function that writes to a native table."""

    def append(self, rows: Held) -> Callable[[Any], object]: ...
    def correct(self, rows: Held) -> Callable[[Any], object]: ...
    def delete(self, predicate: str) -> Callable[[Any], object]: ...
    def compact(self) -> Callable[[Any], object] | None: ...


@dataclass(frozen=True, slots=True)
class Sides:
    base: Held
    ours: Held
    theirs: Held


def layout(files: Sequence[set[int]]) -> list[Held]:
    """The base's files, each row in one of them."""
    seen: set[int] = set()
    made = []
    for numbers in files:
        new = numbers - seen
        seen |= numbers
        if new:
            made.append(dict.fromkeys(sorted(new), "b"))
    return made


def carry_out(writes: Writes, base: Held, steps: Sequence[Step]) -> tuple[Held, list[Callable[[Any], object]]]:
    """What a side holds after these steps, and the native writes that bring it there; those without effect left out."""
    held, made = dict(base), []
    for kind, number, item in steps:
        if kind == "append" and number not in held:
            held[number] = item
            made.append(writes.append({number: item}))
        elif kind == "correct" and held.get(number, item) != item:
            held[number] = item
            made.append(writes.correct({number: item}))
        elif kind == "delete" and number in held:
            del held[number]
            made.append(writes.delete(f"id = {number}"))
        elif kind == "delete-from" and any(one >= number for one in held):
            held = {one: text for one, text in held.items() if one < number}
            made.append(writes.delete(f"id >= {number}"))
        elif kind == "compact" and held and (compact := writes.compact()) is not None:
            made.append(compact)
    return held, made


def check_keyed(sides: Sides, answer: object, read: Callable[[SnapshotRef], Held]) -> None:
    """The answer of a merge of tables with `id` as their key."""
    merged, conflicts = {}, set()
    for number in {*sides.base, *sides.ours, *sides.theirs}:
        base, ours, theirs = (side.get(number) for side in (sides.base, sides.ours, sides.theirs))
        if ours != base and theirs != base and ours != theirs:
            conflicts.add(f"id={number}")
        elif (kept := theirs if ours == base else ours) is not None:
            merged[number] = kept
    if conflicts:
        assert isinstance(answer, Conflicted), (sides, answer)
        assert {conflict.item for conflict in answer.conflicts} == conflicts
    else:
        assert not isinstance(answer, Conflicted), (sides, answer)
        found: Any = answer
        assert read(found.snapshot) == merged, sides


def check_loose(sides: Sides, answer: object, read: Callable[[SnapshotRef], Held]) -> None:
    """The answer of a merge of tables without a key: conflicts on the table, or the sum of both sides' changes."""
    if isinstance(answer, Conflicted):
        assert [conflict.item for conflict in answer.conflicts] == [None]
        return
    base, ours, theirs = (Counter(side.items()) for side in (sides.base, sides.ours, sides.theirs))
    rows = {*base, *ours, *theirs}
    found: Any = answer
    merged = {row: count for row in rows if (count := max(ours[row] + theirs[row] - base[row], 0))}
    assert Counter(read_pairs(found.snapshot, read)) == Counter(merged), sides


def read_pairs(snapshot: SnapshotRef, read: Callable[[SnapshotRef], Any]) -> list[tuple[int, str]]:
    return [(row["id"], row["item"]) for row in read(snapshot)]


def by_id(rows: Sequence[Mapping[str, Any]]) -> Held:
    """Rows as the model has them. Raises: AssertionError for two of one id."""
    held = {row["id"]: row["item"] for row in rows}
    assert len(held) == len(rows), rows
    return held
