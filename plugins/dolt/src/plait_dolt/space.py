"""What keeps snapshots alive: plait's tags. Retention drops them, then lets Dolt collect what nothing refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from plait.adapter import Context
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreUnavailable
from plait.types import Depth, Health, Item, SnapshotRef

from plait_dolt.engine import Engine, Refused
from plait_dolt.names import OWN, quote

_TAGS = "tags"


def _item(database: str, tag: str) -> Item:
    return Item(f"{database}/{_TAGS}/{tag}")


def reachable(engine: Engine, snapshot: SnapshotRef) -> Iterator[Item]:
    """The tags that name the snapshot's commit. What the commit is made of lives and dies with them."""
    with engine.session(snapshot.asset, "") as session:
        found = [tag for tag, commit in session.tags(OWN).items() if commit == snapshot.version]
    for tag in sorted(found):
        yield _item(snapshot.asset, tag)


def inventory(engine: Engine, prefix: str) -> Iterator[Item]:
    """Plait's tags in every database."""
    for database in sorted(engine.databases()):
        with engine.session(database, "") as session:
            found = session.tags(OWN)
        yield from (item for tag in sorted(found) if (item := _item(database, tag)).path.startswith(prefix))


def delete(engine: Engine, items: Iterable[Item], context: Context) -> None:
    """Drop tags, then collect each database once: the only place where plait runs `dolt_gc`. Repeat: no-op.

    Commits that the public branch or another tag still descends from stay.
    """
    by_database: dict[str, list[str]] = {}
    for item in items:
        database, kind, tag = (*item.path.split("/", 2), "", "")[:3]
        if kind != _TAGS or not tag.startswith(OWN):
            raise InvalidArgument(f"{item.path!r} is nothing that plait keeps in Dolt")
        by_database.setdefault(database, []).append(tag)
    for database, tags in by_database.items():
        try:
            with engine.session(database, "") as session:
                for tag in tags:
                    context.check_cancelled()
                    if session.tag(tag) is not None:
                        session.call("dolt_tag", "-d", tag)
                    context.failpoint("dolt.delete.tag_dropped")
        except NotFound:
            continue  # The database is gone, and its tags with it.
        engine.collect(database)
        context.failpoint("dolt.delete.collected")


def verify(engine: Engine, snapshot: SnapshotRef, depth: Depth, context: Context) -> Health:
    """EXISTS: the commit is there, with the tables' root of the digest. METADATA: its tables can be described, and a
    tag of plait's keeps it. BYTES: every row of every table can be read."""
    problems: list[str] = []
    checked = 1
    try:
        with engine.session(snapshot.asset, snapshot.version) as session:
            root = str(session.value("SELECT dolt_hashof_db()"))
            if root.encode() != snapshot.digest:
                found = f"root {root}, expected {snapshot.digest.decode(errors='replace')}"
                return Health(1, (f"commit {snapshot.version} of database {snapshot.asset} has {found}",))
            if depth is Depth.EXISTS:
                return Health(1)
            if snapshot.version not in session.tags(OWN).values():
                problems.append(f"no tag of plait's keeps commit {snapshot.version} of database {snapshot.asset}")
            tables = session.tables()
        for name in tables:
            context.check_cancelled()
            try:
                checked += _read(engine, snapshot, name, depth)
            except (Refused, Corrupt) as error:
                problems.append(f"table {name} of database {snapshot.asset} cannot be read: {error.message}")
    except (NotFound, Refused, Corrupt) as error:
        problems.append(f"commit {snapshot.version} of database {snapshot.asset} cannot be read: {error.message}")
    return Health(checked, tuple(problems))


def _read(engine: Engine, snapshot: SnapshotRef, table: str, depth: Depth) -> int:
    """How much of a table was read. Raises: Refused, Corrupt; StoreUnavailable when the engine answers nothing at all:
    over some damage it drops the connection, whenever the table is read."""
    for attempt in (1, 2):
        try:
            with engine.session(snapshot.asset, snapshot.version) as session:
                session.table(table)
                if depth is not Depth.BYTES:
                    return 1
                return 1 + sum(1 for _ in session.stream(f"SELECT * FROM {quote(table)}"))
        except StoreUnavailable as error:
            with engine.session(snapshot.asset, snapshot.version):
                if attempt == 2:
                    raise Corrupt(f"reading it ends the connection: {error.message}") from error
    raise AssertionError("unreachable")
