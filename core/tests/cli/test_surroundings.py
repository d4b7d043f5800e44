"""What stands around every command: where the catalog is, exit codes, errors, colours, pipes, start-up."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import plait
import pytest
from plait.cli import main_group, run
from plait.cli.current import Current
from plait.cli.plugin_commands import graft
from plait.cli.session import Session, pass_session
from plait.errors import BY_CODE, CommitConflict, PlaitError, StoreUnavailable, TransactionClosed


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """Add a command `fail` that raises what it is given; plait's own commands are as before afterwards."""
    raised: list[BaseException] = []

    @click.command("fail")
    @pass_session
    def fail(session: Session) -> None:
        _ = session.catalog
        raise raised[0]

    main_group.add_command(fail)
    yield raised
    del main_group.commands["fail"]


@pytest.mark.parametrize("code", [code for code in BY_CODE if code != "COMMIT_CONFLICT"])
def test_the_exit_code_is_the_errors_own(code: str, run_plait: Any, unchanging: Path, failing: Any) -> None:
    kind = BY_CODE[code]
    failing.append(kind("it failed", remedy="try this"))
    ran = run_plait("fail")
    assert (ran.code, ran.out, ran.err) == (kind.exit_code, "", "error: it failed\n→ try this\n")


def test_an_error_is_one_document_under_json(run_plait: Any, unchanging: Path, failing: Any) -> None:
    failing.append(CommitConflict("it does not fit", conflicts=(), remedy="look", details={"tx": "7"}))
    ran = run_plait("--json", "fail")
    assert ran.error == {
        "code": "COMMIT_CONFLICT",
        "message": "it does not fit",
        "remedy": "look",
        "details": {"tx": "7"},
        "conflicts": [],
        "warnings": [],
    }


def test_stopped_while_it_still_imports_it_says_so_as_later(tmp_path: Path) -> None:
    code = """if True:
        import runpy, sys
        class Stops:
            def find_spec(self, name, path, target=None):
                if name == "plait.cli":
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Stops())
        runpy.run_module("plait", run_name="__main__")
    """
    ran = python("-c", code, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "stopped\n")


