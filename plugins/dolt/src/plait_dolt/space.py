"""What keeps snapshots alive: plait's tags. Retention drops them, then lets Dolt collect what nothing refers to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from plait.adapter import Context
from plait.errors import InvalidArgument, NotFound
from plait.types import Item, SnapshotRef

from plait_dolt.engine import Engine, Session
from plait_dolt.names import KEPT, OWN

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
