"""The adapter contract: what plait asks of a store, and what it gives to it.

One class per kind of store, handed over by the hook `plait_register_adapters`; one instance per configured store.
Adapters are synchronous and thread-safe, and every call may be repeated after a crash with the same effect. The core
asks for capabilities, never for the name of a store. `snapshot`, `stage`, `prepare` and `publish` take a batch of
assets; the other calls take one, and the core runs them side by side.

Errors: drivers' own are translated at the call (`raise StoreUnavailable(...) from error`); only `PlaitError` leaves.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final, Protocol, TypeAlias

from plait.clock import Clock, SystemClock
from plait.errors import InvalidArgument, Unsupported
from plait.failpoint import failpoint
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


class Capability(StrEnum):
    """What an adapter can do beyond the abstract methods; the core and the conformance suite ask for these."""

    ITEM_DIFF = "item-diff"
    """`diff` yields changes of single items, not only of the asset as a whole."""
    CHEAP_DIFF = "cheap-diff"
    """`diff` costs O(changes), never O(items); and a `verifier` looks at O(changes) beside what it has seen."""
    MERGE = "merge"
    """`merge` joins two changed sides; without it, they are a conflict on the key."""
    ITEM_RESOLUTION = "item-resolution"
    """`merge` takes resolutions of single items."""
    ITEM_RESTORE = "item-restore"
    """`restore` takes single items."""
    NATIVE_HEAD = "native-head"
    """The store has a head of its own that `publish` moves, and succession matters."""
    OPEN_STORE = "open-store"
    """`open_store` gives a native namespace: create, drop and rename assets inside a transaction."""
    SEALS_WRITES = "seals-writes"
    """After prepare, the store itself refuses writes of native clients to the staging."""
    DISCOVER = "discover"
    """`discover` lists what a place holds: `plait import KIND` exists."""
    OBJECTS = "objects"
    """`open` gives an fsspec filesystem: `plait put`, `get`, `ls KEY::` and `rm KEY::ITEM` work."""
    FILES = "files"
    """`open` gives a handle whose `filesystem(write=False)` is a context manager of one: these work there too."""


class Progress(Protocol):
    """How long work says where it is; edges draw it, libraries ignore it."""

    def __call__(self, what: str, done: int, total: int | None) -> None: ...


def silent(what: str, done: int, total: int | None) -> None:
    """The progress of a library: none."""


class State(Protocol):
    """A small durable map of the adapter's own, one per store, in the catalog's database."""

    def get(self, name: str) -> bytes | None: ...

    def compare_and_set(self, name: str, expected: bytes | None, value: bytes | None) -> bool:
        """Set (None: remove) if it holds `expected` (None: absent); say whether it did."""
        ...


MergeFunction: TypeAlias = Callable[[bytes, bytes, bytes], "bytes | None"]
"""(base, ours, theirs) → merged bytes, or None when they conflict; one that can say where raises `MergeConflict`."""


class MergeConflict(Exception):
    """What a merger raises for places inside an item that both sides changed differently, as people name them."""

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__(", ".join(places))
        self.places = tuple(places)


@dataclass(frozen=True, slots=True)
class Merger:
    """A registered three-way merge for one sort of content. `pattern` is a glob on the item's name or a media type."""

    name: str
    pattern: str
    merge: MergeFunction
    version: str | None = None
    """Of the function or program: where there is one, commits name the merger and it (`Merged.mergers`)."""

    @property
    def title(self) -> str | None:
        """Name and version, as commits keep them; None for one that they do not name."""
        return None if self.version is None else f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class Context:
    """What the core lends to an adapter. All fields have defaults, so that an adapter can be tried alone."""

    state: State
    clock: Clock = field(default_factory=SystemClock)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("plait"))
    credential: Callable[[str], str] = field(default=lambda value: value)
    """Resolves ``env:NAME`` or ``file:PATH`` where it is used; other text is itself."""
    progress: Progress = field(default=silent)
    check_cancelled: Callable[[], None] = field(default=lambda: None)
    """Raises Cancelled when the caller no longer waits: long loops call it."""
    failpoint: Callable[[str], None] = failpoint
    mergers: Callable[[], Sequence[Merger]] = field(default=tuple)


