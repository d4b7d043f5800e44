"""Rules of the core broken on purpose: each of these must make the crash matrix's check fail, or the check is blind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from plait.coordinator import Coordinator
from plait.persist import Database, schema
from plait.persist.store_rows import Publication, StoreRows
from plait.staging import Stagings
from plait.types import Change, Commit, Intent, Key, Move, Proposal, Put, Staging
from sqlalchemy.engine import Connection


def publish_first() -> None:
    """Native heads move before the commit point."""
    propose = Coordinator.propose

    def sabotaged(self: Coordinator, proposal: Proposal, changes: Sequence[Change], **how: Any) -> Commit:
        before = {change.key: None if change.before is None else change.before.snapshot for change in changes}
        with self._repository.read() as rows:
            stores = rows.stores()
        for put in proposal.operations:
            if isinstance(put, Put) and self._planner.native_ref(stores[put.key[0]], proposal.ref):
                move = Move(before[put.key], put.snapshot, seq=1_000_000)
                self._transactions.adapters.of(stores[put.key[0]]).publish({put.key: move})
        return propose(self, proposal, changes, **how)

    Coordinator.propose = sabotaged  # type: ignore[method-assign]


def no_intent() -> None:
    """A native staging is made before the row that tells of it."""
    stage = Stagings.stage

    def sabotaged(self: Stagings, tx_id: str, keys: Sequence[Key], **how: Any) -> list[Staging]:
        tx = self._transactions.find(tx_id)
        for key in keys:
            base = self.base_entry(tx, key)
            self._adapters.get(key[0]).stage(tx_id, {key: Intent(uuid4().hex, None if base is None else base.snapshot)})
        return stage(self, tx_id, keys, **how)

    Stagings.stage = sabotaged  # type: ignore[method-assign]


def no_fsync() -> None:
    """The votes of the stores are in no way durable."""
    os.fsync = lambda fd: None


def no_flush() -> None:
    """The catalog's commit points wait for no disk either."""
    write = Database.write

    @contextmanager
    def sabotaged(self: Database, *, flush: bool = True) -> Iterator[Connection]:
        with write(self, flush=False) as connection:
            yield connection

    Database.write = sabotaged  # type: ignore[method-assign]


def unchecked_row_count() -> None:
    """Whoever settles a publication overwrites it, whoever owns it by now."""

    def sabotaged(self: StoreRows, before: Publication, after: Publication) -> bool:
        written = ("published", "moving", "found", "state", "owner", "lease_until_us", "epoch")
        values = {name: getattr(after, name) for name in written}
        self._swap(schema.publication, {"store": before.store, "asset": before.asset}, values)
        return True

    StoreRows.swap_publication = sabotaged  # type: ignore[method-assign]
