"""What a client of the fake store holds: an asset as a mapping of item → JSON text, and the store's namespace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import TypeAlias

from plait.adapter import StagingPort
from plait.errors import InvalidArgument, TransactionClosed
from plait.refspec import format_key
from plait.types import Key, Staging

from plait_conformance.fake_storage import Folder

FailPoint: TypeAlias = Callable[[str], None]


class FakeAsset(MutableMapping[str, str]):
    """A staging's items, in order. Each write asks the port first, so nothing is written once the set is sealed."""

    def __init__(self, folder: Folder, staging: Staging, port: StagingPort, failpoint: FailPoint) -> None:
        self._folder = folder
        self._staging = staging
        self._port = port
        self._failpoint = failpoint

    def __getitem__(self, item: str) -> str:
        return self._items()[item]

    def __setitem__(self, item: str, text: str) -> None:
        """Raises: InvalidArgument unless it is JSON text; TransactionClosed once sealed, renamed or dropped."""
        check_json(item, text)
        self._check_open()
        self._failpoint("fake.write.before_item")
        self._folder.set_item(self._staging.location, item, text)
        self._failpoint("fake.write.after_item")

    def __delitem__(self, item: str) -> None:
        """Raises: KeyError, TransactionClosed."""
        self._check_open()
        if item not in self._items():
            raise KeyError(item)
        self._failpoint("fake.write.before_removal")
        self._folder.set_item(self._staging.location, item, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def _items(self) -> Mapping[str, str]:
        return self._folder.items(self._staging.location)

    def _check_open(self) -> None:
        location = self._staging.location
        if not self._port.compare_and_set(self._staging.key, location, location):
            raise TransactionClosed(
                f"{format_key(self._staging.key)} was renamed, restored or dropped since it was opened",
                remedy="open it again",
            )
        # The transaction is open, so what a dead prepare left frozen may go on.
        self._folder.thaw(location)


class FakeNamespace:
    """The assets of one transaction: create, drop, rename."""

    def __init__(self, store: str, port: StagingPort, open_staging: Callable[[Staging], FakeAsset]) -> None:
        self._store = store
        self._port = port
        self._open = open_staging

    def create(self, *name: str) -> FakeAsset:
        """Raises: AlreadyExists."""
        return self._open(self._port.add(self._key(name), new=True))

    def open(self, *name: str) -> FakeAsset:
        """Raises: NotFound."""
        return self._open(self._port.add(self._key(name)))

    def drop(self, *name: str) -> None:
        """Raises: NotFound."""
        self._port.drop(self._key(name))

    def rename(self, before: str, after: str) -> None:
        """Raises: NotFound, AlreadyExists."""
        self._port.move(self._key((before,)), self._key((after,)))

    def names(self) -> list[Key]:
        """In key order, without the store."""
        return [key[1:] for key in self._port.keys((self._store,))]

    def _key(self, name: tuple[str, ...]) -> Key:
        return (self._store, *name)


def read_only(items: Mapping[str, str]) -> Mapping[str, str]:
    """The handle of a snapshot."""
    return MappingProxyType(dict(items))


def check_json(item: str, text: str) -> None:
    """Raises InvalidArgument unless the text is JSON."""
    try:
        json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"item {item!r} is no JSON text: {error}", remedy="write json.dumps(value)") from error
