"""The calls of a catalog: an embedded catalog answers them itself, a remote one sends them over gRPC.

`Catalog` is written once, on top of this; the gRPC service exposes exactly these calls. Points in the history are
given as specs (`main~3`), streams are lazy iterators, writes name their session, and every write may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from plait.errors import Corrupt, PlaitError
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
    Lack,
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

    `key`: the key that holds the asset on this side, if it is not the one that the diff is about.
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
    base: str = ""
    """The commit that its own writes start from; "": the branch's head."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a working set would commit onto its ref's head now."""

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that `verify` found wrong, and where.

    `code`: that of the error: `CORRUPT` for damage and loss, `STORE_DIVERGED` for a native head that somebody moved
    past plait, `STORE_UNAVAILABLE` and `PERMISSION_DENIED` for what could not be looked at.
    """

    where: str
    what: str
    remedy: str = ""
    code: str = Corrupt.code


class Backend(Protocol):
    """The calls of one repository. Thread-safe.

    All raise StoreUnavailable when the database or the server does not answer, and Corrupt for stored data that is not
    as it was written. A spec raises InvalidArgument if it cannot be parsed, and NotFound if there is no such point.
    `tx` is a working set's whole id, unless said otherwise.
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
        """The moves of a ref, over all of its incarnations, newest first. Raises: NotFound if it never existed."""
        ...

    def resolve(self, spec: str) -> Commit:
        """The commit to which a point in the history resolves now."""
        ...

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        """The newest common ancestor of two points, or None for unrelated histories."""
        ...

    def log(self, spec: str, wanted: LogFilter) -> Iterator[Commit]:
        """The commits reachable from a point that pass the filter, newest first."""
        ...

    def scan(self, spec: str, prefix: Key) -> Iterator[Entry]:
        """The entries of a commit under a prefix (empty: all), in key order."""
        ...

    def get(self, spec: str, keys: Sequence[Key]) -> Mapping[Key, Entry]:
        """The entries of a commit under these keys; keys that it does not hold are left out."""
        ...

    def diff(self, before: str, after: str, prefix: Key) -> Iterator[Change]:
        """The keys under a prefix that differ between two commits, in key order. Cost: O(changes)."""
        ...

    def diff_items(self, key: Key, before: Side, after: Side, items: Sequence[str] | None) -> Iterator[ItemChange]:
        """The items that differ inside one asset, in native key order; `items`: only these. Raises: SnapshotExpired."""
        ...

    def history(self, spec: str, key: Key) -> Iterator[tuple[Commit, Change]]:
        """The commits reachable from a point that changed exactly this key, newest first. Entries lack a content id."""
        ...

    def events(self, after_seq: int, limit: int) -> Sequence[Event]:
        """Up to `limit` durable changes with seq > `after_seq`, ascending and without gaps."""
        ...

    def watch(self, from_seq: int | None, seconds_max: float | None) -> Iterator[Event]:
        """Events with seq >= `from_seq` (None: only new ones), then each new one, for ever or for `seconds_max`."""
        ...

    def verify(self, depth: Depth) -> Iterator[Problem]:
        """Problems of the history's own bytes, then of what the stores hold, then native heads that diverged."""
        ...

    # -- writing -----------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal) -> Commit:
        """Commit a proposal in one call. Repeat: returns the same commit for the same idempotency key.

        Raises: InvalidArgument, NotFound, CommitConflict, ProposalRejected, NothingToCommit, SnapshotExpired;
        OutcomeUnknown: ask again.
        """
        ...

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        """A result for each proposal, in order, each decided alone; `atomic`: all are committed, or one's error raised.

        Repeat: as `commit`; an atomic group is recognised by its first proposal's idempotency key.
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
        """Create a ref (`expected` None), move or protect it, or delete it (`after` None).

        Returns: the ref after the change, or as it was before it was deleted. Raises: AlreadyExists, NotFound,
        InvalidArgument for a protected branch or a tag that would move, CommitConflict if its head is not `expected`.
        """
        ...

    # -- working sets ------------------------------------------------------------------------------------------------

    def begin(self, request: BeginRequest, session: Session) -> Tx:
        """Begin a working set. Raises: NotFound, AlreadyExists for its name. Repeat: the same one for the same id."""
        ...

    def tx(self, text: str) -> Tx:
        """A working set by its id, or an open one by its name, or its id's beginning or end. Raises: NotFound."""
        ...

    def txs(self) -> Sequence[Tx]:
        """The working sets that have not ended, oldest first."""
        ...

    def participants(self, tx: str) -> Sequence[Participant]:
        """The assets that a working set stages, drops or merged, in key order."""
        ...

    def stage(self, tx: str, keys: Sequence[Key], *, new: bool) -> Sequence[Staging]:
        """Stage keys: a place to write for each, in their order. A staged key keeps its place. `new`: begin assets.

        Raises: TransactionClosed, NotFound, AlreadyExists (`new`), Unsupported for pointer stores.
        """
        ...

    def staging(self, tx: str, key: Key) -> Staging | None:
        """Where the working set writes a key now; None if it has not staged the key, or has dropped it."""
        ...

    def base_entry(self, tx: str, key: Key) -> Entry | None:
        """The entry of the working set's base commit under a key, or None."""
        ...

    def keys(self, tx: str, prefix: Key) -> Sequence[Key]:
        """The keys that exist in a working set under a prefix, in key order: of its base, plus added, minus dropped."""
        ...

    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool:
        """Replace a staging's location if it is still `expected`. Returns: whether. Raises: TransactionClosed."""
        ...

    def drop(self, tx: str, key: Key) -> None:
        """Remove a key in the working set. Raises: NotFound, TransactionClosed."""
        ...

    def move(self, tx: str, before: Key, after: Key) -> None:
        """Rename an asset within its store. Raises: NotFound, AlreadyExists, InvalidArgument, TransactionClosed."""
        ...

    def restore(self, tx: str, key: Key, spec: str, items: Sequence[str] | None) -> None:
        """Set an asset, or some items of it, to what it was at a point. Repeat: no-op.

        Raises: NotFound for an asset or item that exists nowhere, SnapshotExpired, TransactionClosed.
        """
        ...

    def renew(self, tx: str) -> None:
        """Keep an implicit working set alive for another lease. Raises: TransactionClosed unless it is open."""
        ...

    def preview(self, tx: str) -> Preview:
        """What a commit would contain now, and its conflicts. Seals the set meanwhile. Raises: TransactionClosed."""
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
        """Commit a working set. `message` None: its own message. `unchanged`: keys that must hold what its base holds.

        Raises: CommitConflict, ProposalRejected, NothingToCommit, after which it is open again; TransactionClosed;
        OutcomeUnknown: ask again. Repeat: the same commit.
        """
        ...

    def discard(self, tx: str) -> None:
        """End a working set without a commit. Repeat: no-op. Raises: TransactionClosed when it is committed."""
        ...

    def recover(self) -> Sequence[str]:
        """Repair what died half-way, and publish. Returns: what was done, as sentences. Repeat: no-op."""
        ...

    def conflicts(self, tx: str) -> Iterator[tuple[Conflict, Resolution | None]]:
        """The conflicts that a working set's commits met, in that order, each with its resolution, or None."""
        ...

    def settle(self, tx: str, resolutions: Sequence[Resolution]) -> None:
        """Store resolutions of listed conflicts. Repeat: no-op. Raises: NotFound for one that is not listed."""
        ...

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> Sequence[Store]:
        """By name."""
        ...

    def add_store(self, store: Store, session: Session) -> Sequence[Lack]:
        """Record a store. Returns: what it lacks. Repeat: a check. Raises: InvalidArgument, AlreadyExists."""
        ...

    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[Lack]:
        """Set options of a store that has moved. Returns: what the new place lacks; if anything, no option is set.
        Raises: NotFound, InvalidArgument for a place that does not hold the store's snapshots."""
        ...

    def remove_store(self, name: str, session: Session) -> None:
        """Remove a store; its data stays. Raises: NotFound, InvalidArgument for one that is in use."""
        ...

    def check_store(self, name: str) -> tuple[Sequence[Lack], Sequence[Risk]]:
        """What a store lacks, and its own rules that could delete what commits need. Also looks at native heads."""
        ...

    def import_assets(self, tx: str, assets: Mapping[Key, str]) -> None:
        """Stage native assets (key → name or location) in place. Repeat: skips those that are staged already.

        Raises: NotFound, AlreadyExists for a key that holds another asset, TransactionClosed.
        """
        ...

    def publish(self, stores: Sequence[str] | None) -> Sequence[Publication]:
        """Move native heads of these stores (None: all) to their bound refs. Returns: those still elsewhere."""
        ...

    def unpublished(self) -> Sequence[Publication]:
        """The native heads that are not at their bound refs, as last recorded: calls no store."""
        ...

    def adopt(self, key: Key, session: Session) -> Commit | None:
        """Commit what was found at a diverged native head; None if nothing was new.

        Raises: NotFound unless it has diverged; CommitConflict, kept with a working set.
        """
        ...

    # -- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, name: str) -> str:
        """Make a token, which cannot be shown again. Raises: AlreadyExists, InvalidArgument."""
        ...

    def tokens(self) -> Sequence[tuple[str, int]]:
        """(name, created_at_us), by name."""
        ...

    def delete_token(self, name: str) -> None:
        """Raises: NotFound."""
        ...

    def close(self) -> None:
        """Release threads and connections. Repeat: no-op."""
        ...
