"""Stores: added, set, checked, removed, imported from, published to and adopted from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from plait.persist.store_rows import Publication
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.calls import UNLIMITED, Calls, Repeat, absent_is_done
from plait.rpc.wire_errors import refusing_unsendable
from plait.store_names import known_store
from plait.types import Commit, Key, Lack, Risk, Session, Store

_KEPT_SECONDS = 1.0
Known = tuple[Mapping[str, Store], float]
NONE_KNOWN: Known = ({}, float("-inf"))
"""The initial value, and the one after a change: no stores by name, read at no time."""


@refusing_unsendable
class StoreKeeping:
    """The part of `RemoteBackend` that looks after stores and their native heads."""

    _calls: Calls
    _repository: str
    _stores: Known

    def store(self, name: str) -> Store:
        """A store's configuration, at most a second old, since every opening of a handle asks for it.

        Raises: NotFound.
        """
        known, read_at = self._stores
        if name not in known or time.monotonic() - read_at > _KEPT_SECONDS:
            known = {store.name: store for store in self.stores()}
        return known_store(known, name)

    def stores(self) -> Sequence[Store]:
        answer = self._calls.ask(pb.StoresRequest(repository=self._repository), pb.StoresResponse)
        found = [wire_writing.from_store(store) for store in answer.stores]
        self._stores = {store.name: store for store in found}, time.monotonic()
        return found

    def add_store(self, store: Store, session: Session) -> Sequence[Lack]:
        request = pb.AddStoreRequest(
            repository=self._repository, store=wire_writing.to_store(store), session=wire.to_session(session)
        )
        answer = self._calls.ask(request, pb.AddStoreResponse, seconds_max=UNLIMITED)
        self._stores = NONE_KNOWN
        return list(map(wire_writing.from_lack, answer.missing))

    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[Lack]:
        request = pb.SetStoreRequest(
            repository=self._repository, name=name, options=options, session=wire.to_session(session)
        )
        answer = self._calls.ask(request, pb.SetStoreResponse, seconds_max=UNLIMITED)
        self._stores = NONE_KNOWN
        return list(map(wire_writing.from_lack, answer.missing))

    def remove_store(self, name: str, session: Session) -> None:
        request = pb.RemoveStoreRequest(repository=self._repository, name=name, session=wire.to_session(session))
        with absent_is_done() as attempts:
            self._calls.ask(request, pb.RemoveStoreResponse, attempts=attempts)
        self._stores = NONE_KNOWN

    def check_store(self, name: str) -> tuple[Sequence[Lack], Sequence[Risk]]:
        request = pb.CheckStoreRequest(repository=self._repository, name=name)
        answer = self._calls.ask(request, pb.CheckStoreResponse, seconds_max=UNLIMITED)
        missing, risks = map(wire_writing.from_lack, answer.missing), map(wire_writing.from_risk, answer.risks)
        return list(missing), list(risks)

    def import_assets(self, tx: str, assets: Mapping[Key, str]) -> None:
        named = [pb.ImportedAsset(key=wire.to_key(key), location=location) for key, location in assets.items()]
        request = pb.ImportAssetsRequest(repository=self._repository, tx=tx, assets=named)
        self._calls.ask(request, pb.ImportAssetsResponse, seconds_max=UNLIMITED)

    def publish(self, stores: Sequence[str] | None) -> Sequence[Publication]:
        names = None if stores is None else pb.StoreNames(names=stores)
        request = pb.PublishRequest(repository=self._repository, stores=names)
        answer = self._calls.ask(request, pb.PublishResponse, seconds_max=UNLIMITED)
        return [wire_writing.from_publication(publication) for publication in answer.publications]

    def unpublished(self) -> Sequence[Publication]:
        answer = self._calls.ask(pb.UnpublishedRequest(repository=self._repository), pb.UnpublishedResponse)
        return [wire_writing.from_publication(publication) for publication in answer.publications]

    def adopt(self, key: Key, session: Session) -> Commit | None:
        """As the server's `adopt`. Raises also OutcomeUnknown if the answer is lost: it cannot be repeated, since an
        adopted key is no longer diverged."""
        request = pb.AdoptRequest(repository=self._repository, key=wire.to_key(key), session=wire.to_session(session))
        answer = self._calls.ask(request, pb.AdoptResponse, repeat=Repeat.NEVER, seconds_max=UNLIMITED)
        return wire.from_commit(answer.commit) if answer.HasField("commit") else None
