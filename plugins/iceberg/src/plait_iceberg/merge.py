"""Three-way merge of one table: files where that is exact, rows where both sides touched the same files.

    both only added files, or touched different ones   theirs' files are replayed on ours, none is read again
    files overlap, or both changed rows of one key      rows are joined by identifier fields, copy-on-write
    files overlap and there are no identifier fields    a conflict on the table

The result is ours plus one snapshot. New entries take its sequence number; of ours' manifests only those are written
anew that hold a file which goes. Source: Iceberg specification, "Scan Planning" and "Sequence Numbers".
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
from plait.adapter import Context
from plait.errors import Unsupported
from plait.rows.comparing import RowChanges, staying
from plait.rows.merging import Decisions, RowMerge
from plait.types import Choice, ConflictKind
from pyiceberg.manifest import DataFile

from plait_iceberg.changes import Version, compare_rows, deleted_rows, taken_back, touched
from plait_iceberg.checksums import Checksums, notes
from plait_iceberg.evolve import Evolved, check_required, check_returned, evolve
from plait_iceberg.fields import current_schema, projection
from plait_iceberg.files import Files
from plait_iceberg.manifests import (
    FileChanges,
    Held,
    ManifestReader,
    check_applicable,
    compare,
    data_files,
    delete_files,
    find,
    removals,
    touched_paths,
)
from plait_iceberg.metadata import VIEW, Metadata, check_writable
from plait_iceberg.rows import Shape, read, read_all, without
from plait_iceberg.write import Edits, SnapshotWriter

_ON_TABLE = "choose a side for the table, or declare identifier fields (update_schema().set_identifier_fields) first"


@dataclass(frozen=True)
class Sides:
    """The three versions of a table."""

    base: Metadata
    ours: Metadata
    theirs: Metadata


def check_mergeable(sides: Sides) -> None:
    """Raises: Unsupported for what cannot be merged, before anything is written."""
    for one in (sides.ours, sides.theirs):
        check_rewritable(one, "merge")


def check_rewritable(one: Metadata, what: str) -> None:
    """Raises: Unsupported for a table of which no file can be rewritten."""
    check_writable(one, what)
    if one.format_version < 2:
        raise Unsupported(
            f"{what}: table {one.asset} has format version {one.format_version}, this needs 2",
            remedy="upgrade it first: with table.transaction() as tx: tx.upgrade_table_version(2)",
        )


def whole_conflict(base: Metadata | None, ours: Metadata, theirs: Metadata) -> str | None:
    """Why two versions can only be taken one for the other, or None."""
    if VIEW in (ours.format, theirs.format):
        return "both sides changed the view"
    if len({one.asset for one in (base, ours, theirs) if one is not None}) > 1:
        return "the sides hold different tables under this key"
    return "both sides brought the table here, in different versions" if base is None else None


@dataclass
class Merge:
    """One merge under way. `decisions` gathers its conflicts; without any, `run` gives the merged version."""

    files: Files
    context: Context
    sides: Sides
    decisions: Decisions
    writer: SnapshotWriter
    reader: ManifestReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ManifestReader(self.files.io)

    # -- what changed ------------------------------------------------------------------------------------------------

    @cached_property
    def ours_changes(self) -> FileChanges:
        return compare(self.reader, self.sides.base.current, self.sides.ours.current)

    @cached_property
    def theirs_changes(self) -> FileChanges:
        return compare(self.reader, self.sides.base.current, self.sides.theirs.current)

    @cached_property
    def overlap(self) -> frozenset[str]:
        """Data files that both sides took away, or that one took away while the other deleted rows of it; or of which
        one took deletes back, and theirs' delete files, put onto ours, would delete other rows than they should."""
        ours, theirs = data_files(self.ours_changes.removed).keys(), data_files(self.theirs_changes.removed).keys()
        ours_touched = touched(self.reader, self.ours_changes)
        theirs_touched = touched(self.reader, self.theirs_changes)
        back = taken_back(self.reader, self.ours_changes, self.theirs_changes)
        wrong = {path for path in back - ours - theirs if self._deletes_others(path)}
        return frozenset((ours & theirs) | (theirs_touched & ours) | (ours_touched & theirs) | wrong)

    def _rewritten_apart(self) -> frozenset[str]:
        """Those of the overlap that the sides did not take away alike: in one rewrite, all of whose files both hold, as
        after a cherry-pick; or with nothing written instead."""
        shared = self.ours_changes.added.keys() & self.theirs_changes.added.keys()
        base = self.sides.base.document
        ours, theirs = (removals(self.reader, base, one.document) for one in (self.sides.ours, self.sides.theirs))
        alike = {
            path
            for path in ours.keys() & theirs.keys()
            if (mine := ours[path]) and (other := theirs[path]) and mine.added.keys() == other.added.keys() <= shared
        }
        return self.overlap - alike

    def _deletes_others(self, path: str) -> bool:
        """Whether a replay of theirs' delete files would delete other rows of a data file than a three-way merge."""
        sides = self.sides
        base, ours, theirs = (deleted_rows(self.reader, one, path) for one in (sides.base, sides.ours, sides.theirs))
        stay = {name: rows for name, rows in ours.items() if name not in self.theirs_changes.removed}
        come = {name: rows for name, rows in theirs.items() if name in self.theirs_changes.added}
        before, mine, others = (frozenset().union(*one.values()) for one in (base, ours, theirs))
        wanted = (mine | (others - before)) - (before - others)
        return wanted != frozenset().union(*stay.values(), *come.values())

    # -- the merge ---------------------------------------------------------------------------------------------------

    def run(self, summary: dict[str, str]) -> Metadata | None:
        """The merged version, prepared; ours itself where theirs adds nothing; None when there are conflicts.

        Raises: Unsupported before anything is written.
        """
        for changes in (self.ours_changes, self.theirs_changes):
            for held in (*changes.added.values(), *changes.removed.values()):
                check_applicable(held.file)
        evolved = evolve(self.sides.base, self.sides.ours, self.sides.theirs, self.decisions)
        if self.decisions.conflicts:
            return None
        base = self.sides.base.document
        if self.ours_changes.added:
            check_required(evolved, self.sides.ours.document, {}, "ours", self.decisions)
            check_returned(evolved, base, self.sides.ours.document, {}, Choice.THEIRS, self.decisions)
        if self.theirs_changes.added:
            theirs = self.sides.theirs.document
            check_required(evolved, theirs, evolved.columns, "theirs", self.decisions)
            check_returned(evolved, base, theirs, evolved.columns, Choice.OURS, self.decisions)
        plan = self._plan(evolved)
        if plan is None or self.decisions.conflicts:
            return None
        edits = self._edits(evolved, plan)
        if not edits and evolved.document == self.sides.ours.document:
            return self.sides.ours
        return self.writer.write(evolved.document, self.reader, edits, summary)

    def _plan(self, evolved: Evolved) -> _RowPlan | _FilePlan | None:
        """How theirs' data comes onto ours; None for a conflict on the table."""
        if not self.theirs_changes:
            return _FilePlan()
        if not self.ours_changes:
            return _FilePlan()
        views = Views(evolved, self.sides)
        if not views.is_keyed:
            only_removals = not (self.ours_changes.added or self.theirs_changes.added)
            if not self.overlap or only_removals or not (apart := self._rewritten_apart()):
                return _FilePlan()
            detail = f"both sides rewrote {len(apart)} data files, and rows have no identifier fields: {_ON_TABLE}"
            self.decisions.conflict(None, None, None, None, ConflictKind.ITEM_CHANGED, detail)
            return None
        ours = self._rows(views, views.ours, self.ours_changes)
        theirs = self._rows(views, views.theirs, self.theirs_changes)
        merge = RowMerge(views.shape, views.required, ours, theirs, self.decisions)
        merge.run()
        return _RowPlan(views, merge.leaving, merge.rows) if self.overlap or merge.met else _FilePlan()

    def _rows(self, views: Views, side: Version, changes: FileChanges) -> RowChanges:
        check = self.context.check_cancelled
        return compare_rows(self.reader, views.shape, views.base, side, changes, check_cancelled=check)

    def _edits(self, evolved: Evolved, plan: _RowPlan | _FilePlan) -> Edits:
        if isinstance(plan, _FilePlan):
            return self._replay(evolved)
        removed = data_files(self.theirs_changes.removed).keys() | touched(self.reader, self.theirs_changes)
        candidates = {
            **data_files(self.ours_changes.added),
            **find(self.reader, self.sides.ours.current, removed),
        }
        return rewrite(
            self.reader, self.writer, evolved.document, plan.views.ours, plan.views.shape,
            candidates.values(), plan.leaving, plan.rows, self.context,
        )  # fmt: skip

    def _replay(self, evolved: Evolved) -> Edits:
        """Theirs' added and removed files, on ours. Files under foreign column ids are read and written anew."""
        # What both have already is one file, and its rows are there once.
        added = {path: one for path, one in self.theirs_changes.added.items() if path not in self.ours_changes.added}
        edits = Edits(removed=find(self.reader, self.sides.ours.current, self.theirs_changes.removed.keys()))
        carried = delete_files(added) if evolved.rewrite else added
        if evolved.rewrite and data_files(added):
            theirs = Views(evolved, self.sides).theirs
            check = self.context.check_cancelled
            new = data_files(added).values()
            rows = read_all(self.reader, theirs.metadata.current, theirs.schema, new, check_cancelled=check)
            edits.added += self.writer.write_rows(evolved.document, rows)
            targets = touched_paths(self.reader, carried)
            carried = {path: held for path, held in carried.items() if not targets[path] <= added.keys()}
        noted, checksums = notes(self.sides.theirs.document), Checksums(self.files)
        for held in carried.values():
            spec_id = evolved.specs[held.manifest.partition_spec_id]
            edits.added.append((spec_id, _with_sort_order(held.file, evolved.sort_orders)))
            if told := checksums.of(noted, held.entry.snapshot_id, held.file.file_path):
                edits.hashes[held.file.file_path] = told
        return edits


