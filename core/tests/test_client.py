"""What a client makes of calls whose first attempts fail: the server is down, or its answer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import grpc
import pytest
from plait.client import RemoteBackend
from plait.errors import AlreadyExists, InvalidArgument, NotFound, OutcomeUnknown, PlaitError, StoreUnavailable
from plait.graph import LogFilter
from plait.rpc.address import Address
from plait.rpc.calls import Calls
from plait.rpc.wire_errors import ERROR_METADATA, to_error
from plait.types import Proposal

DOWN = "failed to connect to all addresses"
LOST = "Socket closed"


class Failed(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """An attempt's end, as gRPC tells it: with `raised`, that of a server which answered."""

    def __init__(self, details: str, raised: PlaitError | None = None) -> None:
        self._details = details
        self._raised = raised

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return () if self._raised is None else ((ERROR_METADATA, to_error(self._raised).SerializeToString()),)

    def initial_metadata(self) -> None: ...
    def is_active(self) -> bool: ...  # type: ignore[empty-body]
    def time_remaining(self) -> None: ...
    def cancel(self) -> bool: ...  # type: ignore[empty-body]
    def add_callback(self, callback: object) -> bool: ...  # type: ignore[empty-body]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RemoteBackend]]:
    """A client whose every call ends with these, one attempt after the other, at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with closing(Calls(Address("127.0.0.1:1", "default", tls=False), None)) as calls:

        def made(*ends: Exception) -> RemoteBackend:
            left = iter(ends)

            def attempt(request: object, **options: object) -> object:
                raise next(left)

            monkeypatch.setattr(calls, "_make", lambda request, answer: attempt)
            return RemoteBackend(calls, "default")

        yield made


def test_a_call_that_never_got_there_is_not_taken_for_done(client: Callable[..., RemoteBackend]) -> None:
    there, absent = AlreadyExists("it is there"), NotFound("it is not there")
    with pytest.raises(AlreadyExists):
        client(Failed(DOWN), Failed("", there)).stage("tx", [("p", "a")], new=True)
    with pytest.raises(NotFound):
        client(Failed(DOWN), Failed("", absent)).drop("tx", ("p", "a"))
    with pytest.raises(NotFound):
        client(Failed(DOWN), Failed("", absent)).delete_token("ci")


def test_a_call_whose_answer_was_lost_may_have_been_done(client: Callable[..., RemoteBackend]) -> None:
    absent = NotFound("it is not there")
    client(Failed(LOST), Failed("", absent)).drop("tx", ("p", "a"))
    client(Failed(DOWN), Failed(LOST), Failed("", absent)).delete_token("ci")


def test_a_closed_catalog_says_so() -> None:
    calls = Calls(Address("127.0.0.1:1", "default", tls=False), None)
    backend = RemoteBackend(calls, "default")
    backend.close()
    for ask in (
        backend.refs,
        lambda: list(backend.log("main", LogFilter())),
        lambda: backend.commit(Proposal("main", ())),
    ):
        with pytest.raises(StoreUnavailable, match="the catalog is closed"):
            ask()


def test_a_commit_that_was_under_way_when_the_catalog_was_closed_may_be_made(
    client: Callable[..., RemoteBackend],
) -> None:
    closed = ValueError("Cannot invoke RPC on closed channel!")
    with pytest.raises(OutcomeUnknown, match="closed before the answer came"):
        client(Failed("Channel closed!"), closed).commit(Proposal("main", (), idempotency_key="k"))
    with pytest.raises(StoreUnavailable, match="closed"):
        client(Failed("Channel closed!"), closed).refs()


def test_a_request_for_a_stream_that_is_too_large_is_refused_as_any_other() -> None:
    with closing(Calls(Address("127.0.0.1:1", "default", tls=False), None)) as calls:
        with pytest.raises(InvalidArgument, match="split it"):
            list(RemoteBackend(calls, "default").log("main", LogFilter(message="x" * 5_000_000)))
