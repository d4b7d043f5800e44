"""`publish`: native heads move from their before to their after, or what was found instead is told."""

from __future__ import annotations

import pytest
from plait.adapter import Capability
from plait.types import Move, PublishState, SnapshotRef

from plait_conformance.suite.trial import DONE, Trial

ROWS = {"r0": "one", "r1": "two"}


@pytest.mark.assertion(12)
@pytest.mark.needs(Capability.NATIVE_HEAD)
class TestPublish:
    def test_move_each_native_head_from_its_before_to_its_after(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        two = trial.change(one, {"r0": "changed"})
        assert trial.publish(None, one, 1) == DONE
        assert trial.publish(one, two, 2) == DONE
        assert native_head(trial, two) == {**ROWS, "r0": "changed"}

    def test_done_without_a_write_for_heads_already_at_after(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        two = trial.change(one, {"r0": "changed"})
        for _ in range(2):
            assert trial.publish(None, one, 1) == DONE
        trial.reopen()
        for _ in range(2):
            assert trial.publish(one, two, 2) == DONE
            trial.reopen()

    def test_take_a_batch_of_assets(self, trial: Trial) -> None:
        made = {trial.key(name): trial.create({"r0": name}, asset=name) for name in ("a", "b", "c")}
        answers = trial.adapter.publish({key: Move(None, snapshot, 1) for key, snapshot in made.items()})
        assert answers == dict.fromkeys(made, DONE)

    def test_or_report_per_key_what_was_found_instead(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        two = trial.change(one, {"r1": "ours"})
        trial.publish(None, one, 1)
        trial.harness.write_behind(one, {"r0": "foreign"})
        answer = trial.publish(one, two, 2)
        assert answer.state is PublishState.DIVERGED, "somebody wrote past plait, and publish has not seen it"
        assert answer.found is not None
        assert answer.found.asset == one.asset
        assert trial.held(answer.found) == {**ROWS, "r0": "foreign"}
        assert trial.held(two) == {**ROWS, "r1": "ours"}

    def test_equal_before_and_after_ask_whether_the_head_is_still_there(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        trial.publish(None, one, 1)
        assert trial.publish(one, one, 1) == DONE
        trial.harness.write_behind(one, {"r0": "foreign"})
        answer = trial.publish(one, one, 1)
        assert answer.state is PublishState.DIVERGED
        assert answer.found is not None
        assert native_head(trial, one, kept=answer.found) == {**ROWS, "r0": "foreign"}

    def test_what_somebody_else_wrote_is_never_overwritten(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        two = trial.change(one, {"r1": "ours"})
        trial.publish(None, one, 1)
        trial.harness.write_behind(one, {"r0": "foreign"})
        first = trial.publish(one, two, 2)
        trial.reopen()
        assert trial.publish(one, two, 2).state is PublishState.DIVERGED
        assert first.found is not None
        assert native_head(trial, one, kept=first.found) == {**ROWS, "r0": "foreign"}

    def test_a_head_that_is_not_at_before_is_not_made_there(self, trial: Trial) -> None:
        """Also where there is none: somebody may have deleted it."""
        one = trial.create(ROWS)
        two = trial.change(one, {"r1": "ours"})
        for _ in range(2):
            assert trial.publish(one, two, 1).state is PublishState.DIVERGED

    def test_a_diverged_head_holds_up_no_other(self, trial: Trial) -> None:
        one, other = trial.create(ROWS), trial.create(ROWS, asset="b")
        trial.publish(None, one, 1)
        trial.harness.write_behind(one, {"r0": "foreign"})
        two = trial.change(one, {"r1": "ours"})
        answers = trial.adapter.publish({trial.key(): Move(one, two, 2), trial.key("b"): Move(None, other, 2)})
        assert answers[trial.key()].state is PublishState.DIVERGED
        assert answers[trial.key("b")] == DONE

    def test_the_asset_appears_or_disappears_no_data_is_deleted(self, trial: Trial) -> None:
        one = trial.create(ROWS)
        trial.publish(None, one, 1)
        for _ in range(2):
            assert trial.publish(one, None, 2) == DONE
        assert trial.held(one) == ROWS
        assert trial.publish(None, one, 3) == DONE, "an asset that disappeared cannot appear again"


def native_head(trial: Trial, published: SnapshotRef, *, kept: SnapshotRef | None = None) -> dict[str, str]:
    """What the native head holds: a foreign write on it, which changes one row, is found on top of the rest."""
    trial.harness.write_behind(published, {"r99": "probe"})
    found = trial.publish(kept or published, trial.change(published, {"r98": "never"}), 1_000)
    assert found.state is PublishState.DIVERGED
    assert found.found is not None
    rows = trial.held(found.found)
    assert rows.pop("r99") == "probe"
    return rows
