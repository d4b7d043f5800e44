"""What differs, item by item, and taking items back."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from plait.errors import InvalidArgument, NotFound, Unsupported
from plait.types import ItemChange, ItemChangeKind, SnapshotRef, Staging
from plait_conformance.delta_tables import KEY, Tables, append, batch, correct, delete, ordered, row, rows_in

A, R, C = ItemChangeKind.ADDED, ItemChangeKind.REMOVED, ItemChangeKind.CHANGED


def changes(
    tables: Tables, before: SnapshotRef | Staging | None, after: SnapshotRef | Staging | None, aspect: str = "row"
) -> list[ItemChange]:
    return [one for one in tables.adapter.diff(before, after) if one.aspect == aspect]


def test_rows_are_told_by_their_keys_in_order(tables: Tables) -> None:
    base = tables.create([row(number) for number in (1, 2, 3, 10)])
    after = tables.change(base, correct(row(2, "ink")), delete("id = 3"), append(row(9)))
    found = [(one.item, one.kind, one.before, one.after) for one in changes(tables, base, after)]
    assert found == [("id=2", C, row(2), row(2, "ink")), ("id=3", R, row(3), None), ("id=9", A, None, row(9))]
    assert list(tables.adapter.diff(base, base)) == []
    assert [one.item for one in tables.adapter.diff(base, after, items=["id=9"])] == ["id=9"]


def test_rows_without_keys_are_a_multiset(tables: Tables) -> None:
    base = tables.create([row(1), row(1), row(2)], keyed=False)
    after = tables.change(base, delete("id = 1"), append(row(1)))
    (one,) = changes(tables, base, after)
    assert (one.kind, one.before) == (R, row(1))
    assert one.item.startswith("row:")


def test_a_compaction_changes_no_row(tables: Tables) -> None:
    base = tables.change(tables.create([row(1)]), append(row(2)))
    after = tables.change(base, lambda table: table.optimize.compact())
    assert after.digest != base.digest
    assert list(tables.adapter.diff(base, after)) == []


def test_a_new_and_a_gone_table_differ_in_all_rows_and_columns(tables: Tables) -> None:
    base = tables.create([row(1)])
    new = list(tables.adapter.diff(None, base))
    assert [one.item for one in new if one.aspect == "schema"] == ["schema:id", "schema:item", "schema:price"]
    assert [one.item for one in new if one.aspect == "row"] == ["id=1"]
    assert {one.kind for one in new} == {A}
    assert {one.kind for one in tables.adapter.diff(base, None)} == {R}


def test_a_working_set_is_compared_while_it_is_written(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    append(row(2))(tables.table(port))
    staging = port.get(KEY)
    assert [one.item for one in changes(tables, base, staging)] == ["id=2"]


def test_parts_of_the_metadata_are_items(tables: Tables) -> None:
    base = tables.create([row(1)])
    wider = batch([{**row(2), "x": 1.5}], batch([]).schema.append(pa.field("x", pa.float64())))
    after = tables.change(
        base,
        lambda table: table.append(wider, schema_mode="merge"),
        lambda table: table.alter.set_table_properties({"my.a": "1"}, raise_if_not_exists=False),
    )
    found = {one.item: one for one in tables.adapter.diff(base, after)}
    assert found["schema:x"].after == {"type": "double", "nullable": True}
    assert (found["property:my.a"].before, found["property:my.a"].after) == (None, "1")
    assert found["id=2"].after == {**row(2), "x": 1.5}
    assert "id=1" not in found


def test_a_column_of_another_type_changes_every_row(tables: Tables) -> None:
    base = tables.create([row(1)])
    text = pa.table({"id": ["1"], "item": ["pen"], "price": [1]})
    after = tables.change(base, lambda table: table.overwrite(text, schema_mode="overwrite"))
    assert [(one.item, one.kind) for one in changes(tables, base, after)] == [("id=1", R), ("id=1", A)]


def test_values_of_every_type_are_json_and_come_back(tables: Tables) -> None:
    schema = pa.schema(
        [
            ("id", pa.int64()), ("d", pa.decimal128(10, 2)), ("t", pa.timestamp("us", "UTC")), ("day", pa.date32()),
            ("b", pa.binary()), ("f", pa.float64()), ("flag", pa.bool_()), ("l", pa.list_(pa.int64())),
            ("s", pa.struct([("x", pa.string())])), ("m", pa.map_(pa.string(), pa.int64())),
        ]
    )  # fmt: skip
    one: dict[str, Any] = {
        "id": 1, "d": Decimal("1.50"), "t": datetime(2026, 1, 2, 3, tzinfo=UTC), "day": date(2026, 1, 2), "b": b"\0x",
        "f": float("nan"), "flag": True, "l": [1, None], "s": {"x": "y"}, "m": [("k", 1)],
    }  # fmt: skip
    base = tables.create([one, {**one, "id": 2}], schema=schema)
    after = tables.change(base, delete("id = 1"))
    (gone,) = changes(tables, base, after)
    assert json.loads(json.dumps(gone.before))["d"] == "1.50"
    port = tables.port({KEY: after})
    staging = tables.adapter.restore(port.tx, port.add(KEY), base, items=["id=1"])
    assert changes(tables, base, staging) == []


def test_a_lost_file_is_named(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, correct(row(1, "ink")))
    for path in tables.path.rglob("*.parquet"):
        path.unlink()
    for before in (None, base):
        with pytest.raises(NotFound, match=r"data file .*parquet does not exist"):
            list(tables.restarted().diff(before, after))


# -- change data feed --------------------------------------------------------------------------------------------------


def with_feed(tables: Tables, *rows: dict[str, Any], **options: Any) -> SnapshotRef:
    return tables.create(list(rows), configuration={"delta.enableChangeDataFeed": "true"}, **options)


@pytest.mark.parametrize("partitioned", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_feed_tells_the_same_as_the_files(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, keyed: bool, partitioned: bool
) -> None:
    partition = {"partition_by": ["price"]} if partitioned else {}
    base = with_feed(tables, *(row(number) for number in range(1, 9)), keyed=keyed, **partition)
    after = tables.change(
        base,
        delete("id = 3"),
        correct(row(1, "cap"), row(2, "ink")),
        append(row(9)),
        lambda table: table.optimize.compact(),
        lambda table: table.update(new_values={"item": "bag"}, predicate="id IN (4, 9)"),
        correct(row(1)),
        delete("id = 5"),
        append(row(5)),
    )
    told = list(tables.adapter.diff(base, after))
    monkeypatch.setattr("plait_delta.diff.feed_changes", lambda *sides: None)
    assert told == list(tables.adapter.diff(base, after))
    if keyed:
        assert [one.item for one in told if one.aspect == "row"] == ["id=2", "id=3", "id=4", "id=9"]


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_feed_tells_the_same_of_values_of_every_sort(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, partitioned: bool
) -> None:
    fields: list[tuple[str, Any, list[Any]]] = [
        ("id", pa.int64(), [1, 2, 3, 4]),
        ("Teil nr.", pa.string(), ["a b", "c/d=e%20", None, "'"]),
        ("nan", pa.float64(), [math.nan, -0.0, None, math.inf]),
        ("price", pa.decimal128(20, 4), [Decimal("1.1000"), None, Decimal("-0.0001"), Decimal("0")]),
        ("at", pa.timestamp("us", tz="UTC"), [datetime(2024, 3, 31, 1, tzinfo=UTC), None] * 2),
        ("inner.parts", pa.list_(pa.struct([("x", pa.int64())])), [[{"x": 1}, None], [], None, [{"x": None}]]),
        ("named", pa.map_(pa.string(), pa.float64()), [[("k", math.nan)], [], None, [("a", None)]]),
    ]
    rows = pa.table({name: pa.array(values, kind) for name, kind, values in fields})
    port = tables.port()
    options: dict[str, Any] = {"partition_by": ["Teil nr."]} if partitioned else {}
    feed = {"delta.enableChangeDataFeed": "true"}
    made = tables.namespace(port).create_table(
        ("hourly",), schema=rows.schema, key_columns=("id", "Teil nr."), configuration=feed, **options
    )
    made.append(rows)
    base = tables.vote(port)
    again = tables.change(base, delete("id = 1"), lambda table: table.append(rows.slice(0, 1)))
    assert [one.item for one in tables.adapter.diff(base, again)] == []
    after = tables.change(base, lambda table: table.update(new_values={"nan": "2.5"}, predicate="id IN (1, 3)"))
    told = list(tables.adapter.diff(base, after))
    monkeypatch.setattr("plait_delta.diff.feed_changes", lambda *sides: None)
    assert told == list(tables.adapter.diff(base, after))
    assert [one.kind for one in told] == [ItemChangeKind.CHANGED] * 2


def test_a_feed_is_read_instead_of_whole_files(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    base = with_feed(tables, row(1), row(2))
    after = tables.change(base, correct(row(2, "ink")))
    with monkeypatch.context() as patched:
        patched.setattr("plait_delta.diff.row_changes", lambda *sides: pytest.fail("files were read"))
        assert [one.item for one in tables.adapter.diff(base, after)] == ["id=2"]
    assert [one.item for one in tables.adapter.diff(after, base)] == ["id=2"]


def test_a_feed_whose_files_are_gone_is_done_without(tables: Tables) -> None:
    base = with_feed(tables, row(1), row(2))
    after = tables.change(base, correct(row(2, "ink")))
    gone = list(tables.path.rglob("_change_data/*"))
    assert gone
    for path in gone:
        path.unlink()
    assert [one.item for one in tables.adapter.diff(base, after)] == ["id=2"]


def test_the_published_table_has_a_feed_of_what_was_published(tables: Tables) -> None:
    base = with_feed(tables, row(1), row(2))
    tables.published(None, base)
    tables.published(base, tables.change(base, append(row(3))))
    feed = pa.table(DeltaTable(str(tables.path / "hourly")).load_cdf(starting_version=1).read_all())
    assert [(one["id"], one["_change_type"]) for one in feed.to_pylist()] == [(3, "insert")]


# -- restoring ---------------------------------------------------------------------------------------------------------


def test_a_whole_table_is_restored_by_naming_its_files_again(tables: Tables) -> None:
    then = tables.create([row(1), row(2)])
    now = tables.change(then, correct(row(1, "cap")), append(row(3)))
    port = tables.port({KEY: now})
    append(row(4))(tables.table(port))
    for _ in range(2):
        staging = tables.adapter.restore(port.tx, port.add(KEY), then, items=None)
        assert staging == port.add(KEY)
    assert rows_in(staging.location) == ordered([row(1), row(2)])
    voted = tables.vote(port)
    assert voted.digest == then.digest
    tables.published(None, now)
    tables.published(now, voted)
    assert rows_in(tables.path / "hourly") == ordered([row(1), row(2)])


def test_a_restore_to_the_base_votes_the_base(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    append(row(4))(tables.table(port))
    tables.adapter.restore(port.tx, port.add(KEY), base, items=None)
    assert tables.vote(port) == base


def test_rows_are_restored_by_their_keys(tables: Tables) -> None:
    then = tables.create([row(1), row(2), row(3)])
    now = tables.change(then, correct(row(1, "cap"), row(2, "cap")), delete("id = 3"), append(row(4)))
    port = tables.port({KEY: now})
    for _ in range(2):
        staging = tables.adapter.restore(port.tx, port.add(KEY), then, items=["id=1", "id=3", "id=4"])
    assert rows_in(staging.location) == ordered([row(1), row(2, "cap"), row(3)])


def test_another_table_under_the_key_is_restored_with_its_own_folder(tables: Tables) -> None:
    then = tables.create([row(1)])
    port = tables.port()
    tables.namespace(port).create_table("hourly", batch([]).schema).append(batch([row(2)]))
    staging = tables.adapter.restore(port.tx, port.add(KEY), then, items=None)
    assert staging.attrs["asset"] == then.asset
    assert rows_in(staging.location) == [row(1)]
    assert tables.adapter.restore(port.tx, staging, then, items=None) == staging
    (voted,) = tables.adapter.prepare(port.tx, 1, {KEY: staging}).values()
    assert voted is not None
    assert voted.asset == then.asset


def test_rows_without_names_cannot_be_restored(tables: Tables) -> None:
    base = tables.create([row(1)], keyed=False)
    port = tables.port({KEY: base})
    with pytest.raises(Unsupported, match="no key columns"):
        tables.adapter.restore(port.tx, port.add(KEY), base, items=["id=1"])
    with pytest.raises(InvalidArgument, match="names no row"):
        tables.adapter.restore(port.tx, port.add(KEY), base, items=["row:7"])


def test_rows_that_share_a_key_with_a_restored_one_stay(tables: Tables) -> None:
    now = tables.create([row(1, "a"), row(1, "b")])
    then = tables.change(now, delete("item = 'b'"))
    port = tables.port({KEY: now})
    staging = port.add(KEY)
    tables.adapter.restore(port.tx, staging, then, items=["id=1"])
    assert tables.read(tables.vote(port)) == [row(1, "a")]
