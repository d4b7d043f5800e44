"""Watching a server: events come as they happen, and a watch ends when either side wants it to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import grpc
import plait
import pytest
from plait.catalog import Catalog
from plait.errors import ResourceExhausted, StoreUnavailable, Unauthenticated
from plait.hookspecs import hookimpl
from plait.plugins import Plugins
from plait.rpc import plait_pb2 as pb
from plait.rpc.calls import SERVICE
from plait.types import Event, Mode, Proposal, Put, SnapshotRef
from plait_server.config import Auth, Config, Endpoint
from plait_server.serving import Server

SECONDS = 60.0
"""How long a test waits for another thread before it fails."""


def started(folder: Path, *plugins: object, auth: Auth = Auth.NONE) -> Server:
    config = Config(
        grpc=Endpoint("127.0.0.1", 0),
        http=None,
        auth=auth,
        repository="default",
        database_url=f"sqlite:///{folder / 'catalog.db'}",
        tls=None,
        one_core=False,
    )
    return Server(config, init=True, plugins=Plugins(plugins, installed=False))


@contextmanager
def served(folder: Path, *plugins: object) -> Iterator[tuple[Server, Catalog]]:
    server = started(folder, *plugins)
    try:
        with plait.connect(f"plait://127.0.0.1:{server.grpc_port}/default") as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            yield server, catalog
    finally:
        server.stop()


def commit(catalog: Catalog, name: str) -> int:
    return catalog.commit(Proposal("main", (Put(("p", name), SnapshotRef("p", "table", name, "v1", b"1" * 32)),))).seq


def until(condition: Callable[[], bool]) -> None:
    """What happens in another thread has happened, or the test fails."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_watch_tells_what_was_and_then_what_happens(tmp_path: Path) -> None:
    with served(tmp_path) as (_, catalog):
        first = commit(catalog, "a")
        watched = catalog.watch(first)
        assert next(watched).seq == first
        second = commit(catalog, "b")
        event = next(watched)
        assert event == catalog.events(first)[0]
        assert (event.seq, [change.key for change in event.changes]) == (second, [("p", "b")])


def test_a_watch_of_what_is_to_come_skips_what_was(tmp_path: Path) -> None:
    with served(tmp_path) as (_, catalog):
        commit(catalog, "a")
        seen: list[int] = []
        watching = threading.Event()

        def watch() -> None:
            for event in catalog.watch():
                seen.append(event.seq)
                watching.set()
                if event.commit is not None and event.commit.message == "the last":
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        made = []
        while not watching.is_set():
            made.append(commit(catalog, f"b{len(made)}"))
        put = Put(("p", "last"), SnapshotRef("p", "table", "last", "v1", b"1" * 32))
        made.append(catalog.commit(Proposal("main", (put,), message="the last")).seq)
        watcher.join(SECONDS)
        assert seen == made[-len(seen) :]


def test_a_watch_that_is_left_is_cancelled_and_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.limits.WATCHES_MAX", 2)
    with served(tmp_path) as (_, catalog):
        one, other = catalog.watch(1), catalog.watch(1)
        assert (next(one).seq, next(other).seq) == (1, 1)
        with pytest.raises(ResourceExhausted, match="2 clients watch"):
            next(catalog.watch(1))
        cast("Generator[Event, None, None]", one).close()

        def there_is_room() -> bool:
            try:
                return next(catalog.watch(1)).seq == 1
            except ResourceExhausted:
                return False

        until(there_is_room)


