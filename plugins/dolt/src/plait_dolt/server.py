"""The Dolt SQL server, over the MySQL protocol: PyMySQL in SQLAlchemy's pool."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pymysql
import sqlalchemy as sa
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, PlaitError, StoreUnavailable
from plait.types import Location
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import SSCursor
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from plait_dolt.clients import Clients
from plait_dolt.engine import Engine, Refused, Row, Session, Table
from plait_dolt.names import quote
from plait_dolt.rights import missing, reserve

_LOST: Final = frozenset({2003, 2006, 2013, 2014, 2055, 1053, 4031})
"""MySQL's codes for a connection that is gone, or never came to be."""
_CUT: Final = 2013
_FULL: Final = 1040
"""MySQL's code for "Too many connections". Dolt (1.83) does not say it: it lets those who connect wait."""
_DENIED: Final = frozenset({1044, 1045, 1142, 1227, 1370})
_DENIED_TEXTS: Final = ("access denied", "command denied", "does not have the correct permissions", "read only mode")
_NO_DATABASE: Final = 1049
_DAMAGED: Final = re.compile(
    r"checksum error|\bEOF$|corrupted|invalid file signature|root hash doesn't exist"
    r"|^unexpected end of JSON input$|^invalid character .* (looking for|after) |repo_state\.json: no such file"
)
"""Dolt's words for chunks, or for a database's `repo_state.json`, that are not what was written."""
_BINARY: Final = 63
"""MySQL's id of what is no text."""
_CONNECT_SECONDS: Final = 10
_GREETING_SECONDS = 20.0
"""For what costs a server nothing: its greeting, and pointing a connection at a database. A frozen one still takes
connections, and never answers."""
_ANSWER_SECONDS: Final = 900.0
"""For all other statements of plait's: a merge of large tables says nothing until it is done."""
_OWN_DATABASES: Final = frozenset({"information_schema", "mysql", "performance_schema", "sys", "dolt_cluster"})


_KEY_COLUMNS: Final = (
    "SELECT column_name AS name FROM information_schema.key_column_usage WHERE table_schema = database() "
    "AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position"
)
_CASCADES: Final = (
    "SELECT DISTINCT table_name AS name FROM information_schema.referential_constraints WHERE constraint_schema = "
    "database() AND referenced_table_name = %s AND delete_rule NOT IN ('NO ACTION', 'RESTRICT') ORDER BY table_name"
)
_GENERATED: Final = re.compile(r"^\s*`(?P<name>(?:[^`]|``)+)` .*GENERATED ALWAYS AS \(.*\)(?P<stored> STORED)?", re.M)
"""A column's line of SHOW CREATE TABLE: nothing else tells (Dolt 1.83)."""
_CONVERSIONS: Final = {**conversions, FIELD_TYPE.BIT: partial(int.from_bytes, byteorder="big")}
"""How plait reads values: bits as the number that they are, for Dolt finds no row by them as bytes."""


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]
    """Reads bits as bytes: Dolt (1.83) says that they are text, and most are none that could be decoded."""

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> MysqlPacket:
        packet = super()._read_packet(packet_type)
        if packet_type is FieldDescriptorPacket and packet.type_code == FIELD_TYPE.BIT:
            packet.charsetnr = _BINARY
        return packet


