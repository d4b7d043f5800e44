"""doltlite writes all its tags and branches anew with each change of one: plait keeps few, and loses nothing by it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from plait.errors import PlaitError
from plait.failpoint import armed
from plait.types import Depth, Merged, SnapshotRef
from plait_dolt.adapter import DoltAdapter
from plait_dolt.names import KEPT, OWN
from plait_dolt.testing import Place, Transaction, rows

pytestmark = pytest.mark.parametrize("place", ["doltlite"], indirect=True)

CITY = "CREATE TABLE city (id INT PRIMARY KEY, pop INT)"


def commit(adapter: DoltAdapter, place: Place, base: SnapshotRef | None, *statements: str) -> SnapshotRef:
    """One transaction, from its begin to its end."""
    tx, voted = prepared(adapter, place, base, *statements)
    adapter.release(tx.tx, [voted])
    return voted


def prepared(
    adapter: DoltAdapter, place: Place, base: SnapshotRef | None, *statements: str
) -> tuple[Transaction, SnapshotRef]:
    """One transaction, from its begin to its vote."""
    tx = Transaction(adapter, place.key, str(uuid.uuid4()), base)
    tx.run(*statements)
    return tx, tx.prepare()


def line(adapter: DoltAdapter, place: Place, base: SnapshotRef, *numbers: int) -> list[SnapshotRef]:
    made = []
    for number in numbers:
        made.append(commit(adapter, place, made[-1] if made else base, f"INSERT INTO city VALUES ({number}, 0)"))
    return made


def kept(adapter: DoltAdapter, place: Place) -> list[str]:
    """The commits that plait's tags name."""
    with adapter.engine.session(place.name, "") as session:
        return sorted(session.tags(OWN).values())


def versions(*snapshots: SnapshotRef) -> list[str]:
    return sorted(snapshot.version for snapshot in snapshots)


@pytest.mark.slow
def test_the_file_grows_with_its_commits_and_not_with_their_square(place: Place) -> None:
    adapter = place.adapter()
    last = commit(adapter, place, None, CITY)
    path = Path(place.options["path"]) / f"{place.name}.db"
    sizes = [path.stat().st_size]
    for start in (0, 50):
        last = line(adapter, place, last, *range(start, start + 50))[-1]
        sizes.append(path.stat().st_size)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert second < 2 * first  # By the square it were three times as much.
    assert second < 50 * 16 * 1024


def test_the_ends_keep_all_that_they_descend_from(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    main = line(adapter, place, base, 1, 2, 3)
    side = line(adapter, place, main[0], 4, 5)
    assert kept(adapter, place) == versions(main[-1], side[-1])
    adapter.engine.collect(place.name)
    again = place.adapter()
    for snapshot, ids in zip([base, *main, *side], [[], [1], [1, 2], [1, 2, 3], [1, 4], [1, 4, 5]], strict=True):
        assert [row["id"] for row in rows(again, snapshot, "city")] == ids
        assert again.verify(snapshot, Depth.BYTES).problems == ()


@pytest.mark.slow
def test_a_commit_that_no_tag_keeps_is_told(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    one, two = line(adapter, place, base, 1, 2)
    assert adapter.verify(one, Depth.METADATA).problems == ()
    with adapter.engine.session(place.name, "") as session:
        (tag,) = session.tags(OWN)
        session.pin(f"{KEPT}{base.version}", base.version)
        session.call("dolt_tag", "-d", tag)
    assert adapter.verify(base, Depth.METADATA).problems == ()
    for lost in (one, two):
        (problem,) = adapter.verify(lost, Depth.METADATA).problems
        assert "no tag" in problem


def test_a_merge_takes_the_place_of_both_sides(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    ours = line(adapter, place, base, *range(1, 41))[-1]
    theirs = line(adapter, place, base, 100)[-1]
    tx = str(uuid.uuid4())
    merged = adapter.merge(tx, 1, base=base, ours=ours, theirs=theirs)
    assert isinstance(merged, Merged)
    adapter.release(tx, [merged.snapshot])
    assert kept(adapter, place) == versions(merged.snapshot)


def test_a_release_that_is_repeated_by_another_process_drops_the_same_tags(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    tx, voted = prepared(adapter, place, base, "INSERT INTO city VALUES (1, 0)")
    assert kept(adapter, place) == versions(base, voted)
    for _ in range(2):
        place.adapter().release(tx.tx, [voted])
        assert kept(adapter, place) == versions(voted)


def test_two_processes_may_release_at_once(place: Place) -> None:
    """A recovery, while the one that committed is still at it."""
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    tx, voted = prepared(adapter, place, base, "INSERT INTO city VALUES (1, 0)")
    others = iter([place.adapter()])

    def meanwhile(name: str) -> None:
        other = next(others, None) if name == "dolt.end.kept" else None
        if other is not None:
            other.release(tx.tx, [voted])

    with armed(meanwhile):
        adapter.release(tx.tx, [voted])
    assert next(others, None) is None
    assert kept(adapter, place) == versions(voted)


def test_a_vote_stays_until_its_own_transaction_ends(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    sealed = Transaction(adapter, place.key, str(uuid.uuid4()), base)
    assert sealed.prepare() == base
    line(adapter, place, base, 1, 2)
    sealed.run("INSERT INTO city VALUES (7, 0)")
    assert place.adapter().prepare(sealed.tx, 1, {place.key: sealed.staging})[place.key] == base
    adapter.abort(sealed.tx)
    assert len(kept(adapter, place)) == 1


def test_what_a_commit_keeps_outlives_the_abort_that_an_older_copy_of_the_catalog_asks_for(place: Place) -> None:
    """In such a copy the transaction is not committed yet, and its lease has run out."""
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    tx, voted = prepared(adapter, place, base, "INSERT INTO city VALUES (1, 0)")
    adapter.release(tx.tx, [voted])
    place.adapter().abort(tx.tx)
    adapter.engine.collect(place.name)
    for snapshot in (base, voted):
        assert adapter.verify(snapshot, Depth.BYTES).problems == ()


@pytest.mark.slow
def test_nothing_is_superseded_by_what_is_not_there_any_more(place: Place) -> None:
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    tx, voted = prepared(adapter, place, base, "INSERT INTO city VALUES (1, 0)")
    adapter.abort(tx.tx)
    adapter.release(tx.tx, [voted])
    assert kept(adapter, place) == versions(base)


def test_what_is_alive_outlives_the_tags_of_its_descendants(place: Place) -> None:
    """A branch was dropped, and retention ends its commits; one in their middle has a name."""
    adapter = place.adapter()
    base = commit(adapter, place, None, CITY)
    main = line(adapter, place, base, 1, 2)
    side = line(adapter, place, base, 3, 4, 5)
    alive = [base, *main, side[1]]

    def sweep() -> None:
        needed = {item.path for snapshot in alive for item in adapter.reachable(snapshot)}
        adapter.delete([item for item in adapter.inventory() if item.path not in needed])

    for left in ([main[1], side[0], side[1]], [main[1], side[1]], [main[1], side[1]]):
        sweep()
        assert kept(adapter, place) == versions(*left)
        for snapshot in alive:
            assert place.adapter().verify(snapshot, Depth.BYTES).problems == ()
    alive.remove(side[1])
    sweep()
    assert kept(adapter, place) == versions(main[1], side[0])  # Nothing says that it is dead.
    sweep()
    assert kept(adapter, place) == versions(main[1])
    with pytest.raises(PlaitError):
        rows(adapter, side[1], "city")
