"""The menu of plait's hooks: what a plugin can add. Every one is called by keyword, and all answers are gathered.

A plugin is a module named by the entry point group ``plait``; plait's own adapters come through the same door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from plait.adapter import Adapter, Merger
from plait.types import Change, Event, Proposal, Unchanged

if TYPE_CHECKING:
    import click

    from plait.catalog import Catalog

hookspec = pluggy.HookspecMarker("plait")
hookimpl = pluggy.HookimplMarker("plait")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's answer. It is bound to the proposal's own expected values, and to `reads`: what else it looked at."""

    allowed: bool
    reason: str = ""
    remedy: str = ""
    reads: tuple[Unchanged, ...] = ()


ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application: what Starlette, FastAPI and the like are."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """An ASGI application, mounted under a path (`/iceberg`) of the server's HTTP port.

    The server authenticates first: `scope["plait.principal"]` names who asks, for `catalog.as_session`.
    """

    path: str
    app: ASGIApp


@hookspec
def plait_register_adapters() -> Sequence[type[Adapter]] | Mapping[str, str]:
    """Adapter classes, one per kind of store; or, by kind, where each is imported from when it is first needed.

    `{"notes": "notes_plait.adapter:NotesAdapter"}` keeps the imports of a store's libraries out of commands without it.
    """
    raise NotImplementedError


@hookspec
def plait_register_mergers() -> Sequence[Merger]:
    """Three-way merges for content: JSON, CSV, text, or an outside command. Commits name those that have a version."""
    raise NotImplementedError


@hookspec
def plait_check_proposal(proposal: Proposal, changes: Sequence[Change], catalog: Catalog) -> Verdict | None:
    """Gate: refuse a commit before it happens. None: no opinion. An exception, or silence past the limit, refuses."""


@hookspec
def plait_on_event(event: Event, catalog: Catalog) -> None:
    """See one durable change after it happened: in order of `seq`, once in each process that has the catalog open.

    Called in a thread of its own, so commits never wait for it; what it raises is logged with the event's seq. Closing
    the catalog waits ten seconds for the events that are left. What happens while no process has the catalog open, or
    as a process dies, is not told: what must not be missed is read with `Catalog.watch(from_seq)`.
    """


@hookspec
def plait_register_gateways(catalog: Catalog) -> Sequence[Gateway]:
    """Protocols of other engines for the server's HTTP port, over the repository that it serves there."""
    raise NotImplementedError


@hookspec
def plait_register_commands() -> Sequence[click.Command]:
    """Commands and groups for `plait`. A group that is there already (`import`) gains the given one's commands.

    Each gets `click`'s context object: `.catalog`, `.branch`, and `.emit(value, text)`, which prints JSON or text.
    """
    raise NotImplementedError