def _with_sort_order(one: DataFile, sort_orders: dict[int, int]) -> DataFile:
    number = one.sort_order_id
    if number is None or sort_orders.get(number, number) == number:
        return one
    changed = copy(one)
    changed._data = [*one._data]
    changed[15] = sort_orders[number]
    return changed


@dataclass(frozen=True)
class Views:
    """Each side read under the merged table's columns. What a merge needs of them is made when it asks."""

    evolved: Evolved
    sides: Sides

    @cached_property
    def base(self) -> Version:
        base = self.sides.base
        return Version(base, projection(self.evolved.document, base.document, self.evolved.to_base))

    @cached_property
    def ours(self) -> Version:
        return Version(self.sides.ours, projection(self.evolved.document, self.sides.ours.document))

    @cached_property
    def theirs(self) -> Version:
        theirs = self.sides.theirs
        return Version(theirs, projection(self.evolved.document, theirs.document, self.evolved.to_theirs))

    @cached_property
    def shape(self) -> Shape:
        return Shape(self.ours.schema)

    @property
    def required(self) -> frozenset[str]:
        return frozenset(one["name"] for one in current_schema(self.evolved.document)["fields"] if one["required"])

    @property
    def is_keyed(self) -> bool:
        """Whether rows have names, by columns that base has already."""
        identifiers = set(current_schema(self.evolved.document).get("identifier-field-ids", ()))
        columns = self.evolved.base_columns
        return bool(identifiers) and identifiers <= {columns[one] for one in self.sides.base.schema().field_ids}


