"""Adapters that break a rule of deaths, errors, denials or costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from plait.adapter import Adapter, Capability, Context, Side
from plait.errors import PlaitError, StoreUnavailable
from plait.types import (
    ItemChange,
    Key,
    Staging,
    Store,
)

from plait_conformance import fake_storage
from plait_conformance.broken.harness import BrokenHarness, breaks
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_kinds import FakeDoltAdapter
from plait_conformance.fake_storage import Folder


@breaks("TestSpace::test_only_plaiterror_leaves")
class LetsErrorsOfTheSystemOut(FakeDoltAdapter):
    """What is lost is told in the words of the system."""

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        try:
            yield from super().diff(before, after, items=items)
        except PlaitError as error:
            raise FileNotFoundError(error.message) from error


@breaks("TestFaults::test_killed_at_any_step_both_stores_have_moved_or_neither")
class HasNoFailpoints(FakeDoltAdapter):
    """It says nowhere where it may die."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, replace(context, failpoint=lambda name: None))


@breaks(
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_and_prepare",
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_of_a_new_asset",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore_of_items",
)
class LosesItsVote(FakeDoltAdapter):
    """`prepare` that died half-way and is asked again says that nothing was written."""

    def _name_group(self, stagings: Mapping[Key, Staging]) -> fake_storage.Named:
        begun = self.folder.path / "begun" / next(iter(stagings.values())).tx
        if not fake_storage.write_new(begun, b""):
            return fake_storage.Named(None)
        named = super()._name_group(stagings)
        fake_storage.remove(begun)
        return named


@breaks(
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_and_prepare",
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_of_a_new_asset",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore_of_items",
    "TestEveryCallMayBeRepeatedAfterACrash::test_merge",
)
class TakesTornContentForWhole(FakeDoltAdapter):
    """What is stored under its hash is not written at once; half of it, left by a death, is taken for the whole."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.folder = _TornFolder(self.folder.path, context.failpoint)


class _TornFolder(Folder):
    def __init__(self, path: Path, failpoint: Callable[[str], None]) -> None:
        super().__init__(path)
        self._failpoint = failpoint

    def put_object(self, items: Mapping[str, str]) -> str:
        data = fake_storage._pack(dict(items))
        content = hashlib.sha256(data).hexdigest()
        path = self.path / "objects" / content
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[:-1])
            self._failpoint("fake.put_object.half")
            path.write_bytes(data)
        return content


class ExcusesDenials(BrokenHarness):
    """A denial is told as a store that cannot be reached."""

    adapter = FakeDoltAdapter
    fails = frozenset({"TestDenial::test_a_denial_by_the_store_is_reported_as_such_nothing_half_done"})

    @contextmanager
    def denied(self) -> Iterator[None]:
        excuse = StoreUnavailable("the fake store does not answer")
        with mock.patch.object(fake_storage, "_temporary", side_effect=excuse):
            yield


class _CheapDoltAdapter(FakeDoltAdapter):
    capabilities = FakeDoltAdapter.capabilities | {Capability.CHEAP_DIFF}


class ClaimsToBeCheap(BrokenHarness):
    """It claims a cheap diff, and reads everything."""

    adapter = _CheapDoltAdapter
    fails = frozenset({"TestCost::test_what_changed_costs_o_changes_never_o_items"})

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        assert isinstance(adapter, FakeAdapter)
        if not isinstance(adapter.folder, _CountedFolder):
            adapter.folder = _CountedFolder(adapter.folder.path)
        return {"bytes": adapter.folder.read_bytes}


class _CountedFolder(Folder):
    read_bytes = 0

    def object(self, content: str) -> dict[str, str]:
        self.read_bytes += (self.path / "objects" / content).stat().st_size
        return super().object(content)

    def object_bytes(self, content: str) -> bytes | None:
        found = super().object_bytes(content)
        self.read_bytes += len(found or b"")
        return found
