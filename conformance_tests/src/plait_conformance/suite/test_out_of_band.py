"""What somebody writes past plait: seen, told, adopted when asked, never overwritten and in no commit by itself."""

from __future__ import annotations

import pytest
from plait.adapter import Capability
from plait.errors import AlreadyExists
from plait.refspec import format_key
from plait.types import Depth, SnapshotRef

from plait_conformance.suite.history import History

ROWS = {"r0": "one", "r1": "two", "r2": "three"}

headed = pytest.mark.needs(Capability.NATIVE_HEAD)


def published(history: History) -> SnapshotRef:
    """The head of main, which the native head has followed to."""
    assert history.catalog.publish() == [], "the native head does not follow main"
    return history.catalog.at("main").entry(history.key).snapshot


@pytest.mark.assertion(12)
class TestOutOfBand:
    def test_a_write_past_plait_alters_no_commit(self, history: History) -> None:
        history.write(ROWS)
        history.write({"r0": "plait"})
        history.harness.write_behind(published(history), {"r0": "foreign", "r1": None, "r5": "foreign"})
        assert history.held() == {**ROWS, "r0": "plait"}
        assert history.held("main~1") == ROWS
        assert [problem for problem in history.catalog.verify(Depth.BYTES) if problem.code == "CORRUPT"] == []

    @headed
    def test_it_is_seen_when_the_history_is_verified(self, history: History) -> None:
        history.write(ROWS)
        history.harness.write_behind(published(history), {"r0": "foreign"})
        remedies = [problem.remedy for problem in history.catalog.verify()]
        assert remedies == [f"plait store adopt {format_key(history.key)}"]

    def test_a_write_past_plait_is_imported_unless_a_head_would_follow_two_keys(self, history: History) -> None:
        history.write(ROWS)
        name = history.harness.write_behind(published(history), {"r0": "foreign"})
        try:
            history.catalog.import_assets({history.key_of("b"): name})
        except AlreadyExists:  # A head follows one key: it is adopted there.
            assert history.can(Capability.NATIVE_HEAD)
            assert not history.holds("main", history.key_of("b"))
            return
        one, two = (history.catalog.at("main").entry(history.key_of(asset)).snapshot.asset for asset in "ab")
        assert one != two or not history.can(Capability.NATIVE_HEAD), "two keys move one native head"
        assert history.held("main", asset="b") == {**ROWS, "r0": "foreign"}
        assert history.held() == ROWS

    @headed
    def test_it_is_seen_and_reported_as_divergence(self, history: History) -> None:
        history.write(ROWS)
        history.harness.write_behind(published(history), {"r0": "foreign"})
        history.write({"r1": "plait"})
        (left,) = history.catalog.publish([history.store.name])
        assert (left.state, left.key) == ("diverged", history.key)
        history.reopen()
        (left,) = history.catalog.publish([history.store.name])
        assert left.state == "diverged", "another look overwrote what somebody else wrote"

    @headed
    def test_it_is_seen_when_the_store_is_checked(self, history: History) -> None:
        history.write(ROWS)
        history.harness.write_behind(published(history), {"r0": "foreign"})
        history.catalog.check_store(history.store.name)
        (left,) = history.catalog.publish([history.store.name])
        assert (left.state, left.key) == ("diverged", history.key)

    @headed
    def test_it_is_adopted_on_request_and_nothing_is_lost(self, history: History) -> None:
        history.write(ROWS)
        history.harness.write_behind(published(history), {"r0": "foreign", "r5": "foreign"})
        history.write({"r1": "plait"})
        history.catalog.publish()
        assert history.held() == {**ROWS, "r1": "plait"}, (
            "what somebody else wrote is in a commit that nobody asked for"
        )
        if not history.can(Capability.MERGE):
            return
        assert history.catalog.adopt(history.key) is not None
        assert history.held() == {"r0": "foreign", "r1": "plait", "r2": "three", "r5": "foreign"}
        assert history.held("main~1") == {**ROWS, "r1": "plait"}
        assert history.catalog.publish() == [], "the native head does not follow what was adopted"
        assert list(history.catalog.verify(Depth.BYTES)) == []

    @headed
    def test_after_an_adoption_work_goes_on(self, history: History) -> None:
        history.write(ROWS)
        for turn in range(2):
            history.harness.write_behind(published(history), {"r0": f"foreign {turn}"})
            history.write({"r1": f"plait {turn}"})
            history.catalog.publish()
            if history.can(Capability.MERGE):
                history.catalog.adopt(history.key)
                assert history.held() == {**ROWS, "r0": f"foreign {turn}", "r1": f"plait {turn}"}
                assert history.catalog.publish() == []

    @headed
    def test_a_diverged_store_stops_no_other(self, history: History) -> None:
        history.write(ROWS, beside=ROWS)
        history.harness.write_behind(published(history), {"r0": "foreign"})
        history.write({"r1": "plait"}, beside={"r1": "plait"})
        assert {left.store for left in history.catalog.publish()} == {history.store.name}
        assert history.held_beside() == {**ROWS, "r1": "plait"}
