"""The service: each RPC is one call of the repository's backend. `guard` lets them in and answers their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from plait.errors import PlaitError, StoreUnavailable
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.wire_errors import to_error
from plait.types import Change, Commit, Conflict, Proposal, Resolution

from plait_server.authentication import Tokens
from plait_server.guard import Call
from plait_server.metrics import Metrics

V = TypeVar("V")
M = TypeVar("M", bound=Message)

_PAGE_VALUES_MAX = 512
_PAGE_BYTES_MAX = 256 * 1024


def pages(values: Iterable[V], to_message: Callable[[V], M]) -> Iterator[list[M]]:
    """Messages in pages of 1, 2, 4 … up to 512 values or 256 KiB: the first value comes at once, many come cheaply."""
    wanted, page, size = 1, list[M](), 0
    for value in values:
        message = to_message(value)
        page.append(message)
        size += message.ByteSize()
        if len(page) >= wanted or size >= _PAGE_BYTES_MAX:
            yield page
            wanted, page, size = min(wanted * 2, _PAGE_VALUES_MAX), [], 0
    if page:
        yield page


def _keys(keys: Iterable[pb.Key]) -> list[tuple[str, ...]]:
    return [wire.from_key(key) for key in keys]


class CatalogService:
    """Stateless. Thread-safe."""

    def __init__(self, metrics: Metrics, tokens: Tokens) -> None:
        self._metrics = metrics
        self._tokens = tokens

    # -- history -----------------------------------------------------------------------------------------------------

    def refs(self, request: pb.RefsRequest, call: Call) -> pb.RefsResponse:
        return pb.RefsResponse(refs=map(wire.to_ref, call.backend.refs()))

    def reflog(self, request: pb.ReflogRequest, call: Call) -> Iterator[pb.ReflogResponse]:
        for page in pages(call.backend.reflog(request.name), wire.to_ref_move):
            yield pb.ReflogResponse(moves=page)

    def resolve(self, request: pb.ResolveRequest, call: Call) -> pb.ResolveResponse:
        return pb.ResolveResponse(commit=wire.to_commit(call.backend.resolve(request.spec)))

    def merge_base(self, request: pb.MergeBaseRequest, call: Call) -> pb.MergeBaseResponse:
        base = call.backend.merge_base(request.ours, request.theirs)
        return pb.MergeBaseResponse(commit=None if base is None else wire.to_commit(base))

    def log(self, request: pb.LogRequest, call: Call) -> Iterator[pb.LogResponse]:
        commits = call.backend.log(request.spec, wire.from_log_filter(request.wanted))
        for page in pages(commits, wire.to_commit):
            yield pb.LogResponse(commits=page)

    def scan(self, request: pb.ScanRequest, call: Call) -> Iterator[pb.ScanResponse]:
        for page in pages(call.backend.scan(request.spec, wire.from_key(request.prefix)), wire.to_entry):
            yield pb.ScanResponse(entries=page)

    def get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        return pb.GetResponse(entries=map(wire.to_entry, call.backend.get(request.spec, _keys(request.keys)).values()))

    def diff(self, request: pb.DiffRequest, call: Call) -> Iterator[pb.DiffResponse]:
        changes = call.backend.diff(request.before, request.after, wire.from_key(request.prefix))
        for page in pages(changes, wire.to_change):
            yield pb.DiffResponse(changes=page)

    def diff_items(self, request: pb.DiffItemsRequest, call: Call) -> Iterator[pb.DiffItemsResponse]:
        items = list(request.items.items) if request.HasField("items") else None
        before, after = wire.from_side(request.before), wire.from_side(request.after)
        changes = call.backend.diff_items(wire.from_key(request.key), before, after, items)
        for page in pages(changes, wire.to_item_change):
            yield pb.DiffItemsResponse(changes=page)

    def history(self, request: pb.HistoryRequest, call: Call) -> Iterator[pb.HistoryResponse]:
        for page in pages(call.backend.history(request.spec, wire.from_key(request.key)), _committed_change):
            yield pb.HistoryResponse(changes=page)

    def events(self, request: pb.EventsRequest, call: Call) -> pb.EventsResponse:
        return pb.EventsResponse(events=map(wire.to_event, call.backend.events(request.after_seq, request.limit)))

    def watch(self, request: pb.WatchRequest, call: Call) -> Iterator[pb.WatchResponse]:
        """Raises: StoreUnavailable as the server stops, Unauthenticated once the token is deleted that let the watch
        in."""

        def is_over() -> bool:
            call.check()
            return call.is_stopping() or not call.is_active()

        from_seq = request.from_seq if request.HasField("from_seq") else None
        for found in call.backend.outbox.follow(from_seq, is_over):
            if not found:
                yield pb.WatchResponse()
            for page in pages(found, wire.to_event):
                yield pb.WatchResponse(events=page)
        if call.is_active():
            raise StoreUnavailable("the server stops", remedy="watch again from the seq after the last one seen")

    def verify(self, request: pb.VerifyRequest, call: Call) -> Iterator[pb.VerifyResponse]:
        for page in pages(call.backend.verify(wire.DEPTHS.of(request.depth)), wire.to_problem):
            yield pb.VerifyResponse(problems=page)

    # -- writing -----------------------------------------------------------------------------------------------------

    def commit(self, request: pb.CommitRequest, call: Call) -> pb.CommitResponse:
        proposal = wire_writing.from_proposal(request.proposal, call.session(request.proposal.session))
        commit = call.backend.commit(proposal)
        self._metrics.commits.inc()
        return pb.CommitResponse(commit=wire.to_commit(commit), gated=call.backend.is_gated)

    def commit_many(self, request: pb.CommitManyRequest, call: Call) -> pb.CommitManyResponse:
        proposals: list[Proposal] = []
        refused: dict[int, PlaitError] = {}
        for place, one in enumerate(request.proposals):
            try:
                proposals.append(wire_writing.from_proposal(one, call.session(one.session)))
            except PlaitError as error:
                if request.atomic:
                    raise
                refused[place] = error
        decided = iter(call.backend.commit_many(proposals, atomic=request.atomic))
        results = [refused.get(place) or next(decided) for place in range(len(request.proposals))]
        self._metrics.commits.inc(sum(not isinstance(result, PlaitError) for result in results))
        return pb.CommitManyResponse(results=map(_result, results), gated=call.backend.is_gated)

    def set_ref(self, request: pb.SetRefRequest, call: Call) -> pb.SetRefResponse:
        ref = call.backend.set_ref(
            request.name,
            wire.REF_KINDS.of(request.kind),
            expected=request.expected if request.HasField("expected") else None,
            after=request.after if request.HasField("after") else None,
            protect=request.protect if request.HasField("protect") else None,
            session=call.session(request.session),
            idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
        )
        return pb.SetRefResponse(ref=wire.to_ref(ref))

    # -- working sets ------------------------------------------------------------------------------------------------

    def begin(self, request: pb.BeginRequest, call: Call) -> pb.BeginResponse:
        tx = call.backend.begin(wire_writing.from_begin(request), call.session(request.session))
        return pb.BeginResponse(tx=wire_writing.to_tx(tx))

    def get_tx(self, request: pb.GetTxRequest, call: Call) -> pb.GetTxResponse:
        return pb.GetTxResponse(tx=wire_writing.to_tx(call.backend.tx(request.text)))

    def list_txs(self, request: pb.ListTxsRequest, call: Call) -> pb.ListTxsResponse:
        return pb.ListTxsResponse(txs=map(wire_writing.to_tx, call.backend.txs()))

    def participants(self, request: pb.ParticipantsRequest, call: Call) -> pb.ParticipantsResponse:
        found = call.backend.participants(request.tx)
        return pb.ParticipantsResponse(participants=map(wire_writing.to_participant, found))

    def stage(self, request: pb.StageRequest, call: Call) -> pb.StageResponse:
        stagings = call.backend.stage(request.tx, _keys(request.keys), new=request.new)
        return pb.StageResponse(stagings=map(wire_writing.to_staging, stagings))

    def get_staging(self, request: pb.GetStagingRequest, call: Call) -> pb.GetStagingResponse:
        staging = call.backend.staging(request.tx, wire.from_key(request.key))
        return pb.GetStagingResponse(staging=None if staging is None else wire_writing.to_staging(staging))

    def base_entry(self, request: pb.BaseEntryRequest, call: Call) -> pb.BaseEntryResponse:
        entry = call.backend.base_entry(request.tx, wire.from_key(request.key))
        return pb.BaseEntryResponse(entry=None if entry is None else wire.to_entry(entry))

    def keys(self, request: pb.KeysRequest, call: Call) -> pb.KeysResponse:
        return pb.KeysResponse(keys=map(wire.to_key, call.backend.keys(request.tx, wire.from_key(request.prefix))))

    def swap_location(self, request: pb.SwapLocationRequest, call: Call) -> pb.SwapLocationResponse:
        key = wire.from_key(request.key)
        swapped = call.backend.swap_location(request.tx, key, request.expected, request.location)
        return pb.SwapLocationResponse(swapped=swapped)

    def drop(self, request: pb.DropRequest, call: Call) -> pb.DropResponse:
        call.backend.drop(request.tx, wire.from_key(request.key))
        return pb.DropResponse()

    def move(self, request: pb.MoveRequest, call: Call) -> pb.MoveResponse:
        call.backend.move(request.tx, wire.from_key(request.before), wire.from_key(request.after))
        return pb.MoveResponse()

    def restore(self, request: pb.RestoreRequest, call: Call) -> pb.RestoreResponse:
        items = list(request.items.items) if request.HasField("items") else None
        call.backend.restore(request.tx, wire.from_key(request.key), request.spec, items)
        return pb.RestoreResponse()

    def renew(self, request: pb.RenewRequest, call: Call) -> pb.RenewResponse:
        call.backend.renew(request.tx)
        return pb.RenewResponse()

    def preview(self, request: pb.PreviewRequest, call: Call) -> pb.PreviewResponse:
        return wire_writing.to_preview(call.backend.preview(request.tx))

    def commit_tx(self, request: pb.CommitTxRequest, call: Call) -> pb.CommitTxResponse:
        commit = call.backend.commit_tx(
            request.tx,
            call.session(request.session),
            message=request.message if request.HasField("message") else None,
            author=request.author,
            properties=dict(request.properties),
            unchanged=_keys(request.unchanged),
            allow_empty=request.allow_empty,
        )
        self._metrics.commits.inc()
        return pb.CommitTxResponse(commit=wire.to_commit(commit))

    def discard(self, request: pb.DiscardRequest, call: Call) -> pb.DiscardResponse:
        call.backend.discard(request.tx)
        return pb.DiscardResponse()

    def recover(self, request: pb.RecoverRequest, call: Call) -> pb.RecoverResponse:
        return pb.RecoverResponse(done=call.backend.recover())

    def conflicts(self, request: pb.ConflictsRequest, call: Call) -> Iterator[pb.ConflictsResponse]:
        for page in pages(call.backend.conflicts(request.tx), _listed_conflict):
            yield pb.ConflictsResponse(conflicts=page)

    def settle(self, request: pb.SettleRequest, call: Call) -> pb.SettleResponse:
        call.backend.settle(request.tx, [wire_writing.from_resolution(one) for one in request.resolutions])
        return pb.SettleResponse()

    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self, request: pb.StoresRequest, call: Call) -> pb.StoresResponse:
        return pb.StoresResponse(stores=map(wire_writing.to_store, call.backend.stores()))

    def add_store(self, request: pb.AddStoreRequest, call: Call) -> pb.AddStoreResponse:
        missing = call.backend.add_store(wire_writing.from_store(request.store), call.session(request.session))
        return pb.AddStoreResponse(missing=map(wire_writing.to_lack, missing))

    def set_store(self, request: pb.SetStoreRequest, call: Call) -> pb.SetStoreResponse:
        missing = call.backend.set_store(request.name, dict(request.options), call.session(request.session))
        return pb.SetStoreResponse(missing=map(wire_writing.to_lack, missing))

    def remove_store(self, request: pb.RemoveStoreRequest, call: Call) -> pb.RemoveStoreResponse:
        call.backend.remove_store(request.name, call.session(request.session))
        return pb.RemoveStoreResponse()

    def check_store(self, request: pb.CheckStoreRequest, call: Call) -> pb.CheckStoreResponse:
        missing, risks = call.backend.check_store(request.name)
        return pb.CheckStoreResponse(missing=map(wire_writing.to_lack, missing), risks=map(wire_writing.to_risk, risks))

    def import_assets(self, request: pb.ImportAssetsRequest, call: Call) -> pb.ImportAssetsResponse:
        call.backend.import_assets(request.tx, {wire.from_key(one.key): one.location for one in request.assets})
        return pb.ImportAssetsResponse()

    def publish(self, request: pb.PublishRequest, call: Call) -> pb.PublishResponse:
        stores: Sequence[str] | None = list(request.stores.names) if request.HasField("stores") else None
        return pb.PublishResponse(publications=map(wire_writing.to_publication, call.backend.publish(stores)))

    def unpublished(self, request: pb.UnpublishedRequest, call: Call) -> pb.UnpublishedResponse:
        return pb.UnpublishedResponse(publications=map(wire_writing.to_publication, call.backend.unpublished()))

    def adopt(self, request: pb.AdoptRequest, call: Call) -> pb.AdoptResponse:
        commit = call.backend.adopt(wire.from_key(request.key), call.session(request.session))
        return pb.AdoptResponse(commit=None if commit is None else wire.to_commit(commit))

    # -- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, request: pb.CreateTokenRequest, call: Call) -> pb.CreateTokenResponse:
        return pb.CreateTokenResponse(token=call.backend.create_token(request.name))

    def tokens(self, request: pb.TokensRequest, call: Call) -> pb.TokensResponse:
        named = [pb.TokenName(name=name, created_at_us=created) for name, created in call.backend.tokens()]
        return pb.TokensResponse(tokens=named)

    def delete_token(self, request: pb.DeleteTokenRequest, call: Call) -> pb.DeleteTokenResponse:
        call.backend.delete_token(request.name)
        self._tokens.forget()
        return pb.DeleteTokenResponse()


def _committed_change(pair: tuple[Commit, Change]) -> pb.CommittedChange:
    commit, change = pair
    return pb.CommittedChange(commit=wire.to_commit(commit), change=wire.to_change(change))


def _listed_conflict(pair: tuple[Conflict, Resolution | None]) -> pb.ListedConflict:
    conflict, resolution = pair
    return pb.ListedConflict(
        conflict=wire.to_conflict(conflict),
        resolution=None if resolution is None else wire_writing.to_resolution(resolution),
    )


def _result(result: Commit | PlaitError) -> pb.CommitResult:
    if isinstance(result, PlaitError):
        return pb.CommitResult(error=to_error(result))
    return pb.CommitResult(commit=wire.to_commit(result))
