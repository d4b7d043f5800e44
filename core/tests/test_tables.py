"""Answers as tables: drawn in notebooks, read by Arrow, and still the lists and iterators that they were."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import plait
import pyarrow as pa
import pytest
from plait import tables
from plait.blame import Blamed
from plait.catalog import Catalog
from plait.errors import CommitConflict, Unsupported
from plait.tables import Columns, Listing, Stream


class Reader(HTMLParser):
    """The cells of a drawn table, row by row, and its caption."""

    def __init__(self, drawn: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.caption = ""
        self._at = ""
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        self._at = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, text: str) -> None:
        if self._at in ("th", "td"):
            self.rows[-1][-1] += text
        elif self._at == "caption":
            self.caption += text


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """The example, with a conflict in a working set."""
    folder = tmp_path_factory.mktemp("example")
    with plait.init(folder, example=True) as made:
        for branch in ("main", "more-orders"):
            with made.transaction(branch, message=f"On {branch}") as tx:
                objects: Any = tx.open("raw.landing")
                objects.pipe("note.bin", branch.encode())
        with pytest.raises(CommitConflict):
            made.merge("more-orders")
        conflicted(made).create("raw.more")
        yield made


def conflicted(catalog: Catalog) -> plait.WorkingSet:
    return catalog.working_set(catalog.working_sets()[0].id)


ANSWERS: dict[str, Callable[[Catalog], Any]] = {
    "refs": lambda catalog: catalog.refs(),
    "reflog": lambda catalog: catalog.reflog("main"),
    "log": lambda catalog: catalog.log(),
    "diff": lambda catalog: catalog.diff("main~1", "main"),
    "diff_items": lambda catalog: catalog.diff_items("lake.sales.orders", "main~2", "main"),
    "history": lambda catalog: catalog.history("lake.sales.orders"),
    "blame": lambda catalog: catalog.blame("lake.sales.orders"),
    "events": lambda catalog: catalog.events(),
    "stores": lambda catalog: catalog.stores(),
    "working_sets": lambda catalog: catalog.working_sets(),
    "entries": lambda catalog: catalog.at().entries(),
    "participants": lambda catalog: conflicted(catalog).participants(),
    "conflicts": lambda catalog: conflicted(catalog).conflicts(),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_drawn_and_is_an_arrow_table_of_the_same_rows(catalog: Catalog, name: str) -> None:
    ask = ANSWERS[name]
    values = list(ask(catalog))
    assert values
    arrow, drawn = ask(catalog).to_arrow(), Reader(ask(catalog)._repr_html_())
    assert arrow.num_rows == len(values) == len(drawn.rows) - 1
    assert arrow.schema.names == drawn.rows[0]
    assert not {field.type for field in arrow.schema} - {
        pa.string(), pa.int64(), pa.bool_(), pa.timestamp("us", tz="UTC"),
    }  # fmt: skip


def test_rows_say_what_the_values_say(catalog: Catalog) -> None:
    commit, row = catalog.resolve("main"), catalog.log().to_arrow().to_pylist()[0]
    assert (row["commit"], row["message"], row["seq"]) == (commit.id, "On main", commit.seq)
    assert row["at"] == datetime.fromtimestamp(commit.committed_at_us / 1_000_000, UTC)
    assert row["parents"] == f'["{commit.parents[0]}"]'
    (conflict,) = conflicted(catalog).conflicts().to_arrow().to_pylist()
    assert (conflict["key"], conflict["item"], conflict["settled"]) == ("raw.landing", "note.bin", None)
    assert conflict["detail"] == "both sides created it"
    assert catalog.unpublished().to_arrow().schema.names == ["store", "key", "state"]
    assert catalog.diff("main~1", "main").to_arrow().column("change").to_pylist() == ["changed"]


def test_commits_name_the_process_and_what_it_said_of_itself(catalog: Catalog) -> None:
    session = plait.Session("mo", "ann", client="etl/1", properties={"run": "7"})
    commit = replace(catalog.resolve("main"), author="ann", session=session, properties={"code": "a1"})
    process = {"principal": "mo", "author": "ann", "client": "etl/1", "properties": '{"run": "7", "code": "a1"}'}
    change = next(iter(catalog.diff("main~1", "main")))
    for arrow in (
        tables.COMMITS.arrow([commit]),
        tables.HISTORY.arrow([(commit, change)]),
        tables.BLAMES.arrow([Blamed("7", commit)]),
    ):
        assert process.items() <= arrow.to_pylist()[0].items()


def test_a_catalog_a_point_and_a_working_set_draw_themselves(catalog: Catalog) -> None:
    assert Reader(catalog._repr_html_()).caption == "default · lake, raw"
    assert catalog.to_arrow().column("name").to_pylist() == ["main", "more-orders"]
    assert catalog.at().to_arrow().column("key").to_pylist() == ["lake.sales.orders", "raw.landing"]
    assert Reader(catalog.at()._repr_html_()).rows[1][0] == "lake.sales.orders"
    tx = conflicted(catalog)
    assert Reader(tx._repr_html_()).rows[0] == ["state", "key", "location"]
    assert tx.to_arrow().num_rows == len(tx.participants())


def test_drawing_an_iterator_takes_nothing_from_it(catalog: Catalog) -> None:
    log = catalog.log()
    first = next(log)
    log._repr_html_()
    log.to_arrow()
    assert [first, *log] == list(catalog.log())
    assert list(log) == []


def test_a_listing_is_the_list_it_was() -> None:
    listing = Listing(tables.REFS, [])
    assert listing == []
    assert isinstance(listing, list)


LINES: Columns[dict[str, Any]] = Columns(
    text=lambda one: one["text"], count__int=lambda one: one["count"], when__time=lambda one: one["when"]
)


def test_an_empty_answer_has_the_same_columns() -> None:
    row = {"text": "a", "count": 1, "when": 0}
    assert Listing(LINES, []).to_arrow().schema == Listing(LINES, [row]).to_arrow().schema


def test_what_a_row_holds_never_becomes_markup() -> None:
    drawn = Listing(LINES, [{"text": "<script>x</script>", "count": 1, "when": 0}])._repr_html_()
    assert "<script>" not in drawn
    assert Reader(drawn).rows[1] == ["<script>x</script>", "1", "1970-01-01T00:00:00Z"]


def test_a_long_answer_is_cut_where_it_is_drawn_and_read_no_further() -> None:
    read = 0

    def ask() -> Iterator[dict[str, Any]]:
        nonlocal read
        for number in range(10_000):
            read += 1
            yield {"text": "x" * 300, "count": number, "when": 0}

    drawn = Reader(Stream(LINES, ask)._repr_html_())
    assert len(drawn.rows) == 101
    assert drawn.caption == "the first 100"
    assert len(drawn.rows[1][0]) == 200
    assert read == 101


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unsupported) as caught:
        Listing(LINES, []).to_arrow()
    assert caught.value.remedy == "pip install 'plait[arrow]'"
