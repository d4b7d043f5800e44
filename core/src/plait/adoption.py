"""Adopting what somebody wrote past plait: one more three-way merge.

base    what was last published        ours    the bound ref's head        theirs    what was found
"""

from __future__ import annotations

from dataclasses import replace

from plait.codec import decode_snapshot, ref_digest
from plait.coordinator import Coordinator
from plait.errors import InvalidArgument, NotFound, NothingToCommit
from plait.failpoint import failpoint
from plait.persist import Repository
from plait.refspec import format_key
from plait.transaction import Transactions
from plait.types import Commit, Key, Session, Source, SourceKind


def adopt(
    repository: Repository, transactions: Transactions, coordinator: Coordinator, key: Key, session: Session
) -> Commit | None:
    """Commit what the native head was found at, merged with what was committed meanwhile; None if nothing was new.

    Raises: NotFound unless the key has diverged; CommitConflict, listed and kept with a working set.
    Repeat: after a crash between the commit and the publication's row, nothing is new and only the row is mended.
    """
    with repository.read() as rows:
        store = rows.store(key[0])
        diverged = [
            found for found in rows.publications([store.name]) if found.key == key and found.state == "diverged"
        ]
        head = rows.ref(store.bound_ref).head
    if not diverged:
        raise NotFound(f"{format_key(key)} has not diverged", remedy="see 'plait store check'")
    publication = diverged[0]
    if publication.found is None:
        raise InvalidArgument(
            f"{format_key(key)} is gone from its store", remedy="delete the key on the branch, or publish it again"
        )
    source = Source(SourceKind.ADOPT, None, head, (key,))
    tx = transactions.begin(
        store.bound_ref, session, message=f"Adopt {format_key(key)}", source=source, name=f"adopt-{format_key(key)}"
    )
    commit: Commit | None = None
    try:
        commit = coordinator.commit(tx.id)
    except NothingToCommit:
        transactions.discard(tx.id)
    failpoint("adoption.committed")
    found = decode_snapshot(publication.found)
    settled = replace(
        publication, published=ref_digest(found), moving=None, state="idle", found=None, owner="", lease_until_us=0
    )
    with repository.write() as rows:
        rows.put_snapshots({ref_digest(found): publication.found}, rows.serial().seq)
        rows.swap_publication(publication, settled)
    return commit
