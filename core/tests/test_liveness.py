"""Who counts as dead: a process that is gone, and one whose id is another's by now."""

from __future__ import annotations

import os
import subprocess
import sys

from plait.liveness import is_alive, owner_name


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