class StagingPort(Protocol):
    """The stagings of one transaction, as durable rows: what `open` and `open_store` work through.

    Lives in the client's process; two clients may share one transaction. Raises TransactionClosed unless it is OPEN.
    """

    @property
    def tx(self) -> str: ...

    @property
    def properties(self) -> Mapping[str, str]:
        """Stamped into native commits: the transaction's id, the author."""
        ...

    def add(self, key: Key, *, new: bool = False) -> Staging:
        """Intend, then stage, this key of the transaction's base; staged already: the same staging.

        `new` starts an asset that the base does not hold (AlreadyExists if it, or this transaction, does).
        """
        ...

    def get(self, key: Key) -> Staging | None:
        """The current staging, or None when the key is not staged (or is dropped) here."""
        ...

    def base(self, key: Key) -> SnapshotRef | None:
        """What the transaction's base commit holds, without staging it."""
        ...

    def compare_and_set(self, key: Key, expected: str, location: str) -> bool:
        """Move a staging's location if it still is `expected`; say whether it did."""
        ...

    def move(self, before: Key, after: Key) -> None:
        """Rename: the asset and its content id go on under another key of the same store."""
        ...

    def drop(self, key: Key) -> None:
        """The key is absent once this transaction commits. No data is deleted."""
        ...

    def keys(self, prefix: Key = ()) -> Iterator[Key]:
        """What the transaction sees under a prefix, in key order: its base, what it added, not what it dropped."""
        ...


OPENING: Final = "plait.open('.')"
"""How a location's snippet opens the catalog. `plait open` puts there how the one at hand is opened: adapters do not
know where it is."""


def folder_option(store: Store, option: str) -> str:
    """The folder of a local disk that a store's option names, absolute. Raises: InvalidArgument for any other path."""
    path = store.options.get(option, "")
    if not os.path.isabs(path):
        raise InvalidArgument(
            f"store {store.name!r} needs the option {option!r}, an absolute path, and has {path!r}, "
            "which each process would read from its own folder",
            remedy=f"write --option {option}=./{path or store.name}, which the command line makes absolute",
        )
    return os.path.normpath(path)


Side: TypeAlias = SnapshotRef | Staging | None
"""One side of a diff: a snapshot, a working set's staging, or nothing."""


