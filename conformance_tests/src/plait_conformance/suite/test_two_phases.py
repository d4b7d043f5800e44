"""`stage`, `prepare`, `abort`, `restore`: what a transaction writes is private until it votes, and then immutable."""

from __future__ import annotations

import pytest
from plait.adapter import Capability
from plait.types import Depth, SnapshotRef, Staging

from plait_conformance.suite.trial import DONE, Trial

ROWS = {"r0": "one", "r1": "two", "r2": "three"}


class TestStage:
    pytestmark = pytest.mark.assertion(6)

    def test_an_isolated_place_for_native_clients_to_write(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        one, two = trial.changed(base, {"r0": "mine"}), trial.changed(base, {"r1": "yours"})
        assert trial.held(base) == ROWS
        assert trial.held(trial.vote(one)) == {**ROWS, "r0": "mine"}
        assert trial.held(trial.vote(two)) == {**ROWS, "r1": "yours"}

    def test_from_its_base(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        assert trial.held(trial.change(base, {"r5": "more"})) == {**ROWS, "r5": "more"}

    def test_the_same_place_for_the_same_id_never_reset(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        port = trial.port(base)
        staged = port.add(trial.key())
        trial.harness.write(trial.adapter, port, trial.key(), {"r0": "written"})
        for _ in range(2):
            again = trial.adapter.stage(port.tx, port.intents)
            assert again == {trial.key(): staged}
            trial.reopen()
        assert trial.held(trial.vote(port)) == {**ROWS, "r0": "written"}

    def test_from_its_base_none_a_new_empty_asset(self, trial: Trial) -> None:
        port = trial.begun(ROWS)
        trial.reopen()
        trial.adapter.stage(port.tx, port.intents)
        assert trial.held(trial.vote(port)) == ROWS

    def test_places_and_new_assets_are_named_after_the_intents_id(self, trial: Trial) -> None:
        """A key may be renamed, and given to another asset, within one transaction."""
        port = trial.begun({"r0": "first"}, asset="a")
        port.move(trial.key("a"), trial.key("b"))
        trial.harness.create(trial.adapter, port, trial.key("a"), {"r0": "second"})
        port.closed = True
        votes = trial.prepare(port.tx, port.stagings)
        first, second = votes[trial.key("b")], votes[trial.key("a")]
        assert first.asset != second.asset
        assert (trial.held(first), trial.held(second)) == ({"r0": "first"}, {"r0": "second"})

    def test_never_after_the_key(self, trial: Trial) -> None:
        """One that was dropped leaves its key to another, which is not the same asset with a gap in its history."""
        first, second = trial.create({"r0": "first"}), trial.create({"r0": "second"})
        assert first.asset != second.asset
        assert (trial.held(first), trial.held(second)) == ({"r0": "first"}, {"r0": "second"})

    def test_take_a_batch_of_assets(self, trial: Trial) -> None:
        bases = {trial.key(name): trial.create({"r0": name}, asset=name) for name in ("a", "b", "c")}
        port = trial.port()
        port = type(port)(trial.adapter, port.tx, bases)
        for key in bases:
            port.add(key)
            trial.harness.write(trial.adapter, port, key, {"r1": key[-1]})
        port.closed = True
        votes = trial.prepare(port.tx, port.stagings)
        assert {key: trial.held(vote) for key, vote in votes.items()} == {
            trial.key(name): {"r0": name, "r1": trial.key(name)[-1]} for name in ("a", "b", "c")
        }


class TestPrepare:
    pytestmark = pytest.mark.assertion(1)

    def test_an_untouched_staging_votes_its_base(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        assert trial.change(base, {}) == base

    def test_durable_immutable_and_pinned(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        port = trial.changed(base, {"r0": "voted"})
        vote = trial.vote(port)
        trial.reopen()
        assert trial.held(vote) == {**ROWS, "r0": "voted"}
        assert trial.adapter.verify(vote, Depth.BYTES).problems == ()

    def test_a_later_write_alters_nothing_that_was_prepared(self, trial: Trial) -> None:
        port = trial.changed(trial.create(ROWS), {"r0": "voted"})
        key, sealed = trial.key(), trial.staged(port)
        vote = trial.vote(port)
        port.closed = False  # A failed gate opens the transaction again.
        if not trial.can(Capability.SEALS_WRITES):
            trial.harness.write(trial.adapter, port, trial.key(), {"r0": "too late", "r1": None})
        assert trial.held(vote) == {**ROWS, "r0": "voted"}
        assert trial.prepare(port.tx, {key: sealed})[key] == vote

    @pytest.mark.needs(Capability.SEALS_WRITES)
    def test_after_prepare_the_store_itself_refuses_writes_of_native_clients(self, trial: Trial) -> None:
        port = trial.changed(trial.create(ROWS), {"r0": "voted"})
        vote = trial.vote(port)
        port.closed = False
        with pytest.raises(Exception, match=r".*"):
            trial.harness.write(trial.adapter, port, trial.key(), {"r0": "too late"})
        assert trial.held(vote) == {**ROWS, "r0": "voted"}

    def test_the_same_answer_for_the_same_tx_attempt(self, trial: Trial) -> None:
        port = trial.changed(trial.create(ROWS), {"r0": "voted", "r9": "new"})
        first = trial.vote(port)
        assert trial.vote(port) == first
        trial.reopen()
        assert trial.vote(port) == first

    def test_another_attempt_sees_what_was_written_since(self, trial: Trial) -> None:
        port = trial.changed(trial.create(ROWS), {"r0": "first"})
        first = trial.vote(port)
        port.closed = False
        trial.harness.write(trial.adapter, port, trial.key(), {"r0": "second"})
        second = trial.vote(port, attempt=2)
        assert (trial.held(first), trial.held(second)) == ({**ROWS, "r0": "first"}, {**ROWS, "r0": "second"})
        assert second.digest != first.digest

    def test_equal_digests_mean_equal_content(self, trial: Trial) -> None:
        """Equal digests mean equal content."""
        base = trial.create(ROWS)
        snapshots = [base, *(trial.change(base, {"r0": text}) for text in ("a", "b", "c"))]
        assert len({snapshot.digest for snapshot in snapshots}) == len(snapshots)

    def test_asset_is_the_native_identity(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        assert trial.change(base, {"r0": "x"}).asset == base.asset

    @pytest.mark.needs(Capability.NATIVE_HEAD)
    def test_and_not_the_head(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        assert trial.publish(None, one, 1) == DONE
        trial.change(one, {"r0": "prepared"})
        assert trial.publish(None, one, 1) == DONE, "prepare moved the native head"


class TestAbort:
    pytestmark = pytest.mark.assertion(6)

    def test_an_unknown_tx_is_fine(self, trial: Trial) -> None:
        trial.adapter.abort(trial.new_tx())

    def test_repeat_no_op(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        port = trial.changed(base, {"r0": "dropped"})
        for _ in range(2):
            trial.adapter.abort(port.tx)
        trial.reopen()
        trial.adapter.abort(port.tx)
        assert trial.held(base) == ROWS
        assert trial.adapter.verify(base, Depth.BYTES).problems == ()

    def test_what_others_have_prepared_alike_stays(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        mine, yours = trial.changed(base, {"r0": "alike"}), trial.changed(base, {"r0": "alike"})
        kept = trial.vote(mine)
        trial.vote(yours)
        trial.adapter.abort(yours.tx)
        assert trial.held(kept) == {**ROWS, "r0": "alike"}
        assert trial.adapter.verify(kept, Depth.BYTES).problems == ()
        assert trial.held(trial.change(kept, {"r1": "on"})) == {**ROWS, "r0": "alike", "r1": "on"}

    def test_and_the_names_are_free_again(self, trial: Trial) -> None:
        port = trial.begun({"r0": "dropped"})
        trial.vote(port)
        trial.adapter.abort(port.tx)
        assert trial.held(trial.create({"r1": "kept"})) == {"r1": "kept"}


class TestRestore:
    pytestmark = pytest.mark.assertion(5)

    def test_to_what_a_snapshot_holds(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now", "r1": None, "r9": "now"})
        port = trial.changed(now, {"r5": "staged"})
        restored = trial.adapter.restore(port.tx, trial.staged(port), then, items=None)
        assert trial.held(voted(trial, restored)) == ROWS

    def test_repeat_no_op(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now", "r1": None})
        port = trial.changed(now, {})
        first = trial.adapter.restore(port.tx, trial.staged(port), then, items=None)
        again = trial.adapter.restore(port.tx, trial.staged(port), then, items=None)
        assert again == first
        trial.reopen()
        assert trial.held(voted(trial, trial.adapter.restore(port.tx, first, then, items=None))) == ROWS

    @pytest.mark.needs(Capability.ITEM_RESTORE)
    def test_or_some_items_of_it(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now", "r1": "now", "r2": None, "r9": "now"})
        port = trial.changed(now, {"r5": "staged"})
        items = [trial.harness.item(row) for row in ("r0", "r2", "r9")]
        restored = trial.adapter.restore(port.tx, trial.staged(port), then, items=items)
        expected = {"r0": "one", "r1": "now", "r2": "three", "r5": "staged"}
        assert trial.adapter.restore(port.tx, restored, then, items=items) == restored, "a repeat is no no-op"
        assert trial.held(voted(trial, restored)) == expected

    def test_the_snapshot_stays_as_it_is(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now"})
        port = trial.changed(now, {})
        trial.adapter.restore(port.tx, trial.staged(port), then, items=None)
        assert (trial.held(then), trial.held(now)) == (ROWS, {**ROWS, "r0": "now"})


def voted(trial: Trial, staging: Staging) -> SnapshotRef:
    """The vote of a staging that a restore has moved."""
    return trial.prepare(staging.tx, {staging.key: staging})[staging.key]
