"""Three-way merge of one table: files where that is exact, rows where both sides touched the same files.

    both only added files, or touched different ones   theirs' files are named beside ours, none is read again
    files overlap, or both changed rows of one key      rows are joined by key columns; delta-rs writes them anew
    files overlap and there are no key columns          a conflict on the table

Source: Delta Transaction Log Protocol; conflict rules as in "Concurrency control" of Delta's documentation, except that
changes of schema and properties are merged instead of refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from plait.adapter import Context
from plait.errors import Unsupported
from plait.rows.comparing import ByColumns, difference, staying
from plait.rows.merging import Decisions, RowMerge
from plait.types import ConflictKind

from plait_delta.actions import FileId, State
from plait_delta.diff import row_changes, rows_lost, same_types
from plait_delta.evolve import evolve
from plait_delta.features import required_columns
from plait_delta.roots import Root
from plait_delta.rows import Side, plain, read
from plait_delta.table import KEEP_LOG, check_rewritable, open_table, quoted, rows_of, translated

_ON_TABLE = "choose a side for the table, or name its key columns first: tx.open(KEY).set_key_columns(…)"
_CONSTRAINT = "delta.constraints."


@dataclass(frozen=True, slots=True)
class Plan:
    """What the merged table is: a state, and rows that leave it and come to it."""

    state: State
    keys: pa.Table | None = None
    leaving: pa.Table | None = None
    rows: pa.Table | None = None

    @property
    def has_rows(self) -> bool:
        return any(part is not None and part.num_rows for part in (self.leaving, self.rows))


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
        """Data files that both sides took away, or deleted rows of; none where one side was made on top of the other
        (a publication of ours with foreign commits on it)."""
        if self._is_on_top(self.ours, self._ours_files, self.theirs, self._theirs_files):
            return frozenset()
        if self._is_on_top(self.theirs, self._theirs_files, self.ours, self._ours_files):
            return frozenset()
        return frozenset(path for path, _ in self._ours_files.gone) & frozenset(
            path for path, _ in self._theirs_files.gone
        )

    def _is_on_top(self, below: Side, its: _Files, above: Side, all_: _Files) -> bool:
        """Whether `above` did all that `below` did, by the names of files, which nobody gives twice.

        A file that went is no proof: `above` may have rewritten what `below` deleted. So the rows that `below` took
        away must not be in what `above` has more. Cost: nothing unless the names fit, then those files.
        """
        if not its.come or not its.is_within(all_):
            return False
        more = all_.come - its.come
        if not its.gone or not more:
            return True
        if not same_types(self.base.state, below.state) or not same_types(below.state, above.state):
            return False
        taken = row_changes(ByColumns(()), self.base, below, self.context, below.state).removed
        only_taken, _ = difference(taken, read(above, more, below.state))
        return bool(only_taken.num_rows == taken.num_rows)

    # -- the merge ---------------------------------------------------------------------------------------------------

    def run(self) -> Plan | None:
        """None when there are conflicts. Cost: no data is read unless files overlap, or rows have keys."""
        evolved = evolve(self.base.state, self.ours.state, self.theirs.state, self.decisions)
        if self.decisions.conflicts:
            return None
        self._check_layout(evolved)
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
        shape = ByColumns(evolved.key_columns)
        ours = row_changes(shape, self.base, self.ours, self.context, evolved)
        theirs = row_changes(shape, self.base, self.theirs, self.context, evolved)
        joined = RowMerge(shape, required_columns(evolved), ours, theirs, self.decisions)
        joined.run()
        if not self._overlap and not joined.met:
            return by_files
        leaving = joined.leaving
        return Plan(evolved, shape.keys(leaving), leaving, joined.rows)

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

    def _check_layout(self, evolved: State) -> None:
        """Files that one side wrote must fit what the other made of the columns: their values would be lost, or the
        table could not be read."""
        for side, files in ((self.ours, self._ours_files), (self.theirs, self._theirs_files)):
            if files and side.state.partition_columns != evolved.partition_columns:
                detail = "one side repartitioned the table, the other changed rows: choose a side for the table"
            elif files.come and not same_types(side.state, evolved):
                detail = "one side changed the type of a column, the other wrote rows: choose a side for the table"
            else:
                continue
            self.decisions.conflict(None, None, None, None, ConflictKind.SCHEMA_CHANGED, detail)

    def _check_append_only(self, evolved: State) -> None:
        if not (self._theirs_files.gone and evolved.is_append_only):
            return
        if not self.theirs.state.is_append_only:
            detail = "ours made the table append-only, theirs deleted or rewrote rows: choose a side for the table"
        elif rows_lost(self.base, self.theirs, self.context):
            detail = "the table is append-only, and rows of it would go: unset its property delta.appendOnly first"
        else:
            return
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
                detail = f"{broken} rows that the other side added do not keep it: {rule} · choose a side for the table"
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


def write_rows(
    root: Root, tx: str, *, keys: pa.Table | None, rows: pa.Table | None, leaving: pa.Table | None = None
) -> None:
    """Take the rows with these keys out of a table, and add rows. delta-rs keeps the table's constraints.

    Args:
        leaving: the whole rows that go. Others that share a key with one of them stay; without this, they go too.
    Raises: Unsupported before anything is written.
    Repeat: not by itself; each of the two is one Delta commit.
    Cost: what delta-rs rewrites; the table is read twice where keys are not unique.
    """
    commit = CommitProperties(custom_metadata={"plait.tx": tx})
    options: Any = {"commit_properties": commit, "post_commithook_properties": KEEP_LOG}
    with translated(f"table {root.folder}"):
        if any(part is not None and part.num_rows for part in (keys, rows)):
            _check_partitions(root)
        if keys is not None and keys.num_rows:
            named = keys.rename_columns([f"k{n}" for n in range(keys.num_columns)])
            # In parentheses: the engine's parser lets IS NOT DISTINCT FROM swallow the AND that follows.
            same = " AND ".join(
                f"(t.{quoted(name)} IS NOT DISTINCT FROM s.k{n})" for n, name in enumerate(keys.column_names)
            )
            table = open_table(root)
            check_rewritable(table)
            before = table.version()
            merger = table.merge(named, same, source_alias="s", target_alias="t", **options)
            deleted = merger.when_matched_delete().execute()["num_target_rows_deleted"]
            if leaving is not None and deleted > leaving.num_rows:
                held = (plain(rows_of(one)) for one in (open_table(root, before), open_table(root)))
                stay = staying(leaving, difference(*held)[0])
                rows = stay if rows is None else pa.concat_tables([rows, stay], promote_options="permissive")
        if rows is not None and rows.num_rows:
            write_deltalake(open_table(root), rows, mode="append", **options)


def _check_partitions(root: Root) -> None:
    """Raises: Unsupported for bytes that partition the table: delta-rs reads them as the text that stands for them in
    the log, so it would write them as others, and finds none of their rows by keys."""
    table = open_table(root)
    partitions = table.metadata().partition_columns
    for column in json.loads(table.schema().to_json())["fields"]:
        if column["type"] == "binary" and column["name"] in partitions:
            raise Unsupported(
                f"column {column['name']!r} holds bytes and partitions the table, so delta-rs cannot write rows anew",
                remedy="partition the table by other columns first, or choose a side for the table",
            )
