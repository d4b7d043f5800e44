"""Points in the history, and keys, as people who know Git type them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("words", [("show", "{}"), ("show", "{}~0"), ("diff", "{}~1", "{}"), ("ls", "--at", "{}")])
def test_head_is_the_current_branch(run_plait: Any, example: Path, words: tuple[str, ...]) -> None:
    assert run_plait("switch", "more-orders").code == 0
    by_head = run_plait(*(word.format("HEAD") for word in words), "--json")
    by_name = run_plait(*(word.format("more-orders") for word in words), "--json")
    assert by_head.value == by_name.value
    assert by_head.value != run_plait(*(word.format("main") for word in words), "--json").value


def test_head_is_no_name_for_a_branch(run_plait: Any, example: Path) -> None:
    ran = run_plait("branch", "HEAD")
    assert ran.code == 2
    assert "HEAD" in ran.err


@pytest.mark.parametrize("digits", [8, 12, 64])
def test_an_id_is_copied_from_the_log(run_plait: Any, example: Path, digits: int) -> None:
    newest, before = (commit["id"][:digits] for commit in run_plait("log", "--json", "-n", "2").value)
    assert run_plait("show", before, "--json").value == run_plait("show", "main~1", "--json").value
    by_id = run_plait("diff", before, newest, "lake.sales.orders", "--items", "--json")
    assert by_id.value == run_plait("diff", "main~1", "main", "lake.sales.orders", "--items", "--json").value
    assert run_plait("ls", "--at", f"{newest}~1", "--json").value == run_plait("ls", "--at", before, "--json").value
    theirs = run_plait("log", "more-orders", "--json", "-n", "1").value[0]["id"]
    assert run_plait("merge", theirs[:digits], "--json").value["parents"][1] == theirs


def test_a_log_takes_a_key_as_a_diff_does(run_plait: Any, example: Path) -> None:
    (example / "one").write_text("1")
    assert run_plait("put", "one", "raw.landing::one", "-m", "one object").code == 0
    of_key = run_plait("log", "lake.sales.orders", "--json").value
    assert of_key == run_plait("log", "main", "lake", "--json").value
    assert of_key == run_plait("log", "--key", "lake.sales.orders", "--json").value
    everything = run_plait("log", "--json").value
    assert next(commit["message"] for commit in everything if commit not in of_key) == "one object"
    assert run_plait("log", "main", "more-orders").code == 2


@pytest.mark.parametrize("option", ["principal", "client"])
def test_a_log_is_filtered_by_who_committed_and_with_what(run_plait: Any, unchanging: Path, option: str) -> None:
    everything = run_plait("log", "--json").value
    name = everything[0][option]
    assert run_plait("log", f"--{option}", name, "--json").value == [one for one in everything if one[option] == name]
    assert run_plait("log", f"--{option}", f"not {name}", "--json").value == []


def test_a_key_that_is_nowhere_is_no_empty_diff(run_plait: Any, unchanging: Path) -> None:
    ran = run_plait("diff", "main~1", "main", "lake.sales.order", "--items")
    assert ran.code == 3
    assert "lake.sales.order does not exist at main~1 nor at main" in ran.err
    assert "plait ls --at main" in ran.err
    assert run_plait("diff", "main", "main", "lake.sales.orders", "--items").code == 0


def test_a_reflog_can_be_cut(run_plait: Any, unchanging: Path) -> None:
    every = run_plait("reflog", "--json").value
    assert run_plait("reflog", "--limit", "1", "--json").value == every[:1] != every


def completed(words: str) -> list[str]:
    """What a shell is offered for the last of the words."""
    count = str(len(words.split(" ")) - 1)
    asked = {"_PLAIT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    program = "import plait.cli; plait.cli.run([])"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    return [line.removeprefix("plain,") for line in ran.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("plait show mo", ["more-orders"]),
        ("plait switch m", ["main", "more-orders"]),
        ("plait tag m", []),
        ("plait cat l", ["lake.sales.orders"]),
        ("plait cat lake.sales.o", ["lake.sales.orders"]),
        ("plait merge more-orders --drop r", ["raw.landing"]),
        ("plait store check ", ["lake", "raw"]),
        ("plait log l", ["lake.sales.orders"]),
    ],
)
def test_completion_offers_what_is_there(words: str, offered: list[str], unchanging: Path) -> None:
    assert completed(words) == offered


@pytest.mark.slow
def test_completion_offers_working_sets_tags_and_tokens(run_plait: Any, example: Path) -> None:
    run_plait("begin", "by-hand")
    run_plait("tag", "v1")
    run_plait("token", "create", "ann")
    assert completed("plait tx use ") == completed("plait commit b") == ["by-hand"]
    assert completed("plait tag v") == ["v1"]
    assert completed("plait token delete ") == ["ann"]
