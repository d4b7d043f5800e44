"""The adapter for block volumes, which a driver keeps and one qemu-storage-daemon serves.

An asset is a volume. A snapshot is a frozen layer on its parent layer; a working set is a writable layer on one. Which
layer is whose parent is in plait's own records. Clients of every kind read and write over NBD.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from plait.adapter import Adapter, Capability, Context, Side, StagingPort
from plait.codec import digest, encode_resolution, pack
from plait.errors import NotFound, PlaitError
from plait.refspec import check_key
from plait.types import (
    Conflicted,
    Depth,
    Found,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Move,
    Published,
    Resolution,
    Risk,
    SnapshotRef,
    Staging,
    Store,
)

from plait_block import drivers, extents, images, space
from plait_block.comparing import Comparing
from plait_block.daemon import Daemon
from plait_block.ending import Ending
from plait_block.ext4 import Filesystems
from plait_block.folder import check_id
from plait_block.heads import LIVE, Heads
from plait_block.hooks import quieted
from plait_block.layers import Known, Layer, Layers
from plait_block.merging import Sides
from plait_block.place import Place
from plait_block.volume import Version, Volume, Volumes

_ASSETS: Final = uuid.UUID("0d3a7a54-98a5-5b6f-9c21-5f3a0f1b7c55")


class BlockAdapter(Adapter):
    """Volumes in one folder. Options: `path` (absolute), `driver` (see `drivers`), `pre_freeze` and `post_freeze`
    (commands that quiet a guest around a freeze of a volume that is in use)."""

    kind: ClassVar[str] = "block"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
            Capability.OPEN_STORE,
            Capability.DISCOVER,
            Capability.FILES,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.folder = drivers.folder_of(store)
        self.layers = drivers.layers_of(store, self.folder, context.failpoint)
        self._daemon = Daemon(self.folder)
        self._filesystems = Filesystems(self.folder, self.layers, self._daemon)
        self._comparing = Comparing(self.layers, self._daemon, self._filesystems, context)
        self._ending = Ending(self.folder, self.layers, self._daemon, self._working, context.failpoint)
        self._heads = Heads(self.folder, self.layers, live=self._live, refer=self._refer, failpoint=context.failpoint)

    def local_folder(self) -> str:
        return str(self.folder.root)

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        """Start the daemon, and make and drop a probe in the folder."""
        try:
            self.layers.check()
            with self._daemon.monitor() as monitor:
                monitor.nodes()
        except PlaitError as error:
            return [str(error)]
        return ()

    def discover(self, place: str) -> Iterator[Found]:
        """The images at a place that the driver could take in: a file, or those below a folder, by their paths."""
        for name, source in self.layers.sources(place):
            refusal, left = self._refusal(name, source), tuple(self.layers.left_behind(source))
            yield Found(name, source, refusal, left, asset=self._asset_of(source))

    def _refusal(self, name: Key, source: str) -> str:
        try:
            check_key((self.store.name, *name))
            self.layers.check_source(source)
        except PlaitError as error:
            return str(error)
        return ""

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Take in an existing raw or qcow2 image where it is, without a copy; or freeze a live volume (`live:ASSET`).

        An image must not be written to any more; `retention_risks` names it. Cost: reads it once, but for holes; a
        live volume: what was written since it was published. Raises: NotFound, Unsupported for an image with others
        below it.
        """
        return {key: self._take_in(location) for key, location in assets.items()}

    def _take_in(self, location: str) -> SnapshotRef:
        if location.startswith(LIVE):
            return self.freeze(check_id(location.removeprefix(LIVE)))
        source = self.layers.source(location)
        return self._refer(self.layers.adopt(source, self._asset_of(source)))

    def _asset_of(self, source: str) -> str:
        """An image that is imported again is the same asset."""
        return str(uuid.uuid5(_ASSETS, f"{self.store.name}\0{source}"))

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        """By file where both sides hold a sound ext4 filesystem, or one holds nothing, in order of their paths; else by
        extent, in order of their offsets. A working set is frozen first, as `prepare` does.

        Cost: by extent, what either side wrote since their common ancestor; by file, `stat` of every file, and e2fsck's
        reads once for each side. Raises: Corrupt, where files of a damaged filesystem are asked for.
        """
        old, new = (self._frozen_layer(side) for side in (before, after))
        if old is not None and new is not None and old.digest == new.digest:
            return iter(())
        return self._comparing.diff(old, new, items)

    def _frozen_layer(self, side: Side) -> Layer | None:
        if isinstance(side, Staging):
            return self._place(side).freeze()
        return None if side is None else self.layers.get(side.version)

    def locate(self, target: SnapshotRef | Staging) -> Location:
        """Its NBD URI, served from now on: of a working volume until its transaction ends, also when this process has
        ended. A version is read-only, and served for as long as a process has the store open; its snippets read it
        without plait's daemon too."""
        if isinstance(target, Staging):
            uri = self._place(target).serve(stays=True)
            return Location(uri, {}, f"nbdcopy volume.img '{uri}'\nqemu-io -f raw -c 'write 0 4k' '{uri}'\n")
        layer = self.layers.get(target.version)
        chain = images.uri_of(self.layers.chain(layer))
        uri = self._version(layer).serve()
        snippet = (
            f"qemu-img convert -O raw {shlex.quote(chain)} volume.img\n"
            "# or, while plait has the store open (a server, a notebook):\n"
            f"nbdcopy '{uri}' volume.img\n"
        )
        return Location(uri, {"image": chain}, snippet)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return self.verifier(depth)(snapshot)

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        known: Known = {}
        return lambda snapshot: space.verify(self.layers, snapshot, depth, known)

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A record each; the writable layer is made when somebody first writes. Cost: O(1)."""
        staged = {}
        for key, intent in intents.items():
            layer = None if intent.base is None else self.layers.get(intent.base.version)
            asset = intent.id if intent.base is None else intent.base.asset
            path = self.folder.places(tx) / check_id(intent.id)
            self.context.failpoint("block.stage.before_place")
            self._working(path).make(asset, layer)
            staged[key] = Staging(tx, key, intent.base, str(path), {"asset": asset, "intent": intent.id})
        return staged

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> Volume:
        """A volume: writable in a working set, read-only at a commit."""
        if isinstance(target, SnapshotRef):
            return self.volume(self._version(self.layers.get(target.version)))
        return self.volume(self._place(target))

    def open_store(self, port: StagingPort) -> Volumes:
        """The volumes of this store inside a transaction."""
        return Volumes(self.store.name, port, self.layers, self._place, self)

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """Freeze each volume, under its connected clients; what they write from then on is in none of the votes.

        Cost: O(1) for the freeze, and reads what was written once, to hash it.
        """
        votes: dict[Key, SnapshotRef | None] = {}
        for done, (key, staging) in enumerate(stagings.items()):
            self.context.check_cancelled()
            self.context.progress("volumes", done, len(stagings))
            votes[key] = self._vote(tx, attempt, staging)
        return votes

    def _vote(self, tx: str, attempt: int, staging: Staging) -> SnapshotRef | None:
        record = self.folder.votes(tx) / f"{attempt}-{staging.attrs['intent']}.json"
        known = self.folder.read(record)
        if known is None:
            layer = self._place(staging).freeze(partial(self._frozen, staging.attrs["asset"]), ends=True)
            self.context.failpoint("block.prepare.before_vote")
            known = {"layer": None if layer is None else layer.id}
            self.folder.write(record, known)
        if known["layer"] is None:
            return None
        if staging.base is not None and known["layer"] == staging.base.version:
            return staging.base
        return self._refer(self.layers.get(known["layer"]), staging.attrs["asset"])

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """As a whole: the working volume stands on the snapshot's layer again. By items: those files, or extents, are
        written; all of the files or none.

        Raises: StoreUnavailable while clients are connected to the working volume.
        """
        place, layer = self._place(staging), self.layers.get(snapshot.version)
        if items is None:
            place.rest_on(layer)
        elif all(extents.extent_of(item) is not None for item in items):
            self._comparing.restore_extents(place, layer, items)
        else:
            with place.edited() as above:
                self._comparing.restore_files(above, layer, items)
        return staging

    def abort(self, tx: str) -> None:
        """Drop its volumes, cutting clients off, and every layer that it made."""
        self._ending.abort(tx)

    def release(self, tx: str, kept: Sequence[SnapshotRef]) -> None:
        """Drop its volumes, and the layers that `kept` does not need. A volume with clients stays until they have gone:
        each later release looks again."""
        self._ending.release(tx, [snapshot.version for snapshot in kept])

    # -- joining -----------------------------------------------------------------------------------------------------

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
        """By file where all sides hold an ext4 filesystem, with the registered mergers, and e2fsck's word on the
        result; else by extent. What both sides changed differently is a conflict, the rest is joined, on ours.

        Repeat: the vote is found by all arguments. Cost: reads what either side wrote.
        """
        named = [ours.version, theirs.version]
        settled = sorted(encode_resolution(one) for one in resolutions)
        arguments = digest(
            b"block-merge", pack([attempt, None if base is None else base.version, named, settled])
        ).hex()[:32]
        record = self.folder.votes(tx) / f"merge-{arguments}.json"
        known = self.folder.read(record)
        if known is not None:
            return Merged(self._refer(self.layers.get(known["layer"]), ours.asset), tuple(known.get("mergers", ())))
        sides = Sides(None if base is None else self.layers.get(base.version), *map(self.layers.get, named))
        name = Layers.new_id()
        try:
            answer = self._comparing.merge(sides, resolutions, lambda size: self._new_layer(tx, name, ours, size))
        except BaseException:
            self._ending.drop(name)  # At once: the disk may be full of it.
            raise
        if isinstance(answer, Conflicted):
            self._ending.drop(name)
            return answer
        if answer is None:
            return Merged(ours)
        self.context.failpoint("block.merge.before_seal")
        layer = self.layers.seal(answer.layer.id)
        self.context.failpoint("block.merge.before_vote")
        self.folder.write(record, {"layer": layer.id, "mergers": list(answer.mergers)})
        return Merged(self._refer(layer, ours.asset), answer.mergers)

    def _new_layer(self, tx: str, name: str, onto: SnapshotRef, size_bytes: int) -> Layer:
        """A layer of the transaction on a snapshot."""
        self.folder.note_made(self.folder.places(tx), name)
        below = self.layers.get(onto.version)
        self.layers.base_for(below)
        return self.layers.create(name, onto.asset, below, size_bytes)

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        """Heads are live volumes, each on its published layer: see `live`."""
        published = {}
        for key, move in moves.items():
            self.context.check_cancelled()
            one = move.after or move.before
            asset = "" if one is None else one.asset
            published[key] = self._heads.publish(move, partial(self._frozen, asset))
        return published

    def head(self, asset: str) -> SnapshotRef | None:
        """What is published of an asset, as recorded; what was written to its live volume since is not looked at."""
        return self._heads.read(asset).snapshot

    def live(self, asset: str) -> Volume:
        """The writable volume on what is published: for a machine that runs on it. What it writes is committed by
        `Volumes.freeze`, or adopted. Raises: NotFound for a volume that is not published."""
        if self.head(asset) is None:
            raise NotFound(f"volume {asset} is not published", remedy="publish its branch first: 'plait store check'")
        return self.volume(self._live(asset))

    def freeze(self, asset: str) -> SnapshotRef:
        """What a live volume holds now, under its machine, with the guest's hooks around. Raises: NotFound."""
        return self._heads.freeze(asset, partial(self._frozen, asset))

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        return space.reachable(self.folder, self.layers, snapshot)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        return space.inventory(self.folder, self.layers, prefix)

    def delete(self, items: Iterable[Item]) -> None:
        held = [
            *space.held_by_heads(self.layers, self._all_places("heads/*/place.json")),
            *space.held_by_working_sets(self.folder, self.layers, self._all_places("places/*/*/place.json")),
        ]
        self.context.failpoint("block.delete.before_files")
        space.delete(self.folder, self.layers, self._daemon, items, held)
        self.layers.sweep()

    def retention_risks(self) -> Iterator[Risk]:
        """Imported images are their owner's files, and may hold more than was taken in."""
        for layer in self.layers.all():
            if self.layers.is_gone(layer):
                yield Risk(
                    f"the imported image is gone, so what is built on it, from version {layer.id} on, cannot be read",
                    layer.source,
                    "put it back there, as it was: 'plait verify' names the volumes and commits that need it",
                )
            elif layer.source:
                yield Risk(
                    "an imported image is its owner's file, and can be changed or deleted past plait",
                    layer.source,
                    "keep the file as it is; or copy it into a volume that plait makes, and plait rm this one",
                )
                yield from self.layers.left_behind(layer.source)

    def close(self) -> None:
        self._daemon.close()

    def volume(self, source: Place | Version) -> Volume:
        """The handle of one place or version."""
        return Volume(source, self._filesystems)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _refer(self, layer: Layer, asset: str = "") -> SnapshotRef:
        return SnapshotRef(self.store.name, self.kind, asset or layer.asset, layer.id, bytes.fromhex(layer.digest))

    def _version(self, layer: Layer) -> Version:
        return Version(self.layers, self._daemon, layer)

    def _place(self, staging: Staging) -> Place:
        return self._working(self.folder.places(staging.tx) / check_id(staging.attrs["intent"]))

    def _working(self, path: Path) -> Place:
        return self._place_at(path, f"w-{path.name}")

    def _live(self, asset: str) -> Place:
        return self._place_at(self.folder.head(asset), f"live-{asset}")

    def _place_at(self, path: Path, export: str) -> Place:
        failpoint = self.context.failpoint
        return Place(self.folder, self.layers, self._daemon, path, export=export, failpoint=failpoint)

    def _all_places(self, pattern: str) -> Iterator[Place]:
        for path in self.folder.root.glob(pattern):
            yield self._place_at(path.parent, "")

    def _frozen(self, asset: str) -> AbstractContextManager[None]:
        return quieted(self.store, asset, self._daemon.uri(self._live(asset).export))
