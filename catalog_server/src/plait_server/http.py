"""The HTTP port: health, metrics, and the gateways that plugins bring."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from plait.errors import InvalidArgument, PlaitError, Unauthenticated
from plait.hookspecs import ASGIApp, Gateway
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from plait_server.authentication import Authentication, Authorize
from plait_server.metrics import Metrics
from plait_server.repositories import Repositories

_STOP_SECONDS = 10


def make_app(
    repositories: Repositories,
    repository: str,
    authentication: Authentication,
    metrics: Metrics,
    authorize: Authorize,
    is_serving: Callable[[], bool],
) -> Starlette:
    """/healthz: the process lives · /readyz: it takes calls and its database answers · /metrics · the gateways.

    Health and metrics need no credentials; gateways need a token unless nothing does, and `authorize` is asked with
    their path.
    """

    def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def readyz(request: Request) -> Response:
        if not is_serving():
            return PlainTextResponse("not serving\n", status_code=503)
        try:
            repositories.database.check_schema()
        except PlaitError as error:
            return PlainTextResponse(f"{error.code}\n", status_code=503)
        return PlainTextResponse("ok\n")

    def expose(request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    routes: list[Route | Mount] = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", expose)]
    for gateway in find_gateways(repositories, repository):
        routes.append(Mount(gateway.path, app=_guarded(gateway, repository, authentication, authorize)))
    return Starlette(routes=routes)


def find_gateways(repositories: Repositories, repository: str) -> Sequence[Gateway]:
    """What plugins bring. Raises: InvalidArgument when two want one path, or a path is taken or no path."""
    plugins = repositories.plugins
    taken = {"/healthz", "/readyz", "/metrics"}
    found: list[Gateway] = []
    if not plugins.has("plait_register_gateways"):
        return found
    gathered: list[Sequence[Gateway]] = plugins.manager.hook.plait_register_gateways(
        catalog=repositories.get(repository).catalog
    )
    for gateway in (one for gateways in gathered for one in gateways):
        if not gateway.path.startswith("/") or len(gateway.path) < 2 or gateway.path in taken:
            raise InvalidArgument(
                f"a gateway cannot be mounted at {gateway.path!r}", remedy="uninstall one of the plugins that want it"
            )
        taken.add(gateway.path)
        found.append(gateway)
    return found


def _guarded(gateway: Gateway, repository: str, authentication: Authentication, authorize: Authorize) -> ASGIApp:
    """Its application, for those only who may; `scope["plait.principal"]` tells it who asks."""
    app = gateway.app

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            # It reads the database, which may hang: the other requests do not wait for it.
            principal = await run_in_threadpool(authentication.of_request, repository, header)
            authorize(principal, gateway.path)
        except PlaitError as error:
            body = {"error": {"code": error.http_status, "type": error.code, "message": str(error)}}
            challenge = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else None
            refused = JSONResponse(body, status_code=error.http_status, headers=challenge)
            await refused(scope, receive, send)
            return
        await app({**scope, "plait.principal": principal}, receive, send)

    return guarded


class HttpServer:
    """The application on a socket, in a thread of its own. `stop` it once."""

    def __init__(self, app: Starlette, listening: socket.socket, https: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_SECONDS
        )
        config.load()
        config.ssl = https
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="plait-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let requests end, then close. Repeat: no-op."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS + 1)
