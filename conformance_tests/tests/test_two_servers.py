"""Two servers on one database: no leader, one history, one publisher for each head, and each mends what the other left.

The second takes over from a dead one at once, and leaves a slow one its work: here, one that is frozen by SIGSTOP.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from plait.catalog import Catalog
from plait.errors import AlreadyExists, TransactionClosed
from plait.persist import Rows
from plait.persist.store_rows import Publication
from plait.publisher import _CLAIMS_MAX
from plait.types import Depth, EventKind, Tx, TxState
from plait_conformance.behaviour.stores import handle, held, native, seqs, write
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.fixtures import BACKENDS
from plait_conformance.scenes import Scene, connect_patiently, create_catalog, make_scene
from plait_conformance.serving import ServerProcess, start_server

WRITERS, COMMITS = 6, 5


@pytest.fixture(params=BACKENDS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """A catalog over one store with native heads, and an asset in it."""
    if request.param == "sqlite":
        made = make_scene(tmp_path)
    else:
        made = Scene(tmp_path, new_postgresql_database(request.getfixturevalue("postgresql_url")))
        create_catalog(made)
    with made.open() as catalog:
        catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        write(catalog, x=0)
    return made


@contextmanager
def served(scene: Scene, **environment: str) -> Iterator[tuple[ServerProcess, Catalog]]:
    """One more server, and a client of it."""
    server = start_server(scene.folder, database=scene.database, environment=environment)
    try:
        with connect_patiently(server.url) as catalog:
            yield server, catalog
    finally:
        server.kill()


def frozen_at(place: str) -> dict[str, str]:
    return {"PLAIT_FAILPOINT": place, "PLAIT_FAILPOINT_SIGNAL": "SIGSTOP"}


def until_frozen(server: ServerProcess) -> None:
    for _ in range(3_000):
        if Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.01)
    raise AssertionError("it was not reached")


def check(scene: Scene) -> None:
    """Everything is there, in one order, once; heads follow, and moved in order."""
    with scene.open() as catalog:
        assert catalog.publish() == []
        assert native(catalog, scene.folder) == held(catalog)
        moved = seqs(catalog, scene.folder)
        assert moved == sorted(set(moved))
        events = catalog.events(limit=10_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        announced = [event.commit.id for event in events if event.kind is EventKind.COMMIT and event.commit]
        assert len(set(announced)) == len(announced) == len(list(catalog.log())) - 1
        assert list(catalog.verify(Depth.BYTES)) == []
        assert all(tx.state is TxState.OPEN for tx in catalog.working_sets())


def test_writers_of_one_asset_all_succeed_through_either(scene: Scene) -> None:
    with served(scene) as (_, one), served(scene) as (_, other), ThreadPoolExecutor(WRITERS) as pool:

        def add(writer: int) -> None:
            for number in range(COMMITS):
                write((one, other)[writer % 2], **{f"{writer}-{number}": 1})

        for writing in [pool.submit(add, writer) for writer in range(WRITERS)]:
            writing.result()
        assert held(one) == held(other)
    with scene.open() as catalog:
        assert set(held(catalog)) == {"x"} | {f"{w}-{n}" for w in range(WRITERS) for n in range(COMMITS)}
    check(scene)


@pytest.mark.parametrize("end", ["goes on", "dies"])
def test_a_slow_publisher_keeps_its_head_and_a_dead_ones_is_taken_over(scene: Scene, end: str) -> None:
    with (
        served(scene, **frozen_at("publisher.claimed@1")) as (slow, one),
        served(scene) as (_, other),
        ThreadPoolExecutor(1) as pool,
    ):
        writing = pool.submit(write, one, x=1)
        until_frozen(slow)
        write(other, x=2)
        assert held(other) == {"x": 2}
        assert [publication.key for publication in other.publish()] == [("s", "a")]
        assert native(other, scene.folder) == {"x": 0}
        slow.process.send_signal(signal.SIGCONT if end == "goes on" else signal.SIGKILL)
        if end == "goes on":
            writing.result()
        else:
            slow.process.wait()
            assert other.publish() == []
            assert native(other, scene.folder) == {"x": 2}
            come_back(scene, slow, writing)
    check(scene)


@pytest.mark.parametrize("end", ["goes on", "dies"])
def test_a_slow_commit_is_left_alone_and_a_dead_ones_is_asked_for_again(scene: Scene, end: str) -> None:
    with (
        served(scene, **frozen_at("coordinator.before_commit_point@1")) as (slow, one),
        served(scene) as (_, other),
        ThreadPoolExecutor(1) as pool,
    ):
        tx = one.begin(name="work", message="work")
        handle(tx)["x"] = "1"
        writing = pool.submit(tx.commit)
        until_frozen(slow)
        assert other.recover() == []
        same = other.working_set("work")
        assert same.state is TxState.SEALED
        with pytest.raises(TransactionClosed):
            same.commit()
        if end == "goes on":
            slow.process.send_signal(signal.SIGCONT)
            assert writing.result() == same.commit()
        else:
            slow.kill()
            made = same.commit()
            assert come_back(scene, slow, writing) == made
        assert [commit.message for commit in other.log()].count("work") == 1
    check(scene)


def come_back(scene: Scene, dead: ServerProcess, writing: Future[object]) -> object:
    """The answer that a dead server's client gets from the one that takes its place."""
    again = start_server(scene.folder, database=scene.database, ports=dead.ports)
    try:
        return writing.result()
    finally:
        again.kill()


