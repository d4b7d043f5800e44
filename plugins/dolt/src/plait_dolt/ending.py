"""The end of a transaction: its branches go, and the tags of what lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from plait.adapter import Context
from plait.errors import NotFound

from plait_dolt.engine import Engine, Refused, Session
from plait_dolt.names import FOUND, KEPT, OWN, branches_of, tags_of

_TRANSACTIONS_MAX: Final = 10_000
_RECENT_COMMITS: Final = 32
_TAGS_BEFORE: Final = f"""
    SELECT t.tag_name AS tag FROM dolt_tags t JOIN (
        SELECT a.parent_hash AS parent FROM (SELECT commit_hash FROM dolt_log(%s) LIMIT {_RECENT_COMMITS}) l
        JOIN dolt_commit_ancestors a ON a.commit_hash = l.commit_hash
    ) p ON t.tag_hash = p.parent"""
"""Tags of a commit's nearest ancestors, by way of parents: a merge's other side may be older than the rest."""


@dataclass(slots=True)
class Touched:
    """Where this process has written for one transaction. `may_have_lost`: there may be tags that its commit does
    not name."""

    places: set[tuple[str, str]] = field(default_factory=set)
    may_have_lost: bool = False


class Known:
    """What each transaction touched, as far as this process did it: listing the tags of a database is O(tags).

    And which commits it made on top of which, since a prepare finds out what `succeed` asks right after.
    A process that was started since knows nothing, and asks. Thread-safe, of bounded size.
    """

    def __init__(self) -> None:
        self._touched: OrderedDict[str, Touched] = OrderedDict()
        self._descends: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = Lock()

    def note_descent(self, commit: str, ancestor: str) -> None:
        """That one commit is, or descends from, another: true for ever."""
        with self._lock:
            self._descends[commit, ancestor] = None
            while len(self._descends) > _TRANSACTIONS_MAX:
                self._descends.popitem(last=False)

    def descends(self, commit: str, ancestor: str) -> bool:
        """False: not known here."""
        with self._lock:
            return commit == ancestor or (commit, ancestor) in self._descends

    def note(self, tx: str, place: tuple[str, str] | None = None, *, may_have_lost: bool = False) -> None:
        with self._lock:
            touched = self._touched.setdefault(tx, Touched())
            if place is not None:
                touched.places.add(place)
            touched.may_have_lost |= may_have_lost
            while len(self._touched) > _TRANSACTIONS_MAX:
                self._touched.popitem(last=False)

    def take(self, tx: str) -> Touched:
        with self._lock:
            return self._touched.pop(tx, Touched())


def release(
    engine: Engine, context: Context, tx: str, touched: Touched, databases: Collection[str], kept: Collection[str]
) -> None:
    """Drop a committed transaction's branches, and its tags but those of the kept commits.

    `databases`: where it may have written without this process. Repeat: no-op. Cost: a statement for each staging.
    """
    known: dict[str, list[str]] = {}
    for database, branch in touched.places:
        known.setdefault(database, []).append(branch)
    for database in sorted({*known, *databases}):
        with suppress(NotFound), engine.session(database, "") as session:  # It may be dropped behind plait.
            for branch in known.get(database, ()):
                engine.forget_client(database, branch)
            _drop(session, context, known[database] if database in known else branches_found(session, tx))
            if engine.rewrites_refs:
                keep_ends(session, context, tx, kept)
            elif touched.may_have_lost or database not in known:
                drop_tags(session, context, tx, kept)


def branches_found(session: Session, tx: str) -> list[str]:
    return [name for name in session.branches(OWN) if name.startswith(branches_of(tx))]


def _drop(session: Session, context: Context, branches: Iterable[str]) -> None:
    for name in branches:
        _call_once(session, "dolt_branch", "-D", name)
        context.failpoint("dolt.end.branch_dropped")


def drop_tags(session: Session, context: Context, tx: str, kept: Collection[str] = ()) -> None:
    for name, commit in session.tags(tags_of(tx)).items():
        if commit not in kept:
            _call_once(session, "dolt_tag", "-d", name)
            context.failpoint("dolt.end.tag_dropped")


def keep_ends(session: Session, context: Context, tx: str, kept: Collection[str]) -> None:
    """Give what a committed transaction keeps a tag that no transaction owns, and drop all of its own; then the tags of
    the commits that this one descends from, since it keeps them too.

    So there are as many tags as ends of branches, not as commits, and votes end with their transaction alone.
    Repeat: no-op. Cost: O(tags) rows, two writes.
    """
    own = session.tags(tags_of(tx))
    going = set(own)
    for commit in sorted(set(own.values()).intersection(kept)):
        session.pin(KEPT + commit, commit)
        context.failpoint("dolt.end.kept")
        before = [str(row["tag"]) for row in session.rows(_TAGS_BEFORE, commit)]
        going.update(name for name in before if name.startswith((KEPT, FOUND)))
    if going:
        try:
            session.call("dolt_tag", "-d", *sorted(going))
        except Refused:  # Somebody else has dropped one of them.
            for name in sorted(going):
                _call_once(session, "dolt_tag", "-d", name)
        context.failpoint("dolt.end.superseded_dropped")


def _call_once(session: Session, procedure: str, *args: str) -> None:
    """Drop what somebody else, a recovery say, may have dropped since it was listed."""
    try:
        session.call(procedure, *args)
    except Refused as error:
        if "not found" not in error.text:
            raise


def abort(engine: Engine, context: Context, tx: str, database: str) -> None:
    """Drop a transaction's branches and all of its tags in one database. Repeat: no-op."""
    with engine.session(database, "") as session:
        _drop(session, context, branches_found(session, tx))
        drop_tags(session, context, tx)
