"""Requests that share calls: who sends what, who gets which answer, and what an interrupt leaves."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import pytest
from plait.errors import InvalidArgument, PlaitError, StoreUnavailable
from plait.rpc.grouping import Grouping

SECONDS_MAX = 10


@dataclass
class Wire:
    """Answers "b" with "B"; "bad" alone is refused. Calls wait at the gate.

    One whose first request is among `fails` raises that: calls of two threads arrive in any order.
    """

    calls: list[list[str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    fails: dict[str, BaseException] = field(default_factory=dict)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def send(self, requests: Sequence[str]) -> Sequence[str | PlaitError]:
        self.calls.append(list(requests))
        self.entered.release()
        assert self.gate.wait(SECONDS_MAX)
        if (error := self.fails.get(requests[0])) is not None:
            raise error
        return [InvalidArgument("no") if one == "bad" else one.upper() for one in requests]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def grouping(wire: Wire, *, group_max: int = 100, group_bytes_max: int = 1_000) -> Grouping[str, str]:
    return Grouping(wire.send, group_max=group_max, group_bytes_max=group_bytes_max)


def queued(group: Grouping[str, str], wire: Wire, pool: ThreadPoolExecutor, names: Sequence[str]) -> list[Future[str]]:
    """Ask for each in a thread of its own: the first two are sent at once, the rest wait in this order."""
    asked = []
    for number, name in enumerate(names):
        asked.append(pool.submit(group.ask, name, 1))
        if number < 2:
            assert wire.entered.acquire(timeout=SECONDS_MAX)
        else:
            wait_until(lambda number=number: len(group._queue) == number - 1)
    return asked


def wait_until(holds: object) -> None:
    assert callable(holds)
    until = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_one_caller_sends_alone_and_at_once_in_its_own_thread(wire: Wire) -> None:
    wire.gate.set()
    group = grouping(wire)
    assert [group.ask(name, 1) for name in ("a", "b")] == ["A", "B"]
    assert wire.calls == [["a"], ["b"]]


def test_who_comes_while_calls_are_under_way_travels_together(wire: Wire, pool: ThreadPoolExecutor) -> None:
    asked = queued(grouping(wire), wire, pool, ["a", "b", "c", "d", "e"])
    wire.gate.set()
    assert [one.result(SECONDS_MAX) for one in asked] == ["A", "B", "C", "D", "E"]
    assert sorted(map(len, wire.calls)) == [1, 1, 3]
    assert wire.calls[2] == ["c", "d", "e"]


def test_a_refused_request_fails_alone(wire: Wire, pool: ThreadPoolExecutor) -> None:
    asked = queued(grouping(wire), wire, pool, ["a", "b", "c", "bad", "e"])
    wire.gate.set()
    with pytest.raises(InvalidArgument):
        asked[3].result(SECONDS_MAX)
    assert [one.result(SECONDS_MAX) for one in (*asked[:3], asked[4])] == ["A", "B", "C", "E"]


def test_a_call_that_fails_fails_for_all_in_it_and_for_nobody_else(wire: Wire, pool: ThreadPoolExecutor) -> None:
    wire.fails = {"c": StoreUnavailable("down")}
    group = grouping(wire, group_max=2)
    asked = queued(group, wire, pool, ["a", "b", "c", "d", "e"])
    wire.gate.set()
    wait(asked, SECONDS_MAX)
    assert [type(one.exception()) for one in asked[2:4]] == [StoreUnavailable, StoreUnavailable]
    assert [asked[place].result() for place in (0, 1, 4)] == ["A", "B", "E"]


def test_groups_are_bounded_by_number_and_by_bytes(wire: Wire, pool: ThreadPoolExecutor) -> None:
    asked = queued(grouping(wire, group_max=3), wire, pool, list("abcdefgh"))
    wire.gate.set()
    wait(asked, SECONDS_MAX)
    assert sorted(wire.calls[2:]) == [["c", "d", "e"], ["f", "g", "h"]]
    small = Wire()
    asked = queued(grouping(small, group_bytes_max=2), small, pool, list("abcdefgh"))
    small.gate.set()
    wait(asked, SECONDS_MAX)
    assert sorted(small.calls[2:]) == [["c", "d"], ["e", "f"], ["g", "h"]]


def test_a_large_request_goes_alone_and_does_not_make_its_neighbours_too_large(
    wire: Wire, pool: ThreadPoolExecutor
) -> None:
    group = grouping(wire, group_bytes_max=3)
    asked = [pool.submit(group.ask, name, 1) for name in "ab"]
    assert all(wire.entered.acquire(timeout=SECONDS_MAX) for _ in asked)
    for number, (name, size) in enumerate((("c", 1), ("d", 1), ("large", 9), ("e", 2), ("f", 1), ("g", 1)), 1):
        asked.append(pool.submit(group.ask, name, size))
        wait_until(lambda number=number: len(group._queue) == number)
    wire.gate.set()
    wait(asked, SECONDS_MAX)
    assert sorted(wire.calls[2:]) == [["c", "d"], ["e", "f"], ["g"], ["large"]]


def test_when_a_leader_is_interrupted_the_next_one_sends_what_it_led(wire: Wire, pool: ThreadPoolExecutor) -> None:
    wire.fails = {"c": KeyboardInterrupt()}
    group = grouping(wire)
    asked = queued(group, wire, pool, ["a", "b", "c", "d", "e"])
    wire.gate.set()
    wait(asked, SECONDS_MAX)
    assert isinstance(asked[2].exception(), KeyboardInterrupt)
    assert [asked[place].result() for place in (0, 1, 3, 4)] == ["A", "B", "D", "E"]
    assert wire.calls[2:] == [["c", "d", "e"], ["d", "e"]]
    assert group.ask("f", 1) == "F"
    assert (group._under_way, list(group._queue)) == (0, [])


def test_an_interrupted_waiter_withdraws_its_request(wire: Wire, pool: ThreadPoolExecutor) -> None:
    group = grouping(wire)
    asked = queued(group, wire, pool, ["a", "b"])

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            group.ask("c", 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wire.gate.set()
    assert [one.result(SECONDS_MAX) for one in asked] == ["A", "B"]
    assert group.ask("d", 1) == "D"
    assert wire.calls == [["a"], ["b"], ["d"]]


def test_many_threads_each_get_their_own_answers(wire: Wire, pool: ThreadPoolExecutor) -> None:
    wire.gate.set()
    group = grouping(wire, group_max=7)

    def ask(client: int) -> list[str]:
        return [group.ask(f"c{client}-{number}", 1) for number in range(50)]

    for client, answers in enumerate(pool.map(ask, range(32))):
        assert answers == [f"C{client}-{number}" for number in range(50)]
    assert (group._under_way, list(group._queue)) == (0, [])
