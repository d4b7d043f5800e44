"""The stores at one commit: resolved once, read with native handles, never written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait import tables
from plait.backend import Backend
from plait.errors import NotFound
from plait.refspec import as_key, format_key
from plait.store_names import check_known
from plait.stores import Adapters
from plait.tables import Stream
from plait.types import Commit, Entry, Key, Location

if TYPE_CHECKING:
    import pyarrow as pa


class Point:
    """A commit with its data. Every read sees exactly that commit, in all stores."""

    def __init__(self, backend: Backend, adapters: Adapters, commit: Commit) -> None:
        self.commit = commit
        self._backend = backend
        self._adapters = adapters
        self._spec = f"@{commit.id}"

    def __repr__(self) -> str:
        return f"<plait.Point {self.commit.id[:12]} {self.commit.message.splitlines()[:1]}>"

    def entries(self, prefix: str | Key = ()) -> Stream[Entry]:
        """The entries under a prefix, in key order, lazily."""
        parts = as_key(prefix)
        return Stream(tables.ENTRIES, lambda: self._backend.scan(self._spec, parts))

    def _repr_html_(self) -> str:
        return tables.ENTRIES.html(self.entries(), repr(self))

    def to_arrow(self) -> pa.Table:
        """Its entries as an Arrow table. Raises: Unsupported without pyarrow."""
        return self.entries().to_arrow()

    def entry(self, key: str | Key) -> Entry:
        """The entry under a key. Raises: NotFound if there is none; names the store, if that does not exist either."""
        parts = as_key(key)
        found = self._backend.get(self._spec, [parts]).get(parts)
        if found is None:
            check_known(self._backend.stores(), parts[0])
            raise NotFound(
                f"{format_key(parts)} does not exist at {self.commit.id[:12]}",
                remedy=f"see 'plait ls --at @{self.commit.id[:12]}'",
            )
        return found

    def open(self, key: str | Key) -> object:
        """The native read-only handle: a pyiceberg Table, an fsspec filesystem … Raises: NotFound, StoreUnavailable."""
        entry = self.entry(key)
        return self._adapters.get(entry.key[0]).open(entry.snapshot, None)

    def locate(self, key: str | Key) -> Location:
        """Where, and how, an engine reads exactly this version of the asset."""
        entry = self.entry(key)
        return self._adapters.get(entry.key[0]).locate(entry.snapshot)
