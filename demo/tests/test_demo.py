"""The story and the crashes, on a small archive of the same form."""

from __future__ import annotations

import io
import json
import os
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import plait
import pytest
from plait.cli import run
from plait.errors import AlreadyExists, InvalidArgument
from plait_demo import stores
from plait_demo.crash import crash_at, seen, steps
from plait_demo.story import tell
from plait_demo.telling import Teller

pytestmark = pytest.mark.xdist_group("demo")  # One worker tells the story for all of them.

STORES = ["lake", "meteo", "crm", "raw", *(["vm"] if stores.has_volumes() else [])]
"""What the story is told over here: in CI all five."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> tuple[Path, str]:
    """A demo that was told, where, and the text."""
    root = tmp_path_factory.mktemp("demo")
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = run(["demo", "--folder", str(root / "demo"), "--data", str(archive)])
    assert code == 0
    return root / "demo", printed.getvalue()


def test_the_story_is_told_to_its_end(told: tuple[Path, str], archive: Path) -> None:
    folder, text = told
    assert [line.split()[0] for line in text.splitlines() if "/9 " in line] == [f"{n}/9" for n in range(1, 10)]
    assert f"over {len(STORES)} stores: {', '.join(STORES)}" in text
    assert "gate 'MonthsGate' refused: 1 flights are in no month" in text
    assert f"no store has it: {', '.join(f'{store} 0' for store in STORES)}" in text
    assert f"every store has it: {', '.join(f'{store} 1' for store in STORES)}" in text
    assert "0 problems" in text
    assert (folder / "history.html").read_text().count('class="commit"') >= 12
    with plait.open(folder) as catalog:
        assert catalog.working_sets() == []
    with pytest.raises(AlreadyExists):
        tell(folder, archive)


def test_what_the_story_ends_with_can_be_pasted(
    told: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, text = told
    lines = [line.strip() for line in text.partition("Next:")[2].splitlines() if line.strip()]
    assert lines[0] == f"cd {folder}"
    monkeypatch.chdir(folder)
    commands = [shlex.split(line) for line in lines if line.startswith("plait")]
    assert len(commands) >= 6
    for command in commands:
        assert run(command[1:]) == 0, command
    assert "the history" not in capsys.readouterr().err


def test_a_crash_happens_in_the_demo_that_is_there(
    told: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = told
    monkeypatch.chdir(folder.parent)
    with plait.open(folder) as catalog:
        before = seen(catalog)
    assert run(["demo", "--folder", "demo", "crash", "--at", "sequencer.after_commit", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["folder"], outcome["committed"]) == (str(folder), True)
    with plait.open(folder) as catalog:
        assert seen(catalog) == {store: count + 1 for store, count in before.items()}


def test_under_json_a_story_is_silent_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(1, as_json=True)
    with teller.step("One step"):
        teller.say("a line")
    assert capsys.readouterr().out == ""
    (kept,) = teller.told
    assert (kept["step"], kept["title"], kept["told"]) == (1, "One step", ["a line"])
    assert kept["seconds"] >= 0


def test_a_folder_that_is_no_demo_is_never_removed(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(AlreadyExists):
        tell(tmp_path / "mine", archive, force=True)


def test_without_what_volumes_need_four_stores_tell_the_story(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stores, "volumes_remedy", lambda: "sudo bring volumes")
    tell(tmp_path / "demo", archive)
    printed = capsys.readouterr().out
    assert "told without block volumes; to have them:   sudo bring volumes" in printed
    assert "every store has it: lake 1, meteo 1, crm 1, raw 1\n" in printed
    again: list[str] = []
    assert not crash_at("transaction.sealed", tmp_path / "demo", again.append)
    assert "no store has it: lake 0, meteo 0, crm 0, raw 0" in again, "what an earlier commit left is counted"


def test_steps_are_listed_and_an_unknown_one_is_refused(told: tuple[Path, str]) -> None:
    passed = steps()
    assert {"transaction.sealed@1", "objects.publish.before_move@1"} <= set(passed)
    assert {"objects", "delta", "dolt", "iceberg"} <= {name.partition(".")[0] for name in passed}
    with pytest.raises(InvalidArgument, match="crash --list"):
        crash_at("no.such.step", told[0])


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a visitor's machine may lack what volumes need")
def test_ci_has_all_five_stores() -> None:
    assert len(STORES) == 5
