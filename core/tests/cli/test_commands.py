"""Every command, for people and for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import plait
import pytest
from plait.cli import main_group
from plait.errors import BY_CODE, Corrupt, NotFound, PermissionDenied, PlaitError, StoreUnavailable
from plait.persist import schema
from plait.plugins import Plugins
from plait.types import Session
from plait_conformance.fake_storage import write_behind


def commands(group: click.Group = main_group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_and_json(path: tuple[str, ...], run_plait: Any) -> None:
    command = ALL[path]
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert "--json" in {name for option in command.params for name in option.opts}
    ran = run_plait(*path, "--help")
    assert ran.code == 0
    assert "--json" in ran.out


def test_help_lists_every_exit_code(run_plait: Any) -> None:
    told = run_plait("--help").out
    for code, kind in BY_CODE.items():
        assert f"{kind.exit_code:>2}  {code.lower().replace('_', ' ')}" in told


@pytest.mark.parametrize("group", [(), ("store",), ("tx",), ("import",)], ids=" ".join)
def test_help_lists_commands_by_whole_sentences(group: tuple[str, ...], run_plait: Any) -> None:
    told = run_plait(*group, "--help").out
    assert "\nCommands:\n" in told
    assert "..." not in told.partition("\nCommands:\n")[2]


# Each reads the example, in its two forms; the text that people must find in it.
READING = [
    (("",), "on main at"),
    (("ls",), "lake.sales.orders"),
    (("ls", "lake", "--at", "main~1"), "iceberg"),
    (("log",), "A late order"),
    (("log", "--graph", "--all"), "| * "),
    (("log", "--oneline", "-n", "1", "--author", "nobody"), "no commit fits"),
    (("log", "--key", "lake.sales", "--since", "2000-01-01", "--until", "2999-01-01"), "Three orders"),
    (("log", "--property", "run=1"), "no commit fits"),
    (("show", "main"), "A late order"),
    (("diff", "main", "more-orders"), "changed"),
    (("diff", "main", "more-orders", "lake.sales.orders", "--items"), "lake.sales.orders::id=4"),
    (("blame", "lake.sales.orders"), "A late order"),
    (("blame", "lake.sales.orders::id=1"), "Three orders"),
    (("cat", "lake.sales.orders", "--limit", "2"), "item"),
    (("cat", "raw.landing"), "1.json"),
    (("cat", "raw.landing::1.json"), '"item": "tea"'),
    (("open", "lake.sales.orders"), "metadata.json"),
    (("branch",), "more-orders"),
    (("events",), "ref-created"),
    (("tag",), "no tag yet"),
    (("reflog", "main"), "seq"),
    (("reflog",), "seq"),
    (("verify",), "all is well"),
    (("verify", "--depth", "bytes"), "all is well"),
    (("tx", "list"), "no working set is open"),
    (("tx", "recover"), "nothing to recover"),
    (("store", "list"), "iceberg"),
    (("store", "check"), ""),
    (("token", "list"), "no token yet"),
    (("migrate",), "up to date"),
    (("merge", "more-orders", "--dry-run"), "lake.sales.orders"),
]


def test_the_environment_says_whose_process_it_is(
    run_plait: Any, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_CLIENT", "airflow/2")
    monkeypatch.setenv("PLAIT_PROPERTIES", "run=7, source=https://git.example/a?b=1%2C2,code=")
    made = run_plait("merge", "more-orders", "--json").value
    assert made["client"] == "airflow/2"
    assert made["properties"] == {"run": "7", "source": "https://git.example/a?b=1,2", "code": ""}
    (found,) = run_plait("log", "--property", "run=7", "--client", "airflow", "--json").value
    assert found["id"] == made["id"]
    monkeypatch.setenv("PLAIT_PROPERTIES", "run")
    ran = run_plait("log")
    assert (ran.code, "PLAIT_PROPERTIES" in ran.err) == (2, True)


def test_what_open_gives_to_paste_works_in_any_directory(
    run_plait: Any, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_plait("begin", "-m", "Pasted")
    written = run_plait("open", "lake.sales.orders", "--write", "--json").value["snippet"]
    read = run_plait("open", "lake.sales.orders", "--json").value["snippet"].partition("-- DuckDB")[0]
    monkeypatch.chdir(tmp_path)
    pasted: dict[str, Any] = {}
    exec(written, pasted)
    pasted["table"].delete("id = 1")
    monkeypatch.chdir(example)
    assert run_plait("commit").code == 0
    exec(read, pasted)
    assert 1 in pasted["table"].scan().to_arrow().column("id").to_pylist()
    exec(run_plait("open", "lake.sales.orders", "--json").value["snippet"].partition("-- DuckDB")[0], pasted)
    assert 1 not in pasted["table"].scan().to_arrow().column("id").to_pylist()


def test_blame_names_the_process_and_what_it_said_of_itself(run_plait: Any, example: Path) -> None:
    session = plait.Session("mo", "ann", client="etl/1", properties={"run": "7"})
    with plait.open(example, session=session) as catalog, catalog.transaction(properties={"code": "a1"}) as tx:
        cast(Any, tx.open("raw.landing")).pipe("job.csv", b"1")
    (row,) = run_plait("blame", "raw.landing::job.csv", "--json").value
    assert (row["principal"], row["author"], row["client"]) == ("mo", "ann", "etl/1")
    assert row["properties"] == {"run": "7", "code": "a1"}
    assert "etl/1" in run_plait("blame", "raw.landing::job.csv").out


@pytest.mark.parametrize(("words", "expected"), READING, ids=[" ".join(words) for words, _ in READING])
def test_reading_commands_print_text_and_json(
    words: tuple[str, ...], expected: str, run_plait: Any, unchanging: Path
) -> None:
    words = tuple(word for word in words if word)
    text = run_plait(*words)
    assert (text.code, text.err) == (0, "")
    assert expected in text.out
    assert "\x1b" not in text.out
    document = run_plait(*words, "--json")
    assert (document.code, document.err) == (0, "")
    assert document.value is not None


# Each writes to a fresh example.
WRITING = [
    ("branch", "dev", "--at", "main~1"),
    ("branch", "more-orders", "-d"),
    ("branch", "more-orders", "--protect"),
    ("branch", "more-orders", "--unprotect"),
    ("branch", "more-orders", "--reset", "main"),
    ("tag", "v1", "--at", "main~1"),
    ("switch", "more-orders"),
    ("switch", "-c", "dev"),
    ("begin", "prices", "-m", "New prices", "--property", "run=7"),
    ("store", "add", "p", "--kind", "pointer", "--mode", "pointer"),
    ("store", "add", "wild", "--kind", "files", "--option", "path={here}/wild"),
    ("token", "create", "bot"),
    ("merge", "more-orders"),
    ("merge", "more-orders", "--squash", "-m", "Joined"),
    ("merge", "more-orders", "--ours", "lake.sales.orders", "--theirs", "raw"),
    ("cherry-pick", "more-orders"),
    ("revert", "main"),
    ("revert", "main", "lake.sales.orders"),
    ("revert", "main", "lake.sales.orders::id=6"),
    ("restore", "raw.landing", "--from", "main~1"),
    ("restore", "lake.sales.orders::id=6", "--from", "main~1"),
    ("put", "{here}/note", "raw.landing::note", "-m", "A note"),
    ("get", "raw.landing::1.json", "{here}/got"),
    ("log", "--svg", "{here}/g.svg", "--html", "{here}/g.html"),
    ("completion", "bash"),
    ("completion", "fish"),
]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_writing_commands_print_text_or_json(
    words: tuple[str, ...], as_json: bool, run_plait: Any, example: Path
) -> None:
    (example / "note").write_text("note")
    filled = [word.replace("{here}", str(example)) for word in words]
    ran = run_plait(*filled, *(["--json"] if as_json else []))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()
    if as_json:
        assert ran.value


def test_init_makes_a_catalog_and_says_what_is_next(run_plait: Any, here: Path) -> None:
    ran = run_plait("init")
    assert ran.code == 0
    assert "→ plait store add" in ran.out
    assert (here / ".plait" / "catalog.db").exists()
    assert run_plait("init", "--json").code == 4


@pytest.mark.parametrize("kind", ["iceberg", "delta", "files", "dolt", "block"])
def test_the_first_store_is_of_a_kind_that_is_installed(
    run_plait: Any, here: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Plugins, "kinds", [kind])
    (step,) = run_plait("init", "--json").value["next"]
    ran = run_plait(*step.replace("$PWD", str(here)).split()[1:])
    assert (ran.code, ran.err) == (0, "")
    assert f"of kind {kind}" in ran.out


def test_where_no_adapter_is_installed_one_is_what_to_install_next(
    run_plait: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plugins, "kinds", [])
    assert run_plait("init", "--json").value["next"] == ["pip install plait-iceberg"]


def test_the_example_names_commands_that_work(run_plait: Any, here: Path) -> None:
    made = run_plait("init", "--example", "--json").value
    assert made["stores"] == ["lake", "raw"]
    for step in made["next"]:
        ran = run_plait(*step.split()[1:])
        assert (ran.code, ran.err) == (0, "")


def test_bare_plait_says_where_and_what_next(run_plait: Any, here: Path) -> None:
    ran = run_plait()
    assert ran.code == 0
    assert "plait init --example" in ran.out
    assert run_plait("--json").value == {"catalog": None}
    run_plait("init", "--example")
    assert "no working set is open here" in run_plait().out
    run_plait("begin", "prices")
    run_plait("put", __file__, "raw.landing::test.py")
    told = run_plait()
    assert "working set prices on main: 1 asset staged" in told.out
    assert "raw.landing" in told.out
    assert "→ plait commit" in told.out
    assert run_plait("--json").value["tx"]["assets"] == ["raw.landing"]


def test_bare_plait_names_the_other_working_sets(
    run_plait: Any, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_plait("--json").value["others"] == {"count": 0, "newest": []}
    for name in ("a", "b", "c", "d"):
        monkeypatch.setenv("PLAIT_AUTHOR", f"{name.upper()}nn")
        run_plait("begin", name)
    assert run_plait("--json").value["others"]["count"] == 3
    assert "3 other working sets are open:\n  c on main, by Cnn, " in run_plait().out
    assert "more" not in run_plait().out
    with plait.open(example) as catalog, catalog.transaction():  # Nobody else's to take up.
        others = run_plait("--json").value["others"]
        assert [(row["name"], row["by"], row["ref"]) for row in others["newest"]] == [
            ("c", "Cnn", "main"), ("b", "Bnn", "main"), ("a", "Ann", "main"),
        ]  # fmt: skip
        assert all(0 <= row["age_s"] < 600 for row in others["newest"])
    run_plait("begin", "e")
    lines = run_plait().out.splitlines()
    start = lines.index("4 other working sets are open:")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["d", "c", "b"]
    assert lines[start + 4 : start + 6] == ["  … and 1 more: plait tx list", "→ plait tx use d   takes one up"]
    assert run_plait("tx", "use", "d").code == 0
    assert run_plait("--json").value["tx"]["name"] == "d"
    run_plait("tx", "discard", "a", "b", "c", "d")
    assert "no working set is open here\n1 other working set is open:\n  e on main, by Dnn, " in run_plait().out


def test_a_working_set_from_begin_to_commit(run_plait: Any, example: Path) -> None:
    note = example / "note"
    note.write_bytes(b"\x00\xff")
    nothing = run_plait("status")
    assert nothing.code == 0
    assert "no working set is open here" in nothing.out
    assert run_plait("status", "notes").code == 3
    begun = run_plait("begin", "notes", "-m", "Notes", "--property", "run=7", "--json").value
    assert run_plait("put", str(note), "raw.landing::note").code == 0
    status = run_plait("status", "--json").value
    assert (status["id"], status["state"]) == (begun["id"], "open")
    assert [(row["state"], row["key"]) for row in status["assets"]] == [("staged", "raw.landing")]
    changes = run_plait("diff", "--json").value
    assert [(row["change"], row["item"]) for row in changes] == [("added", "raw.landing::note")]
    assert "raw.landing::note" in run_plait("diff").out
    assert run_plait("cat", "raw.landing::note", "--json").value == {
        "item": "raw.landing::note",
        "bytes": 2,
        "base64": "AP8=",
    }
    assert run_plait("cat", "raw.landing::note", "--at", "main").code == 3
    made = run_plait("commit", "--json").value
    assert (made["message"], run_plait("status", "--json").value["id"]) == ("Notes", None)
    assert run_plait("show", "--json").value["id"] == made["id"]
    assert [row["id"] for row in run_plait("log", "--property", "run=7", "--json").value] == [made["id"]]
    assert run_plait("get", "raw.landing::note", "copy").code == 0
    assert (example / "copy").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [(("put", __file__, "raw.landing::x"), "commit with -m"), (("diff",), "plait diff main~1 main")],
)
def test_without_a_working_set_the_way_without_one_is_told(
    run_plait: Any, unchanging: Path, words: tuple[str, ...], remedy: str
) -> None:
    ran = run_plait(*words, "--json")
    assert ran.code == 3
    assert remedy in ran.error["remedy"]


def test_discard_leaves_no_trace(run_plait: Any, example: Path) -> None:
    head = run_plait("show", "--json").value["id"]
    run_plait("begin")
    run_plait("put", __file__, "raw.landing::test.py")
    assert run_plait("discard").code == 0
    assert run_plait("tx", "list", "--json").value == []
    assert run_plait("show", "--json").value["id"] == head


def test_putting_files_is_advised_for_objects_alone(run_plait: Any, example: Path) -> None:
    for told in (run_plait("begin").out, run_plait("status").out):
        assert "plait put FILE KEY::ITEM, where KEY holds objects or files" in told
        assert "plait open KEY --write" in told


def test_tx_list_says_how_long_a_with_block_that_died_is_waited_for(run_plait: Any, example: Path) -> None:
    with plait.open(example) as catalog:
        catalog.begin(implicit=True)
    (row,) = run_plait("tx", "list", "--json").value
    assert row["waits_for"] == "its 'with' block; discarded in 14 min if that died"


def test_tx_list_tells_the_phase_of_each_store(run_plait: Any, example: Path) -> None:
    run_plait("begin", "first")
    run_plait("put", __file__, "raw.landing::test.py")
    second = run_plait("begin", "second").out
    assert "first stays open" in second
    rows = run_plait("tx", "list", "--json").value
    assert [(row["name"], row["stores"], row["current"]) for row in rows] == [
        ("first", {"raw": "1 staged"}, False),
        ("second", {}, True),
    ]
    assert rows[0]["waits_for"] == "its user"
    assert "raw: 1 staged" in run_plait("tx", "list").out
    assert run_plait("tx", "use", "first").code == 0
    assert run_plait("status", "--json").value["name"] == "first"
    assert run_plait("tx", "discard", "first", "second").code == 0
    assert run_plait("status", "--json").value["id"] is None


def test_a_deleted_branch_comes_back(run_plait: Any, example: Path) -> None:
    run_plait("switch", "more-orders")
    head = run_plait("show", "--json").value["id"]
    assert run_plait("branch", "more-orders", "-d").out.endswith("on main\n")
    assert run_plait("branch", "more-orders", "--undelete", "--json").value["head"] == head
    moves = run_plait("reflog", "more-orders", "--json").value
    assert [(row["before"] is None, row["after"] is None) for row in moves[:2]] == [(True, False), (False, True)]


def test_branch_and_tag_delete_only_their_own_kind(run_plait: Any, example: Path) -> None:
    run_plait("tag", "v1")
    assert run_plait("branch", "v1", "-d").code == 2
    assert run_plait("tag", "more-orders", "-d").code == 2
    assert run_plait("tag", "v1", "-d").code == 0


def test_a_store_at_a_path_from_here_is_at_that_path_from_anywhere(
    run_plait: Any, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_plait("store", "add", "wild", "--kind", "files", "--option", "path=./wild").code == 0
    (example / "below").mkdir()
    monkeypatch.chdir(example / "below")
    (wild,) = [one for one in json.loads(run_plait("store", "list", "--json").out) if one["name"] == "wild"]
    assert wild["options"] == {"path": str(example / "wild")}


def test_a_store_in_use_is_removed_once_the_remedy_was_followed(run_plait: Any, example: Path) -> None:
    refused = run_plait("store", "remove", "raw", "--json")
    assert (refused.code, refused.error["details"]) == (2, {"branch": "main, more-orders"})
    assert "branch 'main' holds assets of it (raw.landing)" in refused.error["message"]
    for branch in ("main", "more-orders"):
        words = refused.error["remedy"].split("'")[1].replace("NAME", branch).split()
        assert run_plait(*words[1:]).code == 0
    assert run_plait("store", "remove", "raw").code == 0
    assert [row["key"] for row in run_plait("ls", "--json").value] == ["lake.sales.orders"]


def test_a_store_goes_through_add_list_check_remove(run_plait: Any, example: Path) -> None:
    added = run_plait("store", "add", "wild", "--kind", "files", "--option", f"path={example}/wild", "--json")
    assert added.value == {"store": "wild", "missing": []}
    assert "wild" in {row["name"] for row in run_plait("store", "list", "--json").value}
    assert run_plait("store", "check", "wild").code == 0
    not_diverged = run_plait("store", "adopt", "lake.sales.orders", "--json")
    assert (not_diverged.code, not_diverged.error["remedy"]) == (3, "see 'plait store check lake'")
    assert run_plait("store", "remove", "wild").code == 0
    taken = run_plait("store", "add", "raw", "--kind", "files", "--option", f"path={example}/elsewhere", "--json")
    assert (taken.code, "plait store set" in taken.error["remedy"]) == (4, True)
    assert not (example / "elsewhere").exists()
    assert run_plait("store", "add", "odd", "--kind", "nonsense").code == 2
    assert run_plait("store", "add", "odd", "--kind", "files", "--option", "path").code == 2


@pytest.mark.parametrize("is_place_there", [False, True])
def test_a_store_whose_folder_is_away_is_told_and_not_made_anew(
    is_place_there: bool, run_plait: Any, example: Path
) -> None:
    raw = example / "raw"
    raw.rename(example / "away")
    if is_place_there:
        raw.mkdir()
    (example / "file").write_text("1")
    for words, code in (
        (("store", "check"), 7),
        (("store", "check", "raw"), 7),
        (("store", "check", "lake"), 0),
        (("put", "file", "raw.landing::f", "-m", "m"), 7),
        (("put", "file", "raw.new::f", "-m", "m"), 7),
        (("cat", "raw.landing::1.json"), 7),
        (("ls", "raw.landing::"), 7),
        (("verify",), 7),
    ):
        ran = run_plait(*words)
        assert ran.code == code, words
        assert (f"its folder {raw} is {'empty' if is_place_there else 'not there'}" in ran.out + ran.err) == (code == 7)
    assert [path for path in example.rglob("*") if path.is_relative_to(raw)] == [raw] * is_place_there
    (problem,) = run_plait("verify", "--json").value
    assert (problem["where"], f"its folder {raw} is" in problem["what"]) == ("store raw", True)
    options = ("--kind", "files", "--option", f"path={raw}")
    (lacking,) = run_plait("store", "add", "raw", *options, "--json").value["missing"]  # As at every start, say.
    assert f"its folder {raw} is" in lacking["problem"]
    assert "mount its disk" in lacking["remedy"]
    assert raw.exists() is is_place_there
    (raw / "_plait").mkdir(parents=True)
    (raw / "_plait" / "store").touch()
    assert run_plait("put", "file", "raw.new::f", "-m", "m").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("open", "rw.landing"),
        ("open", "rw.landing::1.json"),
        ("open", "rw.landing", "--write"),
        ("open", "rw.landing", "--write", "--create"),
        ("cat", "rw.landing"),
        ("cat", "rw.landing::1.json"),
        ("get", "rw.landing::1.json"),
        ("put", "file", "rw.landing::1.json"),
        ("put", "file", "rw.landing::1.json", "-m", "m"),
        ("ls", "rw"),
        ("ls", "rw.landing"),
        ("ls", "rw.landing::"),
        ("store", "check", "rw"),
        ("store", "set", "rw", "--option", "path=/x"),
        ("store", "remove", "rw"),
    ],
    ids=" ".join,
)
def test_a_store_that_is_not_there_is_told_as_that_with_those_there_are(
    words: tuple[str, ...], run_plait: Any, example: Path
) -> None:
    (example / "file").write_text("1")
    run_plait("begin")
    error = run_plait(*words, "--json").error
    assert (error["code"], error["message"]) == ("NOT_FOUND", "store 'rw' does not exist; there are: lake, raw")
    assert error["remedy"] == "write 'raw', if that is meant, or add it with 'plait store add'"


def test_a_store_that_moved_is_set_and_one_that_cannot_move_is_refused(run_plait: Any, example: Path) -> None:
    for name, option in (("raw", "path"), ("lake", "warehouse")):
        (example / name).rename(example / f"{name}-moved")
        ran = run_plait("store", "set", name, "--option", f"{option}=./{name}-moved", "--json")
        if name == "raw":
            assert (ran.code, ran.value) == (0, {"store": "raw", "set": {"path": str(example / "raw-moved")}})
            assert run_plait("store", "check", "raw").code == 0
        else:
            assert (ran.code, "would be lost" in ran.error["message"]) == (2, True)
            assert "absolute paths" in ran.error["remedy"]
            assert ran.error["message"].count(" at file://") == 1, ran.error["message"]
            (example / "lake-moved").rename(example / "lake")
    assert run_plait("cat", "raw.landing::1.json").out.startswith('{"id": 1')
    assert run_plait("merge", "more-orders").code == 0
    assert run_plait("verify", "--depth", "bytes", "--json").value == []
    assert run_plait("store", "set", "raw", "--option", "nonsense=1").code == 2
    assert run_plait("store", "set", "none", "--option", "path=./x").code == 3
    assert run_plait("store", "set", "raw").code == 2


@pytest.mark.parametrize(("kind", "told"), [("fake-dolt", "Adopt"), ("fake-block", "main keeps what it holds")])
def test_a_check_that_finds_a_head_diverged_names_its_key_and_ends_with_its_code(
    run_plait: Any, tmp_path: Path, kind: str, told: str
) -> None:
    with plait.init(Path.cwd()) as catalog:
        catalog.add_store("f", kind, {"path": str(tmp_path / "fake")})
        with catalog.transaction(message="One") as tx:
            handle: Any = tx.open("f.sales.orders", create=True)
            handle["x"] = "1"
        asset = catalog.at("main").entry("f.sales.orders").snapshot.asset
    assert run_plait("store", "check").code == 0
    write_behind(tmp_path / "fake", asset, {"x": "2"})
    ran = run_plait("verify", "--json")
    told_by_verify = {
        "where": f"store f, {asset}",
        "what": "f.sales.orders was written past plait",
        "code": "STORE_DIVERGED",
    }
    assert (ran.code, ran.value) == (9, [{**told_by_verify, "remedy": "plait store adopt f.sales.orders"}])
    ran = run_plait("store", "check", "--json")
    found = {"store": "f", "found": "f.sales.orders is diverged", "remedy": "plait store adopt f.sales.orders"}
    assert (ran.code, ran.value) == (9, [found])
    assert "is diverged" in run_plait("store", "check", "f").out
    status = run_plait("status", "--json").value
    assert status["diverged"] == [{"key": "f.sales.orders", "remedy": "plait store adopt f.sales.orders"}]
    line = "f.sales.orders was written past plait\n→ plait store adopt f.sales.orders\n"
    assert line in run_plait("status").out
    run_plait("begin", "notes")
    assert line in run_plait("status").out
    assert run_plait("status", "--json").value["diverged"] == status["diverged"]
    assert run_plait("discard").code == 0
    assert run_plait("store", "adopt", "f.sales.orders").code == 0
    assert run_plait("store", "check").code == 0
    with plait.open(Path.cwd()) as catalog:
        write_behind(tmp_path / "fake", asset, {"x": "3"})
        with catalog.transaction(message="Four") as tx:
            handle = tx.open("f.sales.orders")
            handle["x"] = "4"
    assert run_plait("store", "adopt", "f.sales.orders").code == 5
    assert run_plait("commit").code == 5
    assert run_plait("resolve", "f.sales.orders::x", "--ours").code == 0
    assert told in run_plait("commit").out
    assert run_plait("store", "check").code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ls", "--at", "nope"), 3),
        (("branch", "a..b"), 2),
        (("branch", "main"), 4),
        (("merge", "main"), 2),
        (("cat", "raw.landing::nope"), 3),
        (("open", "lake.nope"), 3),
        (("open", "lake.sales.orders::id=1"), 13),
        (("open", "lake.sales.orders", "--create"), 2),
        (("open", "lake.sales.orders", "--write"), 3),
        (("open", "lake.sales.orders", "--write", "--at", "main"), 2),
        (("open", "raw.landing::1.json", "--write"), 2),
        (("open", "raw.landing::1.json"), 13),
        (("open", "raw.landing::nope"), 3),
        (("open", "raw.landing::1.json", "--seconds", "0"), 2),
        (("export", "files", "lake.sales.orders", "--to", "out"), 13),
        (("store", "add", "x", "--kind", "nope"), 2),
        (("resolve", "raw.landing::x", "--ours"), 3),
        (("frobnicate",), 2),
    ],
    ids=lambda value: str(value),
)
def test_what_is_refused_has_its_exit_code_and_no_traceback(
    words: tuple[str, ...], code: int, run_plait: Any, unchanging: Path
) -> None:
    ran = run_plait(*words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err
    assert "Traceback" not in ran.err


def test_a_token_is_all_that_is_printed_into_a_pipe(run_plait: Any, example: Path) -> None:
    assert len(run_plait("token", "create", "bot").out.split()) == 1


def test_tokens_are_made_listed_and_deleted(run_plait: Any, example: Path) -> None:
    assert run_plait("token", "create", "bot", "--json").value["token"]
    assert [row["name"] for row in run_plait("token", "list", "--json").value] == ["bot"]
    assert run_plait("token", "delete", "bot").code == 0
    assert run_plait("token", "list", "--json").value == []


def test_import_assets_takes_tables_in_place(run_plait: Any, example: Path) -> None:
    with plait.open(example) as catalog:
        location = catalog.at("main").entry("lake.sales.orders").snapshot.version
    made = run_plait("import", "assets", f"lake.taken.orders={location}", "-m", "Taken", "--json")
    assert (made.code, made.err) == (0, "")
    assert "lake.taken.orders" in {row["key"] for row in run_plait("ls", "--json").value}


def test_migrate_names_the_revision(run_plait: Any, unchanging: Path) -> None:
    now = schema.REVISION
    assert run_plait("migrate", "--json").value == {"before": now, "revision": now, "copy": None}


def test_serve_says_how_to_install_the_server(
    run_plait: Any, unchanging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plait_server", None)
    ran = run_plait("serve", "--json")
    assert (ran.code, ran.error["code"]) == (13, "UNSUPPORTED")
    assert "pip install plait-server" in ran.error["remedy"]


@pytest.mark.parametrize(
    ("words", "package"),
    [(("import", "files"), "plait-s3"), (("export", "iceberg"), "plait-iceberg"), (("demo",), "plait-demo")],
)
def test_a_command_of_a_package_that_is_not_installed_names_the_package(words: tuple[str, ...], package: str) -> None:
    # In a process of its own: once a plugin's commands are there, they stay.
    program = (
        "from importlib import metadata; metadata.entry_points = lambda **_: (); from plait.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words, "--json"], capture_output=True, text=True, check=False)
    error = json.loads(ran.stderr)
    assert (ran.returncode, error["code"], error["remedy"]) == (13, "UNSUPPORTED", f"pip install {package}")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("log", "--limit", "-1"), 2, "--limit"),
        (("cat", "lake.sales.orders", "--limit", "0"), 2, "--limit"),
        (("log", "--svg", "/nonexistent/graph.svg"), 2, "/nonexistent/graph.svg cannot be written"),
        (("log", "--html", "."), 2, "cannot be written"),
        (("init", "/dev/null/x"), 2, "cannot be made"),
        (("branch", "-d"), 2, "which branch?"),
        (("branch", "--protect"), 2, "which branch?"),
        (("branch", "-d", "main"), 2, "the native heads of lake, raw follow 'main'"),
        (("tag", "-d"), 2, "which tag?"),
        (("blame", "lake.sales.orders::id=99999"), 3, "does not exist"),
        (("diff", "main", "more-orders", "lake.sales.orders::id=99999"), 3, "does not exist"),
        (("log", "main", "lake.sales.orders::id=1"), 2, "is one item, and log takes keys"),
        (("log", "lake.sales.orders::id=1"), 2, "is one item, and log takes keys"),
    ],
)
def test_a_mistake_is_answered_with_what_is_wrong(
    run_plait: Any, unchanging: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    ran = run_plait(*words, "--json")
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.error["message"]
    assert ran.error["remedy"]


def test_one_item_is_compared_between_commits_and_in_a_working_set(run_plait: Any, conflicting: Path) -> None:
    key = "lake.sales.orders"

    def items(*words: str) -> list[str]:
        return [row["item"] for row in run_plait("diff", *words, "--json").value]

    every = items("main", "more-orders", key, "--items")
    assert f"{key}::id=1" in every
    assert len(every) > 1
    assert items("main", "more-orders", f"{key}::id=1") == [f"{key}::id=1"]
    assert items("main", "more-orders", f"{key}::id=2") == []
    assert run_plait("diff", "main", "more-orders", f"{key}::id=2").out == "no difference\n"
    assert run_plait("diff", "main", "more-orders", f"{key}::id=1", f"{key}::id=2").code == 2
    assert run_plait("diff", "main", "more-orders", "lake.sales.nowhere::id=1").code == 3
    assert run_plait("diff", "main", "main", f"{key}::id=1").out == "no difference\n"
    run_plait("begin")
    for name in ("8.json", "9.json"):
        (conflicting / name).write_text("{}")
        run_plait("put", str(conflicting / name), f"raw.landing::{name}")
    assert items("raw.landing::8.json") == ["raw.landing::8.json"]


def test_blame_and_show_name_the_process_beside_the_author(run_plait: Any, example: Path) -> None:
    made = Session("ada", "Ada <ada@example.org>", "load.py", {"run": "41"})
    with plait.open(example, session=made) as catalog, catalog.transaction(message="Loaded") as tx:
        opened: Any = tx.open("raw.landing")
        opened.pipe_file("9.json", b"{}")
    header, row = run_plait("blame", "raw.landing::9.json").out.splitlines()
    assert header.split() == ["item", "commit", "author", "client", "at", "message"]
    assert ("Ada <ada@example.org>" in row, "load.py" in row) == (True, True)
    (blamed,) = run_plait("blame", "raw.landing::9.json", "--json").value
    assert (blamed["principal"], blamed["client"], blamed["properties"]) == ("ada", "load.py", {"run": "41"})
    assert "client   load.py" in run_plait("show", "main").out


def test_the_diff_of_a_long_table_is_cut_and_says_so(run_plait: Any, unchanging: Path) -> None:
    ran = run_plait("diff", "main~1", "main", "lake", "--items", "--limit", "1", "--json")
    assert len(ran.value) == 1
    assert "--limit" in ran.err


def test_json_is_valid_whatever_a_row_holds(run_plait: Any, example: Path) -> None:
    import pyarrow as pa

    with plait.open(example) as catalog, catalog.transaction(message="[red]odd[/red]") as tx:
        store: Any = tx.store("lake")
        schema = pa.schema([("odd", pa.float64()), ("raw", pa.binary()), ("text", pa.string())])
        store.create_table("sales.odd", schema).append(
            pa.table([[float("nan")], [b"\xff"], ["[/nope]\x1b[31m"]], schema=schema)
        )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document = run_plait("cat", "lake.sales.odd", "--json").out
    assert json.loads(document, parse_constant=refuse) == [{"odd": "nan", "raw": "ff", "text": "[/nope]\x1b[31m"}]
    text = run_plait("cat", "lake.sales.odd").out
    assert "[/nope]" in text
    assert "\x1b" not in text
    assert "[red]odd[/red]" in run_plait("log", "--oneline").out


def test_events_go_on_where_they_were_left(run_plait: Any, unchanging: Path) -> None:
    first = run_plait("events", "--limit", "2", "--json")
    assert [row["seq"] for row in first.value] == [1, 2]
    assert "plait events --from 3" in first.err
    rest = run_plait("events", "--from", "3", "--json").value
    assert [row["seq"] for row in rest] == list(range(3, 3 + len(rest)))
    assert {row["what"] for row in rest if row["kind"] == "commit"} >= {"Three orders", "A late order"}


def test_events_are_followed_as_they_happen(example: Path) -> None:
    command = [sys.executable, "-m", "plait", "events", "--follow", "--from", "1", "--json"]

    def heed_interrupts() -> None:  # A test run in the background passes on that it ignores them.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    follower = subprocess.Popen(command, cwd=example, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    try:
        assert follower.stdout is not None
        with plait.open(example) as catalog:
            for event in catalog.events():
                assert json.loads(follower.stdout.readline())["seq"] == event.seq
            catalog.create_branch("fresh")
            assert "fresh" in json.loads(follower.stdout.readline())["what"]
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130
        follower.stdout and follower.stdout.close()


@pytest.mark.parametrize("files", ["*.parquet", "snap-*.avro", "*-m0.avro"])
@pytest.mark.parametrize("left", [None, 0, 40])
def test_a_table_whose_files_are_broken_is_told_as_that(
    run_plait: Any, example: Path, files: str, left: int | None
) -> None:
    found = list((example / "lake").rglob(files))
    assert found
    for path in found:
        path.unlink() if left is None else os.truncate(path, left)
    ran = run_plait("cat", "lake.sales.orders", "--json")
    assert (ran.code, ran.error["code"]) == (16, "CORRUPT")
    assert ran.error["message"].startswith("lake.sales.orders cannot be read: ")
    assert ran.error["remedy"] == "'plait verify --depth bytes' names the files"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("AWS Error NETWORK_CONNECTION"), StoreUnavailable),
        (ConnectionResetError("reset"), StoreUnavailable),
        (PermissionError("no"), PermissionDenied),
        (EOFError(), Corrupt),
        (NotFound("there is none"), NotFound),
    ],
    ids=repr,
)
def test_a_store_that_does_not_answer_is_not_called_broken(
    run_plait: Any, unchanging: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[PlaitError]
) -> None:
    from pyiceberg.table import DataScan

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(DataScan, "to_arrow_batch_reader", fail)
    assert run_plait("cat", "lake.sales.orders").code == kind.exit_code


def test_cat_prints_the_items_of_any_other_store(run_plait: Any, tmp_path: Path) -> None:
    with plait.init(Path.cwd()) as catalog:
        catalog.add_store("f", "fake", {"path": str(tmp_path / "fake")})
        with catalog.transaction(message="Two") as tx:
            handle: Any = tx.open("f.a", create=True)
            handle.update({"x": "1", "y": "2"})
    assert run_plait("cat", "f.a", "--json").value == [{"item": "x", "content": 1}, {"item": "y", "content": 2}]
    assert run_plait("cat", "f.a::y", "--json").value == [{"item": "y", "content": 2}]
    assert run_plait("cat", "f.a::z").code == 3


def test_an_asset_without_items_that_is_new_is_a_difference(example: Path, run_plait: Any) -> None:
    assert run_plait("begin").code == 0
    assert "changes nothing yet" in run_plait("diff").out
    assert run_plait("open", "raw.empty", "--write", "--create").code == 0
    assert "no items differ, but assets do" in run_plait("diff").out
    assert run_plait("commit", "-m", "Empty").code == 0
    assert (
        run_plait("diff", "main~1", "main", "--items").out
        == "no items differ, but assets do\n→ plait diff main~1 main\n"
    )
    assert "raw.empty" in run_plait("diff", "main~1", "main").out
    assert run_plait("diff", "main", "main", "--items").out == "no difference\n"
