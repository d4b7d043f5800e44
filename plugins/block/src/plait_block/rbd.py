"""The driver `rbd`: a layer is a snapshot of an image in a Ceph cluster, and a working volume a clone of one.

Records are in the store's folder, bytes in the pool. Whatever is cut from a volume while clients write to it is a
snapshot of the same image (`holder`). Ceph keeps what clones share until the last of them goes, so that each layer
needs no other; but reading goes down the clones, and so the 16th gets a copy of its own to be cloned from.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from plait.errors import InvalidArgument, NotFound, StoreUnavailable, Unsupported
from plait.types import Key

from plait_block import ceph, images
from plait_block.ceph import Pool
from plait_block.extents import Reader
from plait_block.folder import Folder
from plait_block.images import Image
from plait_block.layers import Layer, Layers
from plait_block.ranges import Range, intersection, union
from plait_block.whole import WholeLayers

DEPTH_MAX: Final = 16
"""Clones below each other; the kernel's own client takes no more."""
_ORPHAN_SECONDS: Final = 3600
"""An image that no record names may be in the making."""
_SOURCE: Final = re.compile(
    r"rbd:(?P<pool>[^/@]+)/(?:(?P<namespace>[^/@]+)/)?(?P<image>[^/@]+)(?:@(?P<snapshot>[^/@]+))?"
)
_PLACE: Final = re.compile(r"rbd:(?P<pool>[^/@]+)(?:/(?P<namespace>[^/@]+))?/?")
_KEY: Final = "key-"


@dataclass(frozen=True, slots=True)
class RbdImage(Image):
    """An image, or a snapshot of one."""

    pool: Pool
    image: str
    snapshot: str | None

    def protocol(self) -> dict[str, Any]:
        where = {"pool": self.pool.pool, "namespace": self.pool.namespace, "image": self.image}
        where |= {"snapshot": self.snapshot or "", "conf": self.pool.conf, "user": self.pool.user}
        return {"driver": "rbd", **{name: value for name, value in where.items() if value}}


