"""Stagings: the places in the stores where native clients write for a working set, and the rows that record them.

A participant's row is written before its staging, so recovery finds whatever a dead process left in a store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plait.codec import decode_key, encode_key
from plait.errors import AlreadyExists, InvalidArgument, NotFound, Unsupported
from plait.failpoint import failpoint
from plait.refspec import check_key, format_key
from plait.store_names import known_store
from plait.transaction import Transactions, taken_over
from plait.types import Entry, Intent, Key, Mode, Participant, SnapshotRef, Staging, Store, Tx


class Stagings:
    """The stagings of one repository's working sets. Thread-safe; state lives in rows only."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._repository = transactions.repository
        self._adapters = transactions.adapters
        self._clock = transactions.clock

    def base_entry(self, tx: Tx, key: Key) -> Entry | None:
        """The entry that the transaction's base commit holds under a key, or None."""
        with self._repository.read() as rows:
            return self._transactions.base_entries(rows, tx, [key]).get(key)

    def base_keys(self, tx: Tx, prefix: Key) -> list[Key]:
        with self._repository.read() as rows:
            root = rows.commit(tx.base).root
            return [decode_key(key) for key, _ in self._transactions.tree(rows).scan(root, prefix=encode_key(prefix))]

    def stage(self, tx_id: str, keys: Sequence[Key], *, new: bool = False, content_id: str = "") -> list[Staging]:
        """Stage keys. Returns: their stagings, in the order of the keys; a key staged already keeps its staging.

        `new`: begin assets that do not exist yet. `content_id`: continue the asset that had this id (a restore).

        Raises: TransactionClosed, NotFound, AlreadyExists (`new`), Unsupported for pointer stores.
        Cost: one call of each store's adapter, however many keys.
        """
        intended, stores = self._intend(tx_id, keys, new=new, content_id=content_id)
        failpoint("transaction.intended")
        with self._transactions.writing_natively(tx_id):
            staged = self._stage(tx_id, intended, stores)
        if staged is None:
            return self.stage(tx_id, keys, new=new, content_id=content_id)
        return [_staging(staged[key]) for key in keys]

    def _stage(
        self, tx_id: str, intended: Sequence[Participant], stores: Mapping[str, Store]
    ) -> dict[Key, Participant] | None:
        """Stage every intended participant; None when another client renamed or dropped one of them meanwhile."""
        unstaged = [participant for participant in intended if participant.staging is None]
        by_store: dict[str, list[Participant]] = {}
        for participant in unstaged:
            by_store.setdefault(participant.key[0], []).append(participant)
        staged: dict[Key, Participant] = {participant.key: participant for participant in intended}
        for store, participants in by_store.items():
            stagings = self._adapters.of(stores[store]).stage(tx_id, {p.key: _intent(p) for p in participants})
            failpoint("transaction.staged_natively")
            for participant in participants:
                staged[participant.key] = replace(participant, staging=stagings[participant.key], dropped=False)
        if not unstaged:
            return staged
        with self._repository.write() as rows:
            self._transactions.open_tx(rows, tx_id)
            now = {participant.key: participant for participant in rows.participants(tx_id, list(staged))}
            for key in list(staged):
                # Another client may have staged the key meanwhile, and written there since: its row wins.
                if key in now and now[key].staging is not None:
                    staged[key] = now[key]
            # It may also have renamed the key, which takes this staging along, or dropped it: then no intent is left.
            overtaken = [one.key for one in unstaged if one.key not in now or not now[one.key].intent]
            rows.put_participants([staged[one.key] for one in unstaged if one.key not in overtaken])
        return None if overtaken else staged

    def _intend(
        self, tx_id: str, keys: Sequence[Key], *, new: bool, content_id: str
    ) -> tuple[list[Participant], Mapping[str, Store]]:
        """Write the participants' rows, before any store is called. Returns: them, and the configured stores."""
        for key in keys:
            check_key(key)
        with self._repository.write() as rows:
            tx = self._transactions.open_tx(rows, tx_id)
            stores = rows.stores()
            known = {participant.key: participant for participant in rows.participants(tx_id, keys)}
            bases = self._transactions.base_entries(rows, tx, keys)
            intended = []
            for key in keys:
                store = known_store(stores, key[0])
                if store.mode is Mode.POINTER:
                    raise Unsupported(f"store {store.name!r} only records locations", remedy="use 'catalog.commit'")
                participant, base = known.get(key), bases.get(key)
                if participant is not None and not participant.is_own:
                    participant = None  # The row only records a merge's result: the user has not written here yet.
                there = _is_there(participant, base)
                if new and there:
                    raise AlreadyExists(f"{format_key(key)} exists already", remedy="open it, or choose another key")
                if not new and not there and (participant is None or participant.dropped):
                    raise NotFound(
                        f"{format_key(key)} does not exist at {tx.base[:12]}",
                        remedy="see 'plait ls', or begin it: open(key, create=True), 'plait open KEY --write --create'",
                    )
                intended.append(
                    self._intended(participant or Participant(tx_id, key, base), new=new, content_id=content_id)
                )
            rows.put_participants([one for one in intended if one != known.get(one.key)])
        return intended, stores

    def _intended(self, participant: Participant, *, new: bool = False, content_id: str = "") -> Participant:
        """The participant with a staging id; it keeps its content id, or gets a new one if it begins an asset."""
        if participant.intent:
            return participant
        intent, base = self._clock.new_id(), participant.base
        goes_on = content_id or ("" if new or base is None else base.content_id)
        return replace(participant, intent=intent, content_id=goes_on or intent)

    def staging(self, tx_id: str, key: Key) -> Staging | None:
        with self._repository.read() as rows:
            found = rows.participants(tx_id, [key])
        return found[0].staging if found and not found[0].dropped else None

    def swap_location(self, tx_id: str, key: Key, expected: str, location: str) -> bool:
        """Replace a staging's location if it is still `expected`. Returns: whether. Raises: TransactionClosed."""
        with self._repository.write() as rows:
            self._transactions.open_tx(rows, tx_id)
            return rows.swap_location(tx_id, key, expected, location)

    def drop(self, tx_id: str, key: Key) -> None:
        """Remove a key in the transaction: it is absent once that commits. Raises: NotFound, TransactionClosed."""
        with self._repository.write() as rows:
            tx = self._transactions.open_tx(rows, tx_id)
            found = rows.participants(tx_id, [key])
            base = self._transactions.base_entries(rows, tx, [key]).get(key)
            if not _is_there(found[0] if found else None, base):
                raise NotFound(f"{format_key(key)} does not exist in this working set")
            # A new asset's row stays too, without its staging: an abort must still reach its store.
            rows.put_participants([Participant(tx_id, key, base, dropped=True)])

    def move(self, tx_id: str, before: Key, after: Key) -> None:
        """Rename within a store, keeping the content id. Raises: NotFound, AlreadyExists, TransactionClosed."""
        if before[0] != check_key(after)[0]:
            raise InvalidArgument(f"{format_key(before)} cannot move to another store")
        self.stage(tx_id, [before])
        with self._repository.write() as rows:
            tx = self._transactions.open_tx(rows, tx_id)
            found = {participant.key: participant for participant in rows.participants(tx_id, [before, after])}
            base = self._transactions.base_entries(rows, tx, [after]).get(after)
            if _is_there(found.get(after), base):
                raise AlreadyExists(f"{format_key(after)} exists already")
            source = found[before]
            staging = _staging(source)
            moved = replace(source, key=after, base=base, staging=replace(staging, key=after))
            rows.put_participants([moved, Participant(tx_id, before, source.base, dropped=True)])

    def keys(self, tx_id: str, prefix: Key) -> Iterator[Key]:
        """The keys that exist in the transaction under a prefix, in key order."""
        tx = self._transactions.find(tx_id)
        own = [participant for participant in self._transactions.participants(tx.id) if participant.is_own]
        changed = {participant.key: participant for participant in own if participant.key[: len(prefix)] == prefix}
        kept = {key for key in self.base_keys(tx, prefix) if key not in changed}
        staged = {key for key, participant in changed.items() if participant.staging is not None}
        return iter(sorted(kept | staged, key=encode_key))

    def replace_staging(self, tx_id: str, staging: Staging) -> None:
        """Record the new place of a staging that an adapter moved (a restore). Raises: TransactionClosed, NotFound."""
        with self._repository.write() as rows:
            self._transactions.open_tx(rows, tx_id)
            found = rows.participants(tx_id, [staging.key])
            if not found or found[0].staging is None:
                raise NotFound(f"{format_key(staging.key)} was renamed or dropped meanwhile")
            rows.put_participants([replace(found[0], staging=staging)])

    def intend_import(self, tx_id: str, keys: Sequence[Key]) -> None:
        """Write rows for keys about to be imported, so that an abort reaches their stores. Repeat: no-op."""
        with self._repository.write() as rows:
            tx = self._transactions.open_tx(rows, tx_id)
            # Not those of a merge, which know no base.
            known = {one.key: one for one in rows.participants(tx_id, keys) if one.is_own or one.intent}
            bases = self._transactions.base_entries(rows, tx, keys)
            participants = [known.get(key) or Participant(tx_id, key, bases.get(key)) for key in keys]
            rows.put_participants([self._intended(participant) for participant in participants])
        failpoint("transaction.import_intended")

    def import_snapshot(self, tx_id: str, key: Key, snapshot: SnapshotRef) -> None:
        """Stage an existing native snapshot, as it is, under a key of `intend_import`. Repeat: no-op.

        Raises: AlreadyExists when the base holds another asset there; TransactionClosed.
        """
        with self._repository.read() as rows:
            found = rows.participants(tx_id, [key])
        if not found:
            raise taken_over(self._transactions.find(tx_id))
        intended = found[0]
        if intended.base is not None and intended.base.snapshot.asset != snapshot.asset:
            raise AlreadyExists(f"{format_key(key)} holds another asset", remedy="choose another key")
        with self._transactions.writing_natively(tx_id):
            staging = self._adapters.get(key[0]).stage(tx_id, {key: Intent(intended.intent, snapshot)})[key]
            failpoint("transaction.import_staged")
            with self._repository.write() as rows:
                self._transactions.open_tx(rows, tx_id)
                rows.put_participants([replace(intended, staging=staging, dropped=False)])


def _is_there(participant: Participant | None, base: Entry | None) -> bool:
    """Whether a working set sees an asset under a key."""
    return participant.staging is not None if participant is not None and participant.is_own else base is not None


def _intent(participant: Participant) -> Intent:
    """What to stage from: the base's snapshot, or nothing where a new asset (with another content id) begins."""
    base = participant.base
    goes_on = base is not None and base.content_id == participant.content_id
    return Intent(participant.intent, base.snapshot if base is not None and goes_on else None)


def _staging(participant: Participant) -> Staging:
    if participant.staging is None:
        raise NotFound(f"{format_key(participant.key)} is not staged in working set {participant.tx}")
    return participant.staging
