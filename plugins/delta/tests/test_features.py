"""Deletion vectors, column mapping and checkpoints of others are honoured; foreign commits are never run over."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from plait.errors import Corrupt, NotFound, Unsupported
from plait.failpoint import armed
from plait.types import Depth, PublishState, SnapshotRef
from plait_conformance.delta_tables import KEY, Rows, Tables, append, batch, correct, delete, ordered, row, rows_in
from plait_delta.actions import vector_path
from plait_delta.disk import DiskFiles
from plait_delta.log import read_state
from plait_delta.roots import Root

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
VECTOR_UUID = "d2c639aa-8816-431a-aaf6-d3fe2512ff61"
VECTOR_TEXT = "^-aqEH.-t@S}K{vb[*k^"


def edit_log(folder: Path, change: Callable[[dict[str, Any]], None], version: int = 0) -> None:
    """What another writer would have written."""
    log = folder / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        change(action)
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))


def bitmap(*deleted: int) -> bytes:
    """A RoaringBitmapArray of one array container, as the protocol's appendix lays it out."""
    portable = struct.pack("<II", 12346, 1) + struct.pack("<HHI", 0, len(deleted) - 1, 16)
    portable += b"".join(struct.pack("<H", number) for number in deleted)
    return struct.pack("<IQI", 1681511377, 1, 0) + portable


def z85(data: bytes) -> str:
    text = ""
    for at in range(0, len(data), 4):
        number, part = int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "big"), ""
        for _ in range(5):
            part = _Z85[number % 85] + part
            number //= 85
        text += part
    return text


def imported(tables: Tables, folder: str = "raw") -> SnapshotRef:
    return tables.adapter.snapshot("tx", {KEY: folder})[KEY]


def with_vector(path: Path, vector: dict[str, Any]) -> Path:
    """A table of rows 1 to 4 in one file, where a deletion vector takes the second."""
    write_deltalake(str(path), batch([row(number) for number in range(1, 5)]))

    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            features = ["deletionVectors"]
            action["protocol"] = {
                "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
            }  # fmt: skip
        if "metaData" in action:
            action["metaData"]["configuration"] = {"plait.key-columns": "id"}
        if "add" in action:
            action["add"]["deletionVector"] = vector

    edit_log(path, change)
    return path


def inline_vector(*deleted: int) -> dict[str, Any]:
    data = bitmap(*deleted)
    return {"storageType": "i", "pathOrInlineDv": z85(data), "sizeInBytes": len(data), "cardinality": len(deleted)}


def file_vector(folder: Path, *deleted: int) -> dict[str, Any]:
    """In a file of its own: a version, then size, bitmap and checksum."""
    import zlib

    data = bitmap(*deleted)
    folder.mkdir(parents=True, exist_ok=True)
    content = b"\x01" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    (folder / f"deletion_vector_{VECTOR_UUID}.bin").write_bytes(content)
    return {
        "storageType": "u", "pathOrInlineDv": VECTOR_TEXT, "offset": 1,
        "sizeInBytes": len(data), "cardinality": len(deleted),
    }  # fmt: skip


@pytest.mark.parametrize("tables", ["folder", pytest.param("seaweedfs", marks=pytest.mark.s3server)], indirect=True)
@pytest.mark.parametrize("kind", ["inline", "file"])
def test_deletion_vectors_are_carried_read_and_merged(tables: Tables, kind: str, tmp_path: Path) -> None:
    vector = inline_vector(1) if kind == "inline" else file_vector(tmp_path / "raw", 1)
    tables.lay(with_vector(tmp_path / "raw", vector), "raw")
    left = [row(1), row(3), row(4)]
    assert tables.head("raw") == left
    base = imported(tables)
    port = tables.port({KEY: base})
    staging = port.add(KEY)
    assert rows_in(staging.location, storage=tables.storage) == left
    assert ordered(tables.table(port).read().to_pylist()) == left
    assert [one.item for one in tables.adapter.diff(None, base) if one.aspect == "row"] == ["id=1", "id=3", "id=4"]
    ours, theirs = (
        tables.change(base, correct(row(1, "cap"))),
        tables.change(base, correct(row(3, "ink")), append(row(5))),
    )
    merged = tables.merged(base, ours, theirs)
    expected = ordered([row(1, "cap"), row(3, "ink"), row(4), row(5)])
    assert tables.read(merged) == expected
    assert tables.adapter.verify(base, Depth.BYTES).problems == ()
    tables.published(base, merged)
    assert tables.head("raw") == expected
    tables.published(merged, base)
    assert tables.head("raw") == left