class RbdLayers(WholeLayers):
    """Images in one pool, whose names begin as this folder says."""

    driver: ClassVar[str] = "rbd"
    format: ClassVar[str] = "raw"
    is_read_on_when_deleted: ClassVar[bool] = False
    is_fenced_at_times: ClassVar[bool] = True

    def __init__(self, folder: Folder, failpoint: Callable[[str], None], pool: Pool) -> None:
        super().__init__(folder, failpoint)
        self.pool = pool
        self._known_prefix = ""

    def check(self) -> None:
        probe = f"plait-probe-{secrets.token_hex(8)}"
        self.pool.create(probe, 1 << 20)
        try:
            self.pool.snapshot(probe, "probe")
            images.run("qemu-img", "info", images.uri_of([self._image("probe", probe, "probe")]))
        except StoreUnavailable as error:
            raise Unsupported(f"qemu does not read images from Ceph: {error.message}", remedy=ceph.REMEDY) from error
        finally:
            self.pool.drop_snapshot(probe, "probe")
            self.pool.discard(probe)

    # -- names -------------------------------------------------------------------------------------------------------

    def _prefix(self) -> str:
        """What this store's images are called by, in a pool that may be others' as well."""
        if self._known_prefix:
            return self._known_prefix
        record = self._folder.root / "rbd.json"
        known = self._folder.read(record)
        if known is None:
            with self._folder.locked(self._folder.run / "rbd.lock"):
                known = self._folder.read(record)
                if known is None:
                    known = {"prefix": f"plait-{secrets.token_hex(6)}-"}
                    self._folder.write(record, known)
        self._known_prefix = str(known["prefix"])
        return self._known_prefix

    def _at(self, layer: Layer) -> tuple[str, str | None]:
        """The image that holds a layer, and as which snapshot: none while it is written to."""
        is_snapshot = layer.holder or layer.is_sealed
        return self._prefix() + (layer.holder or layer.id), layer.id if is_snapshot else None

    def _key(self, layer: str) -> str:
        return f"{self._prefix()}{_KEY}{layer}"

    def _key_record(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.key.json"

    def image(self, layer: Layer) -> Image:
        return self._image(f"l{layer.id}", *self._at(layer))

    def _image(self, node: str, image: str, snapshot: str | None) -> Image:
        name = image if snapshot is None else f"{image}@{snapshot}"
        return RbdImage(node, Path(f"rbd:{self.pool}/{name}"), "raw", self.pool, image, snapshot)

    def own_files(self, layer: Layer) -> Sequence[Path]:
        return (self.record(layer.id),)

    # -- reading -----------------------------------------------------------------------------------------------------

    def reading(self, layer: Layer) -> AbstractContextManager[Reader]:
        found: AbstractContextManager[Reader] = self.pool.reading(*self._at(layer))
        return found

    def _size(self, layer: Layer) -> int | None:
        return self.pool.size(*self._at(layer))

    def changed(self, before: Layer | None, after: Layer | None) -> list[Range]:
        """What the layers on the ways to the common ancestor were written; without one, or where a layer on the way is
        gone, all that either holds."""
        ranges = []
        if before is not None and after is not None and before.size_bytes != after.size_bytes:
            smaller, larger = sorted((before, after), key=lambda side: side.size_bytes)
            ranges.append(intersection(self._all(larger), [(smaller.size_bytes, larger.size_bytes)]))
        old, new, common = self.ways(before, after)
        if common is None:
            return union(*(self._all(side) for side in (before, after) if side is not None))
        return union(*ranges, *map(self._own, [*old, *new]))

    def _all(self, layer: Layer) -> list[Range]:
        return self.pool.extents(*self._at(layer), below=True)

    def _own(self, layer: Layer) -> list[Range]:
        """What was written since its parent."""
        parent = None if layer.parent is None else self.find(layer.parent)
        image, snapshot = self._at(layer)
        if parent is not None and self._at(parent) == (image, parent.id):
            return self.pool.extents(image, snapshot, since=parent.id)
        return self.pool.extents(image, snapshot)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _make(self, layer: Layer, parent: Layer | None) -> Layer:
        image = self._prefix() + layer.id
        if parent is None:
            self.pool.create(image, layer.size_bytes)
            return layer
        if self._key_record(parent.id).exists():
            self.pool.clone(self.pool, self._key(parent.id), _KEY, image, layer.size_bytes)
            return replace(layer, depth=1)
        holder, snapshot = self._at(parent)
        if snapshot is None:  # It is still written to, as far as records say: a snapshot for the clone alone.
            self.pool.snapshot(holder, layer.id)
        self.pool.clone(self.pool, holder, snapshot or layer.id, image, layer.size_bytes)
        if snapshot is None:
            self.pool.drop_snapshot(holder, layer.id)
        return replace(layer, depth=parent.depth + 1)

    def _cut(self, layer: Layer, top: Layer) -> Layer:
        self.pool.snapshot(self._prefix() + top.id, layer.id)
        return replace(layer, holder=top.id, depth=top.depth)

    def _harden(self, layer: Layer) -> None:
        self.pool.snapshot(self._prefix() + (layer.holder or layer.id), layer.id)

    def base_for(self, layer: Layer) -> Image | None:
        """A copy to be cloned from, where clones have become deep. Cost: O(allocated) once in 16 layers."""
        if layer.depth >= DEPTH_MAX and not self._key_record(layer.id).exists():
            with self._folder.locked(self._folder.run / "key-frames.lock"):
                if not self._key_record(layer.id).exists():
                    key = self._key(layer.id)
                    self.pool.copy(self._prefix() + (layer.holder or layer.id), layer.id, key)
                    self.pool.snapshot(key, _KEY)
                    self._failpoint("block.key_frame.before_record")
                    self._folder.write(self._key_record(layer.id), {"layer": layer.id})
        return None

    # -- imports -----------------------------------------------------------------------------------------------------

    def source(self, location: str, *, is_typed: bool = False) -> str:
        if not _SOURCE.fullmatch(location):
            raise InvalidArgument(
                f"{location!r} names no image in Ceph",
                remedy="name it as rbd:POOL/IMAGE or rbd:POOL/IMAGE@SNAPSHOT; a file: 'rbd import FILE POOL/IMAGE'",
            )
        return location

    def sources(self, place: str) -> Iterator[tuple[Key, str]]:
        """`rbd:POOL/IMAGE`, or all images of `rbd:POOL` or `rbd:POOL/NAMESPACE/` that are not this store's own."""
        one, all_of = _SOURCE.fullmatch(place), _PLACE.fullmatch(place)
        if one is not None and not place.endswith("/"):
            self.check_source(place)
            yield (one["image"],), place
        elif all_of is not None:
            pool = self.pool.sibling(all_of["pool"], all_of["namespace"] or "")
            for name in pool.names():
                if str(pool) != str(self.pool) or not name.startswith(self._prefix()):
                    yield (name,), f"rbd:{pool}/{name}"
        else:
            raise NotFound(f"{place} is no place in Ceph", remedy="name it as rbd:POOL or rbd:POOL/IMAGE")

    def check_source(self, source: str) -> None:
        pool, image, snapshot = self._source(source)
        if pool.size(image, snapshot) is None:
            raise NotFound(f"image {source} does not exist", remedy="see 'rbd ls' and 'rbd snap ls'")

    def _source(self, source: str) -> tuple[Pool, str, str | None]:
        found = _SOURCE.fullmatch(self.source(source))
        assert found is not None
        return self.pool.sibling(found["pool"], found["namespace"] or ""), found["image"], found["snapshot"]

    def adopt(self, source: str, asset: str) -> Layer:
        """A clone of the image as it is, so that what its owner does to it later does not matter; but for deleting it,
        which Ceph refuses while the clone is there."""
        self.check_source(source)
        pool, image, snapshot = self._source(source)
        made = Layers.new_id()
        taken = snapshot or f"plait-{made}"
        if snapshot is None:
            pool.snapshot(image, taken)
        try:
            size = pool.size(image, taken)
            assert size is not None
            layer = Layer(made, asset, None, size, "raw", driver="rbd", depth=1)
            self._folder.make(self._folder.layers)
            self.pool.clone(pool, image, taken, self._prefix() + made, size)
        finally:
            if snapshot is None:
                pool.drop_snapshot(image, taken)
        hashed = self._hashed(layer, None)
        identity = hashlib.sha256(f"{source}\0{hashed.digest}".encode()).hexdigest()[:24]
        found = self.find(identity)
        if found is not None:
            self._drop(made)
            return found
        sealed = replace(hashed, id=identity, holder=made)
        self._harden(sealed)
        self._failpoint("block.adopt.before_record")
        self._write(sealed)
        return sealed

    # -- dropping ----------------------------------------------------------------------------------------------------

    def _remove(self, layer: str) -> None:
        found = self.find(layer)
        holder = layer if found is None else found.holder or layer
        self.pool.drop_snapshot(self._prefix() + holder, layer)
        if holder == layer or self.find(holder) is None:
            self._drop(holder, but=layer)
        self.pool.empty_trash(self._prefix())

    def forget_bytes(self, layer: str) -> None:
        self._remove(layer)

    def _drop(self, holder: str, *, but: str = "") -> None:
        """An image, unless it holds layers that have records (`but`: other than this)."""
        image = self._prefix() + holder
        held = self.pool.snapshots(image)
        if any(name != but and self.find(name) is not None for name in held):
            return
        for name in held:
            self.pool.drop_snapshot(image, name)
        self.pool.discard(image)

    def sweep(self) -> None:
        prefix = self._prefix()
        for name in self.pool.names():
            if not name.startswith(prefix):
                continue
            layer = name.removeprefix(prefix)
            is_key = layer.startswith(_KEY)
            record = self._key_record(layer.removeprefix(_KEY)) if is_key else self.record(layer)
            if not record.exists() and time.time() - self.pool.created(name) > _ORPHAN_SECONDS:
                self._drop(layer)
        self.pool.empty_trash(prefix)
