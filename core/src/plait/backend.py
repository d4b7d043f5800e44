"""What a catalog can be asked: the calls that an embedded catalog answers itself and a remote one sends over gRPC.

`Catalog` is written once, on top of this; the gRPC service exposes exactly these calls. Points in the history are
specs (`main~3`), streams are lazy iterators, writes name their session, and every write may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from plait.errors import PlaitError
from plait.graph import LogFilter
from plait.persist.store_rows import Publication
from plait.types import (
    Change,
    Commit,
    Conflict,
    Depth,
    Entry,
    Event,
    ItemChange,
    Key,
    Participant,
    Proposal,
    Ref,
    RefKind,
    RefMove,
    Resolution,
    Risk,
    Session,
    Source,
    Staging,
    Store,
    Tx,
)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an item diff: an asset at a point in the history, or (`tx`) in a working set.

    `key`: the one that holds it there, where it is not the one that is asked about.
    """

    spec: str | None = None
    tx: str | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """What a working set begins with. The client gives its id, so that a repeated begin is one begin."""

    id: str
    ref: str
    name: str = ""
    message: str = ""
    properties: Mapping[str, str] | None = None
    implicit: bool = False
    merged_parents: tuple[str, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a working set would commit onto its ref's head now."""

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that `verify` found wrong, and where."""

    where: str
    what: str


class Backend(Protocol):
    """The calls of one repository. Thread-safe.

    All raise StoreUnavailable when the database, or the server, does not answer, and Corrupt for what is not as it was
    written. A spec raises InvalidArgument where it cannot be read, and NotFound where it means nothing. `tx` is a
    working set's whole id, unless said otherwise.
    """

    @property
    def repository(self) -> str:
        """Its name."""
        ...

    # -- history -----------------------------------------------------------------------------------------------------

    def refs(self) -> Sequence[Ref]:
        """All branches and tags, by name."""
        ...

    def reflog(self, name: str) -> Iterator[RefMove]:
        """Where a ref stood over all of its lives, newest first. Raises: NotFound for one that never was."""
        ...

    def resolve(self, spec: str) -> Commit:
        """The commit that a point in the history means now."""
        ...

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        """The newest commit that both points reach, or None for unrelated histories."""
        ...

    def log(self, spec: str, wanted: LogFilter) -> Iterator[Commit]:
        """The commits that a point reaches and that pass the filter, newest first."""
        ...

    def scan(self, spec: str, prefix: Key) -> Iterator[Entry]:
        """What a commit holds under a prefix (empty: everywhere), in key order."""
        ...

    def get(self, spec: str, keys: Sequence[Key]) -> Mapping[Key, Entry]:
        """What a commit holds under these keys; those that it does not hold are left out."""
        ...

    def diff(self, before: str, after: str, prefix: Key) -> Iterator[Change]:
        """The keys under a prefix that differ between two commits, in key order. Cost: O(changes)."""
        ...

    def diff_items(self, key: Key, before: Side, after: Side, items: Sequence[str] | None) -> Iterator[ItemChange]:
        """What differs inside one asset, in native key order; `items` limits it. Raises: SnapshotExpired."""
        ...

    def history(self, spec: str, key: Key) -> Iterator[tuple[Commit, Change]]:
        """The commits that a point reaches and that changed this very key, newest first. Entries have no content id."""
        ...

    def events(self, after_seq: int, limit: int) -> Sequence[Event]:
        """Up to `limit` durable changes with seq > `after_seq`, ascending and without gaps."""
        ...

    def watch(self, from_seq: int | None, seconds_max: float | None) -> Iterator[Event]:
        """Events with seq >= `from_seq` (None: those to come), then each new one, for ever or for so long."""
        ...

    def verify(self, depth: Depth) -> Iterator[Problem]:
        """What is wrong with the history's own bytes, then with what the stores hold."""
        ...

    # -- writing -----------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal) -> Commit:
        """A one-call commit. Repeat: the same commit under the same idempotency key.

        Raises: InvalidArgument, NotFound, CommitConflict, ProposalRejected, NothingToCommit, SnapshotExpired;
        OutcomeUnknown: ask again.
        """
        ...

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        """A result for each proposal, in order, each decided alone; `atomic`: all are committed, or one's error raised.

        Repeat: as `commit`; an atomic group is known by its first proposal's idempotency key.
        """
        ...

    def set_ref(
        self,
        name: str,
        kind: RefKind,
        *,
        expected: str | None,
        after: str | None,
        protect: bool | None,
        session: Session,
        idempotency_key: str | None,
    ) -> Ref:
        """Make a ref (`expected` None), move or protect it, or delete it (`after` None); as it is then, or last was.

        Raises: AlreadyExists, NotFound, InvalidArgument for a protected branch or a tag that would move, CommitConflict
        when it does not stand at `expected`.
        """
        ...

    # -- working sets ------------------------------------------------------------------------------------------------

    def begin(self, request: BeginRequest, session: Session) -> Tx:
        """A new working set. Repeat: with the same id, the same one. Raises: NotFound, AlreadyExists for its name."""
        ...

    def tx(self, text: str) -> Tx:
        """A working set by its id, or an open one by its name, or its id's beginning or end. Raises: NotFound."""
        ...

    def txs(self) -> Sequence[Tx]:
        """Those that have not ended, oldest first."""
        ...

    def participants(self, tx: str) -> Sequence[Participant]:
        """The assets that it stages, drops or merged, in key order."""
        ...

    def stage(self, tx: str, keys: Sequence[Key], *, new: bool) -> Sequence[Staging]:
        """A place to write for each key, in their order; staged already: the same place. `new` begins assets.

        Raises: TransactionClosed, NotFound, AlreadyExists (`new`), Unsupported for pointer stores.
        """
        ...

    def staging(self, tx: str, key: Key) -> Staging | None:
        """Where it writes a key now; None when it does not, or has dropped it."""
        ...

    def base_entry(self, tx: str, key: Key) -> Entry | None:
        """What the commit that it began at holds under a key."""
        ...

    def keys(self, tx: str, prefix: Key) -> Sequence[Key]:
        """What it sees under a prefix, in key order: its base, what it added, not what it dropped."""
        ...

    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool:
        """Move a staging's location if it still is `expected`; whether it did. Raises: TransactionClosed."""
        ...

    def drop(self, tx: str, key: Key) -> None:
        """The key is absent once it is committed. Raises: NotFound, TransactionClosed."""
        ...

    def move(self, tx: str, before: Key, after: Key) -> None:
        """Rename an asset within its store. Raises: NotFound, AlreadyExists, InvalidArgument, TransactionClosed."""
        ...

    def restore(self, tx: str, key: Key, spec: str, items: Sequence[str] | None) -> None:
        """Bring an asset, or some items of it, to what it was at a point. Repeat: no-op.

        Raises: NotFound for what is nowhere, SnapshotExpired, TransactionClosed.
        """
        ...

    def renew(self, tx: str) -> None:
        """Keep an implicit working set alive for another lease. Raises: TransactionClosed unless it is open."""
        ...

    def preview(self, tx: str) -> Preview:
        """What it would commit now, and what conflicts; it is sealed meanwhile. Raises: TransactionClosed."""
        ...

    def commit_tx(
        self,
        tx: str,
        session: Session,
        *,
        message: str | None,
        author: str,
        properties: Mapping[str, str],
        unchanged: Sequence[Key],
        allow_empty: bool,
    ) -> Commit:
        """Make it one commit. `message` None: its own; `unchanged`: keys that must hold what its base holds.

        Raises: CommitConflict, ProposalRejected, NothingToCommit, after which it is open again; TransactionClosed;
        OutcomeUnknown: ask again. Repeat: the same commit.
        """
        ...

    def discard(self, tx: str) -> None:
        """End it without a trace. Repeat: no-op. Raises: TransactionClosed when it is committed."""
        ...

    def recover(self) -> Sequence[str]:
        """Put right what died half-way, and publish; what was done, as sentences. Repeat: nothing more to do."""
        ...

    def conflicts(self, tx: str) -> Iterator[tuple[Conflict, Resolution | None]]:
        """The conflicts that its commits met, in that order, and how each is settled, if it is."""
        ...

    def settle(self, tx: str, resolutions: Sequence[Resolution]) -> None:
        """Keep decisions on listed conflicts. Repeat: no-op. Raises: NotFound for one that is not listed."""
        ...

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> Sequence[Store]:
        """By name."""
        ...

    def add_store(self, store: Store, session: Session) -> Sequence[str]:
        """Record a store; what it lacks, as sentences. Repeat: a check. Raises: InvalidArgument, AlreadyExists."""
        ...

    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[str]:
        """Set options of a store that is elsewhere now; what it lacks there, and then nothing is set. Raises: NotFound,
        InvalidArgument for a place that does not hold its snapshots."""
        ...

    def remove_store(self, name: str, session: Session) -> None:
        """Forget a store; its data stays. Raises: NotFound, InvalidArgument for one that is in use."""
        ...

    def check_store(self, name: str) -> tuple[Sequence[str], Sequence[Risk]]:
        """What it lacks, and the rules of its own that could delete what commits need. Native heads are looked at."""
        ...

    def import_assets(self, tx: str, assets: Mapping[Key, str]) -> None:
        """Stage native assets (key → name or location) in place. Repeat: those that are staged are skipped.

        Raises: NotFound, AlreadyExists for a key that holds another asset, TransactionClosed.
        """
        ...

    def publish(self, stores: Sequence[str] | None) -> Sequence[Publication]:
        """Bring native heads of these stores (None: all) to their bound refs now; those that are not there then."""
        ...

    def unpublished(self) -> Sequence[Publication]:
        """The native heads that are not at their bound refs, as recorded: no store is asked."""
        ...

    def adopt(self, key: Key, session: Session) -> Commit | None:
        """Commit what a diverged native head was found at; None: nothing was new.

        Raises: NotFound unless it has diverged; CommitConflict, kept with a working set.
        """
        ...

    # -- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, name: str) -> str:
        """A new token, shown this once. Raises: AlreadyExists, InvalidArgument."""
        ...

    def tokens(self) -> Sequence[tuple[str, int]]:
        """(name, created_at_us), by name."""
        ...

    def delete_token(self, name: str) -> None:
        """Raises: NotFound."""
        ...

    def close(self) -> None:
        """Let go of threads and connections. Repeat: no-op."""
        ...
