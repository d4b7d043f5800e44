"""Rows as JSON: without loss for every type that Iceberg has."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import InvalidArgument
from plait.rows.items import from_json, to_json
from plait.types import Choice, Json, Resolution
from plait_conformance.tables import KEY, Tables, append, ordered, read_back
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

# -- values ------------------------------------------------------------------------------------------------------------

EVERY_TYPE = Schema(
    NestedField(1, "id", UUIDType(), required=True),
    NestedField(2, "flag", BooleanType(), required=False),
    NestedField(3, "small", IntegerType(), required=False),
    NestedField(4, "big", LongType(), required=False),
    NestedField(5, "real", FloatType(), required=False),
    NestedField(6, "double", DoubleType(), required=False),
    NestedField(7, "amount", DecimalType(20, 4), required=False),
    NestedField(8, "day", DateType(), required=False),
    NestedField(9, "at", TimeType(), required=False),
    NestedField(10, "local", TimestampType(), required=False),
    NestedField(11, "moment", TimestamptzType(), required=False),
    NestedField(12, "text", StringType(), required=False),
    NestedField(13, "blob", BinaryType(), required=False),
    NestedField(14, "four", FixedType(4), required=False),
    NestedField(15, "tags", ListType(21, StringType(), element_required=False), required=False),
    NestedField(16, "prices", MapType(22, StringType(), 23, DecimalType(9, 2), value_required=False), required=False),
    NestedField(
        17,
        "place",
        StructType(NestedField(24, "city", StringType(), required=False), NestedField(25, "n", LongType(), False)),
        required=False,
    ),
    identifier_field_ids=[1],
)


def row(number: int) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=number).bytes,
        "flag": number % 2 == 0,
        "small": number,
        "big": 2**60 + number,
        "real": 0.5,
        "double": 1e300,
        "amount": decimal.Decimal("12345.6789"),
        "day": datetime.date(2026, 11, number),
        "at": datetime.time(1, 2, 3, 456),
        "local": datetime.datetime(2026, 11, 1, 1, 2, 3, 456),
        "moment": datetime.datetime(2026, 11, 1, 1, 2, 3, 456, tzinfo=datetime.UTC),
        "text": f'of "{number}", naïve',
        "blob": b"\x00\xff",
        "four": b"abcd",
        "tags": ["a", None],
        "prices": [("x", decimal.Decimal("1.50"))],
        "place": {"city": "Turin", "n": number},
    }


def test_rows_of_every_type_differ_conflict_and_are_resolved_without_loss(tables: Tables) -> None:
    nothing = {**dict.fromkeys(row(1)), "id": uuid.UUID(int=3).bytes}
    base = tables.create([row(2), nothing], schema=EVERY_TYPE)
    ours = tables.change(base, append({**row(1), "text": "ours"}, row(4)))
    theirs = tables.change(base, append({**row(1), "text": "theirs", "prices": [], "tags": None}))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert conflict.item == f"id={uuid.UUID(int=1)}"
    by_side = tables.merged(base, ours, theirs, Resolution(KEY, conflict.item, Choice.THEIRS))
    by_value = tables.merged(base, ours, theirs, Resolution(KEY, conflict.item, Choice.VALUE, conflict.theirs))
    expected = read_back(theirs) + [one for one in read_back(ours) if one["small"] == 4]
    assert read_back(by_side) == ordered(expected)
    assert read_back(by_value) == ordered(expected)
    assert [change for change in tables.adapter.diff(by_side, by_value) if change.aspect == "row"] == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", pa.int64()),
        (True, pa.int64()),
        (1, pa.string()),
        ("2026-13-01", pa.date32()),
        ("zz", pa.binary()),
        ("1,5", pa.decimal128(9, 2)),
        ([1], pa.list_(pa.string())),
        (1, pa.bool_()),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_columns_name(value: Json, kind: pa.DataType) -> None:
    with pytest.raises(InvalidArgument, match="column 'price' cannot hold"):
        from_json(value, kind, "price")


@given(st.floats())
def test_any_float_survives(value: float) -> None:
    back = from_json(to_json(value), pa.float64(), "x")
    assert repr(back) == repr(value)