def test_what_is_logged_is_in_the_one_document_under_json(
    run_plait: Any, unchanging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[PlaitError] = [StoreUnavailable("it is down")]

    @click.command("warn")
    @click.option("--json", is_flag=True)
    def warn(json: bool) -> None:
        logging.getLogger("plait.working_set").warning("working set %s is not discarded", 7)
        if refusals:
            raise refusals.pop()

    monkeypatch.setitem(main_group.commands, "warn", warn)
    ran = run_plait("warn", "--json")
    assert (ran.error["code"], ran.error["warnings"]) == ("STORE_UNAVAILABLE", ["working set 7 is not discarded"])
    ran = run_plait("warn", "--json")
    assert (ran.code, ran.error) == (0, {"warnings": ["working set 7 is not discarded"]})


@pytest.mark.parametrize("words", [("nonsense",), ("log", "--nonsense"), ("cat",), ("store", "add", "x")], ids=str)
def test_what_click_refuses_is_told_in_both_forms(words: tuple[str, ...], run_plait: Any) -> None:
    text = run_plait(*words)
    assert text.code == 2
    assert "Error: " in text.err
    document = run_plait(*words, "--json")
    assert (document.code, document.error["code"]) == (2, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "\udcff"), ("tx", "use", "\udcff"), ("tx", "discard", "a", "\udcff"), ("store", "check", "\udcff"),
        ("token", "delete", "\udcff"), ("init", "\udcff"), ("import", "files", "--from", "./\udcff"),
        ("import", "assets", "raw.x=\udcff"), ("export", "files", "raw.landing", "--to", "./\udcff"),
        ("store", "adopt", ""), ("commit", "--unchanged", ""), ("mv", "", "raw.x"),
    ],
    ids=ascii,
)  # fmt: skip
def test_words_that_are_no_text_and_empty_keys_are_refused(
    words: tuple[str, ...], run_plait: Any, example: Path
) -> None:
    run_plait("begin", "here")
    ran = run_plait(*words, "--json")
    assert (ran.code, ran.out, ran.error["code"]) == (2, "", "INVALID_ARGUMENT")
    assert not list(example.glob("*\udcff*"))


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_message_in_utf_8_is_one_in_every_locale(locale: str, example: Path) -> None:
    bare = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (example / "1").write_text("1")

    def ran(*words: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [os.fsencode(sys.executable), b"-m", b"plait", *words]
        return subprocess.run(command, cwd=example, env=bare, capture_output=True, check=False)

    put = (b"put", b"1", b"raw.landing::1", b"-m")
    assert ran(*put, "Grüße ✓".encode()).returncode == 0
    with plait.open(example) as catalog:
        assert catalog.resolve("main").message == "Grüße ✓"
    assert "Grüße ✓".encode() in ran(b"log").stdout
    for words, told in (
        ((*put, b"x\xff"), b"this locale (LC_ALL, LANG) has"),
        ((b"init", "größe".encode()), b"cannot be named in this locale"),
    ):
        refused = ran(*words)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr


def test_a_catalog_whose_database_is_a_folder_is_told_as_that(tmp_path: Path, run_plait: Any) -> None:
    (tmp_path / ".plait" / "catalog.db").mkdir(parents=True)
    for words in (("--catalog", str(tmp_path), "log"), ("init", str(tmp_path))):
        ran = run_plait(*words)
        assert (ran.code, "catalog.db is a folder, and a catalog's database is a file" in ran.err) == (2, True)


@pytest.mark.parametrize("is_there", [False, True])
def test_an_example_that_cannot_be_made_leaves_nothing(is_there: bool, tmp_path: Path, run_plait: Any) -> None:
    where = tmp_path / "new" if is_there else tmp_path
    where.mkdir(exist_ok=True)
    (where / "lake").write_text("in the way")
    if is_there:
        (where / ".plait").mkdir()
        (where / ".plait" / "notes").touch()
    before = sorted(tmp_path.rglob("*"))
    ran = run_plait("init", "--example", str(where))
    assert (ran.code, "the example's store 'lake' cannot be made" in ran.err) == (7, True)
    assert sorted(tmp_path.rglob("*")) == before
    (where / "lake").unlink()
    assert run_plait("init", "--example", str(where)).code == 0


@pytest.mark.slow
def test_a_file_may_have_any_name_that_its_system_takes(example: Path) -> None:
    (example / "\udcff").write_text("odd")
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for words in (
        ("put", "\udcff", "raw.landing::odd", "-m", "Odd"),
        ("get", "raw.landing::odd", "\udcfe"),
        ("get", "raw.landing::odd", "\udcfe", "--json"),
        ("log", "--svg", "\udcfd"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "plait", *words], cwd=example, env=strict, capture_output=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, b"")
        if "--json" in words:
            assert json.loads(ran.stdout)["file"] == "\udcfe"
    assert (example / "\udcfe").read_text() == "odd"


@pytest.mark.parametrize("words", ["log", "ls --json", "--help", "init new", "get raw.landing::1.json -"])
def test_a_closed_standard_output_is_told_before_anything_is_done(words: str, example: Path) -> None:
    command = f"exec {sys.executable} -m plait {words} >&-"
    ran = subprocess.run(["sh", "-c", command], cwd=example, capture_output=True, text=True, check=False)
    assert (ran.returncode, "the standard output cannot be written: Bad file descriptor" in ran.stderr) == (7, True)
    assert not (example / "new").exists()


def test_no_traceback_reaches_the_user(run_plait: Any, example: Path, failing: Any) -> None:
    failing.append(ZeroDivisionError("a secret detail"))
    ran = run_plait("fail")
    assert ran.code == PlaitError.exit_code
    assert "Traceback" not in ran.err
    first, remedy = ran.err.splitlines()
    assert "ZeroDivisionError" in first
    error_id = first.rpartition(" ")[2]
    report = example / ".plait" / "errors" / f"{error_id}.txt"
    assert str(report) in remedy
    assert "a secret detail" in report.read_text()
    document = run_plait("--json", "fail").error
    assert document["code"] == "INTERNAL"
    assert Path(document["details"]["report"]).exists()


def test_an_interrupt_stops_quietly(run_plait: Any, unchanging: Path, failing: Any) -> None:
    failing.append(KeyboardInterrupt())
    ran = run_plait("fail")
    assert ran.code == 130
    assert "stopped" in ran.err


def test_an_interrupt_that_a_library_turns_into_an_error_of_its_own_stops_quietly_too(
    run_plait: Any, unchanging: Path, failing: Any
) -> None:
    error = AssertionError("a pool that was cut off in the middle")
    error.__context__ = KeyboardInterrupt()
    failing.append(error)
    ran = run_plait("fail")
    assert (ran.code, ran.err) == (130, "stopped\n")


# -- where the catalog is ----------------------------------------------------------------------------------------------


def test_the_nearest_catalog_upwards_is_found(run_plait: Any, example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = example / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert run_plait("--json").value["catalog"] == str(example)


def test_a_named_catalog_wins_over_the_environment_and_that_over_the_nearest(
    run_plait: Any, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("environment", "named"):
        plait.init(tmp_path / name).close()
    monkeypatch.setenv("PLAIT_CATALOG", str(tmp_path / "environment"))
    assert run_plait("--json").value["catalog"] == str(tmp_path / "environment")
    ran = run_plait("--catalog", str(tmp_path / "named"), "--json")
    assert ran.value["catalog"] == str(tmp_path / "named")
    assert run_plait("--catalog", str(tmp_path / "nowhere")).code == 3


def test_without_a_catalog_a_command_says_how_to_make_one(run_plait: Any) -> None:
    ran = run_plait("ls")
    assert ran.code == 3
    assert "plait init" in ran.err


def test_the_current_branch_is_that_of_every_command(run_plait: Any, example: Path) -> None:
    run_plait("switch", "more-orders")
    assert json.loads((example / ".plait" / "current.json").read_text()) == {"branch": "more-orders"}
    assert run_plait("log", "-n", "1", "--json").value[0]["message"] == "Two more orders"
    assert run_plait("begin", "--json").value["ref"] == "more-orders"
    assert "is still on more-orders" in run_plait("switch", "main").out
    assert run_plait("switch", "nowhere").code == 3


def test_a_deleted_current_branch_is_told(run_plait: Any, example: Path) -> None:
    run_plait("switch", "more-orders")
    with plait.open(example) as catalog:
        catalog.delete_ref("more-orders")
    ran = run_plait()
    assert ran.code == 0
    assert "branch more-orders is gone" in ran.out


def test_catalogs_named_by_a_url_are_remembered_apart(tmp_path: Path) -> None:
    one, other = Current("plait://a:1/x"), Current("plait://a:1/y")
    one.remember(branch="dev", tx="7")
    other.remember(branch="prod")
    one.remember(tx=None)
    assert (one.branch, one.tx, other.branch, other.tx) == ("dev", None, "prod", None)
    kept = json.loads((tmp_path / "home" / ".config" / "plait" / "current.json").read_text())
    assert kept == {"plait://a:1/x": {"branch": "dev"}, "plait://a:1/y": {"branch": "prod"}}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"branch": 7}'])
def test_a_broken_memory_remembers_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / ".plait").mkdir()
    (tmp_path / ".plait" / "current.json").write_text(content)
    current = Current(str(tmp_path))
    assert (current.branch, current.tx) == ("main", None)
    current.remember(branch="dev")
    assert Current(str(tmp_path)).branch == "dev"


# -- the process -------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy(here: Path) -> None:
    program = (
        "import sys, plait.cli; plait.cli.run(['--help']);"
        "heavy = {'sqlalchemy', 'pyiceberg', 'pyarrow', 'grpc', 'rich', 'fsspec', 'pluggy'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    ran = python("-c", program, cwd=here)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_log_imports_no_store(unchanging: Path) -> None:
    program = (
        "import sys, plait.cli; code = plait.cli.run(['log']);"
        "heavy = {'pyiceberg', 'pyarrow', 'grpc', 'fsspec', 'psycopg', 'sqlalchemy.dialects.postgresql',"
        " 'plait_s3.adapter', 'plait_iceberg.adapter'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or code)"
    )
    ran = python("-c", program, cwd=unchanging)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_process_exits_with_the_documented_code(here: Path) -> None:
    ran = python("-m", "plait", "ls", "--json", cwd=here)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert json.loads(ran.stderr)["code"] == "NOT_FOUND"


def test_a_reader_that_has_enough_ends_the_command_quietly(unchanging: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "plait", "log", "--json"],
        cwd=unchanging,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.close()
    _, told = writer.communicate(timeout=120)
    assert (writer.returncode, told) == (141, b"")


def colours(words: list[str], cwd: Path, environment: dict[str, str] | None = None) -> bool:
    """Whether the command writes escape sequences onto a terminal."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "plait", *words],
        cwd=cwd,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
    )
    os.close(slave)
    written = b""
    while True:
        try:
            chunk = os.read(master, 1 << 16)
        except OSError:  # What Linux answers once the other side is closed.
            break
        if not chunk:
            break
        written += chunk
    os.close(master)
    assert process.wait(timeout=120) == 0
    assert b"A late order" in written
    return b"\x1b[" in written


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals")
def test_colour_is_for_terminals_that_want_it(unchanging: Path) -> None:
    assert colours(["log"], unchanging)
    assert not colours(["--no-color", "log"], unchanging)
    assert not colours(["log"], unchanging, {"NO_COLOR": "1"})


def test_long_work_says_how_far_it_is(unchanging: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with plait.open(unchanging, progress=lambda *step: told.append(step)) as catalog:
        assert list(catalog.verify(plait.Depth.BYTES)) == []
    snapshots = [(done, total) for what, done, total in told if what == "snapshots"]
    assert [done for done, _ in snapshots] == list(range(len(snapshots)))
    assert {total for _, total in snapshots} == {len(snapshots)}
    assert {what for what, _, _ in told} >= {"log records", "snapshots"}


# -- plugins -----------------------------------------------------------------------------------------------------------


def test_a_plugins_group_adds_to_ours_and_replaces_nothing() -> None:
    root = click.Group("plait")
    ours = click.Group("import", commands=[click.Command("assets", help="ours")])
    root.add_command(ours)
    graft(root, click.Group("import", commands=[click.Command("assets", help="theirs"), click.Command("iceberg")]))
    graft(root, click.Command("demo"))
    assert sorted(root.commands) == ["demo", "import"]
    assert sorted(ours.commands) == ["assets", "iceberg"]
    assert ours.commands["assets"].help == "ours"


def test_run_takes_the_words_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert "version" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("log", "-n"), ("diff", "main~1", "main", "--items", "--limit"), ("blame", "lake.sales.orders", "--limit"),
        ("reflog", "-n"), ("conflicts", "--limit"), ("cat", "lake.sales.orders", "--limit"), ("events", "--limit"),
        ("events", "--from"),
    ],
)  # fmt: skip
def test_a_number_that_nothing_counts_to_is_misuse(run_plait: Any, unchanging: Path, words: tuple[str, ...]) -> None:
    ran = run_plait(*words, "9" * 30)
    assert ran.code == 2
    assert "is not in the range" in ran.err
    # The largest that is taken goes through, to the end of what there is.
    largest = "1000000000" if words[-1] != "--from" else str(2**63 - 1)
    assert run_plait(*words, largest).code == (3 if words[0] == "conflicts" else 0)


def test_a_directory_that_was_removed_is_told_as_that(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    program = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r});"
    ran = python("-c", program + "from plait.cli import run; raise SystemExit(run(['ls']))", cwd=tmp_path)
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (
        3,
        "error: the directory that this process is in is gone",
    )


def test_where_the_choice_cannot_be_kept_that_is_told(
    run_plait: Any, unchanging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{unchanging}/.plait/catalog.db"
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-folder"))
    ran = run_plait("--catalog", url, "switch", "main", "--json")
    assert ran.code == 11
    assert str(tmp_path / "no-folder" / "plait" / "current.json") in ran.error["message"]


def test_options_that_take_a_number_show_no_range(run_plait: Any) -> None:
    shown = run_plait("log", "--help").out
    assert re.search(r"--limit INTEGER +At most so many commits\.$", shown, re.MULTILINE)


def test_errors_call_a_working_set_by_the_name_that_the_command_line_gives_it(run_plait: Any, example: Path) -> None:
    with plait.open(example) as catalog:
        tx = catalog.begin(name="prices")
        tx.discard()
        with pytest.raises(TransactionClosed) as caught:
            tx.commit()
    assert caught.value.message == f"working set {tx.id} is aborted"
    assert f"error: working set {tx.id} is aborted" in run_plait("commit", tx.id).err
