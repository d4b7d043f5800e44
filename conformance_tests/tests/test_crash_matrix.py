"""kill -9 at every failpoint of commits, a merge, a revert, an adoption and a discard, over two strict fake stores.

The process that dies is an embedded catalog, after which the scenario has ended; or a server, which comes back while
its client asks again and finishes the scenario; or one of two servers, and its client turns to the other. The database
is SQLite or PostgreSQL.

By default each of the core's failpoints dies once in each of these six settings, and each of the stores' once, spread
over pairs of kinds in which every kind has both places; with PLAIT_SOAK=1 every place of every pair.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
from plait import errors as plait_errors
from plait.clock import SystemClock
from plait.failpoint import armed
from plait.persist.store_rows import StoreRows
from plait_conformance import crash, power, sabotage
from plait_conformance.fake_kinds import KINDS
from plait_conformance.killing import Place, count_places, kill_at, places
from plait_conformance.scenes import Prepared, Scene, connect_patiently
from plait_conformance.serving import DidNotStart, ServerProcess, start_server

SCRIPT = Path(crash.__file__)
SOAK = bool(os.environ.get("PLAIT_SOAK"))
NAMES = [kind.kind for kind in KINDS]
RING = list(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
PAIRS = [pair for pair in itertools.product(NAMES, NAMES) if pair != ("fake", "fake")] if SOAK else RING

Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """What dies, over which database and which stores."""

    edge: str
    database: str
    pair: Pair

    def __str__(self) -> str:
        return f"{self.edge}-{self.database}-{'-'.join(self.pair)}"


SETTINGS = list(itertools.product(["embedded", "served", "failed-over"], ["sqlite", "postgresql"]))
CELLS = [Cell(*SETTINGS[0], pair) for pair in PAIRS] + [Cell(*one, pair) for one in SETTINGS[1:] for pair in RING]


def prepare(folder: Path, pair: Pair, postgresql: str | None = None) -> Prepared:
    folder.mkdir(exist_ok=True)
    return Prepared(folder, lambda scene: crash.prepare(scene, pair), postgresql=postgresql)


def arguments(scene: Scene) -> list[str]:
    return [str(scene.folder), scene.database]


# -- what dies ---------------------------------------------------------------------------------------------------------


def die_embedded(scene: Scene, place: Place) -> str:
    """What was acknowledged until then."""
    return kill_at(SCRIPT, arguments(scene), place)


def die_served(scene: Scene, place: Place) -> str:
    """What was acknowledged by the server until it died there, and by the one that took its place."""
    try:
        server = start_server(scene.folder, database=scene.database, environment={"PLAIT_FAILPOINT": str(place)})
    except DidNotStart as error:
        if error.code != -signal.SIGKILL:
            raise
        return run_whole(scene)
    with ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(come_back, server)
        try:
            printed = run_served(scene, server)
            reached = server.process.poll() == -signal.SIGKILL
        finally:
            server.kill()
            restarted.result().kill()
    assert reached, f"{place} was not reached"
    return printed


def die_beside_another(scene: Scene, place: Place) -> str:
    """What was acknowledged by the server until it died there, and by the other one that its client turned to."""
    other = start_server(scene.folder, database=scene.database)
    try:
        server = start_server(scene.folder, database=scene.database, environment={"PLAIT_FAILPOINT": str(place)})
        try:
            printed = run_served(scene, server, other)
            reached = server.process.poll() == -signal.SIGKILL
        finally:
            server.kill()
    except DidNotStart as error:
        if error.code != -signal.SIGKILL:
            raise
        return run_served(scene, other)
    finally:
        other.kill()
    assert reached, f"{place} was not reached"
    return printed


DEATHS = {"embedded": die_embedded, "served": die_served, "failed-over": die_beside_another}


def come_back(server: ServerProcess) -> ServerProcess:
    server.wait()
    return start_server(server.folder, database=server.database, ports=server.ports)


def run_served(scene: Scene, *servers: ServerProcess) -> str:
    urls = [server.url for server in servers]
    with contextlib.redirect_stdout(io.StringIO()) as printed, connect_patiently(*urls) as catalog:
        crash.run(catalog, scene.folder)
    return printed.getvalue()


def run_whole(scene: Scene, **environment: str) -> str:
    server = start_server(scene.folder, database=scene.database, environment=environment)
    try:
        return run_served(scene, server)
    finally:
        server.kill()


# -- which places ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Pair], list[Place]]:
    """The places that the scenario reaches, by edge and pair: the database makes no difference to them."""
    found = {}
    for pair in PAIRS:
        folder = tmp_path_factory.mktemp("-".join(pair))
        prepared = prepare(folder, pair)
        found["embedded", pair] = places(SCRIPT, arguments(prepared.scene), folder / "record-embedded")
        if pair in RING:
            record = folder / "record-served"
            run_whole(prepared.renew(), PLAIT_FAILPOINT_RECORD=str(record))
            found["served", pair] = found["failed-over", pair] = count_places(record)
    return found


@pytest.fixture(scope="module")
def matrix(recorded: dict[tuple[str, Pair], list[Place]]) -> dict[Cell, list[Place]]:
    """The places at which each cell is to die."""
    if SOAK:
        return {cell: recorded[cell.edge, cell.pair] for cell in CELLS}
    chosen: dict[Cell, list[Place]] = {cell: [] for cell in CELLS}
    for number, name in enumerate(sorted({place.name for found in recorded.values() for place in found})):
        for turn in range(len(SETTINGS)):
            edge, database = SETTINGS[(number + turn) % len(SETTINGS)]
            having = {
                pair: named
                for pair in RING
                if (named := [place for place in recorded[edge, pair] if place.name == name])
            }
            if not having:
                continue  # A client's failpoint, and the server is to die.
            pair = list(having)[(number + turn) % len(having)]
            named = having[pair]
            chosen[Cell(edge, database, pair)].append(
                named[(number * 7 + turn * len(named) // len(SETTINGS)) % len(named)]
            )
            if name.startswith("fake."):
                break
    for cell, places_of_cell in chosen.items():
        if not places_of_cell:  # The names did not go round to it: one death in the middle stands for its edge.
            having = recorded[cell.edge, cell.pair]
            places_of_cell.append(having[len(having) // 2])
    return chosen


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=str(cell), marks=[pytest.mark.postgres] * (cell.database == "postgresql"))
        for cell in CELLS
    ],
)
@pytest.mark.timeout(36_000 if SOAK else 900)
def test_killed_anywhere_it_is_whole_or_absent(
    matrix: dict[Cell, list[Place]], cell: Cell, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    postgresql = request.getfixturevalue("postgresql_url") if cell.database == "postgresql" else None
    prepared = prepare(tmp_path / "stage", cell.pair, postgresql)
    assert matrix[cell]
    failed = []
    for place in matrix[cell]:
        scene = prepared.renew()
        try:
            crash.check(scene, DEATHS[cell.edge](scene, place))
        except Exception as error:
            failed.append(f"killed at {place}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def test_every_failpoint_of_the_core_is_in_the_matrix(matrix: dict[Cell, list[Place]]) -> None:
    names = {place.name for chosen in matrix.values() for place in chosen}
    assert {
        "transaction.begun",
        "transaction.intended",
        "transaction.staged_natively",
        "transaction.sealed",
        "transaction.aborting",
        "transaction.store_aborted",
        "planner.intended",
        "coordinator.prepared",
        "coordinator.voted",
        "coordinator.merged",
        "coordinator.before_commit_point",
        "coordinator.after_commit_point",
        "sequencer.rows_written",
        "sequencer.before_commit",
        "sequencer.after_commit",
        "persist.before_commit",
        "persist.after_commit",
        "publisher.behind",
        "publisher.claimed",
        "publisher.moved",
        "fake.publish.after_head",
        "fake.publish.after_working",
        "fake.prepare.frozen",
    } <= names


# -- twice, and without power ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", RING, ids="-".join)
@pytest.mark.timeout(36_000 if SOAK else 900)
def test_killed_again_while_it_recovers(
    recorded: dict[tuple[str, Pair], list[Place]], tmp_path: Path, pair: Pair
) -> None:
    """Pairs of failpoints: each of the recovery after each of the scenario; by default some of both."""
    prepared = prepare(tmp_path / "stage", pair)
    firsts = recorded["embedded", pair]
    failed = []
    for first in firsts if SOAK else spread(firsts, 4, RING.index(pair)):
        kill_at(SCRIPT, arguments(prepared.renew()), first)
        seconds = places(SCRIPT, [*arguments(prepared.scene), "recover"], tmp_path / f"record-{first}")
        for second in seconds if SOAK else spread(seconds, 2, RING.index(pair)):
            scene = prepared.renew()
            printed = kill_at(SCRIPT, arguments(scene), first)
            kill_at(SCRIPT, [*arguments(scene), "recover"], second)
            try:
                crash.check(scene, printed)
            except Exception as error:
                failed.append(f"killed at {first}, then at {second}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def spread(found: list[Place], count: int, offset: int) -> list[Place]:
    """Some of the places, one from each part of the list."""
    chosen = [(number * len(found) + offset) // count for number in range(count)]
    return list(dict.fromkeys(found[index % len(found)] for index in chosen if found))


def die_without_power(prepared: Prepared, place: Place, *sabotages: str) -> tuple[Scene, str]:
    """Killed there, and what was not fsynced is gone, from the stores and from the end of the catalog's log."""
    scene = prepared.renew()
    durable = power.inodes(scene.folder)
    journal = scene.folder.parent / f"syncs-{uuid.uuid4().hex}"
    printed = kill_at(SCRIPT, [*arguments(scene), *sabotages], place, PLAIT_SYNC_JOURNAL=str(journal))
    for store in crash.STORES:
        power.lose(scene.folder / store, journal, durable)
    power.lose_end(Path(scene.database.removeprefix("sqlite:///")), journal)
    return scene, printed


