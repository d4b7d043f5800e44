"""Statistics in a log, by which readers pass files over, against what is in the files."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from plait_delta.statistics import unread, untrue

ROWS = pa.table(
    {
        "n": [1, 2, None],
        "least": [2**63 - 1, -(2**63), 0],
        "single": pa.array([0.1, float("nan"), -0.0], pa.float32()),
        "double": [0.1, 1e300, None],
        "text": ["a", "b", ""],
        "long": ["a" * 50, "b" * 50, None],
        "day": [date(1, 1, 1), date(9999, 12, 31), None],
        "at": pa.array([datetime(2020, 1, 1, 1, 1, 1, 123456), datetime(1900, 1, 1), None], pa.timestamp("us")),
        "zoned": pa.array(
            [datetime(2020, 1, 1, 1, 1, 1, 123456, UTC), datetime(1900, 1, 1, tzinfo=UTC), None],
            pa.timestamp("us", "UTC"),
        ),
        "price": pa.array([Decimal("123456789012345678.12"), Decimal("-0.01"), None], pa.decimal128(20, 2)),
        "flag": [True, False, None],
        "bytes": [b"x", b"\0", None],
        "part": [{"a": 1}, {"a": 2}, None],
        "list": [[1], [2, 3], None],
        "none": pa.array([None, None, None], pa.int32()),
    }
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pq.FileMetaData]:
    """What delta-rs says of a file of three rows, and the file's footer."""
    folder = tmp_path_factory.mktemp("table")
    write_deltalake(folder, ROWS)
    (file,) = DeltaTable(folder).file_uris()
    log = [json.loads(line) for line in (folder / "_delta_log" / f"{0:020}.json").read_text().splitlines()]
    (stats,) = [one["add"]["stats"] for one in log if "add" in one]
    return json.loads(stats), pq.read_metadata(Path(file))


def test_what_delta_rs_writes_is_true(written: tuple[dict[str, Any], pq.FileMetaData]) -> None:
    stats, file = written
    assert {"n", "least", "single", "double", "text", "day", "at", "zoned", "price"} <= stats["maxValues"].keys()
    assert list(untrue(json.dumps(stats), file)) == []


def test_bounds_as_other_writers_round_and_cut_them_are_true(
    written: tuple[dict[str, Any], pq.FileMetaData],
) -> None:
    lows = {"long": "a" * 32, "single": -0.0, "price": -0.01, "flag": True, "at": "1900-01-01T00:00:00.000Z"}
    highs = {"long": "b" * 32 + "\uffff", "single": 0.1, "at": "2020-01-01T01:01:01.123Z", "n": None, "double": "NaN"}
    stats = {"numRecords": 3, "minValues": lows, "maxValues": highs, "nullCount": None}
    assert list(untrue(json.dumps(stats), written[1])) == []
    assert list(untrue(None, written[1])) == list(untrue("{}", written[1])) == []


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("n", 2, 1),
        ("least", 0, 2**63 - 2),
        ("single", 0.05, 0.05),
        ("double", 1.0, 1e299),
        ("text", "a", "a"),
        ("day", "2000-01-01", "2000-01-01"),
        ("at", "1901-01-01T00:00:00", "2020-01-01T01:01:00"),
        ("zoned", "1901-01-01T00:00:00Z", "2020-01-01T01:01:00Z"),
        ("price", 5, 5),
    ],
)
def test_a_bound_that_leaves_values_out_is_untrue(
    written: tuple[dict[str, Any], pq.FileMetaData], column: str, low: Any, high: Any
) -> None:
    stats, file = written
    for side, bound in (("minValues", low), ("maxValues", high)):
        (problem,) = untrue(json.dumps({**stats, side: {**stats[side], column: bound}}), file)
        assert repr(column) in problem


def test_numbers_of_rows_and_nulls_are_compared_where_they_are_exact(
    written: tuple[dict[str, Any], pq.FileMetaData],
) -> None:
    stats, file = written
    wrong = {**stats, "numRecords": 4, "nullCount": {**stats["nullCount"], "n": 0}}
    assert list(untrue(json.dumps(wrong), file)) == ["3 rows, expected 4", "1 nulls in column 'n', expected 0"]
    assert list(untrue(json.dumps({**wrong, "tightBounds": False}), file)) == ["3 rows, expected 4"]


@pytest.mark.parametrize("stats", ["{", "[]", "7", '{"minValues": [1]}', '{"nullCount": 7}'])
def test_statistics_that_no_reader_could_use_are_unread(stats: str) -> None:
    assert unread(stats)
    assert unread(None) == unread("{}") == ""
