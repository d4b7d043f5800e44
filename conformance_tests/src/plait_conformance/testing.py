"""What an adapter needs to be tried alone: a state and a staging port in memory, as strict as the real ones."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from plait.adapter import Adapter, Context
from plait.clock import Clock, ManualClock
from plait.errors import AlreadyExists, InvalidArgument, NotFound, TransactionClosed
from plait.refspec import check_key, format_key
from plait.types import Intent, Key, SnapshotRef, Staging, Store


class MemoryState:
    """`State` in memory. Hand the same one to two instances of an adapter, as a restarted server would."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        with self._lock:
            return self._values.get(name)

    def compare_and_set(self, name: str, expected: bytes | None, value: bytes | None) -> bool:
        with self._lock:
            if self._values.get(name) != expected:
                return False
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value
            return True


def intent_of(tx: str, base: SnapshotRef | None = None, *, number: int = 1) -> Intent:
    """What a MemoryPort of this transaction stages the number-th asset by: the same whenever a test runs it again."""
    return Intent(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{tx}/{number}")), base)


class MemoryPort:
    """`StagingPort` in memory: one transaction over `adapter`, from a base given as key → snapshot."""

    def __init__(self, adapter: Adapter, tx: str, base: Mapping[Key, SnapshotRef] | None = None) -> None:
        self._adapter = adapter
        self._tx = tx
        self._base = dict(base or {})
        self._stagings: dict[Key, Staging] = {}
        self._dropped: set[Key] = set()
        self._lock = threading.RLock()
        self._begun = 0
        self.intents: dict[Key, Intent] = {}
        """What each key was staged by."""
        self.closed = False

    @property
    def tx(self) -> str:
        return self._tx

    @property
    def properties(self) -> Mapping[str, str]:
        return {"plait.tx": self._tx, "plait.author": "Ada <ada@example.org>"}

    @property
    def stagings(self) -> Mapping[Key, Staging]:
        """What `prepare` gets."""
        return dict(self._stagings)

    @property
    def dropped(self) -> frozenset[Key]:
        return frozenset(self._dropped)

    def add(self, key: Key, *, new: bool = False) -> Staging:
        with self._lock:
            self._check_open()
            check_key(key)
            if key[0] != self._adapter.store.name:
                raise InvalidArgument(f"key {format_key(key)} is not in store {self._adapter.store.name!r}")
            there = key in self._stagings or (key in self._base and key not in self._dropped)
            if new and there:
                raise AlreadyExists(f"{format_key(key)} exists already")
            if key in self._stagings:
                return self._stagings[key]
            if not new and not there:
                raise NotFound(f"{format_key(key)} is not in the working set's base")
            base = None if new else self._base[key]
            self._begun += 1
            self.intents[key] = intent_of(self._tx, base, number=self._begun)
            staged = self._adapter.stage(self._tx, {key: self.intents[key]})
            self._stagings[key] = staged[key]
            self._dropped.discard(key)
            return staged[key]

    def get(self, key: Key) -> Staging | None:
        with self._lock:
            return self._stagings.get(key)

    def base(self, key: Key) -> SnapshotRef | None:
        return self._base.get(key)

    def compare_and_set(self, key: Key, expected: str, location: str) -> bool:
        with self._lock:
            self._check_open()
            staging = self._stagings.get(key)
            if staging is None or staging.location != expected:
                return False
            self._stagings[key] = replace(staging, location=location)
            return True

    def move(self, before: Key, after: Key) -> None:
        with self._lock:
            staging = self.add(before)
            if after in set(self.keys()):
                raise AlreadyExists(f"{format_key(after)} exists already")
            del self._stagings[before]
            if before in self._base:
                self._dropped.add(before)
            self._dropped.discard(after)
            self._stagings[after] = replace(staging, key=after)

    def drop(self, key: Key) -> None:
        with self._lock:
            self._check_open()
            if key not in set(self.keys()):
                raise NotFound(f"{format_key(key)} does not exist")
            self._stagings.pop(key, None)
            if key in self._base:
                self._dropped.add(key)

    def keys(self, prefix: Key = ()) -> Iterator[Key]:
        with self._lock:
            seen = (set(self._base) - self._dropped) | set(self._stagings)
        return iter(sorted(key for key in seen if key[: len(prefix)] == prefix))

    def _check_open(self) -> None:
        if self.closed:
            raise TransactionClosed(f"working set {self._tx} is sealed")


def make_adapter(
    adapter: Callable[[Store, Context], Adapter],
    store: Store,
    *,
    state: MemoryState | None = None,
    clock: Clock | None = None,
) -> Adapter:
    """An instance with a context in memory."""
    return adapter(store, Context(state=state or MemoryState(), clock=clock or ManualClock()))
