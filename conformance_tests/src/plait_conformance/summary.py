"""What the suite says at the end: which of the twelve assertions hold, and what is pending or not claimed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import pytest

from plait_conformance.pytest_plugin import NOT_CLAIMED, PENDING

ASSERTIONS: Final = {
    1: "snapshot is O(change) and idempotent",
    2: "any past commit reads back equal through the store's own client",
    3: "diff of commits, of working set and commit, of one item",
    4: "merge: clean, same change, conflict listed, each strategy, resolved per item",
    5: "revert and restore, whole and part",
    6: "in a two-store commit with a failure injected at each step both or neither move",
    7: "retention removes what the policy says and nothing reachable",
    8: "blame names commit, author, process per item",
    9: "a corrupted payload is found by verify",
    10: "a denial by the store is reported as such, nothing half done",
    11: "backup, wipe, restore: same ids",
    12: "an out-of-band write is seen, reported as divergence, adopted on request, never overwritten",
}

MAY_BE_PENDING: Final = frozenset({7, 10, 11})


@dataclass
class _Score:
    """How the tests of one harness went, by assertion; and the reasons of what did not run."""

    passed: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    pending: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    not_claimed: Counter[str] = field(default_factory=Counter)


def summarise(reporter: pytest.TerminalReporter) -> None:
    """One section for each harness that was tried; nothing where none was."""
    scores = _scores(reporter)
    for name, score in sorted(scores.items()):
        reporter.write_sep("=", f"plait conformance: {name}")
        for number, text in ASSERTIONS.items():
            said = _said(score, number)
            if said and (len(scores) == 1 or not said.endswith("passed")):
                reporter.write_line(f"{number:3} {text}: {said}", **_colour(score, number))
        if score.not_claimed:
            listed = ", ".join(f"{what} ({count} tests)" for what, count in sorted(score.not_claimed.items()))
            reporter.write_line(f"not claimed by the adapter: {listed}")
        for number in sorted(score.pending):
            for reason in sorted(score.pending[number]):
                reporter.write_line(f"pending {number}, {reason}", yellow=True)


def _scores(reporter: pytest.TerminalReporter) -> dict[str, _Score]:
    scores: dict[str, _Score] = defaultdict(_Score)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in _reports(reporter, outcome):
            properties = dict(report.user_properties)
            number, name = properties.get("plait_assertion"), properties.get("plait_harness")
            if not isinstance(number, int) or not isinstance(name, str):
                continue
            score = scores[name]
            if outcome == "skipped":
                reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
                if reason.startswith(PENDING):
                    score.pending[number].add(reason.removeprefix(PENDING))
                elif reason.startswith(NOT_CLAIMED):
                    score.not_claimed[reason.removeprefix(NOT_CLAIMED)] += 1
            elif outcome == "passed":
                score.passed[number] += report.when == "call"
            else:
                score.failed[number] += 1
    return scores


def _reports(reporter: pytest.TerminalReporter, outcome: str) -> Iterable[pytest.TestReport]:
    return [report for report in reporter.stats.get(outcome, ()) if isinstance(report, pytest.TestReport)]


def _said(score: _Score, number: int) -> str:
    parts = []
    if score.failed[number]:
        parts.append(f"{score.failed[number]} FAILED")
    if score.pending.get(number):
        parts.append("pending")
    if score.passed[number]:
        parts.append(f"{score.passed[number]} passed")
    return ", ".join(parts)


def _colour(score: _Score, number: int) -> dict[str, bool]:
    if score.failed[number]:
        return {"red": True}
    return {"yellow": True} if score.pending.get(number) else {"green": True}
