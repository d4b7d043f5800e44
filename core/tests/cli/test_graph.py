"""The commit graph: as text, in lanes, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import plait
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.cli.graph import branch_lanes, graph_lines
from plait.cli.graph_page import graph_page, graph_svg
from plait.types import Commit, Ref, RefKind, Session

VOID = {"meta", "br", "hr", "img", "input", "link"}


def commit(name: str, *parents: str, message: str = "") -> Commit:
    return Commit(name, parents, b"", "ann", message or name, 0, {}, "", Session())


def history(links: Sequence[Sequence[int]]) -> list[Commit]:
    """Commits newest first; `links[n]`: how far back each parent of commit n is."""
    made = [
        commit(f"c{n}", *dict.fromkeys(f"c{n - back}" for back in backs if 0 < back <= n))
        for n, backs in enumerate(links)
    ]
    return made[::-1]


histories = st.lists(st.lists(st.integers(1, 6), max_size=3), min_size=1, max_size=30).map(history)


def drawn(commits: Sequence[Commit]) -> str:
    return "\n".join(
        (line + (" " + one.message if n == 0 else "")).rstrip()
        for one, lines in zip(commits, graph_lines(commits), strict=True)
        for n, line in enumerate(lines[:-1])
    )


def test_a_merge_is_drawn_as_git_draws_it() -> None:
    commits = [commit("m", "b", "a"), commit("b", "r"), commit("a", "r"), commit("r")]
    assert drawn(commits) == "*   m\n|\\\n* | b\n| * a\n|/\n* r"


def test_the_graph_of_no_commit_is_no_line() -> None:
    assert graph_lines([]) == []


@given(histories)
def test_each_commit_has_one_star_and_lines_of_one_width(commits: list[Commit]) -> None:
    lines = graph_lines(commits)
    assert len(lines) == len(commits)
    for first, *rest in lines:
        assert {len(first)} == {len(line) for line in (first, *rest)}
        assert first.count("*") == 1
        assert not any("*" in line for line in rest)


@given(histories, st.integers(0, 3))
def test_lanes_hold_every_commit_once_and_never_collide(commits: list[Commit], branches: int) -> None:
    heads = {f"b{n}": one.id for n, one in enumerate(commits[:branches])}
    lanes = branch_lanes(commits, heads)
    assert sorted(name for lane in lanes for name in lane.commits) == sorted(one.id for one in commits)
    rows = {one.id: row for row, one in enumerate(commits)}
    taken = [(lane.column, row) for lane in lanes for row in range(rows[lane.commits[0]], rows[lane.commits[-1]] + 1)]
    assert len(taken) == len(set(taken))


def test_the_first_branch_has_the_first_lane_to_itself() -> None:
    commits = [commit("d2", "d1"), commit("m2", "m1", "d1"), commit("d1", "m1"), commit("m1")]
    main, dev = branch_lanes(commits, {"main": "m2", "dev": "d2"})
    assert (main.name, main.column, main.commits) == ("main", 0, ("m2", "m1"))
    assert (dev.name, dev.column, dev.commits) == ("dev", 1, ("d2", "d1"))


class Page(HTMLParser):
    """Reads a page strictly: every tag that opens is closed in order; what it loads and holds is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._seen(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(attrs)

    def _seen(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "href", "xlink:href"):
                self.loads.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_the_page_is_well_formed_and_holds_every_commit(run_plait: Any, example: Path) -> None:
    run_plait("merge", "more-orders")
    run_plait("tag", "v1")
    assert run_plait("log", "--html", "graph.html", "--svg", "graph.svg").code == 0
    picture = (example / "graph.svg").read_text().strip()
    assert run_plait("log", "--svg", "-").out.strip() == picture
    assert run_plait("log", "--svg", "-", "--html", "again.html").out.strip() == picture
    assert (example / "again.html").read_text() == (example / "graph.html").read_text()
    both = run_plait("log", "--svg", "-", "--html", "-", "--json")
    assert (both.code, both.out, both.error["remedy"]) == (2, "", "write them to two files")
    assert not Path("-").exists()
    with plait.open(example) as catalog:
        commits = {one.id: one for ref in catalog.refs() for one in catalog.log(ref.name)}
    source = (example / "graph.html").read_text()
    page = read(source)
    assert page.ids == {name[:12] for name in commits}
    for one in commits.values():
        assert one.message in page.text
        assert one.id in page.text
    for told in ("main", "more-orders", "v1", "changed lake.sales.orders", "changed raw.landing", "author "):
        assert told in page.text
    assert page.loads == []
    assert "@import" not in source
    assert "url(" not in source
    assert "prefers-color-scheme: dark" in source
    picture = ElementTree.parse(example / "graph.svg").getroot()
    circles = picture.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(commits)


@given(histories, st.text(max_size=20))
def test_any_history_makes_a_well_formed_picture(commits: list[Commit], text: str) -> None:
    odd = [commit(one.id, *one.parents, message=f"</svg><script>{text}") for one in commits]
    refs = [Ref("<b>", RefKind.BRANCH, commits[0].id, 1), Ref("main", RefKind.BRANCH, commits[-1].id, 1)]
    keys = {commits[0].id: ["a&b"] * 60}
    picture = ElementTree.fromstring(graph_svg(odd, refs, keys))
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}circle")) == len(commits)
    assert read(graph_page(odd, refs, keys)).text.count("</svg><script>") >= len(commits)


@pytest.mark.parametrize("forbidden", ["\0", "\x1b", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_forbids_is_left_out(forbidden: str) -> None:
    odd = [commit("a", message=f"one{forbidden}two")]
    picture = ElementTree.fromstring(graph_svg(odd, [], {"a": [f"p.{forbidden}"]}))
    assert "onetwo" in "".join(picture.itertext())
