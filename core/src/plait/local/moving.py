"""Checks for a store that has moved: whether its new place holds the snapshots that the history names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from plait.adapter import Adapter
from plait.codec import decode_snapshot
from plait.errors import InvalidArgument
from plait.persist import Repository, Rows
from plait.refspec import format_key
from plait.store_folder import check_folder
from plait.stores import probe
from plait.transaction import Transactions
from plait.types import Depth, Lack, Mode, SnapshotRef, Store, TxState


def check_place(repository: Repository, before: Store, after: Adapter) -> Sequence[Lack]:
    """Check that an adapter with a store's new options finds all snapshots of the store. Changes nothing.

    Returns: what the new place lacks. Cost: one check of each live snapshot.
    Raises: InvalidArgument naming the first missing snapshot, StoreUnavailable for a missing folder.
    """
    if folder := after.local_folder():
        check_folder(after.store, folder)
    if missing := probe(after):
        return missing
    with repository.read() as rows:
        wanted = list(_snapshots(rows, before.name))
    verify = after.verifier(Depth.EXISTS)
    old = [
        value for name, value in before.options.items() if _is_place(value) and after.store.options.get(name) != value
    ]
    absent: list[str] = []
    for snapshot in wanted:
        problems = list(verify(snapshot).problems)
        uri = "" if problems else after.locate(snapshot).uri
        # An Iceberg table, say, names its files by absolute location: it would still be read from the old place.
        problems += [f"it is still read from {place}" for place in old if _lies_in(uri, place, after.store)]
        absent += [f"{snapshot.asset} at {snapshot.version}: {problem}" for problem in problems[:1]]
    if absent:
        raise InvalidArgument(
            f"store {before.name!r} is not there: of its {len(wanted)} snapshots, {len(absent)} would be lost, "
            f"first {absent[0]}",
            remedy="copy the whole store there first, or name the place that holds it; "
            "what names its files by absolute paths, as Iceberg's tables do, has to come back to where it was",
        )
    return ()


def check_unstaged(transactions: Transactions, store: str) -> None:
    """Raises: InvalidArgument if a working set has staged something in the store: stagings hold the old locations."""
    for tx in transactions.live():
        if tx.state is TxState.ABORTING:
            continue
        for one in transactions.participants(tx.id):
            if one.key[0] == store and one.staging is not None:
                raise InvalidArgument(
                    f"working set {tx.name or tx.id} has staged {format_key(one.key)}, where store {store!r} is now",
                    remedy=f"commit it first, or 'plait tx discard {tx.name or tx.id}'",
                )


def with_options(store: Store, options: dict[str, str]) -> Store:
    """The store with some options replaced; what is set to nothing is taken away.

    Raises: InvalidArgument for a pointer store, which has no place.
    """
    if store.mode is Mode.POINTER:
        raise InvalidArgument(f"store {store.name!r} only records locations, so it is nowhere itself")
    given = {**store.options, **options}
    return replace(store, options={name: value for name, value in given.items() if value or name not in options})


def _snapshots(rows: Rows, store: str) -> Iterator[SnapshotRef]:
    for row in rows.all_snapshots().values():
        if row.state == "live":
            snapshot = decode_snapshot(row.body)
            if snapshot.store == store:
                yield snapshot


def _is_place(value: str) -> bool:
    return value.startswith("/") or "://" in value


def _lies_in(uri: str, place: str, now: Store) -> bool:
    """Whether a location is below the old place, and not below a new one (which may lie inside the old one)."""
    inside = any(value.rstrip("/") in uri for value in now.options.values() if _is_place(value))
    return place.rstrip("/") + "/" in uri + "/" and not inside
