"""A root in a real store, and adapters over it as restarted processes would make them: for tests of this plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plait.adapter import Context, Merger, State
from plait.clock import ManualClock
from plait.types import Store

from plait_s3.adapter import ObjectAdapter
from plait_s3.content import BUILT_IN
from plait_s3.kinds import FilesAdapter, S3Adapter


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test's store is. `versioned`: its bucket keeps versions."""

    kind: str
    options: dict[str, str]
    state: State
    versioned: bool = False

    def adapter(self, mergers: Sequence[Merger] = (), **options: str) -> ObjectAdapter:
        """A new instance, with these mergers before the built-in ones and these options over the place's own."""
        context = Context(state=self.state, clock=ManualClock(), mergers=lambda: [*mergers, *BUILT_IN])
        adapter: type[ObjectAdapter] = FilesAdapter if self.kind == "files" else S3Adapter
        return adapter(Store("raw", self.kind, options={**self.options, **options}), context)
