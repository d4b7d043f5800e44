"""The one way in: every RPC there is asks who may pass; what breaks inside is told as an id only."""

from __future__ import annotations

import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import plait
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from plait.adapter import Adapter, Side
from plait.catalog import Catalog
from plait.errors import Cancelled, PermissionDenied, PlaitError, StoreUnavailable
from plait.hookspecs import Gateway, hookimpl
from plait.plugins import Plugins
from plait.rpc import plait_pb2 as pb
from plait.rpc.address import Address
from plait.rpc.calls import SERVICE, Calls
from plait.rpc.wire_errors import ERROR_METADATA, from_error
from plait.types import Depth, Health, ItemChange, SnapshotRef
from plait_conformance.fake_kinds import FakeDoltAdapter
from plait_server.authentication import Authorize, authorize
from plait_server.config import Auth, Config, Endpoint
from plait_server.json_log import JsonFormatter
from plait_server.serving import _WORKERS, Server
from starlette.responses import JSONResponse


def config_in(folder: Path, *, grpc_port: int = 0, http: Endpoint | None = None) -> Config:
    return Config(
        grpc=Endpoint("127.0.0.1", grpc_port),
        http=http,
        auth=Auth.NONE,
        repository="default",
        database_url=f"sqlite:///{folder / 'catalog.db'}",
        tls=None,
        one_core=False,
    )


@contextmanager
def running(folder: Path, authorize: Authorize = authorize) -> Iterator[Server]:
    server = Server(config_in(folder), init=True, plugins=Plugins(installed=False), authorize=authorize)
    try:
        yield server
    finally:
        server.stop()


def call(channel: grpc.Channel, rpc: str) -> grpc.Call:
    """Call an RPC with an empty request; the error it ends with."""
    method = SERVICE.methods_by_name[rpc]
    request = getattr(pb, method.input_type.name)(repository="default")
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    multicallable = make(
        f"/{SERVICE.full_name}/{rpc}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(pb, method.output_type.name).FromString,
    )

    def ask() -> None:
        answer = multicallable(request, timeout=20)
        if method.server_streaming:
            list(answer)

    with pytest.raises(grpc.RpcError) as caught:
        ask()
    assert isinstance(caught.value, grpc.Call)
    return caught.value


def plait_error(error: grpc.Call) -> PlaitError:
    found = [value for name, value in error.trailing_metadata() or () if name == ERROR_METADATA]
    assert isinstance(found[0], bytes)
    return from_error(pb.ErrorDetail.FromString(found[0]))


