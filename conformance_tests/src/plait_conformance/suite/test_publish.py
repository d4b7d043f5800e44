"""`publish`: native heads move from their before to their after, or what was found instead is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest
from plait.adapter import Capability
from plait.types import Move, Published, PublishState, SnapshotRef

from plait_conformance.suite.trial import DONE, Trial

ROWS = {"r0": "one", "r1": "two"}
_BUSY_MAX = 20
_KEPT_OUT_S = 1.0
"""So long somebody is waited for who may be kept out by a lock."""


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

    def test_what_is_written_while_a_head_moves_is_not_overwritten_either(self, trial: Trial) -> None:
        """At each failpoint of a move. Whom the adapter keeps out writes after it."""
        place, was_reached = 0, True
        while was_reached:
            asset = f"a{place}"
            one = trial.create(ROWS, asset=asset)
            two = trial.change(one, {"r1": "ours"}, asset=asset)
            assert moved(trial, asset, None, one, 1) == DONE
            with writing_at(trial, place, partial(trial.harness.write_behind, one, {"r0": "foreign"})) as writer:
                answer = moved(trial, asset, one, two, 2)
            was_reached = writer.was_started
            if not was_reached:
                assert answer == DONE
            elif answer.found is not None:
                assert trial.held(answer.found)["r0"] == "foreign"
            else:
                assert native_head(trial, two, asset=asset)["r0"] == "foreign"
            place += 1

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


def moved(trial: Trial, asset: str, before: SnapshotRef | None, after: SnapshotRef | None, seq: int) -> Published:
    """What the head of an asset is at, once it is not busy any more."""
    key = trial.key(asset)
    for _ in range(_BUSY_MAX):
        answer = trial.adapter.publish({key: Move(before, after, seq)})[key]
        if answer.state is not PublishState.BUSY:
            return answer
    raise AssertionError(f"{key} is still busy when it was asked {_BUSY_MAX} times")


class Writer:
    """Somebody else, who writes once when he is let."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1)
        self._done: Future[object] | None = None

    @property
    def was_started(self) -> bool:
        return self._done is not None

    def start(self) -> None:
        self._done = self._pool.submit(self._write)
        wait([self._done], _KEPT_OUT_S)

    def finish(self) -> None:
        self._pool.shutdown()
        if self._done is not None:
            self._done.result()


@contextmanager
def writing_at(trial: Trial, place: int, write: Callable[[], object]) -> Iterator[Writer]:
    """Somebody writes when this failpoint is reached, by its number; he is done when the block is."""
    writer, before, left = Writer(write), trial.on_failpoint, count(place, -1)

    def reach(name: str) -> None:
        if next(left) == 0:
            writer.start()
        before(name)

    trial.on_failpoint = reach
    try:
        yield writer
    finally:
        trial.on_failpoint = before
        writer.finish()


def native_head(
    trial: Trial, published: SnapshotRef, *, kept: SnapshotRef | None = None, asset: str = "a"
) -> dict[str, str]:
    """What the native head holds: a foreign write on it, which changes one row, is found on top of the rest."""
    trial.harness.write_behind(published, {"r99": "probe"})
    never = trial.change(published, {"r98": "never"}, asset=asset)
    found = moved(trial, asset, kept or published, never, 1_000)
    assert found.state is PublishState.DIVERGED
    assert found.found is not None
    rows = trial.held(found.found)
    assert rows.pop("r99") == "probe"
    return rows
