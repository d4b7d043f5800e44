"""What users work with on the server: an SQLAlchemy engine for each branch or commit, cheap to make.

A new engine asks the server five things about itself before its first statement, and a transaction has an engine of its
own. So they are asked once, and each engine's dialect is a copy of the one that knows the answers.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

_CLIENTS_MAX: Final = 64


class Clients:
    """Engines by place (``<database>/<revision>``), as many as were used last. Thread-safe."""

    def __init__(self, url: URL, connect: Callable[..., Any]) -> None:
        """`connect`: a new connection of the driver, with `database` and `init_command`."""
        self._url = url.set(username=url.username or "root")
        self._connect = connect
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        self._dialect: sa.Dialect | None = None
        self._lock = Lock()

    def get(self, place: str) -> sa.Engine:
        """Raises: what the driver raises when the server cannot be asked."""
        with self._lock:
            if self._dialect is None:
                self._dialect = self._asked()
            if place not in self._engines:
                dialect = copy.copy(self._dialect)
                dialect.default_schema_name = place
                pool = QueuePool(lambda: self._opened(place), pre_ping=True, dialect=dialect)
                self._engines[place] = sa.Engine(pool, dialect, self._url.set(database=place))
            self._engines.move_to_end(place)
            while len(self._engines) > _CLIENTS_MAX:
                self._engines.popitem(last=False)[1].dispose()
            return self._engines[place]

    def forget(self, place: str) -> None:
        """Close what idles there. Repeat: no-op."""
        with self._lock:
            engine = self._engines.pop(place, None)
        if engine is not None:
            engine.dispose()

    def close(self) -> None:
        with self._lock:
            engines, self._engines = list(self._engines.values()), OrderedDict()
        for engine in engines:
            engine.dispose()

    def _opened(self, place: str) -> Any:
        # Dolt does not say in its answers that autocommit is on, and PyMySQL believes that it is off.
        return self._connect(database=place, init_command="SET autocommit = 0", autocommit=None)

    def _asked(self) -> sa.Dialect:
        """A dialect that knows the server's version and settings."""
        asking = sa.create_engine(self._url, creator=lambda: self._connect(autocommit=None))
        try:
            asking.connect().close()
        finally:
            asking.dispose()
        return asking.dialect
