"""Three-way merges of tables by row, and what their users decided."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from plait.errors import InvalidArgument
from plait.rows.comparing import RowChange, RowChanges, Shape, from_rows, take, to_rows
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

T = TypeVar("T")


class Decisions:
    """The user's resolutions, and the conflicts that none of them settles. The core knows the key: here it is ()."""

    def __init__(self, resolutions: Sequence[Resolution]) -> None:
        self._by_item = {resolution.item: resolution for resolution in resolutions}
        self.conflicts: list[Conflict] = []

    def for_item(self, item: str) -> Resolution | None:
        """What was decided for an item, else for the table as a whole."""
        return self._by_item.get(item) or self._by_item.get(None)

    @property
    def whole(self) -> Resolution | None:
        """What was decided for the table as a whole."""
        return self._by_item.get(None)

    def three_way(
        self,
        item: str,
        base: T,
        ours: T,
        theirs: T,
        kind: ConflictKind = ConflictKind.SCHEMA_CHANGED,
        detail: str = "",
    ) -> T:
        """The side that changed; where both did, differently, what was decided, else a conflict (and ours for now)."""
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        resolution = self.for_item(item)
        if resolution is None:
            self.conflict(item, base, ours, theirs, kind, detail)
            return ours
        if resolution.choice is Choice.VALUE:
            if item.startswith("property:") and isinstance(resolution.value, str | None):
                return resolution.value  # type: ignore[return-value]
            raise InvalidArgument(f"{item} cannot be resolved by a value", remedy="choose ours, theirs or base")
        return {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}[resolution.choice]

    def conflict(
        self, item: str | None, base: object, ours: object, theirs: object, kind: ConflictKind, detail: str
    ) -> None:
        """Note a conflict."""
        self.conflicts.append(Conflict((), kind, item, _json(base), _json(ours), _json(theirs), detail))


def _json(value: Any) -> Json:
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return {key: _json(one) for key, one in value.items()} if isinstance(value, Mapping) else value


@dataclass
class RowMerge:
    """Which rows leave ours, by key, and which come; both with the columns of `theirs`.

    `required` names the columns that hold no null.
    """

    shape: Shape
    required: frozenset[str]
    theirs: RowChanges
    decisions: Decisions
    met: bool = False
    """Whether both sides changed a row of one key."""
    _keys: list[pa.Table] = field(default_factory=list)
    _rows: list[pa.Table] = field(default_factory=list)

    @property
    def keys(self) -> pa.Table:
        return pa.concat_tables([self.shape.keys(self.theirs.removed.slice(0, 0)), *self._keys])

    @property
    def rows(self) -> pa.Table:
        return pa.concat_tables([self.theirs.added.slice(0, 0), *self._rows])

    def run(self, ours: RowChanges) -> None:
        """Decide for each row that theirs changed; conflicts, in order of their keys, go into `decisions`."""
        mine, others = _by_item(ours.changes), _by_item(self.theirs.changes)
        leaving: list[int] = []
        coming: list[int] = []
        for item, changes in others.items():
            if item not in mine:
                leaving += [one.before_index for one in changes if one.before_index is not None]
                coming += [one.after_index for one in changes if one.after_index is not None]
                continue
            self.met = True
            if _texts(one.after for one in mine[item]) != _texts(one.after for one in changes):
                self._settle(item, mine[item], changes)
        self._keys.append(self.shape.keys(take(self.theirs.removed, leaving)))
        self._rows.append(take(self.theirs.added, coming))

    def _settle(self, item: str, mine: Sequence[RowChange], changes: Sequence[RowChange]) -> None:
        resolution = self.decisions.for_item(item)
        if resolution is None:
            before = next((one.before for one in (*changes, *mine) if one.before is not None), None)
            ours_after = next((one.after for one in mine if one.after is not None), None)
            theirs_after = next((one.after for one in changes if one.after is not None), None)
            single = len(mine) == len(changes) == 1
            kind = ConflictKind.ITEM_CHANGED if single else ConflictKind.CONSTRAINT
            detail = "both sides changed this row" if single else "several rows have this key"
            self.decisions.conflict(item, before, ours_after, theirs_after, kind, detail)
            return
        if resolution.choice is Choice.OURS:
            return
        one = changes[0]
        removed, added = self.theirs.removed, self.theirs.added
        side, index = (removed, one.before_index) if one.after_index is None else (added, one.after_index)
        assert index is not None, "a change has a row on at least one side"
        self._keys.append(self.shape.keys(take(side, [index])))
        if resolution.choice is Choice.THEIRS:
            self._rows.append(take(added, [one.after_index for one in changes if one.after_index is not None]))
        elif resolution.choice is Choice.BASE:
            self._rows.append(take(removed, [one.before_index for one in changes if one.before_index is not None]))
        elif resolution.value is not None:
            self._rows.append(self._row(item, resolution))

    def _row(self, item: str, resolution: Resolution) -> pa.Table:
        if not isinstance(resolution.value, dict):
            raise InvalidArgument(
                f"{item} is resolved by {resolution.value!r}, which is no row",
                remedy="give the row as an object of column names and values, or null to remove it",
            )
        if lacking := sorted(name for name in self.required if resolution.value.get(name) is None):
            raise InvalidArgument(f"{item} is resolved by a row without {lacking[0]!r}, which the table requires")
        made = from_rows(self.theirs.added.schema, [resolution.value])
        if (found := self.shape.item(to_rows(made)[0])) != item:
            raise InvalidArgument(f"{item} is resolved by a row of another key, {found}")
        return made


def _by_item(changes: Iterable[RowChange]) -> dict[str, list[RowChange]]:
    found: dict[str, list[RowChange]] = defaultdict(list)
    for one in changes:
        found[one.item].append(one)
    return found


def _texts(rows: Iterable[Mapping[str, Json] | None]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in rows if one is not None)
