"""Making, finding and opening catalogs: a folder with `.plait/`, a database URL, or a server."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from plait.adapter import Progress, silent
from plait.catalog import Catalog
from plait.clock import Clock, SystemClock
from plait.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unsupported
from plait.example import example_stores, make_example
from plait.local import DEFAULT_REPOSITORY, LocalBackend, create
from plait.persist import Database, sqlite_file
from plait.plugins import Plugins
from plait.types import Session

if TYPE_CHECKING:
    from plait.persist.migrations import Migrated

FOLDER = ".plait"
DATABASE = "catalog.db"
_SQLITE = "sqlite:///"
_PATH_BYTES_MAX, _NAME_BYTES_MAX = 4095, 255


def init(
    where: str | os.PathLike[str] = ".", *, repository: str = DEFAULT_REPOSITORY, example: bool = False
) -> Catalog:
    """Make an embedded catalog and open it: in the folder `where/.plait`, or in the database of a URL.

    `example`: with a small table and some objects, in the folder.

    Repeat: completes a catalog whose creation died before its first commit.
    Raises: AlreadyExists, InvalidArgument, StoreUnavailable, Unsupported when there is no adapter for an example.
    """
    made: Sequence[Path] = ()
    if example:
        if is_url(where):
            raise InvalidArgument("an example is made in a folder", remedy="name a folder, or leave the example out")
        made = _made(Path(where).resolve())
    database = Database(_database_url(where))
    try:
        create(database, repository, author=default_session().author)
    except AlreadyExists as error:
        held = f"holds a catalog named {repository!r}" if is_url(where) else "holds a catalog"
        raise AlreadyExists(f"{shown(where)} {held} already", remedy="open it, or choose another place") from error
    finally:
        database.close()
    catalog = open(where, repository=repository)
    if example:
        _fill(catalog, Path(where).resolve(), made)
    return catalog


def _fill(catalog: Catalog, folder: Path, made: Sequence[Path]) -> None:
    """Make the example; if that fails, remove everything that was made."""
    try:
        make_example(catalog, folder)
    except BaseException:
        catalog.close()
        for path in made:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _made(folder: Path) -> Sequence[Path]:
    """The paths that a new catalog with an example creates in a folder: those that do not exist yet, and in any case
    its database's files."""
    home = folder if folder.name == FOLDER else folder / FOLDER
    absent = [path for path in (folder, home, *(folder / name for name in example_stores())) if not path.exists()]
    return [*absent, *(home / f"{DATABASE}{end}" for end in ("", "-wal", "-shm", "-journal"))]


def open(  # the name that users of tables and files expect: plait.open(path)
    path: str | os.PathLike[str] = ".",
    *,
    repository: str = DEFAULT_REPOSITORY,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = silent,
    recover: bool = True,
) -> Catalog:
    """Open the catalog of a folder, or of a database URL (`sqlite:///…`, `postgresql://…`), in this process.

    First repairs what died half-way earlier, unless `recover` is false. Raises: NotFound, InvalidArgument.
    """
    database = Database(database_url(path))
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
    progress: Progress = silent,
    owns: Sequence[Database] = (),
) -> Catalog:
    """A catalog over an open database. Closing the catalog closes the databases in `owns`, no other."""

    def catalog(backend: LocalBackend) -> Catalog:
        return Catalog(
            backend,
            backend.adapters,
            session=session or default_session(),
            clock=clock or SystemClock(),
            owns=owns,
        )

    return LocalBackend(database, repository, plugins=plugins, clock=clock, progress=progress, catalog=catalog).catalog


