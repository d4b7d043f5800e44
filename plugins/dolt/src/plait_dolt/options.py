"""What the options of a store of kind `dolt` say."""

from __future__ import annotations

from typing import Final

from plait.adapter import folder_option
from plait.errors import InvalidArgument
from plait.types import Store
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from plait_dolt.names import OWN

_KNOWN: Final = {"url": frozenset({"password", "tls_ca", "branch", "reserve"}), "path": frozenset({"branch"})}
"""The option that decides the engine, with what else can be said of it."""


def where_of(store: Store) -> str:
    """Which option says where the databases are. Raises: InvalidArgument."""
    given = [name for name in _KNOWN if name in store.options]
    if len(given) != 1:
        raise InvalidArgument(
            f"store {store.name!r} needs one of the options 'url' and 'path'",
            remedy="write --option url=mysql://user@127.0.0.1:3306 for a server, --option path=/data/dolt for doltlite",
        )
    (where,) = given
    for name in store.options:
        if name != where and name not in _KNOWN[where]:
            known = ", ".join(sorted(_KNOWN[where]))
            raise InvalidArgument(
                f"stores of kind 'dolt' with a {where} have no option {name!r}", remedy=f"known: {known}"
            )
    if where == "url":
        read_url(store.options["url"], store.name)
    else:
        folder_option(store, "path")
    return where


def reserved_of(store: Store, branch: str) -> tuple[str, ...]:
    """Patterns of the branches that others may only read. Raises: InvalidArgument."""
    wanted = store.options.get("reserve", "nothing")
    known = {"nothing": (), "working-sets": (f"{OWN}%",), "all": (f"{OWN}%", branch)}
    if wanted not in known:
        raise InvalidArgument(
            f"option 'reserve' of store {store.name!r} is {wanted!r}", remedy=f"write one of {', '.join(known)}"
        )
    return known[wanted]


def read_url(text: str, store: str) -> URL:
    """Check the option `url`. Raises: InvalidArgument, without showing a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise InvalidArgument(
            f"option 'url' of store {store!r} is no address", remedy="write url=mysql://user@127.0.0.1:3306"
        ) from error
    if url.drivername not in ("mysql", "mysql+pymysql") or not url.host:
        raise InvalidArgument(
            f"option 'url' of store {store!r} is for {url.drivername}, a Dolt server speaks MySQL's protocol",
            remedy="write url=mysql://user@127.0.0.1:3306",
        )
    if url.password is not None:
        raise InvalidArgument(
            f"option 'url' of store {store!r} holds a password in clear",
            remedy="leave it out, and write password=env:NAME or password=file:PATH",
        )
    if url.database or url.query:
        raise InvalidArgument(
            f"option 'url' of store {store!r} names more than a server: keys name its databases",
            remedy="write url=mysql://user@127.0.0.1:3306",
        )
    return url
