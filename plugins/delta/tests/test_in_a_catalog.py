"""Whole commits, merges, reverts and publications through plait's catalog."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import plait
import plait_delta
import pytest
from deltalake import DeltaTable, write_deltalake
from plait.catalog import Catalog
from plait.errors import CommitConflict, InvalidArgument, Unsupported
from plait.failpoint import arm_from_environment
from plait.plugins import Plugins
from plait.types import Choice, Depth, Mode
from plait_conformance.delta_tables import ROWS, Rows, batch, ordered, row, rows_in
from plait_conformance.killing import Place, kill_at
from plait_delta.disk import DiskFiles
from plait_delta.table import Namespace, SnapshotTable, WorkingTable

HOURLY = "weather.hourly"


def opened(folder: Path) -> Catalog:
    return plait.open(str(folder / "catalog"), plugins=Plugins([plait_delta], installed=False))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    plait.init(str(tmp_path / "catalog")).close()
    with opened(tmp_path) as made:
        made.add_store("weather", "delta", {"path": str(tmp_path / "tables")})
        with made.transaction(message="create") as tx:
            namespace = cast(Namespace, tx.store("weather"))
            namespace.create_table("hourly", ROWS, key_columns=["id"]).append(batch([row(1), row(2)]))
        yield made


def correct(catalog: Catalog, ref: str, number: int, item: str) -> None:
    with catalog.transaction(ref, message=f"{number} is a {item}") as tx:
        cast(WorkingTable, tx.open(HOURLY)).update(new_values={"item": item}, predicate=f"id = {number}")


def held(catalog: Catalog, spec: str = "main") -> Rows:
    """Read by plain deltalake, where `locate` says."""
    location = catalog.at(spec).locate(HOURLY)
    return rows_in(location.uri, int(location.options["version"]))


def test_any_delta_client_writes_into_a_working_set(catalog: Catalog) -> None:
    tx = catalog.begin(message="by hand")
    write_deltalake(tx.locate(HOURLY).uri, batch([row(3)]), mode="append")
    assert held(catalog) == ordered([row(1), row(2)])
    tx.commit()
    assert held(catalog) == ordered([row(1), row(2), row(3)])


def test_branches_merge_by_row_and_a_revert_takes_it_back(catalog: Catalog) -> None:
    catalog.create_branch("dev")
    correct(catalog, "dev", 1, "cap")
    correct(catalog, "main", 2, "ink")
    catalog.merge("dev")
    assert held(catalog) == ordered([row(1, "cap"), row(2, "ink")])
    assert [change.item for change in catalog.diff_items(HOURLY, "main~1", "main")] == ["id=1"]
    catalog.revert("main", "main")
    assert held(catalog) == ordered([row(1), row(2, "ink")])
    assert held(catalog, "main~1") == ordered([row(1, "cap"), row(2, "ink")])
    assert list(catalog.verify(Depth.BYTES)) == []


def test_damage_to_the_log_that_others_read_is_found(catalog: Catalog, tmp_path: Path) -> None:
    correct(catalog, "main", 1, "cap")
    for harm in (b"", b"{}", b"{"):
        log = tmp_path / "tables" / "hourly" / "_delta_log" / f"{0:020}.json"
        whole = log.read_bytes()
        log.write_bytes(harm)
        (problem,) = catalog.verify()
        assert "hourly" in problem.what
        assert problem.code == "CORRUPT"
        log.write_bytes(whole)
    assert list(catalog.verify()) == []


def test_what_the_own_and_the_published_log_name_is_hashed_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct(catalog, "main", 1, "cap")
    hashed: list[str] = []
    sha256 = DiskFiles.sha256

    def note(self: DiskFiles, place: str, *, trusting: bool = False) -> str:
        hashed.append(place)
        return sha256(self, place, trusting=trusting)

    monkeypatch.setattr(DiskFiles, "sha256", note)
    assert list(catalog.verify(Depth.BYTES)) == []
    assert hashed
    assert len(hashed) == len(set(hashed))


@pytest.mark.slow
def test_a_commit_reads_the_log_since_the_last_one_not_the_files_that_a_table_holds(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sizes = DiskFiles.read, [0]

    def counting(files: DiskFiles, place: str) -> bytes:
        data = read(files, place)
        sizes[-1] += len(data)
        return data

    monkeypatch.setattr(DiskFiles, "read", counting)
    for number in range(40):
        sizes.append(0)
        with catalog.transaction(message=f"{number}") as tx:
            cast(WorkingTable, tx.open(HOURLY)).append(batch([row(number + 3)]))
    assert max(sizes[30:]) < 1.1 * max(sizes[5:15])


def test_blame_of_rows_that_share_a_key_names_who_last_wrote_one_of_them(catalog: Catalog) -> None:
    for item in ("cap", "hat"):
        with catalog.transaction(message=f"1 is a {item} too") as tx:
            cast(WorkingTable, tx.open(HOURLY)).append(batch([row(1, item)]))
    for before, after in (("hat", "ink"), ("cap", "pen")):
        with catalog.transaction(message=f"the {before} is a {after}") as tx:
            cast(WorkingTable, tx.open(HOURLY)).update(new_values={"item": after}, predicate=f"item = '{before}'")
        blamed = {one.item: one.commit.message for one in catalog.blame(HOURLY)}
        assert blamed == {"id=1": f"the {before} is a {after}", "id=2": "create"}


def test_the_table_in_the_folder_follows_main(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "hourly"
    correct(catalog, "main", 1, "cap")
    assert catalog.publish() == []
    assert rows_in(folder) == ordered([row(1, "cap"), row(2)])
    catalog.revert("main", "main")
    assert catalog.publish() == []
    assert rows_in(folder) == ordered([row(1), row(2)])
    assert [one["operation"] for one in DeltaTable(str(folder)).history()] == ["PLAIT PUBLISH"] * 3


def test_a_conflict_is_settled_by_row(catalog: Catalog) -> None:
    catalog.create_branch("dev")
    correct(catalog, "dev", 1, "cap")
    correct(catalog, "main", 1, "ink")
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("dev")
    assert [conflict.item for conflict in caught.value.conflicts] == ["id=1"]
    (tx,) = catalog.working_sets()
    working = catalog.working_set(tx.id)
    working.resolve(HOURLY, Choice.THEIRS, item="id=1")
    working.commit()
    assert held(catalog) == ordered([row(1, "cap"), row(2)])


def test_a_row_is_restored_from_a_past_commit(catalog: Catalog) -> None:
    correct(catalog, "main", 1, "cap")
    correct(catalog, "main", 2, "cap")
    with catalog.transaction(message="take one back") as tx:
        tx.restore(HOURLY, "main~2", items=["id=1"])
    assert held(catalog) == ordered([row(1), row(2, "cap")])


def test_a_past_commit_is_opened_for_reading(catalog: Catalog) -> None:
    correct(catalog, "main", 1, "cap")
    table = cast(SnapshotTable, catalog.at("main~1").open(HOURLY))
    assert ordered(table.read().to_pylist()) == ordered([row(1), row(2)])


def test_what_somebody_wrote_past_plait_is_adopted(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "hourly"
    catalog.publish()
    write_deltalake(str(folder), batch([row(9)]), mode="append")
    correct(catalog, "main", 1, "cap")
    (left,) = catalog.publish()
    assert left.state == "diverged"
    assert rows_in(folder) == ordered([row(1), row(2), row(9)])
    assert catalog.adopt(HOURLY) is not None
    assert catalog.publish() == []
    assert rows_in(folder) == held(catalog) == ordered([row(1, "cap"), row(2), row(9)])


def test_a_table_of_before_is_imported_in_place_and_worked_on(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "old"
    write_deltalake(str(folder), batch([row(5)]))
    catalog.import_assets({("weather", "daily"): "old"})
    assert catalog.publish() == []
    assert DeltaTable(str(folder)).version() == 0
    with catalog.transaction(message="more") as tx:
        cast(WorkingTable, tx.open("weather.daily")).append(batch([row(6)]))
    assert catalog.publish() == []
    assert rows_in(folder) == ordered([row(5), row(6)])


def test_a_dropped_and_a_renamed_table(catalog: Catalog, tmp_path: Path) -> None:
    catalog.publish()
    with catalog.transaction(message="rename") as tx:
        tx.rename(HOURLY, "weather.daily")
    assert catalog.publish() == []
    assert rows_in(tmp_path / "tables" / "hourly") == ordered([row(1), row(2)])
    with catalog.transaction(message="drop") as tx:
        tx.drop("weather.daily")
    assert catalog.publish() == []
    assert rows_in(tmp_path / "tables" / "hourly") == []
    catalog.revert("main", "main")
    assert catalog.publish() == []
    assert rows_in(tmp_path / "tables" / "hourly") == ordered([row(1), row(2)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "committed"),
    [
        ("delta.prepare.after_record", False),
        ("publisher.claimed", True),
        ("delta.publish.before_commit", True),
        ("delta.disk.before_fsync", False),
        ("delta.publish.after_commit", True),
    ],
)
def test_a_process_killed_on_the_way_is_recovered_from(
    catalog: Catalog, tmp_path: Path, place: str, committed: bool
) -> None:
    catalog.publish()
    kill_at(Path(__file__), [str(tmp_path)], Place(place, 1))
    with opened(tmp_path) as recovered:
        assert recovered.publish() == []
        expected = ordered([row(1, "cap" if committed else "pen"), row(2)])
        assert held(recovered) == expected
        assert rows_in(tmp_path / "tables" / "hourly") == expected
        correct(recovered, "main", 2, "ink")
        assert recovered.publish() == []
        assert list(recovered.verify(Depth.BYTES)) == []


def main(folder: Path) -> None:
    """What the child does, until it kills itself."""
    arm_from_environment()
    with opened(folder) as catalog:
        correct(catalog, "main", 1, "cap")
        catalog.publish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))


def test_an_older_append_to_an_append_only_table_is_not_reverted_beside_newer_ones(catalog: Catalog) -> None:
    with catalog.transaction(message="append only") as tx:
        cast(WorkingTable, tx.open(HOURLY)).alter.set_table_properties({"delta.appendOnly": "true"})
    for number in (3, 4):
        with catalog.transaction(message=f"row {number}") as tx:
            cast(WorkingTable, tx.open(HOURLY)).append(batch([row(number)]))
    with pytest.raises(CommitConflict) as caught:
        catalog.revert("main~1", "main")
    assert "append-only" in caught.value.conflicts[0].detail
    assert held(catalog) == ordered([row(1), row(2), row(3), row(4)])


def test_rows_of_an_append_only_table_are_not_reverted(catalog: Catalog) -> None:
    with catalog.transaction(message="append only") as tx:
        cast(WorkingTable, tx.open(HOURLY)).alter.set_table_properties({"delta.appendOnly": "true"})
    with catalog.transaction(message="more") as tx:
        cast(WorkingTable, tx.open(HOURLY)).append(batch([row(3)]))
    head = catalog.resolve("main")
    with pytest.raises(InvalidArgument, match=r"append-only, and 1 rows of it would go · unset its property"):
        catalog.revert("main", "main")
    assert catalog.resolve("main") == head
    assert held(catalog) == ordered([row(1), row(2), row(3)])
    assert catalog.working_sets() == []
    with catalog.transaction(message="compacted") as tx:  # Files go, rows do not.
        cast(WorkingTable, tx.open(HOURLY)).optimize.compact()
    assert [commit.message for commit in catalog.log()][:3] == ["compacted", "more", "append only"]
    catalog.revert("main~2", "main")  # The property goes, and with that all is as in any table.
    catalog.revert(f"@{head.id}", "main")
    assert held(catalog) == ordered([row(1), row(2)])


def test_a_pointer_store_takes_tables_that_plait_could_not_write_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "hourly"
    write_deltalake(str(folder), batch([row(1)]))
    log = folder / "_delta_log" / f"{0:020}.json"
    tracked = '"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["domainMetadata","rowTracking"]}'
    log.write_text(re.sub(r'"protocol":\{[^}]*\}', tracked, log.read_text()))
    before = sorted((tmp_path / "tables").rglob("*"))
    plait.init(str(tmp_path / "catalog")).close()
    with opened(tmp_path) as catalog:
        catalog.add_store("weather", "delta", {"path": str(tmp_path / "tables")}, mode=Mode.POINTER)
        catalog.import_assets({("weather", "hourly"): "hourly"})
        assert held(catalog) == [row(1)]
        assert list(catalog.verify(Depth.BYTES)) == []
        with pytest.raises(Unsupported, match="only records"), catalog.transaction(message="write") as tx:
            tx.open(HOURLY)
    assert sorted((tmp_path / "tables").rglob("*")) == before


def test_a_damaged_claim_of_a_folder_stops_no_write(catalog: Catalog, tmp_path: Path) -> None:
    claim = tmp_path / "tables" / "hourly" / "_branches" / "claim"
    claim.write_bytes(b"\xff" + claim.read_bytes()[1:])
    correct(catalog, "main", 1, "mace")
    assert held(catalog) == ordered([row(1, "mace"), row(2)])
