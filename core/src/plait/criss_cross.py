"""Merging where histories criss-cross: several best bases are merged into one first, as Git does.

With one of them alone, what the other one brought would count as changed on one side, and win over whoever changed it
back since. Source: the virtual merge base of Git's recursive strategy; where those bases criss-cross in their turn,
the newest of theirs is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from plait.codec import encode_key
from plait.threeway import Candidate, ThreeWay, applied
from plait.types import Entry, Key, Strategy


def rebased(
    join: ThreeWay, candidates: Sequence[Candidate], others: Sequence[Sequence[Candidate]], held: Mapping[Key, Entry]
) -> list[Candidate]:
    """The candidates since all bases merged, in key order; given are those since the first base.

    `others`: for each further base, what it changed since it parted from the first; `held`: what the first base holds
    at all of these keys. Where the bases conflict nothing is known of the base, so both sides have to agree.
    """
    of_bases = replace(
        join, bound=lambda name: False, default=Strategy.NORMAL, strategies={}, resolutions={}, adopts=False
    )
    base, conflicting = dict(held), set[Key]()
    for changes in others:
        outcome = of_bases.join(changes, base)
        conflicting.update(conflict.key for conflict in outcome.conflicts)
        base = applied(base, outcome.operations)
    theirs = {candidate.key: candidate.theirs for candidate in candidates}
    keys = {*theirs, *conflicting, *(key for key in held.keys() | base.keys() if held.get(key) != base.get(key))}
    found = []
    for key in sorted(keys, key=encode_key):
        after = theirs[key] if key in theirs else held.get(key)
        unknown = held.get(key) if after is None else None
        found.append(Candidate(key, unknown if key in conflicting else base.get(key), after))
    return found
