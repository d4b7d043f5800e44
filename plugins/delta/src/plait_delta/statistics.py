"""Whether what a log says of the values in a data file, by which readers pass it over, is true of the file.

Writers cut long texts and the fractions of a second, and print numbers in their own ways. So a bound is wrong only
where it leaves out values that the file's footer tells of, by more than such differences explain.
Source: the Delta protocol, "Per-file Statistics".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow.parquet as pq

_PARTS: Final = ("minValues", "maxValues", "nullCount")
_CUT_FROM: Final = 32
"""Characters from which on writers cut texts."""
_ROUNDED: Final = Decimal("1e-6")
"""Of a number: by how much a 32-bit one differs that was printed in its shortest form."""
_TRUNCATED: Final = timedelta(milliseconds=1)


def unread(stats: str | None) -> str:
    """Why statistics cannot be read; "" for those that can, and for none."""
    try:
        found = json.loads(stats or "{}")
    except ValueError as error:
        return str(error)
    parts = [found, *(found.get(name) or {} for name in _PARTS)] if isinstance(found, dict) else [found]
    return "" if all(isinstance(part, dict) for part in parts) else "they are no JSON object of objects"


def untrue(stats: str | None, file: pq.FileMetaData) -> Iterator[str]:
    """What statistics that can be read say otherwise than a file's footer: of its rows, and of its columns but for
    members of structs. Cost: the footer."""
    told = json.loads(stats or "{}", parse_float=Decimal)
    if told.get("numRecords", file.num_rows) != file.num_rows:
        yield f"{file.num_rows} rows, expected {told['numRecords']}"
    lows, highs, nulls = (told.get(name) or {} for name in _PARTS)
    is_exact = told.get("tightBounds", True)
    for place in range(file.num_columns):
        name = file.schema.column(place).path
        found = [file.row_group(group).column(place).statistics for group in range(file.num_row_groups)]
        # Not `None in found`: comparing these with None ends the whole process.
        if not found or any(one is None for one in found):
            continue
        least, most = _bounds(found)
        if _leaves_out(lows.get(name), least, 1) or _leaves_out(highs.get(name), most, -1):
            yield f"values from {least!r} to {most!r} in column {name!r}, and its statistics say otherwise"
        if is_exact and all(one.has_null_count for one in found):
            count = sum(one.null_count for one in found)
            if nulls.get(name, count) != count:
                yield f"{count} nulls in column {name!r}, expected {nulls[name]}"


def _bounds(found: list[pq.Statistics]) -> tuple[Any, Any]:
    """The least and the greatest value of a column; None where the footer does not tell."""
    filled = [one for one in found if one.num_values]
    try:
        bounds = [(one.min, one.max) for one in filled if one.has_min_max]
    except (ValueError, OverflowError):  # A time that Python has not.
        return None, None
    if not bounds or len(bounds) < len(filled):
        return None, None
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _leaves_out(told: Any, actual: Any, sign: int) -> bool:
    """Whether a bound leaves an actual value out: a lower one (`sign` 1) by being higher, else by being lower."""
    match actual:
        case bool():
            return False
        case int() | float() | Decimal():
            if isinstance(told, bool) or not isinstance(told, int | Decimal) or not math.isfinite(actual):
                return False
            slack = 0 if isinstance(actual, int) else abs(Decimal(actual)) * _ROUNDED
            return (Decimal(told) - Decimal(actual)) * sign > slack
        case str():
            if not isinstance(told, str) or max(len(told), len(actual)) >= _CUT_FROM:
                return False
            return told > actual if sign > 0 else told < actual
        case datetime():
            at = _instant(told)
            return at is not None and (at - actual.replace(tzinfo=actual.tzinfo or UTC)) * sign > _TRUNCATED
        case date():
            at = _instant(told)
            return at is not None and (at.date() - actual).days * sign > 0
    return False


def _instant(told: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(told)
    except (TypeError, ValueError):
        return None
    return at.replace(tzinfo=at.tzinfo or UTC)
