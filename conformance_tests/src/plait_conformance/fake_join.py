"""Items of the fake store against each other: what differs, and three-way joins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from plait.types import Choice, Conflict, ConflictKind, ItemChange, ItemChangeKind, Json, Resolution


def compare(
    old: Mapping[str, str], new: Mapping[str, str], wanted: frozenset[str] | None = None
) -> Iterator[ItemChange]:
    """What differs, lazily and in order; `wanted` limits it."""
    for item in sorted(old.keys() | new.keys()):
        left, right = old.get(item), new.get(item)
        if left == right or (wanted is not None and item not in wanted):
            continue
        kind = ItemChangeKind.CHANGED
        if left is None or right is None:
            kind = ItemChangeKind.ADDED if left is None else ItemChangeKind.REMOVED
        yield ItemChange(item, kind, "item", _json(left), _json(right))


def join(
    base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str], resolutions: Sequence[Resolution]
) -> tuple[dict[str, str], list[Conflict]]:
    """Three-way by item: what it gives, and the conflicts that no resolution settles, in order."""
    chosen = {resolution.item: resolution for resolution in resolutions}
    items: dict[str, str] = {}
    conflicts = []
    for item in sorted(base.keys() | ours.keys() | theirs.keys()):
        old, mine, others = base.get(item), ours.get(item), theirs.get(item)
        if mine == others or others == old:
            text = mine
        elif mine == old:
            text = others
        elif item in chosen:
            one = chosen[item]
            value = None if one.value is None else json.dumps(one.value)
            text = {Choice.OURS: mine, Choice.THEIRS: others, Choice.BASE: old, Choice.VALUE: value}[one.choice]
        else:
            conflicts.append(Conflict((), ConflictKind.ITEM_CHANGED, item, _json(old), _json(mine), _json(others)))
            continue
        if text is not None:
            items[item] = text
    return items, conflicts


def _json(text: str | None) -> Json:
    if text is None:
        return None
    value: Json = json.loads(text)
    return value
