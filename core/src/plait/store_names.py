"""Look-up of stores by name; the error for an unknown one lists those that exist, and the one that may be meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from plait.errors import NotFound
from plait.types import Store

T = TypeVar("T")
_SHOWN_MAX = 10


def known_store(stores: Mapping[str, T], name: str) -> T:
    """The store of this name. Raises: NotFound naming those that exist."""
    if name not in stores:
        raise no_store(name, stores)
    return stores[name]


def check_known(stores: Iterable[Store], name: str) -> None:
    """Raises: NotFound naming the stores that exist, if none of these has the name."""
    known_store({store.name: store for store in stores}, name)


def no_store(name: str, known: Collection[str]) -> NotFound:
    """The error for a store that is not among the known ones."""
    shown = ", ".join(sorted(known)[:_SHOWN_MAX]) + (", …" if len(known) > _SHOWN_MAX else "")
    similar = get_close_matches(name, known, 1)
    meant = f"write {similar[0]!r}, if that is meant" if similar else "see 'plait store list'"
    return NotFound(
        f"store {name!r} does not exist; there {f'are: {shown}' if known else 'is none'}",
        remedy=f"{meant}, or add it with 'plait store add'",
    )
