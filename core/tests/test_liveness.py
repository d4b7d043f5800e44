"""Who counts as dead: a process that is gone, and one whose id is another's by now."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from plait import limits
from plait.liveness import is_alive, owner_name, renewing


def test_this_process_lives() -> None:
    assert is_alive(owner_name("a"))


def test_a_process_that_ended_is_dead() -> None:
    program = "from plait.liveness import owner_name; print(owner_name('a'))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not is_alive(ended.stdout.strip())


def test_a_process_that_ended_and_that_nobody_waited_for_is_dead() -> None:
    program = "from plait.liveness import owner_name; print(owner_name('a'), flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        owner = child.stdout.readline().strip()
        child.stdout.read()  # Until it ends.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(owner)


def test_a_process_id_that_is_another_ones_by_now_is_dead() -> None:
    host, pid, started, unique = owner_name("a").split("/")
    assert int(pid) == os.getpid()
    assert not is_alive(f"{host}/{pid}/{int(started) - 1}/{unique}")


def test_another_hosts_process_lives_until_its_lease_ends() -> None:
    assert is_alive("elsewhere/1/2/a")
    assert not is_alive("")


def test_a_block_inside_another_is_renewed_by_the_same_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_US", 30_000)
    renewed: dict[str, set[threading.Thread]] = {"outer": set(), "inner": set(), "alone": set()}
    seen = {name: threading.Event() for name in renewed}

    def renew(name: str) -> None:
        renewed[name].add(threading.current_thread())
        seen[name].set()

    with renewing(lambda: renew("outer")):
        with renewing(lambda: renew("inner")):
            assert seen["inner"].wait(30)
        seen["outer"].clear()
        assert seen["outer"].wait(30)
    with renewing(lambda: renew("alone")):
        assert seen["alone"].wait(30)
    assert renewed["inner"] == renewed["outer"] != renewed["alone"]
    assert [len(threads) for threads in renewed.values()] == [1, 1, 1]


def test_of_blocks_that_end_in_any_order_the_last_is_renewed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_US", 30_000)
    renewed = threading.Event()
    first, second = renewing(lambda: None), renewing(renewed.set)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    renewed.clear()
    assert renewed.wait(30)
    second.__exit__(None, None, None)


def test_a_forked_child_renews_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_US", 30_000)
    with renewing(lambda: None):
        child = os.fork()
        if child == 0:
            renewed = threading.Event()
            with renewing(renewed.set):
                os._exit(0 if renewed.wait(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
