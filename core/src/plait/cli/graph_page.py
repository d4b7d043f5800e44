"""The commit graph as a picture, and as one page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plait.cli.graph import lanes
from plait.refspec import format_time

if TYPE_CHECKING:
    from plait.types import Commit

_ROW, _LANE, _LEFT = 34, 22, 20
_HUES = (210, 28, 140, 280, 0, 180, 320, 60)

_STYLE = """
:root { --ink: #1b1f24; --soft: #6a737d; --ground: #ffffff; --tag: #eef3f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #8b949e; --ground: #0d1117; --tag: #1c2733; } }
body { margin: 2rem auto; max-width: 72rem; background: var(--ground); color: var(--ink); }
body, dialog { font: 15px/1.5 system-ui, sans-serif; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 14px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .tag { fill: var(--tag); } g.commit { cursor: pointer; }
g.commit:hover circle, g.commit:focus circle { stroke: var(--ink); stroke-width: 3; }
dialog { max-width: 46rem; border: 1px solid var(--soft); border-radius: 8px; }
dialog { background: var(--ground); color: var(--ink); }
dialog pre { white-space: pre-wrap; }
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


def _colour(lane: int) -> str:
    return f"hsl({_HUES[lane % len(_HUES)]} 65% 50%)"


def graph_svg(commits: Sequence[Commit], names: Mapping[str, Sequence[str]]) -> str:
    """The graph of these commits (newest first), names on the commits they point to."""
    placed = lanes(commits)
    rows = {commit.id: row for row, commit in enumerate(commits)}
    columns = {commit.id: lane for commit, (lane, _) in zip(commits, placed, strict=True)}
    text_at = _LEFT + _LANE * (max((lane for lane, _ in placed), default=0) + 1) + 8
    height = _ROW * len(commits) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1100 {height}" font-family="system-ui, sans-serif">'
    ]
    for commit in commits:
        x, y = _place(columns[commit.id], rows[commit.id])
        for parent in commit.parents:
            if parent in rows:
                to_x, to_y = _place(columns[parent], rows[parent])
                lane = max(columns[commit.id], columns[parent])
                bend = (y + _ROW / 2) if columns[parent] >= columns[commit.id] else (to_y - _ROW / 2)
                path = f"M{x} {y} C{x} {bend} {to_x} {bend} {to_x} {to_y}" if x != to_x else f"M{x} {y} L{to_x} {to_y}"
                parts.append(f'<path d="{path}" fill="none" stroke="{_colour(lane)}" stroke-width="2"/>')
    for commit in commits:
        parts.append(_commit(commit, columns[commit.id], rows[commit.id], text_at, names.get(commit.id, ())))
    return "\n".join([*parts, "</svg>"])


def _place(lane: int, row: int) -> tuple[int, int]:
    return _LEFT + lane * _LANE, 20 + row * _ROW


def _commit(commit: Commit, lane: int, row: int, text_at: int, names: Sequence[str]) -> str:
    x, y = _place(lane, row)
    at = format_time(commit.committed_at_us)
    properties = "".join(f"\n{name}: {value}" for name, value in sorted(commit.properties.items()))
    told = f"commit {commit.id}\nauthor {commit.author}\nat {at}\n\n{commit.message}\n{properties}"
    subject = (commit.message.splitlines() or [""])[0]
    parts = [
        f'<g class="commit" tabindex="0" id="{commit.id[:12]}"><title>{html.escape(told)}</title>',
        f'<circle cx="{x}" cy="{y}" r="6" fill="{_colour(lane)}"/>',
    ]
    for name in names:
        width = 8 * len(name) + 14
        parts.append(
            f'<rect class="tag" x="{text_at}" y="{y - 11}" width="{width}" height="22" rx="11" fill="#dde7f0"/>'
        )
        parts.append(f'<text x="{text_at + 7}" y="{y + 5}">{html.escape(name)}</text>')
        text_at += width + 6
    parts.append(
        f'<text x="{text_at}" y="{y + 5}">{html.escape(subject[:90])}'
        f'<tspan class="soft" dx="10" fill="#888">{commit.id[:12]} · {html.escape(commit.author)} · {at[:19]}'
        "</tspan></text></g>"
    )
    return "".join(parts)


def graph_page(commits: Sequence[Commit], names: Mapping[str, Sequence[str]]) -> str:
    """One HTML page with the graph; a click on a commit tells all of it. Works offline, light and dark."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>plait: {len(commits)} commits</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{len(commits)} commits</h1>\n{graph_svg(commits, names)}\n"
        f"<dialog><pre></pre></dialog>\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )
