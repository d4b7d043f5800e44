"""Three-way merge of one table: files where that is exact, rows where both sides touched the same files.

    both only added files, or touched different ones   theirs' files are named beside ours, none is read again
    files overlap, or both changed rows of one key      rows are joined by key columns; delta-rs writes them anew
    files overlap and there are no key columns          a conflict on the table

Source: Delta Transaction Log Protocol; conflict rules as in "Concurrency control" of Delta's documentation, except that
changes of schema and properties are merged instead of refused.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from plait.adapter import Context
from plait.errors import InvalidArgument
from plait.types import Choice, ConflictKind, Json, Resolution

from plait_delta.actions import FileId, State
from plait_delta.diff import row_changes, same_types
from plait_delta.evolve import Decisions, evolve
from plait_delta.features import required_columns
from plait_delta.rows import RowChange, RowChanges, Shape, Side, from_rows, quoted, read, take, to_rows
from plait_delta.table import KEEP_LOG, translated

_ON_TABLE = "choose a side for the table, or name its key columns (property plait.key-columns) first"
_CONSTRAINT = "delta.constraints."


@dataclass(frozen=True, slots=True)
class Plan:
    """What the merged table is: a state, and rows that leave it by key and come to it."""

    state: State
    keys: pa.Table | None = None
    rows: pa.Table | None = None

    @property
    def has_rows(self) -> bool:
        return bool((self.keys is not None and self.keys.num_rows) or (self.rows is not None and self.rows.num_rows))


class Merge:
    """One merge under way. `decisions` gathers its conflicts; without any, `run` gives the plan."""

    def __init__(self, base: Side, ours: Side, theirs: Side, decisions: Decisions, context: Context) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self.decisions = decisions
        self.context = context

    # -- what changed ------------------------------------------------------------------------------------------------

    @cached_property
    def _ours_files(self) -> _Files:
        return _Files.between(self.base.state, self.ours.state)

    @cached_property
    def _theirs_files(self) -> _Files:
        return _Files.between(self.base.state, self.theirs.state)

    @cached_property
    def _overlap(self) -> frozenset[str]:
        """Data files that both sides took away, or deleted rows of; none where one side holds all that the other did
        (a publication of ours with foreign commits on top)."""
        ours, theirs = self._ours_files, self._theirs_files
        if ours.come and (ours.is_within(theirs) or theirs.is_within(ours)):
            return frozenset()
        return frozenset(path for path, _ in ours.gone) & frozenset(path for path, _ in theirs.gone)

    # -- the merge ---------------------------------------------------------------------------------------------------

    def run(self) -> Plan | None:
        """None when there are conflicts. Cost: no data is read unless files overlap, or rows have keys."""
        evolved = evolve(self.base.state, self.ours.state, self.theirs.state, self.decisions)
        if self.decisions.conflicts:
            return None
        self._check_append_only(evolved)
        self._check_rows(evolved, self.ours, self._ours_files)
        self._check_rows(evolved, self.theirs, self._theirs_files)
        if self.decisions.conflicts:
            return None
        plan = self._plan(evolved)
        return None if self.decisions.conflicts else plan

    def _plan(self, evolved: State) -> Plan:
        by_files = Plan(replace(evolved, files=self._joined_files()))
        if not self._theirs_files or not self._ours_files:
            return by_files
        if not self._is_keyed(evolved):
            only_removals = not (self._ours_files.come or self._theirs_files.come)
            if self._overlap and not only_removals:
                detail = (
                    f"both sides rewrote {len(self._overlap)} data files, and no key columns are named: {_ON_TABLE}"
                )
                self.decisions.conflict(None, None, None, None, ConflictKind.ITEM_CHANGED, detail)
            return by_files
        shape = Shape(evolved.key_columns)
        ours = row_changes(shape, self.base, self.ours, self.context, evolved)
        theirs = row_changes(shape, self.base, self.theirs, self.context, evolved)
        joined = _Join(shape, required_columns(evolved), theirs, self.decisions)
        joined.run(ours)
        if not self._overlap and not joined.met:
            return by_files
        return Plan(evolved, joined.keys, joined.rows)

    def _is_keyed(self, evolved: State) -> bool:
        """Whether rows can be joined: they have key columns, since the base, and all sides can be read alike."""
        known = {one["name"] for one in self.base.state.schema["fields"]}
        sides = (self.base, self.ours, self.theirs)
        return (
            bool(evolved.key_columns)
            and known.issuperset(evolved.key_columns)
            and all(same_types(side.state, evolved) for side in sides)
        )

    def _joined_files(self) -> dict[FileId, Mapping[str, Any]]:
        theirs = self._theirs_files
        files = {one: add for one, add in self.ours.state.files.items() if one not in theirs.gone}
        return {**files, **{one: self.theirs.state.files[one] for one in theirs.come}}

    # -- rules of the table ------------------------------------------------------------------------------------------

    def _check_append_only(self, evolved: State) -> None:
        name = "delta.appendOnly"
        if not self._theirs_files.gone or evolved.configuration.get(name, "").lower() != "true":
            return
        if self.theirs.state.configuration.get(name, "").lower() != "true":
            detail = "ours made the table append-only, theirs deleted or rewrote rows: choose a side for the table"
            self.decisions.conflict(None, None, None, None, ConflictKind.CONSTRAINT, detail)

    def _check_rows(self, evolved: State, side: Side, files: _Files) -> None:
        """What one side added must keep the constraints that the other made. Cost: one query for each new one."""
        if not files.come:
            return
        known = side.state
        rules = {
            f"property:{name}": rule
            for name, rule in evolved.configuration.items()
            if name.startswith(_CONSTRAINT) and known.configuration.get(name) != rule
        }
        for name in sorted(required_columns(evolved) - required_columns(known)):
            rules[f"schema:{name}"] = f"{quoted(name)} IS NOT NULL"
        for item, rule in rules.items():
            self.context.check_cancelled()
            query = f"SELECT count(*) AS broken FROM this WHERE ({rule}) IS NOT TRUE"
            broken = read(side, files.come, evolved, query)["broken"][0].as_py()
            if broken:
                detail = f"{broken} rows that the other side added do not keep it: {rule}"
                self.decisions.conflict(item, None, None, None, ConflictKind.CONSTRAINT, detail)


@dataclass(frozen=True, slots=True)
class _Files:
    """The logical files that came and went between two versions."""

    gone: frozenset[FileId]
    come: frozenset[FileId]

    @classmethod
    def between(cls, before: State, after: State) -> _Files:
        return cls(
            frozenset(before.files.keys() - after.files.keys()), frozenset(after.files.keys() - before.files.keys())
        )

    def __bool__(self) -> bool:
        return bool(self.gone or self.come)

    def is_within(self, other: _Files) -> bool:
        return self.gone <= other.gone and self.come <= other.come


@dataclass
class _Join:
    """Which rows leave ours, by key, and which come."""

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
        return pa.concat_tables([self.shape.keys(self.theirs.removed).slice(0, 0), *self._keys])

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
            detail = "both sides changed this row" if single else "several rows have these key columns"
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
            raise InvalidArgument(f"{item} is resolved by a row of other key columns, {found}")
        return made


def _by_item(changes: Iterable[RowChange]) -> dict[str, list[RowChange]]:
    found: dict[str, list[RowChange]] = defaultdict(list)
    for one in changes:
        found[one.item].append(one)
    return found


def _texts(rows: Iterable[Mapping[str, Json] | None]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in rows if one is not None)


def write_rows(folder: str, tx: str, *, keys: pa.Table | None, rows: pa.Table | None) -> None:
    """Take the rows with these keys out of a table, and add rows. delta-rs keeps the table's constraints.

    Repeat: not by itself; each of the two is one Delta commit.
    """
    commit = CommitProperties(custom_metadata={"plait.tx": tx})
    options: Any = {"commit_properties": commit, "post_commithook_properties": KEEP_LOG}
    with translated(f"table {folder}"):
        if keys is not None and keys.num_rows:
            named = keys.rename_columns([f"k{n}" for n in range(keys.num_columns)])
            # In parentheses: the engine's parser lets IS NOT DISTINCT FROM swallow the AND that follows.
            same = " AND ".join(
                f"(t.{quoted(name)} IS NOT DISTINCT FROM s.k{n})" for n, name in enumerate(keys.column_names)
            )
            merger = DeltaTable(folder).merge(named, same, source_alias="s", target_alias="t", **options)
            merger.when_matched_delete().execute()
        if rows is not None and rows.num_rows:
            write_deltalake(DeltaTable(folder), rows, mode="append", **options)
