"""Queries of commits, refs and events, and of what the stores hold at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from plait.backend import Problem, Side
from plait.graph import LogFilter
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire
from plait.rpc.calls import Calls
from plait.rpc.wire_errors import refusing_unsendable
from plait.types import Change, Commit, Depth, Entry, Event, ItemChange, Key, Ref, RefMove


@refusing_unsendable
class Reading:
    """The part of `RemoteBackend` that changes nothing."""

    _calls: Calls
    _repository: str

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
