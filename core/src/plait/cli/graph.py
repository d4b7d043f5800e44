"""The commit graph drawn from parents: as text, the way `git log --graph` taught people, and as lanes of branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plait.types import Commit


# -- text ----------------------------------------------------------------------------------------------------------


def graph_lines(commits: Sequence[Commit]) -> list[list[str]]:
    """For each commit, newest first, what stands in front of its lines: the commit's own line first, then, where lines
    of development part or meet, one line that joins them, then (last, for as many lines as there are) the bars between.
    """
    shown = {commit.id for commit in commits}
    waiting: list[str] = []
    drawn = []
    for commit in commits:
        if commit.id not in waiting:
            waiting.append(commit.id)
        place = waiting.index(commit.id)
        node = " ".join("*" if column == place else "|" for column in range(len(waiting)))
        parents = [parent for parent in commit.parents if parent in shown]
        fresh = [parent for parent in parents if parent not in waiting]
        below = [*waiting[:place], *fresh, *waiting[place + 1 :]]
        edges = [(place, below.index(parent)) for parent in parents]
        edges += [(column, below.index(other)) for column, other in enumerate(waiting) if column != place]
        bars = " ".join("|" for _ in below)
        joints = [_joint(edges)] if any(before != after for before, after in edges) else []
        drawn.append([node, *joints, bars])
        waiting = below
    return [[line.ljust(max(map(len, lines))) for line in lines] for lines in drawn]


def _joint(edges: Sequence[tuple[int, int]]) -> str:
    """One line that leads each column to its next place."""
    width = 2 * max((max(edge) for edge in edges), default=0) + 2
    marks = [" "] * width
    for before, after in sorted(edges, key=lambda edge: abs(edge[0] - edge[1])):
        if before == after:
            marks[2 * before] = "|"
            continue
        left, right = sorted((before, after))
        for column in range(2 * left + 2, 2 * right - 1):
            if marks[column] == " ":
                marks[column] = "_"
        marks[2 * left + 1] = marks[2 * right - 1] = "/" if after < before else "\\"
    return "".join(marks).rstrip()


# -- lanes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lane:
    """A line of first parents: a branch's own commits, newest first, and the column that it is drawn in."""

    name: str
    commits: tuple[str, ...]
    column: int


def branch_lanes(commits: Sequence[Commit], heads: Mapping[str, str]) -> list[Lane]:
    """Every commit (newest first) in exactly one lane: that of the first of `heads` (name → commit id, in order of
    precedence) whose first parents lead through it, or, where no branch is left, one without a name.

    Lanes share a column when they do not stand side by side. Cost: O(commits · columns).
    """
    by_id = {commit.id: commit for commit in commits}
    rows = {commit.id: row for row, commit in enumerate(commits)}
    taken: set[str] = set()
    chains: list[tuple[str, list[str]]] = []
    starts = [*heads.items(), *(("", parent) for commit in commits for parent in commit.parents[1:])]
    starts += [("", commit.id) for commit in commits]
    for name, start in starts:
        chain = []
        at: str | None = start
        while at in by_id and at not in taken:
            taken.add(at)
            chain.append(at)
            at = next(iter(by_id[at].parents), None)
        if chain:
            chains.append((name, chain))
    merged_at: dict[str, int] = {}
    for row, commit in enumerate(commits):
        for parent in commit.parents[1:]:
            merged_at.setdefault(parent, row)
    used: list[list[tuple[int, int]]] = []
    lanes = []
    for name, chain in chains:
        first = min(rows[chain[0]], merged_at.get(chain[0], rows[chain[0]]))
        begun = next((rows[parent] for parent in by_id[chain[-1]].parents if parent in rows), rows[chain[-1]])
        last = max(rows[chain[-1]], begun)
        column = _free_column(used, first, last)
        if column == len(used):
            used.append([])
        used[column].append((first, last))
        lanes.append(Lane(name, tuple(chain), column))
    return lanes


def _free_column(used: Sequence[Sequence[tuple[int, int]]], first: int, last: int) -> int:
    """The first column, the first branch's own excepted, where nothing stands between two rows."""
    for column, spans in enumerate(used):
        if column > 0 and all(last < top or bottom < first for top, bottom in spans):
            return column
    return len(used)
