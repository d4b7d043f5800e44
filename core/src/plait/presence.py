"""Checks that named keys and items exist (a typing error must not look like "nothing to do"), and that a store to be
removed is not in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from plait.adapter import Adapter, Capability, Side
from plait.backend import Backend
from plait.codec import decode_key, encode_key
from plait.errors import InvalidArgument, NotFound
from plait.persist import Rows
from plait.refspec import format_key
from plait.tree import Tree
from plait.types import Key, SnapshotRef, TxState

_KEYS_SHOWN, _USERS_SHOWN = 3, 10


def check_keys(backend: Backend, keys: Sequence[Key], points: Mapping[str, str]) -> None:
    """Check that each key, or a key below it, exists at one of these points (text to show → spec to resolve).

    Raises: NotFound. Cost: one look-up per point, and per point another one for each key that is only a prefix.
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
    """The first item that neither `after` nor any of `befores` holds; None if each exists in one, or if the adapter
    cannot diff items.

    An item that exists differs between `after` and one of `befores`, or between `after` and nothing. Cost: a diff of
    these items per side, until all are found. The diff from nothing, which may read the whole asset, comes last: only
    for items that are equal everywhere.
    """
    if Capability.ITEM_DIFF not in adapter.capabilities:
        return None
    sides, unseen = [*befores, None], set(items)
    for before in sides:
        if unseen:
            unseen -= {change.item for change in adapter.diff(before, after, items=sorted(unseen))}
    # The diff of a table or a folder lists the items in it, not itself: so ask for each remaining one alone.
    for item in sorted(unseen):
        if all(next(iter(adapter.diff(before, after, items=[item])), None) is None for before in sides):
            return item
    return None


def check_unused(rows: Rows, tree: Tree, store: str) -> None:
    """Check that no ref's head and no working set holds an asset of a store.

    A working set that is being discarded does not count: if its store never answers again, only removing the store
    ends it. Raises: InvalidArgument naming the users, the first keys of each, and the commands that free the store.
    Cost: one scan per ref's head.
    """
    by_head: dict[str, str] = {}
    users: dict[str, dict[str, str]] = {"branch": {}, "tag": {}, "working set": {}}
    for ref in rows.refs():
        if ref.head not in by_head:
            held = tree.scan(rows.commit(ref.head).root, prefix=encode_key((store,)))
            by_head[ref.head] = _shown(decode_key(key) for key, _ in held)
        if by_head[ref.head]:
            users[ref.kind.value][ref.name] = by_head[ref.head]
    for tx in (tx for tx in rows.live_txs() if tx.state is not TxState.ABORTING):
        if keys := _shown(one.key for one in rows.participants(tx.id) if one.key[0] == store):
            users["working set"][tx.name or tx.id] = keys
    told = [
        f"{kind} {name!r} holds assets of it ({keys})" for kind, held in users.items() for name, keys in held.items()
    ]
    if told:
        more = f", and {len(told) - _USERS_SHOWN} more" if len(told) > _USERS_SHOWN else ""
        raise InvalidArgument(
            f"store {store!r} is in use: {', '.join(told[:_USERS_SHOWN])}{more}",
            remedy="; ".join(_ways_out(store, rows.commits_by_seq([1])[1].id, users)),
            details={kind.replace(" ", "_"): ", ".join(held) for kind, held in users.items() if held},
        )


def _ways_out(store: str, empty: str, users: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A command for each kind of user. It names the user if there is only one of the kind, else says NAME.

    `empty`: the id of an empty commit.
    """
    name = {kind: next(iter(held)) if len(held) == 1 else "NAME" for kind, held in users.items()}
    if users["branch"]:
        dropping = f"'plait restore {format_key((store,))} --from {empty[:12]} --on {name['branch']}' drops them there"
        yield dropping + ("" if name["branch"] == "main" else f", or 'plait branch {name['branch']} -d'")
    if users["tag"]:
        yield f"'plait tag {name['tag']} -d'"
    if users["working set"]:
        yield f"'plait tx discard {name['working set']}'"


def _shown(keys: Iterable[Key]) -> str:
    """The first keys as text, with "…" if there are more; "" if there are none."""
    first = [format_key(key) for key in islice(keys, _KEYS_SHOWN + 1)]
    return ", ".join(first[:_KEYS_SHOWN] + (["…"] if len(first) > _KEYS_SHOWN else []))
