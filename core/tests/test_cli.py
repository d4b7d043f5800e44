"""The command line, as a person and as a program use it."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
from plait.cli import main_group

pytestmark = pytest.mark.slow  # Real processes, one for each command; `core/tests/cli` runs the same code in one.


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    run(tmp_path, "init", "--example")
    return tmp_path


def plait(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plait.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def run(folder: Path, *arguments: str) -> str:
    ended = plait(folder, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def run_json(folder: Path, *arguments: str) -> Any:
    return json.loads(run(folder, *arguments, "--json"))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


@pytest.mark.parametrize(("path", "command"), commands(main_group), ids=lambda value: str(value)[:40])
def test_every_command_has_help_and_json(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help, path
    if path != ("completion",):
        assert any("--json" in option.opts for option in command.params), path


def test_bare_plait_says_what_to_do(tmp_path: Path, shop: Path) -> None:
    assert "on main" in run(shop)
    assert "plait begin" in run(shop)


def test_without_a_catalog_it_says_how_to_make_one(tmp_path: Path) -> None:
    assert "plait init" in run(tmp_path)
    ended = plait(tmp_path, "ls")
    assert ended.returncode == 3
    assert "plait init" in ended.stderr


def test_the_example_can_be_looked_at_and_merged(shop: Path) -> None:
    assert [row["key"] for row in run_json(shop, "ls")] == ["lake.sales.orders", "raw.landing"]
    changed = {row["item"] for row in run_json(shop, "diff", "main", "more-orders", "--items")}
    assert {"lake.sales.orders::id=4", "raw.landing::4.json"} <= changed
    preview = run_json(shop, "merge", "more-orders", "--dry-run")
    assert [row["key"] for row in preview["changes"]] == ["lake.sales.orders", "raw.landing"]
    assert len(run_json(shop, "merge", "more-orders")["parents"]) == 2
    assert len(run_json(shop, "cat", "lake.sales.orders")) == 6
    assert run(shop, "cat", "raw.landing::5.json").startswith('{"id": 5')
    assert run_json(shop, "verify", "--depth", "bytes") == []
    blamed = {row["item"]: row["message"] for row in run_json(shop, "blame", "raw.landing")}
    assert blamed["4.json"] == "Two more orders"
    assert blamed["1.json"] == "Three orders"


def test_a_working_set_of_objects_from_begin_to_commit(shop: Path) -> None:
    (shop / "new.json").write_text('{"id": 9}')
    run(shop, "begin", "load", "-m", "A load", "--property", "run=7")
    run(shop, "put", "new.json", "raw.landing::9.json")
    assert [row["state"] for row in run_json(shop, "status")["assets"]] == ["staged"]
    assert [row["item"] for row in run_json(shop, "diff")] == ["raw.landing::9.json"]
    assert run_json(shop, "tx", "list")[0]["name"] == "load"
    made = run_json(shop, "commit")
    assert (made["message"], made["properties"]["run"]) == ("A load", "7")
    run(shop, "get", "raw.landing::9.json", "copy.json")
    assert (shop / "copy.json").read_text() == '{"id": 9}'
    assert [row["message"] for row in run_json(shop, "log", "--property", "run=7")] == ["A load"]


def test_a_conflict_is_listed_resolved_and_committed(shop: Path) -> None:
    (shop / "ours").write_text("ours")
    (shop / "theirs").write_text("theirs")
    run(shop, "branch", "dev")
    run(shop, "put", "ours", "raw.landing::1.bin", "-m", "ours")
    run(shop, "switch", "dev")
    run(shop, "put", "theirs", "raw.landing::1.bin", "-m", "theirs")
    run(shop, "switch", "main")
    ended = plait(shop, "merge", "dev", "--json")
    assert ended.returncode == 5
    error = json.loads(ended.stderr)
    assert error["code"] == "COMMIT_CONFLICT"
    assert [row["item"] for row in error["conflicts"]] == ["1.bin"]
    assert [row["settled"] for row in run_json(shop, "conflicts")] == [None]
    assert run_json(shop, "resolve", "raw.landing::1.bin", "--theirs") == {"settled": 1, "left": 0}
    assert len(run_json(shop, "commit")["parents"]) == 2
    assert run(shop, "cat", "raw.landing::1.bin") == "theirs"


def test_revert_restore_and_refs(shop: Path) -> None:
    run(shop, "tag", "before")
    run(shop, "revert", "main", "raw.landing")
    assert plait(shop, "cat", "raw.landing::6.json").returncode == 3
    run(shop, "restore", "raw.landing::6.json", "--from", "before")
    assert run(shop, "cat", "raw.landing::6.json").startswith('{"id": 6')
    run(shop, "branch", "gone")
    run(shop, "branch", "gone", "--delete")
    run(shop, "branch", "gone", "--undelete")
    assert {row["name"] for row in run_json(shop, "branch")} == {"main", "more-orders", "gone"}
    assert len(run_json(shop, "reflog", "gone")) == 3
    run(shop, "cherry-pick", "more-orders")
    assert run(shop, "cat", "raw.landing::4.json").startswith('{"id": 4')
    run(shop, "begin", "x")
    run(shop, "discard")
    assert run_json(shop, "tx", "list") == []


def test_errors_have_their_exit_codes_and_no_traceback(shop: Path) -> None:
    for arguments, code in (
        (("ls", "--at", "nope"), 3),
        (("branch", "a..b"), 2),
        (("branch", "main"), 4),
        (("merge", "main"), 2),
        (("cat", "raw.landing::nope"), 3),
        (("open", "lake.nope"), 3),
        (("store", "add", "x", "--kind", "nope"), 2),
        (("resolve", "raw.landing::x", "--ours"), 3),
        (("frobnicate",), 2),
    ):
        ended = plait(shop, *arguments)
        assert ended.returncode == code, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr


def test_the_page_of_the_graph_holds_every_commit(shop: Path) -> None:
    run(shop, "merge", "more-orders")
    run(shop, "log", "--html", "graph.html")
    page = (shop / "graph.html").read_text()
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found = dict(attributes)
            if tag == "g" and found.get("class") == "commit":
                seen.append(str(found["id"]))
            assert found.keys().isdisjoint({"src", "href"}), "the page needs nothing else"

    Reader().feed(page)
    assert seen == [row["id"][:12] for row in run_json(shop, "log")]
    graph = run(shop, "log", "--graph", "--oneline").splitlines()
    assert sum("*" in line for line in graph) == len(seen)
    assert any(line.startswith("| *") for line in graph)
