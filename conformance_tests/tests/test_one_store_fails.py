"""A store that is down stops what touches it, and nothing else; many writers of many stores all get their turn."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from plait import limits
from plait.catalog import Catalog
from plait.clock import ManualClock, SystemClock
from plait.errors import AlreadyExists, CommitConflict, Corrupt, StoreUnavailable
from plait.failpoint import armed
from plait.local import LocalBackend
from plait.types import Commit, Depth, Health, SnapshotRef, TxState
from plait.working_set import WorkingSet
from plait_conformance.crash import check_heads, handle, items, write
from plait_conformance.fake_storage import bring_up, take_down, write_behind
from plait_conformance.fake_trace import Call, Traced
from plait_conformance.scenes import make_scene

WRITERS, COMMITS = 16, 6


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())  # The catalog is made at that time.


@pytest.fixture
def catalog(tmp_path: Path, clock: ManualClock) -> Iterator[Catalog]:
    """Over the stores `one` and `two`, which have native heads."""
    with make_scene(tmp_path).open(clock=clock) as made:
        for store in ("one", "two"):
            made.add_store(store, "fake-dolt", {"path": str(tmp_path / store)})
        write(made, "main", "create", "0")
        yield made


def commit(catalog: Catalog, store: str, item: str) -> Commit:
    with catalog.transaction(message=f"{item} in {store}") as tx:
        handle(tx, store)[item] = "1"
    assert tx.committed is not None
    return tx.committed


def calls(catalog: Catalog, store: str) -> list[Call]:
    return cast(Traced, cast(LocalBackend, catalog.backend).adapters.get(store)).trace


def fall(tmp_path: Path, catalog: Catalog) -> None:
    """Store `two` goes down between a commit's commit point and its publishing."""

    def taken_down(name: str) -> None:
        if name == "coordinator.after_commit_point":
            take_down(tmp_path / "two")

    with armed(taken_down):
        commit(catalog, "two", "1")


def test_commits_that_do_not_touch_it_go_on(catalog: Catalog, tmp_path: Path) -> None:
    take_down(tmp_path / "two")
    before = len(calls(catalog, "two"))
    commit(catalog, "one", "1")
    assert items(catalog, "main", "one") == {"0", "1"}
    assert calls(catalog, "two")[before:] == []


def test_a_discard_cleans_up_where_it_can_and_is_no_reason_to_keep_a_store_that_never_answers(
    catalog: Catalog, tmp_path: Path
) -> None:
    catalog.add_store("broken", "fake-dolt", {"path": str(tmp_path / "broken")})
    tx = catalog.begin()
    for store in ("broken", "one"):
        handle(tx, store)["1"] = "1"
    take_down(tmp_path / "broken")
    with pytest.raises(StoreUnavailable):
        tx.discard()
    assert "abort" in {call.name for call in calls(catalog, "one")}
    assert tx.state is TxState.ABORTING
    catalog.remove_store("broken")
    tx.discard()
    assert tx.state is TxState.ABORTED


@pytest.fixture
def conflicted(catalog: Catalog) -> WorkingSet:
    """A merge that met a conflict in store `one`."""
    commit(catalog, "one", "1")
    commit(catalog, "two", "1")
    catalog.create_branch("side", at="main~2")
    with catalog.transaction("side") as tx:
        handle(tx, "one")["1"] = "2"
    merge = catalog.begin_merge("side")
    with pytest.raises(CommitConflict):
        merge.commit()
    return merge


def test_a_merge_is_dropped_without_the_stores_it_did_not_touch(
    catalog: Catalog, conflicted: WorkingSet, tmp_path: Path
) -> None:
    assert [one.key[0] for one in conflicted.participants()] == ["one"]
    take_down(tmp_path / "two")
    before = len(calls(catalog, "one"))
    conflicted.discard()
    assert conflicted.state is TxState.ABORTED
    assert "abort" in {call.name for call in calls(catalog, "one")[before:]}


def test_another_asset_is_not_imported_onto_a_key_in_conflict(
    catalog: Catalog, conflicted: WorkingSet, tmp_path: Path
) -> None:
    write_behind(tmp_path / "one", "native", {"a": "1"})
    (taken,) = (one.key for one in conflicted.participants())
    with pytest.raises(AlreadyExists, match="holds another asset"):
        catalog.backend.import_assets(conflicted.id, {taken: "native"})


def test_what_a_removed_store_should_have_dropped_is_waited_for_by_nobody(catalog: Catalog, tmp_path: Path) -> None:
    catalog.add_store("broken", "fake-dolt", {"path": str(tmp_path / "broken")})
    tx = catalog.begin()
    handle(tx, "broken")["1"] = "1"

    def taken_down(name: str) -> None:
        if name == "coordinator.after_commit_point":
            take_down(tmp_path / "broken")

    with armed(taken_down):
        tx.commit()
    assert len(tx.participants()) == 1
    with catalog.transaction(message="drop") as dropping:
        dropping.drop("broken.t")
    catalog.remove_store("broken")
    catalog.recover()
    assert len(tx.participants()) == 0


