"""A working set in the user's hands: native handles to write with, then commit or discard."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from plait import tables
from plait.backend import Backend, Preview, Side
from plait.errors import AlreadyExists, InvalidArgument, NotFound, PlaitError
from plait.liveness import renewing
from plait.refspec import as_choice, as_key, as_keys, format_path
from plait.stores import Adapters
from plait.tables import Listing, Stream
from plait.types import (
    Choice,
    Commit,
    Conflict,
    ItemChange,
    Json,
    Key,
    Location,
    Participant,
    Resolution,
    Session,
    SnapshotRef,
    Staging,
    Tx,
    TxState,
)

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger("plait.working_set")


class Port:
    """`StagingPort` of one transaction: its durable rows, reached through the backend."""

    def __init__(self, backend: Backend, tx: Tx) -> None:
        self._backend = backend
        self._tx = tx

    @property
    def tx(self) -> str:
        return self._tx.id

    @property
    def properties(self) -> Mapping[str, str]:
        return {"plait.tx": self._tx.id, "plait.author": self._tx.session.author or self._tx.session.principal}

    def add(self, key: Key, *, new: bool = False) -> Staging:
        return self._backend.stage(self._tx.id, [key], new=new)[0]

    def get(self, key: Key) -> Staging | None:
        return self._backend.staging(self._tx.id, key)

    def base(self, key: Key) -> SnapshotRef | None:
        entry = self._backend.base_entry(self._tx.id, key)
        return None if entry is None else entry.snapshot

    def compare_and_set(self, key: Key, expected: str, location: str) -> bool:
        return self._backend.swap_location(self._tx.id, key, expected, location)

    def move(self, before: Key, after: Key) -> None:
        self._backend.move(self._tx.id, before, after)

    def drop(self, key: Key) -> None:
        self._backend.drop(self._tx.id, key)

    def keys(self, prefix: Key = ()) -> Iterator[Key]:
        return iter(self._backend.keys(self._tx.id, prefix))


class WorkingSet:
    """A transaction: durable, isolated, spanning stores. Two clients may share one by its id."""

    def __init__(self, backend: Backend, adapters: Adapters, tx: Tx, session: Session) -> None:
        """`session`: in whose name this handle commits. It need not be the session that began the working set."""
        self._backend = backend
        self._session = session
        self._adapters = adapters
        self.tx = tx
        self.committed: Commit | None = None
        self._discarded = False

    def __repr__(self) -> str:
        return f"<plait.WorkingSet {self.tx.name or self.tx.id} on {self.tx.ref!r}>"

    def _repr_html_(self) -> str:
        return tables.PARTICIPANTS.html(self.participants(), f"{self.tx.name or self.tx.id} on {self.tx.ref}")

    def to_arrow(self) -> pa.Table:
        """The assets that it stages, drops or merged, as an Arrow table. Raises: Unsupported without pyarrow."""
        return self.participants().to_arrow()

    @property
    def id(self) -> str:
        return self.tx.id

    @property
    def is_closed(self) -> bool:
        """Whether this handle has committed or discarded it."""
        return self.committed is not None or self._discarded

    # -- native handles ----------------------------------------------------------------------------------------------

    def open(self, key: str | Key, *, create: bool = False) -> object:
        """The asset's native, writable handle. `create`: make it when it does not exist.

        Raises: NotFound, TransactionClosed, StoreUnavailable.
        """
        parts = as_key(key)
        staging = self._stage(parts, create)
        return self._adapters.get(parts[0]).open(staging, Port(self._backend, self.tx))

    def _stage(self, key: Key, create: bool) -> Staging:
        port = Port(self._backend, self.tx)
        try:
            return port.add(key)
        except NotFound:
            if not create:
                raise
            try:
                return port.add(key, new=True)
            except AlreadyExists:
                return port.add(key)

    def create(self, key: str | Key) -> object:
        """A new asset's native handle. Raises: AlreadyExists."""
        parts = as_key(key)
        port = Port(self._backend, self.tx)
        return self._adapters.get(parts[0]).open(port.add(parts, new=True), port)

    def store(self, name: str) -> object:
        """The store's native namespace inside this transaction: for Iceberg, a pyiceberg Catalog."""
        return self._adapters.get(name).open_store(Port(self._backend, self.tx))

    def locate(self, key: str | Key, *, create: bool = False) -> Location:
        """Stage the asset, and return where a client that knows nothing of plait can write it in this working set.

        Raises: as `open`.
        """
        parts = as_key(key)
        return self._adapters.get(parts[0]).locate(self._stage(parts, create))

    def drop(self, key: str | Key) -> None:
        """Remove the key in this working set; it is absent once this is committed. No data is deleted."""
        self._backend.drop(self.id, as_key(key))

    def rename(self, before: str | Key, after: str | Key) -> None:
        """Move the asset to another key of the same store. It keeps its content id."""
        self._backend.move(self.id, as_key(before), as_key(after))

    def restore(self, key: str | Key, spec: str, *, items: Sequence[str] | None = None) -> None:
        """Set an asset, or some items of it, to what it was at a point (`spec`), inside this working set.

        Raises: NotFound for an asset that does not exist at that point, and for an item that exists neither there,
        nor at the base, nor in this working set.
        """
        self._backend.restore(self.id, as_key(key), spec, items)

    # -- looking -----------------------------------------------------------------------------------------------------

    def keys(self, prefix: str | Key = ()) -> list[Key]:
        """The keys that exist in this working set under a prefix, in key order."""
        return list(self._backend.keys(self.id, as_key(prefix)))

    def participants(self) -> Listing[Participant]:
        """The assets that it stages, drops or merged, in key order."""
        return Listing(tables.PARTICIPANTS, self._backend.participants(self.id))

    def diff_items(self, key: str | Key, *, items: Sequence[str] | None = None) -> Stream[ItemChange]:
        """What this working set changed inside one asset since its base."""
        parts, base = as_key(key), Side(spec=f"@{self.tx.base}")
        return Stream(tables.ITEMS, lambda: self._backend.diff_items(parts, base, Side(tx=self.id), items))

    def preview(self) -> Preview:
        """What a commit would contain now, and which conflicts it would meet."""
        return self._backend.preview(self.id)

    # -- conflicts ---------------------------------------------------------------------------------------------------

    def conflicts(self) -> Stream[tuple[Conflict, Resolution | None]]:
        """Every conflict that its last commit met, each with its resolution, or None while it has none."""
        return Stream(tables.CONFLICTS, lambda: self._backend.conflicts(self.id))

    def resolve(self, key: str | Key, choice: Choice, *, item: str | None = None, value: Json = None) -> None:
        """Settle one listed conflict. Raises: NotFound when it is not listed."""
        self.settle([Resolution(as_key(key), item, as_choice(Choice, choice), value)])

    def settle(self, resolutions: Sequence[Resolution]) -> None:
        """Settle listed conflicts. Raises: NotFound when one is not listed, InvalidArgument when a value is no JSON;
        then none is settled.

        More than a mebibyte of resolutions goes to a served catalog in parts; each part is settled whole or not at all.
        """
        for one in resolutions:
            try:
                json.dumps(one.value)
            except (TypeError, ValueError, RecursionError) as error:
                named = format_path(one.key, one.item)
                raise InvalidArgument(f"the value for {named} is no JSON: {error}") from error
        self._backend.settle(self.id, resolutions)

    def resolve_all(self, choice: Choice, prefix: str | Key = ()) -> int:
        """Settle by one side the conflicts that are open under a prefix (`open_conflicts`). Returns: how many."""
        side = as_choice(Choice, choice)
        settled = [Resolution(one.key, one.item, side) for one in self.open_conflicts(prefix)]
        self.settle(settled)
        return len(settled)

    def open_conflicts(self, prefix: str | Key = ()) -> list[Conflict]:
        """The listed conflicts under a prefix that are not settled yet. Cost: as `settlements`."""
        return [one for one, how in self.settlements(prefix) if how is None]

    def settlements(self, prefix: str | Key = ()) -> list[tuple[Conflict, str | None]]:
        """How each listed conflict under a prefix is settled: by a choice (its value), "written", or not yet (None).

        Cost: a `preview`, if a key in conflict was written to.
        """
        parts = as_key(prefix)
        listed = [(one, kept) for one, kept in self.conflicts() if one.key[: len(parts)] == parts]
        found = [(one, None if kept is None else kept.choice.value) for one, kept in listed]
        left = {one.key for one, how in found if how is None}
        written = left & {one.key for one in self.participants() if one.staging is not None} if left else set()
        if not written:
            return found
        still = {(one.key, one.item) for one in self.preview().conflicts}
        return [
            (one, "written" if how is None and one.key in written and (one.key, one.item) not in still else how)
            for one, how in found
        ]

    def sided(self, choice: Choice, prefix: str | Key = ()) -> list[Resolution]:
        """A resolution by this side for every listed conflict under a prefix, also for those that have another one."""
        parts = as_key(prefix)
        return [
            Resolution(conflict.key, conflict.item, choice)
            for conflict, _ in self.conflicts()
            if conflict.key[: len(parts)] == parts
        ]

    # -- the end -----------------------------------------------------------------------------------------------------

    def commit(
        self,
        message: str | None = None,
        *,
        author: str = "",
        properties: Mapping[str, str] | None = None,
        unchanged: Sequence[str | Key] = (),
        allow_empty: bool = False,
    ) -> Commit:
        """Commit everything in it as one commit.

        Raises: CommitConflict, ProposalRejected, NothingToCommit; the working set is kept then.
        Repeat: returns the same commit.
        """
        self.committed = self._backend.commit_tx(
            self.id,
            self._session,
            message=message,
            author=author,
            properties=dict(properties or {}),
            unchanged=as_keys(unchanged),
            allow_empty=allow_empty,
        )
        return self.committed

    def discard(self) -> None:
        """End it without a trace. Repeat: no-op."""
        self._backend.discard(self.id)
        self._discarded = True

    def give_up(self) -> None:
        """Discard it while another error is being raised. Raises no PlaitError, which would hide that one.

        What cannot be dropped now, recovery drops. If it is committed already (an interrupt came late), it stays so.
        """
        try:
            self.discard()
        except PlaitError as error:
            _log.warning("working set %s is not discarded: %s", self.id, error)

    @property
    def state(self) -> TxState:
        """Its current state, read from the catalog: other clients may have changed it."""
        return self._backend.tx(self.id).state

    def kept_alive(self) -> AbstractContextManager[None]:
        """Renew the lease of an implicit transaction while the block runs, also past previews, which seal it."""
        return renewing(lambda: self._backend.renew(self.id))
