"""Configured stores and their adapters: one instance per store, made on first use, handed out until its row changes."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from plait.adapter import Adapter, Capability, Context, Progress
from plait.clock import Clock
from plait.codec import check_text
from plait.errors import InvalidArgument, NotFound, StoreUnavailable, Unsupported
from plait.persist import Repository
from plait.plugins import Plugins
from plait.refspec import check_key, check_ref_name
from plait.store_folder import check_folder
from plait.types import Lack, Mode, Store
from plait.waiting import check_cancelled, handing_over

T = TypeVar("T")
_KNOWN_SECONDS = 1.0
_NAMED_SECRET = re.compile(r"(env|file):.", re.DOTALL)
_SECRET = re.compile(
    r"secret|passw|passphrase|token|credential|signature|(private|api|account)[-_.]?key", re.IGNORECASE
)
"""What the names of secrets hold."""
_URL_PASSWORD = re.compile(r"[^/]*://[^/@]*:[^/@]+@")


class RowState:
    """An adapter's small durable map, in the catalog's database."""

    def __init__(self, repository: Repository, store: str) -> None:
        self._repository = repository
        self._store = store

    def get(self, name: str) -> bytes | None:
        with self._repository.read() as rows:
            return rows.state(self._store, name)

    def compare_and_set(self, name: str, expected: bytes | None, value: bytes | None) -> bool:
        with self._repository.write() as rows:
            return rows.swap_state(self._store, name, expected, value)


class NoState:
    """The state for adapters in a client's process: always empty, keeps nothing."""

    def get(self, name: str) -> bytes | None:
        return None

    def compare_and_set(self, name: str, expected: bytes | None, value: bytes | None) -> bool:
        return False


def side_by_side(executor: Executor, call: Callable[[T], None], items: Sequence[T]) -> None:
    """Call for every item at the same time, and wait for all. Raises: the error of the first item that failed."""
    if len(items) < 2:
        for item in items:
            call(item)
        return
    calls = [executor.submit(handing_over(call), item) for item in items]
    wait(calls)
    for ended in calls:
        ended.result()


def resolve_credential(value: str) -> str:
    """Read ``env:NAME`` or ``file:PATH``; any other text is returned. Raises: StoreUnavailable naming the source."""
    scheme, _, name = value.partition(":")
    if scheme == "env" and name:
        try:
            return os.environ[name]
        except KeyError:
            raise StoreUnavailable(
                f"the environment variable {name} is not set, and a store's option names it", remedy=f"export {name}=…"
            ) from None
    if scheme == "file" and name:
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise StoreUnavailable(f"the credential file {name} cannot be read: {why}") from error
    return value


def credentials_of(store: Store) -> Callable[[str], str]:
    """`resolve_credential` for the options of one store: its errors name the store, the option, and how to set it."""

    def resolve(value: str) -> str:
        try:
            return resolve_credential(value)
        except StoreUnavailable as error:
            option = next((name for name, held in sorted(store.options.items()) if held == value), None)
            if option is None:
                raise
            here = error.remedy or "put it there on this machine"
            raise StoreUnavailable(
                f"store {store.name!r}, option {option!r}: {error.message}",
                remedy=f"{here}, or 'plait store set {store.name} --option {option}=env:NAME'",
            ) from error

    return resolve