@pytest.mark.parametrize("pair", RING, ids="-".join)
@pytest.mark.timeout(36_000 if SOAK else 900)
def test_without_power_it_is_whole_or_absent(
    recorded: dict[tuple[str, Pair], list[Place]], tmp_path: Path, pair: Pair
) -> None:
    prepared = prepare(tmp_path / "stage", pair)
    found = recorded["embedded", pair]
    failed = []
    for place in found if SOAK else spread(found, 8, RING.index(pair)):
        try:
            crash.check(*die_without_power(prepared, place))
        except Exception as error:
            failed.append(f"without power from {place}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


# -- sabotage: a check that finds nothing wrong in these is blind ------------------------------------------------------


@pytest.fixture
def dolt(tmp_path: Path) -> Prepared:
    return prepare(tmp_path, ("fake-dolt", "fake-block"))


@pytest.mark.parametrize(
    ("broken", "place", "found"),
    [
        ("publish_first", Place("sequencer.before_commit", 1), r"nobody else wrote|native head holds"),
        ("no_intent", Place("fake.stage.after_place", 1), "stagings of ended transactions stay"),
    ],
)
def test_a_broken_rule_is_found(dolt: Prepared, broken: str, place: Place, found: str) -> None:
    crash.check(dolt.scene, kill_at(SCRIPT, arguments(dolt.scene), place))
    scene = dolt.renew()
    printed = kill_at(SCRIPT, [*arguments(scene), broken], place)
    with pytest.raises(AssertionError, match=found):
        crash.check(scene, printed)


def test_a_vote_without_fsync_is_found(dolt: Prepared) -> None:
    place = Place("coordinator.after_commit_point", 1)
    crash.check(*die_without_power(dolt, place))
    scene, printed = die_without_power(dolt, place, "no_fsync")
    with pytest.raises(Exception, match="not pinned"):
        crash.check(scene, printed)


def test_a_commit_point_without_flush_is_found(dolt: Prepared) -> None:
    place = Place("transaction.store_released", 3)  # One commit was acknowledged before.
    crash.check(*die_without_power(dolt, place))
    scene, printed = die_without_power(dolt, place, "no_flush")
    with pytest.raises(AssertionError, match="I4"):
        crash.check(scene, printed)


class LateClock(SystemClock):
    """A server whose clock says that every lease has run out."""

    def now_us(self) -> int:
        return super().now_us() + 3_600_000_000


def overtaken(scene: Scene) -> None:
    """A publisher stalls after its claim; another, to whom the lease has run out, publishes two commits meanwhile."""
    stalled: list[str] = []

    def overtake(name: str) -> None:
        if name == "publisher.claimed" and not stalled:
            stalled.append(name)
            with scene.open(clock=LateClock()) as other:
                crash.write(other, "main", "add 3", "3")

    with scene.open() as catalog, armed(overtake):
        crash.write(catalog, "main", "add 1", "1")
    assert stalled


def heads_follow(scene: Scene) -> None:
    with scene.open(recover=False) as catalog:
        left = catalog.publish()
        assert left == [], f"heads that are not published: {left}"
        crash.check_heads(scene.folder, catalog, set())


def test_an_overtaken_publisher_changes_nothing(dolt: Prepared) -> None:
    overtaken(dolt.scene)
    heads_follow(dolt.scene)


def test_an_unchecked_row_count_is_found(dolt: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreRows, "swap_publication", StoreRows.swap_publication)
    sabotage.unchecked_row_count()
    with contextlib.suppress(AssertionError):
        overtaken(dolt.scene)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="not published"):
        heads_follow(dolt.scene)


