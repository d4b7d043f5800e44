"""The catalog asks every kind of strict fake store rightly, in the cases where a native head makes it hard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import plait
import pytest
from plait.catalog import Catalog
from plait.clock import SystemClock
from plait.errors import CommitConflict, NotFound, NothingToCommit, StoreUnavailable
from plait.failpoint import armed
from plait.local import create
from plait.persist import Database
from plait.types import Choice, Commit, Depth, Key
from plait_conformance.crash import open_catalog
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_handles import FakeAsset
from plait_conformance.fake_kinds import KINDS
from plait_conformance.fake_storage import Folder, head_items, hold, release, write_behind

A: Key = ("s", "a")
every = pytest.mark.parametrize("kind", [kind.kind for kind in KINDS])
headed = pytest.mark.parametrize("kind", [kind.kind for kind in KINDS if kind is not FakeAdapter])


class Died(BaseException):
    """What a test's failpoint raises: no production code catches it."""


class LateClock(SystemClock):
    """A server whose clock says that every lease has run out."""

    def now_us(self) -> int:
        return super().now_us() + 3_600_000_000


@pytest.fixture
def catalog(kind: str, tmp_path: Path) -> Iterator[Catalog]:
    """At the end, everything that the history names is there."""
    database = Database(f"sqlite:///{tmp_path / '.plait' / 'catalog.db'}")
    create(database)
    database.close()
    with open_catalog(tmp_path) as made:
        made.add_store("s", kind, {"path": str(tmp_path / "store")})
        yield made
        assert list(made.verify(Depth.BYTES)) == []


def handle(tx: plait.WorkingSet, key: Key = A) -> FakeAsset:
    return cast(FakeAsset, tx.open(key, create=True))


def write(catalog: Catalog, branch: str = "main", **items: int) -> Commit:
    with catalog.transaction(branch, message=json.dumps(items)) as tx:
        handle(tx).update({item: str(value) for item, value in items.items()})
    assert tx.committed is not None
    return tx.committed


def held(catalog: Catalog, spec: str = "main", key: Key = A) -> dict[str, int]:
    opened = cast("Mapping[str, str]", catalog.at(spec).open(key))
    return {item: int(text) for item, text in opened.items()}


def asset_of(catalog: Catalog) -> str:
    return catalog.backend.get("main", [A])[A].snapshot.asset


def content_id(catalog: Catalog, key: Key) -> str:
    return catalog.backend.get("main", [key])[key].content_id


def native(catalog: Catalog, tmp_path: Path) -> dict[str, int] | None:
    items = head_items(tmp_path / "store", asset_of(catalog))
    return None if items is None else {item: int(text) for item, text in items.items()}


def foreign(catalog: Catalog, tmp_path: Path, **items: int) -> None:
    write_behind(tmp_path / "store", asset_of(catalog), {item: str(value) for item, value in items.items()})


def seqs(catalog: Catalog, tmp_path: Path) -> list[int]:
    return [head.seq for head in Folder(tmp_path / "store").log(asset_of(catalog)) if head.seq]


