"""What an export would do: the names that may differ, and for each what is there against what is to be there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from plait.adapter import Progress
from plait.errors import Corrupt

from plait_s3.export_state import State
from plait_s3.manifest import Entry
from plait_s3.parallel import side_by_side
from plait_s3.selection import Selected, Selection, content_of, size_of
from plait_s3.targets import Held, Target


class Action(StrEnum):
    """What an export does to one name: EDITED alone keeps the whole export from being done."""

    WRITE = "write"
    DELETE = "delete"
    LEAVE = "leave"
    EDITED = "edited"


@dataclass(frozen=True, slots=True)
class Step:
    """One name, and what is done to it; `size_bytes` of what is written, or else of what is there."""

    name: str
    action: Action
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Rules:
    """As `plait_s3.export` takes them."""

    delete: bool
    force: bool
    check: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Found:
    """One name: what is to be there, and what is; `holds`: the content that it is known to have, "" where unknown."""

    name: str
    entry: Entry | None
    held: Held | None
    holds: str = ""


class Comparison:
    """One selection against one target. Reads, and writes nothing."""

    def __init__(
        self, selected: Selected, selection: Selection, target: Target, state: State, rules: Rules, progress: Progress
    ) -> None:
        self._selected = selected
        self._selection = selection
        self._target = target
        self._state = state
        self._rules = rules
        self._progress = progress
        self.disturbed: set[str] = set()
        """Names whose records were of no use."""

    def steps(self, found: Sequence[Found]) -> list[Step]:
        seen = {one.name for one in found}
        return [*(step for one in found if (step := self._step(one)) is not None), *self._left(seen)]

    def look(self) -> list[Found]:
        """Every name that may differ, in order."""
        known, names = self._names()
        entries = self._selected.find(self._selection, names)

        def look(name: str) -> Found:
            entry, held = entries.get(name), self._target.held(name)
            same = entry is not None and held is not None and held.holds(content_of(entry))
            return Found(name, entry, held, content_of(entry) if entry is not None and same else "")

        ordered = sorted(names, key=os.fsencode)
        found = side_by_side(look, ordered, lambda done: self._progress("comparing", done, len(ordered)))
        unsure = [one.name for one in found if one.held is not None and not one.holds]
        once = [self._selected.find(selection, unsure) for selection in known]

        def recognize(one: Found) -> Found:
            if one.held is None or one.holds:
                return one
            contents = [content_of(entries[one.name]) for entries in once if one.name in entries]
            if one.name in self._state.records:
                contents.append(self._state.records[one.name].content)
            return replace(one, holds=next(filter(one.held.holds, contents), ""))

        return side_by_side(recognize, found)

    def _names(self) -> tuple[list[Selection], set[str]]:
        """The selections whose manifests are still there, and the names to look at."""
        known: list[Selection] = []
        names: set[str] = set()
        for one in self._state.known:
            try:
                names.update(
                    self._selected.changed(one, self._selection)
                    if one.is_scoped_as(self._selection)
                    else (name for name, _ in self._selected.entries(one))
                )
                known.append(one)
            except Corrupt:
                # What it named is forgotten; what is not recognized then counts as edited.
                continue
        whole = len(known) < len(self._state.known) or any(not one.is_scoped_as(self._selection) for one in known)
        whole = whole or self._state.done is None or self._rules.check
        if whole or (self._rules.delete and not self._target.remembers_all):
            names.update(name for name, _ in self._selected.entries(self._selection))
            names |= self._state.records.keys()
            self._target.names()
        self.disturbed = self._target.disturbed(self._state, check=self._rules.check)
        names |= self.disturbed
        if self._rules.delete:
            there = self._target.names()
            names.update(name for name, one in self._state.records.items() if one.is_left)
            names.update(there - self._state.records.keys() if self._target.remembers_all else there)
        return known, names

    def _step(self, one: Found) -> Step | None:
        is_ours = one.held is None or bool(one.holds) or self._rules.force
        if one.entry is not None:
            if one.holds == content_of(one.entry):
                return None
            return Step(one.name, Action.WRITE if is_ours else Action.EDITED, one.entry.size_bytes)
        if one.held is None:
            return None
        if self._rules.delete:
            return Step(one.name, Action.DELETE if is_ours else Action.EDITED, one.held.size_bytes)
        return Step(one.name, Action.LEAVE, one.held.size_bytes) if one.holds else None

    def _left(self, seen: Collection[str]) -> Iterator[Step]:
        """What was left over before, and is of no concern to this export."""
        for name, record in self._state.records.items():
            if record.is_left and name not in seen:
                yield Step(name, Action.LEAVE, size_of(record.content))
