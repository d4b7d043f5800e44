"""What is decoded once only: files by their bytes, never by their names; and what is flushed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
from plait.errors import Corrupt
from plait_conformance.tables import Tables, append, order, static
from plait_iceberg import IcebergAdapter, files
from plait_iceberg.avro import read_list, read_manifest
from plait_iceberg.memory import Memory
from plait_iceberg.metadata import load
from pyiceberg.manifest import ManifestEntry, read_manifest_list
from pyiceberg.table import Table
from pyiceberg.types import StringType


def path_of(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def test_the_latest_that_fit_are_kept() -> None:
    memory: Memory[str] = Memory(8)
    made: list[str] = []

    def get(key: str, size: int = 2) -> str:
        def make() -> str:
            made.append(key)
            return f"made of {key}"

        return memory.get(key, size, make)

    for key in "abcd":
        assert get(key) == f"made of {key}"
    assert get("a") == "made of a"
    get("e")
    assert made == list("abcde")
    assert [get(key) for key in "acde"] == [f"made of {key}" for key in "acde"]
    assert made == list("abcde")
    get("b")
    assert made == list("abcdeb")
    get("large", 3)
    get("large", 3)
    assert made == [*"abcdeb", "large", "large"]


def test_what_fails_is_tried_again() -> None:
    memory: Memory[int] = Memory(8)
    with pytest.raises(ZeroDivisionError):
        memory.get("a", 1, lambda: 1 // 0)
    assert memory.get("a", 1, lambda: 1) == 1


def said(entry: ManifestEntry) -> list[object]:
    """What an entry says of itself and of its file, maps that are decoded later included."""
    parts = [*entry._data[:4], *entry.data_file._data, entry.data_file.spec_id]
    return [dict(one) if isinstance(one, Mapping) else one for one in parts]


def test_lists_and_manifests_say_what_pyiceberg_reads_in_them(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    ours, theirs = tables.change(base, append(order(2))), tables.change(base, append(order(3)))
    merged = tables.merged(base, ours, theirs)
    io = adapter.files.io
    snapshot = static(merged).current_snapshot()
    assert snapshot is not None
    for _ in range(2):
        found = read_list(io, snapshot.manifest_list)
        expected = list(read_manifest_list(io.new_input(snapshot.manifest_list)))
        assert [one._data for one in found] == [one._data for one in expected]
        for manifest in expected:
            entries = manifest.fetch_manifest_entry(io)
            assert [said(one) for one in read_manifest(io, manifest)] == [said(one) for one in entries]


def test_a_file_that_changed_since_it_was_read_is_read_anew(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    ours, theirs = tables.change(base, append(order(2))), tables.change(base, append(order(3)))
    snapshot = static(theirs).current_snapshot()
    assert snapshot is not None
    known = path_of(snapshot.manifest_list).read_bytes()
    read_list(adapter.files.io, snapshot.manifest_list)
    path_of(snapshot.manifest_list).write_bytes(b"Obj\x01 and no more")
    with pytest.raises(Corrupt, match="cannot be decoded"):
        tables.merged(base, ours, theirs)
    path_of(snapshot.manifest_list).write_bytes(known)
    path_of(theirs.version).write_bytes(path_of(base.version).read_bytes())
    with pytest.raises(Corrupt, match="somebody overwrote it"):
        tables.merged(base, ours, theirs)


def test_the_model_without_history_says_the_same_of_the_table(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    version = load(adapter.files, tables.change(base, append(order(2)), append(order(3))).version)
    full, current = version.table, version.current
    assert current.current_snapshot() == full.current_snapshot()
    assert len(current.snapshots) == 1 < len(full.snapshots)
    logs = {"snapshots", "snapshot_log", "metadata_log"}
    assert current.model_dump(exclude=logs) == full.model_dump(exclude=logs)
    assert load(adapter.files, version.location).current is current
    assert load(adapter.files, version.location).table is not full  # Users get it, who may change it.


def with_column(name: str) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        with table.update_schema() as update:
            update.add_column(name, StringType())
        with table.transaction() as transaction:
            transaction.set_properties({name: "here"})

    return change


def test_a_merge_leaves_as_it_was_what_others_share(tables: Tables, adapter: IcebergAdapter) -> None:
    base = tables.create([order(1)])
    sides = [base, *(tables.change(base, append(order(n)), with_column(f"c{n}")) for n in (2, 3))]
    read = [load(adapter.files, one.version) for one in sides]
    said_before = [(deepcopy(one.document), one.current.model_dump()) for one in read]
    tables.merged(*sides)
    again = [load(adapter.files, one.version) for one in sides]
    assert all(one.document is other.document for one, other in zip(read, again, strict=True))
    assert [(one.document, one.current.model_dump()) for one in again] == said_before


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(files, "fsync", lambda path: found.append(str(path)))
    return found


def test_a_merge_flushes_each_of_its_files_once(tables: Tables, flushed: list[str]) -> None:
    base = tables.create([order(1)])
    ours, theirs = tables.change(base, append(order(2))), tables.change(base, append(order(3)))
    flushed.clear()
    merged = tables.merged(base, ours, theirs)
    metadata = path_of(merged.version).parent
    assert flushed.count(str(metadata)) == 2  # Before the metadata file names the others, and after it is there.
    files = [one for one in flushed if not Path(one).is_dir()]
    assert len(files) == len(set(files)) == 3  # A manifest, the list, and their hashes.
    assert {Path(one).parent for one in files} == {metadata}


def test_a_vote_flushes_each_file_that_its_commit_brings(
    tables: Tables, adapter: IcebergAdapter, flushed: list[str]
) -> None:
    base = tables.create([order(1)])
    flushed.clear()
    after = tables.change(base, append(order(2)), append(order(3)))
    new = {item.path for item in adapter.reachable(after)} - {item.path for item in adapter.reachable(base)}
    assert len(new) == 2 * len([".parquet", "manifest", "manifest list", "hashes", ".metadata.json"])
    assert {str(path_of(one)) for one in new} == {one for one in flushed if not Path(one).is_dir()}


def test_folders_that_lead_to_new_files_are_flushed(
    adapter: IcebergAdapter, warehouse: Path, flushed: list[str]
) -> None:
    new = warehouse / "a/x/y/2"
    new.parent.mkdir(parents=True)
    new.touch()
    adapter.files.sync([f"file://{new}"])
    assert flushed == [str(new), *(str(warehouse / folder) for folder in ("a/x/y", "a/x", "a")), str(warehouse)]
    shutil.rmtree(warehouse / "a")
