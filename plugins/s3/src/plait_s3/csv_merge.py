"""Three-way merges of CSV by key column and cells. Every record, and in it every cell, stays as some side wrote it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from plait.adapter import MergeConflict, Merger
from plait.errors import InvalidArgument

from plait_s3.text_merge import merge_text

_Key: TypeAlias = tuple[str, ...]

_KEY_COLUMNS: Final = ("id", "key")
_CELL: Final = re.compile(r'"[^"]*(?:""[^"]*)*"|[^,]*')


class _Conflict(Exception):
    """Both sides changed a record differently; `cell`: which one of it, None: as a whole."""

    def __init__(self, cell: int | None = None) -> None:
        super().__init__(cell)
        self.cell = cell


def mergers_by_keys(option: str) -> list[Merger]:
    """Those of a store's option `csv_keys`: GLOB=COLUMN,COLUMN;GLOB=COLUMN. Raises: InvalidArgument."""
    found = []
    for part in filter(None, map(str.strip, option.split(";"))):
        pattern, _, names = part.rpartition("=")
        pattern = pattern.strip()
        keys = [name.strip() for name in names.split(",")]
        if not pattern or not all(keys):
            raise InvalidArgument(f"option csv_keys holds {part!r}", remedy="write GLOB=COLUMN,COLUMN;GLOB=COLUMN")
        found.append(Merger("csv", pattern, partial(merge_csv, keys=keys)))
    return found


def merge_csv(base: bytes, ours: bytes, theirs: bytes, *, keys: Sequence[str] = ()) -> bytes | None:
    """By the key columns, cell by cell; rows keep the order of ours, new ones of theirs follow what they followed.

    A record that nobody changed, or one side alone, is written as it was: its quotes, its line's end, and blank lines
    after it. In one that both sides changed, each cell is; an empty cell and `""` are two values. Both changing no
    more than how a cell is quoted is no conflict.

    The key is the column named id or key, else the first, if it names each row once on all sides. Where the columns
    differ, nothing is a key, or there is nothing beside it (as in `id;name`), lines are merged as text.

    Args:
        keys: the columns that name each row together. Where they do not, on some side, the merge is a conflict.
    Raises: MergeConflict with the rows, by their keys, and the columns that both sides changed.
    """
    if theirs in (base, ours):
        return ours
    if base == ours:
        return theirs
    try:
        tables = [_Table(side.decode()) for side in (base, ours, theirs)]
    except (UnicodeDecodeError, csv.Error):
        return None
    columns = _key_columns(tables, keys)
    if columns is None:
        return None if keys else merge_text(base, ours, theirs)
    names = [name.strip() for name in tables[1].header]
    records = _merge_records(names, columns, *(table.by_key(columns) for table in tables))
    old, mine, others = (table.ends for table in tables)
    return _written(records, tables[1].newline(), ends=others if mine == old else mine).encode()


@dataclass(slots=True)
class _Record:
    """One record: `cells` as csv reads them, `text` as it is written, `tail` its line's end and blank lines after."""

    cells: list[str]
    text: str
    tail: str

    def parts(self) -> list[str]:
        """Its cells as they are written."""
        parts, start = [], 0
        for _ in self.cells:
            found = _CELL.match(self.text, start)
            assert found is not None  # It may be empty.
            parts.append(found[0])
            start = found.end() + 1
        return parts


class _Table:
    """A CSV text as records, the header first. Raises: csv.Error."""

    def __init__(self, text: str) -> None:
        self.records: list[_Record] = []
        self.ends = text.endswith(("\n", "\r"))
        # csv cannot tell a quoted newline from a line's end unless it sees the text as it is.
        lines = io.StringIO(text, newline="").readlines()
        reader = csv.reader(lines, strict=True)
        start = 0
        for cells in reader:
            raw = "".join(lines[start : reader.line_num])
            start = reader.line_num
            if cells or not self.records:
                written = raw.rstrip("\r\n")
                self.records.append(_Record(cells, written, raw[len(written) :]))
            else:
                self.records[-1].tail += raw

    @property
    def header(self) -> list[str]:
        return self.records[0].cells if self.records else []

    @property
    def rows(self) -> Sequence[_Record]:
        return self.records[1:]

    def by_key(self, columns: Sequence[int]) -> dict[_Key, _Record]:
        """The rows by what names them; the header by nothing."""
        return {(): self.records[0], **{tuple(row.cells[place] for place in columns): row for row in self.rows}}

    def newline(self) -> str:
        """What most of its lines end with."""
        ends = Counter("\r\n" if one.tail.startswith("\r\n") else one.tail[:1] for one in self.records if one.tail)
        return ends.most_common(1)[0][0] if ends else "\n"


