"""Reaching a served catalog by its URL."""

from __future__ import annotations

from plait.adapter import Progress, silent
from plait.catalog import Catalog
from plait.client.backend import RemoteBackend
from plait.clock import Clock, SystemClock
from plait.plugins import Plugins
from plait.rpc.address import find_token, parse_address
from plait.rpc.calls import Calls
from plait.stores import Adapters, client_context
from plait.types import Session


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