def test_commits_do_not_wait_for_a_verify_that_is_slow(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        commit(catalog, "two", str(number + 1))
    adapter, go_on = cast(LocalBackend, catalog.backend).adapters.get("two"), threading.Event()
    verify, is_waiting = adapter.verify, threading.Event()

    def slow(snapshot: SnapshotRef, depth: Depth) -> Health:
        is_waiting.set()
        assert go_on.wait(60)
        return verify(snapshot, depth)

    monkeypatch.setattr(adapter, "verify", slow)
    with ThreadPoolExecutor(2) as threads:
        verified = threads.submit(lambda: list(catalog.verify()))
        try:
            assert is_waiting.wait(60)
            threads.submit(commit, catalog, "one", "1").result(20)
        finally:
            go_on.set()
        assert verified.result(60) == []


def test_a_commit_that_touches_it_fails_clearly_and_is_made_when_it_is_back(catalog: Catalog, tmp_path: Path) -> None:
    head = catalog.resolve("main")
    tx = catalog.begin(message="both")
    for store in ("one", "two"):
        handle(tx, store)["1"] = "1"
    take_down(tmp_path / "two")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="store 'two'"):
            tx.commit()
        assert (catalog.resolve("main"), tx.state) == (head, TxState.OPEN)
    bring_up(tmp_path / "two")
    made = tx.commit()
    assert (catalog.resolve("main"), tx.commit()) == (made, made)
    assert items(catalog, "main", "two") == {"0", "1"}


def test_a_discard_is_finished_when_it_is_back(catalog: Catalog, tmp_path: Path) -> None:
    tx = catalog.begin()
    handle(tx, "two")["1"] = "1"
    take_down(tmp_path / "two")
    with pytest.raises(StoreUnavailable):
        tx.discard()
    commit(catalog, "one", "1")
    bring_up(tmp_path / "two")
    assert catalog.recover() == [f"finished discarding {tx.id}"]
    assert catalog.working_sets() == []


def test_a_commit_is_acknowledged_and_published_when_it_is_back(catalog: Catalog, tmp_path: Path) -> None:
    fall(tmp_path, catalog)
    assert [one.key for one in catalog.publish()] == [("two", "t")]
    commit(catalog, "one", "1")
    bring_up(tmp_path / "two")
    assert catalog.publish() == []
    check_heads(tmp_path, catalog, set())


def test_one_that_is_behind_is_not_waited_for_by_each_commit(
    catalog: Catalog, tmp_path: Path, clock: ManualClock
) -> None:
    fall(tmp_path, catalog)
    before = len(calls(catalog, "two"))
    for number in range(3):
        commit(catalog, "one", str(number + 1))
    assert calls(catalog, "two")[before:] == []
    bring_up(tmp_path / "two")
    clock.advance(limits.STORE_RETRY_US)
    commit(catalog, "one", "4")
    check_heads(tmp_path, catalog, set())


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(
    catalog: Catalog, tmp_path: Path, clock: ManualClock
) -> None:
    fall(tmp_path, catalog)
    commit(catalog, "one", "1")
    bring_up(tmp_path / "two")
    clock.advance(-3_600_000_000)
    commit(catalog, "one", "2")
    check_heads(tmp_path, catalog, set())


def test_recovery_asks_it_once_for_all_its_heads(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.transaction() as tx:
        for name in "abc":
            tx.open(("two", name), create=True)

    def taken_down(name: str) -> None:
        if name == "coordinator.after_commit_point":
            take_down(tmp_path / "two")

    with armed(taken_down), catalog.transaction() as tx:
        for name in "abc":
            cast("dict[str, str]", tx.open(("two", name)))["x"] = "1"
    before = len(calls(catalog, "two"))
    assert len(catalog.publish()) == 3
    assert [call.name for call in calls(catalog, "two")[before:]] == ["publish"]


def test_no_writer_of_some_stores_starves(tmp_path: Path) -> None:
    """Each adds items to a random subset of stores, on one branch: all succeed, and all wait about alike."""
    stores = ["a", "b", "c", "d"]
    waits: dict[int, list[float]] = {writer: [] for writer in range(WRITERS)}
    together = threading.Barrier(WRITERS)
    with make_scene(tmp_path).open() as catalog:
        for store in stores:
            catalog.add_store(store, "fake-dolt", {"path": str(tmp_path / store)})
        with catalog.transaction() as tx:
            for store in stores:
                handle(tx, store)

        def add(writer: int) -> None:
            chance = random.Random(writer)
            together.wait()
            for number in range(COMMITS):
                tx = catalog.begin(message=f"{writer}-{number}")
                for store in chance.sample(stores, chance.randint(1, len(stores))):
                    handle(tx, store)[f"{writer}-{number}"] = "1"
                began = time.monotonic()
                tx.commit()
                waits[writer].append(time.monotonic() - began)

        with ThreadPoolExecutor(WRITERS) as pool:
            for adding in [pool.submit(add, writer) for writer in range(WRITERS)]:
                adding.result()
        messages = [made.message for made in catalog.log()]
        assert set(messages) >= {f"{writer}-{number}" for writer in range(WRITERS) for number in range(COMMITS)}
        assert catalog.publish() == []
    means = [statistics.mean(waited) for waited in waits.values()]
    assert max(means) < 10 * statistics.median(means), sorted(means)
    single = [one for waited in waits.values() for one in waited]
    assert max(single) < 10 * statistics.median(single), sorted(single)


def test_what_a_store_says_to_do_is_in_what_verify_finds(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = cast(LocalBackend, catalog.backend).adapters.get("two")

    def damaged(snapshot: SnapshotRef, depth: Depth) -> Health:
        raise Corrupt(f"asset {snapshot.asset} has no root", remedy="restore it from a backup")

    monkeypatch.setattr(adapter, "verify", damaged)
    found = [problem for problem in catalog.verify() if "has no root" in problem.what]
    assert {problem.remedy for problem in found} == {"restore it from a backup"}
