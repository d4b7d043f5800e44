"""What keeps snapshots alive: plait's tags. Retention drops them, then lets Dolt collect what nothing refers to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from plait.adapter import Context
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreUnavailable
from plait.types import Depth, Health, Item, SnapshotRef

from plait_dolt.engine import Engine, Refused, Session
from plait_dolt.names import KEPT, OWN, quote

_TAGS = "tags"


def _item(database: str, tag: str) -> Item:
    return Item(f"{database}/{_TAGS}/{tag}")


def reachable(engine: Engine, snapshot: SnapshotRef) -> Iterator[Item]:
    """The tags that name the snapshot's commit. What the commit is made of lives and dies with them.

    None, where only descendants have tags: `delete` names it before the last of those goes.
    """
    with engine.session(snapshot.asset, "") as session:
        found = [tag for tag, commit in session.tags(OWN).items() if commit == snapshot.version]
    for tag in sorted(found):
        yield _item(snapshot.asset, tag)


def inventory(engine: Engine, prefix: str) -> Iterator[Item]:
    """Plait's tags in every database that the prefix may be of."""
    for database in sorted(engine.databases()):
        root = _item(database, OWN).path
        if not (root.startswith(prefix) or prefix.startswith(root)):
            continue
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
            _drop_tags(engine, database, tags, context)
        except NotFound:
            continue  # The database is gone, and its tags with it.
        engine.collect(database)
        context.failpoint("dolt.delete.collected")


def _drop_tags(engine: Engine, database: str, tags: Collection[str], context: Context) -> None:
    with engine.session(database, "") as session:
        if engine.rewrites_refs:
            _pin_ancestors(session, tags)
            context.failpoint("dolt.delete.ancestors_pinned")
        for tag in tags:
            context.check_cancelled()
            if session.tag(tag) is not None:
                session.call("dolt_tag", "-d", tag)
            context.failpoint("dolt.delete.tag_dropped")


def _pin_ancestors(session: Session, going: Collection[str]) -> None:
    """Give commits that only these tags keep a tag of their own, since what is alive may be among them: what is not
    goes the next time. What the tags name is dead, as they say who drop them. Cost: O(commits of the database)."""
    tags = session.tags("")
    dead = {commit for tag, commit in tags.items() if tag in going}
    staying = {commit for tag, commit in tags.items() if tag not in going}
    staying.update(row["hash"] for row in session.rows("SELECT hash FROM dolt_branches"))
    for commit in sorted(session.ancestors(dead) - dead - session.ancestors(staying)):
        session.pin(KEPT + commit, commit)


class Kept:
    """Which commits plait's tags keep: those that they name, and the ancestors of these.

    Remembered until the tags of a database are others, or another one is asked for: looking at each of its commits
    would else read all of them each time. Thread-safe.
    """

    def __init__(self) -> None:
        self._last: tuple[str, frozenset[str], set[str]] = ("", frozenset(), set())

    def has(self, session: Session, commit: str) -> bool:
        tagged = frozenset(session.tags(OWN).values())
        if commit in tagged:
            return True
        database, then, kept = self._last
        if (database, then) != (session.database, tagged):
            kept = session.ancestors(tagged)
            self._last = session.database, tagged, kept
        return commit in kept


def verify(engine: Engine, snapshot: SnapshotRef, depth: Depth, context: Context, kept: Kept) -> Health:
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
            if not kept.has(session, snapshot.version):
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
