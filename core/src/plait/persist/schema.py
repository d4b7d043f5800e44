"""The tables, in SQLAlchemy Core. Rows carry no logic: the layers above decide what they mean.

All rows belong to a repository, so several of them share one database. Ids and digests are raw bytes; keys are
`codec.encode_key`, so that they sort as keys do; maps of text are JSON.

An index for look-ups of one value has that value first and the repository second: a planner without statistics thinks
all indexes that begin with the repository equally good, picks any of them, and reads all of it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
    event,
    literal_column,
    or_,
)

REVISION: Final = 1
"""The schema that this release writes. An older database needs `plait migrate`, a newer one a newer plait."""

metadata = MetaData()


@event.listens_for(metadata, "before_create")
def _make_indexes_partial(_: MetaData, connection: Connection, **options: object) -> None:
    """Give PostgreSQL the conditions of partial indexes, which are written as SQLite's: an index that names both
    imports PostgreSQL's dialect in each process, a tenth of the time that `plait log` takes."""
    if connection.dialect.name == "postgresql":
        for index in (index for table in metadata.tables.values() for index in table.indexes):
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]


schema_version = Table(
    "schema_version",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("revision", Integer, nullable=False),
)

repository = Table(
    "repository",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("salt", LargeBinary, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)


def _owned(name: str, *columns: Column[object] | UniqueConstraint | Index, clustered: bool = False) -> Table:
    """A table of a repository. `clustered`: rows live in the primary key itself (SQLite's WITHOUT ROWID)."""
    owner: Column[int] = Column("repository_id", Integer, ForeignKey("repository.id"), primary_key=True)
    return Table(name, metadata, owner, *columns, sqlite_with_rowid=not clustered)


serial = _owned(
    "serial",
    Column("seq", BigInteger, nullable=False),
    Column("record_hash", LargeBinary, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

log = _owned(
    "log",
    Column("seq", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("record_hash", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

node = _owned(
    "node",
    Column("id", LargeBinary, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("touched_seq", BigInteger, nullable=False),
)

snapshot = _owned(
    "snapshot",
    Column("ref_digest", LargeBinary, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("touched_seq", BigInteger, nullable=False),
)

commit = _owned(
    "commit",
    Column("id", LargeBinary, nullable=False),
    Column("seq", BigInteger, primary_key=True),
    Column("parents", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("tx", Text, nullable=False),
    Column("committed_at_us", BigInteger, nullable=False),
    Column("salt", LargeBinary, nullable=True),
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("properties", Text, nullable=False),
    Column("session_id", LargeBinary, nullable=False),
    UniqueConstraint("id", "repository_id", name="commit_id"),
    clustered=True,
)

session = _owned(
    "session",
    Column("id", LargeBinary, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("properties", Text, nullable=False),
    clustered=True,
)

ref = _owned(
    "ref",
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("protected", Boolean, nullable=False),
)

ref_log = _owned(
    "ref_log",
    Column("seq", BigInteger, primary_key=True),
    Column("ref", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("moved_at_us", BigInteger, nullable=False),
    Column("before", LargeBinary, nullable=True),
    Column("after", LargeBinary, nullable=True),
    Index("ref_log_by_ref", "repository_id", "ref", "moved_at_us"),
)

change = _owned(
    "change",
    Column("key", LargeBinary, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("before", LargeBinary, nullable=True),
    Column("after", LargeBinary, nullable=True),
    Index("change_by_seq", "seq", "repository_id"),
    clustered=True,
)

tx = _owned(
    "tx",
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("base", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("properties", Text, nullable=False),
    Column("session_id", LargeBinary, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("implicit", Boolean, nullable=False),
    Column("merged_parents", LargeBinary, nullable=False),
    Column("source", LargeBinary, nullable=True),
    Column("commit_id", LargeBinary, nullable=True),
    Column("created_at_us", BigInteger, nullable=False),
    clustered=True,
)

LIVE: Final = and_(tx.c.state != literal_column("'committed'"), tx.c.state != literal_column("'aborted'"))
"""Condition for transactions that have not ended. A partial index has this very condition: keep its wording."""
Index("tx_live", tx.c.repository_id, sqlite_where=LIVE)

participant = _owned(
    "participant",
    Column("tx", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("base", LargeBinary, nullable=True),
    Column("base_content_id", Text, nullable=True),
    Column("content_id", Text, nullable=True),
    Column("staged", Boolean, nullable=False),
    Column("staged_base", LargeBinary, nullable=True),
    Column("location", Text, nullable=False),
    Column("attrs", Text, nullable=False),
    Column("dropped", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("prepared", LargeBinary, nullable=True),
    Column("intent", Text, nullable=False),
    clustered=True,
)

conflict = _owned(
    "conflict",
    Column("tx", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("item", LargeBinary, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("resolution", LargeBinary, nullable=True),
)

publication = _owned(
    "publication",
    Column("store", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("published", LargeBinary, nullable=True),
    Column("target", LargeBinary, nullable=True),
    Column("moving", LargeBinary, nullable=True),
    Column("found", LargeBinary, nullable=True),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Index("publication_by_key", "key", "repository_id"),
)

UNDONE: Final = or_(
    publication.c.moving.is_not(None),
    publication.c.published.is_distinct_from(publication.c.target),
    publication.c.state != literal_column("'idle'"),
)
"""Condition for publications whose native head is not at its target. A partial index has this very condition: keep its
wording."""
Index(
    "publication_undone",
    publication.c.repository_id,
    publication.c.store,
    sqlite_where=UNDONE,
)

publish_cursor = _owned(
    "publish_cursor",
    Column("store", Text, primary_key=True),
    Column("head", LargeBinary, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

store = _owned(
    "store",
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("bound_ref", Text, nullable=False),
    Column("options", Text, nullable=False),
)

store_state = _owned(
    "store_state",
    Column("store", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

idempotency = _owned(
    "idempotency",
    Column("key", Text, primary_key=True),
    Column("principal", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    clustered=True,
)

subscription = _owned(
    "subscription",
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

token = _owned(
    "token",
    Column("name", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at_us", BigInteger, nullable=False),
)
