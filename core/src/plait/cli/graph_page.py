"""The commit graph as a picture, and as one page that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plait.cli.graph import branch_lanes
from plait.refspec import format_time
from plait.types import RefKind

if TYPE_CHECKING:
    from plait.types import Commit, Ref

_ROW, _LANE, _LEFT = 34, 22, 20
_HUES = (210, 28, 140, 280, 0, 180, 320, 60)
_NO_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
KEYS_SHOWN_MAX = 50

_STYLE = """
:root { --ink: #1b1f24; --soft: #6a737d; --ground: #ffffff; --tag: #e4ecf5; --spot: #f3f6fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #8b949e; --ground: #0d1117; --tag: #1f2c3a; --spot: #161d26; }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--ground); color: var(--ink); }
body, dialog { font: 15px/1.5 system-ui, sans-serif; }
.scroll { overflow-x: auto; }
svg text { fill: var(--ink); font: 14px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .ground { fill: none; }
svg .tag { fill: var(--tag); }
g.commit { cursor: pointer; outline: none; }
g.commit .spot { fill: transparent; }
g.commit:hover .spot, g.commit:focus .spot { fill: var(--spot); }
g.commit:hover circle, g.commit:focus circle { stroke: var(--ink); stroke-width: 2; }
dialog { max-width: 46rem; border: 1px solid var(--soft); border-radius: 8px; }
dialog { background: var(--ground); color: var(--ink); }
dialog pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
"""
_SCRIPT = """
const box = document.querySelector('dialog');
for (const one of document.querySelectorAll('g.commit')) {
  const told = one.querySelector('title').textContent;
  const open = () => { box.querySelector('pre').textContent = told; box.showModal(); };
  one.addEventListener('click', open);
  one.addEventListener('keydown', (event) => { if (event.key === 'Enter') open(); });
}
box.addEventListener('click', () => box.close());
"""


def graph_svg(commits: Sequence[Commit], refs: Sequence[Ref], keys: Mapping[str, Sequence[str]]) -> str:
    """The graph of these commits (newest first): a lane per branch, `main` first; refs as labels; a commit's title
    tells its message, author, time and the keys that it changed (`keys`: commit id → their texts)."""
    branches = sorted(
        (ref for ref in refs if ref.kind is RefKind.BRANCH), key=lambda ref: (ref.name != "main", ref.name)
    )
    lanes = branch_lanes(commits, {ref.name: ref.head for ref in branches})
    rows = {commit.id: row for row, commit in enumerate(commits)}
    columns = {commit: lane.column for lane in lanes for commit in lane.commits}
    placed = {(columns[commit.id], rows[commit.id]) for commit in commits}
    text_at = _LEFT + _LANE * (max(columns.values(), default=0) + 1) + 8
    height = _ROW * len(commits) + 12
    nodes, edges = [], []
    for commit in commits:
        place = columns[commit.id], rows[commit.id]
        edges += [_edge(place, (columns[one], rows[one]), placed) for one in commit.parents if one in rows]
        labels = [ref.name for ref in refs if ref.head == commit.id]
        nodes.append(_commit(commit, place, text_at, labels=labels, keys=keys.get(commit.id, ())))
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="1100" height="{height}" viewBox="0 0 1100 {height}" '
        f'font-family="system-ui, sans-serif" font-size="14"><title>{len(commits)} commits</title>'
        f'<rect class="ground" fill="#fff" width="1100" height="{height}"/>'
    )
    # Rows first: what a hover paints behind a row must not cover the lines.
    return "\n".join([start, '<g class="rows">', *nodes, "</g>", '<g class="edges">', *edges, "</g>", "</svg>"])


def _colour(column: int) -> str:
    return f"hsl({_HUES[column % len(_HUES)]} 65% 50%)"


def _at(place: tuple[int, int]) -> tuple[int, int]:
    return _LEFT + place[0] * _LANE, 20 + place[1] * _ROW


def _edge(place: tuple[int, int], onto: tuple[int, int], placed: set[tuple[int, int]]) -> str:
    """A line from a commit to its parent: down the lane of the two that is further out, or, where that lane has commits
    on the way, as one curve past them."""
    (x, y), (to_x, to_y) = _at(place), _at(onto)
    outer = max(place[0], onto[0])
    if any((outer, row) in placed for row in range(place[1] + 1, onto[1])):
        aside = _LANE // 2 if x == to_x else 0
        path = f"M{x} {y + 6} C{x + aside} {y + _ROW} {to_x + aside} {to_y - _ROW} {to_x} {to_y - 6}"
    elif to_x > x:  # A merge: out at once, then down the merged lane.
        bend = y + _ROW // 2
        path = f"M{x} {y + 6} C{x} {bend} {to_x} {bend} {to_x} {y + _ROW - 6} L{to_x} {to_y - 6}"
    elif to_x < x:  # A branch's first commit: down its lane, then in.
        bend = to_y - _ROW // 2
        path = f"M{x} {y + 6} L{x} {to_y - _ROW + 6} C{x} {bend} {to_x} {bend} {to_x} {to_y - 6}"
    else:
        path = f"M{x} {y + 6} L{to_x} {to_y - 6}"
    return f'<path d="{path}" fill="none" stroke="{_colour(outer)}" stroke-width="2"/>'


def _told(commit: Commit, keys: Sequence[str]) -> str:
    """Everything about a commit, as text."""
    lines = [f"commit {commit.id}", f"author {commit.author}", f"at     {format_time(commit.committed_at_us)}"]
    lines += [f"parent {parent}" for parent in commit.parents]
    lines += ["", commit.message, ""]
    lines += [f"{name}: {value}" for name, value in sorted(commit.properties.items())]
    lines += [f"changed {key}" for key in keys[:KEYS_SHOWN_MAX]]
    if len(keys) > KEYS_SHOWN_MAX:
        lines.append("… and more")
    return "\n".join(lines).rstrip()


def _commit(commit: Commit, place: tuple[int, int], text_at: int, *, labels: Sequence[str], keys: Sequence[str]) -> str:
    x, y = _at(place)
    subject = (commit.message.splitlines() or [""])[0]
    parts = [
        f'<g class="commit" tabindex="0" id="{commit.id[:12]}"><title>{_text(_told(commit, keys))}</title>'
        f'<rect class="spot" fill="none" x="0" y="{y - _ROW // 2}" width="1100" height="{_ROW}"/>'
        f'<circle cx="{x}" cy="{y}" r="6" fill="{_colour(place[0])}"/>',
    ]
    for name in labels:
        width = 8 * len(name) + 14
        parts.append(
            f'<rect class="tag" fill="#dde7f0" x="{text_at}" y="{y - 11}" width="{width}" height="22" rx="11"/>'
            f'<text x="{text_at + 7}" y="{y + 5}">{_text(name)}</text>'
        )
        text_at += width + 6
    parts.append(
        f'<text x="{text_at}" y="{y + 5}">{_text(subject[:90])}<tspan class="soft" dx="10" fill="#888">'
        f"{commit.id[:12]} · {_text(commit.author)} · {format_time(commit.committed_at_us)[:19]}</tspan></text></g>"
    )
    return "".join(parts)


def _text(text: str) -> str:
    """Escaped, and without the characters that XML forbids even so."""
    return html.escape(_NO_XML.sub("", text))


def graph_page(commits: Sequence[Commit], refs: Sequence[Ref], keys: Mapping[str, Sequence[str]]) -> str:
    """One HTML page with the graph; a click on a commit tells all of it. Works offline, light and dark."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>plait: {len(commits)} commits</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>{len(commits)} commits</h1>\n<div class="scroll">{graph_svg(commits, refs, keys)}</div>\n'
        f"<dialog><pre></pre></dialog>\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )
