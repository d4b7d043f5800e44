"""The catalog: one history over many stores, embedded or remote. `plait.open` and `plait.connect` return it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from plait import tables
from plait.adapter import Capability, Progress
from plait.backend import Backend, BeginRequest, Problem, Side
from plait.blame import Blamed, blame
from plait.clock import Clock, SystemClock
from plait.errors import (
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    OutcomeUnknown,
    PlaitError,
    ProposalRejected,
    TransactionClosed,
    Unsupported,
)
from plait.graph import LogFilter
from plait.importing import ImportReport, Taking, name_of, plan
from plait.persist.store_rows import Publication
from plait.point import Point
from plait.presence import check_keys
from plait.refspec import as_key, check_ref_name, format_key, format_path, parse_spec
from plait.stores import Adapters
from plait.tables import Listing, Stream
from plait.types import (
    Change,
    Commit,
    Conflict,
    ConflictKind,
    Depth,
    Entry,
    Event,
    Found,
    ItemChange,
    Key,
    Mode,
    Proposal,
    Ref,
    RefKind,
    RefMove,
    Risk,
    Session,
    Source,
    SourceKind,
    Store,
    Strategy,
    Tx,
)
from plait.working_set import WorkingSet

if TYPE_CHECKING:
    import pyarrow as pa

KeyText = str | Key
"""A key, as its text or as its parts."""


def _silent(what: str, done: int, total: int | None) -> None:
    """The progress of a library: none."""


class Closer(Protocol):
    def close(self) -> None: ...


class Catalog:
    """One repository: its history, its branches, its working sets, its stores. Thread-safe. Closes as a context."""

    def __init__(
        self,
        backend: Backend,
        adapters: Adapters,
        *,
        session: Session,
        clock: Clock | None = None,
        owns: Sequence[Closer] = (),
    ) -> None:
        """`adapters` open native handles in this process; `owns` is closed with the catalog."""
        self.backend = backend
        self.session = session
        self._adapters = adapters
        self._clock = clock or SystemClock()
        self._owns = owns

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<plait.Catalog {self.backend.repository!r}>"

    def _repr_html_(self) -> str:
        stores = ", ".join(store.name for store in self.stores()) or "no store yet"
        return tables.REFS.html(self.refs(), f"{self.backend.repository} · {stores}")

    def to_arrow(self) -> pa.Table:
        """Its branches and tags as an Arrow table. Raises: Unsupported without pyarrow."""
        return self.refs().to_arrow()

    def close(self) -> None:
        self.backend.close()
        for owned in self._owns:
            owned.close()

    def as_session(self, session: Session) -> Catalog:
        """The same catalog, on behalf of another session."""
        return Catalog(self.backend, self._adapters, session=session, clock=self._clock)

    # -- refs --------------------------------------------------------------------------------------------------------

    def refs(self, kind: RefKind | None = None) -> Listing[Ref]:
        """All refs by name, or those of one kind."""
        return Listing(tables.REFS, [ref for ref in self.backend.refs() if kind is None or ref.kind is kind])

    def ref(self, name: str) -> Ref:
        """Raises: NotFound."""
        for ref in self.backend.refs():
            if ref.name == name:
                return ref
        raise NotFound(f"ref {name!r} does not exist", remedy="see 'plait branch' and 'plait tag' for those that do")

    def create_branch(self, name: str, at: str = "main", *, protect: bool = False) -> Ref:
        """A new branch. Free, whatever the data's size. Raises: AlreadyExists, NotFound."""
        return self._set_ref(name, RefKind.BRANCH, None, self.resolve(at).id, protect)

    def create_tag(self, name: str, at: str = "main") -> Ref:
        """A new tag, which never moves."""
        return self._set_ref(name, RefKind.TAG, None, self.resolve(at).id, None)

    def delete_ref(self, name: str) -> Ref:
        """Delete a branch or tag; `undelete` brings it back."""
        ref = self.ref(name)
        return self._set_ref(name, ref.kind, ref.head, None, None)

    def undelete(self, name: str) -> Ref:
        """Make a deleted ref anew where it last stood. Raises: AlreadyExists, NotFound."""
        last = next((move for move in self.reflog(name) if move.before is not None and move.after is None), None)
        if last is None or last.before is None:
            raise NotFound(f"ref {name!r} was never deleted", remedy=f"see 'plait reflog {name}'")
        return self._set_ref(name, last.kind, None, last.before, None)

    def reset_branch(self, name: str, to: str) -> Ref:
        """Move a branch to another commit; the reflog keeps where it was. Native heads of bound stores must be able
        to follow: for those, `revert` and `restore` make a new commit instead.

        Raises: Unsupported when a store with native heads is bound to the branch, InvalidArgument when protected.
        """
        native = {store.name for store in self.stores() if Capability.NATIVE_HEAD in self._adapters.capabilities(store)}
        bound = {store.name for store in self.stores() if store.bound_ref == name} & native
        ref, commit = self.ref(name), self.resolve(to)
        touched = {change.key[0] for change in self.diff(f"@{ref.head}", f"@{commit.id}")}
        if touched & bound:
            raise Unsupported(
                f"{name!r} is published to the native heads of {', '.join(sorted(touched & bound))}",
                remedy=f"use 'plait restore --from {to}': it makes a new commit that they can follow",
            )
        return self._set_ref(name, ref.kind, ref.head, commit.id, None)

    def protect_branch(self, name: str, *, protect: bool = True) -> Ref:
        """Protected branches take commits and merges, and are neither deleted nor moved by hand."""
        ref = self.ref(name)
        return self._set_ref(name, ref.kind, ref.head, ref.head, protect)

    def reflog(self, name: str) -> Listing[RefMove]:
        """Where a ref stood, over all of its lives, newest first."""
        return Listing(tables.MOVES, self.backend.reflog(name))

    def _set_ref(self, name: str, kind: RefKind, expected: str | None, after: str | None, protect: bool | None) -> Ref:
        return self.backend.set_ref(
            check_ref_name(name),
            kind,
            expected=expected,
            after=after,
            protect=protect,
            session=self.session,
            idempotency_key=self._clock.new_id(),
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def resolve(self, spec: str) -> Commit:
        """The commit that a point in the history means now: main, main~3, main^2, main*2026-11-01, or an
        id, or 8 of its digits and more where no ref is named so.

        Raises: NotFound, InvalidArgument for digits that several ids begin with.
        """
        return self.backend.resolve(spec)

    def at(self, spec: str = "main") -> Point:
        """The stores as they were at one commit, read-only: resolved once, so that all reads agree."""
        return Point(self.backend, self._adapters, self.resolve(spec))

    def open(self, entry: Entry) -> object:
        """The native read-only handle of an entry: what a gate reads of a change that is no commit yet.

        Raises: StoreUnavailable, Unsupported.
        """
        return self._adapters.get(entry.key[0]).open(entry.snapshot, None)

    def log(self, spec: str = "main", wanted: LogFilter | None = None) -> Stream[Commit]:
        """Commits that are reachable from a point, newest first, lazily."""
        return Stream(tables.COMMITS, lambda: self.backend.log(spec, wanted or LogFilter()))

    def diff(self, before: str, after: str, *, prefix: KeyText = ()) -> Stream[Change]:
        """The keys that differ, in key order, lazily. Cost: O(changes)."""
        return Stream(tables.CHANGES, lambda: self.backend.diff(before, after, as_key(prefix)))

    def diff_items(
        self, key: KeyText, before: str | None, after: str | None, *, items: Sequence[str] | None = None
    ) -> Stream[ItemChange]:
        """What differs inside one asset between two points; None is nothing."""
        parts, sides = as_key(key), (Side(spec=before), Side(spec=after))
        return Stream(tables.ITEMS, lambda: self.backend.diff_items(parts, *sides, items))

    def history(self, key: KeyText, spec: str = "main") -> Stream[tuple[Commit, Change]]:
        """The commits that changed this very key, newest first."""
        return Stream(tables.HISTORY, lambda: self.backend.history(spec, as_key(key)))

    def blame(self, key: KeyText, spec: str = "main", *, items: Sequence[str] | None = None) -> Stream[Blamed]:
        """For each item that the asset holds there: the commit that last changed it.

        Cost: the differences between the snapshots that touched the key, newest first, until all items are settled.
        """
        return Stream(tables.BLAMES, lambda: blame(self.backend, spec, as_key(key), items))

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        """The newest commit that both reach, or None for unrelated histories."""
        return self.backend.merge_base(ours, theirs)

    def events(self, after_seq: int = 0, limit: int = 1000) -> Listing[Event]:
        """Durable changes with seq > after_seq, in order and without gaps."""
        return Listing(tables.EVENTS, self.backend.events(after_seq, limit))

    def watch(self, from_seq: int | None = None, *, seconds_max: float | None = None) -> Iterator[Event]:
        """Events with seq >= `from_seq` (None: those after the first `next`), then each new one as it happens, for ever
        or for so long. Leaving the iterator ends it.

        Raises: StoreUnavailable when the server goes: watch again from the seq after the last one seen.
        """
        return self.backend.watch(from_seq, seconds_max)

    def verify(self, depth: Depth = Depth.METADATA) -> Iterator[Problem]:
        """What is wrong with the history's own bytes, then with what the stores hold; nothing when all is well."""
        return self.backend.verify(depth)

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin(
        self,
        branch: str = "main",
        *,
        name: str = "",
        message: str = "",
        properties: Mapping[str, str] | None = None,
        implicit: bool = False,
        source: Source | None = None,
        merged_parents: Sequence[str] = (),
    ) -> WorkingSet:
        """A working set: durable, isolated, spanning stores, until it is committed or discarded."""
        spec = parse_spec(branch)
        if spec.is_relative or spec.commit:
            raise InvalidArgument(f"{branch!r} is no branch", remedy="a commit goes onto a branch: give its name")
        request = BeginRequest(
            self._clock.new_id(), branch, name, message, properties, implicit, tuple(merged_parents), source
        )
        return WorkingSet(self.backend, self._adapters, self.backend.begin(request, self.session))

    def working_set(self, text: str) -> WorkingSet:
        """A working set by its name, its id, or an unambiguous part of that. Raises: NotFound."""
        return WorkingSet(self.backend, self._adapters, self.backend.tx(text))

    def working_sets(self) -> Listing[Tx]:
        """Those that are open, oldest first."""
        return Listing(tables.TXS, self.backend.txs())

    @contextmanager
    def transaction(
        self, branch: str = "main", *, message: str = "", properties: Mapping[str, str] | None = None
    ) -> Iterator[WorkingSet]:
        """Commit everything that the block writes as one commit; an exception discards all of it.

        The block's `tx.committed` is the commit afterwards; nothing is committed when nothing changed. When the commit
        itself fails (a conflict, a gate), the working set is discarded too: use `begin` to keep it.
        """
        tx = self.begin(branch, message=message, properties=properties, implicit=True)
        try:
            yield tx
        except BaseException:
            tx.discard()
            raise
        if tx.is_closed:
            return
        try:
            with tx.kept_alive():
                tx.commit()
        except NothingToCommit:
            tx.discard()
        except OutcomeUnknown:
            raise
        except BaseException:
            # An interrupt may come when it is committed already: then it stays, and the interrupt goes on.
            with suppress(TransactionClosed):
                tx.discard()
            raise

    def commit(self, proposal: Proposal) -> Commit:
        """A one-call commit of pointers or of snapshots that are committed already. Raises: CommitConflict."""
        return self.backend.commit(self._signed(proposal))

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool = False) -> list[Commit | Exception]:
        """One result per proposal, in order, each alone; `atomic`: all, or an error."""
        signed = [self._signed(proposal) for proposal in proposals]
        return list(self.backend.commit_many(signed, atomic=atomic))

    def _signed(self, proposal: Proposal) -> Proposal:
        """In the catalog's session, and repeatable: one that has no idempotency key gets one."""
        return replace(proposal, session=self.session, idempotency_key=proposal.idempotency_key or self._clock.new_id())

    # -- three-way operations ----------------------------------------------------------------------------------------

    def merge(
        self,
        source: str,
        into: str = "main",
        *,
        message: str = "",
        squash: bool = False,
        default: Strategy = Strategy.NORMAL,
        strategies: Mapping[Key, Strategy] | None = None,
        keys: Sequence[KeyText] = (),
    ) -> Commit:
        """Merge a point into a branch as one commit, natively in every store.

        Raises: CommitConflict listing every conflict, after which a working set named in `details["tx"]` waits for
        resolutions; NothingToCommit when there is nothing to merge.
        """
        tx = self.begin_merge(
            source, into, message=message, squash=squash, default=default, strategies=strategies, keys=keys
        )
        return self._finish(tx, allow_empty=not squash and not keys)

    def begin_merge(
        self,
        source: str,
        into: str = "main",
        *,
        message: str = "",
        name: str = "",
        squash: bool = False,
        default: Strategy = Strategy.NORMAL,
        strategies: Mapping[Key, Strategy] | None = None,
        keys: Sequence[KeyText] = (),
    ) -> WorkingSet:
        """The working set of a merge: look at it with `preview`, resolve, write into it, commit or discard it."""
        head, theirs = self.resolve(into), self.resolve(source)
        base = self.backend.merge_base(f"@{head.id}", f"@{theirs.id}")
        if base is not None and base.id == theirs.id:
            raise NothingToCommit(f"{into!r} already holds everything of {source!r}")
        chosen = tuple((strategies or {}).items())
        merged = Source(
            SourceKind.MERGE, base.id if base else None, theirs.id, tuple(map(as_key, keys)), default, chosen
        )
        # A part of theirs is no merge of theirs: a later one must still find the rest.
        parents = () if squash or keys else (theirs.id,)
        message = message or f"Merge {source} into {into}"
        return self.begin(into, name=name, message=message, source=merged, merged_parents=parents)

    def cherry_pick(self, spec: str, onto: str = "main", *, message: str = "", keys: Sequence[KeyText] = ()) -> Commit:
        """Apply what one commit changed to a branch. Raises: as `merge`."""
        picked = self.resolve(spec)
        if not picked.parents:
            raise InvalidArgument(f"{spec!r} is the first commit, and changed nothing")
        source = Source(SourceKind.CHERRY_PICK, picked.parents[0], picked.id, tuple(map(as_key, keys)))
        properties = {"plait.cherry-picked": picked.id}
        tx = self.begin(onto, message=message or picked.message, source=source, properties=properties)
        return self._finish(tx)

    def revert(
        self,
        spec: str,
        on: str = "main",
        *,
        message: str = "",
        keys: Sequence[KeyText] = (),
        items: Mapping[Key, Sequence[str]] | None = None,
    ) -> Commit:
        """Undo what one commit changed, whole, or only under some keys, or only some items.

        What was changed again since is a conflict, never lost.
        Raises: as `merge`, and NotFound for a key or an item that is neither there nor on the branch.
        """
        undone = self.resolve(spec)
        if not undone.parents:
            raise InvalidArgument(f"{spec!r} is the first commit, and changed nothing")
        points = {f"{spec}^": f"@{undone.parents[0]}", spec: f"@{undone.id}", on: on}
        check_keys(self.backend, [*map(as_key, keys), *(items or ())], points)
        message = message or f'Revert "{undone.message}"'
        properties = {"plait.reverted": undone.id}
        if items:
            return self._revert_items(undone, on, message, properties, items)
        source = Source(SourceKind.REVERT, undone.id, undone.parents[0], tuple(map(as_key, keys)))
        return self._finish(self.begin(on, message=message, source=source, properties=properties))

    def _revert_items(
        self,
        undone: Commit,
        on: str,
        message: str,
        properties: Mapping[str, str],
        items: Mapping[Key, Sequence[str]],
    ) -> Commit:
        """Items have no three-way of their own in `restore`: so whatever changed since is refused as a conflict."""
        head = self.resolve(on)
        conflicts = [
            Conflict(key, ConflictKind.ITEM_CHANGED, change.item, ours=change.after, theirs=change.before)
            for key, names in items.items()
            for change in self.diff_items(key, f"@{undone.id}", f"@{head.id}", items=names)
        ]
        if conflicts:
            raise CommitConflict(
                f"{len(conflicts)} items changed again since {undone.id[:12]}",
                conflicts=conflicts,
                remedy="restore them from the commit that you want: 'plait restore'",
            )
        return self._restore_items(f"@{undone.parents[0]}", on, message, properties, items)

    def restore(
        self,
        spec: str,
        on: str = "main",
        *,
        keys: Sequence[KeyText] = (),
        items: Mapping[Key, Sequence[str]] | None = None,
        message: str = "",
    ) -> Commit:
        """Bring keys (none named: all), or some items, to what they were at a point, as a new commit.

        Raises: NotFound for a key or an item that is neither there nor on the branch.
        """
        wanted = self.resolve(spec)
        check_keys(self.backend, [*map(as_key, keys), *(items or ())], {spec: f"@{wanted.id}", on: on})
        named = [format_path(key, item) for key, some in (items or {}).items() for item in some]
        named = named or [_text(key) for key in keys]
        message = message or f"Restore {', '.join(named) or 'everything'} from {spec}"
        properties = {"plait.restored": wanted.id}
        if items:
            return self._restore_items(f"@{wanted.id}", on, message, properties, items)
        source = Source(SourceKind.RESTORE, None, wanted.id, tuple(map(as_key, keys)))
        return self._finish(self.begin(on, message=message, source=source, properties=properties))

    def _restore_items(
        self, spec: str, on: str, message: str, properties: Mapping[str, str], items: Mapping[Key, Sequence[str]]
    ) -> Commit:
        tx = self.begin(on, message=message, properties=properties)
        try:
            for key, names in items.items():
                self.backend.restore(tx.id, key, spec, names)
        except BaseException:
            tx.discard()
            raise
        return self._finish(tx)

    def _finish(self, tx: WorkingSet, *, allow_empty: bool = False) -> Commit:
        """Commit. What conflicts or was refused stays as a working set, all else that fails leaves nothing behind."""
        try:
            return tx.commit(allow_empty=allow_empty)
        except (CommitConflict, ProposalRejected):
            raise
        except OutcomeUnknown as error:
            error.details["tx"] = tx.id
            error.remedy = f"ask again: commit the working set {tx.id}, which is one commit however often it is asked"
            raise
        except BaseException:
            tx.discard()
            raise

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> Listing[Store]:
        """By name."""
        return Listing(tables.STORES, self.backend.stores())

    def add_store(
        self,
        name: str,
        kind: str,
        options: Mapping[str, str] | None = None,
        *,
        mode: Mode = Mode.MANAGED,
        bound_ref: str = "main",
    ) -> list[str]:
        """Configure a store. Returns: what it lacks, as sentences. Raises: InvalidArgument, AlreadyExists."""
        return list(self.backend.add_store(Store(name, kind, mode, bound_ref, dict(options or {})), self.session))

    def remove_store(self, name: str) -> None:
        """Forget a store that nothing uses; its data stays. Raises: InvalidArgument naming what uses it, and how."""
        self.backend.remove_store(name, self.session)

    def check_store(self, name: str) -> tuple[list[str], list[Risk]]:
        """What it lacks, and which of its own rules could delete what commits need.

        Native heads that somebody moved past plait are found: `publish` names them, `adopt` takes them over.
        Cost: one read per native head.
        """
        missing, risks = self.backend.check_store(name)
        return list(missing), list(risks)

    def discover(self, store: str, place: str) -> Iterator[Found]:
        """The native assets at and below a place of a store's kind, in order of their names; nothing is changed.

        Raises: NotFound, Unsupported where the store's kind cannot be searched.
        """
        return self._adapters.get(store).discover(place)

    def import_assets(
        self, assets: Mapping[Key, str], branch: str = "main", *, message: str = "", properties: Mapping[str, str] = {}
    ) -> Commit:
        """Bring existing native assets (key → name or location) into the history as one commit, in place.

        Repeat: an import of the same that was killed is gone on with, and what it took in is not read again.
        """
        message = message or f"Import {len(assets)} assets"
        name = name_of(branch, sorted((format_key(key), location) for key, location in assets.items()))
        commit = Taking(self, branch, name, message, properties, _silent, self._end_import).newest(assets, None)
        if commit is None:
            raise InvalidArgument("an import needs assets", remedy="name at least one")
        return commit

    def import_found(
        self,
        under: KeyText,
        found: Iterable[Found],
        branch: str = "main",
        *,
        origin: str = "",
        message: str = "",
        history: bool = True,
        dry_run: bool = False,
        progress: Progress = _silent,
    ) -> ImportReport:
        """Bring what was discovered into the history, in place and as one commit, below a store or a prefix in it.

        Args:
            origin: where it was found, for the message.
            history: where the store has a history of its own, a commit for each version of it comes too, by a merge.
            dry_run: report only, change nothing.
        What cannot come is told in the report, and keeps nothing else back.

        Repeat: nothing is new, and no commit; after a death it goes on from there.
        """
        key = as_key(under)
        if not key:
            raise InvalidArgument("an import needs the store that takes it", remedy="name the store, or a prefix in it")
        past = self._adapters.get(key[0]).history if history else lambda one: ()
        lines, pasts = plan(self, branch, key, found, past)
        taken = {key: line.location for key, line in lines.items() if not line.refusal}
        if dry_run:
            return ImportReport(tuple(lines.values()), None)
        message = message or f"Import {len(taken)} of {origin or format_key(key)}"
        name = name_of(branch, sorted((format_key(key), line.location) for key, line in lines.items()), history)
        taking = Taking(self, branch, name, message, {}, progress, self._end_import)
        refused: dict[Key, PlaitError] = {}
        commit = None
        if pasts:
            commit = taking.with_history(taken, pasts, refused)
        elif taken:
            commit = taking.newest(taken, refused)
        else:
            taking.drop_branch()  # It was merged, and the process died then.
        told = (replace(line, refusal=str(refused[key])) if key in refused else line for key, line in lines.items())
        return ImportReport(tuple(told), commit)

    def _end_import(self, tx: WorkingSet) -> Commit:
        return self._finish(tx, allow_empty=tx.tx.source is not None)

    def publish(self, stores: Sequence[str] | None = None) -> list[Publication]:
        """Bring native heads to their bound refs now; those that are not there, and why."""
        return list(self.backend.publish(stores))

    def adopt(self, key: KeyText) -> Commit | None:
        """Take over what somebody wrote past plait, merged with what was committed meanwhile; None: nothing new.

        The native head is looked at first. Raises: NotFound where it is as plait left it; CommitConflict, kept with a
        working set; StoreUnavailable.
        """
        return self.backend.adopt(as_key(key), self.session)

    def recover(self) -> list[str]:
        """Put right what died half-way; what was done, as sentences."""
        return list(self.backend.recover())


def _text(key: KeyText) -> str:
    return key if isinstance(key, str) else format_key(key)