def _key_columns(tables: Sequence[_Table], keys: Sequence[str]) -> Sequence[int] | None:
    """Where the columns are that name each row once on all sides; None where no columns do."""
    header = tables[0].header
    if len(header) < 2 or any(table.header != header for table in tables):
        return None
    if any(len(row.cells) != len(header) for table in tables for row in table.rows):
        return None
    if keys:
        wanted = [[header.index(name) for name in keys]] if set(keys) <= set(header) else []
    else:
        wanted = [[place] for place, name in enumerate(header) if name.strip().lower() in _KEY_COLUMNS] + [[0]]
    for columns in wanted:
        if all(len(table.by_key(columns)) == len(table.records) for table in tables):
            return columns
    return None


def _merge_records(
    names: Sequence[str],
    columns: Sequence[int],
    base: Mapping[_Key, _Record],
    ours: Mapping[_Key, _Record],
    theirs: Mapping[_Key, _Record],
) -> list[_Record]:
    merged, places = [], []
    for key in _order(ours, theirs):
        try:
            record = _merge_record(base.get(key), ours.get(key), theirs.get(key))
        except _Conflict as conflict:
            row = ",".join(f"{names[place]}={value}" for place, value in zip(columns, key, strict=False))
            places.append((row or "the header") + ("" if conflict.cell is None else f" ({names[conflict.cell]})"))
        else:
            merged += [] if record is None else [record]
    if places:
        raise MergeConflict(places)
    return merged


def _merge_record(base: _Record | None, ours: _Record | None, theirs: _Record | None) -> _Record | None:
    old, mine, others = (None if one is None else one.text for one in (base, ours, theirs))
    if others in (old, mine):
        merged = ours
    elif mine == old:
        merged = theirs
    elif ours is None or theirs is None:
        raise _Conflict
    else:
        parts = [None] * len(ours.cells) if base is None else base.parts()
        sides = zip(parts, ours.parts(), theirs.parts(), strict=True)
        text = ",".join(_merge_cell(place, *cells) for place, cells in enumerate(sides))
        merged = replace(ours, text=text)
    if merged is None or base is None or ours is None or theirs is None:
        return merged
    return replace(merged, tail=theirs.tail if ours.tail == base.tail else ours.tail)


def _merge_cell(place: int, base: str | None, ours: str, theirs: str) -> str:
    """As it is written on the side that changed it, else in the manner of the one that changed the quotes."""
    if theirs in (base, ours):
        return ours
    if ours == base:
        return theirs
    old, mine, others = map(_value, (base, ours, theirs))
    if others == mine or (base is not None and others == old):
        return ours
    if base is not None and mine == old:
        return theirs
    raise _Conflict(place)


def _value(part: str | None) -> str | None:
    """What a written cell says; None for one without anything, which many readers take for no value."""
    if part and part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return part or None


def _order(ours: Mapping[_Key, object], theirs: Mapping[_Key, object]) -> list[_Key]:
    """The keys of ours in its order; each new one of theirs after the nearest one before it that ours has too."""
    following: dict[_Key, list[_Key]] = {}
    anchor: _Key = ()
    for key in theirs:
        if key in ours:
            anchor = key
        else:
            following.setdefault(anchor, []).append(key)
    return [key for mine in ours for key in (mine, *following.get(mine, ()))]


def _written(records: Sequence[_Record], newline: str, *, ends: bool) -> str:
    """`ends`: whether the last line has an end, as all others have."""
    written = "".join(one.text + (one.tail or newline) for one in records)
    return written if ends else written.rstrip("\r\n")
