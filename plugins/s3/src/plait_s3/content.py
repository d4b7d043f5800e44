"""Three-way merges of what is inside an object: JSON by path, CSV by key columns and cells, text by lines.

Each takes (base, ours, theirs) and gives the merged bytes, or None when they conflict or are not what it reads.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import math
import mimetypes
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pygit2
from plait.adapter import Merger
from plait.errors import StoreUnavailable
from pygit2.enums import FileMode

_COMMAND_SECONDS_MAX: Final = 60
_FIRST: Final = b"\x01plait\n"
_KEY_COLUMNS: Final = ("id", "key")


class _Conflict(Exception):
    """Both sides changed one place differently."""


def mergers_for(key: str, mergers: Sequence[Merger]) -> Iterator[Merger]:
    """Those whose glob fits the object's key or its last part, or whose media type is that of its name, in order.

    The first one decides: a more general one may not patch together what it found in conflict.
    """
    media_type = mimetypes.guess_type(key)[0]
    name = key.rpartition("/")[2]
    for merger in mergers:
        by_name = fnmatch.fnmatchcase(key, merger.pattern) or fnmatch.fnmatchcase(name, merger.pattern)
        if by_name or merger.pattern == media_type:
            yield merger


def command_merger(name: str, pattern: str, argv: Sequence[str]) -> Merger:
    """An outside program: `%base`, `%ours`, `%theirs` and `%out` in `argv` become file names. Exit 0: `%out` is merged;
    1 to 127: a conflict (as Git's merge drivers say it).

    The merge raises: StoreUnavailable when the program is missing, dies or takes longer than a minute.
    """

    def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        with tempfile.TemporaryDirectory(prefix="plait-merge-") as folder:
            sides = {"%base": base, "%ours": ours, "%theirs": theirs, "%out": b""}
            paths = {side: Path(folder, side[1:]) for side in sides}
            for side, content in sides.items():
                paths[side].write_bytes(content)
            command = [str(paths.get(part, part)) for part in argv]
            try:
                ended = subprocess.run(
                    command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS_MAX
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StoreUnavailable(
                    f"merge command {name!r} could not be run: {error}", remedy=f"check {argv[0]!r} on this machine"
                ) from error
            if ended.returncode < 0 or ended.returncode > 127:
                raise StoreUnavailable(
                    f"merge command {name!r} ended with {ended.returncode}: {ended.stderr[-200:]!r}",
                    remedy="exit with 0 when merged and 1 on a conflict",
                )
            return paths["%out"].read_bytes() if ended.returncode == 0 else None

    return Merger(name, pattern, merge)


# -- text --------------------------------------------------------------------------------------------------------------


class _MemoryObjects(pygit2.OdbBackend):
    """Git's object database in a dict: libgit2 merges files only from one."""

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[Any, tuple[Any, bytes]] = {}

    def exists_cb(self, oid: Any) -> bool:
        return oid in self._objects

    def read_cb(self, oid: Any) -> tuple[Any, bytes]:
        return self._objects[oid]

    def read_header_cb(self, oid: Any) -> tuple[Any, int]:
        kind, content = self._objects[oid]
        return kind, len(content)

    def read_prefix_cb(self, prefix: Any) -> Any:
        raise KeyError(prefix)

    def exists_prefix_cb(self, prefix: Any) -> Any:
        raise KeyError(prefix)

    def refresh_cb(self) -> None:
        return

    def __iter__(self) -> Iterator[Any]:
        return iter(self._objects)

    def write_cb(self, oid: Any, content: bytes, kind: Any) -> None:
        self._objects[oid] = (kind, content)


def merge_text(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By lines, as Git does. Only UTF-8 without NUL is text."""
    sides = (base, ours, theirs)
    if any(b"\0" in side for side in sides):
        return None
    try:
        for side in sides:
            side.decode()
    except UnicodeDecodeError:
        return None
    database = pygit2.Odb()
    database.add_backend(_MemoryObjects(), 1)
    repository = pygit2.Repository()
    repository.set_odb(database)
    # pygit2 1.21 fails on an empty result (a NULL buffer): a first line that no side changes keeps it from one.
    entries = [pygit2.IndexEntry("object", repository.create_blob(_FIRST + side), FileMode.BLOB) for side in sides]
    merged = repository.merge_file_from_index(entries[0], entries[1], entries[2])
    if not merged.automergeable:
        return None
    return str(merged.contents).encode().removeprefix(_FIRST)


# -- JSON --------------------------------------------------------------------------------------------------------------

_ABSENT: Final = object()


def merge_json(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By path: members of objects merge one by one, arrays and plain values as wholes. Keeps the layout of ours.

    What is no JSON, or would not come back as it was, is merged as text.
    """
    try:
        sides = [_load_json(side) for side in (base, ours, theirs)]
    except (ValueError, RecursionError):
        return merge_text(base, ours, theirs)
    try:
        merged = _merge_value(*sides)
    except _Conflict:
        return None
    return write_json(merged, ours)


def write_json(value: object, like: bytes) -> bytes:
    """A JSON document in the layout of another text. Raises: ValueError for NaN and infinity, which JSON has not."""
    text = like.decode(errors="replace")
    indent = _indent(text)
    separators = None if indent is not None or ": " in text or ", " in text else (",", ":")
    written = json.dumps(value, indent=indent, separators=separators, ensure_ascii=text.isascii(), allow_nan=False)
    return (written + ("\n" if text.endswith("\n") else "")).encode()


def _load_json(content: bytes) -> Any:
    """Raises: ValueError, also for what would not come back as it was: members named twice, unbounded numbers."""
    return json.loads(content.decode(), object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse)


def _number(text: str) -> float:
    """Raises: ValueError for one with more digits than come back."""
    number = float(text)
    if not math.isfinite(number) or Decimal(repr(number)) != Decimal(text):
        raise ValueError(f"{text} has more digits than a float")
    return number


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(left, right) for left, right in zip(one, other, strict=True))
    return bool(one == other)


def _merge_value(base: Any, ours: Any, theirs: Any) -> Any:
    if _same(ours, theirs) or _same(base, theirs):
        return ours
    if _same(base, ours):
        return theirs
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        raise _Conflict
    old = base if isinstance(base, dict) else {}
    merged = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        value = _merge_value(old.get(name, _ABSENT), ours.get(name, _ABSENT), theirs.get(name, _ABSENT))
        if value is not _ABSENT:
            merged[name] = value
    return merged


def _indent(text: str) -> str | int | None:
    """The indentation of the first indented line; None for JSON on one line."""
    for line in text.splitlines()[1:]:
        space = line[: len(line) - len(line.lstrip(" \t"))]
        if space:
            return space
    return 0 if len(text.strip().splitlines()) > 1 else None


# -- CSV ---------------------------------------------------------------------------------------------------------------


def merge_csv(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By the key column, cell by cell; rows keep the order of ours, new ones of theirs follow what they followed.

    The key is the column named id or key, else the first, if it names each row once on all sides. Where the columns
    differ, or nothing is a key, lines are merged as text.
    """
    try:
        tables = [_Table(side.decode()) for side in (base, ours, theirs)]
    except (UnicodeDecodeError, csv.Error):
        return None
    column = _key_column(tables)
    if column is None:
        return merge_text(base, ours, theirs)
    try:
        rows = _merge_rows(*(table.by_key(column) for table in tables))
    except _Conflict:
        return None
    return tables[1].write(rows)


class _Table:
    """A CSV text as header and rows, and how it was written."""

    def __init__(self, text: str) -> None:
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._ends = not text or text.endswith("\n")
        # csv cannot tell a quoted newline from a line's end unless it sees the text as it is.
        read = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        self.header = read[0] if read else []
        self.rows = [row for row in read[1:] if row]
        self.text = text

    def by_key(self, column: int) -> dict[str, list[str]]:
        return {row[column]: row for row in self.rows}

    def write(self, rows: Mapping[str, Sequence[str]]) -> bytes:
        """In this table's manner; rows that it holds unchanged are quoted as csv would, where that is needed."""
        buffer = io.StringIO(newline="")
        if self.text.startswith('"') and self._all_quoted():
            writer = csv.writer(buffer, lineterminator=self._newline, quoting=csv.QUOTE_ALL)
        else:
            writer = csv.writer(buffer, lineterminator=self._newline)
        writer.writerow(self.header)
        writer.writerows(rows.values())
        written = buffer.getvalue()
        return (written if self._ends else written.removesuffix(self._newline)).encode()

    def _all_quoted(self) -> bool:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator=self._newline, quoting=csv.QUOTE_ALL).writerows([self.header, *self.rows])
        return buffer.getvalue().rstrip("\r\n") == self.text.rstrip("\r\n")


def _key_column(tables: Sequence[_Table]) -> int | None:
    header = tables[0].header
    if not header or any(table.header != header for table in tables):
        return None
    if any(len(row) != len(header) for table in tables for row in table.rows):
        return None
    named = [place for place, name in enumerate(header) if name.strip().lower() in _KEY_COLUMNS]
    for column in [*named, 0]:
        if all(len(table.by_key(column)) == len(table.rows) for table in tables):
            return column
    return None


def _merge_rows(
    base: Mapping[str, list[str]], ours: Mapping[str, list[str]], theirs: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for key in _order(base, ours, theirs):
        row = _merge_row(base.get(key), ours.get(key), theirs.get(key))
        if row is not None:
            merged[key] = row
    return merged


def _merge_row(base: list[str] | None, ours: list[str] | None, theirs: list[str] | None) -> list[str] | None:
    if ours == theirs or base == theirs:
        return ours
    if base == ours:
        return theirs
    if base is None or ours is None or theirs is None:
        raise _Conflict
    cells = []
    for old, mine, other in zip(base, ours, theirs, strict=True):
        if old not in (mine, other) and mine != other:
            raise _Conflict
        cells.append(other if mine == old else mine)
    return cells


def _order(base: Mapping[str, object], ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """The keys of ours in its order; each new one of theirs after the nearest one before it that ours has too."""
    following: dict[str | None, list[str]] = {}
    anchor: str | None = None
    for key in theirs:
        if key in ours:
            anchor = key
        else:
            following.setdefault(anchor, []).append(key)
    order = list(following.get(None, ()))
    for key in ours:
        order += [key, *following.get(key, ())]
    return order


BUILT_IN: Final = (
    Merger("json", "*.json", merge_json),
    Merger("json", "application/json", merge_json),
    Merger("csv", "*.csv", merge_csv),
    Merger("csv", "text/csv", merge_csv),
    Merger("text", "*", merge_text),
)
"""What the plugin registers. Text comes last and takes whatever is UTF-8."""
