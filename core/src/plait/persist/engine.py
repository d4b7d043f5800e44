"""The database behind a catalog: one engine, read and write transactions, schema revision, errors translated.

SQLite: WAL, synchronous=FULL, BEGIN IMMEDIATE for every write, and one writer at a time inside the process so that
threads queue instead of polling. SQLite 3.7.0 to 3.51.2 can corrupt a WAL (https://sqlite.org/wal.html, "WAL-reset"),
so the packaged `pysqlite3` is preferred, and an affected library falls back to a rollback journal.

PostgreSQL: READ COMMITTED is enough, because every change of the history first takes the repository's `serial` row.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from plait.errors import Corrupt, InvalidArgument, OutcomeUnknown, PermissionDenied, StoreUnavailable
from plait.failpoint import failpoint
from plait.persist import schema
from plait.persist.damage import is_utf8, wrong_values
from plait.persist.driver_errors import cause, is_crowded, is_full, is_outlived, sqlite, translated

_WAL_FIXED = (3, 51, 3)
_BUSY_SECONDS = 60
_CROWDED_SECONDS, _CROWDED_RETRY_SECONDS = 15.0, 1.0
"""When PostgreSQL has no free connection: how long to wait for one, and the pause between attempts."""
_IDLE_SECONDS = 1
"""A connection that was idle for so long is checked before it is used."""
_ROWS_EXPECTED, _ROWS_PENDING, _ROWS_ALIKE = 1_000_000, 100, 10


class Database:
    """A pool of connections to one catalog database. Thread-safe; `close` it once."""

    def __init__(self, url: str) -> None:
        """Raises: InvalidArgument for a URL that is neither sqlite:///… nor postgresql://…"""
        try:
            parsed = make_url(url)
        except (sa.exc.ArgumentError, ValueError) as error:
            raise InvalidArgument(
                "this is no database URL", remedy="write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
            ) from error
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite":
            parsed = parsed.set(database=sqlite_file(url))
        self.url = parsed
        self._write_lock = threading.RLock()
        self._process = os.getpid()
        self._is_closed = False
        if self.dialect == "sqlite":
            self._engine = _sqlite_engine(parsed, sqlite)
        elif self.dialect == "postgresql":
            self._engine = _postgresql_engine(parsed)
        else:
            raise InvalidArgument(
                f"databases of kind {self.dialect!r} are not supported", remedy="use SQLite or PostgreSQL"
            )

    @contextmanager
    def read(self, *, closing: bool = False) -> Iterator[Connection]:
        """A connection to read with; it writes nothing. `closing`: also once it is closed, for who reads to the end."""
        self.check_usable(closing=closing)
        with translated(), self._connect() as connection:
            connection.begin()  # All statements see one state, also those that bypass SQLAlchemy.
            yield connection
            connection.commit()  # Not a rollback: after one, psycopg forgets its prepared statements.

    @contextmanager
    def write(self, *, flush: bool = True) -> Iterator[Connection]:
        """One write transaction: durable when the block ends, rolled back when it raises.

        Without `flush`, the write survives the death of any process, but is safe from a power loss only once a later
        write is flushed: a power loss takes the latest writes, never one from the middle. docs/decisions/0005 says when
        that is enough. PostgreSQL flushes every write: its machine may lose power while this process lives on.

        Raises: StoreUnavailable before the commit (nothing changed), OutcomeUnknown when the commit's answer is lost.
        """
        self.check_usable()
        if self.dialect == "sqlite":
            with self._write_lock:
                yield from self._write_once(flush)
        else:
            yield from self._write_once(flush)

    def _write_once(self, flush: bool) -> Iterator[Connection]:
        options = {"plait_write": True, "plait_flush": flush}
        with translated(), self._connect().execution_options(**options) as connection:
            transaction = connection.begin()
            try:
                yield connection
                failpoint("persist.before_commit")
            except BaseException as error:
                transaction.rollback()
                if is_outlived(error):
                    self._engine.dispose()  # All connections lead to the server that takes no writes any more.
                raise
            try:
                transaction.commit()
            except sa.exc.DBAPIError as error:
                if isinstance(error, sa.exc.IntegrityError) or is_full(error):
                    raise
                raise OutcomeUnknown(
                    f"the catalog's database did not confirm a commit: {cause(error)}",
                    remedy="ask again under the same idempotency key",
                ) from error
        failpoint("persist.after_commit")

    @contextmanager
    def unmanaged(self) -> Iterator[Connection]:
        """A connection outside of any transaction, for statements that cannot run in one."""
        self.check_usable()
        with translated(), self._connect().execution_options(plait_unmanaged=True) as connection:
            yield connection

    def _connect(self) -> Connection:
        """A connection from the pool. If the database takes no more, wait for one that another thread gives back."""
        pool = cast(sa.pool.QueuePool, self._engine.pool)
        deadline = time.monotonic() + _CROWDED_SECONDS
        while True:
            try:
                return self._engine.connect()
            except sa.exc.OperationalError as error:
                if not is_crowded(error) or time.monotonic() > deadline:
                    raise
            again = time.monotonic() + _CROWDED_RETRY_SECONDS
            while not pool.checkedin() and time.monotonic() < again:
                time.sleep(0.005)

    def check_usable(self, *, closing: bool = False) -> None:
        """Refuse use once it is closed; and in a forked process: it has its parent's connections and locks, but no
        thread that frees them.

        Raises: StoreUnavailable, InvalidArgument. See https://sqlite.org/howtocorrupt.html, "Carrying an open database
        connection across a fork".
        """
        if self._is_closed and not closing:
            raise StoreUnavailable("the catalog is closed", remedy="open it again")
        if os.getpid() != self._process:
            raise InvalidArgument(
                "this catalog was opened by the process that this one was forked from",
                remedy="open it again here, or start processes by 'spawn'",
            )

    def create_schema(self) -> None:
        """Make the tables in an empty database; no-op in one that has them at this revision.

        Raises: InvalidArgument for one at another revision, which is left as it is.
        """
        with self.write() as connection:
            # Two servers may start at once on an empty database: the second waits here, then finds the tables.
            self.lock_schema(connection)
            if not sa.inspect(connection).has_table("schema_version"):
                _check_encoding(connection)
                schema.metadata.create_all(connection, checkfirst=False)
                connection.execute(sa.insert(schema.schema_version).values(id=1, revision=schema.REVISION))
                fix_plans(connection)
            _check_revision(connection)

    def lock_schema(self, connection: Connection) -> None:
        """Keep everybody else from making or migrating tables until the write transaction ends."""
        if self.dialect == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7450)"))

    def revision(self) -> int:
        """The schema's revision. Raises: InvalidArgument when there is no catalog."""
        with self.read() as connection:
            _check_tables(connection)
            return _revision(connection)

    def check_schema(self) -> None:
        """Raises InvalidArgument unless the tables are at exactly this release's revision."""
        with self.read() as connection:
            _check_tables(connection)
            _check_revision(connection)

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its own file, and columns with values of a wrong type, each with its first row.

        A damaged page may hide rows from an index, or turn text into bytes or into invalid text. For PostgreSQL nothing
        is checked: it looks after its own pages. Cost: reads every page once, and each text.
        """
        if self.dialect != "sqlite":
            return []
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            damage = [str(line) for line in found if line != "ok"]
            driver: Any = connection.connection.driver_connection
            driver.create_function("plait_is_utf8", 1, is_utf8, deterministic=True)
            for table in schema.metadata.sorted_tables:
                try:
                    damage += wrong_values(connection, table)
                except sa.exc.DBAPIError as error:
                    damage.append(f"table {table.name} cannot be read: {cause(error)}")
        return damage

    def close(self) -> None:
        self._is_closed = True
        self._engine.dispose()


def fix_plans(connection: Connection) -> None:
    """Give SQLite's planner fixed statistics: call it while the tables are empty, and when their indexes change.

    Without them it assumes that a repository has about ten rows, and scans them all to find a few
    (https://sqlite.org/lang_analyze.html, "Fixed Results Of ANALYZE"). PostgreSQL's planner is set per connection.
    """
    if connection.dialect.name != "sqlite":
        return
    connection.exec_driver_sql("ANALYZE sqlite_schema")  # Creates the table of statistics, analyses no other table.
    connection.exec_driver_sql("DELETE FROM sqlite_stat1")
    for table in schema.metadata.sorted_tables:
        indexes = connection.exec_driver_sql(f'PRAGMA index_list("{table.name}")').all()
        for _, index, is_unique, origin, is_partial in indexes:
            columns = [column for _, _, column in connection.exec_driver_sql(f'PRAGMA index_info("{index}")').all()]
            rows = _ROWS_PENDING if is_partial else _ROWS_EXPECTED
            # How many rows agree in its first column, in its first two, and so on.
            alike = [rows if columns[0] == "repository_id" else _ROWS_ALIKE, *[_ROWS_ALIKE] * (len(columns) - 1)]
            if is_unique:
                alike[-1] = 1
            named = table.name if origin == "pk" and not table.dialect_options["sqlite"]["with_rowid"] else index
            statistics = " ".join(map(str, [rows, *alike]))
            connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", (table.name, named, statistics))
    connection.exec_driver_sql("ANALYZE sqlite_schema")  # Makes this connection load the statistics.


def _check_encoding(connection: Connection) -> None:
    """Raises: InvalidArgument for a database that cannot store every character: the history's texts may hold any."""
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if found != "UTF8":
            raise InvalidArgument(
                f"the database keeps texts as {found}, expected UTF8",
                remedy="make one with: CREATE DATABASE plait ENCODING 'UTF8' TEMPLATE template0",
            )


def _check_tables(connection: Connection) -> None:
    if not sa.inspect(connection).has_table("schema_version"):
        raise InvalidArgument("the database holds no catalog", remedy="make one with 'plait init'")


def _revision(connection: Connection) -> int:
    found: int | None = connection.execute(sa.select(schema.schema_version.c.revision)).scalar()
    if not isinstance(found, int):
        raise Corrupt(f"the database's schema_version is {found!r}, expected a whole number", remedy="restore a backup")
    return found


def _check_revision(connection: Connection) -> None:
    found = _revision(connection)
    if found < schema.REVISION:
        raise InvalidArgument(
            f"the catalog has schema {found}, this plait needs {schema.REVISION}", remedy="run 'plait migrate'"
        )
    if found > schema.REVISION:
        raise InvalidArgument(
            f"the catalog has schema {found}, this plait knows only {schema.REVISION}",
            remedy="install a newer plait",
        )


def sqlite_file(url: str) -> str:
    """The file that a URL of SQLite names, decoded, which SQLAlchemy does only from 2.1 on; "" for none."""
    return unquote(url.partition(":///")[2].partition("?")[0])


def _sqlite_engine(url: URL, module: ModuleType) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise InvalidArgument("a catalog needs a file", remedy="write sqlite:///PATH")
    file, folder = Path(str(url.database)), Path(str(url.database)).parent
    if file.is_dir():
        raise InvalidArgument(
            f"{file} is a folder, and a catalog's database is a file",
            remedy="move it away, or name another place",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(f"{folder} cannot be made: {error.strerror}", remedy="name another folder") from error
    is_fixed = _is_fixed(Path(str(url.database)))
    if is_fixed:
        url = url.set(database=f"file:{quote(str(url.database))}", query={"uri": "true", "immutable": "1"})
    engine = sa.create_engine(
        url.set(drivername="sqlite"),
        module=module,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        poolclass=sa.pool.QueuePool,
        pool_size=16,
        max_overflow=64,
        # A connection's page cache stays valid until another connection writes: so let the last writer write again.
        pool_use_lifo=True,
    )
    journal = "WAL" if module.sqlite_version_info >= _WAL_FIXED else "DELETE"

    @sa.event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, record: object) -> None:
        # SQLAlchemy's own documented way to get explicit transactions: the driver begins nothing by itself.
        dbapi_connection.isolation_level = None
        if not is_fixed:
            _set_journal(dbapi_connection, journal)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        driver: Any = connection.connection.driver_connection
        if driver.in_transaction:  # Who had it was interrupted (Ctrl-C) just where SQLAlchemy was to end it.
            driver.rollback()
        is_writer = options.get("plait_write", False) or options.get("plait_unmanaged", False)
        if is_writer and journal == "WAL":  # With a rollback journal, NORMAL could corrupt the file in a power loss.
            driver.execute(f"PRAGMA synchronous={'FULL' if options.get('plait_flush', True) else 'NORMAL'}")
        if not options.get("plait_unmanaged", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("plait_write", False) else "BEGIN")

    return engine


def _is_fixed(path: Path) -> bool:
    """Whether nobody can write to a database (a backup mounted read-only, say), so that readers need no locks.

    Raises: PermissionDenied if its last writes are still in the WAL, which would have to be written back first.
    """
    if not path.exists() or os.access(path.parent, os.W_OK):
        return False
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise PermissionDenied(
            f"{path} may not be written, and was not closed by whoever wrote it last",
            remedy="copy the catalog to a place that may be written, and open it there",
        )
    return True


def _set_journal(dbapi_connection: Any, journal: str) -> None:
    """Set the journal mode, again and again while SQLite is busy. When two processes create a database at once, SQLite
    refuses one of them at once, since both hold what the other needs (https://sqlite.org/c3ref/busy_handler.html)."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            dbapi_connection.execute(f"PRAGMA journal_mode={journal}")
            return
        except sqlite.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgresql_engine(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = sa.create_engine(
            url, pool_size=16, max_overflow=64, pool_use_lifo=True, connect_args={"client_encoding": "utf8"}
        )
    except ImportError as error:
        raise InvalidArgument("PostgreSQL needs a driver", remedy="pip install 'plait[postgresql]'") from error

    @sa.event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, record: object) -> None:
        # A plan made while a table is empty scans and sorts it, and is kept while the table grows. Every query of plait
        # has an index in the order that it needs, so scans are switched off. Queries of PostgreSQL's own tables have
        # none; they still scan, at a nominal cost so high that PostgreSQL would compile them, which takes 100 ms. So
        # jit is off too.
        for way in ("enable_seqscan", "enable_bitmapscan", "jit"):
            dbapi_connection.execute(f"SET {way} = off")
        dbapi_connection.commit()

    @sa.event.listens_for(engine, "checkin")
    def _checkin(dbapi_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _checkout(dbapi_connection: Any, record: Any, proxy: object) -> None:
        """Check a connection that was idle, as `pool_pre_ping` does, but without a round trip for every transaction."""
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) < _IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(dbapi_connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DisconnectionError from error

    return engine