class Adapter(ABC):
    """One configured store. Subclasses set `kind` and `capabilities` and take (store, context)."""

    kind: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self, store: Store, context: Context) -> None:
        """Check the options and connect lazily.

        Raises: InvalidArgument for a bad option, naming it. Must not write.
        """
        self.store = store
        self.context = context

    @classmethod
    def capabilities_of(cls, store: Store) -> frozenset[Capability]:
        """`capabilities`, and what this store's options add. Asked for each commit: only the options are looked at."""
        return cls.capabilities

    @classmethod
    def heads_of(cls, store: Store) -> str:
        """Which native heads the options name, where they do: all are published anew when this text changes."""
        return ""

    def local_folder(self) -> str:
        """The folder of a local disk that holds the store's data, absolute; "" where there is none.

        The core makes it, with the file `_plait/store` in it, when the store is added. While it is gone, or empty, the
        core asks nothing of the store, so that no adapter makes it anew on the wrong disk.
        """
        return ""

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        """Probe the store as `plait store add` and `store check` do: what is missing, as sentences; empty when fit.

        A sentence may end in " · " and a remedy, as the text of a PlaitError does.
        """
        return ()

    def discover(self, place: str) -> Iterator[Found]:
        """What a place holds that `snapshot` can take, in order of names. "" is the store as a whole; the location of
        one asset, as `snapshot` takes it, is a place that holds just that one.

        What looks like an asset of this kind and cannot come is told with its refusal, and keeps nothing else back.
        Writes nothing. Raises: NotFound for a place that is not there.
        """
        raise Unsupported(
            f"stores of kind {self.kind!r} cannot be searched", remedy="name each: plait import assets KEY=LOCATION"
        )

    def history(self, found: Found) -> Sequence[PastVersion]:
        """The store's own history of what was discovered, oldest first, and last what `snapshot` takes; empty: none.

        Writes nothing. Cost: O(versions).
        """
        return ()

    @abstractmethod
    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Describe and pin native heads. `assets`: key → native name or location, as in an import.

        An equal head gives an equal answer, a changed head gives another answer. Aborting one import does not unpin
        another. Raises: NotFound for an asset that is not there.
        """

    @abstractmethod
    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        """What differs, lazily and in native key order; `items` limits it. Nothing for equal sides.

        Different sides differ in something. Each side may be nothing, or a working set's staging; the snapshots may lie
        apart. An item written as it was does not differ. Before and after of each item are what it was and what it is.
        """

    @abstractmethod
    def locate(self, target: SnapshotRef | Staging) -> Location:
        """How an engine reads exactly this version; of a staging, where native clients write, and how.

        The same whoever asks. Writes nothing, shows no secret.
        """

    @abstractmethod
    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        """Compare what is stored with the snapshot's digest, as deep as asked; a lost file is a problem, no error.

        A changed byte is found by BYTES.
        """

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        """`verify` for many snapshots, from several threads, about in the order of their commits.

        With CHEAP_DIFF, it looks once at what snapshots share.
        """
        return lambda snapshot: self.verify(snapshot, depth)

    # -- writing inside a transaction --------------------------------------------------------------------------------

    @abstractmethod
    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """Make an isolated place for native clients to write, one per key, from its base (None: a new, empty asset).

        Places and new assets are named after the intent's id. Repeat: the same place for the same id, never reset.
        """

    @abstractmethod
    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> object:
        """The native handle: writable for a staging, read-only for a snapshot. Runs in the client's process."""

    def open_store(self, port: StagingPort) -> object:
        """The native namespace inside a transaction: create, drop and rename assets. Runs in the client's process."""
        raise Unsupported(f"stores of kind {self.kind!r} have no namespace handle", remedy="open assets by their key")

    @abstractmethod
    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """The vote: make each staging durable, immutable and pinned, and not the head.

        An untouched staging votes its base; None: the client dropped the asset. Local files and their folders are
        fsynced before this returns. Repeat: the same answer for the same (tx, attempt). A later write alters nothing
        that was prepared; another attempt sees what was written since.
        """

    @abstractmethod
    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """Bring a staging, or some items of it, to what a snapshot holds; the staging with its new location.

        The snapshot stays as it is. Repeat: no-op.
        """

    @abstractmethod
    def abort(self, tx: str) -> None:
        """Drop stagings, pins and losing attempts of a transaction that did not commit. An unknown tx is fine.

        What others have prepared alike stays, and the names are free again. Repeat: no-op.
        """

    def release(self, tx: str, kept: Sequence[SnapshotRef]) -> None:
        """The transaction is committed: drop its stagings, and the pins of attempts that lost. `kept` is what it
        prepared for its commit: that, and what it needs, stays pinned until retention ends it.

        Called once the commit is durable, and again after a crash. Repeat, or an unknown tx: no-op.
        """
        return

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
        """Three-way merge of one asset; only true three-way cases arrive. The result is prepared and succeeds ours.

        Items are matched by name, renames are not followed; what one side changed and the other removed is a conflict.
        Without a base nothing counts as common, whatever ancestor the store itself knows of.
        Conflicted lists every conflict that is not resolved, in native key order; the core fills in its key.
        Its sides stay as they are; a result may be merged again. Repeat: the same answer for the same arguments.
        """
        raise Unsupported(f"stores of kind {self.kind!r} cannot merge")

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        """A snapshot with content's data that natively succeeds `onto`; `content` itself where it already does.

        Publish moves a head from `onto` to it. Repeat: the same answer. Stores without NATIVE_HEAD have no succession:
        every snapshot follows every other.
        """
        return content

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        """Move each native head from its before to its after, or report per key what was found instead.

        What somebody else wrote is never overwritten, and a diverged head holds up no other. What is written while a
        head moves is not overwritten either: compare and move in one step. A head that is not at before is not made
        there, also where there is none, since somebody may have deleted it. Equal before and after ask
        whether the head is still there; after a rename, they come under the new key, which the head may be named after.
        BUSY: not now, ask again: clients are at work on the head, or it carries the seq of a later move.
        Repeat: DONE, without a write, for heads already at after. Cost: one conditional write per key.
        """
        raise Unsupported(f"stores of kind {self.kind!r} have no native head to publish")

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        """Every native thing that reading this snapshot needs, named exactly as `inventory` names it."""
        raise Unsupported(f"stores of kind {self.kind!r} cannot list what a snapshot needs")

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        """Every native thing under plait's care in this store."""
        raise Unsupported(f"stores of kind {self.kind!r} have no inventory")

    def delete(self, items: Iterable[Item]) -> None:
        """Delete exactly these. The core has joined reachable and inventory; an adapter never decides liveness.

        What stays can be read, and gone on from. Repeat: no-op.
        """
        raise Unsupported(f"stores of kind {self.kind!r} cannot delete")

    def retention_risks(self) -> Iterator[Risk]:
        """The store's own rules that could delete what a commit needs."""
        return iter(())

    def close(self) -> None:
        """Release connections and processes. Repeat: no-op."""
        return