def test_a_vectors_file_is_needed_and_missed(tables: Tables) -> None:
    with_vector(tables.path / "raw", file_vector(tables.path / "raw", 1))
    base = imported(tables)
    name = f"deletion_vector_{VECTOR_UUID}.bin"
    assert any(item.path.endswith(name) for item in tables.adapter.reachable(base))
    os.unlink(tables.path / "raw" / name)
    assert any(name in problem for problem in tables.adapter.verify(base, Depth.METADATA).problems)


def test_the_protocols_own_example_of_a_vectors_path() -> None:
    """Source: Delta Transaction Log Protocol, "Deletion Vector Descriptor Schema"."""
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "sizeInBytes": 40, "cardinality": 6}
    assert vector_path({"path": "x", "deletionVector": vector}) == f"ab/deletion_vector_{VECTOR_UUID}.bin"


def test_renamed_columns_are_read_and_written_by_their_physical_names(tables: Tables) -> None:
    path = tables.path / "raw"
    physical = pa.schema([("col-1", pa.int64()), ("col-2", pa.string()), ("col-3", pa.int64())])
    made = [{"col-1": number, "col-2": "pen", "col-3": 1} for number in (1, 2)]
    write_deltalake(str(path), batch(made, physical))

    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            for number, (field, name) in enumerate(zip(schema["fields"], ("id", "item", "price"), strict=True), 1):
                field["metadata"] = {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": field["name"],
                }
                field["name"] = name
            action["metaData"]["schemaString"] = json.dumps(schema)
            action["metaData"]["configuration"] = {
                "delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3", "plait.key-columns": "id",
            }  # fmt: skip

    edit_log(path, change)
    base = imported(tables)
    ours, theirs = tables.change(base, correct(row(1, "cap"))), tables.change(base, correct(row(2, "ink")))
    merged = tables.merged(base, ours, theirs)
    tables.published(base, merged)
    assert rows_in(path) == ordered([row(1, "cap"), row(2, "ink")])


