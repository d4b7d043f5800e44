"""The Dolt adapter: an asset is a database, a snapshot one of its commits, pinned by a tag of plait's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import sqlalchemy as sa
from plait.adapter import Adapter, Capability, Context, Side, StagingPort, folder_option
from plait.errors import InvalidArgument, NotFound, PlaitError
from plait.refspec import check_ref_name, format_key
from plait.types import (
    Conflicted,
    Depth,
    Found,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Move,
    PastVersion,
    Published,
    Resolution,
    Risk,
    SnapshotRef,
    Staging,
    Store,
)

from plait_dolt import ending, names, space
from plait_dolt.diff import diff
from plait_dolt.engine import Engine, Refused, Session
from plait_dolt.history import discover, native_history
from plait_dolt.join import Joining
from plait_dolt.lite import LiteEngine
from plait_dolt.new_databases import NewDatabases
from plait_dolt.options import read_url, reserved_of, where_of
from plait_dolt.publish import publish_one
from plait_dolt.restore import restore_items, restore_whole
from plait_dolt.server import ServerEngine
from plait_dolt.verifying import Verifier


class DoltAdapter(Adapter):
    """Databases of a Dolt SQL server (option `url`), or of doltlite (option `path`: a folder of database files).

    A staging is a branch, a snapshot a commit with a tag of plait's, and the native head a branch that native readers
    and writers know (option `branch`, `main` by default): it is moved by fast-forward only.
    """

    kind: ClassVar[str] = "dolt"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
            Capability.DISCOVER,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        where = where_of(store)
        self._known = ending.Known()
        self._branch = check_ref_name(store.options.get("branch", "main"))
        self.engine: Engine
        if where == "path":
            self.engine = LiteEngine(os.path.normpath(store.options["path"]))
        else:
            self.engine = ServerEngine(
                read_url(store.options["url"], store.name),
                lambda: context.credential(store.options.get("password", "")),
                secret=store.options.get("password", ""),
                tls_ca=store.options.get("tls_ca", ""),
                reserved=reserved_of(store, self._branch),
            )
        self._new = NewDatabases(self.engine, context, self._branch)

    @property
    def public_branch(self) -> str:
        """The branch that native readers and writers know."""
        return self._branch

    def local_folder(self) -> str:
        return folder_option(self.store, "path") if "path" in self.store.options else ""

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        try:
            return self.engine.check()
        except PlaitError as error:
            return (str(error),)

    def discover(self, place: str) -> Iterator[Found]:
        """All databases of the store, or one: by its name, its address on this server, or its file."""
        return discover(self.engine, self.store.name, self._branch, place)

    def history(self, found: Found) -> Sequence[PastVersion]:
        """The commits of its public branch, each by its first parent."""
        return native_history(self.engine, self._branch, found.location)

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Name databases by their public branch's commit; ``database/<revision>`` names an older one.

        Rows that nobody committed are in no snapshot.
        """
        found = {}
        for key, name in assets.items():
            self.context.check_cancelled()
            database, _, revision = name.partition("/")
            with self.engine.session(database, revision or self._branch) as session:
                commit = session.head()[0]
                session.use("")  # No tag can be made while standing at a commit.
                self.context.failpoint("dolt.snapshot.before_tag")
                session.pin(names.head_tag(tx, commit), commit)
                found[key] = self._describe(session, commit)
        return found

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        """Tables' schemas (aspect "schema"), their rows, or, where an item names one, a cell (aspect "item")."""
        return diff(self.engine, before, after, items, self.context.check_cancelled)

    def locate(self, target: SnapshotRef | Staging) -> Location:
        if isinstance(target, Staging):
            return self.engine.locate(names.database_of(target), names.branch_of(target))
        return self.engine.locate(target.asset, target.version)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return self.verifier(depth)(snapshot)

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        return Verifier(self.engine, depth, self.context).verify

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A branch of its own for each, at its base; for a new asset, a new database with one."""
        return {key: self._stage(tx, key, intent) for key, intent in intents.items()}

    def _stage(self, tx: str, key: Key, intent: Intent) -> Staging:
        branch = names.staging_branch(tx, intent.id)
        base = intent.base
        database = self._new.create(tx, key, intent.id) if base is None else base.asset
        with self.engine.session(database, "") as session:
            self.context.failpoint("dolt.stage.before_branch")
            try:
                session.call("dolt_branch", branch, base.version if base else self._branch)
            except Refused as error:
                if branch not in session.branches(branch):
                    if base is None or session.tag(base.version) is not None:
                        raise
                    raise NotFound(
                        f"{format_key(key)} cannot be staged: {error.text}", remedy="see 'plait verify'"
                    ) from error
            self.context.failpoint("dolt.stage.after_branch")
        self._known.note(tx, (database, branch))
        return Staging(tx, key, base, names.place(database, branch))

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> sa.Engine:
        """An SQLAlchemy engine: on the working set's branch, or read-only at a snapshot's commit.

        Without a port a staging is shown read-only, as it was last committed.
        """
        if isinstance(target, SnapshotRef):
            return self.engine.client(target.asset, target.version)
        database, branch = names.database_of(target), names.branch_of(target)
        if port is None:
            with self.engine.session(database, branch) as session:
                return self.engine.client(database, session.head()[0])
        return self.engine.client(database, branch)

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """Commit what each branch holds, and tag that: the tag is the vote. Cost: four statements each."""
        votes: dict[Key, SnapshotRef | None] = {}
        self._known.note(tx, may_have_lost=attempt > 1)
        for done, (key, staging) in enumerate(stagings.items()):
            self.context.check_cancelled()
            self.context.progress("databases", done, len(stagings))
            try:
                votes[key] = self._vote(tx, attempt, staging)
            except NotFound as error:
                raise NotFound(
                    f"what was staged for {format_key(key)} is not in its store any more: {error.message}",
                    remedy="see 'plait verify'; where it was dropped, discard the working set, and begin another one",
                ) from error
        return votes

    def _vote(self, tx: str, attempt: int, staging: Staging) -> SnapshotRef:
        """What was written after an earlier call for the attempt is committed to the branch, and in no vote."""
        database = names.database_of(staging)
        tag = names.attempt_tag(tx, attempt, names.intent_of(staging))
        base = staging.base
        with self.engine.session(database, names.branch_of(staging)) as session:
            try:
                session.commit(f"plait: {format_key(staging.key)}\n\nplait-txn: {tx}")
            except Refused as error:
                raise InvalidArgument(
                    f"{format_key(staging.key)} cannot be committed: {error.text}",
                    remedy="settle it in the working set, then commit again",
                ) from error
            self.context.failpoint("dolt.prepare.committed")
            if base is not None and base.asset == database:
                made, root, descends = session.head_since(base.version)
                if descends:
                    self._known.note_descent(made, base.version)
            else:
                made, root = session.head()
            if base is not None and (base.asset, base.digest) == (database, root.encode()):
                made = base.version
            voted = session.pin(tag, made)
            self.context.failpoint("dolt.prepare.tagged")
            if base is not None and voted == base.version:
                return base
            return self._refer(session, voted, root) if voted == made else self._describe(session, voted)

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """The whole database, tables (``city``) or rows (``city::id=7``). Repeat: no-op.

        Another database's snapshot: a branch of that one takes the staging's place.
        """
        if items is not None:
            restore_items(self.engine, self.context, staging, snapshot, items)
            return staging
        if snapshot.asset != names.database_of(staging):
            intent = Intent(names.intent_of(staging), snapshot)
            moved = replace(self._stage(tx, staging.key, intent), base=staging.base)
            if staging.base is None:
                self._new.drop(tx, names.database_of(staging))
            restore_whole(self.engine, self.context, moved, snapshot, onto=snapshot.version)
            return moved
        onto = None if staging.base is None else staging.base.version
        restore_whole(self.engine, self.context, staging, snapshot, onto=onto)
        return staging

    def abort(self, tx: str) -> None:
        """Drop its branches, its tags and the databases that it began. Cost: three statements for each database."""
        names.checked_id(tx)
        for database in self.engine.databases():
            with suppress(NotFound):  # Dropped since they were listed.
                if not self._new.drop(tx, database):
                    ending.abort(self.engine, self.context, tx, database)
        self._known.take(tx)

    def release(self, tx: str, kept: Sequence[SnapshotRef]) -> None:
        """Drop its branches, the tags of attempts and merges that lost and, on doltlite, the tags of what the kept
        ones descend from."""
        names.checked_id(tx)
        databases = {snapshot.asset for snapshot in kept}
        touched = self._known.take(tx)
        for database in {database for database, _ in touched.places} - databases:
            self._new.drop(tx, database)  # Begun, and dropped before the commit.
        ending.release(self.engine, self.context, tx, touched, databases, {snapshot.version for snapshot in kept})

    # -- joining -----------------------------------------------------------------------------------------------------

    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        """Dolt's own merge, cell by cell, on a scratch branch; the tag is found again by all arguments."""
        self._known.note(tx, may_have_lost=True)
        return self._joining(tx, attempt, ours.asset).merge(base, ours, theirs, resolutions)

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        """Content itself where it descends from `onto`, else a new commit with content's tables that descends from
        both."""
        if self._known.descends(content.version, onto.version):
            return content
        joining = self._joining(tx, attempt, onto.asset)
        if joining.descends(content, onto):
            return content
        self._known.note(tx, may_have_lost=True)
        return joining.succeed(onto, content)

    def _joining(self, tx: str, attempt: int, database: str) -> Joining:
        return Joining(self.engine, self.context, self._describe, tx, attempt, database)

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        published = {}
        for key, move in moves.items():
            self.context.check_cancelled()
            published[key] = publish_one(self.engine, self._branch, move, self._refer, self.context)
        return published

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        return space.reachable(self.engine, snapshot)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        return space.inventory(self.engine, prefix)

    def delete(self, items: Iterable[Item]) -> None:
        space.delete(self.engine, items, self.context)

    def retention_risks(self) -> Iterator[Risk]:
        return iter(())

    def close(self) -> None:
        self.engine.close()

    # -- parts -------------------------------------------------------------------------------------------------------

    def _describe(self, session: Session, commit: str) -> SnapshotRef:
        """A commit of the session's database; the session stands there afterwards."""
        session.use(commit)
        return self._refer(session, commit, str(session.value("SELECT dolt_hashof_db()")))

    def _refer(self, session: Session, commit: str, root: str) -> SnapshotRef:
        return SnapshotRef(self.store.name, self.kind, session.database, commit, root.encode())