@pytest.fixture
def finished(dolt: Prepared) -> tuple[Scene, str]:
    """A scenario that got to its very end, and what it printed."""
    found = places(SCRIPT, arguments(dolt.scene), dolt.scene.folder.parent / "record")
    last = [place for place in found if place.name == "transaction.store_aborted"][-1]
    scene = dolt.renew()
    return scene, kill_at(SCRIPT, arguments(scene), last)


def test_the_check_finds_a_lost_commit(finished: tuple[Scene, str]) -> None:
    scene, printed = finished
    with pytest.raises(AssertionError, match="I4"):
        crash.check(scene, f"{printed}\ncommitted something else\n")


def test_the_check_finds_a_torn_commit(finished: tuple[Scene, str]) -> None:
    scene, printed = finished
    with scene.open() as catalog, catalog.transaction(message="half") as tx:
        crash.handle(tx, "two")["4"] = "1"
    with pytest.raises(AssertionError, match="I2"):
        crash.check(scene, printed)


@pytest.mark.parametrize(
    ("what", "error", "found"),
    [
        ("objects", FileNotFoundError, "objects"),
        ("versions", plait_errors.Corrupt, "has no version"),
        ("pins", AssertionError, "never prepared, or is not pinned"),
    ],
)
def test_the_check_finds_lost_data(finished: tuple[Scene, str], what: str, error: type[Exception], found: str) -> None:
    scene, printed = finished
    for path in sorted((scene.folder / "one" / what).rglob("*")):
        if path.is_file():
            path.unlink()
    with pytest.raises(error, match=found):
        crash.check(scene, printed)


def test_the_check_finds_an_overwritten_foreign_write(finished: tuple[Scene, str]) -> None:
    scene, printed = finished
    with scene.open() as catalog:
        catalog.revert("main~1", message="overwrite")
    with pytest.raises(AssertionError, match="I4"):
        crash.check(scene, printed)
