"""The adapters for buckets and for directories: one implementation over two object stores.

An asset is a set of objects under keys. A snapshot is a manifest of them, kept in the store; the bytes that it names
are pinned, so no write outside plait alters it. The native head is one small object per asset.
"""

from __future__ import annotations

import json
import shlex
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, Final

from plait.adapter import Adapter, Capability, Context, Side, StagingPort
from plait.codec import digest, pack, unpack
from plait.errors import InvalidArgument, NotFound, PlaitError, Unsupported
from plait.refspec import check_key
from plait.types import (
    Choice,
    Conflicted,
    Depth,
    Found,
    Health,
    Intent,
    Item,
    ItemChange,
    ItemChangeKind,
    Key,
    Location,
    Merged,
    Move,
    Published,
    Resolution,
    SnapshotRef,
    Staging,
    Store,
)

from plait_s3 import space
from plait_s3.blobs import EDITS, STAGING, Blobs
from plait_s3.csv_merge import mergers_by_keys
from plait_s3.filesystem import AssetFileSystem
from plait_s3.heads import publish_head
from plait_s3.importing import folders_below, import_prefix, listed
from plait_s3.manifest import (
    NOTHING,
    PACKS,
    Manifest,
    Packs,
    Root,
    write_manifest,
)
from plait_s3.objects import ObjectMerge, changed_entries, describe
from plait_s3.overlay import Overlay, Place, base_of, place_of
from plait_s3.parallel import side_by_side
from plait_s3.probe import probe
from plait_s3.verifying import Verifier
from plait_s3.voting import find_pack, vote

_IMPORTS: Final = uuid.UUID("6f0f7b1c-6f3f-5c0e-9b61-0f4bb2f4f3d1")
"""The namespace of imported assets' ids: a prefix that is imported again is the same asset."""


