"""One adapter under test, directly: transactions by hand, and every answer of the harness checked before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from plait.adapter import Adapter, Capability, Context
from plait.clock import SystemClock
from plait.failpoint import failpoint
from plait.stores import resolve_credential
from plait.types import (
    Conflicted,
    ItemChange,
    ItemChangeKind,
    Key,
    Location,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
)

from plait_conformance.harness import Edits, Harness, NotOffered, Rows
from plait_conformance.testing import MemoryPort, MemoryState

ITEM_ASPECTS = frozenset({"row", "object", "file", "item", "extent"})
"""The aspects of changes that are items; the others describe the asset as a whole."""

DONE = Published(PublishState.DONE)


class HarnessError(AssertionError):
    """The harness, not the adapter, did what it may not do."""


class Trial:
    """A harness's store with one open instance of its adapter, and new transactions as they are asked for."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.on_failpoint: Callable[[str], None] = failpoint
        self._state = MemoryState()
        self._clock = SystemClock()
        self.adapter = self.open()

    # -- instances ---------------------------------------------------------------------------------------------------

    def open(self) -> Adapter:
        """A new instance on the same storage and state."""
        context = Context(
            state=self._state,
            clock=self._clock,
            credential=resolve_credential,
            failpoint=lambda name: self.on_failpoint(name),
        )
        return check_adapter(self.harness, self.harness.open(context))

    def reopen(self) -> None:
        """Go on with a new instance, as a restarted process does."""
        self.adapter.close()
        self.adapter = self.open()

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.adapter.capabilities_of(self.adapter.store)

    def can(self, capability: Capability) -> bool:
        return capability in self.capabilities

    def key(self, asset: str = "a") -> Key:
        return (self.adapter.store.name, *self.harness.name(asset))

    def new_tx(self) -> str:
        return self._clock.new_id()

    # -- transactions ------------------------------------------------------------------------------------------------

    def port(self, base: SnapshotRef | None = None, *, asset: str = "a", tx: str | None = None) -> MemoryPort:
        """A transaction over one asset (None: over nothing yet)."""
        return MemoryPort(self.adapter, tx or self.new_tx(), {self.key(asset): base} if base else {})

    def begun(self, rows: Rows, *, asset: str = "a", tx: str | None = None) -> MemoryPort:
        """A transaction that has created an asset, not prepared yet."""
        port = self.port(tx=tx)
        create(self.harness, self.adapter, port, self.key(asset), rows)
        return port

    def changed(self, base: SnapshotRef, edits: Edits, *, asset: str = "a", tx: str | None = None) -> MemoryPort:
        """A transaction that has changed an asset, not prepared yet."""
        port = self.port(base, asset=asset, tx=tx)
        port.add(self.key(asset))
        if edits:
            self.harness.write(self.adapter, port, self.key(asset), edits)
        return port

    def staged(self, port: MemoryPort, asset: str = "a") -> Staging:
        staging = port.get(self.key(asset))
        assert staging is not None
        return staging

    def vote(self, port: MemoryPort, *, asset: str = "a", attempt: int = 1) -> SnapshotRef:
        """Seal the transaction and prepare it."""
        port.closed = True
        return self.prepare(port.tx, {self.key(asset): self.staged(port, asset)}, attempt)[self.key(asset)]

    def prepare(self, tx: str, stagings: Mapping[Key, Staging], attempt: int = 1) -> Mapping[Key, SnapshotRef]:
        votes = self.adapter.prepare(tx, attempt, stagings)
        assert set(votes) == set(stagings), f"prepare answers for {sorted(votes)}, asked for {sorted(stagings)}"
        found = {}
        for key, vote in votes.items():
            assert vote is not None, f"prepare votes that {key} was dropped, which nobody did"
            found[key] = vote
        return found

    def create(self, rows: Rows, *, asset: str = "a") -> SnapshotRef:
        """A prepared snapshot of a new asset."""
        return self.vote(self.begun(rows, asset=asset), asset=asset)

    def change(self, base: SnapshotRef, edits: Edits, *, asset: str = "a") -> SnapshotRef:
        """A prepared snapshot that changes another."""
        return self.vote(self.changed(base, edits, asset=asset), asset=asset)

    def merge(
        self,
        base: SnapshotRef,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        *resolutions: Resolution,
        tx: str | None = None,
    ) -> Merged | Conflicted:
        return self.adapter.merge(tx or self.new_tx(), 1, base=base, ours=ours, theirs=theirs, resolutions=resolutions)

    def publish(self, before: SnapshotRef | None, after: SnapshotRef | None, seq: int) -> Published:
        key = self.key()
        answers = self.adapter.publish({key: Move(before, after, seq)})
        assert set(answers) == {key}, f"publish answers for {sorted(answers)}, asked for {key}"
        return answers[key]

    # -- looking -----------------------------------------------------------------------------------------------------

    def held(self, snapshot: SnapshotRef) -> dict[str, str]:
        """What a snapshot holds, read by the store's own client."""
        return read(self.harness, self.adapter.locate(snapshot))

    def changes(
        self,
        before: SnapshotRef | Staging | None,
        after: SnapshotRef | Staging | None,
        rows: Iterable[str] | None = None,
    ) -> list[ItemChange]:
        """What differs, items only, in the adapter's order."""
        items = None if rows is None else [self.harness.item(row) for row in rows]
        return [change for change in self.adapter.diff(before, after, items=items) if change.aspect in ITEM_ASPECTS]

    def kinds(
        self,
        before: SnapshotRef | Staging | None,
        after: SnapshotRef | Staging | None,
        rows: Iterable[str] | None = None,
    ) -> dict[str, ItemChangeKind]:
        """What differs, as item → kind."""
        changes = self.changes(before, after, rows)
        found = {change.item: change.kind for change in changes}
        assert len(found) == len(changes), f"diff names an item twice: {[change.item for change in changes]}"
        return found

    def items(self, **rows: ItemChangeKind) -> dict[str, ItemChangeKind]:
        """The same, as expected: row=kind."""
        return {self.harness.item(row): kind for row, kind in rows.items()}

    def resolution(self, row: str, choice: str, text: str | None = None) -> Resolution:
        """A decision on one row."""
        from plait.types import Choice

        value = None if text is None else self.harness.value(row, text)
        return Resolution(self.key(), self.harness.item(row), Choice(choice), value)

    def cost_of(self, call: Callable[[], object]) -> dict[str, int]:
        """What a call asked of the store. Raises: NotOffered."""
        before = dict(self.harness.cost(self.adapter))
        call()
        return {name: count - before.get(name, 0) for name, count in self.harness.cost(self.adapter).items()}

    def close(self) -> None:
        self.adapter.close()


