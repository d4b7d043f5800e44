"""The plugin that brings the strict fake stores. For tests: nothing else should add a store of these kinds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from plait.adapter import Adapter
from plait.catalog import Catalog
from plait.hookspecs import ASGIApp, Gateway, hookimpl

from plait_conformance.fake_kinds import KINDS


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    return KINDS


@hookimpl
def plait_register_gateways(catalog: Catalog) -> Sequence[Gateway]:
    return [Gateway("/fake", _gateway(catalog))]


def _gateway(catalog: Catalog) -> ASGIApp:
    """Says where it was called, by whom, and which branches it sees."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        told = {
            "path": scope["path"],
            "root": scope["root_path"],
            "principal": scope["plait.principal"],
            "branches": [ref.name for ref in catalog.refs()],
        }
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    return answer