@every
class TestThreeWay:
    def test_a_side_that_went_back_to_the_base_is_no_change(self, catalog: Catalog) -> None:
        """Its snapshot is another one where versions have parents, and its content is the base's."""
        write(catalog, x=1)
        catalog.create_branch("dev")
        write(catalog, x=2)
        catalog.revert("main")
        write(catalog, "dev", x=5)
        catalog.merge("main", "dev")
        assert held(catalog, "dev") == {"x": 5}

    def test_two_writers_of_one_key_both_succeed(self, catalog: Catalog) -> None:
        write(catalog, x=1)
        one, two = catalog.begin(), catalog.begin()
        handle(one)["p"] = "1"
        handle(two)["q"] = "2"
        one.commit()
        two.commit()
        assert held(catalog) == {"x": 1, "p": 1, "q": 2}
        assert catalog.publish() == []

    def test_a_reverted_delete_brings_the_asset_back(self, catalog: Catalog) -> None:
        write(catalog, x=1)
        with catalog.transaction() as tx:
            tx.drop(A)
        catalog.revert("main")
        write(catalog, y=2)
        assert held(catalog) == {"x": 1, "y": 2}
        assert catalog.publish() == []

    def test_items_and_wholes_are_restored(self, catalog: Catalog) -> None:
        write(catalog, x=1, y=1)
        write(catalog, x=2, y=2)
        catalog.restore("main~1", items={A: ["x"]})
        assert held(catalog) == {"x": 1, "y": 2}
        catalog.restore("main~2")
        assert held(catalog) == {"x": 1, "y": 1}
        assert catalog.publish() == []

    def test_an_imported_asset_is_written_on(self, catalog: Catalog, tmp_path: Path) -> None:
        write_behind(tmp_path / "store", "native", {"x": "1"})
        catalog.import_assets({A: "native"})
        write(catalog, y=2)
        assert held(catalog) == {"x": 1, "y": 2}
        assert catalog.publish() == []

    def test_an_asset_dropped_and_made_anew_is_another_asset(self, catalog: Catalog) -> None:
        write(catalog, x=1)
        before = asset_of(catalog)
        with catalog.transaction() as tx:
            tx.drop(A)
            handle(tx)["y"] = "2"
        assert held(catalog) == {"y": 2}
        assert asset_of(catalog) != before
        assert catalog.publish() == []

    def test_a_new_asset_under_a_renamed_ones_key_is_another(self, catalog: Catalog) -> None:
        tx = catalog.begin()
        handle(tx)["x"] = "1"
        tx.rename(A, ("s", "b"))
        handle(tx)["y"] = "2"
        tx.commit()
        assert (held(catalog), held(catalog, key=("s", "b"))) == ({"y": 2}, {"x": 1})
        assert content_id(catalog, A) != content_id(catalog, ("s", "b"))

    def test_a_content_id_goes_with_the_asset(self, catalog: Catalog) -> None:
        write(catalog, x=1)
        first, b = content_id(catalog, A), ("s", "b")
        with catalog.transaction() as tx:
            tx.rename(A, b)
            handle(tx)["y"] = "2"
        assert content_id(catalog, b) == first != content_id(catalog, A)
        with catalog.transaction() as tx:
            tx.drop(A)
            tx.rename(b, A)
        assert content_id(catalog, A) == first
        with catalog.transaction() as tx:
            tx.drop(A)
            tx.restore(A, "main")
        assert (content_id(catalog, A), held(catalog)) == (first, {"x": 1})
        assert catalog.publish() == []

    @pytest.mark.parametrize("end", ["reopened", "discarded"])
    def test_a_merge_that_died_after_its_native_writes_leaves_nothing_when_discarded(
        self, catalog: Catalog, tmp_path: Path, end: str
    ) -> None:
        write(catalog, x=1)
        catalog.create_branch("dev")
        write(catalog, y=2)
        write(catalog, "dev", z=3)
        tx = catalog.begin_merge("dev")

        def die(name: str) -> None:
            if name == "fake.merge.version_written":
                raise Died(name)

        with pytest.raises(Died), armed(die):
            tx.commit()
        if end == "reopened":
            tx.commit()
            assert held(catalog) == {"x": 1, "y": 2, "z": 3}
        else:
            tx.discard()
            assert tx.id not in {owner for owner, _ in Folder(tmp_path / "store").pins()}


@headed
class TestPublishing:
    def test_a_renamed_asset_keeps_its_head(self, catalog: Catalog) -> None:
        write(catalog, x=1)
        with catalog.transaction() as tx:
            tx.rename(A, ("s", "b"))
        assert held(catalog, key=("s", "b")) == {"x": 1}
        assert catalog.publish() == []

    def test_heads_follow_a_revert(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        write(catalog, x=2)
        catalog.revert("main")
        assert native(catalog, tmp_path) == {"x": 1}

    def test_an_overtaken_move_of_a_dead_publisher_keeps_seq_growing(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)

        def die(name: str) -> None:
            if name == "publisher.claimed":
                raise Died(name)

        tx = catalog.begin()
        handle(tx)["x"] = "2"
        with pytest.raises(Died), armed(die):
            tx.commit()
        with open_catalog(tmp_path, recover=False, clock=LateClock()) as other:
            write(other, x=3)
        assert native(catalog, tmp_path) == {"x": 3}
        assert seqs(catalog, tmp_path) == sorted(set(seqs(catalog, tmp_path)))


@pytest.mark.parametrize("kind", ["fake-dolt"])
class TestAfterTheCommitPoint:
    def test_a_failure_to_publish_is_caught_up_with_later(self, catalog: Catalog, tmp_path: Path) -> None:
        def fail(name: str) -> None:
            if name == "publisher.targets_set":
                raise StoreUnavailable("the catalog's database went away for a moment")

        with armed(fail):
            write(catalog, x=1)
        assert (held(catalog), native(catalog, tmp_path)) == ({"x": 1}, None)
        write(catalog, x=2)
        assert native(catalog, tmp_path) == {"x": 2}

    def test_an_interrupt_goes_on_and_the_commit_stays(self, catalog: Catalog) -> None:
        def interrupt(name: str) -> None:
            if name == "coordinator.after_commit_point":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), armed(interrupt):
            write(catalog, x=1)
        assert held(catalog) == {"x": 1}


