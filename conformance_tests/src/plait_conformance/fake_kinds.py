"""The five kinds of fake store: what each does differently from the plain one, that is, worse."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from plait.adapter import Capability
from plait.errors import NotFound
from plait.types import Found, Key, PastVersion, Staging

from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_storage import Head, Record


class _HeadedAdapter(FakeAdapter):
    """A kind with a native head."""

    capabilities: ClassVar[frozenset[Capability]] = FakeAdapter.capabilities | {Capability.NATIVE_HEAD}


class FakeDoltAdapter(_HeadedAdapter):
    """Versions are as unreproducible as commits with a date; the working set follows the head by a second write.

    It can be searched, and has a history of its own.
    """

    kind: ClassVar[str] = "fake-dolt"
    capabilities: ClassVar[frozenset[Capability]] = _HeadedAdapter.capabilities | {Capability.DISCOVER}
    keeps_ancestry: ClassVar[bool] = True

    def record(self, members: Mapping[str, str], parents: Sequence[str]) -> Record:
        return Record(members, tuple(parents), uuid.uuid4().hex)

    def discover(self, place: str) -> Iterator[Found]:
        """All assets, or the one that is named."""
        there = [asset for asset, head in self.folder.heads().items() if head.version is not None]
        if place and place not in there:
            raise NotFound(f"store {self.store.name!r} holds no asset {place!r}", remedy="name one that exists")
        for asset in [place] if place else there:
            yield Found((asset,), asset, asset=asset)

    def history(self, found: Found) -> Sequence[PastVersion]:
        return [
            PastVersion(head.version, f"{found.asset}@{head.version}", f"version {head.number}")
            for head in self.folder.log(found.asset)
            if head.version is not None
        ]

    def repair(self, asset: str, head: Head) -> None:
        if self.folder.working(asset) < head.number:
            self.folder.set_working(asset, head.number)
            self.context.failpoint("fake.publish.after_working")


class FakeDeltaAdapter(_HeadedAdapter):
    """Each version is a continuation of another, named after both; anybody may append to the log."""

    kind: ClassVar[str] = "fake-delta"
    keeps_ancestry: ClassVar[bool] = True


class FakeBlockAdapter(_HeadedAdapter):
    """The head is busy while a writer holds it; a place is frozen while prepare copies it."""

    kind: ClassVar[str] = "fake-block"

    def read_place(self, location: str) -> Mapping[str, str]:
        self.folder.freeze(location)
        self.context.failpoint("fake.prepare.frozen")
        items = self.folder.items(location)
        self.folder.thaw(location)
        self.context.failpoint("fake.prepare.thawed")
        return items

    def is_busy(self, asset: str) -> bool:
        return self.folder.is_held(asset)


class FakeSharedAdapter(_HeadedAdapter):
    """One native snapshot holds every key that a transaction wrote."""

    kind: ClassVar[str] = "fake-shared"

    def groups(self, stagings: Mapping[Key, Staging]) -> Iterator[Mapping[Key, Staging]]:
        return iter([stagings] if stagings else [])


KINDS: tuple[type[FakeAdapter], ...] = (
    FakeAdapter,
    FakeDoltAdapter,
    FakeDeltaAdapter,
    FakeBlockAdapter,
    FakeSharedAdapter,
)
