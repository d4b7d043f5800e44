"""A catalog as a plain model: dictionaries, copied whole, and the rules of three-way joins written down once more.

A state maps a key to its asset: who it is, and its items. A commit is a state with parents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from plait.types import Key


@dataclass(frozen=True, slots=True)
class Asset:
    """What a key holds; two assets of equal content under one key are still two."""

    identity: int
    items: Mapping[str, int]


State = Mapping[Key, Asset]
Side = Asset | None


@dataclass(frozen=True, slots=True)
class ModelCommit:
    """`number` grows along the history, as `seq` does."""

    number: int
    parents: tuple[ModelCommit, ...]
    state: State

    def ancestors(self) -> dict[int, ModelCommit]:
        """Itself and all that it descends from, by number."""
        found, waiting = {self.number: self}, [self]
        while waiting:
            for parent in waiting.pop().parents:
                if parent.number not in found:
                    found[parent.number] = parent
                    waiting.append(parent)
        return found


@dataclass(slots=True)
class ModelTx:
    """A working set: what it began from, and what it changed by itself or by merging `theirs`."""

    branch: str
    base: State
    own: dict[Key, Side] = field(default_factory=dict)
    theirs: ModelCommit | None = None
    merge_base: State | None = None

    def held(self, key: Key) -> Side:
        """What the working set's user sees under a key."""
        return self.own[key] if key in self.own else self.base.get(key)

    def candidates(self) -> Iterator[tuple[Key, Side, Side]]:
        """(key, base, theirs) of every change that is to be joined with the branch."""
        if self.theirs is not None and self.merge_base is not None:
            for key in sorted({*self.merge_base, *self.theirs.state}):
                yield key, self.merge_base.get(key), self.theirs.state.get(key)
        for key, side in self.own.items():
            yield key, self.base.get(key), side


@dataclass(frozen=True, slots=True)
class Joined:
    """The state that a join leads to, and how many conflicts had to be settled for it."""

    state: State
    conflicts: int


def merge_base(ours: ModelCommit, theirs: ModelCommit) -> ModelCommit:
    """The youngest commit that both descend from."""
    common = ours.ancestors().keys() & theirs.ancestors().keys()
    return ours.ancestors()[max(common)]


def join(head: State, candidates: Iterator[tuple[Key, Side, Side]]) -> Joined:
    """Every candidate joined with what the head holds; conflicts are settled by taking theirs."""
    state, conflicts = dict(head), 0
    for key, base, theirs in candidates:
        ours = head.get(key)
        result, found = _decide(base, ours, theirs)
        conflicts += found
        if result is None:
            state.pop(key, None)
        else:
            state[key] = result
    return Joined(state, conflicts)


def _decide(base: Side, ours: Side, theirs: Side) -> tuple[Side, int]:
    if theirs in (ours, base):
        return ours, 0
    if ours == base:
        return theirs, 0
    if ours is None or theirs is None or len({side.identity for side in (base, ours, theirs) if side is not None}) > 1:
        return theirs, 1
    items: dict[str, int] = {}
    conflicts = 0
    for item in {*(base.items if base else {}), *ours.items, *theirs.items}:
        before, left, right = (side.items.get(item) if side else None for side in (base, ours, theirs))
        value = left if right in (left, before) else right
        conflicts += left != before and right not in (left, before)
        if value is not None:
            items[item] = value
    return Asset(ours.identity, items), conflicts