def read_url(text: str, store: str) -> URL:
    """Check the option `url`. Raises: InvalidArgument, without showing a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise InvalidArgument(
            f"option 'url' of store {store!r} is no address", remedy="write url=mysql://user@127.0.0.1:3306"
        ) from error
    if url.drivername not in ("mysql", "mysql+pymysql") or not url.host:
        raise InvalidArgument(
            f"option 'url' of store {store!r} is for {url.drivername}, a Dolt server speaks MySQL's protocol",
            remedy="write url=mysql://user@127.0.0.1:3306",
        )
    if url.password is not None:
        raise InvalidArgument(
            f"option 'url' of store {store!r} holds a password in clear",
            remedy="leave it out, and write password=env:NAME or password=file:PATH",
        )
    if url.database or url.query:
        raise InvalidArgument(
            f"option 'url' of store {store!r} names more than a server: keys name its databases",
            remedy="write url=mysql://user@127.0.0.1:3306",
        )
    return url


class ServerEngine(Engine):
    """Pools its connections: each is pointed at a database and revision when it is taken."""

    def __init__(
        self, url: URL, password: Callable[[], str], *, tls_ca: str = "", reserved: Sequence[str] = ()
    ) -> None:
        self._url = url.set(drivername="mysql+pymysql")
        self._password = password
        self._reserved = tuple(reserved)
        self._tls_asked: dict[str, Any] = {"ssl_ca": tls_ca} if tls_ca else {}
        self._tls: dict[str, Any] | None = None
        connect = partial(self._connect, conv=_CONVERSIONS)
        self._pool = QueuePool(connect, pool_size=8, max_overflow=24, timeout=30, reset_on_return=None)
        self._clients = Clients(self._url, self._connect)

    @property
    def address(self) -> str:
        return f"{self._url.host}:{self._url.port or 3306}"

    def _connect(self, **options: Any) -> Any:
        """PyMySQL reads all certificates of the machine for each connection (20 ms), even where the server has no
        TLS: so the first connection tells what the next ones need, until one is lost."""
        try:
            connection = _Connection(
                host=str(self._url.host),
                port=self._url.port or 3306,
                user=self._url.username or "root",
                password=self._password(),
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_GREETING_SECONDS,
                charset="utf8mb4",
                **(self._tls_asked if self._tls is None else self._tls),
                **{"autocommit": True, **options},
            )
        except pymysql.OperationalError as error:
            if error.args[0] != _CUT or "timed out" not in str(error):
                raise
            told = f"it took a connection and said nothing for {_GREETING_SECONDS:g} seconds"
            raise pymysql.OperationalError(_FULL, told) from error
        if self._tls is None:
            has_tls = connection.server_capabilities & CLIENT.SSL
            self._tls = {"ssl": connection.ctx} if has_tls else {"ssl_disabled": True}
        _wait_at_most(connection, None)  # A user's own statement takes what it takes.
        return connection

    @contextmanager
    def session(self, database: str, revision: str = "") -> Iterator[ServerSession]:
        taken = self._take(database, revision)
        try:
            yield taken
        except BaseException as error:
            if not isinstance(error, PlaitError) or isinstance(error, StoreUnavailable):
                taken.is_spoiled = True  # Nobody knows in which state it is.
            raise
        finally:
            taken.end_stream()
            if taken.is_spoiled and taken.connection.is_valid:
                taken.connection.invalidate()
            taken.connection.close()

    def _take(self, database: str, revision: str) -> ServerSession:
        """A pooled connection may have died since (a restart, `dolt_gc`): then the next one is a new one."""
        for attempt in (1, 2):
            session = ServerSession(self._checkout(), database, self.translate)
            try:
                _wait_at_most(session.connection.driver_connection, _GREETING_SECONDS)
                session.use(revision)
                _wait_at_most(session.connection.driver_connection, _ANSWER_SECONDS)
                return session
            except StoreUnavailable:
                session.connection.invalidate()
                if attempt == 2:
                    raise
                self._tls = None
                self._pool = self._pool.recreate()
            except BaseException:
                session.connection.close()
                raise
        raise AssertionError("unreachable")

    def _checkout(self) -> PoolProxiedConnection:
        try:
            return self._pool.connect()
        except PoolTimeoutError as error:
            raise StoreUnavailable(f"all connections to Dolt at {self.address} are busy", remedy="retry") from error
        except pymysql.MySQLError as error:
            raise self.translate(error) from error

    def translate(self, error: Exception) -> PlaitError:
        """A driver's error in plait's words; passwords are in none of them."""
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in _DENIED or any(words in text.lower() for words in _DENIED_TEXTS):
            return PermissionDenied(
                f"Dolt at {self.address} denies it: {text}",
                remedy="check user and password of the store's options, and its rights with 'plait store check'",
            )
        if code == _NO_DATABASE or text.startswith("database not found"):
            return NotFound(
                f"Dolt at {self.address} has no {text.partition(': ')[2] or text!r}",
                remedy="where a commit names it, 'plait verify' says what is lost",
            )
        if code == _FULL:
            return StoreUnavailable(
                f"Dolt at {self.address} does not answer: {text}; all its max_connections may be in use, or it hangs",
                remedy="close clients of it or raise max_connections in its configuration, then retry; "
                "start it anew where it hangs",
            )
        if code in _LOST or isinstance(error, pymysql.err.InterfaceError) or "connection was killed" in text:
            remedy = "start its sql-server, then retry"
            if code == _CUT:
                remedy += (
                    "; where it runs, 'plait verify --depth bytes' tells whether it is damage that ends connections"
                )
            return StoreUnavailable(f"Dolt at {self.address} does not answer: {text}", remedy=remedy)
        if "no space left" in text:
            return StoreUnavailable(f"Dolt at {self.address} cannot write: {text}", remedy="make room on its disk")
        if text.endswith(": permission denied"):
            return PermissionDenied(
                f"Dolt at {self.address} may not read its own files: {text}",
                remedy="give them to the user whom its sql-server runs as",
            )
        if _DAMAGED.search(text):
            return Corrupt(f"Dolt at {self.address} cannot read what it holds: {text}", remedy="restore a backup")
        return Refused(text, what=f"Dolt at {self.address} refused a statement")

    def databases(self) -> list[str]:
        with self.session("") as session:
            found = [row["Database"] for row in session.rows("SHOW DATABASES")]
        return [name for name in found if name not in _OWN_DATABASES and "/" not in name]

    def database_at(self, place: str) -> str:
        if "://" not in place:
            return place
        try:
            url = make_url(place)
        except (ArgumentError, ValueError) as error:
            raise InvalidArgument("the place is no address", remedy="name a database of the store's server") from error
        if (url.host, url.port or 3306) != (self._url.host, self._url.port or 3306):
            raise InvalidArgument(
                f"{url.host}:{url.port or 3306} is another server than this store's, {self.address}",
                remedy="databases are imported where they are: plait store add a store with that url",
            )
        return url.database or ""

    def create_database(self, name: str, branch: str) -> None:
        with self.session("") as session:
            session.rows(f"CREATE DATABASE {quote(name)}")
        with self.session(name) as session:
            if branch not in session.branches(branch):
                session.call("dolt_branch", branch)
            if self._reserved:
                reserve(session, self._reserved)

    def drop_database(self, name: str) -> None:
        with self.session("") as session:
            session.rows(f"DROP DATABASE IF EXISTS {quote(name)}")

    def check(self) -> list[str]:
        with self.session("") as session:
            return missing(session, self._reserved)

    def client(self, database: str, revision: str) -> sa.Engine:
        try:
            return self._clients.get(f"{database}/{revision}")
        except (sa.exc.DBAPIError, pymysql.MySQLError) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            assert isinstance(cause, Exception)
            raise self.translate(cause) from error

    def forget_client(self, database: str, revision: str) -> None:
        self._clients.forget(f"{database}/{revision}")

    def locate(self, database: str, revision: str) -> Location:
        user = self._url.username or "root"
        uri = f"mysql://{self.address}/{database}/{revision}"
        snippet = (
            "import sqlalchemy\n"
            f"engine = sqlalchemy.create_engine('mysql+pymysql://{user}@{self.address}/{database}/{revision}')\n"
            f"-- or in any MySQL client:  USE `{database}/{revision}`;\n"
        )
        return Location(uri, {"user": user}, snippet)

    def collect(self, database: str) -> None:
        with self.session(database) as session:
            session.is_spoiled = True
            session.call("dolt_gc")
        self._pool = self._pool.recreate()

    def close(self) -> None:
        self._pool.dispose()
        self._clients.close()


def _wait_at_most(connection: Any, seconds: float | None) -> None:
    """How long its next answers may take. PyMySQL itself takes this only when it connects, for all of them."""
    connection._read_timeout = seconds


class ServerSession(Session):
    """A pooled connection, pointed at a database and revision."""

    def __init__(
        self, connection: PoolProxiedConnection, database: str, translate: Callable[[Exception], PlaitError]
    ) -> None:
        self.connection = connection
        self.database = database
        self.revision = ""
        self.is_spoiled = False
        self._translate = translate
        self._streaming: Any = None

    def use(self, revision: str) -> None:
        if self.database:
            self._execute(f"USE {quote(f'{self.database}/{revision}' if revision else self.database)}", ())
        else:
            self._execute("SELECT 1", ())
        self.revision = revision

    def _execute(self, sql: str, args: Sequence[object], kind: type[Any] | None = None) -> Any:
        try:
            driver: Any = self.connection.driver_connection
            cursor = driver.cursor(kind)
            cursor.execute(sql, tuple(args))
        except (pymysql.MySQLError, OSError) as error:
            told = self._translate(error)
            if isinstance(told, NotFound) and self.database:
                told = self._damage() or told
            raise told from error
        return cursor

    def _damage(self) -> Corrupt | None:
        """Of a database that Dolt cannot read: asked for one of its revisions, Dolt finds none."""
        driver: Any = self.connection.driver_connection
        try:
            driver.cursor().execute(f"USE {quote(self.database)}")
        except (pymysql.MySQLError, OSError) as error:
            told = self._translate(error)
            return told if isinstance(told, Corrupt) else None
        return None

    def rows(self, sql: str, *args: object) -> list[Row]:
        cursor = self._execute(sql, args)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stream(self, sql: str, *args: object) -> Iterator[Row]:
        self._streaming = cursor = self._execute(sql, args, SSCursor)
        names = [column[0] for column in cursor.description]
        try:
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        except (pymysql.MySQLError, OSError) as error:
            raise self._translate(error) from error

    def end_stream(self) -> None:
        """Rows that nobody asked for any more go with their connection: PyMySQL would read all of them first."""
        result = None if self._streaming is None else self._streaming._result
        if result is not None and result.unbuffered_active:
            result.unbuffered_active, self._streaming.connection = False, None
            self.is_spoiled = True

    def call(self, procedure: str, *args: object) -> Row:
        found = self.rows(f"CALL {procedure}({', '.join(['%s'] * len(args))})", *args)
        return found[0] if found else {}

    def commit(self, message: str, *options: str) -> bool:
        # A refusal would be a warning in the server's log, for each untouched working set.
        if options:
            return super().commit(message, *options)
        return bool(self.call("dolt_commit", "-A", "-m", message, "--skip-empty"))

    def has_ancestor(self, commit: str, ancestor: str) -> bool:
        return bool(self.value("SELECT has_ancestor(%s, %s)", commit, ancestor))

    def head_since(self, ancestor: str) -> tuple[str, str, bool]:
        (row,) = self.rows(
            "SELECT dolt_hashof('HEAD') AS h, dolt_hashof_db('HEAD') AS r, has_ancestor('HEAD', %s) AS a", ancestor
        )
        return row["h"], row["r"], bool(row["a"])

    def tables(self) -> list[str]:
        found = self.rows("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        return sorted(next(iter(row.values())) for row in found)

    def table(self, name: str) -> Table:
        columns = self.rows(f"SHOW COLUMNS FROM {quote(name)}")
        # SHOW KEYS tells of none where a column is virtual (Dolt 1.83).
        key = self.rows(_KEY_COLUMNS, name)
        types = {row["Field"]: str(row["Type"]).lower() for row in columns}
        generated = {
            found["name"].replace("``", "`"): found["stored"]
            for found in _GENERATED.finditer(self.create_statement(name))
        }
        has_virtual = None in generated.values()
        return Table(name, tuple(types), types, tuple(row["name"] for row in key), frozenset(generated), has_virtual)

    def create_statement(self, table: str) -> str:
        return str(self.rows(f"SHOW CREATE TABLE {quote(table)}")[0]["Create Table"])

    def has_triggers(self, table: str) -> bool:
        return any(row["Table"] == table for row in self.rows("SHOW TRIGGERS"))

    def cascades(self, table: str) -> list[str]:
        return [row["name"] for row in self.rows(_CASCADES, table)]

    def programs(self) -> Mapping[str, str]:
        views = {row["name"]: row["fragment"] for row in self.rows("SELECT name, fragment FROM dolt_schemas")}
        procedures = self.rows("SELECT name, create_stmt FROM dolt_procedures")
        return {**views, **{row["name"]: row["create_stmt"] for row in procedures}}

    def diff_rows(
        self,
        table: str,
        before: str,
        after: str,
        columns: Sequence[str],
        where: str = "",
        args: Sequence[object] = (),
    ) -> Iterator[Row]:
        asked = ", ".join(quote(column) for column in columns)
        sql = f"SELECT {asked} FROM dolt_diff(%s, %s, %s) {f'WHERE {where}' if where else ''}"
        return self.stream(sql, before, after, table, *args)

    def fast_forward(self, before: str, after: str) -> bool:
        try:
            moved = self.call("dolt_merge", "--ff-only", after)
        except Refused as error:
            if "fast-forward" in error.text or "stomped" in error.text:
                return False
            raise
        return bool(moved["fast_forward"])

    def merge(self, theirs: str, message: str) -> bool:
        self.rows("SET @@dolt_allow_commit_conflicts = 1, @@dolt_force_transaction_commit = 1")
        self.is_spoiled = True  # These settings are not for whoever takes the connection next.
        merged = self.call("dolt_merge", "--no-ff", "-m", message, theirs)
        return not merged["conflicts"]

    def fatal_conflicts(self, base: str, ours: str, theirs: str) -> list[str]:
        """Dolt 1.83 dies of a conflict in a table with a stored generated column and no further index."""
        changed = self.rows("SELECT to_table_name AS name FROM dolt_diff_summary(%s, %s)", base, theirs)
        exposed = {name for name in {row["name"] for row in changed} & {*self.tables()} if self._has_stored(name)}
        if not exposed:
            return []
        found = self.rows("SELECT * FROM dolt_preview_merge_conflicts_summary(%s, %s)", ours, theirs)
        return sorted(row["table"] for row in found if row["table"] in exposed and row["num_data_conflicts"])

    def put_ours(self, table: Table, row: Row, where: str, args: Sequence[object]) -> bool:
        written = {name: value for name, value in row.items() if name not in table.generated}
        puts = ", ".join(f"{quote('our_' + name)} = %s" for name in written)
        listed = quote("dolt_conflicts_" + table.name)
        self.rows(f"UPDATE {listed} SET {puts} WHERE {where}", *written.values(), *args)
        return True

    def _has_stored(self, name: str) -> bool:
        table = self.table(name)
        return bool(table.key and table.generated and not table.has_virtual)

    def abandon(self) -> None:
        try:
            self.call("dolt_merge", "--abort")
        except Refused:
            return  # There was none.

    def relax(self) -> None:
        self.is_spoiled = True  # As in `merge`.
        self.rows("SET foreign_key_checks = 0")

    def copy_row(self, table: Table, columns: Sequence[str], commit: str, where: str, args: Sequence[object]) -> None:
        columns = [column for column in columns if column not in table.generated]
        listed = ", ".join(quote(column) for column in columns)
        old = f"SELECT {listed} FROM {quote(table.name)} AS OF %s WHERE {where}"
        if not self.rows(f"SELECT 1 AS one FROM {quote(table.name)} WHERE {where}", *args):
            self.rows(f"INSERT INTO {quote(table.name)} ({listed}) {old}", commit, *args)
            return
        # ON DUPLICATE KEY UPDATE over AS OF is refused by Dolt 1.83, so the update is a join.
        same = " AND ".join(f"held.{quote(column)} = old.{quote(column)}" for column in table.key)
        updates = ", ".join(f"held.{quote(column)} = old.{quote(column)}" for column in columns)
        self.rows(f"UPDATE {quote(table.name)} AS held JOIN ({old}) AS old ON {same} SET {updates}", commit, *args)
