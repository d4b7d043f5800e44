"""The strict fake store: does all that an adapter may be asked, and raises AssertionError when the core asks wrongly.

An asset is a map of item → JSON text. Five kinds imitate what real stores do worst:

    fake         versions named after their content; no native head
    fake-dolt    equal content under different versions; a head that moves only to descendants, by two torn writes
    fake-delta   a numbered log that others append to
    fake-block   a head that is busy while a writer holds it; prepare freezes the place it reads
    fake-shared  all keys of one transaction become one native snapshot

The rules that it checks are stricter than any store's: see the assertions of each call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from plait.adapter import Adapter, Capability, Context, Side, StagingPort
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreUnavailable
from plait.refspec import format_key
from plait.types import (
    Conflicted,
    Depth,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
    Store,
)

from plait_conformance.fake_handles import FakeAsset, FakeNamespace, read_only
from plait_conformance.fake_join import compare, join
from plait_conformance.fake_space import delete, inventory, reachable, verify
from plait_conformance.fake_storage import FOUND, Folder, Head, Named, Record
from plait_conformance.fake_trace import Call, traced


class FakeAdapter(Adapter):
    """Kind `fake`. The others change single steps of it."""

    kind: ClassVar[str] = "fake"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.OPEN_STORE,
        }
    )
    keeps_ancestry: ClassVar[bool] = False
    """Versions name their parents, and the head moves to descendants only."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        if set(store.options) != {"path"}:
            raise InvalidArgument(
                f"store {store.name!r} takes exactly the option 'path'", remedy="write --option path=/data/fake"
            )
        self.folder = Folder(store.options["path"])
        self.trace: list[Call] = []
        self.closed = False

    def reach(self) -> None:
        """Raises: StoreUnavailable while the store is down."""
        if self.folder.is_down:
            raise StoreUnavailable(f"store {self.store.name!r} does not answer", remedy="see that it runs, try again")

    def local_folder(self) -> str:
        return str(self.folder.path)

    # -- looking -----------------------------------------------------------------------------------------------------

    @traced
    def check(self) -> Sequence[str]:
        return ()

    @traced
    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Describe and pin the heads of native names, which are assets, or of `asset@version` an older one."""
        self._check_keys(assets)
        found = {}
        with self.folder.locked():
            for key, name in assets.items():
                asset, _, older = name.partition("@")
                version = older or self.folder.head(asset).version
                if version is None:
                    raise NotFound(f"store {self.store.name!r} holds no asset {asset!r}", remedy="name one that exists")
                self.folder.pin(tx, version)
                self.context.failpoint("fake.snapshot.pinned")
                found[key] = self.describe(asset, version)
        return found

    @traced
    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        return self._diff(before, after, None if items is None else frozenset(items))

    def _diff(self, before: Side, after: Side, wanted: frozenset[str] | None) -> Iterator[ItemChange]:
        yield from compare(self._items(before), self._items(after), wanted)

    @traced
    def locate(self, target: SnapshotRef | Staging) -> Location:
        if isinstance(target, Staging):
            return Location((self.folder.path / target.location).as_uri())
        record = self._record(target)
        path = self.folder.path / "objects" / record.members[target.asset]
        return Location(path.as_uri(), {}, f"json.load(open({str(path)!r}))\n")

    @traced
    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        self._check_mine(snapshot)
        return verify(self.folder, snapshot, depth)

    # -- writing inside a transaction --------------------------------------------------------------------------------

    @traced
    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        self._check_keys(intents)
        stagings = {}
        for key, intent in intents.items():
            base = intent.base
            if base is not None:
                self._check_pinned(base)
            asset = _new_asset(key, intent) if base is None else base.asset
            parents = () if base is None else (base.version,)
            self.context.failpoint("fake.stage.before_place")
            place = self.folder.make_place(tx, intent.id, asset, parents, self._items(base))
            self.context.failpoint("fake.stage.after_place")
            stagings[key] = Staging(tx, key, base, place.location, {"intent": intent.id})
        return stagings

    @traced
    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> Mapping[str, str]:
        """A FakeAsset for a staging with its port, else a read-only mapping."""
        if isinstance(target, SnapshotRef):
            self._check_pinned(target)
        if isinstance(target, SnapshotRef) or port is None:
            return read_only(self._items(target))
        return self._open_staging(target, port)

    def _open_staging(self, staging: Staging, port: StagingPort) -> FakeAsset:
        if self._is_in_place(staging):
            # Imported in place, and now to be written: it gets a place of its own.
            staged = self.stage(staging.tx, {staging.key: _intent(staging)})[staging.key]
            if not port.compare_and_set(staging.key, staging.location, staged.location):
                moved = port.get(staging.key)
                assert moved is not None
                assert not self._is_in_place(moved)
                staged = moved
            staging = staged
        assert self.folder.place(staging.location) is not None, f"{staging.location} was never staged"
        return FakeAsset(self.folder, staging, port, self.context.failpoint)

    @traced
    def open_store(self, port: StagingPort) -> FakeNamespace:
        return FakeNamespace(self.store.name, port, lambda staging: self._open_staging(staging, port))

    @traced
    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        self._check_keys(stagings)
        assert attempt >= 1, f"attempt {attempt} of {tx}: the first is 1"
        for key, staging in stagings.items():
            assert (staging.tx, staging.key) == (tx, key), f"{staging} is not {format_key(key)} of {tx}"
            known = self._is_in_place(staging) or self.folder.place(staging.location) is not None
            assert known, f"prepare of {format_key(key)}, which was never staged at {staging.location!r}"
        votes: dict[Key, SnapshotRef | None] = {}
        with self.folder.locked():
            for group in self.groups(stagings):
                votes.update(self._prepare_group(tx, attempt, group))
        return votes

    def _prepare_group(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> dict[Key, SnapshotRef | None]:
        name = json.dumps(["prepare", attempt, sorted(stagings)])
        named = self.folder.named(tx, name)
        if named is None:
            named = self.folder.name(tx, name, self._name_group(stagings))
            self.context.failpoint("fake.prepare.named")
        self._keep(tx, named.record, "prepare")
        votes: dict[Key, SnapshotRef | None] = {}
        for key, staging in stagings.items():
            asset = named.assets.get(format_key(key))
            if asset is None or named.record is None:
                assert staging.base is not None
                self._check_pinned(staging.base)
                votes[key] = staging.base
            else:
                votes[key] = self.describe(asset, named.record.version)
        return votes

    def _name_group(self, stagings: Mapping[Key, Staging]) -> Named:
        """What the group votes, read from its places now: later writes alter nothing."""
        assets: dict[str, str] = {}
        members: dict[str, str] = {}
        parents: set[str] = set()
        for key, staging in stagings.items():
            place = self.folder.place(staging.location)
            if place is None:
                continue  # Imported in place and never written: it votes its base.
            content = self.folder.put_object(self.read_place(place.location))
            self.context.failpoint("fake.prepare.object_written")
            base = staging.base
            if base is not None and base.asset == place.asset and base.digest.hex() == content:
                continue
            assets[format_key(key)] = place.asset
            members[place.asset] = content
            parents.update(place.parents)
        return Named(self.record(members, sorted(parents)) if members else None, assets)

    @traced
    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """Whole: a new place with the snapshot's items, and its asset. Items: written where the staging is."""
        self._check_keys({staging.key: staging})
        self._check_pinned(snapshot)
        if self._is_in_place(staging):
            staging = self.stage(tx, {staging.key: _intent(staging)})[staging.key]
        place = self.folder.place(staging.location)
        assert place is not None, f"restore into {staging.location!r}, which was never staged"
        then = self._items(snapshot)
        if items is None:
            parents = place.parents or (snapshot.version,)
            self.context.failpoint("fake.restore.before_place")
            name = json.dumps(["restore", staging.location, snapshot.asset, snapshot.version])
            made = self.folder.make_place(tx, name, snapshot.asset, parents, then)
            self.context.failpoint("fake.restore.after_place")
            return replace(staging, location=made.location)
        self.folder.thaw(staging.location)
        for item in sorted(items):
            self.folder.set_item(staging.location, item, then.get(item))
            self.context.failpoint("fake.restore.item_written")
        return staging

    @traced
    def abort(self, tx: str) -> None:
        """Pins first: what they kept is unreachable at once, whatever else is left."""
        assert tx != FOUND
        with self.folder.locked():
            self._check_unpublished(tx)
            for what in ("pins", "stagings", "names"):
                self.folder.forget(what, tx)
                self.context.failpoint(f"fake.abort.{what}_forgotten")

    @traced
    def release(self, tx: str, kept: Sequence[SnapshotRef]) -> None:
        """Stagings only: the pins of lost attempts may be what kept snapshots grew from."""
        assert tx != FOUND
        with self.folder.locked():
            for snapshot in kept:
                assert self.folder.pins_of(snapshot.version), f"{snapshot.version} is committed by {tx}, and not pinned"
            self.folder.forget("stagings", tx)
            self.context.failpoint("fake.release.stagings_forgotten")

    def _check_unpublished(self, tx: str) -> None:
        mine = {version for owner, version in self.folder.pins() if owner == tx}
        kept = {version for owner, version in self.folder.pins() if owner != tx}
        for asset, head in self.folder.heads().items():
            for entry in self.folder.log(asset) if head.version else ():
                lost = entry.seq and entry.version in mine - kept
                assert not lost, f"abort of {tx} lets go of {entry.version}, which was published for {asset}"

    # -- joining -----------------------------------------------------------------------------------------------------

    @traced
    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        sides = [side for side in (base, ours, theirs) if side is not None]
        for side in sides:
            self._check_pinned(side)
        assert len({side.asset for side in sides}) == 1, f"merge of different assets: {sides}"
        assert len({side.digest for side in sides}) == len(sides), f"a merge with equal sides: {sides}"
        items, conflicts = join(self._items(base), self._items(ours), self._items(theirs), resolutions)
        if conflicts:
            return Conflicted(tuple(conflicts))
        settled = sorted([str(one.item), one.choice.value, json.dumps(one.value)] for one in resolutions)
        name = json.dumps(["merge", attempt, [side.version for side in sides], base is None, ours.asset, settled])
        parents = [ours.version, theirs.version]
        return Merged(self._make(tx, name, "merge", ours.asset, lambda: self.folder.put_object(items), parents))

    @traced
    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        for side in (onto, content):
            self._check_pinned(side)
        assert onto.asset == content.asset, f"{content} cannot succeed another asset's {onto}"
        if not self.keeps_ancestry or onto.version in self.folder.ancestors(content.version):
            return content
        name = json.dumps(["succeed", attempt, onto.version, content.version, content.asset])
        parents = [onto.version, content.version]
        return self._make(tx, name, "succeed", content.asset, content.digest.hex, parents)

    def _make(
        self, tx: str, name: str, call: str, asset: str, content: Callable[[], str], parents: Sequence[str]
    ) -> SnapshotRef:
        """A prepared version of one asset, the same for the same (tx, name)."""
        with self.folder.locked():
            named = self.folder.named(tx, name)
            if named is None:
                record = self.record({asset: content()}, parents)
                self.context.failpoint(f"fake.{call}.object_written")
                named = self.folder.name(tx, name, Named(record))
                self.context.failpoint(f"fake.{call}.named")
            assert named.record is not None
            self._keep(tx, named.record, call)
        return self.describe(asset, named.record.version)

    # -- native heads ------------------------------------------------------------------------------------------------

    @traced
    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        assert Capability.NATIVE_HEAD in self.capabilities, f"stores of kind {self.kind!r} have no head to publish"
        self._check_keys(moves)
        with self.folder.locked():
            return {key: self._publish(move) for key, move in moves.items()}

    def _publish(self, move: Move) -> Published:
        side = move.after or move.before
        assert side is not None, "a move from nothing to nothing"
        assert move.before is None or move.before.asset == side.asset, f"a move between assets: {move}"
        if move.after is not None:
            self._check_pinned(move.after)
        before = None if move.before is None else move.before.version
        after = None if move.after is None else move.after.version
        head = self.folder.head(side.asset)
        self.repair(side.asset, head)
        if head.version == after:
            return Published(PublishState.DONE)
        if self.is_busy(side.asset):
            return Published(PublishState.BUSY)
        if head.version != before:
            return Published(PublishState.DIVERGED, self._describe_found(side.asset, head.version))
        assert move.seq > head.seq, f"seq {move.seq} of {side.asset} does not grow: its head has {head.seq}"
        if self.keeps_ancestry and before is not None and after is not None:
            assert before in self.folder.ancestors(after), f"{after} does not descend from the head {before}"
        self.context.failpoint("fake.publish.before_head")
        moved = Head(head.number + 1, after, move.seq)
        if not self.folder.append_head(side.asset, moved):
            return self._publish(move)  # A foreign append took the number between our look and our write.
        self.context.failpoint("fake.publish.after_head")
        self.repair(side.asset, moved)
        return Published(PublishState.DONE)

    def _describe_found(self, asset: str, version: str | None) -> SnapshotRef | None:
        if version is None:
            return None
        self.folder.pin(FOUND, version)
        return self.describe(asset, version)

    # -- space -------------------------------------------------------------------------------------------------------

    @traced
    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        self._check_mine(snapshot)
        return reachable(self.folder, snapshot.version)

    @traced
    def inventory(self, prefix: str = "") -> Iterator[Item]:
        return inventory(self.folder, prefix)

    @traced
    def delete(self, items: Iterable[Item]) -> None:
        with self.folder.locked():
            delete(self.folder, [item.path for item in items], self.context.failpoint)

    def close(self) -> None:
        self.closed = True

    # -- what kinds do differently -----------------------------------------------------------------------------------

    def groups(self, stagings: Mapping[Key, Staging]) -> Iterator[Mapping[Key, Staging]]:
        """The keys that become one native snapshot together."""
        return ({key: staging} for key, staging in stagings.items())

    def record(self, members: Mapping[str, str], parents: Sequence[str]) -> Record:
        """A new version's record."""
        return Record(members, tuple(parents) if self.keeps_ancestry else ())

    def read_place(self, location: str) -> Mapping[str, str]:
        """What prepare reads from a place."""
        return self.folder.items(location)

    def is_busy(self, asset: str) -> bool:
        """Whether a writer holds the asset's head."""
        return False

    def repair(self, asset: str, head: Head) -> None:
        """Make the second write of a publish, which the head's may be without."""

    # -- parts -------------------------------------------------------------------------------------------------------

    def describe(self, asset: str, version: str) -> SnapshotRef:
        """The SnapshotRef of an existing version."""
        record = self.folder.version(version)
        assert record is not None
        assert asset in record.members
        return SnapshotRef(self.store.name, self.kind, asset, version, bytes.fromhex(record.members[asset]))

    def _keep(self, tx: str, record: Record | None, call: str) -> None:
        """Pin, then write a version, so that no unpinned one is ever there. Repeat: no-op."""
        if record is None:
            return
        self.folder.pin(tx, record.version)
        self.context.failpoint(f"fake.{call}.pinned")
        self.folder.put_version(record)
        self.context.failpoint(f"fake.{call}.version_written")

    def _items(self, side: Side) -> Mapping[str, str]:
        if side is None:
            return {}
        if isinstance(side, SnapshotRef):
            return self.folder.object(self._record(side).members[side.asset])
        if self._is_in_place(side):
            return self._items(side.base)
        assert self.folder.place(side.location) is not None, f"{side.location!r} was never staged"
        return self.folder.items(side.location)

    def _record(self, snapshot: SnapshotRef) -> Record:
        self._check_mine(snapshot)
        record = self.folder.version(snapshot.version)
        if record is None or snapshot.asset not in record.members:
            raise Corrupt(f"{snapshot.asset} has no version {snapshot.version}", remedy="restore a backup")
        return record

    def _is_in_place(self, staging: Staging) -> bool:
        """Whether the core imported a snapshot, and nobody has written to it."""
        return staging.base is not None and staging.location == staging.base.version

    def _check_mine(self, snapshot: SnapshotRef) -> None:
        assert (snapshot.store, snapshot.kind) == (self.store.name, self.kind), f"{snapshot} is not this store's"

    def _check_pinned(self, snapshot: SnapshotRef) -> None:
        record = self._record(snapshot)
        assert record.members[snapshot.asset] == snapshot.digest.hex(), f"{snapshot} has another digest than its record"
        assert self.folder.pins_of(snapshot.version), f"{snapshot.version} was never prepared, or is not pinned"

    def _check_keys(self, keys: Iterable[Key]) -> None:
        for key in keys:
            assert key[0] == self.store.name, f"{format_key(key)} is not in store {self.store.name!r}"


def _new_asset(key: Key, intent: Intent) -> str:
    """A new asset's identity, as its intent names it."""
    return f"{key[-1]}-{hashlib.sha256(intent.id.encode()).hexdigest()[:12]}"


def _intent(staging: Staging) -> Intent:
    """What a staging was staged by."""
    return Intent(staging.attrs["intent"], staging.base)
