"""Adoption: what somebody wrote past plait is merged into the bound ref, three-way.

base    what was last published        ours    the bound ref's head        theirs    what was found

The transaction's id is a digest of what was found. So a second adoption continues the same working set or returns the
same commit, wherever the first attempt died and whoever settled its conflicts.
"""

from __future__ import annotations

import uuid

from plait.codec import digest, pack
from plait.coordinator import Coordinator
from plait.divergence import diverged
from plait.errors import NotFound, NothingToCommit
from plait.persist import Repository, Rows
from plait.persist.store_rows import Publication
from plait.refspec import format_key
from plait.transaction import Transactions
from plait.types import Commit, Key, Session, Source, SourceKind, TxState


def adopt(
    repository: Repository, transactions: Transactions, coordinator: Coordinator, key: Key, session: Session
) -> Commit | None:
    """Commit what was found at the diverged native head, merged with what was committed since; None if nothing is new.

    An asset that is gone from its store is deleted on the branch; if the branch changed it too, that is a conflict.

    Raises: NotFound unless the key has diverged; CommitConflict, listed and kept with a working set.
    Repeat: the same working set, until it is committed.
    """
    with repository.read() as rows:
        store = rows.store(key[0])
        found = diverged(rows, [key])
        head = rows.ref(store.bound_ref).head
        if not found:
            raise NotFound(
                f"{format_key(key)} has not diverged: its store is where plait left it",
                remedy=f"see 'plait store check {store.name}'",
            )
        tx_id = _unused_id(rows, repository, found[0])
    tx = transactions.begin(
        store.bound_ref,
        session,
        tx_id=tx_id,
        message=f"Adopt {format_key(key)}",
        source=Source(SourceKind.ADOPT, None, head, (key,)),
        name=f"adopt-{format_key(key)}",
    )
    try:
        return coordinator.commit(tx.id, session)
    except NothingToCommit:
        return None


def _unused_id(rows: Rows, repository: Repository, publication: Publication) -> str:
    """The transaction id for this divergence: the first in its sequence that is not of a discarded transaction."""
    for turn in range(1_000_000):
        name = [repository.uuid, publication.store, publication.asset, publication.found, publication.epoch, turn]
        tx_id = str(uuid.UUID(bytes=digest(b"adopt", pack(name))[:16]))
        known = rows.txs([tx_id]).get(tx_id)
        if known is None or known.state not in (TxState.ABORTING, TxState.ABORTED):
            return tx_id
    raise AssertionError("nobody discards that often")
