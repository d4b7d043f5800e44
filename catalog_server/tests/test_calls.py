"""A served catalog answers as an embedded one does: every call, over a real process."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import grpc
import plait
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from plait import limits
from plait.backend import Side
from plait.catalog import Catalog
from plait.codec import ref_digest
from plait.errors import (
    AlreadyExists,
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    PlaitError,
    TransactionClosed,
)
from plait.graph import LogFilter
from plait.rpc.calls import SERVICE
from plait.types import (
    Choice,
    Commit,
    ConflictKind,
    Depth,
    EventKind,
    Mode,
    Proposal,
    Put,
    RefKind,
    Session,
    SnapshotRef,
    TxState,
    Unchanged,
)
from plait_conformance.fake_storage import write_behind
from plait_conformance.serving import ServerProcess, serving


def pointer(name: str, version: int) -> SnapshotRef:
    return SnapshotRef("p", "table", name, f"v{version}", version.to_bytes(32, "big"), {"where": name})


def put(name: str, version: int, expected: int | None = None) -> Put:
    return Put(("p", name), pointer(name, version), None if expected is None else ref_digest(pointer(name, expected)))


def asset(tx: plait.WorkingSet, key: str, *, create: bool = False) -> MutableMapping[str, str]:
    return cast("MutableMapping[str, str]", tx.open(key, create=create))


def test_every_call_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with plait.connect(server.url, session=Session("boss", "Ada", "tests", {"run": "7"})) as catalog:
            use_stores(catalog, tmp_path)
            use_pointers(catalog)
            use_working_sets(catalog)
            use_native_heads(catalog, tmp_path)
            use_tokens(catalog)
        with urllib.request.urlopen(f"{server.http}/metrics") as answer:
            metrics = answer.read().decode()
        assert '"level": "error"' not in server.log
    called = set(re.findall(r'plait_rpc_seconds_count{rpc="(\w+)"} [1-9]', metrics))
    assert called == set(SERVICE.methods_by_name)


def test_commits_of_many_threads_share_calls(tmp_path: Path) -> None:
    writers, commits = 16, 20
    with serving(tmp_path) as server:
        with plait.connect(server.url) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)

            def write(client: int) -> list[Commit]:
                return [
                    catalog.commit(Proposal("main", (put(f"{client}-{number}", 1),), message=f"{client}"))
                    for number in range(commits)
                ]

            with ThreadPoolExecutor(writers) as pool:
                written = list(pool.map(write, range(writers)))
            assert {commit.id for made in written for commit in made} < {commit.id for commit in catalog.log("main")}
            for client, made in enumerate(written):
                assert {commit.message for commit in made} == {str(client)}
                assert len({commit.id for commit in made}) == commits
        with urllib.request.urlopen(f"{server.http}/metrics") as answer:
            metrics = answer.read().decode()
    calls = sum(int(float(number)) for number in re.findall(r'plait_rpc_seconds_count{rpc="Commit\w*"} (\S+)', metrics))
    assert 0 < calls < writers * commits // 2


def use_stores(catalog: Catalog, folder: Path) -> None:
    assert catalog.add_store("p", "pointer", mode=Mode.POINTER) == []
    assert catalog.add_store("gone", "fake", {"path": str(folder / "gone")}) == []
    catalog.remove_store("gone")
    catalog.add_store("fake", "fake", {"path": str(folder / "first")})
    (folder / "first").rename(folder / "fake")
    assert catalog.set_store("fake", {"path": str(folder / "fake")}) == []
    catalog.add_store("heads", "fake-dolt", {"path": str(folder / "heads")})
    assert [store.name for store in catalog.stores()] == ["fake", "heads", "p"]
    assert catalog.stores()[0].options == {"path": str(folder / "fake")}
    assert catalog.check_store("fake") == ([], [])
    (folder / "fake").rename(folder / "away")
    (lack,), risks = catalog.check_store("fake")
    assert ("is not there" in lack.problem, "mount its disk" in lack.remedy, risks) == (True, True, [])
    assert catalog.add_store("fake", "fake", {"path": str(folder / "fake")}) == [lack]
    (folder / "away").rename(folder / "fake")


def use_pointers(catalog: Catalog) -> None:
    first = catalog.commit(Proposal("main", (put("a", 1),), message="one", properties={"job": "x"}))
    assert first.session == Session("anonymous", "Ada", "tests", {"run": "7"})
    results = catalog.commit_many([Proposal("main", (put("b", 1),)), Proposal("main", (put("a", 3, expected=9),))])
    assert isinstance(results[0], Commit)
    assert isinstance(results[1], CommitConflict)
    assert results[1].conflicts[0].kind is ConflictKind.VALUE_DIFFERS
    assert catalog.resolve("main") == results[0]
    assert catalog.resolve("main~1") == first
    assert [commit.id for commit in catalog.log("main", LogFilter(properties={"job": "x"}))] == [first.id]
    assert [entry.key for entry in catalog.at("main").entries(("p",))] == [("p", "a"), ("p", "b")]
    changes = list(catalog.diff(f"@{first.id}", "main"))
    assert [(change.key, change.before) for change in changes] == [(("p", "b"), None)]
    assert changes[0].after is not None
    assert changes[0].after.snapshot == pointer("b", 1)
    assert [(commit.id, change.key) for commit, change in catalog.history("p.a")] == [(first.id, ("p", "a"))]
    assert catalog.backend.get("main", [("p", "a"), ("p", "none")])[("p", "a")].snapshot == pointer("a", 1)
    dev = catalog.create_branch("dev", f"@{first.id}")
    assert catalog.ref("dev") == dev
    assert catalog.create_tag("v1").kind is RefKind.TAG
    base = catalog.merge_base("dev", "main")
    assert base is not None
    assert base.id == first.id
    catalog.delete_ref("v1")
    assert [move.after is None for move in catalog.reflog("v1")] == [True, False]
    events = catalog.events(0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].kind is EventKind.REF_DELETED
    assert list(catalog.watch(1, seconds_max=1.0)) == events


def use_working_sets(catalog: Catalog) -> None:
    with catalog.transaction(message="orders") as tx:
        orders = asset(tx, "fake.orders", create=True)
        orders.update({"1": '"a"', "2": '"b"'})
        asset(tx, "fake.gone", create=True)["1"] = "1"
    assert tx.committed is not None
    assert catalog.at("main").open("fake.orders") == {"1": '"a"', "2": '"b"'}
    tx = catalog.begin("main", name="work", message="more")
    assert [one.name for one in catalog.working_sets()] == ["work"]
    again = catalog.working_set("work")
    assert again.tx == tx.tx
    asset(again, "fake.orders")["3"] = '"c"'
    assert [change.item for change in tx.diff_items("fake.orders")] == ["3"]
    tx.drop("fake.gone")
    tx.rename("fake.orders", "fake.sales")
    tx.restore("fake.orders", "main")
    assert tx.keys("fake") == [("fake", "orders"), ("fake", "sales")]
    assert {one.key for one in tx.participants() if one.dropped} == {("fake", "gone")}
    staging = catalog.backend.staging(tx.id, ("fake", "sales"))
    assert staging is not None
    assert catalog.backend.staging(tx.id, ("fake", "gone")) is None
    assert not catalog.backend.swap_location(tx.id, ("fake", "sales"), "elsewhere", "x")
    assert catalog.backend.swap_location(tx.id, ("fake", "sales"), staging.location, staging.location)
    base = catalog.backend.base_entry(tx.id, ("fake", "gone"))
    assert base is not None
    assert base.snapshot.store == "fake"
    catalog.backend.renew(tx.id)
    assert {change.key for change in tx.preview().changes} == {("fake", "gone"), ("fake", "sales")}
    commit = tx.commit("the message", properties={"a": "b"}, unchanged=["p.a"])
    assert (commit.message, commit.properties["a"]) == ("the message", "b")
    assert tx.commit("the message", properties={"a": "b"}) == commit
    assert tx.state is TxState.COMMITTED
    with pytest.raises(TransactionClosed):
        asset(tx, "fake.sales")
    dropped = catalog.begin("main")
    dropped.discard()
    dropped.discard()
    use_merges(catalog)
    assert list(catalog.verify(Depth.BYTES)) == []
    assert catalog.recover() == []


def use_merges(catalog: Catalog) -> None:
    catalog.create_branch("fork", "main")
    for branch, text in (("main", '"ours"'), ("fork", '"theirs"')):
        with catalog.transaction(branch, message=branch) as tx:
            asset(tx, "fake.sales")["1"] = text
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("fork")
    assert caught.value.total == 1
    tx = catalog.working_set(caught.value.details["tx"])
    listed = list(tx.conflicts())
    assert [(conflict.item, conflict.ours, conflict.theirs) for conflict, _ in listed] == [("1", "ours", "theirs")]
    assert listed[0][0] == caught.value.conflicts[0]
    tx.resolve("fake.sales", Choice.VALUE, item="1", value="both")
    assert [resolution.value for _, resolution in tx.conflicts() if resolution is not None] == ["both"]
    merged = tx.commit()
    assert len(merged.parents) == 2
    items = catalog.backend.diff_items(("fake", "sales"), Side(spec="main~1"), Side(spec="main"), None)
    assert [(change.item, change.before, change.after) for change in items] == [("1", "ours", "both")]
    assert list(catalog.backend.diff_items(("fake", "sales"), Side(spec="main~1"), Side(spec="main"), [])) == []


def use_native_heads(catalog: Catalog, folder: Path) -> None:
    write_behind(folder / "heads", "native", {"x": "1"})
    catalog.import_assets({("heads", "t"): "native"})
    assert catalog.publish() == catalog.unpublished() == []
    write_behind(folder / "heads", "native", {"x": "2"})
    assert [problem.remedy for problem in catalog.verify()] == ["plait store adopt heads.t"]
    with catalog.transaction() as tx:
        asset(tx, "heads.t")["y"] = "1"
    (diverged,) = catalog.publish(["heads"])
    assert (diverged.state, diverged.key) == ("diverged", ("heads", "t"))
    adopted = catalog.adopt("heads.t")
    assert adopted is not None
    assert catalog.publish([]) == []
    assert catalog.at("main").open("heads.t") == {"x": "2", "y": "1"}


def use_tokens(catalog: Catalog) -> None:
    assert catalog.backend.create_token("ci").startswith("plait_")
    assert [name for name, _ in catalog.backend.tokens()] == ["ci"]
    catalog.backend.delete_token("ci")
    assert catalog.backend.tokens() == []


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_keep_their_class_their_code_and_their_remedy(catalog: Catalog, branch: str) -> None:
    with pytest.raises(NotFound) as not_found:
        catalog.resolve("nowhere")
    assert not_found.value.code == "NOT_FOUND"
    assert "plait branch" in not_found.value.remedy
    with pytest.raises(AlreadyExists):
        catalog.create_branch(branch, "main")
    with pytest.raises(NothingToCommit):
        catalog.commit(Proposal(branch, (Unchanged(("p", "none"), None),)))
    with pytest.raises(InvalidArgument):
        list(catalog.log("not a spec"))
    with pytest.raises(InvalidArgument, match="split it"):
        catalog.commit(Proposal(branch, (put("a", 1),), message="x" * (limits.RPC_MESSAGE_BYTES_MAX + 1)))


def test_a_repository_that_does_not_exist_is_not_found(shared_server: ServerProcess) -> None:
    with pytest.raises(NotFound, match="'nothing' does not exist"):
        plait.connect(shared_server.url.replace("/default", "/nothing"))


def test_ten_thousand_conflicts_are_one_small_error(catalog: Catalog, branch: str) -> None:
    wanted = tuple(Unchanged(("p", f"none-{number}"), b"\1" * 32) for number in range(limits.OPERATIONS_MAX))
    with pytest.raises(CommitConflict) as caught:
        catalog.commit(Proposal(branch, wanted))
    assert caught.value.total == limits.OPERATIONS_MAX
    assert len(caught.value.conflicts) == limits.ERROR_CONFLICTS_MAX
    assert caught.value.conflicts[0].key == ("p", "none-0")


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_all_conflicts_of_a_merge_are_streamed_though_the_error_is_small(
    shared_server: ServerProcess, catalog: Catalog, count: int
) -> None:
    """Rows of one Iceberg table, that both sides added."""
    store, side = f"lake{count}", f"many-{count}"
    catalog.add_store(store, "iceberg", {"warehouse": str(shared_server.folder / store)})
    name = f"{store}.sales.orders"
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("item", pa.string())])
    with catalog.transaction() as tx:
        table = tx.store(store).create_table("sales.orders", schema)
        with table.update_schema() as update:
            update.set_identifier_fields("id")
    catalog.create_branch(side, "main")
    for branch in ("main", side):
        with catalog.transaction(branch) as tx:
            tx.open(name).append(pa.table([range(count), [branch] * count], schema))
    with pytest.raises(CommitConflict) as caught:
        catalog.merge(side)
    assert caught.value.total == count
    assert len(caught.value.conflicts) == limits.ERROR_CONFLICTS_MAX
    tx = catalog.working_set(caught.value.details["tx"])
    assert sum(1 for _ in tx.conflicts()) == count
    assert tx.resolve_all(Choice.THEIRS) == count
    tx.commit()
    assert catalog.at("main").open(name).scan().to_arrow()["item"].to_pylist() == [side] * count


# -- streams -----------------------------------------------------------------------------------------------------------


def test_streams_are_whole_and_in_order_and_may_be_left(catalog: Catalog, branch: str) -> None:
    names = [f"t{number:04}" for number in range(3000)]
    catalog.commit(Proposal(branch, tuple(put(name, 1) for name in names)))
    assert [entry.key[1] for entry in catalog.at(branch).entries()] == names
    left = iter(catalog.at(branch).entries())
    assert next(left).key == ("p", names[0])
    del left
    assert len(list(catalog.at(branch).entries())) == len(names)


def test_eight_threads_that_commit_to_one_branch_all_succeed(catalog: Catalog, branch: str) -> None:
    made: list[Commit] = []
    failed: list[PlaitError] = []

    def commit(thread: int) -> None:
        for number in range(20):
            try:
                made.append(catalog.commit(Proposal(branch, (put(f"{thread}-{number}", 1),))))
            except PlaitError as error:
                failed.append(error)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len({commit.id for commit in made}) == 160
    assert {commit.id for commit in catalog.log(branch)} >= {commit.id for commit in made}
    assert len(list(catalog.at(branch).entries())) == 160


# -- around the service ------------------------------------------------------------------------------------------------


def test_health_is_told_over_grpc_and_over_http(shared_server: ServerProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{shared_server.ports[0]}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="plait.v1.Catalog"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for path in ("healthz", "readyz"):
        with urllib.request.urlopen(f"{shared_server.http}/{path}") as got:
            assert got.status == 200


def test_metrics_count_commits_and_time_calls(shared_server: ServerProcess, catalog: Catalog, branch: str) -> None:
    def metric(name: str) -> float:
        with urllib.request.urlopen(f"{shared_server.http}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    counted = {
        name: metric(name)
        for name in (
            "plait_commits_total",
            'plait_rpc_seconds_count{rpc="Commit"}',
            'plait_rpc_errors_total{code="NOT_FOUND",rpc="Resolve"}',
        )
    }
    catalog.commit(Proposal(branch, (put("metric", 1),)))
    with pytest.raises(NotFound):
        catalog.resolve("nowhere")
    assert {name: metric(name) - before for name, before in counted.items()} == dict.fromkeys(counted, 1.0)
    assert metric("plait_queue_depth") == 0.0


@pytest.mark.parametrize(
    "ask",
    [
        lambda catalog: catalog.resolve("a\ud800"),
        lambda catalog: catalog.begin("main", message="a\ud800"),
        lambda catalog: catalog.commit(Proposal("main", (put("a", 1),), message="a\ud800")),
        lambda catalog: list(catalog.at("main").entries(("p", "a\ud800"))),
        lambda catalog: catalog.events(2**70),
        lambda catalog: next(catalog.watch(2**70)),
    ],
)
def test_what_no_message_holds_is_an_argument_that_is_invalid(
    catalog: Catalog, ask: Callable[[Catalog], object]
) -> None:
    with pytest.raises(InvalidArgument, match=r"half a character|beyond 64 bits|not valid Unicode"):
        ask(catalog)
