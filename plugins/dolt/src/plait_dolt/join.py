"""Merges and successions: new commits made on scratch branches, recorded by a tag, invisible until published.

Dolt merges by the ancestor that it finds itself. Where plait's base is another one (a cherry-pick, a revert), both
sides are first put onto that base: a commit with any parent and any tables is a branch at the tables, soft-reset to the
parent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from plait.adapter import Context
from plait.codec import digest, pack
from plait.types import Choice, Conflict, Conflicted, ConflictKind, Merged, Resolution, SnapshotRef

from plait_dolt.conflicts import Ahead, Sides, check_no_triggers, put_row, settle, settle_ahead, settled_schemas
from plait_dolt.engine import Engine, Refused, Session
from plait_dolt.names import join_tag, quote, scratch_branch

Describe = Callable[[Session, str], SnapshotRef]


@dataclass(frozen=True, slots=True)
class Joining:
    """The joins of one transaction's attempt in one database."""

    engine: Engine
    context: Context
    describe: Describe
    tx: str
    attempt: int
    database: str

    def merge(
        self,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution],
    ) -> Merged | Conflicted:
        settled = sorted((one.item or "", one.choice.value, one.value) for one in resolutions if one.item is not None)
        join = self._name("merge", [base and base.version, ours.version, theirs.version, settled])
        with self.engine.session(self.database, "") as session:
            tag = join_tag(self.tx, self.attempt, join)
            made = session.tag(tag)
            if made is None:
                with self._scratch(session, join) as scratch:
                    found = self._merge(session, scratch, base, ours.version, theirs.version, resolutions)
                    if isinstance(found, Conflicted):
                        return found
                    self.context.failpoint("dolt.merge.before_tag")
                    made = session.pin(tag, found)
                    self.context.failpoint("dolt.merge.after_tag")
            return Merged(self.describe(session, made))

    def descends(self, content: SnapshotRef, onto: SnapshotRef) -> bool:
        with self.engine.session(self.database, "") as session:
            return session.has_ancestor(content.version, onto.version)

    def succeed(self, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        join = self._name("succeed", [onto.version, content.version])
        with self.engine.session(self.database, "") as session:
            tag = join_tag(self.tx, self.attempt, join)
            made = session.tag(tag)
            if made is None:
                with self._scratch(session, join) as scratch:
                    made = self._follow(session, scratch, onto.version, content.version, is_ancestor_too=True)
                    self.context.failpoint("dolt.succeed.before_tag")
                    made = session.pin(tag, made)
                    self.context.failpoint("dolt.succeed.after_tag")
            return self.describe(session, made)

    def _name(self, call: str, arguments: Sequence[object]) -> str:
        return digest(b"dolt-join", pack([call, list(arguments)])).hex()[:32]

    @contextmanager
    def _scratch(self, session: Session, join: str) -> Iterator[Callable[[str], str]]:
        """Makes branches of a name of their own, at a commit; all are dropped at the end, or else by `abort`."""
        made: list[str] = []

        def make(commit: str) -> str:
            name = scratch_branch(self.tx, join, f"{len(made)}-{uuid.uuid4().hex[:8]}")
            if made:
                session.use(made[-1])  # No branch can be made while standing at a commit.
            session.call("dolt_branch", name, commit)
            made.append(name)
            session.use(name)
            self.context.failpoint("dolt.join.branched")
            return name

        yield make
        session.use("")
        for name in made:
            session.call("dolt_branch", "-D", name)
            self.context.failpoint("dolt.join.dropped")

    @property
    def _message(self) -> str:
        return f"plait: joined\n\nplait-txn: {self.tx}"

    def _put_on(self, session: Session, scratch: Callable[[str], str], parent: str, content: str) -> str:
        """A commit with these tables and this one parent."""
        scratch(content)
        session.call("dolt_reset", "--soft", parent)
        session.commit(self._message, "--allow-empty")
        return session.head()[0]

    def _follow(
        self, session: Session, scratch: Callable[[str], str], onto: str, content: str, *, is_ancestor_too: bool
    ) -> str:
        """A commit with content's tables that descends from `onto`, and from content too where it is wanted."""
        if not is_ancestor_too or session.has_ancestor(onto, content):
            return self._put_on(session, scratch, onto, content)
        # A merge of a side that changed nothing, so that nothing has to be decided; then the wanted tables.
        twin = self._put_on(session, scratch, content, session.merge_base(onto, content))
        scratch(onto)
        if not session.merge(twin, self._message):
            for row in session.rows("SELECT * FROM dolt_conflicts"):
                session.call("dolt_conflicts_resolve", "--ours", row["table"])
            session.commit(self._message)
        joined = session.head()[0]
        session.call("dolt_reset", "--hard", content)
        session.call("dolt_reset", "--soft", joined)
        session.commit(self._message, "--amend", "--allow-empty")
        return session.head()[0]

    def _take_tables(
        self, session: Session, scratch: Callable[[str], str], side: str, other: str, tables: Sequence[str]
    ) -> str:
        """A commit on this side with some tables as the other side has them."""
        session.use(other)
        held = set(session.tables())
        session.use(scratch(side))
        for table in tables:
            if table in held:
                session.call("dolt_checkout", other, "--", table)
            else:
                session.rows(f"DROP TABLE {quote(table)}")
        session.commit(self._message)
        return session.head()[0]

    def _put_rows(self, session: Session, scratch: Callable[[str], str], side: str, ahead: Ahead) -> str:
        """A commit on this side in which these rows are as they were settled."""
        scratch(side)
        session.relax()
        for table in {table.name: table for table, _, _ in ahead.rows}.values():
            check_no_triggers(session, table)
        for table, key, row in ahead.rows:
            put_row(session, table, key, row)
        session.commit(self._message)
        return session.head()[0]

    def _merge(
        self,
        session: Session,
        scratch: Callable[[str], str],
        base: SnapshotRef | None,
        ours: str,
        theirs: str,
        resolutions: Sequence[Resolution],
    ) -> str | Conflicted:
        if base is None and session.has_ancestor(theirs, ours):
            return theirs  # Written on from ours before it was ever published, as while it was being imported.
        # Without a base nothing is common: not even what Dolt finds, but the database before it had tables.
        start = session.first_commit(ours) if base is None else base.version
        is_native = session.merge_base(ours, theirs) == start
        mine, others = ours, theirs
        if not is_native:
            mine = self._put_on(session, scratch, start, ours)
            others = self._put_on(session, scratch, start, theirs)
        scratch(mine)
        left: list[Conflict] = []
        fatal = session.fatal_conflicts(start, mine, others)
        if fatal:
            ahead = settle_ahead(session, Sides(start, mine, others), fatal, resolutions)
            left = ahead.left
            mine, others = (self._put_rows(session, scratch, side, ahead) for side in (mine, others))
            scratch(mine)
        try:
            is_clean = session.merge(others, self._message)
            taken = {} if is_clean else settled_schemas(session, resolutions)
            if taken:
                session.abandon()
                for choice, side, other in ((Choice.THEIRS, mine, others), (Choice.OURS, others, mine)):
                    tables = [table for table, chosen in taken.items() if chosen is choice]
                    if tables:
                        changed = self._take_tables(session, scratch, side, other, tables)
                        mine, others = (changed, others) if side == mine else (mine, changed)
                scratch(mine)
                is_clean = session.merge(others, self._message)
        except Refused as error:
            # What Dolt does not merge at all, such as a changed primary key.
            session.abandon()
            return Conflicted((Conflict((), ConflictKind.SCHEMA_CHANGED, detail=error.text),))
        self.context.failpoint("dolt.merge.merged")
        if not is_clean:
            left += settle(session, Sides(start, mine, others), resolutions)
        if left:
            session.abandon()
            return Conflicted(tuple(sorted(left, key=lambda conflict: conflict.item or "")))
        if not is_clean:
            session.commit(self._message, "--allow-empty")
        merged = session.head()[0]
        if is_native:
            return merged
        if not session.has_ancestor(ours, start):
            return self._put_on(session, scratch, ours, merged)
        # All that theirs has since base is in it: it counts as merged natively too.
        joined = self._follow(session, scratch, ours, theirs, is_ancestor_too=True)
        return self._put_on(session, scratch, joined, merged)
