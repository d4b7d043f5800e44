"""Failpoints: silent unless armed, and how a real process is killed at one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from plait.failpoint import arm, arm_from_environment, armed, failpoint

REACH = """
from plait.failpoint import arm_from_environment, failpoint
arm_from_environment()
for name in ("one", "two", "one", "three"):
    failpoint(name)
print("survived")
"""


def reach(**environ: str) -> subprocess.CompletedProcess[str]:
    """A process that passes one, two, one, three."""
    return subprocess.run(
        [sys.executable, "-c", REACH], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )


def test_unarmed_it_does_nothing() -> None:
    seen: list[str] = []
    with armed(seen.append):
        pass
    failpoint("anywhere")
    assert seen == []


def test_armed_it_tells_each_name_and_then_what_was_armed_before() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with armed(outer.append):
        failpoint("a")
        with armed(inner.append):
            failpoint("b")
        failpoint("c")
    failpoint("d")
    assert (outer, inner) == (["a", "c"], ["b"])


def test_a_handler_may_raise_and_is_disarmed_all_the_same() -> None:
    def crash(name: str) -> None:
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="here"), armed(crash):
        failpoint("here")
    failpoint("here")


def test_arming_lasts_until_disarmed() -> None:
    seen: list[str] = []
    arm(seen.append)
    try:
        failpoint("a")
    finally:
        arm(None)
    failpoint("b")
    assert seen == ["a"]


def test_an_empty_environment_arms_nothing() -> None:
    seen: list[str] = []
    with armed(seen.append):
        arm_from_environment({})
        failpoint("a")
    assert seen == ["a"]


def test_a_process_records_the_names_it_passes(tmp_path: Path) -> None:
    names = tmp_path / "names"
    ended = reach(PLAIT_FAILPOINT_RECORD=str(names))
    assert (ended.returncode, ended.stdout) == (0, "survived\n")
    assert names.read_text().split() == ["one", "two", "one", "three"]


@pytest.mark.parametrize(
    ("target", "passed"),
    [("one", ["one"]), ("one@2", ["one", "two", "one"]), ("three", ["one", "two", "one", "three"])],
)
def test_a_process_dies_the_nth_time_it_gets_there(tmp_path: Path, target: str, passed: list[str]) -> None:
    names = tmp_path / "names"
    ended = reach(PLAIT_FAILPOINT=target, PLAIT_FAILPOINT_RECORD=str(names))
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")
    assert names.read_text().split() == passed


def test_a_place_that_is_not_reached_often_enough_kills_nobody() -> None:
    assert reach(PLAIT_FAILPOINT="one@3").stdout == "survived\n"
