"""Merging where histories criss-cross: several best merge bases are merged into one first, as Git does.

With one base alone, a change that came from another base would look like a change of one side, and would win over a
side that undid it since. Source: the virtual merge base of Git's recursive strategy. Where the bases criss-cross in
their turn, the newest of their own bases is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plait.codec import encode_key
from plait.renames import follow
from plait.threeway import Candidate, ThreeWay, applied, join_both
from plait.types import Entry, Key, Strategy


@dataclass(frozen=True, slots=True)
class Parted:
    """What the first base and another one changed, each, since they parted."""

    first: Sequence[Candidate]
    other: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Bases:
    """All bases, merged into one.

    `first`: what the first base holds at the keys where others differ from it. `merged`: the merged base's entries
    there. `unknown`: keys at which the bases conflict; there no base is known, so both sides have to agree.
    """

    first: Mapping[Key, Entry]
    merged: Mapping[Key, Entry]
    unknown: frozenset[Key]

    def since(self, changes: Sequence[Candidate]) -> list[Candidate]:
        """What a side changed since the merged base, in key order. `changes`: what it changed since the first base."""
        found = {one.key: one for one in changes}
        for key in self.first.keys() | self.merged.keys() | self.unknown:
            here = self.first.get(key)
            changed = found.get(key, Candidate(key, here, here))
            if key in self.unknown:
                # A key that is gone counts as changed: at least one of the bases held something there.
                found[key] = replace(changed, base=None if changed.theirs is not None else here)
            else:
                found[key] = replace(changed, base=self.merged.get(key))
        return sorted(found.values(), key=lambda one: encode_key(one.key))


def merged_bases(join: ThreeWay, held: Mapping[Key, Entry], others: Sequence[Parted]) -> Bases:
    """Merge the other bases into the first, following renames. `held`: what the first holds at keys they changed."""
    of_bases = replace(
        join, bound=lambda name: False, default=Strategy.NORMAL, strategies={}, resolutions={}, adopts=False
    )
    first, merged, unknown = dict(held), dict(held), set[Key]()
    for parted in others:
        followed = follow(parted.other, merged, lambda parted=parted: parted.first)  # type: ignore[misc]
        first = {**followed.ours, **first}
        merged = {**followed.ours, **merged}
        outcome = join_both(of_bases, followed.candidates, (), merged, followed.moving, {})
        unknown.update(conflict.key for conflict in outcome.conflicts)
        merged = applied(merged, outcome.operations)
    return Bases(first, merged, frozenset(unknown))