class ObjectAdapter(Adapter):
    """Prefixes of an object store. Subclasses say which store."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
            Capability.DISCOVER,
            Capability.OBJECTS,
        }
    )
    options_known: ClassVar[frozenset[str]]
    option_needed: ClassVar[str]
    copies: ClassVar[str]
    """Whether imports copy, unless the option `copy` says otherwise."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        if not store.options.get(self.option_needed):
            raise InvalidArgument(
                f"store {store.name!r} needs the option {self.option_needed!r}",
                remedy=f"write --option {self.option_needed}=…",
            )
        for name in store.options:
            if name not in self.options_known:
                raise InvalidArgument(
                    f"stores of kind {self.kind!r} have no option {name!r}",
                    remedy=f"known are {', '.join(sorted(self.options_known))}",
                )
        if store.options.get("copy", "false") not in ("true", "false"):
            raise InvalidArgument(f"option 'copy' of store {store.name!r} is neither true nor false")
        self._mergers = mergers_by_keys(store.options.get("csv_keys", ""))

    @cached_property
    def blobs(self) -> Blobs:
        """The objects. Credentials are resolved on first use."""
        return self._connect()

    @abstractmethod
    def _connect(self) -> Blobs: ...

    @cached_property
    def packs(self) -> Packs:
        """The manifests' packs, with a cache."""
        return Packs(self.blobs)

    def _refer(self, asset: str, root: Root) -> SnapshotRef:
        return SnapshotRef(self.store.name, self.kind, asset, root.pack, root.node)

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        return probe(self.blobs)

    def discover(self, place: str) -> Iterator[Found]:
        """A prefix or folder as one asset; with `/*` at its end each folder right below it as one.

        Cost: one listing. Raises: NotFound where nothing is below it.
        """
        each = place == "*" or place.endswith("/*")
        prefix = self.blobs.key_of(place[:-1] if each else place)
        names = folders_below(self.blobs, prefix) if each else [""]
        if not each:
            listed(self.blobs, prefix)
        for name in names:
            found = "/".join(filter(None, (prefix, name)))
            key = (name or prefix.rpartition("/")[2] or self.store.name,)
            yield Found(key, self.blobs.uri(found), self._refusal(key), asset=self._asset_of(found))

    def _refusal(self, name: Key) -> str:
        try:
            check_key((self.store.name, *name))
            self._check_importable()
        except PlaitError as error:
            return str(error)
        return ""

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Commit what existing prefixes (or folders, of any place on the disk) hold now. In place where the bucket
        keeps versions; else by copying, where the store's option `copy` allows it.

        Raises: NotFound for an empty prefix; Unsupported without versions and without `copy`.
        """
        self._check_importable()
        return {key: self._import(location) for key, location in assets.items()}

    def _check_importable(self) -> None:
        if not self.blobs.versioned and self.store.options.get("copy", self.copies) != "true":
            raise Unsupported(
                f"store {self.store.name!r} keeps no versions, so later writes would alter what is imported in place",
                remedy="set --option copy=true to import by copying, or enable versioning on the bucket",
            )

    def _import(self, location: str) -> SnapshotRef:
        prefix = self.blobs.key_of(location)
        asset = self._asset_of(prefix)
        return self._refer(asset, import_prefix(self.blobs, self.packs, self.context, prefix, asset))

    def _asset_of(self, prefix: str) -> str:
        return str(uuid.uuid5(_IMPORTS, f"{self.store.name}\0{prefix}"))

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        """Objects, by their content: one that only moved inside the store is none. Cost: O(changes · log objects)."""
        sides = [self._side(side) for side in (before, after)]
        manifest = Manifest(self.packs, *(root for root, _ in sides))
        old, new = (manifest.tree.apply(root.node, edits) if edits else root.node for root, edits in sides)
        for key, was, now in changed_entries(manifest, old, new, items):
            self.context.check_cancelled()
            kind = ItemChangeKind.CHANGED
            if was is None or now is None:
                kind = ItemChangeKind.ADDED if was is None else ItemChangeKind.REMOVED
            yield ItemChange(key, kind, "object", describe(was), describe(now))

    def _side(self, side: Side) -> tuple[Root, Mapping[bytes, bytes | None]]:
        if side is None:
            return NOTHING, {}
        if isinstance(side, SnapshotRef):
            return Root(side.version, side.digest), {}
        return base_of(side), Overlay(self.blobs, self.packs, place_of(side), base_of(side)).as_edits()

    def locate(self, target: SnapshotRef | Staging) -> Location:
        """The manifest's pack; the snippet reads it with the store's credentials alone, without a server.

        A staging is a prefix: what is put there is in the working set; `plait rm` removes objects.
        """
        shown = {
            name: value
            for name, value in self.store.options.items()
            if name not in ("access_key", "secret_key") or value.startswith(("env:", "file:"))
        }
        if isinstance(target, Staging):
            put = f"cp FILE {shlex.quote(target.location)}\n"
            if target.location.startswith("s3://"):
                endpoint = f" --endpoint-url {shlex.quote(shown['endpoint'])}" if "endpoint" in shown else ""
                put = f"aws s3 {put.rstrip()}{endpoint}\n"
            return Location(target.location, shown, put)
        arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(shown.items()))
        snippet = (
            "import plait_s3\n"
            f"fs = plait_s3.open_snapshot(\n"
            f"    {self.kind!r}, {target.version!r}, {target.digest.hex()!r}, {arguments}\n"
            ")\n"
            "fs.find('')   # an fsspec file system\n"
        )
        return Location(f"{self.blobs.uri(PACKS + target.version)}#{target.digest.hex()}", shown, snippet)

    def presign(self, snapshot: SnapshotRef, item: str, *, seconds: int = 3600) -> str:
        """A link to one object of a snapshot that needs no credentials for a while. Raises: NotFound, Unsupported."""
        entry = self._view(snapshot).find(item)
        if entry is None:
            raise NotFound(f"the snapshot holds no object {item!r}")
        return self.blobs.presign(entry.key, version=entry.version, seconds=seconds)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return Verifier(self.blobs, self.context, depth).verify(snapshot)

    def verifier(self, depth: Depth) -> Callable[[SnapshotRef], Health]:
        return Verifier(self.blobs, self.context, depth).verify

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        """A prefix of the transaction's own for each; nothing is copied."""
        stagings = {}
        for key, intent in intents.items():
            place, base = Place(tx, intent.id), intent.base
            self.blobs.make_folder(place.objects)
            attrs = {"intent": intent.id, "asset": intent.id if base is None else base.asset}
            stagings[key] = Staging(tx, key, base, self.blobs.uri(place.objects), attrs)
        return stagings

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> AssetFileSystem:
        """An fsspec file system rooted at the asset: writable for a staging with its port, else read-only.

        Raises on writing to a snapshot: Unsupported.
        """
        if isinstance(target, SnapshotRef):
            return AssetFileSystem(self.blobs, self._view(target), is_writable=False, asset=target.asset)
        overlay = Overlay(self.blobs, self.packs, place_of(target), base_of(target))
        return AssetFileSystem(self.blobs, overlay, is_writable=port is not None, asset=target.attrs["asset"])

    def _view(self, snapshot: SnapshotRef) -> Overlay:
        return Overlay(self.blobs, self.packs, None, Root(snapshot.version, snapshot.digest))

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        """Pin what was staged, and write the manifest: one PUT each. A staged object equal to the base's is no change.

        Repeat: the pack is found by (tx, attempt), whatever was written since.
        """
        votes: dict[Key, SnapshotRef | None] = {}
        for done, (key, staging) in enumerate(stagings.items()):
            self.context.check_cancelled()
            self.context.progress("assets", done, len(stagings))
            votes[key] = self._vote(attempt, staging)
        return votes

    def _vote(self, attempt: int, staging: Staging) -> SnapshotRef:
        base, voted = staging.base, vote(self.blobs, self.packs, self.context, staging, attempt)
        if base is not None and voted.node == base.digest:
            return base
        return self._refer(staging.attrs["asset"], voted)

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        """As a whole: what was staged is dropped and the snapshot lies under the staging (open handles again).
        By items: each is what the snapshot holds, without a copy. Repeat: no-op."""
        view = self._view(snapshot)
        overlay = Overlay(self.blobs, self.packs, place_of(staging), base_of(staging))
        if items is None:
            overlay.clear()
            self.context.failpoint("objects.restore.cleared")
            restored = {"restored-pack": snapshot.version, "restored-root": snapshot.digest.hex()}
            return replace(staging, attrs={**staging.attrs, **restored})
        for item in items:
            self.context.check_cancelled()
            entry = view.kept(item)
            if entry is None:
                overlay.remove(item)
            else:
                overlay.link(item, entry)
            self.context.failpoint("objects.restore.after_item")
        return staging

    def abort(self, tx: str) -> None:
        """Drop its stagings and manifests. Pinned objects may be others' too: retention collects them."""
        with suppress(NotFound):  # Without the bucket there is nothing to drop.
            self._drop(tx, (STAGING, EDITS, PACKS))

    def release(self, tx: str, kept: Sequence[SnapshotRef]) -> None:
        """Drop its stagings, whose content is at content addresses now. Where the bucket keeps versions, the staged
        objects are themselves what the commit names, and stay. Manifests of lost attempts are left to retention."""
        self._drop(tx, (EDITS,) if self.blobs.versioned else (STAGING, EDITS))

    def _drop(self, tx: str, areas: Sequence[str]) -> None:
        if tx in ("", ".", "..") or "/" in tx:
            raise InvalidArgument(f"{tx!r} is no working set's id")
        for area in areas:
            self.blobs.drop_folder(f"{area}{tx}/")
            self.context.failpoint("objects.drop.after_area")

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
        """Object by object; where both sides changed one, by the registered merger that fits its name.

        Repeat: the pack is found by all arguments.
        """
        roots = [NOTHING if side is None else Root(side.version, side.digest) for side in (base, ours, theirs)]
        settled = sorted(
            (one.item or "", one.item is None, one.choice.value, json.dumps(one.value)) for one in resolutions
        )
        arguments = digest(b"s3-merge", pack([attempt, [root.node for root in roots], settled])).hex()[:32]
        stem = f"{tx}/merge-{arguments}.{ours.asset}"
        known = find_pack(self.blobs, self.packs, stem)
        titles = f"{PACKS}{tx}/mergers-{arguments}.{ours.asset}"
        if known is not None:
            return Merged(self._refer(ours.asset, known), self._titles(titles))
        mergers = [*self._mergers, *self.context.mergers()]
        joined = ObjectMerge(self.blobs, self.context, resolutions, mergers).run(
            Manifest(self.packs, *roots), base=roots[0].node, ours=roots[1].node, theirs=roots[2].node
        )
        if joined.conflicts:
            whole = next((one.choice for one in resolutions if one.item is None), None)
            side = {Choice.OURS: ours, Choice.THEIRS: theirs, Choice.BASE: base}.get(whole) if whole else None
            return Merged(side) if side is not None else Conflicted(joined.conflicts)
        if not joined.edits:
            return Merged(ours)
        manifest = Manifest(self.packs, roots[1])
        root = manifest.tree.apply(roots[1].node, joined.edits)
        if joined.mergers:
            self.context.failpoint("objects.merge.before_titles")
            self.blobs.put(titles, pack(list(joined.mergers)))
        self.context.failpoint("objects.merge.before_pack")
        written = write_manifest(self.blobs, manifest, root, stem, self.context.failpoint)
        return Merged(self._refer(ours.asset, written), joined.mergers)

    def _titles(self, key: str) -> tuple[str, ...]:
        """The mergers of a merge that was made before: so that a repeated one answers the same."""
        try:
            return tuple(unpack(self.blobs.get(key), "the mergers of a merge"))
        except NotFound:
            return ()

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        """The content itself: heads carry the seq of their publication, so no ancestry is needed."""
        return content

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        def move_one(move: Move) -> Published:
            self.context.check_cancelled()
            return publish_head(self.blobs, move, self.context.failpoint)

        return dict(zip(moves, side_by_side(move_one, moves.values()), strict=True))

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        yield from space.reachable(self.blobs, self.packs, snapshot, self.context)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        yield from space.inventory(self.blobs, prefix)

    def delete(self, items: Iterable[Item]) -> None:
        space.delete(self.blobs, items, self.context)
        self.packs.forget()

    def close(self) -> None:
        if "blobs" in self.__dict__:
            self.blobs.close()
