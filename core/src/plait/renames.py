"""Renames in a merge: what one side renamed meets the other side's changes under its new name.

A content id goes with an asset from key to key, so a key that went and one that came with the same id are one rename.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from plait.codec import encode_key
from plait.threeway import Candidate
from plait.types import Entry, Key

Renames = Mapping[str, tuple[Key, Key]]
"""By content id: the key before, and after."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The candidates under the keys where they meet ours. `moving`: what ours holds elsewhere, by the key that theirs
    renamed it to."""

    candidates: Sequence[Candidate]
    moving: Mapping[Key, Entry]


def renames(changes: Iterable[Candidate]) -> Renames:
    """What was renamed among the changes of one side."""
    gone: dict[str, Key] = {}
    come: dict[str, Key] = {}
    for one in changes:
        if one.base is not None and one.theirs is None:
            gone[one.base.content_id] = one.key
        elif one.base is None and one.theirs is not None:
            come[one.theirs.content_id] = one.key
    return {content_id: (gone[content_id], come[content_id]) for content_id in gone.keys() & come.keys() - {""}}


def follow(
    candidates: Sequence[Candidate],
    ours: Callable[[Iterable[Key]], Mapping[Key, Entry]],
    ours_changed: Callable[[], Iterable[Candidate]],
) -> Followed:
    """Let what theirs changed follow ours' renames, and what ours changed follow theirs'.

    Where both renamed an asset, differently, nothing is followed. `ours(keys)`: what the head holds there;
    `ours_changed()`: what it changed since the base, asked only when theirs changed a key that ours no longer has.
    """
    theirs_renamed = renames(candidates)
    held = ours([candidate.key for candidate in candidates])
    lost = any(one.base is not None and one.key not in held for one in candidates)
    ours_renamed = renames(ours_changed()) if lost else {}
    by_key = {candidate.key: candidate for candidate in candidates}
    moving: dict[Key, Entry] = {}
    for one in candidates:
        content_id = "" if one.base is None else one.base.content_id
        if one.base is None or content_id in theirs_renamed:
            continue
        if content_id in ours_renamed and one.theirs is not None and one.key not in held:
            _, new = ours_renamed[content_id]
            del by_key[one.key]
            by_key[new] = Candidate(new, replace(one.base, key=new), replace(one.theirs, key=new))
    for content_id, (old, new) in theirs_renamed.items():
        before, after = by_key[old].base, by_key[new].theirs
        assert before is not None
        assert after is not None
        if ours_renamed.get(content_id) == (old, new):
            by_key[new] = Candidate(new, replace(before, key=new), after)
        elif old in held and held[old].content_id == content_id and new not in held and held[old] != before:
            by_key[old] = Candidate(old, held[old], None)
            by_key[new] = Candidate(new, replace(before, key=new), after)
            moving[new] = replace(held[old], key=new)
    return Followed(sorted(by_key.values(), key=lambda one: encode_key(one.key)), moving)