def test_streams_that_nobody_reads_on_leave_connections_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.limits.STREAMS_MAX", 2)
    monkeypatch.setattr("plait_server.guard._STREAM_WAIT_SECONDS", 0.1)
    with served(tmp_path) as (_, catalog):
        put = Put(("p", "a"), SnapshotRef("p", "table", "a", "v1", b"1" * 32))
        for number in range(100):
            catalog.commit(Proposal("main", (put,) if number == 0 else (), message="x" * 60_000, allow_empty=True))
        one, other = iter(catalog.log()), iter(catalog.log())
        assert next(one) == next(other)
        with pytest.raises(ResourceExhausted, match="2 streams"):
            list(catalog.log())
        assert next(catalog.watch(1)).seq == 1
        commit(catalog, "b")
        assert len(list(other)) == 100, "a slow client reads on"
        assert len(list(catalog.log())) == 102
        del one
        until(lambda: len([list(stream) for stream in (catalog.log(), catalog.diff("main~1", "main"))]) == 2)


def test_a_client_that_vanished_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.limits.WATCHES_MAX", 1)
    monkeypatch.setattr("plait_server.serving._KEEPALIVE_MS", 1_000)
    monkeypatch.setattr("plait_server.serving._KEEPALIVE_TIMEOUT_MS", 1_000)
    with served(tmp_path) as (server, catalog):
        url = f"plait://127.0.0.1:{server.grpc_port}/default"
        watching = f"import plait\nfor event in plait.connect({url!r}).watch(1): print(event.seq, flush=True)"
        with subprocess.Popen([sys.executable, "-c", watching], stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "1\n"
            client.send_signal(signal.SIGSTOP)  # Its connection stays open, and nobody answers on it.

            def there_is_room() -> bool:
                try:
                    return next(catalog.watch(1)).seq == 1
                except ResourceExhausted:
                    return False

            try:
                assert not there_is_room()
                until(there_is_room)
            finally:
                client.kill()


def test_a_watch_ends_at_the_clients_deadline(tmp_path: Path) -> None:
    with served(tmp_path) as (_, catalog):
        assert list(catalog.watch(1, seconds_max=1.0)) == catalog.events()


def test_a_bare_grpc_client_sees_its_deadline(tmp_path: Path) -> None:
    with served(tmp_path) as (server, _), grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        watch = channel.unary_stream(
            f"/{SERVICE.full_name}/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        call = watch(pb.WatchRequest(repository="default"), timeout=1.0)
        assert list(next(call).events) == []
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_server_that_stops_ends_its_watches_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as (server, catalog):
        watched = catalog.watch(1)
        last = [next(watched).seq for _ in catalog.events()][-1]
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 8.0, "it waited for the watch"
        with pytest.raises(StoreUnavailable, match="stops"):
            next(watched)
    with served(tmp_path) as (_, catalog):
        catalog.create_branch("later")
        assert next(catalog.watch(last + 1)).seq == last + 1


def test_a_watch_ends_when_its_token_is_deleted(tmp_path: Path) -> None:
    started(tmp_path).stop()
    with plait.open(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        tokens = {name: catalog.backend.create_token(name) for name in ("leaver", "stayer")}
    server = started(tmp_path, auth=Auth.TOKEN)
    url = f"plait://127.0.0.1:{server.grpc_port}/default"
    try:
        with plait.connect(url, token=tokens["leaver"]) as leaver, plait.connect(url, token=tokens["stayer"]) as stayer:
            watched = leaver.watch(1, seconds_max=SECONDS)
            assert next(watched).seq == 1
            stayer.backend.delete_token("leaver")
            with pytest.raises(Unauthenticated, match="not valid"):
                list(watched)
    finally:
        server.stop()


def test_a_servers_plugins_see_what_clients_change(tmp_path: Path) -> None:
    class Recorder:
        @hookimpl
        def plait_on_event(self, event: Event, catalog: Catalog) -> None:
            seen.append(event.seq)
            assert catalog.session.principal == "plait-server"

    seen: list[int] = []
    with served(tmp_path, Recorder()) as (_, catalog):
        commit(catalog, "a")
        catalog.create_branch("dev")
        expected = [event.seq for event in catalog.events(after_seq=1)]
        until(lambda: len(seen) == len(expected))
    assert seen == expected
