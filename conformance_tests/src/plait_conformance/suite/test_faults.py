"""Death at every step: what was acknowledged stands, all else happened in both stores or in neither."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from zlib import crc32

import pytest
from plait.adapter import Capability
from plait.types import Depth, Merged, SnapshotRef

from plait_conformance.killing import Place
from plait_conformance.suite.history import ADAPTER, History
from plait_conformance.suite.life import Ended, Life
from plait_conformance.suite.trial import DONE, Trial

ROWS = {"r0": "one", "r1": "two", "r2": "three"}
SOAK = os.environ.get("PLAIT_SOAK") == "1"

_CORE = ("coordinator.", "publisher.", "transaction.")
"""The core's own places that lie between calls of adapters; the others are proved without any real store."""


def deaths(places: Sequence[Place], harness: str) -> list[Place]:
    """Where to die: at one place of each name, another one for each harness, and the last for the core's names; with
    PLAIT_SOAK at all of them."""
    named: dict[str, list[Place]] = {}
    for place in places:
        if place.name.startswith((ADAPTER, *_CORE)):
            named.setdefault(place.name, []).append(place)
    if SOAK:
        return [place for each in named.values() for place in each]
    return [
        each[-1 if name.startswith(_CORE) else crc32(f"{harness}{name}".encode()) % len(each)]
        for name, each in named.items()
    ]


@pytest.mark.assertion(6)
class TestFaults:
    @pytest.mark.timeout(0 if SOAK else 900)
    def test_killed_at_any_step_both_stores_have_moved_or_neither(self, history: History) -> None:
        life = Life(history)
        whole = life.run()
        assert not whole.killed
        life.check(whole)
        known = {place.name for place in whole.places}
        assert any(name.startswith(ADAPTER) for name in known), (
            "the adapter has no failpoints, so nobody knows what its death leaves behind"
            " · call self.context.failpoint('kind.step') between any two writes"
        )
        harness = type(history.harness).__name__
        waiting, died = deaths(whole.places, harness), set()
        while waiting:
            place = waiting.pop(0)
            ended = life.run(place)
            if ended.killed:
                died.add(place.name)
            for name in sorted({name for name in life.check(ended) if name.startswith(ADAPTER)} - known):
                # Only the recovery comes by here: die in it as well, then recover from that.
                known.add(name)
                life.run(place)
                life.recover(Place(name, 1))
                life.check(Ended((), (), killed=True))
            fresh = [one for one in ended.places if one.name not in known]
            known.update(one.name for one in fresh)
            waiting.extend(deaths(fresh, harness))
        missed = {name for name in known if name.startswith(ADAPTER)} - died
        assert not missed, f"reached once, and never again to die at: {sorted(missed)}"
        assert list(history.catalog.verify(Depth.BYTES)) == []


class Died(BaseException):
    """What a failpoint raises here: no adapter catches it."""


Attempt = tuple[Callable[[], object], Callable[[object], None]]
"""One attempt: the call that may die, and what must hold of its answer."""


def survive(trial: Trial, attempt: Callable[[str], Attempt]) -> None:
    """Let a call die at each of its places; then a new instance, asked the same, gives the whole answer, twice.

    `attempt` is given a text that no attempt had before: where equal content is stored once, nothing is written for
    what another attempt wrote already, and nobody dies over it.
    """
    reached: list[str] = []
    call, check = attempt("whole")
    trial.on_failpoint = reached.append
    check(call())
    numbers = range(len(reached))
    for number in numbers if SOAK else sorted({*numbers[:6], *numbers[-6:]}):
        trial.on_failpoint = lambda name: None
        call, check = attempt(f"dies at {number}")
        assert _die(trial, call, number), f"{reached[number]} is passed by one call, and not by the next one like it"
        trial.reopen()
        first = call()
        check(first)
        assert call() == first, f"after a death at {reached[number]}, the answer changes"


def _die(trial: Trial, call: Callable[[], object], number: int) -> bool:
    """Whether the call came so far."""
    count = 0

    def reach(name: str) -> None:
        nonlocal count
        count += 1
        if count > number:
            raise Died(name)

    trial.on_failpoint = reach
    try:
        call()
    except Died:
        return True
    finally:
        trial.on_failpoint = lambda name: None
    return False


