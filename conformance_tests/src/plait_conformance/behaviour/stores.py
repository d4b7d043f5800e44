"""What holds of every catalog over stores: fakes of a kind `kind`, and with native heads of a kind `headed_kind`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import plait
import pytest
from plait.catalog import Catalog
from plait.errors import (
    InvalidArgument,
    NotFound,
    StoreUnavailable,
)
from plait.graph import LogFilter
from plait.types import Commit, Depth, Key, Mode

from plait_conformance.fake_handles import FakeAsset
from plait_conformance.fake_storage import Folder, head_items, hold, release, write_behind

A: Key = ("s", "a")


@pytest.fixture
def stored(catalog: Catalog, kind: str, tmp_path: Path) -> Iterator[Catalog]:
    """With the store `s` of that kind. At the end, everything that the history names is there."""
    catalog.add_store("s", kind, {"path": str(tmp_path / "store")})
    yield catalog
    assert list(catalog.verify(Depth.BYTES)) == []


@pytest.fixture
def headed(catalog: Catalog, headed_kind: str, tmp_path: Path) -> Iterator[Catalog]:
    """The same with native heads."""
    catalog.add_store("s", headed_kind, {"path": str(tmp_path / "store")})
    yield catalog
    assert list(catalog.verify(Depth.BYTES)) == []


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


class TestJoins:
    def test_a_side_that_went_back_to_the_base_is_no_change(self, stored: Catalog) -> None:
        """Its snapshot is another one where versions have parents, and its content is the base's."""
        write(stored, x=1)
        stored.create_branch("dev")
        write(stored, x=2)
        stored.revert("main")
        write(stored, "dev", x=5)
        stored.merge("main", "dev")
        assert held(stored, "dev") == {"x": 5}

    def test_two_writers_of_one_key_both_succeed(self, stored: Catalog) -> None:
        write(stored, x=1)
        one, two = stored.begin(), stored.begin()
        handle(one)["p"] = "1"
        handle(two)["q"] = "2"
        one.commit()
        two.commit()
        assert held(stored) == {"x": 1, "p": 1, "q": 2}
        assert stored.publish() == []

    def test_a_reverted_delete_brings_the_asset_back(self, stored: Catalog) -> None:
        write(stored, x=1)
        with stored.transaction() as tx:
            tx.drop(A)
        stored.revert("main")
        write(stored, y=2)
        assert held(stored) == {"x": 1, "y": 2}
        assert stored.publish() == []

    def test_items_and_wholes_are_restored(self, stored: Catalog) -> None:
        write(stored, x=1, y=1)
        write(stored, x=2, y=2)
        stored.restore("main~1", items={A: ["x"]})
        assert held(stored) == {"x": 1, "y": 2}
        stored.restore("main~2")
        assert held(stored) == {"x": 1, "y": 1}
        assert stored.publish() == []

    @pytest.mark.parametrize("undo", [Catalog.revert, Catalog.restore])
    def test_an_item_that_is_nowhere_is_refused_with_those_that_are_there(
        self, stored: Catalog, undo: Callable[..., Commit]
    ) -> None:
        write(stored, x=1, y=1)
        head = write(stored, x=2)
        with pytest.raises(NotFound, match=r"s\.a::nope does not exist at [0-9a-f]{12} nor at main"):
            undo(stored, "main", items={A: ["x", "nope"]})
        assert stored.resolve("main") == head
        assert stored.working_sets() == []

    def test_an_item_is_somewhere_where_any_side_holds_it(self, stored: Catalog) -> None:
        """The base and the working set too: they lose what the point does not hold, however often it is asked."""
        write(stored, x=1)
        write(stored, x=1, y=2)
        tx = stored.begin()
        handle(tx)["z"] = "3"
        for _ in range(2):
            tx.restore(A, "main~1", items=["x", "y"])
        assert dict(handle(tx)) == {"x": "1", "z": "3"}
        tx.restore(A, "main~1", items=["z"])
        with pytest.raises(NotFound, match="nope does not exist"):
            tx.restore(A, "main~1", items=["nope"])
        tx.commit()
        assert held(stored) == {"x": 1}
        assert stored.publish() == []

    def test_a_store_that_a_working_set_uses_is_not_removed(self, stored: Catalog) -> None:
        tx = stored.begin(name="prices")
        handle(tx)["x"] = "1"
        with pytest.raises(InvalidArgument, match=r"working set 'prices' holds assets of it \(s\.a\)") as caught:
            stored.remove_store("s")
        assert caught.value.remedy == "'plait tx discard prices'"
        tx.discard()
        stored.remove_store("s")
        assert "s" not in [store.name for store in stored.stores()]

    def test_a_store_that_moved_is_set_to_its_new_place(self, stored: Catalog, tmp_path: Path) -> None:
        write(stored, x=1)
        old, new = tmp_path / "store", tmp_path / "new"
        with pytest.raises(StoreUnavailable, match="is not there"):
            stored.set_store("s", {"path": str(new)})
        (new / "versions").mkdir(parents=True)
        with pytest.raises(InvalidArgument, match="of its 1 snapshots, 1 would be lost") as caught:
            stored.set_store("s", {"path": str(new)})
        assert asset_of(stored) in caught.value.message
        shutil.rmtree(new)
        shutil.copytree(old, new)
        with pytest.raises(InvalidArgument, match="takes exactly"):
            stored.set_store("s", {"nonsense": "1"})
        with pytest.raises(NotFound, match="'none'"):
            stored.set_store("none", {"path": str(new)})
        stored.add_store("pointers", "pointer", mode=Mode.POINTER)
        with pytest.raises(InvalidArgument, match="only records locations"):
            stored.set_store("pointers", {"path": str(new)})
        tx = stored.begin(name="prices")
        handle(tx)["x"] = "2"
        with pytest.raises(InvalidArgument, match=r"working set prices has staged s\.a"):
            stored.set_store("s", {"path": str(new)})
        tx.discard()
        assert stored.set_store("s", {"path": str(new)}) == stored.set_store("s", {"path": str(new)}) == []
        assert {one.name: dict(one.options) for one in stored.stores()}["s"] == {"path": str(new)}
        shutil.rmtree(old)
        write(stored, x=2)
        assert (held(stored), held(stored, "main~1")) == ({"x": 2}, {"x": 1})
        assert (stored.publish(), list(stored.verify(Depth.BYTES))) == ([], [])

    def test_an_imported_asset_is_written_on(self, stored: Catalog, tmp_path: Path) -> None:
        write_behind(tmp_path / "store", "native", {"x": "1"})
        stored.import_assets({A: "native"})
        write(stored, y=2)
        assert held(stored) == {"x": 1, "y": 2}
        assert stored.publish() == []

    def test_an_asset_dropped_and_made_anew_is_another_asset(self, stored: Catalog) -> None:
        write(stored, x=1)
        before = asset_of(stored)
        with stored.transaction() as tx:
            tx.drop(A)
            handle(tx)["y"] = "2"
        assert held(stored) == {"y": 2}
        assert asset_of(stored) != before
        assert stored.publish() == []

    def test_a_new_asset_under_a_renamed_ones_key_is_another(self, stored: Catalog) -> None:
        tx = stored.begin()
        handle(tx)["x"] = "1"
        tx.rename(A, ("s", "b"))
        handle(tx)["y"] = "2"
        tx.commit()
        assert (held(stored), held(stored, key=("s", "b"))) == ({"y": 2}, {"x": 1})
        assert content_id(stored, A) != content_id(stored, ("s", "b"))

    def test_the_log_of_a_key_follows_renames(self, stored: Catalog) -> None:
        """Also on a branch that knew the asset by its former name, and past other assets."""
        b, elsewhere = ("s", "b"), ("s", "c")
        made = write(stored, x=1)
        stored.create_branch("early", "main")
        with stored.transaction(message="unlike") as tx:
            handle(tx, elsewhere)["z"] = "1"
        with stored.transaction() as tx:
            tx.rename(A, b)
        renamed, changed = tx.committed, write(stored, "early", y=2)
        merged = stored.merge("early", into="main")
        another = write(stored, x=9)
        assert held(stored, key=b) == {"x": 1, "y": 2}
        assert list(stored.log("main", LogFilter(key=b))) == [merged, changed, renamed, made]
        assert list(stored.log("main", LogFilter(key=b, first_parent=True))) == [merged, renamed, made]
        assert list(stored.log("main", LogFilter(key=A))) == [another, changed, renamed, made]
        assert [commit.message for commit in stored.log("main", LogFilter(key=elsewhere))] == ["unlike"]
        assert len(list(stored.log("main", LogFilter(key=("s",))))) == 6

    def test_a_content_id_goes_with_the_asset(self, stored: Catalog) -> None:
        write(stored, x=1)
        first, b = content_id(stored, A), ("s", "b")
        with stored.transaction() as tx:
            tx.rename(A, b)
            handle(tx)["y"] = "2"
        assert content_id(stored, b) == first != content_id(stored, A)
        with stored.transaction() as tx:
            tx.drop(A)
            tx.rename(b, A)
        assert content_id(stored, A) == first
        with stored.transaction() as tx:
            tx.drop(A)
            tx.restore(A, "main")
        assert (content_id(stored, A), held(stored)) == (first, {"x": 1})
        assert stored.publish() == []


