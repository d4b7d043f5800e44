"""kill -9 at every failpoint of commits, a merge, a revert, an adoption and a discard, over two strict fake stores.

By default each of the core's failpoints dies twice and each of the stores' once, spread over pairs of kinds in which
every kind has both places; with PLAIT_SOAK=1 every place of every pair.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from plait import errors as plait_errors
from plait.clock import SystemClock
from plait.failpoint import armed
from plait.persist.store_rows import StoreRows
from plait_conformance import crash, sabotage
from plait_conformance.fake_kinds import KINDS
from plait_conformance.killing import Place, kill_at, places

SCRIPT = Path(crash.__file__)
SOAK = bool(os.environ.get("PLAIT_SOAK"))
NAMES = [kind.kind for kind in KINDS]
RING = list(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
PAIRS = [pair for pair in itertools.product(NAMES, NAMES) if pair != ("fake", "fake")] if SOAK else RING


class Prepared:
    """A catalog before the scenario. Its stores' options name its own path, so copies go to the same place."""

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self.folder = folder / "catalog"
        self._pristine = folder / "pristine"
        crash.prepare(self.folder, kinds)
        shutil.copytree(self.folder, self._pristine)

    def renew(self) -> Path:
        shutil.rmtree(self.folder)
        shutil.copytree(self._pristine, self.folder)
        return self.folder


Matrix: TypeAlias = dict[tuple[str, str], tuple[Prepared, list[Place]]]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """Each pair of kinds, with the places at which it is to die."""
    recorded = {}
    for pair in PAIRS:
        folder = tmp_path_factory.mktemp("-".join(pair))
        prepared = Prepared(folder, pair)
        recorded[pair] = prepared, places(SCRIPT, [str(prepared.folder)], folder / "record")
    return recorded if SOAK else dict(_spread(recorded))


def _spread(recorded: Matrix) -> Iterator[tuple[tuple[str, str], tuple[Prepared, list[Place]]]]:
    """A few places of each name, each in another pair and at another part of the scenario."""
    chosen: dict[tuple[str, str], list[Place]] = {pair: [] for pair in recorded}
    names = sorted({place.name for _, found in recorded.values() for place in found})
    for turn, name in enumerate(names):
        having = [pair for pair, (_, found) in recorded.items() if any(place.name == name for place in found)]
        deaths = 1 if name.startswith("fake.") else 2
        for death in range(deaths):
            pair = having[(turn + death) % len(having)]
            named = [place for place in recorded[pair][1] if place.name == name]
            chosen[pair].append(named[(turn * 7 + death * len(named) // deaths) % len(named)])
    for pair, (prepared, _) in recorded.items():
        yield pair, (prepared, list(dict.fromkeys(chosen[pair])))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.timeout(36_000 if SOAK else 900)
def test_killed_anywhere_it_is_whole_or_absent(matrix: Matrix, pair: tuple[str, str]) -> None:
    prepared, chosen = matrix[pair]
    assert chosen
    failed = []
    for place in chosen:
        folder = prepared.renew()
        printed = kill_at(SCRIPT, [str(folder)], place)
        try:
            crash.check(folder, printed)
        except Exception as error:
            failed.append(f"killed at {place}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def test_every_failpoint_of_the_core_is_in_the_matrix(matrix: Matrix) -> None:
    names = {place.name for _, chosen in matrix.values() for place in chosen}
    assert {
        "transaction.begun",
        "transaction.intended",
        "transaction.staged_natively",
        "transaction.sealed",
        "transaction.aborting",
        "transaction.store_aborted",
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
        "publisher.targets_set",
        "publisher.claimed",
        "publisher.moved",
        "fake.publish.after_head",
        "fake.publish.after_working",
        "fake.prepare.frozen",
    } <= names


# -- sabotage: a check that finds nothing wrong in these is blind ------------------------------------------------------


@pytest.fixture
def dolt(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path, ("fake-dolt", "fake-block"))


@pytest.mark.parametrize(
    ("broken", "place", "found"),
    [
        ("publish_first", Place("sequencer.before_commit", 1), r"nobody else wrote|native head holds"),
        ("no_intent", Place("fake.stage.after_place", 1), "stagings of ended transactions stay"),
    ],
)
def test_a_broken_rule_is_found(dolt: Prepared, broken: str, place: Place, found: str) -> None:
    crash.check(dolt.folder, kill_at(SCRIPT, [str(dolt.folder)], place))
    folder = dolt.renew()
    printed = kill_at(SCRIPT, [str(folder), broken], place)
    with pytest.raises(AssertionError, match=found):
        crash.check(folder, printed)


class LateClock(SystemClock):
    """A server whose clock says that every lease has run out."""

    def now_us(self) -> int:
        return super().now_us() + 3_600_000_000


def overtaken(folder: Path) -> None:
    """A publisher stalls after its claim; another, to whom the lease has run out, publishes two commits meanwhile."""
    stalled: list[str] = []

    def overtake(name: str) -> None:
        if name == "publisher.claimed" and not stalled:
            stalled.append(name)
            with crash.open_catalog(folder, clock=LateClock()) as other:
                crash.write(other, "main", "add 3", "3")

    with crash.open_catalog(folder) as catalog, armed(overtake):
        crash.write(catalog, "main", "add 1", "1")
    assert stalled


def heads_follow(folder: Path) -> None:
    with crash.open_catalog(folder, recover=False) as catalog:
        left = catalog.publish()
        assert left == [], f"heads that are not published: {left}"
        crash.check_heads(folder, catalog, set())


def test_an_overtaken_publisher_changes_nothing(dolt: Prepared) -> None:
    overtaken(dolt.folder)
    heads_follow(dolt.folder)


def test_an_unchecked_row_count_is_found(dolt: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreRows, "swap_publication", StoreRows.swap_publication)
    sabotage.unchecked_row_count()
    with contextlib.suppress(AssertionError):
        overtaken(dolt.folder)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="not published"):
        heads_follow(dolt.folder)


@pytest.fixture
def finished(dolt: Prepared) -> tuple[Path, str]:
    """A scenario that got to its very end, and what it printed."""
    found = places(SCRIPT, [str(dolt.folder)], dolt.folder.parent / "record")
    last = [place for place in found if place.name == "transaction.store_aborted"][-1]
    folder = dolt.renew()
    return folder, kill_at(SCRIPT, [str(folder)], last)


def test_the_check_finds_a_lost_commit(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    with pytest.raises(AssertionError, match="I4"):
        crash.check(folder, f"{printed}\ncommitted something else\n")


def test_the_check_finds_a_torn_commit(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    with crash.open_catalog(folder) as catalog, catalog.transaction(message="half") as tx:
        crash.handle(tx, "two")["4"] = "1"
    with pytest.raises(AssertionError, match="I2"):
        crash.check(folder, printed)


@pytest.mark.parametrize(
    ("what", "error", "found"),
    [
        ("objects", FileNotFoundError, "objects"),
        ("versions", plait_errors.Corrupt, "has no version"),
        ("pins", AssertionError, "never prepared, or is not pinned"),
    ],
)
def test_the_check_finds_lost_data(finished: tuple[Path, str], what: str, error: type[Exception], found: str) -> None:
    folder, printed = finished
    for path in sorted((folder / "one" / what).rglob("*")):
        if path.is_file():
            path.unlink()
    with pytest.raises(error, match=found):
        crash.check(folder, printed)


def test_the_check_finds_an_overwritten_foreign_write(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    with crash.open_catalog(folder) as catalog:
        catalog.revert("main~1", message="overwrite")
    with pytest.raises(AssertionError, match="I4"):
        crash.check(folder, printed)
