"""What holds of native heads that somebody wrote past plait: they are found, and adopted with what was committed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plait.backend import Problem
from plait.catalog import Catalog
from plait.errors import CommitConflict, NotFound, NothingToCommit, StoreDiverged
from plait.types import Choice

from plait_conformance.behaviour.stores import A, asset_of, foreign, held, native, write
from plait_conformance.fake_storage import head_items, write_behind


class TestAdoption:
    def test_what_was_found_and_what_was_committed_are_joined(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=1, f=9)
        write(headed, y=2)
        assert [one.state for one in headed.publish()] == ["diverged"]
        headed.adopt(A)
        assert held(headed) == native(headed, tmp_path) == {"x": 1, "f": 9, "y": 2}
        assert headed.publish() == []
        with pytest.raises(NotFound, match="has not diverged"):
            headed.adopt(A)

    @pytest.mark.parametrize("ask", ["adopt", "check"])
    def test_a_foreign_write_is_found_when_it_is_asked_for(self, headed: Catalog, tmp_path: Path, ask: str) -> None:
        write(headed, x=1)
        assert (headed.check_store("s")[0], headed.publish()) == ([], [])
        foreign(headed, tmp_path, x=1, f=9)
        if ask == "check":
            headed.check_store("s")
            assert [one.state for one in headed.publish()] == ["diverged"]
        headed.adopt(A)
        assert held(headed) == native(headed, tmp_path) == {"x": 1, "f": 9}
        assert headed.publish() == []

    def test_verify_tells_a_head_that_diverged_and_records_nothing(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        found = Problem(
            f"store s, {asset_of(headed)}", "s.a was written past plait", "plait store adopt s.a", StoreDiverged.code
        )
        foreign(headed, tmp_path, x=1, f=9)
        assert list(headed.verify()) == list(headed.verify()) == [found]
        assert headed.unpublished() == []
        headed.check_store("s")
        assert list(headed.verify()) == [found]
        headed.adopt(A)
        assert list(headed.verify()) == []

    def test_what_has_diverged_is_adopted_as_it_is_now(self, headed: Catalog, tmp_path: Path) -> None:
        """Not as it was when it was found: who wrote past plait may have gone on, or gone back."""
        write(headed, x=1)
        foreign(headed, tmp_path, x=1, f=8)
        headed.check_store("s")
        foreign(headed, tmp_path, x=1, f=9)
        headed.adopt(A)
        assert held(headed) == native(headed, tmp_path) == {"x": 1, "f": 9}

    def test_a_head_that_is_back_has_not_diverged(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        place, backup = tmp_path / "store", tmp_path / "backup"
        shutil.copytree(place, backup)
        foreign(headed, tmp_path, f=9)
        headed.check_store("s")
        assert [one.state for one in headed.publish()] == ["diverged"]
        shutil.rmtree(place)
        shutil.copytree(backup, place)
        assert list(headed.verify()) == []
        with pytest.raises(NotFound, match="has not diverged"):
            headed.adopt(A)
        write(headed, x=1, y=2)
        assert (headed.publish(), native(headed, tmp_path)) == ([], {"x": 1, "y": 2})

    def test_a_found_head_of_equal_content_is_succeeded(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=2)
        write(headed, x=2)
        headed.adopt(A)
        assert headed.publish() == []
        write(headed, x=3)
        assert native(headed, tmp_path) == {"x": 3}

    def test_a_foreign_rewrite_of_the_published_content_is_succeeded(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=1)
        write(headed, x=2)
        headed.adopt(A)
        assert headed.publish() == []
        assert held(headed) == native(headed, tmp_path) == {"x": 2}

    @pytest.mark.parametrize(("choice", "expected"), [(Choice.OURS, 2), (Choice.THEIRS, 8), (Choice.BASE, 1)])
    @pytest.mark.parametrize("finish", ["commit", "adopt"])
    def test_a_settled_conflict_stays_settled(
        self, headed: Catalog, tmp_path: Path, choice: Choice, expected: int, finish: str
    ) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=8)
        write(headed, x=2)
        with pytest.raises(CommitConflict) as caught:
            headed.adopt(A)
        tx = headed.working_set(caught.value.details["tx"])
        with pytest.raises(CommitConflict):
            headed.adopt(A)
        assert [one.id for one in headed.working_sets()] == [tx.id]
        tx.resolve(A, choice, item="x")
        try:
            if finish == "adopt":
                headed.adopt(A)
            else:
                tx.commit()
        except NothingToCommit:
            assert (finish, choice) == ("commit", Choice.OURS)
        assert headed.working_sets() == []
        assert headed.publish() == []
        assert held(headed) == native(headed, tmp_path) == {"x": expected}

    @pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
    def test_an_asset_that_is_gone_is_deleted_or_comes_back(
        self, headed: Catalog, tmp_path: Path, choice: Choice
    ) -> None:
        write(headed, x=1)
        write_behind(tmp_path / "store", asset_of(headed), None)
        write(headed, x=2)
        before = asset_of(headed)
        with pytest.raises(CommitConflict, match="1 conflict") as caught:
            headed.adopt(A)
        tx = headed.working_set(caught.value.details["tx"])
        tx.resolve(A, choice)
        if choice is Choice.OURS:
            assert headed.adopt(A) is None
            assert held(headed) == native(headed, tmp_path) == {"x": 2}
        else:
            headed.adopt(A)
            assert list(headed.at("main").entries()) == []
            assert head_items(tmp_path / "store", before) is None
        assert headed.publish() == []
        assert headed.working_sets() == []

    def test_a_discarded_adoption_is_begun_again(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=8)
        write(headed, x=2)
        ids = set()
        for _ in range(2):
            with pytest.raises(CommitConflict) as caught:
                headed.adopt(A)
            ids.add(caught.value.details["tx"])
            headed.working_set(caught.value.details["tx"]).discard()
        assert len(ids) == 2
        with pytest.raises(CommitConflict) as caught:
            headed.adopt(A)
        tx = headed.working_set(caught.value.details["tx"])
        tx.resolve(A, Choice.THEIRS, item="x")
        tx.commit()

    def test_a_later_foreign_write_is_found_again(self, headed: Catalog, tmp_path: Path) -> None:
        write(headed, x=1)
        foreign(headed, tmp_path, x=1, f=9)
        write(headed, y=2)
        foreign(headed, tmp_path, x=1, f=9, g=9)
        headed.adopt(A)
        assert held(headed) == native(headed, tmp_path) == {"x": 1, "f": 9, "g": 9, "y": 2}
        foreign(headed, tmp_path, x=1, f=9, g=9, h=9, y=2)
        headed.adopt(A)
        assert held(headed) == native(headed, tmp_path) == {"x": 1, "f": 9, "g": 9, "h": 9, "y": 2}
