"""The adapter in a catalog against a plain model: whatever is done in whatever order, every commit reads back equal.

Few examples by default; PLAIT_SOAK=1 runs many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import plait
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from plait.adapter import Capability
from plait.errors import CommitConflict, NotFound, NothingToCommit
from plait.types import Choice, Commit, Depth

from plait_conformance.harness import Harness, Rows
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite.history import History
from plait_conformance.suite.trial import ITEM_ASPECTS

SOAK = os.environ.get("PLAIT_SOAK") == "1"

ROWS = st.sampled_from([f"r{number}" for number in range(4)])
EDITS = st.dictionaries(ROWS, st.none() | st.sampled_from(["a", "b", "ç d"]), min_size=1, max_size=3)
PICK = st.integers(0, 1_000)
KEPT = {"r100": "kept"}


def join(base: Rows, ours: Rows, theirs: Rows) -> tuple[dict[str, str], set[str]]:
    """Three-way by row: what it gives, with ours where both changed it differently; and those rows."""
    merged, conflicts = {}, set()
    for row in base.keys() | ours.keys() | theirs.keys():
        old, mine, others = base.get(row), ours.get(row), theirs.get(row)
        text = others if mine == old else mine
        if old != mine and old != others and mine != others:
            conflicts.add(row)
        if text is not None:
            merged[row] = text
    return merged, conflicts


@dataclass
class _Open:
    """A working set, and what the model says it has changed."""

    tx: plait.WorkingSet
    branch: str
    base: Commit
    rows: dict[str, str]
    edits: dict[str, str | None] = field(default_factory=dict)


class Model(RuleBasedStateMachine):
    """Branches, commits, merges, reverts and restores over one asset; `commits` is what each must hold."""

    make: Callable[[], History]

    def __init__(self) -> None:
        super().__init__()
        self.history = self.make()
        self.commits: dict[str, Rows] = {}
        self.sets: list[_Open] = []

    @initialize()
    def begin(self) -> None:
        self._know(self.history.write({**KEPT, "r0": "a"}), {**KEPT, "r0": "a"})

    # -- rules -------------------------------------------------------------------------------------------------------

    @rule(edits=EDITS, branch=PICK)
    def write(self, edits: Mapping[str, str | None], branch: int) -> None:
        name = self._branch(branch)
        held = self._held(name)
        changes = {row: text for row, text in edits.items() if held.get(row) != text}
        if changes:
            self._know(self.history.write(changes, name), edited(held, changes))

    @rule(at=PICK)
    def create_branch(self, at: int) -> None:
        names = self._branches()
        if len(names) < 3:
            self.history.catalog.create_branch(f"b{len(names)}", f"@{self._commit(at)}")

    @rule(source=PICK, into=PICK, choice=st.sampled_from([Choice.OURS, Choice.THEIRS]))
    def merge(self, source: int, into: int, choice: Choice) -> None:
        theirs, ours = self._branch(source), self._branch(into)
        base = self.history.catalog.merge_base(ours, theirs)
        assert base is not None
        sides = self.commits[base.id], self._held(ours), self._held(theirs)
        try:
            self._know(self.history.catalog.merge(theirs, ours), self._joined(*sides))
        except NothingToCommit:
            assert base.id == self.history.catalog.resolve(theirs).id
        except CommitConflict as error:
            self._settle(self.history.catalog.working_set(error.details["tx"]), sides, choice)

    @rule(branch=PICK)
    def revert(self, branch: int) -> None:
        name = self._branch(branch)
        head = self.history.catalog.resolve(name)
        before = self.commits.get(head.parents[0])
        if before is not None and before != self.commits[head.id]:
            self._know(self.history.catalog.revert(name, name), before)

    @rule(branch=PICK, commit=PICK, rows=st.sets(ROWS, min_size=1, max_size=2))
    def restore_items(self, branch: int, commit: int, rows: set[str]) -> None:
        if not self.history.can(Capability.ITEM_RESTORE):
            return
        name, spec = self._branch(branch), self._commit(commit)
        then, now = self.commits[spec], self._held(name)
        changes = {row: then.get(row) for row in rows if then.get(row) != now.get(row)}
        items = [self.history.harness.item(row) for row in sorted(rows)]
        if self.history.can(Capability.ITEM_DIFF) and not rows <= {*then, *now}:
            with pytest.raises(NotFound, match="does not exist at"):
                self.history.catalog.restore(f"@{spec}", name, items={self.history.key: items})
        elif changes:
            restored = self.history.catalog.restore(f"@{spec}", name, items={self.history.key: items})
            self._know(restored, edited(now, changes))

    @rule(branch=PICK, edits=EDITS)
    def open_working_set(self, branch: int, edits: Mapping[str, str | None]) -> None:
        name = self._branch(branch)
        base = self.history.catalog.resolve(name)
        held = self.commits[base.id]
        changes = {row: text for row, text in edits.items() if held.get(row) != text}
        if changes and len(self.sets) < 2:
            tx = self.history.catalog.begin(name)
            self.history.edit(tx, changes)
            self.sets.append(_Open(tx, name, base, edited(held, changes)))

    @rule(choice=st.sampled_from([Choice.OURS, Choice.THEIRS]))
    def commit_working_set(self, choice: Choice) -> None:
        if not self.sets:
            return
        one = self.sets.pop(0)
        sides = self.commits[one.base.id], self._held(one.branch), one.rows
        tx = self.history.catalog.working_set(one.tx.id)
        try:
            self._know(tx.commit(), self._joined(*sides))
        except NothingToCommit:
            assert join(*sides)[0] == sides[1]
            tx.discard()
        except CommitConflict:
            self._settle(tx, sides, choice)

    @rule()
    def discard_working_set(self) -> None:
        if self.sets:
            self.history.catalog.working_set(self.sets.pop().tx.id).discard()

    @rule()
    def reopen(self) -> None:
        self.history.reopen()

    @rule(before=PICK, after=PICK)
    def diff(self, before: int, after: int) -> None:
        if not self.history.can(Capability.ITEM_DIFF):
            return
        old, new = self._commit(before), self._commit(after)
        changes = self.history.catalog.diff_items(self.history.key, f"@{old}", f"@{new}")
        found = {change.item for change in changes if change.aspect in ITEM_ASPECTS}
        left, right = self.commits[old], self.commits[new]
        differing = {row for row in left.keys() | right.keys() if left.get(row) != right.get(row)}
        assert found == {self.history.harness.item(row) for row in differing}

    # -- what must hold ----------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            for one in self.sets:
                self.history.catalog.working_set(one.tx.id).discard()
            for commit, rows in self.commits.items():
                assert self.history.held(f"@{commit}") == rows
            assert self.history.catalog.publish() == []
            assert list(self.history.catalog.verify(Depth.BYTES)) == []
        finally:
            self.history.close()
            self.history.harness.close()

    # -- parts -------------------------------------------------------------------------------------------------------

    def _branches(self) -> list[str]:
        return [ref.name for ref in self.history.catalog.refs()]

    def _branch(self, pick: int) -> str:
        names = self._branches()
        return names[pick % len(names)]

    def _commit(self, pick: int) -> str:
        return list(self.commits)[pick % len(self.commits)]

    def _held(self, branch: str) -> Rows:
        return self.commits[self.history.catalog.resolve(branch).id]

    def _know(self, commit: Commit, rows: Rows) -> None:
        assert self.history.held(f"@{commit.id}") == rows
        self.commits[commit.id] = dict(rows)

    def _joined(self, base: Rows, ours: Rows, theirs: Rows) -> dict[str, str]:
        merged, conflicts = join(base, ours, theirs)
        assert not conflicts, f"both sides changed {sorted(conflicts)}, and nobody was told"
        return merged

    def _settle(self, tx: plait.WorkingSet, sides: tuple[Rows, Rows, Rows], choice: Choice) -> None:
        base, ours, theirs = sides
        merged, conflicts = join(base, ours, theirs)
        if self.history.can(Capability.MERGE):
            named = {conflict.item for conflict, _ in tx.conflicts()}
            assert named == {self.history.harness.item(row) for row in conflicts}
            if choice is Choice.THEIRS:
                merged = edited(merged, {row: theirs.get(row) for row in conflicts})
        else:
            merged = dict(ours if choice is Choice.OURS else theirs)
        tx.resolve_all(choice)
        self._know(tx.commit(allow_empty=True), merged)


def edited(rows: Rows, edits: Mapping[str, str | None]) -> dict[str, str]:
    return {row: text for row, text in {**rows, **edits}.items() if text is not None}


@pytest.mark.assertion(2)
class TestModel:
    @pytest.mark.timeout(0 if SOAK else 600)
    def test_every_commit_reads_back_equal_whatever_was_done(
        self, harness: Harness, make_harness: MakeHarness, tmp_path: Path
    ) -> None:
        made = 0

        def make() -> History:
            nonlocal made
            made += 1
            folder = tmp_path / f"example-{made}"
            (folder / "store").mkdir(parents=True)
            return History(make_harness(folder / "store"), folder / "catalog")

        machine = type("Machine", (Model,), {"make": staticmethod(make)})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=200 if SOAK else 4,
                stateful_step_count=40 if SOAK else 15,
                deadline=None,
                database=None,
                derandomize=not SOAK,
                print_blob=True,
                phases=list(Phase) if SOAK else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