# -- the harness's answers, checked ------------------------------------------------------------------------------------


def check_adapter(harness: Harness, adapter: object) -> Adapter:
    """Raises: HarnessError unless it is an adapter with a kind and a store."""
    if not isinstance(adapter, Adapter):
        raise HarnessError(f"{_name(harness)}.open returned {adapter!r}, which is no plait.adapter.Adapter")
    if not getattr(adapter, "kind", "") or adapter.store.kind != adapter.kind:
        raise HarnessError(
            f"{_name(harness)}.open: the store's kind is {adapter.store.kind!r}, the adapter's {adapter.kind!r}"
            " · give Store(name, MyAdapter.kind, options=…)"
        )
    return adapter


def create(harness: Harness, adapter: Adapter, port: MemoryPort, key: Key, rows: Rows) -> None:
    """Raises: HarnessError when nothing was staged."""
    harness.create(adapter, port, key, rows)
    if port.get(key) is None:
        raise HarnessError(
            f"{_name(harness)}.create staged nothing under {key} · call port.add(key, new=True), or the namespace"
            " handle of adapter.open_store(port)"
        )


def read(harness: Harness, location: Location) -> dict[str, str]:
    """Raises: HarnessError unless it is a mapping of text to text."""
    found = harness.read(location)
    if not isinstance(found, Mapping) or not all(
        isinstance(row, str) and isinstance(text, str) for row, text in found.items()
    ):
        raise HarnessError(f"{_name(harness)}.read returned {found!r} · return the rows as text → text")
    return dict(found)


def _name(harness: Harness) -> str:
    return type(harness).__name__


__all__ = ["DONE", "HarnessError", "NotOffered", "Trial"]
