"""`snapshot`, `locate` and `verify`: what is there is described, pinned, read back and proved."""

from __future__ import annotations

import pytest
from plait.adapter import Capability
from plait.errors import NotFound
from plait.refspec import check_key
from plait.types import Depth, SnapshotRef

from plait_conformance.harness import NotOffered
from plait_conformance.suite.trial import Trial

ROWS = {"r0": "one", "r1": "two", "r2": "three"}


def taken(trial: Trial, name: str, tx: str | None = None) -> SnapshotRef:
    """The snapshot of a native asset."""
    found = trial.adapter.snapshot(tx or trial.new_tx(), {trial.key(): name})
    assert set(found) == {trial.key()}
    return found[trial.key()]


class TestSnapshot:
    pytestmark = pytest.mark.assertion(1)

    def test_describe_and_pin_native_heads(self, trial: Trial) -> None:
        snapshot = taken(trial, trial.harness.write_behind(None, ROWS))
        assert (snapshot.store, snapshot.kind) == (trial.adapter.store.name, trial.adapter.kind)
        assert trial.held(snapshot) == ROWS
        trial.harness.write_behind(snapshot, {"r0": "later"})
        assert trial.held(snapshot) == ROWS, "a later native write altered a pinned snapshot"

    def test_an_equal_head_gives_an_equal_answer(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        tx = trial.new_tx()
        first = taken(trial, name, tx)
        assert taken(trial, name, tx) == first
        trial.reopen()
        assert taken(trial, name, tx) == first
        assert taken(trial, name).digest == first.digest, "another transaction sees an equal head as another content"

    def test_a_changed_head_gives_another_answer(self, trial: Trial) -> None:
        first = taken(trial, trial.harness.write_behind(None, ROWS))
        second = taken(trial, trial.harness.write_behind(first, {"r0": "later"}))
        assert second.digest != first.digest
        assert trial.held(second) == {**ROWS, "r0": "later"}

    def test_notfound_for_an_asset_that_is_not_there(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        with pytest.raises(NotFound):
            taken(trial, f"{name}-not-there")

    def test_aborting_one_import_does_not_unpin_another(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        kept = taken(trial, name)
        tx = trial.new_tx()
        taken(trial, name, tx)
        trial.adapter.abort(tx)
        assert trial.held(kept) == ROWS
        assert trial.adapter.verify(kept, Depth.BYTES).problems == ()


@pytest.mark.needs(Capability.DISCOVER)
class TestDiscover:
    pytestmark = pytest.mark.assertion(1)

    def test_what_a_place_holds_that_snapshot_can_take(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        (found,) = trial.adapter.discover(name)
        assert check_key((trial.adapter.store.name, *found.name))
        assert found.refusal == ""
        assert taken(trial, found.location).version == taken(trial, name).version

    def test_writes_nothing(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        before = taken(trial, name).version
        found = list(trial.adapter.discover(name))
        assert list(trial.adapter.discover(name)) == found
        assert taken(trial, name).version == before

    def test_asset_is_what_its_snapshots_asset_will_be(self, trial: Trial) -> None:
        (found,) = trial.adapter.discover(trial.harness.write_behind(None, ROWS))
        assert found.asset in ("", taken(trial, found.location).asset)

    def test_oldest_first_and_last_what_snapshot_takes(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        (found,) = trial.adapter.discover(name)
        if trial.adapter.history(found):
            trial.harness.write_behind(taken(trial, name), {"r0": "later"})
        past = list(trial.adapter.history(found))
        versions = [one.version for one in past]
        assert [taken(trial, one.location).version for one in past] == versions
        assert versions[-1:] in ([], [taken(trial, found.location).version])
        assert list(trial.adapter.history(found)) == past

    def test_notfound_for_a_place_that_is_not_there(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        with pytest.raises(NotFound):
            list(trial.adapter.discover(f"{name}-not-there"))


class TestLocate:
    pytestmark = pytest.mark.assertion(2)

    def test_how_an_engine_reads_exactly_this_version(self, trial: Trial) -> None:
        versions = [trial.create(ROWS)]
        expected = [dict(ROWS)]
        for number in range(4):
            versions.append(trial.change(versions[-1], {"r0": f"change {number}", f"r{10 + number}": "new"}))
            expected.append({**expected[-1], "r0": f"change {number}", f"r{10 + number}": "new"})
        trial.reopen()
        assert [trial.held(version) for version in versions] == expected

    def test_of_a_staging_where_native_clients_write(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        location = trial.adapter.locate(trial.staged(trial.changed(base, {"r0": "changed"})))
        assert location.uri not in ("", trial.adapter.locate(base).uri)

    def test_the_same_whoever_asks(self, trial: Trial) -> None:
        snapshot = trial.create(ROWS)
        staging = trial.staged(trial.changed(snapshot, {"r0": "changed"}))
        first = [trial.adapter.locate(target) for target in (snapshot, staging)]
        assert first[0].uri
        trial.reopen()
        assert [trial.adapter.locate(target) for target in (snapshot, staging)] == first

    def test_shows_no_secret(self, trial: Trial) -> None:
        snapshot = trial.create(ROWS)
        for target in (snapshot, trial.staged(trial.changed(snapshot, {"r0": "changed"}))):
            for name, value in trial.adapter.locate(target).options.items():
                if any(word in name.lower() for word in ("secret", "password", "token")):
                    assert value.startswith(("env:", "file:")), f"option {name} of a location holds a secret in clear"


class TestVerify:
    pytestmark = pytest.mark.assertion(9)

    @pytest.mark.parametrize("depth", list(Depth))
    def test_nothing_wrong_when_problems_is_empty(self, trial: Trial, depth: Depth) -> None:
        base = trial.create(ROWS)
        for snapshot in (base, trial.change(base, {"r0": "changed", "r2": None})):
            health = trial.adapter.verify(snapshot, depth)
            assert health.problems == ()
            assert health.checked >= 1, "verify says that it has looked at nothing"

    def test_a_changed_byte_is_found_by_bytes(self, trial: Trial) -> None:
        snapshot = trial.create(ROWS)
        try:
            trial.harness.corrupt(snapshot)
        except NotOffered:
            pytest.fail("the harness has no corrupt(snapshot), without which nobody knows that verify sees anything")
        trial.reopen()
        assert trial.adapter.verify(snapshot, Depth.BYTES).problems, "a payload was changed, and verify finds all well"
