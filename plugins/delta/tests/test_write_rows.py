"""Rows taken out and put in by key columns, whatever the keys are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from plait.errors import Unsupported
from plait_delta.disk import DiskFiles
from plait_delta.disk_roots import DiskLayout
from plait_delta.files import Native
from plait_delta.log import read_state
from plait_delta.merge import write_rows
from plait_delta.roots import Root
from plait_delta.rows import Side, has_misread_rows
from plait_delta.table import WorkingTable, misread_rows, rows_of


def _root(folder: str | Path) -> Root:
    return Root(str(folder), str(folder), DiskFiles(lambda name: None))


ROWS = pa.table({"a": ["x", "x", None, "y"], "b": ["1", "2", "1", None], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(("columns", "kept"), [(["a"], [3, 4]), (["a", "b"], [2, 3, 4]), (["n", "a", "b"], [2, 3, 4])])
def test_rows_go_by_all_of_their_key_columns(tmp_path: Path, columns: list[str], kept: list[int]) -> None:
    write_deltalake(str(tmp_path), ROWS)
    write_rows(_root(tmp_path), "tx", keys=ROWS.slice(0, 1).select(columns), rows=ROWS.slice(0, 1))
    assert sorted(DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist()) == [1, *kept]


@pytest.mark.parametrize("missing", [2, 3])
def test_an_absent_key_part_is_a_value_like_others(tmp_path: Path, missing: int) -> None:
    write_deltalake(str(tmp_path), ROWS)
    write_rows(_root(tmp_path), "tx", keys=ROWS.slice(missing, 1).select(["a", "b"]), rows=None)
    assert sorted(DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist()) == [
        n for n in (1, 2, 3, 4) if n != missing + 1
    ]


HOSTILE: dict[str, tuple[pa.DataType, list[Any]]] = {
    "NaN": (pa.float64(), [math.nan, 1.5, -0.0, None, math.inf]),
    "decimal": (pa.decimal128(38, 10), [Decimal("1.1000000001"), Decimal("1.1"), Decimal("-1.1"), None]),
    "timestamp with zone": (
        pa.timestamp("us", tz="UTC"),
        [datetime(2024, 3, 31, 1, 30, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None],
    ),
    "timestamp": (pa.timestamp("us"), [datetime(2024, 3, 31, 2, 30), datetime(1969, 12, 31, 23, 59, 59, 999999), None]),
    "date": (pa.date32(), [date(2024, 2, 29), date(1582, 10, 10), None]),
    "binary": (pa.binary(), [b"", b"\0", b"'\\", None]),
    "text": (
        pa.string(),
        ["", "'", '"', "a b", "a/b=c%20", "\\", "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\u0301", None],
    ),
    "boolean": (pa.bool_(), [True, False, None]),
    "small": (pa.int8(), [-128, 127, None]),
}


@pytest.mark.parametrize("name", ["key", "a.b", "a b", "Key", 'a"b', "select"])
def test_columns_of_any_name_are_keys(tmp_path: Path, name: str) -> None:
    rows = pa.table({name: ["x", "y", None], "other": [1, 2, 3]})
    write_deltalake(str(tmp_path), rows)
    write_rows(_root(tmp_path), "tx", keys=rows.slice(0, 1).select([name]), rows=None)
    assert DeltaTable(tmp_path).to_pyarrow_table()["other"].to_pylist() == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("sort", HOSTILE)
@pytest.mark.parametrize("is_partition", [False, True])
def test_a_key_of_any_value_takes_out_its_row_alone(tmp_path: Path, sort: str, is_partition: bool) -> None:
    kind, values = HOSTILE[sort]
    if is_partition and sort == "binary":
        pytest.skip("refused: see the test below")
    if is_partition and sort == "decimal":
        values = [value for value in values if value is None or value > 0]  # delta-rs writes no others as partitions.
    rows = pa.table({"k": pa.array(values, kind), "n": list(range(len(values)))})
    for number in range(len(values)):
        folder = str(tmp_path / str(number))
        write_deltalake(folder, rows, partition_by=["k"] if is_partition else None)
        write_rows(_root(folder), "tx", keys=rows.slice(number, 1).select(["k"]), rows=None)
        left = DeltaTable(folder).to_pyarrow_table()["n"].to_pylist()
        assert sorted(left) == [one for one in range(len(values)) if one != number], values[number]
        write_rows(_root(folder), "tx", keys=None, rows=rows.slice(number, 1))
        assert sorted(DeltaTable(folder).to_pyarrow_table()["n"].to_pylist()) == list(range(len(values)))


def test_names_that_differ_in_case_alone_are_two_columns_or_refused(tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2], "n": [10, 20]}).append_column("ID", pa.array([7, 8]))
    try:
        write_deltalake(str(tmp_path), rows)
    except Exception:
        pytest.skip("delta-rs refuses such a table itself")
    write_rows(_root(tmp_path), "tx", keys=rows.slice(0, 1).select(["ID"]), rows=None)
    assert DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist() == [20]


@pytest.mark.parametrize("key", ["k", "n"])
def test_bytes_that_partition_a_table_are_refused_before_anything_is_written(tmp_path: Path, key: str) -> None:
    """delta-rs finds none of their rows by keys, so each would come twice; and it writes them as others."""
    rows = pa.table({"k": pa.array([b"\0", b"x", b"x"], pa.binary()), "n": [1, 2, 3]})
    write_deltalake(str(tmp_path), rows, partition_by=["k"])
    for keys, coming in ((rows.slice(1, 1).select([key]), None), (None, rows.slice(0, 1))):
        with pytest.raises(Unsupported, match="'k'"):
            write_rows(_root(tmp_path), "tx", keys=keys, rows=coming)
    assert DeltaTable(tmp_path).version() == 0


def _spark_table(folder: Path, *times: datetime) -> pa.Table:
    """A table as Spark writes it: times as INT96, without statistics, and no Arrow schema that tells more."""
    wrapped = [{"at": one} for one in times]
    struct = pa.struct([pa.field("at", pa.timestamp("us", tz="UTC"))])
    rows = pa.table(
        {
            "n": list(range(len(times))),
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "it's": pa.array(wrapped, struct),
        }
    )
    write_deltalake(str(folder), rows)
    (path,) = folder.glob("*.parquet")
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True, store_schema=False)
    log = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"] = {**action["add"], "size": path.stat().st_size, "stats": None}
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    return rows


NEAR, FAR = datetime(2024, 2, 29, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    "far",
    [FAR, datetime(1, 1, 1, tzinfo=UTC), datetime(2262, 4, 12, tzinfo=UTC), datetime(1677, 9, 21, tzinfo=UTC)],
    ids=["late", "early", "just late", "just early"],
)
def test_times_of_spark_outside_of_nanoseconds_are_read_and_rewrites_that_would_change_them_refused(
    tmp_path: Path, far: datetime
) -> None:
    rows = _spark_table(tmp_path, NEAR, far)
    assert rows_of(DeltaTable(tmp_path)).sort_by("n").to_pylist() == rows.to_pylist()
    before = sorted(tmp_path.rglob("*"))
    table = WorkingTable(Native(str(tmp_path), None), {})
    keys = rows.slice(0, 1).select(["n"])
    rewrites: list[Callable[[], object]] = [
        lambda: write_rows(_root(tmp_path), "tx", keys=keys, rows=None),
        lambda: table.delete("n = 0"),
        lambda: table.update(new_values={"n": 7}, predicate="n = 0"),
        lambda: table.merge(rows, "s.n = t.n", source_alias="s", target_alias="t"),
        lambda: table.overwrite(rows.slice(0, 1), predicate="n = 0"),
        lambda: table.optimize.compact(),
    ]
    for rewrite in rewrites:
        with pytest.raises(Unsupported, match="1 rows have times before 1678 or after 2261"):
            rewrite()
    assert sorted(tmp_path.rglob("*")) == before
    table.append(rows.slice(1, 1))
    assert rows_of(table).num_rows == 3
    assert misread_rows(table) == 1


def test_only_files_that_a_feed_tells_of_are_looked_at_for_such_times(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    rows = _spark_table(folder, NEAR, FAR)
    (misread,) = read_state(_root(folder)).files
    write_deltalake(str(folder), rows, mode="append")
    layout = DiskLayout(str(tmp_path), DiskFiles(lambda name: None), lambda name: None)
    side = Side(layout, _root(folder), read_state(_root(folder)))
    assert has_misread_rows(side, [misread])
    assert not has_misread_rows(side, [one for one in side.state.files if one != misread])


def test_times_of_spark_that_nanoseconds_hold_are_rewritten(tmp_path: Path) -> None:
    rows = _spark_table(tmp_path, NEAR, datetime(2262, 4, 11, 1, tzinfo=UTC))
    more = rows.slice(0, 1).set_column(1, "at", pa.array([FAR], rows["at"].type))
    write_deltalake(str(tmp_path), more, mode="append")
    write_rows(_root(tmp_path), "tx", keys=rows.slice(0, 1).select(["n"]), rows=None)
    assert rows_of(DeltaTable(tmp_path)).to_pylist() == rows.slice(1, 1).to_pylist()
