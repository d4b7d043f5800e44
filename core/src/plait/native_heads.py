"""A native head can follow only one key: which assets a commit brings to a branch, and which keys hold them already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from plait.errors import AlreadyExists, NotFound
from plait.persist import Rows
from plait.refspec import format_key
from plait.transaction import entries_at
from plait.tree import Tree
from plait.types import Entry, Key, Operation, Put

Asset = tuple[str, str]
"""A store, and an asset in it."""


def assets_coming(operations: Sequence[Operation], ours: Mapping[Key, Entry]) -> dict[Asset, Key]:
    """The assets that operations put under keys that do not hold them yet, each with its key.

    Raises: AlreadyExists for an asset that is put under two keys.
    """
    coming: dict[Asset, Key] = {}
    for one in operations:
        if not isinstance(one, Put) or keeps_asset(one, ours):
            continue
        asset = one.snapshot.store, one.snapshot.asset
        if asset in coming:
            raise _held(one.key, asset, coming[asset])
        coming[asset] = one.key
    return coming


def keeps_asset(one: Operation, ours: Mapping[Key, Entry]) -> bool:
    """Whether a key holds the same asset after the operation as before."""
    return isinstance(one, Put) and one.key in ours and ours[one.key].snapshot.asset == one.snapshot.asset


def check_not_held(rows: Rows, tree: Tree, root: bytes, coming: Mapping[Asset, Key], leaving: Collection[Key]) -> None:
    """Raises: AlreadyExists if another key holds a coming asset at this root, and is not one of those leaving it.

    Cost: reads one row and one path of the tree for each asset.
    """
    for asset, key in coming.items():
        try:
            holder = rows.publication(*asset).key
        except NotFound:
            continue
        if holder != key and holder not in leaving and still_holds(rows, tree, root, holder, asset):
            raise _held(key, asset, holder)


def still_holds(rows: Rows, tree: Tree, root: bytes, key: Key, asset: Asset) -> bool:
    """Whether this key (the one under which the asset was last published, say) holds the asset at this root."""
    held = entries_at(rows, tree, root, [key]).get(key)
    return held is not None and (held.snapshot.store, held.snapshot.asset) == asset


def _held(key: Key, asset: Asset, holder: Key) -> AlreadyExists:
    return AlreadyExists(
        f"{format_key(key)} would hold {asset[1]!r}, which {format_key(holder)} holds already",
        remedy=f"work with {format_key(holder)}, or rename it: 'plait mv {format_key(holder)} {format_key(key)}'",
    )