class Adapters:
    """Adapter instances by store name. Thread-safe. What was handed out stays open until all are closed: whoever uses
    it when its store is set to another place finishes."""

    def __init__(
        self,
        plugins: Plugins,
        find: Callable[[str], Store],
        context: Callable[[Store], Context],
    ) -> None:
        """`find` reads a store's current configuration (NotFound when there is none)."""
        self.plugins = plugins
        self._find = find
        self._context = context
        self._adapters: dict[str, Adapter] = {}
        self._replaced: list[Adapter] = []
        self._known: dict[str, tuple[Store | None, float]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Adapter:
        """The adapter of a store. Raises: NotFound, InvalidArgument; StoreUnavailable when its folder is missing;
        Unsupported for a pointer store whose kind no plugin reads."""
        return self.of(self._find(name))

    def of(self, store: Store) -> Adapter:
        """`get`, for a caller who has just read the store's row. Raises: InvalidArgument, Unsupported,
        StoreUnavailable."""
        adapter = self._kept(store)
        if store.mode is not Mode.POINTER and (folder := adapter.local_folder()):
            check_folder(store, folder)  # Each time: a disk may be unmounted while its adapter is kept.
        return adapter

    def _kept(self, store: Store) -> Adapter:
        with self._lock:
            adapter = self._adapters.get(store.name)
            if adapter is not None and adapter.store == store:
                return adapter
            made = self.make(store)
            self._adapters[store.name] = made
            if adapter is not None:
                self._replaced.append(adapter)
        return made

    def known(self, name: str) -> Store | None:
        """The store's configuration, at most a second old, or None if there is none. For questions of every commit."""
        found, read_at = self._known.get(name, (None, -1.0))
        if time.monotonic() - read_at > _KNOWN_SECONDS:
            try:
                found = self._find(name)
            except NotFound:
                found = None
            self._known[name] = found, time.monotonic()
        return found

    def capabilities(self, store: Store) -> frozenset[Capability]:
        """What plait can do in this store. In a pointer store, of any kind, nothing: plait owns nothing there."""
        if store.mode is Mode.POINTER:
            return frozenset()
        return self.plugins.adapter_class(store.kind).capabilities_of(store)

    def heads(self, store: Store) -> str:
        """Which native heads a store's options name, where they do."""
        return self.plugins.adapter_class(store.kind).heads_of(store)

    def make(self, store: Store) -> Adapter:
        """A new adapter that is not kept, to check a store before it is added. Raises: Unsupported, as `get`."""
        if store.mode is Mode.POINTER and store.kind not in self.plugins.kinds:
            raise Unsupported(
                f"store {store.name!r} only records locations, and no plugin reads its kind {store.kind!r}",
                remedy="open them with the store's own client",
            )
        return self.plugins.adapter_class(store.kind)(store, self._context(store))

    def close(self) -> None:
        """Close every adapter, even if one fails. Raises: the error of the last one that failed. Repeat: no-op."""
        with self._lock:
            adapters = [*self._replaced, *self._adapters.values()]
            self._replaced, self._adapters = [], {}
        with ExitStack() as closing:
            for adapter in adapters:
                closing.callback(adapter.close)


def probe(adapter: Adapter) -> list[Lack]:
    """What a store lacks, as its adapter finds."""
    told = [sentence.partition(" · ") for sentence in adapter.check()]
    return [Lack(problem, remedy) for problem, _, remedy in told]


def row_context(
    repository: Repository, plugins: Plugins, clock: Clock, progress: Progress
) -> Callable[[Store], Context]:
    """Makes contexts for adapters in the catalog's own process, which keep their state in its database."""
    return lambda store: Context(
        state=RowState(repository, store.name),
        clock=clock,
        credential=credentials_of(store),
        progress=progress,
        check_cancelled=check_cancelled,
        mergers=plugins.mergers,
    )


def client_context(plugins: Plugins, clock: Clock, progress: Progress) -> Callable[[Store], Context]:
    """Makes contexts for adapters in a client's process, which only open native handles."""
    return lambda store: Context(
        state=NoState(), clock=clock, credential=credentials_of(store), progress=progress, mergers=plugins.mergers
    )


def check_store(store: Store, plugins: Plugins) -> Store:
    """Check a store's configuration, and return it. Raises: InvalidArgument, also for secrets in clear: everyone sees
    the options, and the history keeps them for ever."""
    check_key((store.name,))
    check_ref_name(store.bound_ref)
    if store.mode is not Mode.POINTER:
        try:
            plugins.adapter_class(store.kind)
        except NotFound as error:
            raise InvalidArgument(error.message, remedy=error.remedy) from error
    for name, value in store.options.items():
        check_text(f"the name of an option of store {store.name!r}", name)
        check_text(f"option {name!r} of store {store.name!r}", value)
        asked = value.partition("?")[2].split("&") if "://" in value else []
        if _URL_PASSWORD.match(value) or any(_SECRET.search(pair.partition("=")[0]) for pair in asked):
            raise InvalidArgument(
                f"option {name!r} of store {store.name!r} holds a password in clear",
                remedy="leave it out of the URL, and write it as an option of its own, =env:NAME or =file:PATH",
            )
        if _SECRET.search(name) and not _NAMED_SECRET.match(value):
            raise InvalidArgument(
                f"option {name!r} of store {store.name!r} holds a secret in clear",
                remedy=f"write --option {name}=env:NAME or --option {name}=file:PATH",
            )
    return store
