"""Warehouses on S3: what holds on a disk holds on real servers, through the catalog and by the adapter alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import plait
import pytest
from plait.catalog import Catalog
from plait.errors import CommitConflict, NotFound, PermissionDenied
from plait.failpoint import armed
from plait.types import Choice, Depth, Key, SnapshotRef, Store
from plait_conformance.s3_servers import S3Server, make_bucket, seaweedfs_server, versitygw_server
from plait_conformance.tables import KEY, KEYED, Tables, append, correct, order
from plait_conformance.testing import MemoryPort, make_adapter
from plait_iceberg import IcebergAdapter
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

pytestmark = pytest.mark.s3server
ORDERS: Key = KEY
BUCKET = "warehouse"


class Died(BaseException):
    """What a test's failpoint raises: no production code catches it."""


@pytest.fixture(scope="module", params=["seaweedfs", "versitygw"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    starts = {"seaweedfs": seaweedfs_server, "versitygw": versitygw_server}[request.param]
    with starts(tmp_path_factory.mktemp(request.param)) as started:
        make_bucket(started, BUCKET)
        yield started


@pytest.fixture
def options(server: S3Server) -> Mapping[str, str]:
    return {
        "warehouse": f"s3://{BUCKET}/{uuid.uuid4()}",
        "s3.endpoint": server.endpoint,
        "s3.access-key-id": server.access_key,
        "s3.secret-access-key": server.secret_key,
        "s3.region": "us-east-1",
    }


@pytest.fixture
def catalog(
    options: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Catalog]:
    """At the end, every byte that the history names is there."""
    monkeypatch.setenv("PLAIT_TEST_SECRET", options["s3.secret-access-key"])
    with plait.init(str(tmp_path_factory.mktemp("catalog"))) as made:
        made.add_store("lake", "iceberg", {**options, "s3.secret-access-key": "env:PLAIT_TEST_SECRET"})
        with made.transaction(message="create") as tx:
            cast(IcebergCatalog, tx.store("lake")).create_table("sales.orders", KEYED)
        yield made
        assert list(made.verify(Depth.BYTES)) == []


def write(catalog: Catalog, ref: str, change: Callable[[Table], None]) -> None:
    with catalog.transaction(ref, message="write") as tx:
        change(cast(Table, tx.open(ORDERS)))


def held(catalog: Catalog, spec: str) -> list[tuple[int, str, int]]:
    found = cast(Table, catalog.at(spec).open(ORDERS)).scan().to_arrow().to_pylist()
    return sorted((row["id"], row["item"], row["price"]) for row in found)


def test_branches_merge_by_row_and_a_revert_takes_it_back(catalog: Catalog) -> None:
    write(catalog, "main", append(order(1), order(2), order(3)))
    catalog.create_branch("dev")
    write(catalog, "dev", correct(order(1, "ink")))
    write(catalog, "dev", append(order(4)))
    write(catalog, "main", correct(order(2, "cap")))
    catalog.merge("dev")
    assert held(catalog, "main") == [(1, "ink", 1), (2, "cap", 1), (3, "pen", 1), (4, "pen", 1)]
    changed = {change.item: change.kind.value for change in catalog.diff_items(ORDERS, "main~1", "main")}
    assert {item: kind for item, kind in changed.items() if item.startswith("id=")} == {
        "id=1": "changed",
        "id=4": "added",
    }
    catalog.revert("main")
    assert held(catalog, "main") == [(1, "pen", 1), (2, "cap", 1), (3, "pen", 1)]
    assert held(catalog, "main~1")[0] == (1, "ink", 1)


def test_a_conflict_is_settled_by_row(catalog: Catalog) -> None:
    write(catalog, "main", append(order(1), order(2)))
    catalog.create_branch("dev")
    write(catalog, "dev", correct(order(1, "theirs")))
    write(catalog, "main", correct(order(1, "ours")))
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("dev")
    assert [conflict.item for conflict in caught.value.conflicts] == ["id=1"]
    waiting = catalog.working_set(caught.value.details["tx"])
    waiting.resolve(ORDERS, Choice.THEIRS, item="id=1")
    waiting.commit()
    assert held(catalog, "main") == [(1, "theirs", 1), (2, "pen", 1)]


def test_the_stores_own_client_reads_any_version(catalog: Catalog, options: Mapping[str, str]) -> None:
    for number in (1, 2):
        write(catalog, "main", append(order(number)))
    for spec, count in (("main", 2), ("main~1", 1)):
        location = catalog.at(spec).locate(ORDERS)
        assert options["s3.secret-access-key"] not in repr(location)
        pasted: dict[str, Any] = {}
        exec(location.snippet.partition("-- DuckDB")[0], pasted)
        assert pasted["table"].metadata_location == location.uri
        assert pasted["table"].scan().to_arrow().num_rows == count


def test_a_discarded_working_set_leaves_no_rows(catalog: Catalog) -> None:
    tx = catalog.begin(name="dropped")
    append(order(9))(cast(Table, tx.open(ORDERS)))
    tx.discard()
    assert held(catalog, "main") == []


def test_a_table_is_renamed_and_dropped_in_one_commit(catalog: Catalog) -> None:
    write(catalog, "main", append(order(1)))
    with catalog.transaction(message="rename") as tx:
        names = cast(IcebergCatalog, tx.store("lake"))
        names.rename_table("sales.orders", "sales.renamed")
        names.create_table("sales.short", KEYED)
        names.drop_table("sales.short")
    assert [entry.key for entry in catalog.at("main").entries("lake")] == [("lake", "sales", "renamed")]


def test_an_existing_table_is_imported_in_place(catalog: Catalog) -> None:
    write(catalog, "main", append(order(1)))
    found = catalog.at("main").entry(ORDERS).snapshot
    folder = found.version.rpartition("/metadata/")[0]
    taken = ("lake", "sales", "taken")
    catalog.create_branch("other", "main~2")
    for location in (folder, found.version):
        catalog.import_assets({taken: location}, "other")
        assert catalog.at("other").entry(taken).snapshot == found
        taken = (*taken, "again")


# -- by the adapter alone ----------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(options: Mapping[str, str]) -> IcebergAdapter:
    return cast(IcebergAdapter, make_adapter(IcebergAdapter, Store("lake", "iceberg", options=dict(options))))


def merged(adapter: IcebergAdapter) -> SnapshotRef:
    """What two changes of a table were merged into."""
    tables = Tables(adapter)
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")), append(order(3)))
    theirs = tables.change(base, append(order(4)))
    return tables.merged(base, ours, theirs)


def ids(adapter: IcebergAdapter, snapshot: SnapshotRef) -> list[int]:
    return sorted(cast(Table, adapter.open(snapshot, None)).scan().to_arrow()["id"].to_pylist())


def test_a_fit_warehouse_lacks_nothing_and_wrong_keys_are_named(
    adapter: IcebergAdapter, options: Mapping[str, str]
) -> None:
    assert list(adapter.check()) == []
    wrong = {**options, "s3.secret-access-key": "wrong"}
    (found,) = make_adapter(IcebergAdapter, Store("lake", "iceberg", options=wrong)).check()
    assert "cannot be written" in found
    assert "check the store's credentials" in found
    assert "wrong" not in found


def test_keys_that_changed_count_at_once(
    catalog: Catalog, options: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_TEST_SECRET", "of before")
    with pytest.raises(PermissionDenied):
        write(catalog, "main", append(order(1)))
    monkeypatch.setenv("PLAIT_TEST_SECRET", options["s3.secret-access-key"])
    write(catalog, "main", append(order(1)))
    assert len(held(catalog, "main")) == 1


def test_a_missing_bucket_is_named(options: Mapping[str, str]) -> None:
    nowhere = {**options, "warehouse": "s3://nobody-made-this/warehouse"}
    adapter = make_adapter(IcebergAdapter, Store("lake", "iceberg", options=nowhere))
    with pytest.raises(NotFound, match="nobody-made-this"):
        adapter.snapshot("t1", {KEY: "s3://nobody-made-this/warehouse/t"})


def test_only_what_is_unreachable_can_go(adapter: IcebergAdapter) -> None:
    snapshot = merged(adapter)
    reached = {item.path for item in adapter.reachable(snapshot)}
    listed = {item.path: item for item in adapter.inventory()}
    assert reached < set(listed)
    assert all(item.modified_at_us > 1_000_000_000_000_000 for item in listed.values())
    adapter.delete(item for path, item in listed.items() if path not in reached)
    assert {item.path for item in adapter.inventory()} == reached
    assert ids(adapter, snapshot) == [1, 2, 3, 4]
    assert adapter.verify(snapshot, Depth.BYTES).problems == ()


@pytest.mark.parametrize("ending", [".parquet", "-m0.avro", ".metadata.json"])
def test_a_lost_file_is_found(adapter: IcebergAdapter, ending: str) -> None:
    snapshot = merged(adapter)
    lost = max(item.path for item in adapter.reachable(snapshot) if item.path.endswith(ending))
    if ending == ".metadata.json":
        lost = snapshot.version
    adapter.files.delete(lost)
    problems = adapter.verify(snapshot, Depth.METADATA).problems
    assert any(lost in problem for problem in problems), problems


def test_flipped_bytes_of_a_file_are_found(adapter: IcebergAdapter) -> None:
    snapshot = merged(adapter)
    hit = max(item.path for item in adapter.reachable(snapshot) if item.path.endswith(".parquet"))
    content = adapter.files.read(hit)
    with adapter.files.io.new_output(hit).create(overwrite=True) as stream:
        stream.write(bytes(64) + content[64:])
    assert adapter.verify(snapshot, Depth.METADATA).problems == ()
    assert [problem for problem in adapter.verify(snapshot, Depth.BYTES).problems if hit in problem]


def test_a_prepare_that_dies_anywhere_is_repeated_right(adapter: IcebergAdapter, options: Mapping[str, str]) -> None:
    tables = Tables(adapter)
    base = tables.create([order(1)])

    def staged() -> MemoryPort:
        port = tables.port({KEY: base})
        append(order(2))(tables.table(port))
        correct(order(1, "ink"))(tables.table(port))
        return port

    reached: list[str] = []
    port = staged()
    with armed(reached.append):
        tables.vote(port)
    assert reached
    for place, name in enumerate(reached):
        port = staged()
        left = iter(range(place))

        def die(name: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Died(name)

        with armed(die), pytest.raises(Died):
            tables.vote(port)
        again = cast(IcebergAdapter, make_adapter(IcebergAdapter, Store("lake", "iceberg", options=dict(options))))
        voted = again.prepare(port.tx, 1, port.stagings)[KEY]
        assert voted is not None, name
        assert ids(again, voted) == [1, 2], name
        assert again.verify(voted, Depth.BYTES).problems == (), name


def test_two_writers_of_one_staging_lose_nothing(adapter: IcebergAdapter) -> None:
    tables = Tables(adapter)
    port = tables.port({KEY: tables.create()})
    tables.table(port)

    def write(number: int) -> None:
        for _ in range(8):
            try:
                append(order(number))(tables.table(port))
                return
            except CommitFailedException:
                continue
        raise AssertionError(f"writer {number} was refused 8 times")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(8)))
    assert ids(adapter, tables.vote(port)) == list(range(8))
