"""What operators need of every store: denials told as such, backups, retention. Pending where plait has it not yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plait.adapter import Capability
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable
from plait.types import Depth

from plait_conformance.harness import NotOffered
from plait_conformance.pytest_plugin import pending
from plait_conformance.suite.history import History

ROWS = {"r0": "one", "r1": "two"}


class TestDenial:
    pytestmark = pytest.mark.assertion(10)

    def test_a_denial_by_the_store_is_reported_as_such_nothing_half_done(self, history: History) -> None:
        history.write(ROWS, beside=ROWS)
        before = history.catalog.resolve("main")
        history.catalog.close()
        try:
            with history.harness.denied():
                history.catalog = history.open()
                with pytest.raises((PermissionDenied, PermissionError)):
                    history.write({"r0": "denied"}, beside={"r0": "denied"})
                history.catalog.close()
        except NotOffered as error:
            history.catalog = history.open()
            pending("denial", str(error.args[-1]))
        history.catalog = history.open()
        assert history.catalog.resolve("main") == before
        assert (history.held(), history.held_beside()) == (ROWS, ROWS)
        for tx in history.catalog.working_sets():
            history.catalog.working_set(tx.id).discard()
        history.write({"r0": "allowed"}, beside={"r0": "allowed"})
        assert (history.held()["r0"], history.held_beside()["r0"]) == ("allowed", "allowed")
        assert list(history.catalog.verify(Depth.BYTES)) == []


class TestBackup:
    pytestmark = pytest.mark.assertion(11)

    def test_backup_wipe_restore_same_ids(self, history: History) -> None:
        """Where the store keeps all in its folder, a copy of that and of the catalog is a backup."""
        if not history.harness.keeps_all_in_folder:
            pending("backup", "plait has no backup of its own yet, and a copy of the harness's folder is none")
        history.write(ROWS, beside=ROWS)
        history.write({"r0": "changed"}, beside={"r0": "changed"})
        history.catalog.publish()
        commits = list(history.catalog.log())
        history.catalog.close()
        folders = [history.harness.folder, history.folder]
        for folder in folders:
            shutil.copytree(folder, f"{folder}.backup", symlinks=True)
            shutil.rmtree(folder)
        for folder in folders:
            shutil.copytree(f"{folder}.backup", folder, symlinks=True)
        history.catalog = history.open()
        assert list(history.catalog.log()) == commits
        assert (history.held(), history.held("main~1")) == ({**ROWS, "r0": "changed"}, ROWS)
        history.write({"r1": "later"}, beside={"r1": "later"})
        assert history.catalog.publish() == []
        assert list(history.catalog.verify(Depth.BYTES)) == []

    def test_a_store_that_is_away_is_no_change_of_anybodys(self, history: History) -> None:
        """A disk that is not mounted: its empty place is there, or is not. An adoption would drop what it holds."""
        if not history.harness.keeps_all_in_folder:
            pending("backup", "the harness's folder is not the whole store, so it cannot be taken away")
        history.write(ROWS, beside=ROWS)
        assert history.catalog.publish() == []
        folder, place = history.harness.folder, Path(history.store_folder)
        assert place.is_relative_to(folder), "`local_folder` names no folder that holds the store"
        history.catalog.close()
        folder.rename(f"{folder}.away")
        for is_place_there in (False, True):
            if is_place_there:
                place.mkdir(parents=True)
            history.catalog = history.open()
            missing, _ = history.catalog.check_store(history.store.name)
            assert missing, "nobody is told that the store is away"
            store = history.store
            assert history.catalog.add_store(store.name, store.kind, store.options) == missing
            assert history.catalog.publish() == [], "a store that is away has diverged"
            assert list(history.catalog.verify(Depth.EXISTS)), "verify finds nothing in a store that is away"
            with pytest.raises(StoreUnavailable):
                history.held()
            with pytest.raises(StoreUnavailable):
                history.write(ROWS, asset="b")
            history.catalog.close()
            assert place.exists() == is_place_there, "a store that is away was made anew"
            assert not is_place_there or not list(place.iterdir()), "a store that is away was made anew"
            shutil.rmtree(folder, ignore_errors=True)
        Path(f"{folder}.away").rename(folder)
        history.catalog = history.open()
        history.write({"r0": "back"}, beside={"r0": "back"})
        assert history.held() == history.held_beside() == {**ROWS, "r0": "back"}
        assert history.catalog.publish() == []
        assert list(history.catalog.verify(Depth.BYTES)) == []

    def test_a_store_that_moved_is_set_whole_or_not_at_all(self, history: History) -> None:
        """Not at all where snapshots name their files by absolute paths."""
        if not history.harness.keeps_all_in_folder:
            pending("backup", "the harness's folder is not the whole store, so it cannot be moved")
        history.write(ROWS)
        assert history.catalog.publish() == []
        name, place = history.store.name, Path(history.store_folder)
        moved = history.folder / "moved"
        (option,) = (one for one, value in history.store.options.items() if value.rstrip("/") == str(place))
        with pytest.raises(StoreUnavailable):
            history.catalog.set_store(name, {option: str(moved)})
        (moved / "something").mkdir(parents=True)
        with pytest.raises(InvalidArgument, match="of its 1 snapshots, 1 would be lost"):
            history.catalog.set_store(name, {option: str(moved)})
        shutil.rmtree(moved)
        history.catalog.close()
        shutil.copytree(place, moved, symlinks=True)
        history.catalog = history.open()
        try:
            assert history.catalog.set_store(name, {option: str(moved)}) == []
        except InvalidArgument:
            shutil.rmtree(moved)
        else:
            place.rename(history.folder / "old")
        history.reopen()
        history.write({"r0": "later"})
        assert (history.catalog.publish(), list(history.catalog.verify(Depth.BYTES))) == ([], [])
        assert history.catalog.check_store(name)[0] == []

    def test_a_store_that_is_older_than_the_catalog_takes_no_commit_back(self, history: History) -> None:
        """Restored from an old backup: what is there is nobody's change, until it is asked for."""
        if not history.harness.keeps_all_in_folder:
            pending("backup", "the harness's folder is not the whole store, so a copy of it is no backup")
        history.write(ROWS)
        assert history.catalog.publish() == []
        folder = history.harness.folder
        history.catalog.close()
        shutil.copytree(folder, f"{folder}.backup", symlinks=True)
        history.catalog = history.open()
        last = history.write({"r0": "lost"})
        assert history.catalog.publish() == []
        history.catalog.close()
        shutil.rmtree(folder)
        Path(f"{folder}.backup").rename(folder)
        history.catalog = history.open()
        missing, _ = history.catalog.check_store(history.store.name)
        assert missing or not history.can(Capability.NATIVE_HEAD), "nobody is told that the store is older"
        with pytest.raises((Corrupt, NotFound)):
            history.catalog.adopt(history.key)
        assert (history.catalog.resolve("main"), history.catalog.publish()) == (last, [])
        with history.catalog.transaction("main", message="go on without what is lost") as tx:
            tx.drop(history.key)
        history.catalog.restore("main~2", keys=[history.key])
        assert (history.held(), history.catalog.publish()) == (ROWS, [])
        history.write({"r1": "later"})
        assert (history.held(), history.catalog.publish()) == ({**ROWS, "r1": "later"}, [])
        assert history.catalog.check_store(history.store.name)[0] == []


class TestRetention:
    pytestmark = pytest.mark.assertion(7)

    def test_retention_removes_what_the_policy_says(self, history: History) -> None:
        assert not hasattr(history.catalog, "expire"), "the catalog has retention now: prove it here"
        pending("retention", "the catalog deletes nothing yet, so there are no policies to keep")
