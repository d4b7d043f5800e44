"""The plugin that brings the strict fake stores. For tests: nothing else should add a store of these kinds."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_conformance.fake_kinds import KINDS


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    return KINDS
