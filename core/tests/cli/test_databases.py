"""The command line over a catalog in a database: made, found, remembered, and its password never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECRET = "hunter2"


@pytest.fixture
def url(database_url: str) -> str:
    """The database, with a password where it has users."""
    return database_url.replace("plait@", f"plait:{SECRET}@")


def test_a_catalog_in_a_database_is_made_and_used(
    url: str, here: Path, run_plait: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_plait("init", url)
    assert (made.code, made.err) == (0, "")
    again = run_plait("init", url)
    assert again.code == 4
    monkeypatch.setenv("PLAIT_CATALOG", url)
    ran = [
        made,
        again,
        run_plait("store", "add", "raw", "--kind", "files", "--option", f"path={here / 'raw'}"),
        run_plait("branch", "dev"),
        run_plait("switch", "dev"),
        run_plait("begin", "work"),
        run_plait(),
        run_plait("--json"),
        run_plait("log"),
    ]
    assert [one.code for one in ran] == [0, 4, 0, 0, 0, 0, 0, 0, 0]
    where = ran[-2].value
    assert (where["branch"], where["tx"]["name"], where["stores"]) == ("dev", "work", ["raw"])
    remembered = Path.home() / ".config" / "plait" / "current.json"
    for text in [remembered.read_text(), *(one.out + one.err for one in ran)]:
        assert SECRET not in text


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://plait:hunter2@127.0.0.1:1/plait", 7),
        ("mysql://plait:hunter2@127.0.0.1/plait", 2),
        ("postgresql://plait:hunter2@127.0.0.1:port/plait", 2),
        ("sqlite://", 2),
    ],
)
def test_a_database_that_cannot_be_used_is_one_error_without_its_password(
    url: str, code: int, run_plait: Callable[..., Any]
) -> None:
    for words in (["init", url], ["--catalog", url, "log"]):
        ran = run_plait(*words)
        assert (ran.code, ran.out) == (code, "")
        assert ran.err.startswith("error: ")
        assert "→" in ran.err
        assert SECRET not in ran.err


def test_an_example_is_made_in_a_folder_only(database_url: str, run_plait: Callable[..., Any]) -> None:
    ran = run_plait("init", "--example", database_url)
    assert (ran.code, "folder" in ran.err) == (2, True)


def test_a_database_that_is_not_there_is_not_made_by_looking(here: Path, run_plait: Callable[..., Any]) -> None:
    ran = run_plait("--catalog", f"sqlite:///{here}/deep/catalog.db", "ls")
    assert ran.code == 3
    assert f"{here}/deep/catalog.db holds no catalog" in ran.err
    assert list(here.iterdir()) == []
