"""Lanes: first come, first served, and never a ring."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import pytest
from plait.lanes import Lanes
from plait.types import Key

A: Key = ("p", "a")
B: Key = ("p", "b")
C: Key = ("p", "c")


class Waiter:
    """A thread that holds lanes until it is let go."""

    def __init__(self, lanes: Lanes, ref: str, *keys: Key) -> None:
        self.holds, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(lanes, ref, keys))
        self._thread.start()

    def _run(self, lanes: Lanes, ref: str, keys: tuple[Key, ...]) -> None:
        with lanes.hold(ref, keys):
            self.holds.set()
            assert self._leave.wait(60)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def queued(lanes: Lanes, ref: str, key: Key, count: int) -> None:
    """Wait until so many are in a lane: joining one wakes nobody, so this looks again and again."""
    pause = threading.Event()
    while len(lanes._waiting.get((ref, key), ())) < count:
        pause.wait(0.001)


def test_arrival_decides_who_is_next() -> None:
    lanes = Lanes()
    waiters: list[Waiter] = []
    for count in range(1, 6):
        waiters.append(Waiter(lanes, "main", A))
        queued(lanes, "main", A, count)
    for waiter, following in pairwise(waiters):
        assert waiter.holds.wait(60)
        assert not following.holds.is_set()
        waiter.leave()
    assert waiters[-1].holds.wait(60)
    waiters[-1].leave()


def test_other_keys_and_other_refs_do_not_wait() -> None:
    lanes = Lanes()
    with lanes.hold("main", [A]), lanes.hold("main", [B]), lanes.hold("dev", [A]), lanes.hold("main", []):
        assert len(lanes._waiting) == 3


def test_several_lanes_are_joined_at_once() -> None:
    lanes = Lanes()
    first = Waiter(lanes, "main", A)
    assert first.holds.wait(60)
    both = Waiter(lanes, "main", B, A)
    queued(lanes, "main", A, 2)
    behind = Waiter(lanes, "main", B)
    queued(lanes, "main", B, 2)
    assert not both.holds.is_set()
    assert not behind.holds.is_set()  # It came later, although nobody works on b yet.
    first.leave()
    assert both.holds.wait(60)
    assert not behind.holds.is_set()
    both.leave()
    assert behind.holds.wait(60)
    behind.leave()


def test_any_mix_of_lanes_ends_and_no_two_hold_one_key() -> None:
    lanes, held = Lanes(), {A: threading.Lock(), B: threading.Lock(), C: threading.Lock()}

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(50):
            keys = random.sample([A, B, C], random.randint(1, 3))
            with lanes.hold("main", [*keys, keys[0]]):
                for key in keys:
                    assert held[key].acquire(blocking=False)
                for key in keys:
                    held[key].release()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert lanes._waiting == {}


def test_a_lane_is_left_when_the_block_raises() -> None:
    lanes = Lanes()
    with pytest.raises(RuntimeError), lanes.hold("main", [A]):
        raise RuntimeError
    assert lanes._waiting == {}


def test_an_interrupted_wait_leaves_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does in a notebook: those behind must not wait for somebody who went away."""
    lanes = Lanes()
    first = Waiter(lanes, "main", A)
    assert first.holds.wait(60)

    def interrupt(predicate: object, timeout: object = None) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lanes._condition, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), lanes.hold("main", [A]):
            pytest.fail("the lane is held by another")
    behind = Waiter(lanes, "main", A)
    queued(lanes, "main", A, 2)
    first.leave()
    assert behind.holds.wait(60)
    behind.leave()
    assert lanes._waiting == {}


def test_a_turn_waits_for_further_lanes_by_queueing_anew() -> None:
    """Waiting for one lane while holding another would be half of a deadlock."""
    lanes = Lanes()
    with lanes.turn("main") as turn:
        assert turn.wait_for([A])
        assert not turn.wait_for([A])
        assert not turn.wait_for([])
        behind = Waiter(lanes, "main", A)
        queued(lanes, "main", A, 2)
        busy = Waiter(lanes, "main", B)
        assert busy.holds.wait(60)
        with ThreadPoolExecutor(1) as pool:
            joined = pool.submit(turn.wait_for, [B])
            assert behind.holds.wait(60)  # The lane of A was left for the while.
            behind.leave()
            busy.leave()
            assert joined.result(60)
        assert set(lanes._waiting) == {("main", A), ("main", B)}
    assert lanes._waiting == {}