class TestNativeHeads:
    def test_a_renamed_asset_keeps_its_head(self, headed: Catalog) -> None:
        write(headed, x=1)
        with headed.transaction() as tx:
            tx.rename(A, ("s", "b"))
        assert held(headed, key=("s", "b")) == {"x": 1}
        assert headed.publish() == []

    def test_heads_follow_a_revert(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        write(headed, x=2)
        headed.revert("main")
        assert native(headed, tmp_path) == {"x": 1}


@pytest.mark.parametrize("headed_kind", ["fake-block"])
def test_a_busy_head_catches_up_when_it_is_released(headed: Catalog, tmp_path: Path) -> None:
    write(headed, x=1)
    hold(tmp_path / "store", asset_of(headed))
    for value in (2, 3, 4):
        write(headed, x=value)
    assert [one.state for one in headed.publish()] == ["busy"]
    assert native(headed, tmp_path) == {"x": 1}
    release(tmp_path / "store", asset_of(headed))
    assert headed.publish() == []
    assert native(headed, tmp_path) == {"x": 4}
    assert seqs(headed, tmp_path) == sorted(set(seqs(headed, tmp_path)))


@pytest.mark.parametrize("headed_kind", ["fake-block"])
def test_a_busy_head_whose_store_has_lost_its_data_is_not_waited_for(headed: Catalog, tmp_path: Path) -> None:
    write(headed, x=1)
    hold(tmp_path / "store", asset_of(headed))
    write(headed, x=2)
    versions, away = tmp_path / "store" / "versions", tmp_path / "away"
    versions.rename(away)
    missing, _ = headed.check_store("s")
    assert "has lost the snapshot at which plait left s.a" in missing[0].problem
    shutil.rmtree(versions, ignore_errors=True)
    away.rename(versions)
    release(tmp_path / "store", asset_of(headed))
    assert headed.publish() == []
