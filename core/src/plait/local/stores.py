"""Stores of a repository: added, checked, removed, imported from, published to and adopted from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from plait import cores
from plait.adoption import adopt
from plait.batch import Batch
from plait.codec import pack, pairs
from plait.coordinator import Coordinator
from plait.errors import AlreadyExists, PlaitError, StoreUnavailable
from plait.liveness import is_alive
from plait.local.moving import check_place, check_unstaged, with_options
from plait.persist import Repository
from plait.persist.session_rows import session_id
from plait.persist.store_rows import Publication
from plait.plugins import Plugins
from plait.presence import check_unused
from plait.proposals import check_session
from plait.publisher import Publisher
from plait.ref_point import RecordRequest
from plait.refspec import check_key
from plait.sequencer import Sequencer
from plait.staging import Stagings
from plait.store_folder import make_folder
from plait.store_names import no_store
from plait.stores import Adapters, check_store, probe
from plait.transaction import Transactions
from plait.types import Commit, EventKind, Key, Lack, Mode, Risk, Session, Store

_log = logging.getLogger("plait.local")


class StoreKeeping:
    """The part of `LocalBackend` that looks after its stores and their native heads."""

    _repository: Repository
    _sequencer: Sequencer
    _transactions: Transactions
    _stagings: Stagings
    _coordinator: Coordinator
    _publisher: Publisher
    plugins: Plugins
    adapters: Adapters

    def stores(self) -> Sequence[Store]:
        with self._repository.read() as rows:
            return list(rows.stores().values())

    def add_store(self, store: Store, session: Session) -> Sequence[Lack]:
        """Check, then record a store. Returns: what it lacks; it is added all the same.

        Repeat: only checks it. A folder that is missing by then is not made again: its disk may not be mounted.
        """
        check_store(store, self.plugins)
        check_session(session)
        with self._repository.read() as rows:
            known = rows.stores().get(store.name)
        _check_free(known, store)  # Before anything is made for it.
        if known is not None:
            return [] if store.mode is Mode.POINTER else self.check_store(store.name)[0]
        missing: Sequence[Lack] = ()
        if store.mode is not Mode.POINTER:
            adapter = self.adapters.make(store)
            try:
                refusal = make_folder(folder) if (folder := adapter.local_folder()) else ""
                missing = probe(adapter) or ([Lack(refusal)] if refusal else ())
            finally:
                adapter.close()

        def record(batch: Batch) -> bytes:
            known = batch.rows.stores().get(store.name)
            _check_free(known, store)
            batch.rows.put_store(store)
            if known is None:
                self._publisher.begin(batch.rows, store)
            return _record(batch, session, store.name, _fields(store))

        self._sequencer.do(RecordRequest(EventKind.STORE_CHANGED, record))
        return missing

    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[Lack]:
        """Set options of a store that has moved, after checking that the new place holds all of its snapshots. One that
        is set to nothing is taken away.

        Returns: what the new place lacks; if anything, nothing is changed.
        """
        check_session(session)
        with self._repository.read() as rows:
            before = rows.store(name)
        after = check_store(with_options(before, dict(options)), self.plugins)
        check_unstaged(self._transactions, name)
        adapter = self.adapters.make(after)
        try:
            if missing := check_place(self._repository, before, adapter):
                return missing
        finally:
            adapter.close()

        def record(batch: Batch) -> bytes:
            if batch.rows.store(name) not in (before, after):
                raise AlreadyExists(f"store {name!r} was changed meanwhile", remedy="see 'plait store list', try again")
            batch.rows.put_store(after)
            self._publisher.begin_anew(batch.rows, before, after)
            return _record(batch, session, name, _fields(after))

        self._sequencer.do(RecordRequest(EventKind.STORE_CHANGED, record))
        return ()

    def remove_store(self, name: str, session: Session) -> None:
        """Forget a store that no ref's head and no working set uses. Its data stays where it is."""
        check_session(session)

        def record(batch: Batch) -> bytes:
            batch.flush()  # What comes before it in the batch may use the store.
            check_unused(batch.rows, batch.tree, name)
            if not batch.rows.delete_store(name):
                raise no_store(name, batch.rows.stores())
            return _record(batch, session, name, [None])

        self._sequencer.do(RecordRequest(EventKind.STORE_CHANGED, record))

    def check_store(self, name: str) -> tuple[Sequence[Lack], Sequence[Risk]]:
        try:
            adapter = self.adapters.get(name)
        except StoreUnavailable as error:
            return [Lack(error.message, error.remedy)], []
        missing = probe(adapter)
        if missing:  # The store cannot be used, so ask it no more; and its errors must not hide other stores' results.
            return missing, []
        try:
            self._publisher.look(adapter.store)
        except PlaitError as error:
            return [Lack(error.message, error.remedy)], []
        return missing, list(adapter.retention_risks())

    def import_assets(self, tx: str, assets: Mapping[Key, str]) -> None:
        """Stage existing native assets, in place, in a working set. Repeat: skips those that are staged already."""
        found = self._transactions.find(tx)
        known = {
            participant.key
            for participant in self._transactions.participants(found.id)
            if participant.staging is not None
        }
        by_store: dict[str, dict[Key, str]] = {}
        for key, location in assets.items():
            if check_key(key) not in known:
                by_store.setdefault(key[0], {})[key] = location
        for store in by_store:
            self.adapters.get(store)  # Raises for a store that does not exist, before any intent is recorded.
        for store, wanted in by_store.items():
            self._stagings.intend_import(found.id, list(wanted))
            for key, snapshot in self.adapters.get(store).snapshot(found.id, wanted).items():
                self._stagings.import_snapshot(found.id, key, snapshot)

    def publish(self, stores: Sequence[str] | None) -> Sequence[Publication]:
        self._publisher.run(stores, is_alive=is_alive)
        return self._publisher.undone(stores)

    def unpublished(self) -> Sequence[Publication]:
        return self._publisher.undone()

    def adopt(self, key: Key, session: Session) -> Commit | None:
        self._publisher.look(self.adapters.get(check_key(key)[0]).store, [key])
        commit = adopt(self._repository, self._transactions, self._coordinator, key, session)
        self._follow([key[0]])
        return commit

    def _publish_moved(self, stores: set[str]) -> None:
        """Publish the stores of a one-call commit. Costs nothing for pointer stores, which have no native heads."""
        with cores.elsewhere():  # This thread calls adapters, and may have to import them first.
            followed = [name for name in stores if self._publisher.follows_named(name)]
            if followed:
                self._follow(followed)

    def _follow(self, stores: Sequence[str] | None = None) -> None:
        """Publish what is durable already. A failure undoes nothing: a later run catches up."""
        try:
            self._publisher.run(stores, is_alive=is_alive, spare_down=True)
        except PlaitError as error:
            _log.warning("publishing was put off: %s", error)


def _check_free(known: Store | None, store: Store) -> None:
    if known is not None and known != store:
        raise AlreadyExists(
            f"store {store.name!r} exists already", remedy="choose another name; if it moved: 'plait store set'"
        )


def _fields(store: Store) -> list[object]:
    return [store.kind, store.mode.value, store.bound_ref, pairs(store.options)]


def _record(batch: Batch, session: Session, name: str, fields: list[object]) -> bytes:
    """A store's record: its name, its fields or None, and the id of the session that changed it."""
    batch.rows.put_sessions([session])
    return pack([name, *fields, session_id(session)])