@dataclass(frozen=True, slots=True)
class _FilePlan:
    """Replay theirs' files as they are."""


@dataclass(frozen=True, slots=True)
class _RowPlan:
    """Which rows leave ours, and which come."""

    views: Views
    leaving: pa.Table
    rows: pa.Table


def rewrite(
    reader: ManifestReader,
    writer: SnapshotWriter,
    document: dict[str, object],
    target: Version,
    shape: Shape,
    candidates: Iterable[Held],
    leaving: pa.Table,
    rows: pa.Table,
    context: Context,
) -> Edits:
    """Copy-on-write: take these rows out of the candidate files, found by their keys, and add rows.

    Cost: the candidate files are read; only those that hold one of the keys are written anew.
    """
    edits = Edits()
    kept: list[pa.Table] = []
    dropped: list[pa.Table] = []
    if leaving.num_rows:
        keys = shape.keys(leaving)
        table, schema, check = target.metadata.current, target.schema, context.check_cancelled
        for held, found in read(reader, table, schema, candidates, check_cancelled=check):
            left, gone = without(shape, found, keys)
            if gone.num_rows:
                edits.removed[held.file.file_path] = held
                kept.append(left)
                dropped.append(gone)
        if dropped:
            kept.append(staying(leaving, pa.concat_tables(dropped)))
    edits.added += writer.write_rows(document, pa.concat_tables([rows, *kept]))
    return edits
