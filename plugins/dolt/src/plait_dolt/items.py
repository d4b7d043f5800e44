"""Items as text and rows as JSON: how people and programs name and read what is inside a database.

a table, its schema          city              "odd name"
a row, by its primary key    city::id=7        city::region=eu,id=7      city::"order id"="a,b"
a row without one            city::row:9f86d081884c7d65…    (a hash of its values)
one cell                     city::id=7::population
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from plait.codec import pack
from plait.errors import InvalidArgument
from plait.types import Json

from plait_dolt.engine import Table
from plait_dolt.names import quote

ROW_PREFIX: Final = "row:"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.$-]+\Z")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.:+/@ -]+\Z")
_QUOTED = r'"(?:[^"]|"")*"'
_NAME = rf"(?:{_QUOTED}|[A-Za-z0-9_.$-]+)"
_PAIR = rf'(?P<column>{_NAME})=(?P<value>{_QUOTED}|(?:(?!::)[^",])*)'
_BARE_PAIR = re.sub(r"\?P<[a-z]+>", "?:", _PAIR)
_ITEM = re.compile(
    rf"(?P<table>{_NAME})(?:::(?:(?P<row>{_BARE_PAIR}(?:,{_BARE_PAIR})*)(?:::(?P<cell>{_NAME}))?|(?P<hash>{ROW_PREFIX}[0-9a-f]+)))?\Z"
)


@dataclass(frozen=True, slots=True)
class ItemName:
    """A parsed item. `row` None: the table itself."""

    table: str
    row: Mapping[str, str] | None = None
    cell: str | None = None


def parse_item(text: str) -> ItemName:
    """Raises: InvalidArgument."""
    found = _ITEM.match(text)
    if not found or found["hash"] is not None:
        raise InvalidArgument(
            f"{text!r} names nothing in a database that could be looked up",
            remedy='name a table, a row or a cell: city, city::id=7, city::region="a,b",id=7::population',
        )
    row = None
    if found["row"] is not None:
        row = {_plain(one["column"]): _plain(one["value"]) for one in re.finditer(_PAIR, found["row"])}
    return ItemName(_plain(found["table"]), row, None if found["cell"] is None else _plain(found["cell"]))


def _plain(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _quoted(text: str, plain: re.Pattern[str]) -> str:
    return text if plain.match(text) and "::" not in text else '"' + text.replace('"', '""') + '"'


@lru_cache(maxsize=10_000)
def table_item(table: str) -> str:
    return _quoted(table, _PLAIN_NAME)


@lru_cache(maxsize=10_000)
def _column_text(column: str) -> str:
    return _quoted(column, _PLAIN_NAME)


def row_item(table: Table, row: Mapping[str, Json]) -> str:
    """The item of a row; of a keyless table, a hash of its values."""
    if not table.key:
        values = [[name, row[name]] for name in sorted(row)]
        return f"{table_item(table.name)}::{ROW_PREFIX}{hashlib.sha256(pack(values)).hexdigest()[:32]}"
    pairs = ",".join(f"{_column_text(name)}={_quoted(_text(row[name]), _PLAIN_VALUE)}" for name in table.key)
    return f"{table_item(table.name)}::{pairs}"


def cell_item(row: str, column: str) -> str:
    return f"{row}::{_column_text(column)}"


def _text(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Condition = tuple[str, list[object]]
"""SQL that is true for some rows, and its values."""


def condition(table: Table, row: Mapping[str, str], prefixes: Sequence[str] = ("",)) -> Condition:
    """SQL that is true for the row of this item, under any of the prefixes of its columns. Raises: InvalidArgument."""
    if set(row) != set(table.key):
        named = ", ".join(table.key) or "none: its rows have no names"
        raise InvalidArgument(
            f"table {table.name!r} has the primary key {named}, and the item names {', '.join(row)}",
            remedy=f"name its rows as {table.name}::{','.join(f'{name}=…' for name in table.key)}",
        )
    values = [_key_value(row[name], table.types[name]) for name in table.key]
    one = [" AND ".join(f"{quote(prefix + name)} = %s" for name in table.key) for prefix in prefixes]
    return "(" + " OR ".join(one) + ")", values * len(prefixes)


def joined(conditions: Sequence[Condition]) -> Condition:
    """True where any of them is."""
    return " OR ".join(sql for sql, _ in conditions), [value for _, values in conditions for value in values]


def _key_value(text: str, kind: str) -> object:
    if "binary" in kind or "blob" in kind:
        try:
            return bytes.fromhex(text)
        except ValueError as error:
            raise InvalidArgument(f"{text!r} is no value of {kind}: write it in hexadecimal") from error
    is_number = kind in ("real", "numeric")  # doltlite's, whose diffs compare such with numbers alone.
    if (is_number or "int" in kind or kind.startswith("bit")) and re.fullmatch(r"-?[0-9]{1,20}", text):
        return int(text)
    if is_number:
        with suppress(ValueError):
            return float(text)
    return text


_AS_THEY_ARE: Final = frozenset({type(None), bool, int, str})


# -- values ------------------------------------------------------------------------------------------------------------


def to_json(value: object) -> Json:
    """One value as JSON can say it, without loss for a column of known type."""
    if value.__class__ in _AS_THEY_ARE:
        return value  # type: ignore[return-value]
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return value.hex()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return _time_text(value)
        case decimal.Decimal():
            return str(value)
    return str(value)


def _time_text(value: datetime.timedelta) -> str:
    """As SQL writes a time, which may be negative, and longer than a day."""
    microseconds = abs(value) // datetime.timedelta(microseconds=1)
    minutes, seconds = divmod(microseconds // 1_000_000, 60)
    sign = "-" if value < datetime.timedelta() else ""
    part = f".{microseconds % 1_000_000:06}" if microseconds % 1_000_000 else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{part}"


def from_json(value: Json, kind: str, column: str) -> object:
    """A value for a column of this type, as JSON says it. Raises: InvalidArgument naming the column."""
    if isinstance(value, str) and ("binary" in kind or "blob" in kind):
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise InvalidArgument(f"column {column!r} cannot hold {value!r}: write {kind} in hexadecimal") from error
    if isinstance(value, dict | list):
        raise InvalidArgument(f"column {column!r} cannot hold {value!r}: give a number, a text or null")
    return value
