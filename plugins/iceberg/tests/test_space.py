"""What a version needs, what there is, whether it is whole, which rules endanger it, and what a merge costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plait.errors import Corrupt
from plait.types import Depth, SnapshotRef
from plait_conformance.tables import KEY, KEYED, Tables, append, correct, delete, order, read_back, static
from plait_iceberg import IcebergAdapter
from plait_iceberg.files import Files
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.view.metadata import SQLViewRepresentation, ViewVersion


class CountingFileIO(PyArrowFileIO):
    """pyiceberg's FileIO that counts how often each file is opened."""

    def __init__(self) -> None:
        super().__init__({})
        self.opened: Counter[str] = Counter()

    def new_input(self, location: str) -> PyArrowFile:
        self.opened[location] += 1
        return super().new_input(location)

    def named(self, ending: str) -> list[str]:
        return sorted(path for path in self.opened if path.endswith(ending))

    def manifests(self) -> list[str]:
        return [path for path in self.named(".avro") if "/snap-" not in path]


def path_of(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def files_below(folder: Path) -> set[str]:
    return {f"file://{path}" for path in folder.rglob("*") if path.is_file()}


def data_paths(snapshot: SnapshotRef) -> set[str]:
    return {task.file.file_path for task in static(snapshot).scan().plan_files()}


def flip(location: str, place: int) -> None:
    path = path_of(location)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


def places(location: str) -> range:
    """Some sixty of a file's bytes, the first one included."""
    length = path_of(location).stat().st_size
    return range(0, length, max(1, length // 60))


def imported(
    adapter: IcebergAdapter, warehouse: Path, schema: Schema | pa.Schema, write: Callable[[Table], object]
) -> SnapshotRef:
    """A table that a plain pyiceberg made."""
    with InMemoryCatalog("elsewhere", warehouse=f"file://{warehouse}") as catalog:
        catalog.create_namespace("sales")
        table = catalog.create_table("sales.orders", schema)
        write(table)
        return adapter.snapshot("tx", {KEY: table.metadata_location})[KEY]


# -- reachable and inventory -------------------------------------------------------------------------------------------


def history(tables: Tables) -> SnapshotRef:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")), delete("id = 2"), append(order(3)))
    theirs = tables.change(base, append(order(4)))
    return tables.merged(base, ours, theirs)


def test_reachable_files_exist_and_the_inventory_lists_them_by_the_same_names(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path
) -> None:
    snapshot = history(tables)
    reached = {item.path for item in adapter.reachable(snapshot)}
    assert reached <= files_below(warehouse)
    assert reached <= {item.path for item in adapter.inventory()}
    sizes = {item.path: item.size_bytes for item in adapter.inventory()}
    assert all(size == path_of(path).stat().st_size for path, size in sizes.items())


def test_reachable_covers_every_file_that_reading_any_iceberg_snapshot_opens(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    snapshot = history(tables)
    reached = {item.path for item in adapter.reachable(snapshot)}
    counting = CountingFileIO()
    table = static(snapshot)
    table.io = counting
    for entry in table.history():
        table.scan(snapshot_id=entry.snapshot_id).to_arrow()
    assert counting.opened
    assert set(counting.opened) | {snapshot.version} <= reached


def test_a_table_is_readable_when_all_else_is_deleted(tables: Tables, adapter: IcebergAdapter, warehouse: Path) -> None:
    snapshot = history(tables)
    expected = read_back(snapshot)
    reached = {item.path for item in adapter.reachable(snapshot)}
    adapter.delete(item for item in adapter.inventory() if item.path not in reached)
    assert files_below(warehouse) == reached
    assert read_back(snapshot) == expected
    assert adapter.verify(snapshot, Depth.BYTES).problems == ()


def test_the_inventory_never_lists_a_file_that_plait_did_not_create(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path
) -> None:
    foreign = warehouse / "spark" / "orders"
    other_location = f"file://{warehouse}/chosen"
    tables.create([order(1)], location=other_location)
    (foreign / "metadata").mkdir(parents=True)
    (foreign / "metadata" / "v1.metadata.json").write_text("{}")
    (warehouse / "notes.txt").write_text("mine")
    kept = tables.create([order(2)], key=("lake", "sales", "lines"))
    listed = {item.path for item in adapter.inventory()}
    assert listed == {path for path in files_below(warehouse) if "/lines-plait-" in path}
    assert listed == {item.path for item in adapter.reachable(kept)}
    assert list(adapter.inventory(f"file://{warehouse}/spark")) == []
    assert list(adapter.retention_risks()) == []


def test_a_view_reaches_its_metadata_file(tables: Tables, adapter: IcebergAdapter) -> None:
    port = tables.port()
    shown = SQLViewRepresentation(type="sql", sql="SELECT 1", dialect="spark")
    version = ViewVersion(
        version_id=1, timestamp_ms=1, schema_id=0, summary={}, representations=[shown], default_namespace=["sales"]
    )
    tables.catalog(port).create_view("sales.orders", KEYED, version)
    voted = tables.vote(port)
    assert [item.path for item in adapter.reachable(voted)] == [voted.version]
    assert adapter.verify(voted, Depth.BYTES).problems == ()


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_whole_table_has_no_problem_at_any_depth(tables: Tables, adapter: IcebergAdapter) -> None:
    snapshot = history(tables)
    found = [adapter.verify(snapshot, depth) for depth in (Depth.EXISTS, Depth.METADATA, Depth.BYTES)]
    assert [health.problems for health in found] == [(), (), ()]
    assert found[0].checked < found[1].checked == found[2].checked


def test_any_flipped_byte_of_the_metadata_file_is_found(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    length = path_of(base.version).stat().st_size
    for place in range(0, length, max(1, length // 20)):
        flip(base.version, place)
        assert len(adapter.verify(base, Depth.EXISTS).problems) == 1
        flip(base.version, place)
    assert adapter.verify(base, Depth.EXISTS).problems == ()


@pytest.mark.parametrize("kind", ["snap-", "-m0.avro", ".parquet", "sha256-"])
def test_damage_anywhere_is_named_and_never_an_error(tables: Tables, adapter: IcebergAdapter, kind: str) -> None:
    base = tables.create([order(1), order(2)])
    damaged = next(item.path for item in adapter.reachable(base) if kind in item.path)
    for place in places(damaged):
        flip(damaged, place)
        problems = adapter.verify(base, Depth.BYTES).problems
        assert any(damaged in problem for problem in problems), place
        if kind != ".parquet":
            assert adapter.verify(base, Depth.METADATA).problems == problems
        flip(damaged, place)
    assert adapter.verify(base, Depth.BYTES).problems == ()


@pytest.mark.parametrize("kind", ["snap-", "-m0.avro", ".parquet"])
def test_damage_of_an_imported_table_is_a_problem_or_harmless_but_never_an_error(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path, kind: str
) -> None:
    schema = static(tables.create([order(1)])).schema()
    base = imported(adapter, warehouse, schema, append(order(1), order(2)))
    damaged = next(item.path for item in adapter.reachable(base) if kind in item.path)
    found = 0
    for place in places(damaged):
        flip(damaged, place)
        found += bool(adapter.verify(base, Depth.BYTES).problems)
        flip(damaged, place)
    assert found > 0
    assert adapter.verify(base, Depth.BYTES).problems == ()


def test_what_a_merge_brings_keeps_its_hashes_and_is_not_read_for_them(
    tables: Tables, adapter: IcebergAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tables.create([order(1), order(2)])
    ours, theirs = tables.change(base, append(order(3))), tables.change(base, append(order(4)))
    (replayed,) = data_paths(theirs) - data_paths(base)
    hashed: list[str] = []
    sha256 = Files.sha256
    monkeypatch.setattr(Files, "sha256", lambda self, path: hashed.append(path) or sha256(self, path))
    merged = tables.merged(base, ours, theirs)
    assert hashed
    assert not [path for path in hashed if path.endswith(".parquet")]
    one, other = tables.change(merged, correct(order(1, "a"))), tables.change(merged, correct(order(2, "b")))
    corrected = tables.merged(merged, one, other)
    rewritten = data_paths(corrected) - data_paths(one) - data_paths(other)
    assert rewritten
    for damaged in (replayed, *rewritten):
        for place in places(damaged):
            flip(damaged, place)
            assert adapter.verify(corrected, Depth.BYTES).problems == (
                f"file {damaged} holds other bytes than were committed",
            )
            flip(damaged, place)
    assert adapter.verify(corrected, Depth.BYTES).problems == ()


def test_files_that_the_user_brings_are_hashed_too(tables: Tables, adapter: IcebergAdapter, warehouse: Path) -> None:
    base = tables.create([order(1)])
    (data,) = data_paths(base)
    brought = warehouse / "brought.parquet"
    brought.write_bytes(path_of(data).read_bytes())
    after = tables.change(base, lambda table: table.add_files([f"file://{brought}"]))
    flip(f"file://{brought}", brought.stat().st_size // 2)
    (problem,) = adapter.verify(after, Depth.BYTES).problems
    assert str(brought) in problem


@pytest.mark.parametrize("kind", ["snap-", "-m0.avro", ".parquet", ".metadata.json", "sha256-"])
def test_a_lost_file_is_named(tables: Tables, adapter: IcebergAdapter, kind: str) -> None:
    base = tables.create([order(1)])
    lost = next(item.path for item in adapter.reachable(base) if kind in item.path)
    assert adapter.verify(base, Depth.METADATA).problems == ()
    path_of(lost).unlink()
    problems = adapter.verify(base, Depth.METADATA).problems
    assert any(lost in problem for problem in problems)


def test_a_snapshot_without_its_metadata_file_is_corrupt(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    path_of(base.version).unlink()
    with pytest.raises(Corrupt, match="is lost"):
        adapter.open(base, None)


@pytest.mark.parametrize("kind", ["snap-", "-m0.avro", ".parquet"])
def test_a_shortened_file_is_named(tables: Tables, adapter: IcebergAdapter, kind: str) -> None:
    base = tables.create([order(1)])
    short = next(item.path for item in adapter.reachable(base) if kind in item.path)
    path_of(short).write_bytes(path_of(short).read_bytes()[:-20])
    assert any(short in problem for problem in adapter.verify(base, Depth.METADATA).problems)


def test_a_file_with_other_rows_of_the_same_length_is_found_by_reading_it(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    base = tables.create([order(number) for number in range(100)])
    (data,) = (item.path for item in adapter.reachable(base) if item.path.endswith(".parquet"))
    length = path_of(data).stat().st_size
    path_of(data).write_bytes(b"\0" * length)
    assert adapter.verify(base, Depth.METADATA).problems == ()
    (problem,) = adapter.verify(base, Depth.BYTES).problems
    assert data in problem


def test_every_flipped_byte_of_a_page_with_a_checksum_is_found(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path
) -> None:
    """Java engines write page checksums."""
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64())})
    rows = rows.cast(pa.schema([pa.field("id", pa.int64(), nullable=False)]))
    path = warehouse / "added.parquet"
    warehouse.mkdir()
    pq.write_table(rows, path, write_page_checksum=True, compression="none", use_dictionary=False)
    base = imported(adapter, warehouse, rows.schema, lambda table: table.add_files([f"file://{path}"]))
    column = pq.read_metadata(path).row_group(0).column(0)
    end = column.data_page_offset + column.total_compressed_size
    for place in range(end - 24, end):
        flip(str(path), place)
        assert len(adapter.verify(base, Depth.BYTES).problems) == 1, place
        flip(str(path), place)
    assert adapter.verify(base, Depth.BYTES).problems == ()


# -- risks -------------------------------------------------------------------------------------------------------------


def test_new_tables_are_protected_from_engines_and_dangerous_rules_are_told(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    tables.create([order(1)])
    assert list(adapter.retention_risks()) == []
    dangerous = {
        "gc.enabled": "true",
        "write.metadata.delete-after-commit.enabled": "true",
        "history.expire.max-snapshot-age-ms": "1",
    }
    risky = tables.create([order(1)], key=("lake", "sales", "lines"), properties=dangerous)
    found = list(adapter.retention_risks())
    assert [risk.rule for risk in found] == [
        "write.metadata.delete-after-commit.enabled=true",
        "gc.enabled=true",
        "history.expire.max-snapshot-age-ms=1",
    ]
    assert {risk.affects for risk in found} == {static(risky).location()}


# -- cost --------------------------------------------------------------------------------------------------------------


def test_a_merge_of_one_new_file_opens_only_the_manifests_that_differ(tables: Tables, adapter: IcebergAdapter) -> None:
    """200 files in 20 manifests, of which a merge needs none."""
    by_item = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=IdentityTransform(), name="item"))
    base = tables.create(partition_spec=by_item)
    base = tables.change(
        base, *(append(*(order(10 * one + item, f"item-{item}") for item in range(10))) for one in range(20))
    )
    assert len(list(static(base).scan().plan_files())) == 200
    assert len(static(base).inspect.manifests()) == 20
    ours, theirs = tables.change(base, append(order(1001))), tables.change(base, append(order(1002)))
    counting = CountingFileIO()
    adapter.files.io = counting
    merged = tables.merged(base, ours, theirs)
    assert len(counting.manifests()) == 2
    assert len(counting.named(".parquet")) == 2  # the two new files, for the identifiers in them
    assert static(merged).scan().count() == 202
    counting.opened.clear()
    rows = [change.item for change in adapter.diff(base, merged) if change.aspect == "row"]
    assert sorted(rows) == ["id=1001", "id=1002"]
    assert len(counting.manifests()) == 2
    assert len(counting.named(".parquet")) == 2


def test_a_merge_of_corrected_rows_reads_only_files_that_changed(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2)])
    base = tables.change(base, *(append(order(number)) for number in range(10, 20)))
    ours, theirs = tables.change(base, correct(order(1, "cap"))), tables.change(base, correct(order(2, "ink")))
    touched = {path for path in data_paths(base) if path not in data_paths(ours)}
    counting = CountingFileIO()
    adapter.files.io = counting
    tables.merged(base, ours, theirs)
    untouched = data_paths(base) - touched
    assert untouched
    assert not untouched & set(counting.opened)


def test_prepare_reads_no_manifest_of_the_base(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    base = tables.change(base, append(order(2)), append(order(3)))
    port = tables.port({KEY: base})
    append(order(4))(tables.table(port))
    counting = CountingFileIO()
    adapter.files.io = counting
    tables.vote(port)
    assert len(counting.manifests()) == 1
    assert counting.named(".parquet") == []
