"""Registered mergers at work: which one merges what both sides changed, and what comes of it."""

from __future__ import annotations

import fnmatch
import mimetypes
from collections.abc import Iterator, Sequence
from typing import Final

from plait.adapter import MergeConflict, Merger
from plait.errors import PlaitError

_CONFLICT: Final = "in places that the merger {!r} found in conflict"
_PLACES_MAX, _PLACE_CHARACTERS_MAX = 5, 80


def mergers_for(path: str, mergers: Sequence[Merger]) -> Iterator[Merger]:
    """Those whose glob fits the item's path or its last part, or whose media type is that of its name, in order.

    The first one decides: a more general one may not patch together what it found in conflict.
    """
    media_type = mimetypes.guess_type(path)[0]
    name = path.rpartition("/")[2]
    for merger in mergers:
        by_name = fnmatch.fnmatchcase(path, merger.pattern) or fnmatch.fnmatchcase(name, merger.pattern)
        if by_name or merger.pattern == media_type:
            yield merger


def merged_by(merger: Merger, base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes | None, str]:
    """What anybody's merger makes of three sides, or None and why. One that fails leaves a conflict, to be settled."""
    try:
        merged = merger.merge(base, ours, theirs)
    except PlaitError:
        raise
    except MergeConflict as conflict:
        return None, f"{_CONFLICT.format(merger.name)}: {_shown(conflict.places)}"
    except Exception as error:
        return None, f"and the merger {merger.name!r} failed: {type(error).__name__}: {error}"
    if merged is None or isinstance(merged, bytes):
        return merged, _CONFLICT.format(merger.name)
    return None, f"and the merger {merger.name!r} failed: it gave {type(merged).__name__} for bytes"


def _shown(places: Sequence[str]) -> str:
    """The first places, and how many there are besides; what no database keeps is escaped."""
    more = f", and {len(places) - _PLACES_MAX} more" if len(places) > _PLACES_MAX else ""
    named = ", ".join(place[:_PLACE_CHARACTERS_MAX] for place in places[:_PLACES_MAX]) + more
    return named.replace("\0", "\\0").encode(errors="backslashreplace").decode()
