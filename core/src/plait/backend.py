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
    """The calls of one repository. Thread-safe."""

    @property
    def repository(self) -> str: ...

    # -- history -----------------------------------------------------------------------------------------------------

    def refs(self) -> Sequence[Ref]: ...
    def reflog(self, name: str) -> Iterator[RefMove]: ...
    def resolve(self, spec: str) -> Commit: ...
    def merge_base(self, ours: str, theirs: str) -> Commit | None: ...
    def log(self, spec: str, wanted: LogFilter) -> Iterator[Commit]: ...
    def scan(self, spec: str, prefix: Key) -> Iterator[Entry]: ...
    def get(self, spec: str, keys: Sequence[Key]) -> Mapping[Key, Entry]: ...
    def diff(self, before: str, after: str, prefix: Key) -> Iterator[Change]: ...
    def diff_items(self, key: Key, before: Side, after: Side, items: Sequence[str] | None) -> Iterator[ItemChange]: ...
    def history(self, spec: str, key: Key) -> Iterator[tuple[Commit, Change]]: ...
    def events(self, after_seq: int, limit: int) -> Sequence[Event]: ...
    def watch(self, from_seq: int | None, seconds_max: float | None) -> Iterator[Event]: ...
    def verify(self, depth: Depth) -> Iterator[Problem]: ...

    # -- writing -----------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal) -> Commit: ...
    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]: ...
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
    ) -> Ref: ...

    # -- working sets ------------------------------------------------------------------------------------------------

    def begin(self, request: BeginRequest, session: Session) -> Tx: ...
    def tx(self, text: str) -> Tx: ...
    def txs(self) -> Sequence[Tx]: ...
    def participants(self, tx: str) -> Sequence[Participant]: ...
    def stage(self, tx: str, keys: Sequence[Key], *, new: bool) -> Sequence[Staging]: ...
    def staging(self, tx: str, key: Key) -> Staging | None: ...
    def base_entry(self, tx: str, key: Key) -> Entry | None: ...
    def keys(self, tx: str, prefix: Key) -> Sequence[Key]: ...
    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool: ...
    def drop(self, tx: str, key: Key) -> None: ...
    def move(self, tx: str, before: Key, after: Key) -> None: ...
    def restore(self, tx: str, key: Key, spec: str, items: Sequence[str] | None) -> None: ...
    def renew(self, tx: str) -> None: ...
    def preview(self, tx: str) -> Preview: ...
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
    ) -> Commit: ...
    def discard(self, tx: str) -> None: ...
    def recover(self) -> Sequence[str]: ...
    def conflicts(self, tx: str) -> Iterator[tuple[Conflict, Resolution | None]]: ...
    def settle(self, tx: str, resolutions: Sequence[Resolution]) -> None: ...

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> Sequence[Store]: ...
    def add_store(self, store: Store, session: Session) -> Sequence[str]: ...
    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[str]: ...
    def remove_store(self, name: str, session: Session) -> None: ...
    def check_store(self, name: str) -> tuple[Sequence[str], Sequence[Risk]]: ...
    def import_assets(self, tx: str, assets: Mapping[Key, str]) -> None: ...
    def publish(self, stores: Sequence[str] | None) -> Sequence[Publication]: ...
    def unpublished(self) -> Sequence[Publication]: ...
    def adopt(self, key: Key, session: Session) -> Commit | None: ...

    # -- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, name: str) -> str: ...
    def tokens(self) -> Sequence[tuple[str, int]]: ...
    def delete_token(self, name: str) -> None: ...

    def close(self) -> None: ...