def test_a_discard_that_one_began_the_other_finishes(scene: Scene) -> None:
    with served(scene, PLAIT_FAILPOINT="transaction.aborting@1") as (dying, one), served(scene) as (_, other):
        tx = one.begin(name="work")
        handle(tx)["x"] = "1"
        with ThreadPoolExecutor(1) as pool:
            discarding = pool.submit(tx.discard)
            dying.wait()
            assert other.recover() == [f"finished discarding {tx.id}"]
            come_back(scene, dying, discarding)
        assert other.working_sets() == []
        assert not list((scene.folder / "store" / "stagings").glob(f"{tx.id}*"))
    check(scene)


def test_both_make_the_repository_when_both_are_told_to(tmp_path: Path, postgresql_url: str) -> None:
    database = new_postgresql_database(postgresql_url)
    with ThreadPoolExecutor(4) as pool:
        starting = [pool.submit(start_server, tmp_path, database=database) for _ in range(4)]
        servers = [one.result() for one in starting]
    try:
        for server in servers:
            with connect_patiently(server.url) as catalog:
                assert [commit.message for commit in catalog.log()] == ["Empty repository"]
    finally:
        for server in servers:
            server.kill()


def test_publishers_of_many_heads_do_not_wait_for_each_other(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One goes on to heads that waited while the other sets their targets and claims them too."""
    scene = Scene(tmp_path, new_postgresql_database(postgresql_url))
    create_catalog(scene)
    keys = [("s", f"a{number:02}") for number in range(_CLAIMS_MAX + 4)]
    swap, set_targets = Rows.swap_publication, Rows.set_targets
    is_first, is_set, swaps = threading.local(), threading.Event(), count(1)

    with scene.open() as one, scene.open() as other, ThreadPoolExecutor(1) as pool:
        writing: list[Future[object]] = []

        def change_another() -> None:
            with other.transaction() as tx:
                handle(tx, keys[-1])["x"] = "2"

        def swapped(rows: Rows, before: Publication, after: Publication) -> bool:
            done = swap(rows, before, after)
            if getattr(is_first, "value", False) and next(swaps) == 2 * _CLAIMS_MAX + 1:
                writing.append(pool.submit(change_another))
                is_set.wait(2)
            return done

        def targets_set(rows: Rows, publications: Sequence[Publication]) -> None:
            set_targets(rows, publications)
            if writing:
                is_set.set()

        one.add_store("s", "fake-delta", {"path": str(tmp_path / "store")})
        monkeypatch.setattr(Rows, "swap_publication", swapped)
        monkeypatch.setattr(Rows, "set_targets", targets_set)
        is_first.value = True
        with one.transaction() as tx:
            for key in keys:
                handle(tx, key)["x"] = "1"
        writing[0].result()
        monkeypatch.undo()
        assert one.publish() == []
    assert "put off" not in caplog.text


def test_a_name_is_taken_once_by_two_who_begin_at_once(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, new_postgresql_database(postgresql_url))
    create_catalog(scene)
    live_txs = Rows.live_txs
    beginning: list[Future[object]] = []

    with scene.open() as one, scene.open() as other, ThreadPoolExecutor(1) as pool:

        def looked(rows: Rows) -> list[Tx]:
            found = live_txs(rows)
            if not beginning:
                beginning.append(pool.submit(other.begin, name="work"))
                wait(beginning, 1)
            return found

        monkeypatch.setattr(Rows, "live_txs", looked)
        tx = one.begin(name="work")
        with pytest.raises(AlreadyExists, match="'work' is open already"):
            beginning[0].result()
        assert other.working_set("work").id == tx.id