def test_files_outside_of_the_table_are_refused_before_anything_is_written(tables: Tables) -> None:
    path = tables.path / "raw"
    write_deltalake(str(path), batch([row(1)]))

    def change(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["path"] = f"file:///elsewhere/{action['add']['path']}"

    edit_log(path, change)
    before = sorted(tables.path.rglob("*"))
    with pytest.raises(Unsupported, match="outside of its table"):
        imported(tables)
    assert sorted(tables.path.rglob("*")) == before


# -- checkpoints -------------------------------------------------------------------------------------------------------


def big_table(tables: Tables) -> Path:
    path = tables.path / "raw"
    for number in range(6):
        write_deltalake(str(path), batch([row(number)]), mode="append")
    DeltaTable(str(path)).delete("id = 2")
    DeltaTable(str(path)).create_checkpoint()
    write_deltalake(str(path), batch([row(9)]), mode="append")
    return path


LEFT: Rows = [row(number) for number in (0, 1, 3, 4, 5, 9)]


def drop_commits(path: Path, *, before: int) -> None:
    for version in range(before):
        (path / "_delta_log" / f"{version:020}.json").unlink()


def check_works(tables: Tables, path: Path) -> None:
    base = imported(tables)
    assert tables.read(base) == LEFT
    after = tables.change(base, append(row(10)))
    assert tables.read(after) == ordered([*LEFT, row(10)])
    tables.published(base, after)
    assert rows_in(path) == ordered([*LEFT, row(10)])
    assert tables.adapter.verify(after, Depth.BYTES).problems == ()


def test_a_log_that_begins_with_a_checkpoint_is_read(tables: Tables) -> None:
    path = big_table(tables)
    drop_commits(path, before=7)
    check_works(tables, path)
    with pytest.raises(NotFound, match="is gone"):
        read_state(Root(str(path), str(path), DiskFiles(lambda name: None)), 3)


def test_a_checkpoint_in_parts_is_read_only_when_it_is_whole(tables: Tables) -> None:
    path = big_table(tables)
    log = path / "_delta_log"
    whole = log / f"{6:020}.checkpoint.parquet"
    rows = pq.read_table(whole)
    half = rows.num_rows // 2
    for number, part in enumerate((rows.slice(0, half), rows.slice(half)), 1):
        pq.write_table(part, log / f"{6:020}.checkpoint.{number:010}.{2:010}.parquet")
    whole.unlink()
    (log / "_last_checkpoint").unlink()
    drop_commits(path, before=7)
    check_works(tables, path)
    (log / f"{6:020}.checkpoint.{2:010}.{2:010}.parquet").unlink()
    with pytest.raises(NotFound):
        read_state(Root(str(path), str(path), DiskFiles(lambda name: None)), 7)


def test_a_v2_checkpoint_with_sidecars_is_read(tables: Tables) -> None:
    path = big_table(tables)
    root = Root(str(path), str(path), DiskFiles(lambda name: None))
    before = read_state(root)
    log = path / "_delta_log"
    whole = log / f"{6:020}.checkpoint.parquet"
    rows = pq.read_table(whole)
    (log / "_sidecars").mkdir()
    pq.write_table(rows.filter(rows["add"].is_valid()).select(["add"]), log / "_sidecars" / "s.parquet")
    lines: list[dict[str, Any]] = [{"checkpointMetadata": {"version": 6}}, {"sidecar": {"path": "s.parquet"}}]
    lines += [{"metaData": dict(before.metadata)}, {"protocol": dict(before.protocol)}]
    name = f"{6:020}.checkpoint.{VECTOR_UUID}.json"
    (log / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole.unlink()
    drop_commits(path, before=7)
    after = read_state(root)
    assert after.digest() == before.digest()
    (log / "_sidecars" / "s.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(Corrupt, match=r"s\.parquet"):
        read_state(root)


def test_a_gap_in_a_log_is_corrupt(tables: Tables) -> None:
    path = tables.path / "raw"
    for number in range(3):
        write_deltalake(str(path), batch([row(number)]), mode="append")
    (path / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(Corrupt, match="version 1 is missing"):
        imported(tables)


def test_a_long_history_of_publications_gets_checkpoints(tables: Tables) -> None:
    before = tables.create([row(0)])
    tables.published(None, before)
    one, other = before, tables.change(before, append(row(1)))
    for _ in range(50):
        tables.published(one, other)
        tables.published(other, one)
    assert (tables.path / "hourly" / "_delta_log" / f"{100:020}.checkpoint.parquet").exists()
    assert rows_in(tables.path / "hourly") == [row(0)]


# -- other writers -----------------------------------------------------------------------------------------------------


def test_a_foreign_commit_in_the_last_moment_wins(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    tables.published(None, base)

    def write(name: str) -> None:
        if name == "delta.publish.before_commit":
            tables.foreign(row(3))

    with armed(write):
        found = tables.publish(base, after)
    assert found.state is PublishState.DIVERGED
    assert rows_in(tables.path / "hourly") == ordered([row(1), row(3)])


def test_a_foreign_vacuum_of_the_table_spares_branches_and_commits(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    tables.published(None, base)
    branch = tables.change(base, correct(row(1, "cap")))
    after = tables.change(base, delete("id = 1"))
    tables.published(base, after)
    deleted = DeltaTable(str(tables.path / "hourly")).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True
    )
    assert deleted == []
    for snapshot in (base, branch, after):
        assert tables.adapter.verify(snapshot, Depth.BYTES).problems == ()


@pytest.mark.parametrize(("interval", "is_risk"), [("", False), ("interval 100 years", True), ("2 weeks", True)])
def test_a_vacuum_of_others_spares_what_commits_need_or_is_told_as_a_risk(
    tables: Tables, interval: str, is_risk: bool
) -> None:
    settings = {"delta.deletedFileRetentionDuration": interval} if interval else None
    tables.published(None, tables.create([row(1)], configuration=settings))
    tables.foreign(row(2))  # Into the table's own folder: what plait adds is in one that vacuums pass over.
    adopted = tables.adapter.snapshot("tx", {KEY: "hourly"})[KEY]
    tables.published(adopted, tables.change(adopted, correct(row(2, "cap"))))
    assert any("deletedFile" in risk.rule for risk in tables.adapter.retention_risks()) == is_risk
    folder, month_ms = tables.path / "hourly", 30 * 24 * 3600 * 1000

    def age(action: dict[str, Any]) -> None:
        if "remove" in action:
            action["remove"]["deletionTimestamp"] -= month_ms

    edit_log(folder, age, 2)
    assert (DeltaTable(str(folder)).vacuum(dry_run=True) != []) == is_risk


def test_rules_that_delete_what_commits_need_are_told(tables: Tables) -> None:
    write_deltalake(str(tables.path / "raw"), batch([row(1)]))
    rules = {(risk.affects, risk.rule.split("=")[0]) for risk in tables.adapter.retention_risks()}
    assert rules == {("raw", "delta.deletedFileRetentionDuration"), ("raw", "delta.logRetentionDuration")}


def test_a_store_can_be_moved_as_a_whole(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    tables.published(None, base)
    moved = Tables(type(tables.adapter), tables.path.parent / "moved")
    shutil.move(tables.path, moved.path)
    assert moved.read(after) == ordered([row(1), row(2)])
    moved.published(base, after)
    assert rows_in(moved.path / "hourly") == ordered([row(1), row(2)])


def test_a_table_on_which_delta_rs_turned_deletion_vectors_on_is_kept(tables: Tables) -> None:
    folder = tables.path / "raw"
    rows = batch([row(number) for number in range(1, 4)])
    write_deltalake(str(folder), rows, configuration={"delta.enableDeletionVectors": "true"})
    assert "variantType" in (DeltaTable(str(folder)).protocol().reader_features or ())
    port = tables.port({KEY: imported(tables)})
    staging = port.add(KEY)
    DeltaTable(staging.location).delete("id = 2")
    vote = tables.adapter.prepare(port.tx, 1, {KEY: staging})[KEY]
    assert vote is not None
    assert rows_in(Path(tables.adapter.locate(vote).uri)) == [row(1), row(3)]


def test_a_column_of_type_variant_is_refused(tables: Tables) -> None:
    folder = tables.path / "raw"
    write_deltalake(str(folder), batch([row(1)]), configuration={"delta.enableDeletionVectors": "true"})

    def change(action: dict[str, Any]) -> None:
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            nested = {"type": "array", "elementType": "variant", "containsNull": True}
            schema["fields"].append({"name": "any", "type": nested, "nullable": True, "metadata": {}})
            action["metaData"]["schemaString"] = json.dumps(schema)

    edit_log(folder, change)
    with pytest.raises(Unsupported, match="variantType"):
        imported(tables)


def test_all_features_that_keep_a_table_out_are_named(tables: Tables) -> None:
    write_deltalake(str(tables.path / "raw"), batch([row(1)]))

    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            listed = ["appendOnly", "domainMetadata", "rowTracking"]  # Row tracking brings the other with it.
            action["protocol"] = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": listed}

    edit_log(tables.path / "raw", change)
    with pytest.raises(Unsupported, match="cannot keep: 'domainMetadata', 'rowTracking'"):
        imported(tables)


def test_a_table_that_delta_rs_itself_cannot_read_stays_out(tables: Tables) -> None:
    write_deltalake(str(tables.path / "raw"), batch([row(1)]))
    shutil.move(tables.path / "raw", tables.path / "100%25")
    (found,) = tables.adapter.discover("")
    assert "cannot be read by delta-rs" in found.refusal
    with pytest.raises(Unsupported, match="cannot be read by delta-rs"):
        tables.adapter.snapshot("tx", {KEY: "100%25"})
