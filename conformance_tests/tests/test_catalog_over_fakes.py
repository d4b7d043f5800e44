"""The catalog asks every kind of strict fake store rightly, in the cases where a native head makes it hard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from plait.catalog import Catalog
from plait.clock import SystemClock
from plait.errors import AlreadyExists, CommitConflict, NotFound, PlaitError, StoreUnavailable, TransactionClosed
from plait.failpoint import armed
from plait.types import Conflicted, Key, Merged, Move, Published
from plait.working_set import WorkingSet
from plait_conformance.behaviour.adoption import TestAdoption
from plait_conformance.behaviour.stores import (
    A,
    TestJoins,
    TestNativeHeads,
    handle,
    headed,
    held,
    native,
    seqs,
    stored,
    test_a_busy_head_catches_up_when_it_is_released,
    write,
)
from plait_conformance.behaviour.working_sets import B
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_kinds import KINDS
from plait_conformance.fake_storage import Folder
from plait_conformance.scenes import Scene, make_scene

__all__ = [
    "TestAdoption",
    "TestJoins",
    "TestNativeHeads",
    "headed",
    "stored",
    "test_a_busy_head_catches_up_when_it_is_released",
]


class Died(BaseException):
    """What a test's failpoint raises: no production code catches it."""


class LateClock(SystemClock):
    """A server whose clock says that every lease has run out."""

    def now_us(self) -> int:
        return super().now_us() + 3_600_000_000


