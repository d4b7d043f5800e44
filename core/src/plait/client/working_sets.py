"""Working sets over gRPC: begin, stage, commit, discard. Each call handles what its own repetition may meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from plait.backend import BeginRequest, Preview
from plait.errors import AlreadyExists, NotFound
from plait.rpc import plait_pb2 as pb
from plait.rpc import wire, wire_writing
from plait.rpc.calls import UNLIMITED, Attempts, Calls, Repeat, absent_is_done
from plait.rpc.wire_errors import refusing_unsendable
from plait.types import Commit, Conflict, Entry, Key, Participant, Resolution, Session, Staging, Tx

_PART_BYTES_MAX = 1024 * 1024


@refusing_unsendable
class WorkingSets:
    """The part of `RemoteBackend` for working sets."""

    _calls: Calls
    _repository: str

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
        """Repeat: returns the existing stagings; with `new` too, if the first call's answer was lost."""
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
        # An earlier attempt, whose answer was lost, may have done it.
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
        """A lost call is repeated: the working set's id makes that safe."""
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
        """Send resolutions in parts that fit into a call; each part is stored whole or not at all. Repeat: no-op."""
        for part in _parts([wire_writing.to_resolution(one) for one in resolutions]):
            request = pb.SettleRequest(repository=self._repository, tx=tx, resolutions=part)
            self._calls.ask(request, pb.SettleResponse)


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
