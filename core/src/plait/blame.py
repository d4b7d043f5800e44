"""Who last changed each item: differences between the snapshots that touched a key, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plait.backend import Backend, Side
from plait.errors import NotFound
from plait.refspec import format_key
from plait.types import Commit, ItemChangeKind, Key


@dataclass(frozen=True, slots=True)
class Blamed:
    """One item and the commit that made it what it is."""

    item: str
    commit: Commit


def blame(backend: Backend, spec: str, key: Key, items: Sequence[str] | None) -> Iterator[Blamed]:
    """The items that the asset holds at a point with the commits that last changed them, the newest commit's first.

    A merge is passed through to the side that made the change, where that is one of its parents' commits: both sides'
    changes of the key are in the history, and the first one met, newest first, is the merge itself only for what it
    joined. Raises: NotFound. Cost: see `Catalog.blame`.
    """
    if backend.get(spec, [key]).get(key) is None:
        raise NotFound(f"{format_key(key)} does not exist at {spec!r}", remedy="see 'plait ls'")
    settled: set[str] = set()
    wanted = None if items is None else set(items)
    for commit, _ in backend.history(spec, key):
        after = f"@{commit.id}"
        parents = [f"@{parent}" for parent in commit.parents]
        before = parents[0] if parents and backend.get(parents[0], [key]).get(key) else None
        merged = _merged_items(backend, key, commit)
        for change in backend.diff_items(key, Side(spec=before), Side(spec=after), items):
            if change.aspect not in ("row", "object", "file", "item") or change.item in settled:
                continue
            if change.item in merged:
                continue  # The other parent holds it just so: its own commit, further down, is to blame.
            settled.add(change.item)
            if change.kind is not ItemChangeKind.REMOVED:
                yield Blamed(change.item, commit)
        if wanted is not None and wanted <= settled:
            return


def _merged_items(backend: Backend, key: Key, commit: Commit) -> set[str]:
    """Items that a merge took over as they are: changed against its first parent, equal to another."""
    if len(commit.parents) < 2:
        return set()
    sides: list[set[str]] = []
    for parent in commit.parents:
        if backend.get(f"@{parent}", [key]).get(key) is None:
            return set()
        changes = backend.diff_items(key, Side(spec=f"@{parent}"), Side(spec=f"@{commit.id}"), None)
        sides.append({change.item for change in changes})
    return sides[0] - sides[0].intersection(*sides[1:])
