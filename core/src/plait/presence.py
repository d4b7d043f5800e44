"""Whether what is named is anywhere: a typing error must not look like nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plait.adapter import Adapter, Capability, Side
from plait.backend import Backend
from plait.errors import NotFound
from plait.refspec import format_key
from plait.types import Key, SnapshotRef


def check_keys(backend: Backend, keys: Sequence[Key], points: Mapping[str, str]) -> None:
    """That each key, or something below it, is held by some point (the text to show → the spec to ask).

    Raises: NotFound. Cost: one look-up for each point, and a second one for each key that is only a prefix.
    """
    held = {key for spec in points.values() for key in backend.get(spec, keys)} if keys else set()
    for key in keys:
        if key not in held and all(next(iter(backend.scan(spec, key)), None) is None for spec in points.values()):
            shown = " nor at ".join(points)
            raise NotFound(
                f"{format_key(key)} does not exist at {shown}",
                remedy=f"see 'plait ls --at {list(points)[-1]}' for what is there",
            )


def first_absent(adapter: Adapter, items: Sequence[str], after: SnapshotRef, befores: Sequence[Side]) -> str | None:
    """An item that neither `after` nor any of `befores` holds; None where all are somewhere, or nobody can tell.

    What is somewhere differs from one of them or from nothing. Cost: a diff of these items from each, until all are
    found: that from nothing, which may read all of the asset, only for items that are the same everywhere.
    """
    if Capability.ITEM_DIFF not in adapter.capabilities:
        return None
    sides, unseen = [*befores, None], set(items)
    for before in sides:
        if unseen:
            unseen -= {change.item for change in adapter.diff(before, after, items=sorted(unseen))}
    # A table or a folder is there by what lies in it.
    for item in sorted(unseen):
        if all(next(iter(adapter.diff(before, after, items=[item])), None) is None for before in sides):
            return item
    return None
