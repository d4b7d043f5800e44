"""Gates: what lets a commit pass, and that everything else refuses it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from plait import limits
from plait.catalog import Catalog
from plait.errors import ProposalRejected
from plait.gates import Gates
from plait.hookspecs import Verdict, hookimpl
from plait.local.backend import LocalBackend
from plait.plugins import Plugins
from plait.types import Change, Entry, Proposal, Unchanged
from plait_conformance.samples import pointer, put, unchanged

PROPOSAL = Proposal("main", (put("a", 1),))
CHANGES = [Change(("p", "a"), None, Entry(("p", "a"), "c", pointer("a", 1)))]
CATALOG = cast(Catalog, object())

Gate = Callable[[Proposal], Verdict | None]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def gates(executor: ThreadPoolExecutor, *asked: Gate, gate_us: int = limits.GATE_US_MAX) -> Gates:
    """Gates of one plugin each, named gate-0, gate-1 …"""
    plugins = Plugins(installed=False)
    for number, ask in enumerate(asked):
        plugins.manager.register(_plugin(ask), name=f"gate-{number}")
    return Gates(plugins, executor, gate_us)


def _plugin(ask: Gate) -> object:
    class Plugin:
        @hookimpl
        def plait_check_proposal(self, proposal: Proposal) -> Verdict | None:
            return ask(proposal)

    return Plugin()


def check(asked: Gates) -> Sequence[Unchanged]:
    return asked.check(PROPOSAL, CHANGES, CATALOG)


def refuse(proposal: Proposal) -> Verdict:
    return Verdict(False, "no orders on Sundays", "wait until Monday")


def test_without_gates_everything_passes(executor: ThreadPoolExecutor) -> None:
    assert not gates(executor).are_there
    assert check(gates(executor)) == ()


def test_allowing_and_having_no_opinion_pass(executor: ThreadPoolExecutor) -> None:
    asked = gates(executor, lambda proposal: None, lambda proposal: Verdict(True))
    assert asked.are_there
    assert check(asked) == ()


def test_what_all_gates_read_is_gathered(executor: ThreadPoolExecutor) -> None:
    one, other = unchanged("x", 1), unchanged("y", None)
    asked = gates(
        executor,
        lambda proposal: Verdict(True, reads=(one,)),
        lambda proposal: Verdict(True, reads=(other,)),
    )
    assert set(check(asked)) == {one, other}


@pytest.mark.parametrize("place", [0, 1])
def test_one_refusal_is_enough_and_names_its_gate(executor: ThreadPoolExecutor, place: int) -> None:
    asked: list[Gate] = [lambda proposal: Verdict(True)]
    asked.insert(place, refuse)
    with pytest.raises(ProposalRejected, match=f"gate 'gate-{place}' refused: no orders on Sundays") as caught:
        check(gates(executor, *asked))
    assert caught.value.remedy == "wait until Monday"


def test_a_gate_that_fails_refuses(executor: ThreadPoolExecutor) -> None:
    def fail(proposal: Proposal) -> Verdict:
        raise ZeroDivisionError("oops")

    with pytest.raises(ProposalRejected, match="'gate-0' failed: oops") as caught:
        check(gates(executor, fail))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_gate_that_gives_up_waiting_failed_itself(executor: ThreadPoolExecutor) -> None:
    def fail(proposal: Proposal) -> Verdict:
        raise TimeoutError("its own server is slow")

    with pytest.raises(ProposalRejected, match="failed: its own server is slow"):
        check(gates(executor, fail))


def test_silence_past_the_limit_refuses(executor: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def wait(proposal: Proposal) -> None:
        assert release.wait(60)

    try:
        with pytest.raises(ProposalRejected, match=r"'gate-0' did not answer within 0\.001 s"):
            check(gates(executor, wait, gate_us=1_000))
    finally:
        release.set()


def test_a_gate_takes_only_the_arguments_that_it_names(executor: ThreadPoolExecutor) -> None:
    seen: list[object] = []

    class Everything:
        @hookimpl
        def plait_check_proposal(self, proposal: Proposal, changes: Sequence[Change], catalog: Catalog) -> None:
            seen.extend([proposal, changes, catalog])

    class Nothing:
        @hookimpl
        def plait_check_proposal(self) -> Verdict:
            return Verdict(True, reads=(unchanged("a", None),))

    found = Gates(Plugins([Everything(), Nothing()], installed=False), executor).check(PROPOSAL, CHANGES, CATALOG)
    assert found == (unchanged("a", None),)
    assert seen == [PROPOSAL, CHANGES, CATALOG]


def test_slow_gates_and_slow_stores_do_not_wait_for_each_other(catalog: Catalog, tmp_path: Path) -> None:
    catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
    with catalog.transaction(message="one") as tx:
        tx.create("s.a")
    backend, go_on, asked = cast(LocalBackend, catalog.backend), threading.Event(), threading.Semaphore(0)

    def wait(proposal: Proposal) -> None:
        if proposal.message == "slow":
            asked.release()
            assert go_on.wait(90)

    backend.plugins.manager.register(_plugin(wait))
    with ThreadPoolExecutor(17) as threads:
        try:
            slow = [threads.submit(catalog.commit, Proposal("main", (put(str(n), 1),), "slow")) for n in range(16)]
            assert all(asked.acquire(timeout=60) for _ in slow)
            assert threads.submit(lambda: list(catalog.verify())).result(30) == []
            go_on.set()
            assert [one.result(60).message for one in slow] == ["slow"] * 16
            go_on.clear()
            for _ in range(16):
                backend._executor.submit(go_on.wait, 90)
            assert threads.submit(catalog.commit, PROPOSAL).result(30).message == ""
        finally:
            go_on.set()
