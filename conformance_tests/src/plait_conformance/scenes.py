"""Where crash tests happen: a folder of fake stores, and a database with a catalog over them.

A scene can be renewed: everything is again as it was when it was prepared.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import plait
from plait.adapter import silent
from plait.backend import Backend
from plait.catalog import Catalog
from plait.client import RemoteBackend
from plait.clock import Clock, SystemClock
from plait.errors import OutcomeUnknown, StoreUnavailable
from plait.local import create
from plait.persist import Database
from plait.plugins import Plugins
from plait.rpc.address import parse_address
from plait.rpc.calls import Calls
from plait.stores import Adapters, client_context
from plait.types import Session

from plait_conformance import fake_plugin
from plait_conformance.catalogs import drop_postgresql_database, new_postgresql_database

_ANSWER_SECONDS_MAX = 90.0
_SESSION = Session("anonymous")
"""Who asks through a server without authentication: idempotency keys are the principal's."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The stores are folders in `folder`; `database` is the catalog's URL."""

    folder: Path
    database: str

    def open(self, *, recover: bool = True, clock: Clock | None = None) -> Catalog:
        """The embedded catalog, with the fake stores and nothing else that may be installed."""
        return plait.open(self.database, plugins=_plugins(), session=_SESSION, recover=recover, clock=clock)


def make_scene(folder: Path) -> Scene:
    """A new catalog in SQLite, where `plait.init` makes it."""
    scene = Scene(folder, f"sqlite:///{folder / '.plait' / 'catalog.db'}")
    create_catalog(scene)
    return scene


class Prepared:
    """A scene that is renewed for each death. Its stores' options name its own path, so it stays where it is."""

    def __init__(self, folder: Path, prepare: Callable[[Scene], None], *, postgresql: str | None = None) -> None:
        """`postgresql`: the URL of a server in which the catalog is to be, instead of a file in the folder."""
        self._server = postgresql
        self._pristine = folder / "pristine"
        if postgresql is None:
            self.scene = make_scene(folder / "scene")
        else:
            self.scene = Scene(folder / "scene", new_postgresql_database(postgresql))
            create_catalog(self.scene)
        prepare(self.scene)
        self._template = self.scene.database.rpartition("/")[2]
        shutil.copytree(self.scene.folder, self._pristine)

    def renew(self) -> Scene:
        """Whoever used it must have ended."""
        shutil.rmtree(self.scene.folder)
        shutil.copytree(self._pristine, self.scene.folder)
        if self._server is not None:
            if not self.scene.database.endswith(self._template):
                drop_postgresql_database(self._server, self.scene.database)
            database = new_postgresql_database(self._server, template=self._template)
            self.scene = Scene(self.scene.folder, database)
        return self.scene


def connect_patiently(*urls: str) -> Catalog:
    """A served catalog that asks every call again, under the same ids and keys, until it has an answer.

    So a scenario written without a thought of failures goes on over the deaths of its server, as a careful client's.
    With several URLs, of servers of one catalog, a call that fails is put to the next.
    """
    addresses, plugins, clock = [parse_address(url) for url in urls], _plugins(), SystemClock()
    patient = _Patient([RemoteBackend(Calls(address, None), address.repository) for address in addresses])
    adapters = Adapters(plugins, patient.store, client_context(plugins, clock, silent))
    return Catalog(cast(Backend, patient), adapters, session=_SESSION, clock=clock, owns=[adapters])


class _Patient:
    """Backends of which one is asked, and again or the next. Streams are read whole, to be repeated whole."""

    def __init__(self, backends: Sequence[RemoteBackend]) -> None:
        self._backends = backends
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(self._backends[0], name)):
            return getattr(self._backends[0], name)

        def call(*arguments: object, **named: object) -> object:
            deadline = time.monotonic() + _ANSWER_SECONDS_MAX
            while True:
                asked = getattr(self._backends[self._turn % len(self._backends)], name)
                try:
                    answer = asked(*arguments, **named)
                    return iter(list(answer)) if isinstance(answer, Iterator) else answer
                except (StoreUnavailable, OutcomeUnknown):
                    if time.monotonic() > deadline:
                        raise
                    self._turn += 1

        return call

    def close(self) -> None:
        for backend in self._backends:
            backend.close()


def create_catalog(scene: Scene) -> None:
    """Make the scene's catalog, with its empty first commit."""
    database = Database(scene.database)
    try:
        create(database)
    finally:
        database.close()


def _plugins() -> Plugins:
    return Plugins([fake_plugin], installed=False)
