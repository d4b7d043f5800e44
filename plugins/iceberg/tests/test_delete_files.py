"""Delete files that other engines write: position deletes are honoured, equality deletes are refused."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plait.errors import Unsupported
from plait.types import Choice, Depth, ItemChangeKind, Resolution, SnapshotRef
from plait_conformance.tables import (
    KEY,
    KEYED,
    LOOSE,
    Tables,
    append,
    correct,
    order,
    ordered,
    read_back,
    static,
)
from plait_iceberg import IcebergAdapter
from plait_iceberg.manifests import ManifestReader, delete_files
from plait_iceberg.metadata import load
from plait_iceberg.write import Edits, SnapshotWriter
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

POSITIONS = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)
IDS = pa.schema([pa.field("id", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "1"})])


def commit_deletes(
    adapter: IcebergAdapter,
    base: SnapshotRef,
    rows: pa.Table,
    content: DataFileContent,
    file_format: FileFormat = FileFormat.PARQUET,
    *,
    replaces: bool = False,
) -> SnapshotRef:
    """What an engine with merge-on-read commits: one new delete file, in place of all older ones if it `replaces`
    them. (In Parquet, whatever it is called.)"""
    found = load(adapter.files, base.version)
    unique = uuid.uuid4()
    path = f"{found.document['location']}/data/{unique}-deletes.parquet"
    pq.write_table(rows, path.removeprefix("file://"))
    file = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=file_format,
        partition=Record(),
        record_count=rows.num_rows,
        file_size_in_bytes=Path(path.removeprefix("file://")).stat().st_size,
        equality_ids=[1] if content is DataFileContent.EQUALITY_DELETES else None,
    )
    writer, reader = (
        SnapshotWriter(adapter.files, adapter.context, found, "spark", unique),
        ManifestReader(adapter.files.io),
    )
    older = delete_files({path: one for m in reader.manifests(found.current) for path, one in reader.live(m).items()})
    edits = Edits(added=[(0, file)], removed=older if replaces else {})
    written = writer.write(found.document, reader, edits, {})
    return written.refer("lake", "iceberg")


def delete_rows(
    adapter: IcebergAdapter, base: SnapshotRef, identifiers: Sequence[int], *, replaces: bool = False
) -> SnapshotRef:
    """Delete rows by their positions; as `commit_deletes`."""
    found: list[dict[str, object]] = []
    for task in static(base).scan().plan_files():
        ids = pq.read_table(task.file.file_path.removeprefix("file://"))["id"].to_pylist()
        found += [{"file_path": task.file.file_path, "pos": n} for n, one in enumerate(ids) if one in identifiers]
    rows = pa.Table.from_pylist(found, schema=POSITIONS)
    return commit_deletes(adapter, base, rows, DataFileContent.POSITION_DELETES, replaces=replaces)


def equality_delete(adapter: IcebergAdapter, base: SnapshotRef, identifier: int) -> SnapshotRef:
    rows = pa.Table.from_pylist([{"id": identifier}], schema=IDS)
    return commit_deletes(adapter, base, rows, DataFileContent.EQUALITY_DELETES)


# -- position deletes --------------------------------------------------------------------------------------------------


def test_position_deletes_are_read_by_plain_pyiceberg_and_by_diff(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2), order(3)])
    deleted = delete_rows(adapter, base, [2])
    assert read_back(deleted) == ordered([order(1), order(3)])
    changes = [change for change in adapter.diff(base, deleted) if change.aspect == "row"]
    assert [(change.item, change.kind, change.before) for change in changes] == [
        ("id=2", ItemChangeKind.REMOVED, order(2))
    ]
    back = [change for change in adapter.diff(deleted, base) if change.aspect == "row"]
    assert [(change.item, change.kind) for change in back] == [("id=2", ItemChangeKind.ADDED)]


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
def test_position_deletes_of_one_side_and_appends_of_the_other_merge(
    tables: Tables, adapter: IcebergAdapter, schema: object
) -> None:
    base = tables.create([order(1), order(2)], schema=schema)  # type: ignore[arg-type]
    ours = tables.change(base, append(order(3)))
    theirs = delete_rows(adapter, base, [1])
    for mine, others in ((ours, theirs), (theirs, ours)):
        assert read_back(tables.merged(base, mine, others)) == ordered([order(2), order(3)])


def test_position_deletes_of_both_sides_in_one_file_are_joined(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours, theirs = delete_rows(adapter, base, [1]), delete_rows(adapter, base, [2])
    assert read_back(tables.merged(base, ours, theirs)) == [order(3)]


def test_what_was_deleted_already_is_not_deleted_where_that_is_taken_back(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    """As a cherry-pick does, whose base is not ours' own: rows that theirs' new delete file names were gone before."""
    before = tables.create([order(1), order(2), order(3)])
    ours = tables.change(before, append(order(4)))
    base = delete_rows(adapter, before, [1])
    for theirs, left in (
        (delete_rows(adapter, base, [1]), [1, 2, 3, 4]),
        (delete_rows(adapter, base, [1], replaces=True), [1, 2, 3, 4]),
        (delete_rows(adapter, base, [1, 2]), [1, 3, 4]),
        (delete_rows(adapter, base, [1, 2], replaces=True), [1, 3, 4]),
        (delete_rows(adapter, base, [2], replaces=True), [1, 3, 4]),
    ):
        assert read_back(tables.merged(base, ours, theirs)) == ordered(map(order, left))


def test_what_one_side_takes_back_the_other_does_not_delete_again(tables: Tables, adapter: IcebergAdapter) -> None:
    """As a revert does: the rows were gone when ours named them once more."""
    theirs = tables.create([order(1), order(2), order(3)])
    base = delete_rows(adapter, theirs, [1])
    for ours, left in ((delete_rows(adapter, base, [1, 2]), [1, 3]), (delete_rows(adapter, base, [2]), [1, 3])):
        assert read_back(tables.merged(base, ours, theirs)) == ordered(map(order, left))


@pytest.mark.parametrize("schema", [KEYED, LOOSE], ids=["keyed", "loose"])
def test_deletes_that_one_side_compacted_and_new_ones_of_the_other_are_joined(
    tables: Tables, adapter: IcebergAdapter, schema: object
) -> None:
    base = delete_rows(adapter, tables.create([order(1), order(2), order(3)], schema=schema), [1])  # type: ignore[arg-type]
    compacted, deleted = delete_rows(adapter, base, [1], replaces=True), delete_rows(adapter, base, [2])
    for mine, others in ((compacted, deleted), (deleted, compacted)):
        assert read_back(tables.merged(base, mine, others)) == [order(3)]


def test_deletes_that_were_taken_back_are_a_conflict_without_identifiers(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    before = tables.create([order(1), order(2), order(3)], schema=LOOSE)
    base = delete_rows(adapter, before, [1])
    (conflict,) = tables.conflicts(base, before, delete_rows(adapter, base, [1, 2], replaces=True))
    assert conflict.item is None


def test_a_position_delete_on_a_file_that_the_other_side_rewrote_hits_the_right_row(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    base = tables.create([order(1), order(2), order(3)])
    rewritten = tables.change(base, correct(order(3, "cap")))
    deleted = delete_rows(adapter, base, [1])
    for mine, others in ((rewritten, deleted), (deleted, rewritten)):
        assert read_back(tables.merged(base, mine, others)) == ordered([order(2), order(3, "cap")])


def test_a_position_delete_on_a_file_that_went_is_a_conflict_without_identifiers(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    base = tables.create([order(1), order(2)], schema=LOOSE)
    rewritten = tables.change(base, lambda table: table.delete("id = 2"))
    deleted = delete_rows(adapter, base, [1])
    for mine, others in ((rewritten, deleted), (deleted, rewritten)):
        (conflict,) = tables.conflicts(base, mine, others)
        assert conflict.item is None


def test_a_row_deleted_by_position_against_an_update_is_a_conflict(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2)])
    ours = delete_rows(adapter, base, [1])
    theirs = tables.change(base, correct(order(1, "cap")))
    (conflict,) = tables.conflicts(base, ours, theirs)
    assert (conflict.item, conflict.ours, conflict.theirs) == ("id=1", None, order(1, "cap"))
    merged = tables.merged(base, ours, theirs, Resolution(KEY, "id=1", Choice.THEIRS))
    assert read_back(merged) == ordered([order(1, "cap"), order(2)])


def test_deletes_before_the_base_still_count_after_a_merge(tables: Tables, adapter: IcebergAdapter) -> None:
    base = delete_rows(adapter, tables.create([order(1), order(2), order(3)]), [1])
    ours = tables.change(base, correct(order(2, "cap")))
    theirs = tables.change(base, correct(order(3, "ink")))
    assert read_back(tables.merged(base, ours, theirs)) == ordered([order(2, "cap"), order(3, "ink")])


def test_a_merged_table_reaches_and_verifies_its_delete_files(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1), order(2)])
    theirs = delete_rows(adapter, base, [1])
    merged = tables.merged(base, tables.change(base, append(order(3))), theirs)
    assert adapter.verify(merged, Depth.BYTES).problems == ()
    reached = {item.path for item in adapter.reachable(merged)}
    assert any(path.endswith("-deletes.parquet") for path in reached)


def test_position_deletes_as_avro_are_unsupported_and_no_damage(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path
) -> None:
    base = tables.create([order(1), order(2)])
    appended = tables.change(base, append(order(3)))
    deleted = commit_deletes(adapter, base, POSITIONS.empty_table(), DataFileContent.POSITION_DELETES, FileFormat.AVRO)
    before = {path for path in warehouse.rglob("*") if path.is_file()}
    for mine, others in ((appended, deleted), (deleted, appended)):
        with pytest.raises(Unsupported, match="position deletes as AVRO"):
            adapter.merge("tx", 1, base=base, ours=mine, theirs=others)
    for older in (None, base):
        with pytest.raises(Unsupported, match="position deletes as AVRO"):
            list(adapter.diff(older, deleted))
    assert {path for path in warehouse.rglob("*") if path.is_file()} == before


# -- equality deletes --------------------------------------------------------------------------------------------------


def test_equality_deletes_are_refused_on_either_side_before_anything_is_written(
    tables: Tables, adapter: IcebergAdapter, warehouse: Path
) -> None:
    base = tables.create([order(1), order(2)])
    appended = tables.change(base, append(order(3)))
    deleted = equality_delete(adapter, base, 1)
    before = {path for path in warehouse.rglob("*") if path.is_file()}
    for mine, others in ((appended, deleted), (deleted, appended)):
        with pytest.raises(Unsupported, match="equality deletes"):
            adapter.merge("tx", 1, base=base, ours=mine, theirs=others)
    with pytest.raises(Unsupported, match="equality deletes"):
        list(adapter.diff(base, deleted))
    assert {path for path in warehouse.rglob("*") if path.is_file()} == before


def test_equality_deletes_of_the_base_do_not_stop_a_merge_of_other_files(
    tables: Tables, adapter: IcebergAdapter
) -> None:
    base = equality_delete(adapter, tables.create([order(1), order(2)], schema=LOOSE), 1)
    ours = tables.change(base, append(order(3)))
    theirs = tables.change(base, append(order(4)))
    merged = tables.merged(base, ours, theirs)
    manifests = ManifestReader(adapter.files.io).manifests(load(adapter.files, merged.version).table)
    assert sum(manifest.added_files_count or 0 for manifest in manifests if manifest.content.value == 1) == 1