@pytest.mark.assertion(6)
class TestEveryCallMayBeRepeatedAfterACrash:
    def test_snapshot(self, trial: Trial) -> None:
        key = trial.key()
        native = trial.adapter.snapshot(trial.new_tx(), {key: trial.harness.write_behind(None, ROWS)})[key]

        def attempt(text: str) -> Attempt:
            name, tx = trial.harness.write_behind(native, {"r0": text}), trial.new_tx()
            return (lambda: trial.adapter.snapshot(tx, {key: name})[key]), _holds(trial, {**ROWS, "r0": text})

        survive(trial, attempt)

    def test_stage_and_prepare(self, trial: Trial) -> None:
        base = trial.create(ROWS)

        def attempt(text: str) -> Attempt:
            port = trial.changed(base, {"r0": text, "r7": f"new, {text}", "r2": None})
            return (lambda: trial.vote(port)), _holds(trial, {"r0": text, "r1": "two", "r7": f"new, {text}"})

        survive(trial, attempt)

    def test_stage_of_a_new_asset(self, trial: Trial) -> None:
        def attempt(text: str) -> Attempt:
            rows = {row: f"{row}, {text}" for row in ROWS}
            port = trial.begun(rows)

            def call() -> object:
                trial.adapter.stage(port.tx, port.intents)
                return trial.vote(port)

            return call, _holds(trial, rows)

        survive(trial, attempt)

    def test_restore(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now", "r1": None})

        def attempt(text: str) -> Attempt:
            port = trial.changed(now, {"r5": text})

            def call() -> object:
                staging = trial.adapter.restore(port.tx, trial.staged(port), then, items=None)
                return trial.prepare(port.tx, {trial.key(): staging})[trial.key()]

            return call, _holds(trial, ROWS)

        survive(trial, attempt)

    @pytest.mark.needs(Capability.ITEM_RESTORE)
    def test_restore_of_items(self, trial: Trial) -> None:
        then = trial.create(ROWS)
        now = trial.change(then, {"r0": "now", "r1": None, "r2": "now"})
        items = [trial.harness.item(row) for row in ("r0", "r1")]

        def attempt(text: str) -> Attempt:
            port = trial.changed(now, {"r5": text})

            def call() -> object:
                staging = trial.adapter.restore(port.tx, trial.staged(port), then, items=items)
                return trial.prepare(port.tx, {trial.key(): staging})[trial.key()]

            return call, _holds(trial, {"r0": "one", "r1": "two", "r2": "now", "r5": text})

        survive(trial, attempt)

    @pytest.mark.needs(Capability.MERGE)
    def test_merge(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        theirs = trial.change(base, {"r1": "theirs"})

        def attempt(text: str) -> Attempt:
            ours, tx = trial.change(base, {"r0": text}), trial.new_tx()

            def call() -> object:
                answer = trial.merge(base, ours, theirs, tx=tx)
                assert isinstance(answer, Merged), answer
                return answer.snapshot

            return call, _holds(trial, {"r0": text, "r1": "theirs", "r2": "three"})

        survive(trial, attempt)

    def test_succeed(self, trial: Trial) -> None:
        first = trial.create(ROWS)

        def attempt(text: str) -> Attempt:
            old = trial.change(first, {"r0": text})
            new, tx = trial.change(old, {"r0": "new"}), trial.new_tx()
            expected = {**ROWS, "r0": text}
            return (lambda: trial.adapter.succeed(tx, 1, onto=new, content=old)), _holds(trial, expected)

        survive(trial, attempt)

    @pytest.mark.needs(Capability.NATIVE_HEAD)
    def test_publish(self, trial: Trial) -> None:
        head = trial.create(ROWS)
        seq = 1
        assert trial.publish(None, head, seq) == DONE

        def attempt(text: str) -> Attempt:
            nonlocal head, seq
            before, seq = head, seq + 1
            head, number = trial.change(before, {"r0": text}), seq

            def check(answer: object) -> None:
                assert answer == DONE

            return (lambda: trial.publish(before, head, number)), check

        survive(trial, attempt)

    def test_abort(self, trial: Trial) -> None:
        base = trial.create(ROWS)

        def attempt(text: str) -> Attempt:
            port = trial.changed(base, {"r0": text})
            trial.vote(port)

            def check(answer: object) -> None:
                assert trial.held(base) == ROWS
                assert trial.adapter.verify(base, Depth.BYTES).problems == ()

            return (lambda: trial.adapter.abort(port.tx)), check

        survive(trial, attempt)


def _holds(trial: Trial, rows: dict[str, str]) -> Callable[[object], None]:
    def check(answer: object) -> None:
        assert isinstance(answer, SnapshotRef)
        assert trial.held(answer) == rows
        assert trial.adapter.verify(answer, Depth.BYTES).problems == ()

    return check
