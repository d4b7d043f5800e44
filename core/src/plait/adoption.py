"""Adopting what somebody wrote past plait: one more three-way merge.

base    what was last published        ours    the bound ref's head        theirs    what was found

The transaction's id is made of what was found, so that adopting it again goes on with the same working set, or finds
the same commit, wherever the first attempt died or whoever settled its conflicts.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from plait.codec import decode_snapshot, digest, pack, ref_digest
from plait.coordinator import Coordinator
from plait.errors import InvalidArgument, NotFound, NothingToCommit
from plait.failpoint import failpoint
from plait.persist import Repository, Rows
from plait.persist.store_rows import Publication
from plait.refspec import format_key
from plait.transaction import Transactions
from plait.types import Commit, Key, Session, Source, SourceKind, Tx, TxState


def adopt(
    repository: Repository, transactions: Transactions, coordinator: Coordinator, key: Key, session: Session
) -> Commit | None:
    """Commit what the native head was found at, merged with what was committed meanwhile; None if nothing was new.

    Raises: NotFound unless the key has diverged; CommitConflict, listed and kept with a working set.
    Repeat: the same working set, or the same commit; then only the publication's row is mended.
    """
    with repository.read() as rows:
        store = rows.store(key[0])
        diverged = _diverged(rows, [key])
        head = rows.ref(store.bound_ref).head
        if not diverged:
            raise NotFound(f"{format_key(key)} has not diverged", remedy="see 'plait store check'")
        if diverged[0].found is None:
            raise InvalidArgument(
                f"{format_key(key)} is gone from its store", remedy="delete the key on the branch, or publish it again"
            )
        tx_id = _unused_id(rows, repository, diverged[0])
    tx = transactions.begin(
        store.bound_ref,
        session,
        tx_id=tx_id,
        message=f"Adopt {format_key(key)}",
        source=Source(SourceKind.ADOPT, None, head, (key,)),
        name=f"adopt-{format_key(key)}",
    )
    commit: Commit | None = None
    try:
        commit = coordinator.commit(tx.id)
    except NothingToCommit:
        transactions.discard(tx.id)
    failpoint("adoption.committed")
    settle(repository, tx)
    return commit


def settle(repository: Repository, tx: Tx) -> None:
    """What this adopting transaction found is what is published now. Repeat: no-op."""
    assert tx.source is not None
    with repository.write() as rows:
        for publication in _diverged(rows, tx.source.keys):
            if publication.found is None:
                continue
            found = ref_digest(decode_snapshot(publication.found))
            settled = replace(
                publication, published=found, moving=None, state="idle", found=None, owner="", lease_until_us=0
            )
            rows.put_snapshots({found: publication.found}, rows.serial().seq)
            rows.swap_publication(publication, settled)


def _diverged(rows: Rows, keys: Sequence[Key]) -> list[Publication]:
    publications = rows.publications({key[0] for key in keys})
    return [found for found in publications if found.key in keys and found.state == "diverged"]


def _unused_id(rows: Rows, repository: Repository, publication: Publication) -> str:
    """The transaction of this divergence: the first that nobody has discarded."""
    for turn in range(1_000_000):
        name = [repository.uuid, publication.store, publication.asset, publication.found, publication.epoch, turn]
        tx_id = str(uuid.UUID(bytes=digest(b"adopt", pack(name))[:16]))
        known = rows.txs([tx_id]).get(tx_id)
        if known is None or known.state not in (TxState.ABORTING, TxState.ABORTED):
            return tx_id
    raise AssertionError("nobody discards that often")