@pytest.mark.parametrize("kind", ["fake-block"])
def test_a_busy_head_catches_up_when_it_is_released(catalog: Catalog, tmp_path: Path) -> None:
    write(catalog, x=1)
    hold(tmp_path / "store", asset_of(catalog))
    for value in (2, 3, 4):
        write(catalog, x=value)
    assert [one.state for one in catalog.publish()] == ["busy"]
    assert native(catalog, tmp_path) == {"x": 1}
    release(tmp_path / "store", asset_of(catalog))
    assert catalog.publish() == []
    assert native(catalog, tmp_path) == {"x": 4}
    assert seqs(catalog, tmp_path) == sorted(set(seqs(catalog, tmp_path)))


@headed
class TestAdoption:
    def test_what_was_found_and_what_was_committed_are_joined(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=1, f=9)
        write(catalog, y=2)
        assert [one.state for one in catalog.publish()] == ["diverged"]
        catalog.adopt(A)
        assert held(catalog) == native(catalog, tmp_path) == {"x": 1, "f": 9, "y": 2}
        assert catalog.publish() == []
        with pytest.raises(NotFound, match="has not diverged"):
            catalog.adopt(A)

    def test_a_found_head_of_equal_content_is_succeeded(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=2)
        write(catalog, x=2)
        catalog.adopt(A)
        assert catalog.publish() == []
        write(catalog, x=3)
        assert native(catalog, tmp_path) == {"x": 3}

    def test_a_foreign_rewrite_of_the_published_content_is_succeeded(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=1)
        write(catalog, x=2)
        catalog.adopt(A)
        assert catalog.publish() == []
        assert held(catalog) == native(catalog, tmp_path) == {"x": 2}

    @pytest.mark.parametrize(("choice", "expected"), [(Choice.OURS, 2), (Choice.THEIRS, 8), (Choice.BASE, 1)])
    @pytest.mark.parametrize("finish", ["commit", "adopt"])
    def test_a_settled_conflict_stays_settled(
        self, catalog: Catalog, tmp_path: Path, choice: Choice, expected: int, finish: str
    ) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=8)
        write(catalog, x=2)
        with pytest.raises(CommitConflict) as caught:
            catalog.adopt(A)
        tx = catalog.working_set(caught.value.details["tx"])
        with pytest.raises(CommitConflict):
            catalog.adopt(A)
        assert [one.id for one in catalog.working_sets()] == [tx.id]
        tx.resolve(A, choice, item="x")
        try:
            if finish == "adopt":
                catalog.adopt(A)
            else:
                tx.commit()
        except NothingToCommit:
            assert (finish, choice) == ("commit", Choice.OURS)
        assert catalog.working_sets() == []
        assert catalog.publish() == []
        assert held(catalog) == native(catalog, tmp_path) == {"x": expected}

    @pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
    def test_an_asset_that_is_gone_is_deleted_or_comes_back(
        self, catalog: Catalog, tmp_path: Path, choice: Choice
    ) -> None:
        write(catalog, x=1)
        write_behind(tmp_path / "store", asset_of(catalog), None)
        write(catalog, x=2)
        before = asset_of(catalog)
        with pytest.raises(CommitConflict, match="1 conflict") as caught:
            catalog.adopt(A)
        tx = catalog.working_set(caught.value.details["tx"])
        tx.resolve(A, choice)
        if choice is Choice.OURS:
            assert catalog.adopt(A) is None
            assert held(catalog) == native(catalog, tmp_path) == {"x": 2}
        else:
            catalog.adopt(A)
            assert list(catalog.at("main").entries()) == []
            assert head_items(tmp_path / "store", before) is None
        assert catalog.publish() == []
        assert catalog.working_sets() == []

    def test_a_discarded_adoption_is_begun_again(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=8)
        write(catalog, x=2)
        ids = set()
        for _ in range(2):
            with pytest.raises(CommitConflict) as caught:
                catalog.adopt(A)
            ids.add(caught.value.details["tx"])
            catalog.working_set(caught.value.details["tx"]).discard()
        assert len(ids) == 2

    def test_a_later_foreign_write_is_found_again(self, catalog: Catalog, tmp_path: Path) -> None:
        write(catalog, x=1)
        foreign(catalog, tmp_path, x=1, f=9)
        write(catalog, y=2)
        foreign(catalog, tmp_path, x=1, f=9, g=9)
        for _ in range(2):
            catalog.adopt(A)
        assert held(catalog) == native(catalog, tmp_path) == {"x": 1, "f": 9, "g": 9, "y": 2}
