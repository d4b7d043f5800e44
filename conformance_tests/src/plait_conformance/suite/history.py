"""The adapter under test in a whole embedded catalog, beside a strict fake store."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import plait
from plait.adapter import Adapter, Capability, Context
from plait.catalog import Catalog
from plait.failpoint import failpoint
from plait.hookspecs import hookimpl
from plait.local import LocalBackend, create
from plait.persist import Database
from plait.plugins import Plugins
from plait.stores import resolve_credential
from plait.types import Commit, ItemChange, ItemChangeKind, Json, Key, Session, Store
from plait.working_set import Port

from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_kinds import FakeDeltaAdapter, FakeDoltAdapter
from plait_conformance.harness import Edits, Harness, Rows
from plait_conformance.suite.trial import ITEM_ASPECTS, check_adapter, read
from plait_conformance.testing import MemoryState

BESIDE: Key = ("beside", "t")
"""The asset in the strict fake store."""

ADAPTER = "adapter/"
"""What the names of the adapter's own failpoints begin with, so that they are told from the core's."""


class History:
    """A repository over two stores. `key` is the adapter's asset, `BESIDE` the fake's."""

    def __init__(self, harness: Harness, folder: Path) -> None:
        self.harness = harness
        self.folder = folder
        probe = check_adapter(harness, harness.open(Context(MemoryState(), credential=resolve_credential)))
        self.store, self.store_folder = probe.store, probe.local_folder()
        self.capabilities: frozenset[Capability] = probe.capabilities_of(probe.store)
        probe.close()
        beside = next(kind for kind in (FakeDoltAdapter, FakeDeltaAdapter) if kind.kind != self.store.kind)
        self._kinds = type(probe), beside
        self._plugins = Plugins([_Kinds(*self._kinds)], installed=False)
        folder.mkdir(parents=True, exist_ok=True)
        self._where = f"sqlite:///{folder / 'catalog.db'}"
        database = Database(self._where)
        create(database)
        database.close()
        self.catalog = self.open()
        missing = self.catalog.add_store(self.store.name, self.store.kind, self.store.options)
        assert missing == [], f"check says that the store is not fit: {missing}"
        self.catalog.add_store(BESIDE[0], beside.kind, {"path": str(folder / "beside")})

    def __getstate__(self) -> dict[str, object]:
        """For another process, which opens the catalog itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("catalog", "_plugins")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._plugins = Plugins([_Kinds(*self._kinds)], installed=False)

    def open(self, *, recover: bool = True) -> Catalog:
        """Another process's view of the same repository."""
        return plait.open(self._where, plugins=self._plugins, recover=recover)

    def reopen(self) -> None:
        """Go on as a restarted process does: it recovers first."""
        self.catalog.close()
        self.catalog = self.open()

    def can(self, capability: Capability) -> bool:
        return capability in self.capabilities

    def key_of(self, asset: str = "a") -> Key:
        return (self.store.name, *self.harness.name(asset))

    @property
    def key(self) -> Key:
        return self.key_of()

    # -- writing -----------------------------------------------------------------------------------------------------

    def edit(self, tx: plait.WorkingSet, edits: Edits, *, asset: str = "a") -> None:
        """Write in a working set; the asset is made where it is not there."""
        backend = self.catalog.backend
        assert isinstance(backend, LocalBackend)
        adapter, key = backend.adapters.get(self.store.name), self.key_of(asset)
        port = Port(backend, tx.tx)
        if key in tx.keys((self.store.name,)):
            self.harness.write(adapter, port, key, edits)
        else:
            rows = {row: text for row, text in edits.items() if text is not None}
            self.harness.create(adapter, port, key, rows)

    def edit_beside(self, tx: plait.WorkingSet, edits: Edits) -> None:
        items = cast("MutableMapping[str, str]", tx.open(BESIDE, create=True))
        for row, text in edits.items():
            if text is not None:
                items[row] = json.dumps(text)
            else:
                items.pop(row, None)

    def write(
        self,
        edits: Edits,
        branch: str = "main",
        *,
        asset: str = "a",
        message: str = "write",
        beside: Edits | None = None,
    ) -> Commit:
        """One commit."""
        tx = self.catalog.begin(branch, message=message)
        self.edit(tx, edits, asset=asset)
        if beside is not None:
            self.edit_beside(tx, beside)
        return tx.commit()

    def as_session(self, session: Session) -> None:
        self.catalog = self.catalog.as_session(session)

    # -- looking -----------------------------------------------------------------------------------------------------

    def held(self, spec: str = "main", *, asset: str = "a") -> dict[str, str]:
        """What a commit holds, read by the store's own client."""
        return read(self.harness, self.catalog.at(spec).locate(self.key_of(asset)))

    def held_beside(self, spec: str = "main") -> dict[str, str]:
        items = cast("Mapping[str, str]", self.catalog.at(spec).open(BESIDE))
        return {row: json.loads(text) for row, text in items.items()}

    def holds(self, spec: str, key: Key) -> bool:
        return key in self.catalog.backend.get(spec, [key])

    def kinds(self, changes: Sequence[ItemChange]) -> dict[str, ItemChangeKind]:
        """Items alone, as item → kind."""
        return {change.item: change.kind for change in changes if change.aspect in ITEM_ASPECTS}

    def items(self, **rows: ItemChangeKind) -> dict[str, ItemChangeKind]:
        return {self.harness.item(row): kind for row, kind in rows.items()}

    def value(self, row: str, text: str) -> Json:
        return self.harness.value(row, text)

    def rows_of(self, specs: Sequence[str]) -> list[Rows]:
        return [self.held(spec) for spec in specs]

    def close(self) -> None:
        self.catalog.close()


class _Kinds:
    """The plugin of a History: the adapter under test, with its failpoints marked, and the fake."""

    def __init__(self, adapter: type[Adapter], beside: type[FakeAdapter]) -> None:
        self._kinds = [_marked(adapter), beside]

    @hookimpl
    def plait_register_adapters(self) -> Sequence[type[Adapter]]:
        return self._kinds


def _marked(adapter: type[Adapter]) -> type[Adapter]:
    def initialise(self: Adapter, store: Store, context: Context) -> None:
        adapter.__init__(self, store, replace(context, failpoint=lambda name: failpoint(ADAPTER + name)))

    return type(adapter.__name__, (adapter,), {"__init__": initialise})
