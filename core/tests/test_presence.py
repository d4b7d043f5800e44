"""Which of the items that are named are nowhere, and what it costs to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pytest
from plait.adapter import Adapter, Capability
from plait.presence import first_absent
from plait.types import ItemChange, ItemChangeKind, SnapshotRef

HELD = {"before": {"a/1", "b"}, "after": {"a/1", "c"}}
"""What the two snapshots hold; what they share is the same in both."""


class Folders:
    """Items in folders: whoever asks for a folder is told of what lies in it."""

    def __init__(self, *capabilities: Capability) -> None:
        self.capabilities = frozenset(capabilities)
        self.asked: list[tuple[str | None, tuple[str, ...]]] = []

    def diff(
        self, before: SnapshotRef | None, after: SnapshotRef, *, items: Sequence[str] | None = None
    ) -> Iterator[ItemChange]:
        assert items is not None
        self.asked.append((before and before.version, tuple(items)))
        differing = HELD[after.version] ^ (HELD[before.version] if before else set())
        return iter(
            ItemChange(item, ItemChangeKind.CHANGED, "object", None, None)
            for item in sorted(differing)
            if any(item == name or item.startswith(f"{name}/") for name in items)
        )


def absent(store: Folders, *items: str) -> str | None:
    before, after = (SnapshotRef("s", "k", "a", version, b"") for version in ("before", "after"))
    return first_absent(cast(Adapter, store), items, after, [before])


@pytest.mark.parametrize(
    ("items", "expected"),
    [(("a/1", "b", "c"), None), (("a",), None), (("a", "d"), "d"), (("b", "a/2"), "a/2"), (("d", "e"), "d")],
)
def test_an_item_is_somewhere_if_any_side_holds_it_or_what_lies_in_it(
    items: tuple[str, ...], expected: str | None
) -> None:
    assert absent(Folders(Capability.ITEM_DIFF), *items) == expected


def test_the_whole_asset_is_looked_at_only_for_items_that_are_the_same_everywhere() -> None:
    store = Folders(Capability.ITEM_DIFF)
    assert absent(store, "b", "c") is None
    assert store.asked == [("before", ("b", "c"))]
    store.asked.clear()
    assert absent(store, "a/1", "b") is None
    assert store.asked == [("before", ("a/1", "b")), (None, ("a/1",))]


def test_a_store_that_cannot_tell_items_apart_is_not_asked() -> None:
    store = Folders(Capability.ITEM_RESTORE)
    assert absent(store, "d") is None
    assert store.asked == []
