"""Three-way merges of tables by row, and the user's resolutions of their conflicts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from plait.errors import InvalidArgument
from plait.rows.comparing import RowChange, RowChanges, Shape, from_rows, take
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

T = TypeVar("T")


class Decisions:
    """The user's resolutions, and the conflicts that none of them settles. The core knows the key: here it is ()."""

    def __init__(self, resolutions: Sequence[Resolution]) -> None:
        self._by_item = {resolution.item: resolution for resolution in resolutions}
        self.conflicts: list[Conflict] = []

    def for_item(self, item: str) -> Resolution | None:
        """The resolution for an item, else the one for the table as a whole, else None."""
        return self._by_item.get(item) or self._by_item.get(None)

    @property
    def whole(self) -> Resolution | None:
        """The resolution for the table as a whole, or None."""
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
        """The side that changed. If both changed, differently: what a resolution says, else ours, and a conflict."""
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
    """Which rows leave ours, and which come; both with the columns of `theirs`.

    Keys need not be unique, since no format enforces it: of several rows of one key only the named ones leave.
    `required` names the columns that hold no null.
    """

    shape: Shape
    required: frozenset[str]
    ours: RowChanges
    theirs: RowChanges
    decisions: Decisions
    met: bool = False
    """Whether both sides changed a row of one key."""
    # Places of rows, each list of one table: they are taken at once, since each `take` costs as much as the table.
    _leaving_ours: list[int] = field(default_factory=list)
    _leaving: list[int] = field(default_factory=list)
    _back_to_ours: list[int] = field(default_factory=list)
    _back: list[int] = field(default_factory=list)
    _coming: list[int] = field(default_factory=list)
    _values: dict[str, Mapping[str, Json]] = field(default_factory=dict)

    @property
    def leaving(self) -> pa.Table:
        return pa.concat_tables([take(self.theirs.removed, self._leaving), take(self.ours.added, self._leaving_ours)])

    @property
    def rows(self) -> pa.Table:
        theirs, ours = self.theirs, self.ours
        taken = [
            take(theirs.added, self._coming),
            take(theirs.removed, self._back),
            take(ours.removed, self._back_to_ours),
        ]
        return pa.concat_tables([*taken, self._made()])

    def run(self) -> None:
        """Decide for each row that theirs changed; conflicts, in order of their keys, go into `decisions`."""
        mine, others = _by_item(self.ours.changes()), _by_item(self.theirs.changes())
        for item, changes in others.items():
            if item not in mine:
                self._leaving += _places_before(changes)
                self._coming += _places_after(changes)
                continue
            self.met = True
            if not _alike(mine[item], changes):
                self._settle(item, mine[item], changes)

    def _settle(self, item: str, mine: Sequence[RowChange], changes: Sequence[RowChange]) -> None:
        resolution = self.decisions.for_item(item)
        if resolution is None:
            before = next((one.before for one in (*changes, *mine) if one.before is not None), None)
            ours_after = next((one.after for one in mine if one.after is not None), None)
            theirs_after = next((one.after for one in changes if one.after is not None), None)
            single = len(mine) == len(changes) == 1 and mine[0].before == changes[0].before
            kind = ConflictKind.ITEM_CHANGED if single else ConflictKind.CONSTRAINT
            detail = "both sides changed this row" if single else "several rows have this key"
            self.decisions.conflict(item, before, ours_after, theirs_after, kind, detail)
            return
        if resolution.choice is Choice.OURS:
            return
        # Ours becomes the base again, and from there what was chosen; rows of this key that no side changed stay.
        both = Counter(_texts(one.before for one in mine)) & Counter(_texts(one.before for one in changes))
        only_mine, only_theirs = _others(mine, both), _others(changes, both)
        self._leaving_ours += _places_after(mine)
        self._leaving += only_theirs
        if resolution.choice is Choice.THEIRS:
            self._coming += _places_after(changes)
            self._back_to_ours += only_mine
        elif resolution.choice is Choice.BASE:
            self._back += _places_before(changes)
            self._back_to_ours += only_mine
        elif resolution.value is not None:
            self._values[item] = self._check_row(item, resolution.value)

    def _check_row(self, item: str, value: Json) -> Mapping[str, Json]:
        if not isinstance(value, dict):
            raise InvalidArgument(
                f"{item} is resolved by {value!r}, which is no row",
                remedy="give the row as an object of column names and values, or null to remove it",
            )
        if lacking := sorted(name for name in self.required if value.get(name) is None):
            raise InvalidArgument(f"{item} is resolved by a row without {lacking[0]!r}, which the table requires")
        return value

    def _made(self) -> pa.Table:
        """The rows that resolutions give."""
        made = from_rows(self.theirs.added.schema, list(self._values.values()))
        for item, found in zip(self._values, self.shape.items(made).to_pylist(), strict=True):
            if found != item:
                raise InvalidArgument(f"{item} is resolved by a row of another key, {found}")
        return made


def _by_item(changes: Iterable[RowChange]) -> dict[str, list[RowChange]]:
    found: dict[str, list[RowChange]] = defaultdict(list)
    for one in changes:
        found[one.item].append(one)
    return found


def _places_before(changes: Iterable[RowChange]) -> list[int]:
    return [one.before_index for one in changes if one.before_index is not None]


def _places_after(changes: Iterable[RowChange]) -> list[int]:
    return [one.after_index for one in changes if one.after_index is not None]


def _alike(mine: Sequence[RowChange], changes: Sequence[RowChange]) -> bool:
    """Whether both sides did the same. Two that each deleted another row of one key did not."""
    return all(
        _texts(getattr(one, side) for one in mine) == _texts(getattr(one, side) for one in changes)
        for side in ("before", "after")
    )


def _others(changes: Iterable[RowChange], both: Counter[str]) -> list[int]:
    """The places of the rows before these changes, but for those that both sides took away."""
    left = Counter(both)
    found = []
    for one in changes:
        if one.before is None or one.before_index is None:
            continue
        text = _text(one.before)
        if left[text]:
            left[text] -= 1
        else:
            found.append(one.before_index)
    return found


def _texts(rows: Iterable[Mapping[str, Json] | None]) -> list[str]:
    return sorted(_text(one) for one in rows if one is not None)


def _text(row: Mapping[str, Json]) -> str:
    return json.dumps(row, sort_keys=True)
