"""The values plait speaks in. Frozen, comparable, free of behaviour that needs a store or a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import msgspec

Key: TypeAlias = tuple[str, ...]
"""An asset's name in the catalog; its first part is the store: ``("lake", "sales", "orders")``."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What a row, an object's description or a schema looks like where people and programs read it."""


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """One immutable native version of one asset.

    `asset` is the native identity and survives renames (a table's uuid); `version` is the native immutable point (a
    metadata location, a Dolt hash, a manifest's root), known at prepare; `digest` is the store's own, verifiable in
    O(change): equal digests mean equal content, which is no change to commit; unequal ones say nothing.
    """

    store: str
    kind: str
    asset: str
    version: str
    digest: bytes
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a commit holds under a key. `content_id` stays through renames and is given when the key is created."""

    key: Key
    content_id: str
    snapshot: SnapshotRef


@dataclass(frozen=True, slots=True)
class Change:
    """One key between two states; None means absent. Never both None."""

    key: Key
    before: Entry | None
    after: Entry | None


class ItemChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class ItemChange(msgspec.Struct, frozen=True, gc=False):
    """One item (row, object, file, extent, or a part of the schema) inside an asset between two snapshots of it.

    `aspect` says what sort of item it is: "row", "object", "schema", "property" …; `item` is its text after ``::``.
    """

    # A diff gives millions of these: as a dataclass, making them cost as much as finding them.

    item: str
    kind: ItemChangeKind
    aspect: str
    before: Json = None
    after: Json = None


@dataclass(frozen=True, slots=True)
class Session:
    """Who did something, with what: `principal` is what the server authenticated, `author` what the client claims."""

    principal: str = "local"
    author: str = ""
    client: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """One immutable point of the history. `seq` is its place in the serial order and no part of its id.

    `id` and `parents` are 64 hexadecimal digits; the first parent is the ref's head it was committed onto.
    """

    id: str
    parents: tuple[str, ...]
    root: bytes
    author: str
    message: str
    committed_at_us: int
    properties: Mapping[str, str]
    tx: str
    session: Session
    seq: int = 0

    @property
    def described(self) -> dict[str, str]:
        """The properties of its session and its own, which win."""
        return {**self.session.properties, **self.properties}


class RefKind(StrEnum):
    BRANCH = "branch"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Ref:
    """A name for a commit. `incarnation` tells a branch from a later one of the same name."""

    name: str
    kind: RefKind
    head: str
    incarnation: int
    protected: bool = False


@dataclass(frozen=True, slots=True)
class RefMove:
    """One line of a ref's log: `before` None is a creation, `after` None a deletion."""

    seq: int
    moved_at_us: int
    ref: str
    kind: RefKind
    incarnation: int
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key. `expected` is the ref_digest that the key must hold at the commit point; None: it must be absent."""

    key: Key
    snapshot: SnapshotRef
    expected: bytes | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key from the tree. No data is deleted."""

    key: Key
    expected: bytes | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Commit only if this key still holds what was read (None: is still absent). Makes a commit serializable."""

    key: Key
    expected: bytes | None


Operation: TypeAlias = Put | Delete | Unchanged


@dataclass(frozen=True, slots=True)
class Proposal:
    """A requested commit: of the sealed transaction `tx`, at its `attempt`, or, without one, of a one-call commit."""

    ref: str
    operations: tuple[Operation, ...]
    message: str = ""
    author: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    session: Session = Session()
    incarnation: int | None = None
    tx: str | None = None
    attempt: int = 0
    merged_parents: tuple[str, ...] = ()
    expected_head: str | None = None
    idempotency_key: str | None = None
    allow_empty: bool = False


class ConflictKind(StrEnum):
    """Why a change does not fit. The first five are about keys, the rest about items inside one asset."""

    KEY_EXISTS = "key-exists"
    KEY_DOES_NOT_EXIST = "key-does-not-exist"
    VALUE_DIFFERS = "value-differs"
    UNEXPECTED_HEAD = "unexpected-head"
    KEY_CHANGED = "key-changed"
    ITEM_CHANGED = "item-changed"
    SCHEMA_CHANGED = "schema-changed"
    CONSTRAINT = "constraint"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One place where two changes meet. `item` None: the key as a whole."""

    key: Key
    kind: ConflictKind
    item: str | None = None
    base: Json = None
    ours: Json = None
    theirs: Json = None
    detail: str = ""


class Choice(StrEnum):
    """How a conflict is settled. (A key is settled natively by writing to it in the merge's working set.)"""

    BASE = "base"
    OURS = "ours"
    THEIRS = "theirs"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The user's decision on one conflict; `value` counts for Choice.VALUE only (None there removes the item)."""

    key: Key
    item: str | None
    choice: Choice
    value: Json = None


class Strategy(StrEnum):
    """What a merge does with one key. OURS, THEIRS: merge, and settle every conflict by that side; DROP: leave ours
    as it is, whatever theirs changed."""

    NORMAL = "normal"
    OURS = "ours"
    THEIRS = "theirs"
    DROP = "drop"


class SourceKind(StrEnum):
    MERGE = "merge"
    CHERRY_PICK = "cherry-pick"
    REVERT = "revert"
    RESTORE = "restore"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a transaction's three-way changes come from: what `theirs` changed since `base` (commit ids).

    `keys` limits it to prefixes. A restore's base is the head that it meets; an adoption's base and theirs are what was
    last published and what was found, by the publications of its keys.
    """

    kind: SourceKind
    base: str | None
    theirs: str
    keys: tuple[Key, ...] = ()
    default: Strategy = Strategy.NORMAL
    strategies: tuple[tuple[Key, Strategy], ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """One asset that a transaction is about to write: from `base`, or (None) as a new asset.

    `id` is this staging's own, in the whole repository and for ever, and durable before the store hears of it. Native
    places and the identities of new assets are named after it, never after the key, which may be renamed and given to
    another asset within the same transaction.
    """

    id: str
    base: SnapshotRef | None


@dataclass(frozen=True, slots=True)
class Staging:
    """Where a transaction writes one asset.

    `location` is native (a metadata file, a prefix, a branch) and moves while clients write, by compare-and-set;
    `base` is the snapshot it was staged from, None for a new asset.
    """

    tx: str
    key: Key
    base: SnapshotRef | None
    location: str
    attrs: Mapping[str, str] = field(default_factory=dict)


class TxState(StrEnum):
    OPEN = "open"
    SEALED = "sealed"
    COMMITTED = "committed"
    ABORTING = "aborting"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Participant:
    """One asset of a transaction. `staging` None: intended, not staged yet; `dropped`: the key is to be deleted.

    `prepared` is the vote of `attempt`. `content_id` is what the key stands for after the commit: its base's, a renamed
    asset's, or a new one. `intent` is the `Intent.id` that it was, or is to be, staged by; empty where nothing is.
    """

    tx: str
    key: Key
    base: Entry | None
    staging: Staging | None = None
    dropped: bool = False
    content_id: str | None = None
    attempt: int = 0
    prepared: SnapshotRef | None = None
    intent: str = ""

    @property
    def is_own(self) -> bool:
        """Whether its user staged or dropped the key. Else there is but an intent, or what a join made, and the working
        set sees what its base holds."""
        return self.staging is not None or self.dropped

    @property
    def phase(self) -> str:
        """How far it is: intended, new or staged, prepared, dropped."""
        if self.dropped:
            return "dropped"
        if self.prepared is not None:
            return "prepared"
        if self.staging is None:
            return "intended"
        return "new" if self.base is None else "staged"


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction's durable row: a working set on `ref`, begun at `base`."""

    id: str
    state: TxState
    ref: str
    incarnation: int
    base: str
    session: Session
    created_at_us: int
    name: str = ""
    message: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 0
    owner: str = ""
    lease_until_us: int = 0
    implicit: bool = False
    merged_parents: tuple[str, ...] = ()
    source: Source | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a native head. None on one side: the asset appears or disappears; no data is deleted.

    `seq` grows with every move of the asset, so that equal snapshots published twice are told apart (no ABA).
    """

    before: SnapshotRef | None
    after: SnapshotRef | None
    seq: int
    epoch: int = 0


class PublishState(StrEnum):
    DONE = "done"
    BUSY = "busy"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a move. DIVERGED carries what the native head was found at (None: it is gone)."""

    state: PublishState
    found: SnapshotRef | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that worked: prepared already, and natively succeeding `ours`.

    `mergers`: the titles of registered mergers that made some of its content. The commit keeps them.
    """

    snapshot: SnapshotRef
    mergers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflicted:
    """A merge that did not: every conflict, in native key order."""

    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """How an engine reads exactly one snapshot, or writes to one staging: a URI, options to set (names of secrets,
    never secrets), and a snippet that a person can paste."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict)
    snippet: str = ""


class Depth(StrEnum):
    """How deep `verify` looks: does it exist, is its metadata whole, is every byte."""

    EXISTS = "exists"
    METADATA = "metadata"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Health:
    """What `verify` found: nothing wrong when `problems` is empty. `checked` counts files, objects or rows."""

    checked: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One native thing that takes space: a file, an object, a tag."""

    path: str
    size_bytes: int = 0
    modified_at_us: int = 0


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing for which a store cannot be used as it is, and what to do about it, where that is known."""

    problem: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Risk:
    """A rule of the store itself that could delete what a commit needs."""

    rule: str
    affects: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Found:
    """A native asset that could be imported: a name to make its key of, and the location by which `snapshot` takes it.

    `refusal` says why it cannot come, and what would help; empty: it can. `risks` are rules of the asset that let its
    owner delete what a commit will name. `asset` is what its snapshots' `asset` will be, where that is known before:
    what the history holds under another key is not taken twice.
    """

    name: Key
    location: str = ""
    refusal: str = ""
    risks: tuple[Risk, ...] = ()
    asset: str = ""


@dataclass(frozen=True, slots=True)
class PastVersion:
    """A version that a store's own history holds: `version` is what its `SnapshotRef.version` will be, by `location`
    `snapshot` takes it, and `message`, `properties` and `author` are those of the commit that records it."""

    version: str
    location: str
    message: str
    properties: Mapping[str, str] = field(default_factory=dict)
    author: str = ""


class Mode(StrEnum):
    """Who moves a store's native heads: plait alone, others too (plait records what it sees), or plait owns nothing."""

    MANAGED = "managed"
    OBSERVED = "observed"
    POINTER = "pointer"


@dataclass(frozen=True, slots=True)
class Store:
    """A configured system. Option values may be ``env:NAME`` or ``file:PATH``: secrets resolved where they are used."""

    name: str
    kind: str
    mode: Mode = Mode.MANAGED
    bound_ref: str = "main"
    options: Mapping[str, str] = field(default_factory=dict)


class EventKind(StrEnum):
    """The kinds of log record; each is one event."""

    REPOSITORY_CREATED = "repository-created"
    COMMIT = "commit"
    REF_CREATED = "ref-created"
    REF_MOVED = "ref-moved"
    REF_DELETED = "ref-deleted"
    TX_ABORTED = "tx-aborted"
    STORE_CHANGED = "store-changed"
    ADOPTED = "adopted"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Event:
    """One durable change, as subscribers see it: gap-free and in order by `seq`.

    `payload`: the fields of the log's `record`, and for a changed store the `session` that changed it.
    """

    seq: int
    kind: EventKind
    record_hash: bytes
    payload: Mapping[str, Json]
    commit: Commit | None = None
    changes: tuple[Change, ...] = ()