def connect(
    url: str,
    *,
    token: str | None = None,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = silent,
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
    """Where the catalog is: as given, else `PLAIT_CATALOG`, else the nearest folder upwards that has `.plait/`.

    Raises: NotFound, PermissionDenied.
    """
    chosen = catalog or os.environ.get("PLAIT_CATALOG")
    if chosen:
        return chosen
    try:
        here = Path(start).resolve()
    except FileNotFoundError as error:
        raise NotFound("the directory that this process is in is gone", remedy="change to one that is there") from error
    for folder in (here, *here.parents):
        if _is_there(folder / FOLDER / DATABASE):
            return str(folder)
    raise NotFound(
        f"neither {here} nor a folder above it holds a catalog",
        remedy="run 'plait init', or name one with --catalog or PLAIT_CATALOG",
    )


def reach(where: str, *, progress: Progress = silent, session: Session | None = None, recover: bool = True) -> Catalog:
    """Open a folder or database, or connect to a server, whichever `where` names. Servers recover by themselves.

    Raises: InvalidArgument, NotFound, StoreUnavailable.
    """
    if is_served(where):
        return connect(where, progress=progress, session=session)
    if "://" in where and not where.startswith(("sqlite:", "postgresql")):
        raise InvalidArgument(
            f"{shown(where)!r} names no catalog",
            remedy="write a folder, plait://host:port/repository, postgresql://… or sqlite:///…",
        )
    return open(where, progress=progress, session=session, recover=recover)


def default_session() -> Session:
    """A session for whoever runs this process, from its environment: `PLAIT_AUTHOR`, `PLAIT_CLIENT`, and in
    `PLAIT_PROPERTIES` what its commits keep of it: `run=7,code=a1b2`, with `%2C` for a comma in a value.

    Raises: InvalidArgument.
    """
    user = getpass.getuser() if os.environ.get("USER") or os.environ.get("LOGNAME") or os.name == "posix" else "local"
    return Session(
        principal=user,
        author=os.environ.get("PLAIT_AUTHOR", user),
        client=os.environ.get("PLAIT_CLIENT", f"python/{socket.gethostname()}"),
        properties=_properties(os.environ.get("PLAIT_PROPERTIES", "")),
    )


def _properties(text: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"PLAIT_PROPERTIES holds {pair!r}", remedy="write NAME=VALUE,NAME=VALUE")
        found[unquote(name)] = unquote(value)
    return found


def migrate(where: str | os.PathLike[str] = ".", *, copy: bool = True) -> Migrated:
    """Migrate a folder's catalog, or a database URL's, to this release's schema, after making a copy.

    Nobody else may use it meanwhile: stop its servers. Repeat: continues where it died.
    Raises: NotFound, Unsupported for a served catalog, InvalidArgument for one of a newer release.
    """
    # Alembic takes a while to import, and only this needs it.
    from plait.persist.migrations import migrate as migrate_database

    if is_served(where):
        raise Unsupported(
            "a served catalog is migrated where its database is",
            remedy="stop the server, and run 'plait --catalog DATABASE_URL migrate' there",
        )
    database = Database(database_url(where))
    try:
        return migrate_database(database, copy=copy)
    finally:
        database.close()


def _text(where: str | os.PathLike[str]) -> str:
    """A folder or a URL, as text that a system can ask for. Raises: InvalidArgument."""
    text = os.fspath(where) if isinstance(where, str | os.PathLike) else where
    if not isinstance(text, str) or not text:
        raise InvalidArgument(f"a catalog is named by its folder or a URL, not by {where!r}")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{text!r} is not valid Unicode", remedy="rename the folder, or give a URL") from error
    if b"\0" in encoded:
        raise InvalidArgument(f"{text!r} holds a NUL character, which no folder and no URL has")
    if len(encoded) > _PATH_BYTES_MAX or any(len(part) > _NAME_BYTES_MAX for part in encoded.split(b"/")):
        raise InvalidArgument(
            f"{text[:80]!r}… names no catalog",
            remedy=f"a path has at most {_PATH_BYTES_MAX} bytes, and {_NAME_BYTES_MAX} between two slashes",
        )
    return text


def is_url(where: str | os.PathLike[str]) -> bool:
    """Whether `where` is a URL, of a database or a server, and not a folder."""
    return "://" in _text(where)


def is_served(where: str | os.PathLike[str]) -> bool:
    """Whether `where` is the URL of a served catalog."""
    return _text(where).startswith(("plait://", "plaits://"))


def shown(where: str | os.PathLike[str]) -> str:
    """Where a catalog is, as text without a password, which may be printed and stored."""
    text = _text(where)
    if not is_url(text):
        return str(Path(text).resolve())
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^/@]*?:)[^/]*@", r"\1***@", text))


def _database_url(where: str | os.PathLike[str]) -> str:
    text = _text(where)
    if is_url(text):
        return text
    folder = Path(text).resolve()
    # A folder's name may hold what has a meaning in a URL: '?', '#', '%20'.
    return f"{_SQLITE}{quote(str((folder if folder.name == FOLDER else folder / FOLDER) / DATABASE))}"


def database_url(where: str | os.PathLike[str]) -> str:
    """The database URL of an existing catalog: a folder's, or as given. Raises: NotFound, PermissionDenied.

    A missing file is an error, since opening it would create it, and an empty file would hide a catalog in a folder
    above.
    """
    url = _database_url(where)
    file = Path(sqlite_file(url))
    if url.startswith(_SQLITE) and not _is_there(file):
        named = file.absolute() if is_url(where) else Path(where).resolve()
        raise NotFound(f"{named} holds no catalog", remedy="make one with 'plait init'")
    return url


def _is_there(file: Path) -> bool:
    """Whether a catalog's file exists. Raises: PermissionDenied if this user may not see or read it.

    Does not open the file: closing it would drop the locks that this process holds on it.
    """
    try:
        if not file.exists():
            return False
    except PermissionError as error:
        raise _closed(file) from error
    if not os.access(file, os.R_OK):
        raise _closed(file)
    return True


def _closed(file: Path) -> PermissionDenied:
    return PermissionDenied(f"{file} may not be read", remedy="ask its owner, or name another catalog with --catalog")
