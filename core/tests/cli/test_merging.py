"""Merges at the command line, from the conflict to the commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plait
import pyarrow as pa
import pytest

from .conftest import SCHEMA

KEY, ITEM = "lake.sales.orders", "id=1"
PATH = f"{KEY}::{ITEM}"


def price(run_plait: Any, number: int = 1, spec: str = "main") -> int | None:
    """What an order costs at a point."""
    rows = run_plait("cat", KEY, "--at", spec, "--json").value
    return next((row["price"] for row in rows if row["id"] == number), None)


def test_a_merge_takes_both_sides(run_plait: Any, example: Path) -> None:
    made = run_plait("merge", "more-orders", "--json").value
    assert len(made["parents"]) == 2
    assert {row["id"] for row in run_plait("cat", KEY, "--json").value} == {1, 2, 3, 4, 5, 6}
    blamed = {row["item"]: row["message"] for row in run_plait("blame", "raw.landing", "--json").value}
    assert (blamed["4.json"], blamed["1.json"]) == ("Two more orders", "Three orders")
    assert run_plait("cat", "raw.landing::5.json").out.startswith('{"id": 5')
    assert run_plait("verify", "--depth", "bytes", "--json").value == []
    again = run_plait("merge", "more-orders", "--json")
    assert (again.code, again.error["code"]) == (2, "NOTHING_TO_COMMIT")


def test_a_dry_run_lists_what_would_conflict_and_changes_nothing(run_plait: Any, conflicting: Path) -> None:
    before = run_plait("log", "--all", "--json").value
    ran = run_plait("merge", "more-orders", "--dry-run", "--json")
    assert ran.code == 5
    assert [(row["key"], row["item"]) for row in ran.value["conflicts"]] == [(KEY, ITEM)]
    text = run_plait("merge", "more-orders", "--dry-run")
    assert text.code == 5
    assert "1 conflict with main; nothing was changed" in text.out
    assert run_plait("log", "--all", "--json").value == before
    assert run_plait("tx", "list", "--json").value == []


def test_conflicts_are_a_table_with_the_next_commands(run_plait: Any, conflicting: Path) -> None:
    ran = run_plait("merge", "more-orders")
    assert (ran.code, ran.out) == (5, "")
    error, header, row, *steps = ran.err.splitlines()
    assert error.startswith("error: 1 conflict with 'main'")
    assert header.split() == ["key", "item", "base", "ours", "theirs", "detail"]
    assert row.split()[:2] == [KEY, ITEM]
    places = [row.index(f'"price": {value}') for value in (4, 5, 6)]
    assert places == sorted(places)
    assert "plait conflicts" in steps[0]
    assert "plait resolve KEY::ITEM --ours" in steps[0]
    assert "plait commit" in steps[1]


def test_what_a_store_says_of_a_conflict_is_shown_wherever_conflicts_are(run_plait: Any, conflicting: Path) -> None:
    run_plait("rm", KEY, "-m", "Not sold any more")
    told = "ours deleted it, theirs changed it"
    dry = run_plait("merge", "more-orders", "--dry-run")
    assert told in dry.out
    refused = run_plait("merge", "more-orders")
    assert refused.err.splitlines()[1].split()[-1] == "detail"
    assert told in refused.err
    assert told in run_plait("conflicts").out


def test_conflicts_in_json_name_all_sides_and_the_working_set(run_plait: Any, conflicting: Path) -> None:
    error = run_plait("merge", "more-orders", "--json").error
    assert error["code"] == "COMMIT_CONFLICT"
    assert [(one["key"], one["item"], one["base"]["price"]) for one in error["conflicts"]] == [(KEY, ITEM, 4)]
    assert (error["conflicts"][0]["ours"]["price"], error["conflicts"][0]["theirs"]["price"]) == (5, 6)
    assert run_plait("status", "--json").value["id"] == error["details"]["tx"]
    assert [row["waits_for"] for row in run_plait("tx", "list", "--json").value] == ["1 conflict"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (("--ours",), 5),
        (("--theirs",), 6),
        (("--base",), 4),
        (("--value", '{"id": 1, "item": "tea", "price": 9}'), 9),
        (("--value", "null"), None),
    ],
    ids=lambda value: str(value),
)
def test_resolved_conflicts_are_committed(
    choice: tuple[str, ...], expected: int | None, run_plait: Any, conflicting: Path
) -> None:
    run_plait("merge", "more-orders")
    refused = run_plait("commit", "--json")
    assert (refused.code, len(refused.error["conflicts"])) == (5, 1)
    listed = run_plait("conflicts", "--json").value
    assert [(row["item"], row["settled"]) for row in listed] == [(ITEM, None)]
    assert "→ plait resolve" in run_plait("conflicts").out
    assert run_plait("resolve", PATH, *choice, "--json").value == {"settled": 1, "left": 0}
    assert "→ plait commit" in run_plait("conflicts").out
    made = run_plait("commit", "-m", "Joined", "--json").value
    assert (made["message"], len(made["parents"])) == ("Joined", 2)
    assert price(run_plait) == expected
    assert price(run_plait, 4) == 9
    assert price(run_plait, 6) == 3
    assert run_plait("status", "--json").value["id"] is None


def test_a_conflict_of_an_object_is_resolved_and_committed(run_plait: Any, example: Path) -> None:
    for branch in ("main", "more-orders"):
        run_plait("switch", branch)
        (example / branch).write_bytes(branch.encode())
        run_plait("put", branch, "raw.landing::1.bin", "-m", f"As on {branch}")
    run_plait("switch", "main")
    refused = run_plait("merge", "more-orders", "--json")
    assert (refused.code, [row["item"] for row in refused.error["conflicts"]]) == (5, ["1.bin"])
    assert run_plait("resolve", "raw.landing::1.bin", "--theirs", "--json").value == {"settled": 1, "left": 0}
    assert len(run_plait("commit", "--json").value["parents"]) == 2
    assert run_plait("cat", "raw.landing::1.bin").out == "more-orders"


@pytest.mark.parametrize("value", ['{"a": 1}', "[1, 2]"])
def test_a_json_document_settles_an_object(value: str, run_plait: Any, example: Path) -> None:
    for branch in ("main", "more-orders"):
        run_plait("switch", branch)
        (example / branch).write_text(f'{{"a": "{branch}"}}')
        run_plait("put", branch, "raw.landing::1.json", "-m", f"As on {branch}")
    run_plait("switch", "main")
    assert run_plait("merge", "more-orders").code == 5
    refused = run_plait("resolve", "raw.landing::1.json", "--value", f'{{"a": {2**64}}}')
    assert (refused.code, "beyond 64 bits" in refused.err) == (2, True)
    assert run_plait("resolve", "raw.landing::1.json", "--value", value).code == 0
    assert run_plait("commit").code == 0
    assert run_plait("cat", "raw.landing::1.json").out == value


def test_conflicts_are_listed_in_part(run_plait: Any, conflicting: Path) -> None:
    for branch in ("main", "more-orders"):
        run_plait("switch", branch)
        for name in ("1.bin", "2.bin"):
            (conflicting / name).write_bytes(branch.encode())
            run_plait("put", name, f"raw.landing::{name}", "-m", f"As on {branch}")
    run_plait("switch", "main")
    assert run_plait("merge", "more-orders").code == 5

    def items(*words: str) -> list[str]:
        return [row["item"] for row in run_plait("conflicts", *words, "--json").value]

    assert items() == items("--left") == [ITEM, "1.bin", "2.bin"]
    assert items("--limit", "2") == [ITEM, "1.bin"]
    assert "… and 2 more; see --limit" in run_plait("conflicts", "--limit", "1").out
    assert run_plait("resolve", PATH, "raw.landing::1.bin", "--theirs").code == 0
    assert items() == [ITEM, "1.bin", "2.bin"]
    assert items("--left") == ["2.bin"]
    text = run_plait("conflicts", "--left", "--limit", "1").out
    assert "2.bin" in text
    assert "1.bin" not in text
    assert "more" not in text
    assert "→ plait resolve" in text
    assert run_plait("resolve", "--all", "--theirs").code == 0
    assert items("--left") == []
    assert run_plait("conflicts", "--left").out == "all are settled\n→ plait commit\n"


def test_all_conflicts_are_settled_at_once(run_plait: Any, conflicting: Path) -> None:
    run_plait("merge", "more-orders")
    settled = run_plait("resolve", "--all", "--theirs")
    assert settled.out == "1 settled, 0 left\n→ plait commit\n"
    assert run_plait("commit").code == 0
    assert price(run_plait) == 6


@pytest.mark.slow
def test_all_leaves_what_is_settled_by_value_or_by_writing(run_plait: Any, conflicting: Path) -> None:
    for branch in ("main", "more-orders"):
        run_plait("switch", branch)
        for name in ("1.bin", "2.bin"):
            (conflicting / name).write_bytes(branch.encode())
            run_plait("put", name, f"raw.landing::{name}", "-m", f"As on {branch}")
    run_plait("switch", "main")
    assert run_plait("merge", "more-orders").code == 5
    assert run_plait("resolve", PATH, "--value", '{"id": 1, "item": "tea", "price": 55}').code == 0
    (conflicting / "2.bin").write_bytes(b"by hand")
    assert run_plait("put", "2.bin", "raw.landing::2.bin").code == 0
    how = {row["item"]: row["settled"] for row in run_plait("conflicts", "--json").value}
    assert how == {ITEM: "value", "1.bin": None, "2.bin": "written"}
    assert [row["item"] for row in run_plait("status", "--json").value["conflicts"]] == ["1.bin"]
    assert "1 conflict to settle" in run_plait().out
    settled = run_plait("resolve", "--all", "--theirs")
    assert settled.out == "1 settled, 0 left; 2 left as settled before\n→ plait commit\n"
    assert run_plait("resolve", "--all", "--ours", "--json").value == {"settled": 0, "left": 0, "kept": 3}
    assert run_plait("commit").code == 0
    assert price(run_plait) == 55
    assert run_plait("cat", "raw.landing::1.bin").out == "more-orders"
    assert run_plait("cat", "raw.landing::2.bin").out == "by hand"


def test_a_conflict_that_is_named_is_settled_anew(run_plait: Any, conflicting: Path) -> None:
    run_plait("merge", "more-orders")
    assert run_plait("resolve", PATH, "--value", '{"id": 1, "item": "tea", "price": 55}').code == 0
    assert run_plait("resolve", KEY, "--theirs").code == 0
    assert run_plait("commit").code == 0
    assert price(run_plait) == 6


def test_a_conflicted_merge_can_be_discarded(run_plait: Any, conflicting: Path) -> None:
    run_plait("merge", "more-orders")
    assert "1 conflict to settle" in run_plait().out
    assert "1 conflict to settle" in run_plait("status").out
    assert run_plait("discard").code == 0
    assert price(run_plait) == 5
    assert run_plait("conflicts").code == 3


def test_strategies_settle_keys_beforehand(run_plait: Any, conflicting: Path) -> None:
    assert run_plait("merge", "more-orders", "--theirs", KEY).code == 0
    assert price(run_plait) == 6


@pytest.mark.parametrize(
    ("words", "code"), [(("--drop", "lake.sales.ordres"), 3), (("--ours", KEY, "--drop", KEY), 2)], ids=str
)
def test_strategies_that_cannot_be_meant_are_refused(
    words: tuple[str, ...], code: int, run_plait: Any, conflicting: Path
) -> None:
    assert run_plait("merge", "more-orders", *words).code == code
    assert run_plait("tx", "list", "--json").value == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((PATH,), 2),
        ((PATH, "--ours", "--value", "1"), 2),
        ((PATH, "--ours", "--theirs"), 2),
        ((PATH, "--theirs", "--base"), 2),
        (("--all", "--ours", "--theirs"), 2),
        ((PATH, "--value", "{"), 2),
        (("--ours",), 2),
        (("--all", PATH, "--ours"), 2),
        (("--all", "--value", "1"), 2),
        (("lake.sales.nothing", "--ours"), 3),
        (("lake.sales.orders::id=99", "--ours"), 3),
    ],
    ids=str,
)
def test_resolve_refuses_what_settles_nothing(
    words: tuple[str, ...], code: int, run_plait: Any, conflicting: Path
) -> None:
    run_plait("merge", "more-orders")
    ran = run_plait("resolve", *words)
    assert ran.code == code
    assert ran.err.startswith("error: ")
    assert [row["settled"] for row in run_plait("conflicts", "--json").value] == [None]


def test_a_revert_of_what_changed_since_waits_for_a_resolution(run_plait: Any, conflicting: Path) -> None:
    run_plait("merge", "more-orders", "--strategy", "theirs")
    ran = run_plait("revert", "main~1", "--json")
    assert ran.code == 5
    assert run_plait("resolve", "--all", "--theirs").code == 0
    assert run_plait("commit").code == 0
    assert price(run_plait) == 4


def test_a_row_is_reverted_and_restored_alone(run_plait: Any, example: Path) -> None:
    assert run_plait("revert", "main", f"{KEY}::id=6").code == 0
    assert price(run_plait, 6) is None
    assert "6.json" in run_plait("cat", "raw.landing").out
    assert run_plait("restore", f"{KEY}::id=6", "--from", "main~1").code == 0
    assert price(run_plait, 6) == 3


def test_a_revert_of_a_row_that_changed_again_waits_for_a_resolution(run_plait: Any, conflicting: Path) -> None:
    with plait.open(conflicting) as catalog, catalog.transaction(message="Tea is 7") as tx:
        table: Any = tx.open(KEY)
        table.overwrite(pa.table([[1], ["tea"], [7]], schema=SCHEMA), "id = 1")
    told = run_plait("revert", "main~1", PATH, "--json")
    assert told.code == 5
    (conflict,) = told.error["conflicts"]
    sides = {side: conflict[side] and conflict[side]["price"] for side in ("base", "ours", "theirs")}
    assert sides == {"base": 5, "ours": 7, "theirs": 4}
    assert price(run_plait) == 7
    assert run_plait("resolve", PATH, "--theirs").code == 0
    assert run_plait("commit").code == 0
    assert price(run_plait) == 4


def test_in_python_a_row_is_named_by_its_tables_text_too(run_plait: Any, example: Path) -> None:
    with plait.open(example) as catalog:
        catalog.revert("main", items={KEY: ["id=6"]})
        assert price(run_plait, 6) is None
        catalog.restore("main~1", items={KEY: ["id=6"]})
    assert price(run_plait, 6) == 3


def test_objects_are_reverted_as_a_key_and_restored_alone(run_plait: Any, example: Path) -> None:
    run_plait("tag", "before")
    assert run_plait("revert", "main", "raw.landing").code == 0
    assert run_plait("cat", "raw.landing::6.json").code == 3
    assert run_plait("restore", "raw.landing::6.json", "--from", "before").code == 0
    assert run_plait("cat", "raw.landing::6.json").out.startswith('{"id": 6')


@pytest.mark.parametrize(
    ("path", "shown"),
    [("lake.sales.order", "plait ls --at main"), (f"{KEY}::id=99", "plait blame"), ("raw.landing::9", "plait blame")],
)
@pytest.mark.parametrize("words", [("revert", "main"), ("restore", "--from", "main~1")], ids=lambda words: words[0])
def test_what_is_nowhere_is_neither_reverted_nor_restored(
    words: tuple[str, ...], path: str, shown: str, run_plait: Any, unchanging: Path
) -> None:
    ran = run_plait(*words, path)
    assert ran.code == 3
    assert f"{path} does not exist at" in ran.err
    assert f"see '{shown}" in ran.err


def test_whole_keys_and_items_do_not_mix(run_plait: Any, example: Path) -> None:
    assert run_plait("revert", "main", KEY, PATH).code == 2


def test_cherry_pick_takes_one_commit(run_plait: Any, conflicting: Path) -> None:
    assert run_plait("cherry-pick", "more-orders~1").code == 0
    assert price(run_plait, 4) == 9
    assert price(run_plait) == 5


def test_some_keys_are_merged_or_picked_and_the_rest_is_found_later(run_plait: Any, example: Path) -> None:
    for words in (["cherry-pick", "more-orders"], ["merge", "more-orders"], ["merge", "--dry-run", "more-orders"]):
        refused = run_plait(*words, "raw.nothing", "--json")
        assert (refused.code, refused.error["code"]) == (3, "NOT_FOUND")
    made = run_plait("merge", "more-orders", "raw", "--json").value
    assert len(made["parents"]) == 1
    assert (price(run_plait, 4), run_plait("get", "raw.landing::4.json", "-").code) == (None, 0)
    assert run_plait("cherry-pick", "more-orders", KEY).code == 0
    assert price(run_plait, 4) == 9
    assert len(run_plait("merge", "more-orders", "--json").value["parents"]) == 2


def test_conflicts_are_settled_all_or_none(run_plait: Any, conflicting: Path) -> None:
    assert run_plait("merge", "more-orders").code == 5
    for stranger in (f"{KEY}::nope", "raw.landing"):
        refused = run_plait("resolve", PATH, stranger, "--ours", "--json")
        assert (refused.code, stranger in refused.error["message"]) == (3, True)
        assert [row["settled"] for row in run_plait("conflicts", "--json").value] == [None]
    assert run_plait("resolve", PATH, PATH, "--ours").code == 0


def test_a_working_set_of_a_merge_shows_what_its_commit_brings(run_plait: Any, conflicting: Path) -> None:
    dry = run_plait("merge", "more-orders", "--dry-run", "--ours", "raw")
    assert (dry.code, "nothing would change" in dry.out) == (5, False)
    run_plait("merge", "more-orders")
    before = run_plait("diff", "--json").value
    assert [row["key"] for row in before["changes"]] == ["raw.landing"]
    assert [(row["key"], row["item"]) for row in before["conflicts"]] == [(KEY, ITEM)]
    assert "1 conflict with main; see 'plait conflicts'" in run_plait("diff").out
    assert "1 conflict to settle" in run_plait("status").out
    assert "nothing would change" not in run_plait("diff", "lake").out

    run_plait("resolve", PATH, "--theirs")
    assert {row["key"] for row in run_plait("diff", "--json").value["changes"]} == {KEY, "raw.landing"}
    assert [row["key"] for row in run_plait("diff", KEY, "--json").value["changes"]] == [KEY]
    assert "nothing was written" in run_plait("diff", "--items").out
    status = run_plait("status", "--json").value
    assert (status["assets"], status["conflicts"]) == ([], [])
    told = run_plait("status").out
    assert "nothing is staged" not in told
    assert "→ plait commit" in told
    assert run_plait("commit").code == 0


def test_a_merge_that_only_conflicts_does_not_say_that_nothing_would_change(run_plait: Any, conflicting: Path) -> None:
    ran = run_plait("merge", "more-orders", "--dry-run", "--drop", "raw.landing")
    assert (ran.code, "nothing would change" in ran.out) == (5, False)
    assert ran.out.startswith("1 conflict with main; nothing was changed")
