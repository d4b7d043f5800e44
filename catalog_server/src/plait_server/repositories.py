"""The repositories of one database: each is opened when it is first asked for, and then kept."""

from __future__ import annotations

import logging
import threading
from weakref import WeakValueDictionary

from plait import cores
from plait.catalog import Catalog
from plait.clock import Clock, SystemClock
from plait.local import LocalBackend
from plait.persist import Database
from plait.plugins import Plugins
from plait.types import Session

_log = logging.getLogger("plait.server")
SERVER = Session(principal="plait-server", client="plait-server")
"""Who acts when nobody asked: recovery, gates, gateways without a caller."""


class Repositories:
    """Thread-safe; `close` it once."""

    def __init__(self, database: Database, plugins: Plugins, clock: Clock | None = None) -> None:
        self.database = database
        self.plugins = plugins
        self._clock = clock or SystemClock()
        self._open: dict[str, LocalBackend] = {}
        self._opening: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, name: str) -> LocalBackend:
        """The backend of a repository; what died half-way in it is put right before the first use. Raises: NotFound.

        Waits for nobody who opens another repository.
        """
        backend = self._open.get(name)
        if backend is not None:
            return backend
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            backend = self._open.get(name) or self._opened(name)
            self._open[name] = backend
        return backend

    def _opened(self, name: str) -> LocalBackend:
        with cores.elsewhere():
            opened = LocalBackend(self.database, name, plugins=self.plugins, clock=self._clock, catalog=self._catalog)
            recover(opened)
        return opened

    def all(self) -> list[LocalBackend]:
        """Those that are open."""
        return list(self._open.values())

    def waiting(self) -> int:
        """How many requests are queued, over all of them."""
        return sum(backend.waiting for backend in self.all())

    def close(self) -> None:
        """Finish what is being opened, and what is queued."""
        with self._lock:
            openings = list(self._opening.values())
        for opening in openings:
            with opening:
                pass
        backends, self._open = self.all(), {}
        for backend in backends:
            backend.close()

    def _catalog(self, backend: LocalBackend) -> Catalog:
        return Catalog(backend, backend.adapters, session=SERVER, clock=self._clock)


def recover(backend: LocalBackend) -> None:
    """Put right what died half-way. What fails now (a store that is down) is tried again by the next run."""
    try:
        for done in backend.recover():
            _log.info("recovered", extra={"repository": backend.repository, "done": done})
    except Exception:
        _log.exception("recovery failed", extra={"repository": backend.repository})


class Scheduler:
    """One thread that recovers every open repository, again and again."""

    def __init__(self, repositories: Repositories, every_seconds: float) -> None:
        self._repositories = repositories
        self._every_seconds = every_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plait-scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the run that is under way. Repeat: no-op."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_seconds):
            for backend in self._repositories.all():
                recover(backend)
