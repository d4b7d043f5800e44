"""Making, finding and opening catalogs: a folder with `.plait/`, a database URL, or a server."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from plait.adapter import Progress
from plait.catalog import Catalog
from plait.clock import Clock, SystemClock
from plait.errors import AlreadyExists, InvalidArgument, NotFound
from plait.local import DEFAULT_REPOSITORY, LocalBackend, create
from plait.persist import Database
from plait.plugins import Plugins
from plait.types import Session

FOLDER = ".plait"
DATABASE = "catalog.db"


def _silent(what: str, done: int, total: int | None) -> None:
    """The progress of a library: none."""


def init(path: str | os.PathLike[str] = ".", *, repository: str = DEFAULT_REPOSITORY) -> Catalog:
    """Make an embedded catalog in `path/.plait` and open it. Raises: AlreadyExists."""
    folder = Path(path).resolve() / FOLDER
    if (folder / DATABASE).exists():
        raise AlreadyExists(f"{folder.parent} holds a catalog already", remedy="open it, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(_sqlite_url(folder))
    try:
        create(database, repository, author=default_session().author)
    finally:
        database.close()
    return open(path, repository=repository)


def open(  # the name that users of tables and files expect: plait.open(path)
    path: str | os.PathLike[str] = ".",
    *,
    repository: str = DEFAULT_REPOSITORY,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = _silent,
    recover: bool = True,
) -> Catalog:
    """Open the catalog of a folder, or of a database URL (`sqlite:///…`, `postgresql://…`), in this process.

    What died half-way before is put right first, unless told not to. Raises: NotFound, InvalidArgument.
    """
    text = os.fspath(path)
    if "://" in text:
        url = text
    else:
        folder = Path(text).resolve()
        folder = folder if folder.name == FOLDER else folder / FOLDER
        if not (folder / DATABASE).exists():
            raise NotFound(f"{folder.parent} holds no catalog", remedy="make one with 'plait init'")
        url = _sqlite_url(folder)
    database = Database(url)
    try:
        catalog = open_database(
            database, repository, plugins=plugins, session=session, clock=clock, progress=progress, owns=[database]
        )
    except BaseException:
        database.close()
        raise
    if recover:
        catalog.recover()
    return catalog


def open_database(
    database: Database,
    repository: str = DEFAULT_REPOSITORY,
    *,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = _silent,
    owns: Sequence[Database] = (),
) -> Catalog:
    """A catalog over an open database; the database is closed with it only if it is in `owns`."""
    made: list[Catalog] = []

    def catalog(backend: LocalBackend) -> Catalog:
        made.append(
            Catalog(
                backend,
                backend.adapters,
                session=session or default_session(),
                clock=clock or SystemClock(),
                owns=owns,
            )
        )
        return made[0]

    LocalBackend(database, repository, plugins=plugins, clock=clock, progress=progress, catalog=catalog)
    return made[0]


def connect(
    url: str,
    *,
    token: str | None = None,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = _silent,
) -> Catalog:
    """Reach a served catalog: `plait://host:port/repository`, or `plaits://…` with TLS.

    The token is the argument, else `PLAIT_TOKEN`, else the file `~/.config/plait/token`.

    Raises: StoreUnavailable, Unauthenticated, NotFound, InvalidArgument.
    """
    # gRPC takes a while to import, and an embedded catalog needs none of it.
    from plait.client import connect_remote

    session = session or default_session()
    return connect_remote(url, token=token, plugins=plugins, session=session, clock=clock, progress=progress)


def find(catalog: str | None = None, start: str | os.PathLike[str] = ".") -> str:
    """Where the catalog is: as given, by `PLAIT_CATALOG`, or the nearest folder upwards with `.plait/`.

    Raises: NotFound.
    """
    chosen = catalog or os.environ.get("PLAIT_CATALOG")
    if chosen:
        return chosen
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        if (folder / FOLDER / DATABASE).exists():
            return str(folder)
    raise NotFound(
        f"neither {here} nor a folder above it holds a catalog",
        remedy="run 'plait init', or name one with --catalog or PLAIT_CATALOG",
    )


def reach(where: str, *, progress: Progress = _silent, session: Session | None = None) -> Catalog:
    """Open or connect, as the text says. Raises: InvalidArgument, NotFound, StoreUnavailable."""
    if where.startswith(("plait://", "plaits://")):
        return connect(where, progress=progress, session=session)
    if "://" in where and not where.startswith(("sqlite:", "postgresql")):
        raise InvalidArgument(f"{where!r} names no catalog", remedy="write a folder or plait://host:port/repository")
    return open(where, progress=progress, session=session)


def default_session() -> Session:
    """Who runs this process, from the environment of the edge that asks."""
    user = getpass.getuser() if os.environ.get("USER") or os.environ.get("LOGNAME") or os.name == "posix" else "local"
    return Session(principal=user, author=os.environ.get("PLAIT_AUTHOR", user), client=f"python/{socket.gethostname()}")


def _sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / DATABASE}"
