"""Three-way merges of what is inside an object: outside programs, and JSON by path.

Each takes (base, ours, theirs) and gives the merged bytes, or None when they conflict or are not what it reads.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from plait.adapter import MergeConflict, Merger
from plait.errors import StoreUnavailable

from plait_s3.csv_merge import merge_csv
from plait_s3.text_merge import merge_text

_COMMAND_SECONDS_MAX: Final = 60
_SIDES: Final = re.compile(r"%(base|ours|theirs|out)\b")


def command_merger(name: str, pattern: str, argv: Sequence[str], *, version: str = "") -> Merger:
    """An outside program: `%base`, `%ours`, `%theirs` and `%out` in `argv` become file names. Exit 0: `%out` is merged;
    1 to 127: a conflict (as Git's merge drivers say it). `%out` is for the program to make: an empty one is an empty
    merge. Commits keep its name, and the `version` that is given here.

    The merge raises: StoreUnavailable when the program is missing, dies, takes longer than a minute or makes no `%out`.
    """

    def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        with tempfile.TemporaryDirectory(prefix="plait-merge-") as folder:
            for side, content in (("base", base), ("ours", ours), ("theirs", theirs)):
                Path(folder, side).write_bytes(content)
            command = [_SIDES.sub(lambda found: str(Path(folder, found[1])), part) for part in argv]
            try:
                code, said = _run(command, Path(folder, "said"))
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StoreUnavailable(
                    f"merge command {name!r} could not be run: {error}", remedy=f"check {argv[0]!r} on this machine"
                ) from error
            if code < 0 or code > 127:
                raise StoreUnavailable(
                    f"merge command {name!r} ended with {code}: {said!r}",
                    remedy="exit with 0 when merged and 1 on a conflict",
                )
            if code:
                return None
            try:
                return Path(folder, "out").read_bytes()
            except OSError as error:
                raise StoreUnavailable(
                    f"merge command {name!r} ended with 0, and left no file %out: {said!r}",
                    remedy="let it write what is merged to %out, or exit with 1 on a conflict",
                ) from error

    return Merger(name, pattern, merge, version)


def _run(command: Sequence[str], errors: Path) -> tuple[int, bytes]:
    """How it ended, and the end of what it said. Nothing that it began goes on.

    Raises: OSError, TimeoutExpired.
    """
    with errors.open("w+b") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            code = process.wait(_COMMAND_SECONDS_MAX)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(max(0, said.seek(0, os.SEEK_END) - 200))
        return code, said.read()


# -- JSON --------------------------------------------------------------------------------------------------------------

_ABSENT: Final = object()


def merge_json(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """By path: members of objects merge one by one, arrays and plain values as wholes. Keeps the layout of ours.

    What is no JSON, is nested by hundreds, or would not come back as it was, is merged as text.
    Raises: MergeConflict with the JSON Pointers (RFC 6901) of what both sides changed.
    """
    places: list[str] = []
    try:
        merged = _merge_value(_load_json(base), _load_json(ours), _load_json(theirs), "", places)
        if places:
            raise MergeConflict(places)
        return write_json(merged, ours)
    except (ValueError, RecursionError):
        return merge_text(base, ours, theirs)


def write_json(value: object, like: bytes) -> bytes:
    """A JSON document in the layout of another text.

    Raises: ValueError for NaN and infinity, which JSON has not, and half a character; RecursionError.
    """
    text = like.decode(errors="replace")
    indent = _indent(text)
    separators = None if indent is not None or ": " in text or ", " in text else (",", ":")
    written = json.dumps(value, indent=indent, separators=separators, ensure_ascii=text.isascii(), allow_nan=False)
    written += "\n" if text.endswith("\n") else ""
    return (written.replace("\n", "\r\n") if "\r\n" in text else written).encode()


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


def _merge_value(base: Any, ours: Any, theirs: Any, pointer: str, places: list[str]) -> Any:
    """What is in conflict stays ours, and its pointer is added to `places`."""
    if _same(ours, theirs) or _same(base, theirs):
        return ours
    if _same(base, ours):
        return theirs
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        places.append(pointer or "the document as a whole")
        return ours
    old = base if isinstance(base, dict) else {}
    merged = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        escaped = name.replace("~", "~0").replace("/", "~1")
        was, mine, other = (side.get(name, _ABSENT) for side in (old, ours, theirs))
        value = _merge_value(was, mine, other, f"{pointer}/{escaped}", places)
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


BUILT_IN: Final = (
    Merger("json", "*.json", merge_json),
    Merger("json", "application/json", merge_json),
    Merger("csv", "*.csv", merge_csv),
    Merger("csv", "text/csv", merge_csv),
    Merger("text", "*", merge_text),
)
"""What the plugin registers. Text comes last and takes whatever is UTF-8."""
