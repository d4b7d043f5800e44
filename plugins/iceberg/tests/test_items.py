"""Items as text and rows as JSON: unambiguous, and without loss for every type that Iceberg has."""

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
from plait.types import Choice, Json, Resolution
from plait_conformance.tables import KEY, Tables, append, ordered, read_back
from plait_iceberg.items import check_row_item, from_json, hashed_item, keyed_item, to_json
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

_values: st.SearchStrategy[Json] = st.one_of(st.integers(), st.text(), st.booleans())
_names = st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True)


# -- text --------------------------------------------------------------------------------------------------------------


@given(_names, st.data())
def test_every_keyed_item_is_recognised_as_a_row(names: list[str], data: st.DataObject) -> None:
    values = [data.draw(_values) for _ in names]
    assert check_row_item(keyed_item(names, values)) == keyed_item(names, values)


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_two_rows_have_one_item_only_if_their_identifiers_are_equal(one: list[str], two: list[str]) -> None:
    names = ["a", "b"]
    assert (keyed_item(names, one) == keyed_item(names, two)) == (one == two)


@pytest.mark.parametrize("item", ["id", "schema:price", "property:a", "partition", "row:12", "", "id=1,", "=", 'id="a'])
def test_other_items_are_no_rows(item: str) -> None:
    with pytest.raises(InvalidArgument):
        check_row_item(item)


def test_items_read_as_people_write_them() -> None:
    assert keyed_item(["id"], [7]) == "id=7"
    assert keyed_item(["region", "id"], ["eu", 7]) == "region=eu,id=7"
    assert keyed_item(["order id"], ["a,b"]) == '"order id"="a,b"'
    assert keyed_item(["day"], ["2026-11-01"]) == "day=2026-11-01"
    assert keyed_item(["ok"], [True]) == "ok=true"


def test_a_hashed_item_stays_when_a_column_is_added() -> None:
    assert hashed_item({"a": 1}, {"a": 1}) == hashed_item({"a": 1, "b": None}, {"a": 1, "b": 2})
    assert hashed_item({"a": 1}, {"a": 1}) != hashed_item({"a": 2}, {"a": 1})


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
