"""A served catalog, as seen from a client: every call of `Backend` sent over gRPC.

Native handles are opened in this process, by the same adapters that the server has: data never passes through gRPC.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from plait import limits
from plait.adapter import Progress, silent
from plait.backend import BeginRequest, Preview, Problem, Side
from plait.catalog import Catalog
from plait.clock import Clock, SystemClock
from plait.errors import AlreadyExists, NotFound, PlaitError
from plait.graph import LogFilter
from plait.persist.store_rows import Publication
from plait.plugins import Plugins
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.address import find_token, parse_address
from plait.rpc.calls import UNLIMITED, Attempts, Calls, Repeat, absent_is_done
from plait.rpc.grouping import Grouping
from plait.rpc.wire_errors import from_error, refusing_unsendable
from plait.store_names import known_store
from plait.stores import Adapters, client_context
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
    Staging,
    Store,
    Tx,
)

_STORES_KEPT_SECONDS = 1.0
_PART_BYTES_MAX = 1024 * 1024
_GROUP_BYTES_MAX = 1024 * 1024
"""Commits that share a call, before the last of them: with that one still far below what the server takes."""


def connect_remote(
    url: str,
    *,
    token: str | None = None,
    plugins: Plugins | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
    progress: Progress = silent,
) -> Catalog:
    """Reach `plait://host:port/repository`, or `plaits://…` with TLS, and check that it answers.

    The token is the argument, else `PLAIT_TOKEN`, else the file `~/.config/plait/token`. TLS reads `PLAIT_CA_FILE`, and
    for mutual TLS `PLAIT_CERT_FILE` and `PLAIT_KEY_FILE`.

    Raises: StoreUnavailable, Unauthenticated, NotFound when there is no such repository, InvalidArgument.
    """
    address = parse_address(url)
    clock, plugins = clock or SystemClock(), plugins or Plugins()
    backend = RemoteBackend(Calls(address, find_token(token)), address.repository)
    try:
        backend.stores()
    except BaseException:
        backend.close()
        raise
    adapters = Adapters(plugins, backend.store, client_context(plugins, clock, progress))
    return Catalog(backend, adapters, session=session or Session(), clock=clock, owns=[adapters])


@refusing_unsendable
class RemoteBackend:
    """`Backend` over a channel. Thread-safe; closing it closes the channel."""

    def __init__(self, calls: Calls, repository: str) -> None:
        self._calls = calls
        self._repository = repository
        self._stores: tuple[Mapping[str, Store], float] = ({}, float("-inf"))
        self._commits = Grouping(
            self._commit_group, group_max=limits.BATCH_PROPOSALS_MAX, group_bytes_max=_GROUP_BYTES_MAX
        )
        self._is_gated = False

    @property
    def repository(self) -> str:
        return self._repository

    def close(self) -> None:
        """Repeat: no-op."""
        self._calls.close()

    def store(self, name: str) -> Store:
        """A store's configuration as it was within the last second: opening handles asks for it each time.

        Raises: NotFound.
        """
        known, read_at = self._stores
        if name not in known or time.monotonic() - read_at > _STORES_KEPT_SECONDS:
            known = {store.name: store for store in self.stores()}
        return known_store(known, name)

    # -- history -----------------------------------------------------------------------------------------------------

    def refs(self) -> Sequence[Ref]:
        answer = self._calls.ask(pb.RefsRequest(repository=self._repository), pb.RefsResponse)
        return [wire.from_ref(ref) for ref in answer.refs]

    def reflog(self, name: str) -> Iterator[RefMove]:
        request = pb.ReflogRequest(repository=self._repository, name=name)
        for page in self._calls.stream(request, pb.ReflogResponse):
            yield from map(wire.from_ref_move, page.moves)

    def resolve(self, spec: str) -> Commit:
        answer = self._calls.ask(pb.ResolveRequest(repository=self._repository, spec=spec), pb.ResolveResponse)
        return wire.from_commit(answer.commit)

    def merge_base(self, ours: str, theirs: str) -> Commit | None:
        request = pb.MergeBaseRequest(repository=self._repository, ours=ours, theirs=theirs)
        answer = self._calls.ask(request, pb.MergeBaseResponse)
        return wire.from_commit(answer.commit) if answer.HasField("commit") else None

    def log(self, spec: str, wanted: LogFilter) -> Iterator[Commit]:
        request = pb.LogRequest(repository=self._repository, spec=spec, wanted=wire.to_log_filter(wanted))
        for page in self._calls.stream(request, pb.LogResponse):
            yield from map(wire.from_commit, page.commits)

    def scan(self, spec: str, prefix: Key) -> Iterator[Entry]:
        request = pb.ScanRequest(repository=self._repository, spec=spec, prefix=wire.to_key(prefix))
        for page in self._calls.stream(request, pb.ScanResponse):
            yield from map(wire.from_entry, page.entries)

    def get(self, spec: str, keys: Sequence[Key]) -> Mapping[Key, Entry]:
        request = pb.GetRequest(repository=self._repository, spec=spec, keys=map(wire.to_key, keys))
        answer = self._calls.ask(request, pb.GetResponse)
        return {entry.key: entry for entry in map(wire.from_entry, answer.entries)}

    def diff(self, before: str, after: str, prefix: Key) -> Iterator[Change]:
        request = pb.DiffRequest(repository=self._repository, before=before, after=after, prefix=wire.to_key(prefix))
        for page in self._calls.stream(request, pb.DiffResponse):
            yield from map(wire.from_change, page.changes)

    def diff_items(self, key: Key, before: Side, after: Side, items: Sequence[str] | None) -> Iterator[ItemChange]:
        request = pb.DiffItemsRequest(
            repository=self._repository,
            key=wire.to_key(key),
            before=wire.to_side(before),
            after=wire.to_side(after),
            items=wire.to_items(items),
        )
        for page in self._calls.stream(request, pb.DiffItemsResponse):
            yield from map(wire.from_item_change, page.changes)

    def history(self, spec: str, key: Key) -> Iterator[tuple[Commit, Change]]:
        request = pb.HistoryRequest(repository=self._repository, spec=spec, key=wire.to_key(key))
        for page in self._calls.stream(request, pb.HistoryResponse):
            for one in page.changes:
                yield wire.from_commit(one.commit), wire.from_change(one.change)

    def events(self, after_seq: int, limit: int) -> Sequence[Event]:
        request = pb.EventsRequest(repository=self._repository, after_seq=after_seq, limit=limit)
        return [wire.from_event(event) for event in self._calls.ask(request, pb.EventsResponse).events]

    def watch(self, from_seq: int | None, seconds_max: float | None) -> Iterator[Event]:
        request = pb.WatchRequest(repository=self._repository, from_seq=from_seq)
        for page in self._calls.stream(request, pb.WatchResponse, seconds_max=seconds_max):
            yield from map(wire.from_event, page.events)

    def verify(self, depth: Depth) -> Iterator[Problem]:
        request = pb.VerifyRequest(repository=self._repository, depth=wire.DEPTHS.to(depth))
        for page in self._calls.stream(request, pb.VerifyResponse):
            yield from map(wire.from_problem, page.problems)

    # -- writing -----------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal) -> Commit:
        """Raises: as the server's, and OutcomeUnknown when its answers are lost and it cannot be asked again.

        Commits that several threads ask for at once share calls, unless gates would make them wait for each other.
        """
        message = wire_writing.to_proposal(proposal)
        if self._is_gated or proposal.idempotency_key is None:
            return self._commit_alone(message)
        return self._commits.ask(message, message.ByteSize())

    def _commit_alone(self, proposal: pb.Proposal) -> Commit:
        request = pb.CommitRequest(repository=self._repository, proposal=proposal)
        answer = self._calls.ask(request, pb.CommitResponse, repeat=_repeat([proposal]))
        self._is_gated = answer.gated
        return wire.from_commit(answer.commit)

    def _commit_group(self, proposals: Sequence[pb.Proposal]) -> Sequence[Commit | PlaitError]:
        return [self._commit_alone(proposals[0])] if len(proposals) == 1 else self._commit_many(proposals, atomic=False)

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        return self._commit_many([wire_writing.to_proposal(proposal) for proposal in proposals], atomic=atomic)

    def _commit_many(self, proposals: Sequence[pb.Proposal], *, atomic: bool) -> Sequence[Commit | PlaitError]:
        request = pb.CommitManyRequest(repository=self._repository, proposals=proposals, atomic=atomic)
        answer = self._calls.ask(request, pb.CommitManyResponse, repeat=_repeat(proposals))
        self._is_gated = answer.gated
        return [
            wire.from_commit(one.commit) if one.HasField("commit") else from_error(one.error) for one in answer.results
        ]

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
    ) -> Ref:
        request = pb.SetRefRequest(
            repository=self._repository,
            name=name,
            kind=wire.REF_KINDS.to(kind),
            expected=expected,
            after=after,
            protect=protect,
            session=wire.to_session(session),
            idempotency_key=idempotency_key,
        )
        repeat = Repeat.NEVER if idempotency_key is None else Repeat.SAFE
        return wire.from_ref(self._calls.ask(request, pb.SetRefResponse, repeat=repeat).ref)

    # -- working sets ------------------------------------------------------------------------------------------------

    def begin(self, request: BeginRequest, session: Session) -> Tx:
        answer = self._calls.ask(wire_writing.to_begin(self._repository, request, session), pb.BeginResponse)
        return wire_writing.from_tx(answer.tx)

    def tx(self, text: str) -> Tx:
        answer = self._calls.ask(pb.GetTxRequest(repository=self._repository, text=text), pb.GetTxResponse)
        return wire_writing.from_tx(answer.tx)

    def txs(self) -> Sequence[Tx]:
        answer = self._calls.ask(pb.ListTxsRequest(repository=self._repository), pb.ListTxsResponse)
        return [wire_writing.from_tx(tx) for tx in answer.txs]

    def participants(self, tx: str) -> Sequence[Participant]:
        answer = self._calls.ask(pb.ParticipantsRequest(repository=self._repository, tx=tx), pb.ParticipantsResponse)
        return [wire_writing.from_participant(participant) for participant in answer.participants]

    def stage(self, tx: str, keys: Sequence[Key], *, new: bool) -> Sequence[Staging]:
        """Repeat: the stagings that are there, for `new` too when the answer to the first call was lost."""
        request = pb.StageRequest(repository=self._repository, tx=tx, keys=map(wire.to_key, keys), new=new)
        attempts = Attempts()
        try:
            answer = self._calls.ask(request, pb.StageResponse, seconds_max=UNLIMITED, attempts=attempts)
        except AlreadyExists:
            if not attempts.may_be_done:
                raise
            return self.stage(tx, keys, new=False)
        return [wire_writing.from_staging(staging) for staging in answer.stagings]

    def staging(self, tx: str, key: Key) -> Staging | None:
        request = pb.GetStagingRequest(repository=self._repository, tx=tx, key=wire.to_key(key))
        answer = self._calls.ask(request, pb.GetStagingResponse)
        return wire_writing.from_staging(answer.staging) if answer.HasField("staging") else None

    def base_entry(self, tx: str, key: Key) -> Entry | None:
        request = pb.BaseEntryRequest(repository=self._repository, tx=tx, key=wire.to_key(key))
        answer = self._calls.ask(request, pb.BaseEntryResponse)
        return wire.from_entry(answer.entry) if answer.HasField("entry") else None

    def keys(self, tx: str, prefix: Key) -> Sequence[Key]:
        request = pb.KeysRequest(repository=self._repository, tx=tx, prefix=wire.to_key(prefix))
        return [wire.from_key(key) for key in self._calls.ask(request, pb.KeysResponse).keys]

    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool:
        request = pb.SwapLocationRequest(
            repository=self._repository, tx=tx, key=wire.to_key(key), expected=expected, location=location
        )
        attempts = Attempts()
        if self._calls.ask(request, pb.SwapLocationResponse, attempts=attempts).swapped:
            return True
        # The first attempt may have done it, and its answer was lost.
        staging = self.staging(tx, key) if attempts.may_be_done else None
        return staging is not None and staging.location == location

    def drop(self, tx: str, key: Key) -> None:
        request = pb.DropRequest(repository=self._repository, tx=tx, key=wire.to_key(key))
        with absent_is_done() as attempts:
            self._calls.ask(request, pb.DropResponse, attempts=attempts)

    def move(self, tx: str, before: Key, after: Key) -> None:
        request = pb.MoveRequest(
            repository=self._repository, tx=tx, before=wire.to_key(before), after=wire.to_key(after)
        )
        attempts = Attempts()
        try:
            self._calls.ask(request, pb.MoveResponse, seconds_max=UNLIMITED, attempts=attempts)
        except NotFound:
            if not (attempts.may_be_done and self.staging(tx, after) is not None):
                raise

    def restore(self, tx: str, key: Key, spec: str, items: Sequence[str] | None) -> None:
        request = pb.RestoreRequest(
            repository=self._repository, tx=tx, key=wire.to_key(key), spec=spec, items=wire.to_items(items)
        )
        self._calls.ask(request, pb.RestoreResponse, seconds_max=UNLIMITED)

    def renew(self, tx: str) -> None:
        self._calls.ask(pb.RenewRequest(repository=self._repository, tx=tx), pb.RenewResponse)

    def preview(self, tx: str) -> Preview:
        request = pb.PreviewRequest(repository=self._repository, tx=tx)
        return wire_writing.from_preview(self._calls.ask(request, pb.PreviewResponse, seconds_max=UNLIMITED))

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
    ) -> Commit:
        """The working set's id is what makes it repeatable."""
        request = pb.CommitTxRequest(
            repository=self._repository,
            tx=tx,
            message=message,
            author=author,
            properties=properties,
            unchanged=map(wire.to_key, unchanged),
            allow_empty=allow_empty,
            session=wire.to_session(session),
        )
        answer = self._calls.ask(request, pb.CommitTxResponse, repeat=Repeat.COMMIT, seconds_max=UNLIMITED)
        return wire.from_commit(answer.commit)

    def discard(self, tx: str) -> None:
        request = pb.DiscardRequest(repository=self._repository, tx=tx)
        self._calls.ask(request, pb.DiscardResponse, seconds_max=UNLIMITED)

    def recover(self) -> Sequence[str]:
        request = pb.RecoverRequest(repository=self._repository)
        return list(self._calls.ask(request, pb.RecoverResponse, seconds_max=UNLIMITED).done)

    def conflicts(self, tx: str) -> Iterator[tuple[Conflict, Resolution | None]]:
        request = pb.ConflictsRequest(repository=self._repository, tx=tx)
        for page in self._calls.stream(request, pb.ConflictsResponse):
            for one in page.conflicts:
                resolution = wire_writing.from_resolution(one.resolution) if one.HasField("resolution") else None
                yield wire.from_conflict(one.conflict), resolution

    def settle(self, tx: str, resolutions: Sequence[Resolution]) -> None:
        """In parts of a size that a call takes: each part is kept whole or not at all. Repeat: no-op."""
        for part in _parts([wire_writing.to_resolution(one) for one in resolutions]):
            request = pb.SettleRequest(repository=self._repository, tx=tx, resolutions=part)
            self._calls.ask(request, pb.SettleResponse)

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> Sequence[Store]:
        answer = self._calls.ask(pb.StoresRequest(repository=self._repository), pb.StoresResponse)
        found = [wire_writing.from_store(store) for store in answer.stores]
        self._stores = {store.name: store for store in found}, time.monotonic()
        return found

    def add_store(self, store: Store, session: Session) -> Sequence[str]:
        request = pb.AddStoreRequest(
            repository=self._repository, store=wire_writing.to_store(store), session=wire.to_session(session)
        )
        missing = list(self._calls.ask(request, pb.AddStoreResponse, seconds_max=UNLIMITED).missing)
        self._stores = {}, float("-inf")
        return missing

    def set_store(self, name: str, options: Mapping[str, str], session: Session) -> Sequence[str]:
        request = pb.SetStoreRequest(
            repository=self._repository, name=name, options=options, session=wire.to_session(session)
        )
        missing = list(self._calls.ask(request, pb.SetStoreResponse, seconds_max=UNLIMITED).missing)
        self._stores = {}, float("-inf")
        return missing

    def remove_store(self, name: str, session: Session) -> None:
        request = pb.RemoveStoreRequest(repository=self._repository, name=name, session=wire.to_session(session))
        with absent_is_done() as attempts:
            self._calls.ask(request, pb.RemoveStoreResponse, attempts=attempts)
        self._stores = {}, float("-inf")

    def check_store(self, name: str) -> tuple[Sequence[str], Sequence[Risk]]:
        request = pb.CheckStoreRequest(repository=self._repository, name=name)
        answer = self._calls.ask(request, pb.CheckStoreResponse, seconds_max=UNLIMITED)
        return list(answer.missing), [wire_writing.from_risk(risk) for risk in answer.risks]

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
        """Raises: OutcomeUnknown when the answer is lost: once adopted, a key has not diverged any more."""
        request = pb.AdoptRequest(repository=self._repository, key=wire.to_key(key), session=wire.to_session(session))
        answer = self._calls.ask(request, pb.AdoptResponse, repeat=Repeat.NEVER, seconds_max=UNLIMITED)
        return wire.from_commit(answer.commit) if answer.HasField("commit") else None

    # -- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, name: str) -> str:
        """Raises: OutcomeUnknown when the answer is lost: the token cannot be shown again, so delete it then."""
        request = pb.CreateTokenRequest(repository=self._repository, name=name)
        return self._calls.ask(request, pb.CreateTokenResponse, repeat=Repeat.NEVER).token

    def tokens(self) -> Sequence[tuple[str, int]]:
        answer = self._calls.ask(pb.TokensRequest(repository=self._repository), pb.TokensResponse)
        return [(token.name, token.created_at_us) for token in answer.tokens]

    def delete_token(self, name: str) -> None:
        request = pb.DeleteTokenRequest(repository=self._repository, name=name)
        with absent_is_done() as attempts:
            self._calls.ask(request, pb.DeleteTokenResponse, attempts=attempts)


def _parts(resolutions: Sequence[pb.Resolution]) -> Iterator[list[pb.Resolution]]:
    """Runs of at most a mebibyte each; one empty run when there are none, so that the server sees the call."""
    part: list[pb.Resolution] = []
    size = 0
    for one in resolutions:
        if part and size + one.ByteSize() > _PART_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(one)
        size += one.ByteSize()
    yield part


def _repeat(proposals: Sequence[pb.Proposal]) -> Repeat:
    """Only what has a key is known again when it is repeated."""
    keyed = all(proposal.HasField("idempotency_key") for proposal in proposals)
    return Repeat.COMMIT if keyed else Repeat.NEVER
