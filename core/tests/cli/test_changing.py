"""`plait rm` and `plait mv`: assets and objects, in a working set or as a commit of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import plait
import pytest


@pytest.fixture
def letters(example: Path, run_plait: Any) -> Path:
    """The example with a folder of objects, committed."""
    for name in ("a/1", "a/2", "b/1", "c"):
        path = example / "letters" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert run_plait("put", "letters", "raw.letters", "-m", "Letters").code == 0
    return example


def objects(run_plait: Any, *words: str) -> set[str]:
    return {row["item"] for row in run_plait("ls", "raw.letters::", "-r", *words, "--json").value}


def keys(run_plait: Any) -> set[str]:
    return {row["key"] for row in run_plait("ls", "--json").value}


def test_objects_are_removed_and_commits_keep_them(letters: Path, run_plait: Any) -> None:
    run_plait("begin", "less")
    ran = run_plait("rm", "raw.letters::c", "raw.letters::a/1", "--json")
    assert ran.value == {"removed": ["raw.letters::c", "raw.letters::a/1"]}
    assert objects(run_plait) == {"a/2", "b/1"}
    assert run_plait("commit", "-m", "Less").code == 0
    assert run_plait("rm", "-r", "raw.letters::a", "raw.letters::b/", "-m", "None").code == 0
    assert objects(run_plait, "--at", "main~2") == {"a/1", "a/2", "b/1", "c"}
    assert objects(run_plait, "--at", "main~1") == {"a/2", "b/1"}
    assert objects(run_plait) == set()


def test_a_name_is_no_pattern(letters: Path, run_plait: Any) -> None:
    with plait.open(letters) as catalog, catalog.transaction(message="Star") as tx:
        cast(Any, tx.open("raw.letters")).pipe_file("a/*", b"star")
    assert run_plait("rm", "raw.letters::a/*", "-m", "No star").code == 0
    assert objects(run_plait) == {"a/1", "a/2", "b/1", "c"}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["raw.letters::c", "raw.letters::nope"], 3, "raw.letters::nope does not exist"),
        (["raw.letters::c", "raw.nope"], 3, "raw.nope does not exist"),
        (["raw.letters::a"], 2, "2 objects are under raw.letters::a"),
        (["raw"], 2, "assets are under raw"),
        (["lake.sales.orders::1"], 13, "lake.sales.orders is not in a store of objects"),
    ],
)
def test_what_is_not_there_or_is_more_than_one_removes_nothing(
    letters: Path, run_plait: Any, words: list[str], code: int, told: str
) -> None:
    before = run_plait("log", "--json").value
    ran = run_plait("rm", *words, "-m", "Less", "--json")
    assert (ran.code, told in ran.error["message"]) == (code, True)
    assert run_plait("log", "--json").value == before
    assert objects(run_plait) == {"a/1", "a/2", "b/1", "c"}


def test_without_a_working_set_the_remedy_is_told(letters: Path, run_plait: Any) -> None:
    for words in (["rm", "raw.letters"], ["mv", "raw.letters", "raw.post"]):
        ran = run_plait(*words, "--json")
        assert (ran.code, "plait begin" in ran.error["remedy"]) == (3, True)


def test_assets_are_dropped_alone_or_under_a_prefix(letters: Path, run_plait: Any) -> None:
    others = keys(run_plait) - {"raw.letters"}
    run_plait("begin", "fewer")
    assert "removed raw.letters" in run_plait("rm", "raw.letters").out
    assert run_plait("rm", "raw.letters", "--json").code == 3
    assert run_plait("commit", "-m", "Fewer").code == 0
    assert keys(run_plait) == others
    assert run_plait("rm", "-r", "lake", "-m", "No tables").code == 0
    assert keys(run_plait) == {key for key in others if not key.startswith("lake.")}
    assert run_plait("restore", "lake", "--from", "main~1").code == 0
    assert keys(run_plait) == others


def test_a_renamed_asset_keeps_its_history(letters: Path, run_plait: Any) -> None:
    assert run_plait("mv", "raw.letters", "raw.post", "-m", "Post").code == 0
    assert "raw.post" in keys(run_plait)
    assert "raw.letters" not in keys(run_plait)
    with plait.open(letters) as catalog:
        (before,) = catalog.at("main~1").entries("raw.letters")
        (after,) = catalog.at("main").entries("raw.post")
    assert (before.content_id, before.snapshot) == (after.content_id, after.snapshot)
    assert {row["item"] for row in run_plait("ls", "raw.post::", "-r", "--json").value} == {"a/1", "a/2", "b/1", "c"}
    blamed = run_plait("blame", "raw.post", "--json").value
    assert {row["message"] for row in blamed} == {"Letters"}
    assert [row["message"] for row in run_plait("log", "raw.post", "--json").value] == ["Post", "Letters"]
    assert [row["message"] for row in run_plait("log", "raw.letters", "--json").value] == ["Post", "Letters"]
    ran = run_plait("mv", "raw.nope", "raw.other", "-m", "Nothing", "--json")
    assert (ran.code, ran.error["code"]) == (3, "NOT_FOUND")
    ran = run_plait("mv", "raw.post", "lake.post", "-m", "Elsewhere", "--json")
    assert ran.code == 2


def test_a_damaged_object_is_got_by_nobody(letters: Path, run_plait: Any, tmp_path: Path) -> None:
    (stored,) = (
        path for path in (letters / "raw" / "_plait").rglob("*") if path.is_file() and path.read_bytes() == b"b/1"
    )
    stored.chmod(0o600)
    stored.write_bytes(b"b/2")
    target = tmp_path / "got"
    ran = run_plait("get", "raw.letters::b/1", str(target), "--json")
    assert (ran.error["code"], target.exists()) == ("CORRUPT", False)
    assert run_plait("get", "raw.letters::c", str(target)).code == 0
    assert target.read_text() == "c"
