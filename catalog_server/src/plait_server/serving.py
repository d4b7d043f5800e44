"""A running server: ports, service, scheduler, from start to a graceful stop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from plait import cores, limits
from plait.connecting import database_url
from plait.errors import AlreadyExists, StoreUnavailable
from plait.local import create
from plait.persist import Database
from plait.plugins import Plugins
from plait.rpc.calls import SERVICE

from plait_server.authentication import Authentication, Authorize, Tokens, authorize
from plait_server.config import Auth, Config, Endpoint
from plait_server.guard import Guard
from plait_server.http import HttpServer, make_app
from plait_server.metrics import Metrics
from plait_server.repositories import Repositories, Scheduler
from plait_server.service import CatalogService

_REFLECTIONS_MAX = 4
_WORKERS = 64 + limits.WATCHES_MAX + limits.STREAMS_MAX + _REFLECTIONS_MAX
"""Calls that run at once: they wait for the sequencer, so they are many more than processors. Watches, other streams,
and those of the reflection service, take the rest."""
_KEEPALIVE_MS = 120_000
_KEEPALIVE_TIMEOUT_MS = 20_000
"""When clients with calls under way are asked for a sign of life, and how long they have: a machine that vanished
closes nothing, and its watches and half-read streams would hold their places for hours."""
_RECOVER_SECONDS = 30.0
_GRACE_SECONDS = 10.0


class Server:
    """Serves one database. `stop` it once."""

    def __init__(
        self,
        config: Config,
        *,
        init: bool = False,
        plugins: Plugins | None = None,
        authorize: Authorize = authorize,
    ) -> None:
        """Open the database (`init`: make it and the repository, if they are not there), recover, listen.

        Raises: InvalidArgument, NotFound when there is no catalog, StoreUnavailable when a port is taken.
        """
        with ExitStack() as opened:  # Closed again if what follows fails.
            self._database = Database(config.database_url if init else database_url(config.database_url))
            opened.callback(self._database.close)
            self._repositories = Repositories(self._database, plugins or Plugins())
            opened.callback(self._repositories.close)
            if init:
                self._create(config.repository)
            self._repositories.get(config.repository)
            tokens = Tokens(self._repositories)
            self._metrics = Metrics(self._repositories.waiting)
            authentication = Authentication(config.auth, tokens)
            self._guard = Guard(self._repositories, authentication, self._metrics, authorize)
            service = CatalogService(self._metrics, tokens)
            self._is_serving = True
            listening = None if config.http is None else opened.enter_context(_listen(config.http))
            self.http_port = None if listening is None else int(listening.getsockname()[1])
            app = make_app(
                self._repositories,
                config.repository,
                authentication,
                self._metrics,
                authorize,
                lambda: self._is_serving,
            )
            with cores.starting_together():
                self._grpc, self.grpc_port = self._start_grpc(config, self._guard.handlers(service))
            opened.callback(self._grpc.stop, None)
            https = None if config.tls is None else config.tls.https
            self._http = None if listening is None else HttpServer(app, listening, https)
            opened.pop_all()
        self._scheduler = Scheduler(self._repositories, _RECOVER_SECONDS)

    def stop(self) -> None:
        """Take no new calls, let those under way end for ten seconds, finish what is queued."""
        self._is_serving = False
        self._health.enter_graceful_shutdown()
        self._guard.stop()
        self._grpc.stop(_GRACE_SECONDS).wait()
        self._workers.shutdown()
        if self._http is not None:
            self._http.stop()
        self._scheduler.stop()
        self._repositories.close()
        self._database.close()

    def _create(self, repository: str) -> None:
        # Another server may be making it now, and one that died may have left it half-made: this makes it whole.
        with suppress(AlreadyExists):
            create(self._database, repository)

    def _start_grpc(self, config: Config, handlers: grpc.GenericRpcHandler[Any, Any]) -> tuple[grpc.Server, int]:
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="plait-rpc", initializer=cores.together)
        server = grpc.server(
            self._workers,
            options=[
                ("grpc.max_receive_message_length", limits.RPC_MESSAGE_BYTES_MAX),
                # Two servers must not share a port by accident.
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
                ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
                # Else gRPC asks once in a minute at most of a connection on which nothing else happens.
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ],
            maximum_concurrent_rpcs=limits.QUEUE_PROPOSALS_MAX,
        )
        server.add_generic_rpc_handlers((handlers,))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        answering: Any = _Reflection(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(answering, server)
        try:
            if config.tls is None:
                port = server.add_insecure_port(str(config.grpc))
            else:
                credentials = grpc.ssl_server_credentials(
                    [(config.tls.key, config.tls.cert)],
                    root_certificates=config.tls.client_ca,
                    require_client_auth=config.auth is Auth.MTLS,
                )
                port = server.add_secure_port(str(config.grpc), credentials)
        except RuntimeError as error:
            raise StoreUnavailable(
                f"cannot listen on {config.grpc}", remedy="stop what uses that port, or choose another"
            ) from error
        server.start()
        for name in ("", SERVICE.full_name):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return server, port


class _Reflection:
    """A few streams at once: each holds a thread for as long as its client likes, and strangers may open them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._answering: Any = reflection.ReflectionServicer(names)
        self._open = threading.BoundedSemaphore(_REFLECTIONS_MAX)

    def ServerReflectionInfo(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        if not self._open.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_REFLECTIONS_MAX} clients ask for reflection already")
        try:
            yield from self._answering.ServerReflectionInfo(requests, context)
        finally:
            self._open.release()


def _listen(endpoint: Endpoint) -> socket.socket:
    try:
        return socket.create_server(
            (endpoint.host, endpoint.port), family=socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        )
    except OSError as error:
        raise StoreUnavailable(
            f"cannot listen on {endpoint}: {error.strerror}", remedy="stop what uses that port, or choose another"
        ) from error