def test_every_rpc_asks_whether_it_is_allowed(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def deny(principal: str, rpc: str) -> None:
        asked.append((principal, rpc))
        raise PermissionDenied(f"{principal} may not {rpc}")

    with running(tmp_path, deny) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for rpc in SERVICE.methods_by_name:
            error = call(channel, rpc)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED, rpc
            assert isinstance(plait_error(error), PermissionDenied)
    assert asked == [("anonymous", rpc) for rpc in SERVICE.methods_by_name]
    assert len(asked) == 47


def test_work_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    """In the thread of the call, in those that it hands work to, and in a stream that has nothing to say yet."""
    left: queue.SimpleQueue[str] = queue.SimpleQueue()
    is_slow = False

    class Slow(FakeDoltAdapter):
        def _wait(self, rpc: str) -> None:
            try:
                while is_slow:
                    self.context.check_cancelled()
                    time.sleep(0.01)
            except Cancelled:
                left.put(rpc)
                raise

        def check(self) -> list[str]:
            self._wait("CheckStore")
            return super().check()

        def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
            self._wait("DiffItems")
            return super().diff(before, after, items=items)

        def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
            self._wait("Verify")
            return super().verify(snapshot, depth)

    class Bringing:
        @hookimpl
        def plait_register_adapters(self) -> Sequence[type[Adapter]]:
            return [Slow]

    key = pb.Key(parts=["s", "a"])
    requests = {
        "CheckStore": pb.CheckStoreRequest(repository="default", name="s"),
        "DiffItems": pb.DiffItemsRequest(repository="default", key=key, after=pb.Side(spec="main")),
        "Verify": pb.VerifyRequest(repository="default", depth=pb.DEPTH_METADATA),
    }
    plugins = Plugins([Bringing()], installed=False)
    server = Server(config_in(tmp_path), init=True, plugins=plugins)
    try:
        with plait.connect(f"plait://127.0.0.1:{server.grpc_port}/default", plugins=plugins) as catalog:
            catalog.add_store("s", "fake-dolt", {"path": str(tmp_path / "s")})
            with catalog.transaction() as tx:
                tx.open(("s", "a"), create=True).update({"x": "1"})
        is_slow = True
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            for rpc, request in requests.items():
                streams = SERVICE.methods_by_name[rpc].server_streaming
                make = channel.unary_stream if streams else channel.unary_unary
                ask = make(f"/{SERVICE.full_name}/{rpc}", request_serializer=type(request).SerializeToString)
                with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
                    answer = ask(request, timeout=0.3)
                    list(answer)
                assert left.get(timeout=30) == rpc
    finally:
        is_slow = False
        server.stop()


def test_a_gateway_asks_whether_the_principal_may(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Bringing:
        @hookimpl
        def plait_register_gateways(self, catalog: Catalog) -> list[Gateway]:
            return [Gateway("/tables", JSONResponse({"is": "here"}))]

    def refusing(principal: str, path: str) -> None:
        asked.append((principal, path))
        if len(asked) > 1:
            raise PermissionDenied("not for you")

    config = config_in(tmp_path, http=Endpoint("127.0.0.1", 0))
    server = Server(config, init=True, plugins=Plugins([Bringing()], installed=False), authorize=refusing)
    try:
        answers = [httpx.get(f"http://127.0.0.1:{server.http_port}/tables/x") for _ in range(2)]
    finally:
        server.stop()
    assert [answer.status_code for answer in answers] == [200, 403]
    assert (answers[0].json(), answers[1].json()["error"]["type"]) == ({"is": "here"}, "PERMISSION_DENIED")
    assert asked == [("anonymous", "/tables")] * 2


def test_an_error_that_nobody_raised_on_purpose_is_logged_under_the_id_that_the_caller_sees(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(principal: str, rpc: str) -> None:
        raise ZeroDivisionError("a secret of the inside")

    with running(tmp_path, broken) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with caplog.at_level(logging.ERROR, "plait.server"):
            error = call(channel, "Refs")
    assert error.code() is grpc.StatusCode.INTERNAL
    told = plait_error(error)
    assert type(told) is PlaitError
    assert "secret" not in str(told)
    assert "secret" not in (error.details() or "")
    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert line["error_id"] == told.details["error_id"]
    assert line["rpc"] == "Refs"
    assert "a secret of the inside" in line["traceback"]


def test_an_internal_error_is_not_repeated(tmp_path: Path) -> None:
    asked = []

    def broken(principal: str, rpc: str) -> None:
        asked.append(rpc)
        raise ZeroDivisionError

    with running(tmp_path, broken) as server:
        calls = Calls(Address(f"127.0.0.1:{server.grpc_port}", "default", False), None)
        with pytest.raises(PlaitError, match="internal error"):
            calls.ask(pb.RefsRequest(repository="default"), pb.RefsResponse)
        calls.close()
    assert asked == ["Refs"]


def test_strangers_who_ask_for_reflection_hold_up_nobody(tmp_path: Path) -> None:
    """Each of their streams holds a thread: all of those that there are were held by who had no token."""
    with running(tmp_path) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        silent = threading.Event()

        def asking() -> Iterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            silent.wait()

        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        streams = [stub.ServerReflectionInfo(asking()) for _ in range(_WORKERS)]
        for stream in streams:
            with suppress(grpc.RpcError):  # One of too many.
                next(stream)
        calls = Calls(Address(f"127.0.0.1:{server.grpc_port}", "default", False), None)
        calls.ask(pb.RefsRequest(repository="default"), pb.RefsResponse, seconds_max=20)
        calls.close()
        for stream in streams:
            stream.cancel()
        silent.set()
        names = {one.name for one in _services(stub)}
    assert SERVICE.full_name in names


def _services(stub: Any) -> Any:
    """What the reflection service lists, as soon as it takes a stream again."""
    for _ in range(100):
        try:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            return next(stub.ServerReflectionInfo(iter([request]))).list_services_response.service
        except grpc.RpcError:
            time.sleep(0.1)
    raise AssertionError("the streams were never given back")


def test_a_server_that_cannot_start_leaves_no_port_taken(tmp_path: Path) -> None:
    with running(tmp_path) as server, socket.create_server(("127.0.0.1", 0)) as free:
        http = Endpoint("127.0.0.1", free.getsockname()[1])
        free.close()
        config = config_in(tmp_path, grpc_port=server.grpc_port, http=http)
        with pytest.raises(StoreUnavailable, match="cannot listen") as refused:
            Server(config, plugins=Plugins(installed=False))
        socket.create_server((http.host, http.port)).close()
    del refused
