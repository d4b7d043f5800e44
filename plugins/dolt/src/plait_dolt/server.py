"""The Dolt SQL server, over the MySQL protocol: PyMySQL in SQLAlchemy's pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import quote as quote_uri

import pymysql
import sqlalchemy as sa
from plait.errors import InvalidArgument, PlaitError, StoreUnavailable
from plait.types import Location
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from plait_dolt.clients import Clients
from plait_dolt.engine import Engine
from plait_dolt.names import quote
from plait_dolt.rights import missing, reserve
from plait_dolt.server_errors import CUT, FULL, translate
from plait_dolt.server_session import ServerSession

_BINARY: Final = 63
"""MySQL's id of what is no text."""
_CONNECT_SECONDS: Final = 10
_GREETING_SECONDS = 20.0
"""For what costs a server nothing: its greeting, and pointing a connection at a database. A frozen one still takes
connections, and never answers."""
_ANSWER_SECONDS: Final = 900.0
"""For all other statements of plait's: a merge of large tables says nothing until it is done."""
_OWN_DATABASES: Final = frozenset({"information_schema", "mysql", "performance_schema", "sys", "dolt_cluster"})
_CONVERSIONS: Final = {**conversions, FIELD_TYPE.BIT: partial(int.from_bytes, byteorder="big")}
"""How plait reads values: bits as the number that they are, for Dolt finds no row by them as bytes."""


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]
    """Reads bits as bytes: Dolt (1.83) says that they are text, and most are none that could be decoded."""

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> MysqlPacket:
        packet = super()._read_packet(packet_type)
        if packet_type is FieldDescriptorPacket and packet.type_code == FIELD_TYPE.BIT:
            packet.charsetnr = _BINARY
        return packet


class ServerEngine(Engine):
    """Pools its connections: each is pointed at a database and revision when it is taken."""

    def __init__(
        self,
        url: URL,
        password: Callable[[], str],
        *,
        secret: str = "",
        tls_ca: str = "",
        reserved: Sequence[str] = (),
    ) -> None:
        """`secret`: where the password is, as the store's option says it."""
        self._secret = secret
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
            if error.args[0] != CUT or "timed out" not in str(error):
                raise
            told = f"it took a connection and said nothing for {_GREETING_SECONDS:g} seconds"
            raise pymysql.OperationalError(FULL, told) from error
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
        return translate(error, self.address)

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
        user, name = self._url.username or "root", f"{database}/{revision}"
        escaped = name.replace("`", "``")
        how, _, where = self._secret.partition(":")
        reading = {"env": f"os.environ[{where!r}]", "file": f"open({where!r}).read().strip()"}.get(how, "None")
        snippet = (
            "import os, sqlalchemy\n"
            "url = sqlalchemy.URL.create(\n"
            f"    'mysql+pymysql', {user!r}, {reading}, {self._url.host!r}, {self._url.port or 3306}, {name!r}\n"
            ")\n"
            "engine = sqlalchemy.create_engine(url)\n"
            f"# or in any MySQL client:  USE `{escaped}`;\n"
        )
        options = {"user": user, **({"password": self._secret} if self._secret else {})}
        return Location(f"mysql://{self.address}/{quote_uri(name)}", options, snippet)

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
