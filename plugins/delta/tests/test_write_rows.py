"""Rows taken out and put in by key columns, whatever the keys are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from plait_delta.merge import write_rows

ROWS = pa.table({"a": ["x", "x", None, "y"], "b": ["1", "2", "1", None], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(("columns", "kept"), [(["a"], [3, 4]), (["a", "b"], [2, 3, 4]), (["n", "a", "b"], [2, 3, 4])])
def test_rows_go_by_all_of_their_key_columns(tmp_path: Path, columns: list[str], kept: list[int]) -> None:
    write_deltalake(str(tmp_path), ROWS)
    write_rows(str(tmp_path), "tx", keys=ROWS.slice(0, 1).select(columns), rows=ROWS.slice(0, 1))
    assert sorted(DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist()) == [1, *kept]


@pytest.mark.parametrize("missing", [2, 3])
def test_an_absent_key_part_is_a_value_like_others(tmp_path: Path, missing: int) -> None:
    write_deltalake(str(tmp_path), ROWS)
    write_rows(str(tmp_path), "tx", keys=ROWS.slice(missing, 1).select(["a", "b"]), rows=None)
    assert sorted(DeltaTable(tmp_path).to_pyarrow_table()["n"].to_pylist()) == [
        n for n in (1, 2, 3, 4) if n != missing + 1
    ]
