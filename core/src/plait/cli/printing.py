"""How the command line prints: one JSON document, or text and aligned columns for people."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from plait.types import Change, Commit, Conflict

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONFLICT_COLUMNS = ("key", "item", "base", "ours", "theirs")


def printable(text: str) -> str:
    """Text without control characters, and without bytes of a file's name that are no text: what stands in a row or a
    message never steers the terminal, and can always be written."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def counted(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def to_json(value: Any) -> str:
    """One JSON document, valid for every parser: bytes as base64, times as ISO 8601, NaN and infinity as text."""
    try:
        document = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:
        document = json.dumps(_finite(value), default=_plain, ensure_ascii=False)
    # Half a character, from a file's name, is escaped as JSON does it.
    return document.encode(errors="backslashreplace").decode()


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(content) for content in value]
    return value


def cell(value: Any) -> str:
    """A value in a column, on one line: text as it is, everything else as short JSON."""
    if value is None:
        return "–"
    return printable(value if isinstance(value, str) else to_json(value)).replace("\n", " ").replace("\t", " ")


def print_table(console: Console, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Aligned columns; into a pipe a row is one line, however long: programs and people cut it themselves."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table, crop=False)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), err=console.stderr)


def make_console(*, stderr: bool, no_color: bool) -> Console:
    """A console for stdout or stderr. Colour only on a terminal, and not under NO_COLOR or --no-color."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 100_000
    return Console(stderr=stderr, no_color=no_color or None, highlight=False, emoji=False, markup=False, width=width)


# -- values as rows ------------------------------------------------------------------------------------------------


def short(version: str) -> str:
    """A native version as people tell it from another: its last part, cut."""
    name = version.rstrip("/").rpartition("/")[2]
    return name if len(name) <= 24 else name[:23] + "…"


def subject(message: str) -> str:
    """The first line of a message."""
    return printable((message.splitlines() or [""])[0])


def commit_row(commit: Commit) -> dict[str, Any]:
    """A commit as JSON."""
    from plait.refspec import format_time

    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "author": commit.author,
        "principal": commit.session.principal,
        "client": commit.session.client,
        "message": commit.message,
        "at": format_time(commit.committed_at_us),
        "properties": commit.described,
        "seq": commit.seq,
    }


def change_row(change: Change, *, whole: bool) -> dict[str, Any]:
    """A change of a key; `whole` versions, or short ones to look at."""
    from plait.refspec import format_key

    before, after = (
        None if entry is None else entry.snapshot.version if whole else short(entry.snapshot.version)
        for entry in (change.before, change.after)
    )
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    return {"key": format_key(change.key), "change": kind, "before": before, "after": after}


def conflict_row(conflict: Conflict) -> dict[str, Any]:
    """A conflict as JSON, and as a row of `conflict_columns`."""
    from plait.refspec import format_key

    return {
        "key": format_key(conflict.key) if conflict.key else "",
        "item": conflict.item,
        "kind": conflict.kind.value,
        "base": conflict.base,
        "ours": conflict.ours,
        "theirs": conflict.theirs,
        "detail": conflict.detail,
    }


def conflict_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What is shown of conflicts; `detail`, where a store says more of one: which cells, or what a check found."""
    return (*_CONFLICT_COLUMNS, "detail") if any(row["detail"] for row in rows) else _CONFLICT_COLUMNS
