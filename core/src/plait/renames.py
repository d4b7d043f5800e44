"""Renames in a merge: when one side renamed an asset, the other side's changes to it follow to its new key.

An asset keeps its content id when it is renamed. So a key that is gone and a new key with the same id are one rename.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plait.codec import encode_key
from plait.threeway import Candidate
from plait.types import Entry, Key

Sides = tuple[Entry | None, Entry | None]
"""The entries of one change, before and after."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The candidates, each under the key where it meets ours.

    `ours`: the head's entries at the keys that ours renamed assets to. `moving`: entries that the head still holds at
    their old keys, by the key that theirs renamed them to.
    """

    candidates: Sequence[Candidate]
    ours: Mapping[Key, Entry] = field(default_factory=dict)
    moving: Mapping[Key, Entry] = field(default_factory=dict)


def renames(changes: Iterable[Sides]) -> dict[str, tuple[Entry, Entry]]:
    """The renames among these changes: the entries before and after, by content id."""
    gone: dict[str, Entry] = {}
    come: dict[str, Entry] = {}
    for before, after in changes:
        if before is not None and after is None:
            gone[before.content_id] = before
        elif before is None and after is not None:
            come[after.content_id] = after
    return {content_id: (gone[content_id], come[content_id]) for content_id in gone.keys() & come.keys() - {""}}


def follow(
    candidates: Sequence[Candidate], ours: Mapping[Key, Entry], ours_changed: Callable[[], Iterable[Candidate]]
) -> Followed:
    """Make theirs' changes follow ours' renames, and ours' changes follow theirs' renames.

    An asset that both sides renamed, differently, becomes one candidate at ours' key, with theirs' key in `renamed_to`;
    one that a side renamed and the other deleted, at its new key, with its old one in `renamed_from`.
    Where theirs has a candidate at ours' new key already, the change does not follow.
    `ours`: what the head holds at the candidates' keys. `ours_changed()`: what the head changed since the base; called
    only when theirs changed a key that ours no longer has.
    """
    theirs_renamed = renames((one.base, one.theirs) for one in candidates)
    lost = [one for one in candidates if one.base is not None and one.key not in ours]
    ours_renamed = renames((one.base, one.theirs) for one in ours_changed()) if lost else {}
    by_key = {candidate.key: candidate for candidate in candidates}
    met: dict[Key, Entry] = {}
    moving: dict[Key, Entry] = {}
    for one in lost:
        assert one.base is not None
        content_id = one.base.content_id
        if content_id in ours_renamed and content_id not in theirs_renamed:
            _, now = ours_renamed[content_id]
            if now.key in by_key:
                continue
            del by_key[one.key]
            was = replace(one.base, key=now.key)
            if one.theirs is None:
                by_key[now.key] = Candidate(now.key, was, None, renamed_from=one.key)
            else:
                by_key[now.key] = Candidate(now.key, was, replace(one.theirs, key=now.key))
            met[now.key] = now
    for content_id, (before, after) in theirs_renamed.items():
        old, new = before.key, after.key
        since = Candidate(new, replace(before, key=new), after)
        held = ours.get(old)
        if content_id in ours_renamed:
            _, now = ours_renamed[content_id]
            if now.key == new:
                by_key[new] = since
            elif now.key not in by_key:
                del by_key[old], by_key[new]
                here, there = replace(before, key=now.key), replace(after, key=now.key)
                by_key[now.key] = Candidate(now.key, here, there, renamed_to=new)
                met[now.key] = now
        elif held is not None and held.content_id == content_id and new not in ours and held != before:
            by_key[old] = Candidate(old, held, None)
            by_key[new] = since
            moving[new] = replace(held, key=new)
        elif held is None and new not in ours:
            by_key[new] = replace(since, renamed_from=old)
    return Followed(sorted(by_key.values(), key=lambda one: encode_key(one.key)), met, moving)
