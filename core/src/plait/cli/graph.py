"""The commit graph as text: one lane a line of development, as `git log --graph` taught people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plait.types import Commit


def lanes(commits: Sequence[Commit]) -> list[tuple[int, list[str | None]]]:
    """For each commit, newest first: its lane, and which commit each lane waits for below it."""
    waiting: list[str | None] = []
    placed = []
    for commit in commits:
        if commit.id in waiting:
            lane = waiting.index(commit.id)
        else:
            lane = waiting.index(None) if None in waiting else len(waiting)
            waiting[lane : lane + 1] = [commit.id]
        for other, awaited in enumerate(waiting):
            if awaited == commit.id:
                waiting[other] = None
        for place, parent in enumerate(commit.parents):
            if parent in waiting:
                continue
            if place == 0:
                waiting[lane] = parent
            else:
                free = next((i for i, awaited in enumerate(waiting) if awaited is None and i != lane), len(waiting))
                waiting[free : free + 1] = [parent]
        while waiting and waiting[-1] is None:
            waiting.pop()
        placed.append((lane, list(waiting)))
    return placed


def graph_lines(commits: Sequence[Commit]) -> list[str]:
    """The text in front of each commit."""
    placed = lanes(commits)
    width = max((max(lane + 1, len(waiting)) for lane, waiting in placed), default=0)
    lines = []
    before: list[str | None] = []
    for lane, waiting in placed:
        marks = []
        for place in range(width):
            if place == lane:
                marks.append("*")
            elif place < len(before) and before[place] is not None:
                marks.append("|")
            else:
                marks.append(" ")
        lines.append(" ".join(marks) + " ")
        before = waiting
    return lines