@pytest.fixture(params=[kind.kind for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[kind.kind for kind in KINDS if kind is not FakeAdapter])
def headed_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.fixture
def catalog(scene: Scene) -> Iterator[Catalog]:
    with scene.open() as made:
        yield made


@pytest.mark.parametrize("end", ["reopened", "discarded"])
def test_a_merge_that_died_after_its_native_writes_leaves_nothing_when_discarded(
    stored: Catalog, tmp_path: Path, end: str
) -> None:
    write(stored, x=1)
    stored.create_branch("dev")
    write(stored, y=2)
    write(stored, "dev", z=3)
    tx = stored.begin_merge("dev")

    def die(name: str) -> None:
        if name == "fake.merge.version_written":
            raise Died(name)

    with pytest.raises(Died), armed(die):
        tx.commit()
    if end == "reopened":
        tx.commit()
        assert held(stored) == {"x": 1, "y": 2, "z": 3}
    else:
        tx.discard()
        assert tx.id not in {owner for owner, _ in Folder(tmp_path / "store").pins()}


def test_writers_to_one_key_merge_once_each(stored: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has to merge waits for its turn before it does: what it merged would be onto a head that moves."""
    merges: list[str] = []
    merge = FakeAdapter.merge

    def counted(self: FakeAdapter, tx: str, attempt: int, **sides: Any) -> Merged | Conflicted:
        merges.append(tx)
        return merge(self, tx, attempt, **sides)

    monkeypatch.setattr(FakeAdapter, "merge", counted)
    write(stored, x=1)
    writers = [stored.begin() for _ in range(4)]
    for number, writer in enumerate(writers):
        handle(writer)[f"of-{number}"] = str(number)
    write(stored, y=2)
    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(WorkingSet.commit, writers))
    assert sorted(merges) == sorted(writer.id for writer in writers)
    assert held(stored) == {"x": 1, "y": 2, "of-0": 0, "of-1": 1, "of-2": 2, "of-3": 3}


def test_an_overtaken_move_of_a_dead_publisher_keeps_seq_growing(headed: Catalog, scene: Scene, tmp_path: Path) -> None:
    write(headed, x=1)

    def die(name: str) -> None:
        if name == "publisher.claimed":
            raise Died(name)

    tx = headed.begin()
    handle(tx)["x"] = "2"
    with pytest.raises(Died), armed(die):
        tx.commit()
    with scene.open(recover=False, clock=LateClock()) as other:
        write(other, x=3)
    assert native(headed, tmp_path) == {"x": 3}
    assert seqs(headed, tmp_path) == sorted(set(seqs(headed, tmp_path)))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Key, Move]]:
    """What stores are asked to move, as it comes."""
    asked: list[tuple[Key, Move]] = []
    publish = FakeAdapter.publish

    def told(self: FakeAdapter, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        asked.extend(moves.items())
        return publish(self, moves)

    monkeypatch.setattr(FakeAdapter, "publish", told)
    return asked


@pytest.mark.parametrize("changed", [False, True], ids=["renamed", "renamed-and-changed"])
def test_what_a_working_set_wrote_follows_a_rename_made_meanwhile(stored: Catalog, changed: bool) -> None:
    write(stored, x=1)
    working = stored.begin()
    handle(working).update({"y": "2"})
    with stored.transaction(message="rename") as tx:
        tx.rename(A, B)
        if changed:
            handle(tx, B).update({"z": "3"})
    working.commit()
    assert held(stored, key=B) == {"x": 1, "y": 2, **({"z": 3} if changed else {})}
    assert [entry.key for entry in stored.at("main").entries()] == [B]
    assert stored.publish() == []


def test_an_item_is_reverted_where_its_asset_is_now(stored: Catalog) -> None:
    write(stored, x=1)
    undone = write(stored, x=2, y=2)
    with stored.transaction(message="rename") as tx:
        tx.rename(A, B)
    stored.revert(f"@{undone.id}", items={A: ["x"]})
    assert held(stored, key=B) == {"x": 1, "y": 2}
    with pytest.raises(NotFound, match="does not exist at"):
        stored.revert(f"@{undone.id}", items={B: ["x"]})


def test_an_item_of_an_asset_that_a_commit_dropped_is_not_reverted_alone(stored: Catalog) -> None:
    write(stored, x=1)
    with stored.transaction(message="drop") as tx:
        tx.drop(A)
    undone = stored.resolve("main")
    write(stored, y=2)
    with pytest.raises(NotFound, match="does not exist at"):
        stored.revert(f"@{undone.id}", items={A: ["x"]})
    assert held(stored) == {"y": 2}


def test_a_head_may_be_named_after_its_key_so_a_rename_moves_it(headed: Catalog, moved: list[tuple[Key, Move]]) -> None:
    write(headed, x=1)
    moved.clear()
    with headed.transaction(message="rename") as tx:
        tx.rename(A, B)
    ((key, move),) = moved
    assert (key, move.before) == (B, move.after)
    assert (headed.publish(), len(moved)) == ([], 1)


def test_a_rename_while_the_head_moves_moves_it_again_under_its_new_key(
    headed: Catalog, scene: Scene, moved: list[tuple[Key, Move]]
) -> None:
    write(headed, x=1)

    def rename() -> None:
        with scene.open(recover=False) as other, other.transaction(message="rename") as tx:
            tx.rename(A, B)

    with armed(once_at("publisher.moved", rename)):
        write(headed, x=2)
    assert headed.publish() == []
    assert moved[-1][0] == B


def test_what_is_written_just_before_a_revert_of_its_item_begins_is_never_lost(
    stored: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stored, x=1)
    undone = write(stored, x=2)
    begin = stored.begin

    def late(*arguments: Any, **options: Any) -> WorkingSet:
        monkeypatch.undo()
        write(stored, x=3)
        return begin(*arguments, **options)

    monkeypatch.setattr(stored, "begin", late)
    with pytest.raises(CommitConflict) as raised:
        stored.revert(f"@{undone.id}", items={A: ["x"]})
    assert held(stored) == {"x": 3}
    stored.working_set(raised.value.details["tx"]).discard()
    assert list(stored.working_sets()) == []


class TestAfterTheCommitPoint:
    def test_a_failure_to_publish_is_caught_up_with_later(self, headed: Catalog, tmp_path: Path) -> None:
        def fail(name: str) -> None:
            if name == "publisher.behind":
                raise StoreUnavailable("the catalog's database went away for a moment")

        with armed(fail):
            write(headed, x=1)
        assert (held(headed), native(headed, tmp_path)) == ({"x": 1}, None)
        write(headed, x=2)
        assert native(headed, tmp_path) == {"x": 2}

    def test_what_a_failed_publisher_left_claimed_is_free_at_once(self, headed: Catalog, tmp_path: Path) -> None:
        """Its process lives on, so its lease would hold everybody up until it ends."""
        write(headed, x=1)
        with armed(fail_after("publisher.moved", "persist.before_commit")):
            write(headed, x=2)
        assert headed.publish() == []
        write(headed, x=3)
        assert native(headed, tmp_path) == {"x": 3}

    def test_an_interrupt_goes_on_and_the_commit_stays(self, headed: Catalog) -> None:
        def interrupt(name: str) -> None:
            if name == "coordinator.after_commit_point":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), armed(interrupt):
            write(headed, x=1)
        assert held(headed) == {"x": 1}


class TestRelease:
    """What a working set staged goes once it is committed; what its commit names stays."""

    def staged(self, tmp_path: Path) -> list[Path]:
        return list((tmp_path / "store" / "stagings").glob("*/*"))

    def test_a_commit_drops_what_was_staged_for_it_on_any_branch(self, stored: Catalog, tmp_path: Path) -> None:
        write(stored, x=1)
        stored.create_branch("dev")
        other = stored.begin("dev")
        handle(other)["y"] = "2"
        (kept,) = self.staged(tmp_path)
        write(stored, "dev", x=3)
        assert self.staged(tmp_path) == [kept]
        other.commit()
        assert self.staged(tmp_path) == []
        assert held(stored, "dev") == {"x": 3, "y": 2}

    def test_recovery_drops_what_a_dead_process_did_not(self, stored: Catalog, scene: Scene, tmp_path: Path) -> None:
        def die(name: str) -> None:
            if name == "coordinator.after_commit_point":
                raise Died

        tx = stored.begin()
        handle(tx)["x"] = "1"
        with armed(die), pytest.raises(Died):
            tx.commit()
        assert self.staged(tmp_path)
        with scene.open() as again:
            assert self.staged(tmp_path) == []
            assert held(again) == {"x": 1}
            assert again.recover() == []

    def test_a_store_that_is_down_does_not_fail_the_commit(
        self, stored: Catalog, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = next(made for made in KINDS if made.kind == kind)
        with monkeypatch.context() as patched:
            patched.setattr(adapter, "release", _down)
            write(stored, x=1)
        assert self.staged(tmp_path)
        assert [sentence for sentence in stored.recover() if "staged for its commit" in sentence]
        assert self.staged(tmp_path) == []


def _down(self: FakeAdapter, tx: str, kept: object) -> None:
    raise StoreUnavailable("the store is down")


def once_at(place: str, action: Callable[[], object]) -> Callable[[str], None]:
    """A failpoint's handler: somebody else does this the first time that the place is reached."""
    waiting = [action]

    def reached(name: str) -> None:
        if name == place and waiting:
            waiting.pop()()

    return reached


def fail_at(place: str) -> Callable[[str], None]:
    def fail() -> None:
        raise StoreUnavailable("it went away for a moment")

    return once_at(place, fail)


def fail_after(first: str, then: str) -> Callable[[str], None]:
    """A failpoint's handler: where `then` is reached after `first`, it fails, once."""
    failing = fail_at(then)
    is_after = False

    def reached(name: str) -> None:
        nonlocal is_after
        is_after |= name == first
        if is_after:
            failing(name)

    return reached


class TestSeveralAtOneWorkingSet:
    """Two clients of one working set, each of whose calls falls into the midst of the other's."""

    @pytest.mark.parametrize("end", ["renamed", "dropped"])
    def test_an_asset_that_is_renamed_or_dropped_while_it_is_opened_is_not_there(
        self, stored: Catalog, end: str
    ) -> None:
        write(stored, x=1)
        tx = stored.begin()
        action = (lambda: tx.rename(A, B)) if end == "renamed" else (lambda: tx.drop(A))
        with armed(once_at("transaction.staged_natively", action)), pytest.raises(NotFound):
            tx.open(A)
        there = [B] if end == "renamed" else []
        assert tx.keys("s") == there
        tx.commit()
        assert [entry.key for entry in stored.at("main").entries()] == there

    def test_a_commit_overtakes_a_preview_which_leaves_no_votes_behind(self, stored: Catalog) -> None:
        write(stored, x=1)
        tx = stored.begin()
        handle(tx)["x"] = "2"
        with armed(once_at("coordinator.prepared", tx.commit)), pytest.raises(TransactionClosed, match="is committed"):
            stored.working_set(tx.id).preview()
        assert held(stored) == {"x": 2}
        assert list(tx.participants()) == []
        assert stored.recover() == []

    @pytest.mark.parametrize("place", ["coordinator.prepared", "coordinator.voted", "coordinator.before_commit_point"])
    def test_a_commit_that_is_discarded_meanwhile_says_so_and_leaves_nothing(self, stored: Catalog, place: str) -> None:
        write(stored, x=1)
        tx = stored.begin()
        handle(tx)["x"] = "2"
        with armed(once_at(place, tx.discard)), pytest.raises(TransactionClosed, match="is aborted"):
            stored.working_set(tx.id).commit()
        assert held(stored) == {"x": 1}
        assert list(tx.participants()) == []

    @pytest.mark.parametrize(
        "place",
        ["transaction.intended", "transaction.staged_natively", "fake.restore.before_place", "coordinator.prepared"],
    )
    def test_what_is_written_natively_while_it_is_discarded_goes_too(
        self, stored: Catalog, tmp_path: Path, place: str
    ) -> None:
        write(stored, x=1)
        write(stored, x=2)
        tx = stored.begin()
        if place == "coordinator.prepared":
            handle(tx)["x"] = "3"
        with armed(once_at(place, tx.discard)), pytest.raises(PlaitError):
            tx.commit() if place == "coordinator.prepared" else tx.restore(A, "main~1")
        folder = Folder(tmp_path / "store")
        assert list((folder.path / "stagings").glob("*/*")) == []
        assert tx.id not in {owner for owner, _ in folder.pins()}

    def test_an_asset_that_is_renamed_while_it_is_restored_is_not_put_back(self, stored: Catalog) -> None:
        write(stored, x=1)
        write(stored, x=2)
        tx = stored.begin()
        with (
            armed(once_at("fake.restore.before_place", lambda: tx.rename(A, B))),
            pytest.raises(NotFound, match="renamed or dropped meanwhile"),
        ):
            tx.restore(A, "main~1")
        assert tx.keys("s") == [B]

    def test_who_comes_while_it_is_committed_is_told_to_try_again(self, stored: Catalog) -> None:
        tx = stored.begin()
        opened = handle(tx)
        opened["x"] = "1"

        def write_too() -> None:
            with pytest.raises(TransactionClosed, match="being committed or previewed · try again"):
                opened["x"] = "2"

        with armed(once_at("coordinator.prepared", write_too)):
            tx.commit()
        assert held(stored) == {"x": 1}


@pytest.mark.parametrize("left", ["intent", "join"])
def test_a_key_whose_row_is_nobodys_write_is_seen_as_the_base_has_it(stored: Catalog, left: str) -> None:
    """A staging that failed leaves an intent, a merge that failed late leaves what it made."""
    write(stored, x=1)
    stored.create_branch("dev")
    write(stored, y=2)
    write(stored, "dev", z=3)
    tx = stored.begin_merge("dev") if left == "join" else stored.begin()
    place = "coordinator.before_commit_point" if left == "join" else "transaction.intended"
    with armed(fail_at(place)), pytest.raises(StoreUnavailable):
        tx.commit() if left == "join" else tx.open(A)
    assert tx.keys("s") == [A]
    assert list(tx.diff_items(A)) == []
    handle(tx, B)["w"] = "4"
    with pytest.raises(AlreadyExists):
        tx.rename(B, A)
    tx.restore(A, "main~1")
    tx.drop(A)
    assert tx.keys("s") == [B]
