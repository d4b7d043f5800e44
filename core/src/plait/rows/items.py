"""Items as text and rows as JSON: how people and programs name and read what is inside a table.

    row with key columns    id=7    region=eu,id=7    "order id"="a,b"
    row without             row:9f86d081884c7d65…     (a hash of its values, alike in every process)

A keyed row's item has an unquoted `=` before any colon. Adapters name other parts `schema:price`, `property:owner`, so
the two never meet.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from plait.codec import pack
from plait.errors import InvalidArgument
from plait.types import Json

T = TypeVar("T")

ROW_PREFIX: Final = "row:"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.:+/@ -]+\Z")
_PAIR = r'(?:"(?:[^"]|"")*"|[A-Za-z0-9_.-]+)=(?:"(?:[^"]|"")*"|[^",]*)'
_ROW_ITEM = re.compile(rf"{_PAIR}(?:,{_PAIR})*\Z")


def _quoted(text: str, plain: re.Pattern[str]) -> str:
    return text if plain.match(text) else '"' + text.replace('"', '""') + '"'


def keyed_item(names: Sequence[str], values: Sequence[Json]) -> str:
    """The item of a row by its key columns; two rows have the same text only if these are equal."""
    return ",".join(_begin(name) + _value_text(value) for name, value in zip(names, values, strict=True))


def keyed_items(names: Sequence[str], columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The items of many rows by their key columns, as `keyed_item` gives them."""
    pairs = [
        pc.binary_join_element_wise(_begin(name), _value_texts(column), "")
        for name, column in zip(names, columns, strict=True)
    ]
    return pc.binary_join_element_wise(*pairs, ",")


def _begin(name: str) -> str:
    return _quoted(name, _PLAIN_NAME) + "="


def _value_texts(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_integer(column.type):
        return pc.fill_null(column.cast(pa.string()), "").combine_chunks()
    return pa.array([_value_text(value) for value in to_values(column)], pa.string())


def _value_text(value: Json) -> str:
    if value is None:
        return ""
    return _quoted(str(value).lower() if isinstance(value, bool) else str(value), _PLAIN_VALUE)


def hashed_item(row: Mapping[str, Json] | Mapping[int, Json]) -> str:
    """The item of a row without key columns: a hash of its values by column (names, or ids that survive a rename).

    A null does not change it, so neither does a column that was added later.
    """
    values = sorted((column, _canonical(value)) for column, value in row.items() if value is not None)
    return ROW_PREFIX + hashlib.sha256(pack(values)).hexdigest()[:32]


def _canonical(value: Json) -> object:
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    return sorted((key, _canonical(one)) for key, one in value.items()) if isinstance(value, dict) else value


def check_row_item(item: str) -> str:
    """Return the item of a row with key columns, or raise InvalidArgument."""
    if not _ROW_ITEM.match(item):
        raise InvalidArgument(
            f"{item!r} names no row", remedy='name rows by their key columns: id=7, or region="a,b",id=7'
        )
    return item


# -- values ------------------------------------------------------------------------------------------------------------


def to_json(value: object) -> Json:
    """One value as JSON, without loss for a column of known type."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return value.hex()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal() | uuid.UUID():
            return str(value)
        case dict():
            return {str(key): to_json(one) for key, one in value.items()}
        case list() | tuple():
            return [to_json(one) for one in value]
    return str(value)


def is_json(kind: pa.DataType) -> bool:
    """Whether Arrow gives values of this type as JSON already."""
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return bool(is_text or types.is_integer(kind) or types.is_boolean(kind))


def to_values(column: pa.ChunkedArray) -> list[Json]:
    """A column as JSON."""
    values: list[Json] = column.to_pylist()
    return values if is_json(column.type) else [to_json(value) for value in values]


def from_json(value: Json, kind: pa.DataType, column: str) -> object:
    """Read `to_json` back, for a column of type `kind`. Raises: InvalidArgument naming the column."""
    try:
        return _from_json(value, kind)
    except (ValueError, TypeError, AttributeError, decimal.InvalidOperation) as error:
        raise InvalidArgument(f"column {column!r} cannot hold {value!r}: its type is {kind}") from error


def _from_json(value: Json, kind: pa.DataType) -> object:
    types = pa.types
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return uuid.UUID(str(value)).bytes
    if types.is_list(kind) or types.is_large_list(kind):
        return [_from_json(one, kind.value_type) for one in _as(list, value)]
    if types.is_map(kind):
        return [(_from_json(k, kind.key_type), _from_json(v, kind.item_type)) for k, v in _as(list, value)]
    if types.is_struct(kind):
        given = _as(dict, value)
        return {field.name: _from_json(given.get(field.name), field.type) for field in kind}
    if types.is_boolean(kind):
        return _as(bool, value)
    if isinstance(value, bool):
        raise TypeError(f"{value!r} is no number, text or time")
    if types.is_integer(kind):
        return _as(int, value)
    if types.is_floating(kind):
        return float(value)  # type: ignore[arg-type]
    if types.is_decimal(kind):
        return decimal.Decimal(str(value))
    if types.is_timestamp(kind):
        return datetime.datetime.fromisoformat(_as(str, value))
    if types.is_date(kind):
        return datetime.date.fromisoformat(_as(str, value))
    if types.is_time(kind):
        return datetime.time.fromisoformat(_as(str, value))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return bytes.fromhex(_as(str, value))
    return _as(str, value)


def _as(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
