"""The driver `qcow2`: a layer is an overlay that holds what it changed; what it did not is in the layers below.

An image's header is only a hint at what is below it: the record counts. A key frame is a second form of a layer: a
whole image with the same content, so that chains stay short. Whoever reads down a chain stops at the first key frame.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from plait.codec import digest, pack
from plait.errors import Corrupt, NotFound, PlaitError, StoreUnavailable
from plait.types import Depth, Risk

from plait_block import images
from plait_block.folder import translated
from plait_block.images import Image
from plait_block.layers import Known, Layer, Layers
from plait_block.ranges import Range, union

CHAIN_MAX: Final = 32
"""Reads fall from 3.9k/s without a chain to 0.27k/s at 400 layers: the 32nd layer gets a key frame."""

_RESTORE: Final = "restore that file from a backup"
_AS_IT_WAS: Final = "from where it was moved to, or from a backup; 'plait verify --depth bytes' tells whether it is"


class Qcow2Layers(Layers):
    """Overlays in a folder of any filesystem."""

    driver: ClassVar[str] = "qcow2"
    format: ClassVar[str] = "qcow2"
    flips: ClassVar[bool] = True

    def check(self) -> None:
        self._folder.make(self._folder.layers)
        probe = self._folder.layers / f".probe-{uuid.uuid4()}.qcow2"
        images.create_overlay(probe, 1 << 20, None)
        probe.unlink()

    # -- names -------------------------------------------------------------------------------------------------------

    def file(self, layer: Layer) -> Path:
        return Path(layer.source) if layer.source else self._folder.layers / f"{layer.id}.qcow2"

    def key_frame(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.key.qcow2"

    def key_record(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.key.json"

    def has_key_frame(self, layer: str) -> bool:
        return self.key_record(layer).exists()

    def own_files(self, layer: Layer) -> Sequence[Path]:
        return self.record(layer.id), self.file(layer)

    def files(self, layer: Layer) -> Iterator[Path]:
        yield self.record(layer.id)
        for image in self.chain(layer):
            yield image.path
            if image.node.startswith("k"):
                yield self.key_record(image.node[1:])
            elif image.node != f"l{layer.id}":
                yield self.record(image.node[1:])

    # -- reading -----------------------------------------------------------------------------------------------------

    def image(self, layer: Layer) -> Image:
        return Image(f"l{layer.id}", self.file(layer), layer.format)

    def chain(self, layer: Layer) -> list[Image]:
        """Down to a root or a key frame. Cost: O(depth)."""
        return [self._whole(layer), *self._below(layer.parent)]

    def _whole(self, layer: Layer) -> Image:
        """A layer's image. Raises: Corrupt when it is gone, or was cut short."""
        what, remedy = f"layer {layer.id}", _RESTORE
        if layer.source:
            what, remedy = (
                f"{what}, an imported image,",
                f"put the image back at {layer.source}, as it was: {_AS_IT_WAS}",
            )
        _check_length(self.file(layer), layer.length_bytes, what, remedy)
        return self.image(layer)

    def _below(self, parent: str | None) -> list[Image]:
        """The images that a layer on this parent goes through."""
        found: list[Image] = []
        while parent is not None:
            if self.has_key_frame(parent):
                return [*found, self._frame(parent)]
            layer = self.get(parent)
            found.append(self._whole(layer))
            parent = layer.parent
        return found

    def _frame(self, layer: str) -> Image:
        record = self._folder.read(self.key_record(layer)) or {}
        _check_length(self.key_frame(layer), record.get("length_bytes", 0), f"the key frame of layer {layer}", _RESTORE)
        return Image(f"k{layer}", self.key_frame(layer), "qcow2")

    def changed(self, before: Layer | None, after: Layer | None) -> list[Range]:
        """What the layers on the ways to the common ancestor hold. Without one, or where a layer on the way is gone
        (collected), everything that either holds."""
        *ways, common = self.ways(before, after)
        ranges = []
        for way in filter(None, ways):
            ranges += [images.own_extents(self.image(layer), is_root=layer.parent is None) for layer in way]
            smallest = min(layer.size_bytes for layer in way)
            if common is not None and smallest < common.size_bytes:
                ranges.append([(smallest, common.size_bytes)])  # Cut off, and zeroes where it grew again.
            if common is None and way[-1].parent is not None:
                ranges.append(images.own_extents(self._below(way[-1].parent)[0], is_root=True))
        return union(*ranges)

    def written(self, layer: Layer) -> list[Range]:
        return images.own_extents(self.image(layer), is_root=False)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _make(self, layer: Layer, parent: Layer | None) -> Layer:
        below = self._below(None if parent is None else parent.id)
        images.create_overlay(self.file(layer), layer.size_bytes, below[0] if below else None)
        return layer

    def check_source(self, source: str) -> None:
        images.check_sound(Path(source), images.format_of(Path(source)))

    def is_gone(self, layer: Layer) -> bool:
        return bool(layer.source) and not Path(layer.source).exists()

    def left_behind(self, source: str) -> Iterator[Risk]:
        try:
            count = images.internal_snapshots(Path(source))
        except PlaitError:
            return  # `check_source` and `verify` tell what became of it.
        if count:
            yield Risk(
                f"its internal snapshots ({count}) stay behind: only what the image holds now is taken in",
                source,
                "make an image of each to import it: qemu-img convert -l snapshot.name=NAME -O qcow2 IMAGE NEW.qcow2",
            )

    def adopt(self, source: str, asset: str) -> Layer:
        path = Path(source)
        form = images.format_of(path)
        images.check_sound(path, form)
        sha256 = images.digest_of(path)
        identity = hashlib.sha256(f"{source}\0{form}\0{sha256}".encode()).hexdigest()[:24]
        found = self.find(identity)
        if found is not None:
            return found
        size = images.virtual_size(Image("", path, form))
        told = os.stat(path)
        root = Layer(
            identity, asset, None, size, form, source, sha256, modified_ns=told.st_mtime_ns, length_bytes=told.st_size
        )
        sealed = replace(root, digest=_digest(root))
        self._write(sealed)
        return sealed

    def _hardened(self, layer: Layer, parent: Layer | None) -> Layer:
        path = self.file(layer)
        images.dig_holes(path)
        images.make_immutable(path)
        self._failpoint("block.seal.before_record")
        below = "" if parent is None else parent.digest
        told = os.stat(path)
        hashed = replace(
            layer,
            sha256=images.digest_of(path),
            below=below,
            modified_ns=told.st_mtime_ns,
            length_bytes=told.st_size,
        )
        return replace(hashed, digest=_digest(hashed))

    def base_for(self, layer: Layer) -> Image | None:
        """Cost: O(allocated) once in 32 layers, whatever the number of branches on it."""
        if self.has_key_frame(layer.id):
            return self._frame(layer.id)
        if len(self.chain(layer)) < CHAIN_MAX:
            return None
        with self._folder.locked(self._folder.run / "key-frames.lock"):
            if not self.has_key_frame(layer.id):
                path = self.key_frame(layer.id)
                try:
                    images.flatten(self.chain(layer), path)
                except StoreUnavailable as error:
                    raise StoreUnavailable(
                        f"layer {layer.id} needs a key frame, a whole copy of its volume: {error.message}",
                        remedy=f"make room in {self._folder.root}, then try again",
                    ) from error
                self._failpoint("block.key_frame.before_record")
                self._folder.write(
                    self.key_record(layer.id), {"sha256": images.digest_of(path), "length_bytes": os.stat(path).st_size}
                )
        return self._frame(layer.id)

    def _remove(self, layer: str) -> None:
        with translated(f"layer {layer}"):
            self.key_record(layer).unlink(missing_ok=True)
            for path in (self.key_frame(layer), self._folder.layers / f"{layer}.qcow2"):
                path.unlink(missing_ok=True)
                path.with_name(f".{path.name}").unlink(missing_ok=True)

    # -- checking ----------------------------------------------------------------------------------------------------

    def verify(self, layer: Layer, depth: Depth, known: Known) -> tuple[int, list[str]]:
        """All the way down to a root or a key frame."""
        problems: list[str] = []
        before = len(known)
        at: Layer | None = layer
        while at is not None:
            record = self.record(at.id)
            if record not in known:
                known[record] = self._problems(at, depth)
            problems += known[record]
            if at.parent is None:
                break
            if self.has_key_frame(at.parent):
                record = self.key_record(at.parent)
                if record not in known:
                    known[record] = self._key_frame_problems(at.parent, reads_bytes=depth is Depth.BYTES)
                problems += known[record]
                break
            parent = self.find(at.parent)
            if parent is None:
                problems.append(f"layer {at.id} is missing its parent {at.parent}")
            elif parent.digest != at.below:
                problems.append(f"layer {at.id} was written on another parent than {at.parent} is now")
            at = parent
        return len(known) - before, problems

    def _problems(self, layer: Layer, depth: Depth) -> list[str]:
        """What is wrong with one layer's own file and record."""
        path, reads_bytes = self.file(layer), depth is Depth.BYTES
        if not path.exists():
            return [f"layer {layer.id} is missing its file {path}"]
        if depth is Depth.EXISTS:
            return []
        if not layer.is_sealed:
            return [f"layer {layer.id} was never sealed"]
        if layer.digest != _digest(layer):
            return [f"the record of layer {layer.id} does not hash to its digest"]
        try:
            size = images.virtual_size(self.image(layer))
        except Corrupt as error:
            return [error.message]
        if size != layer.size_bytes:
            return [f"layer {layer.id} is of {size} bytes, expected {layer.size_bytes}"]
        length = os.stat(path).st_size
        if layer.length_bytes and length != layer.length_bytes and not reads_bytes:
            return [f"layer {layer.id} has {length} bytes in {path}, expected {layer.length_bytes}"]
        if layer.source and os.stat(path).st_mtime_ns != layer.modified_ns and not reads_bytes:
            return [f"image {path} was written to after its import: --depth bytes tells what it holds"]
        if reads_bytes and images.digest_of(path) != layer.sha256:
            return [f"layer {layer.id} holds other bytes than were committed, in {path}"]
        return []

    def _key_frame_problems(self, layer: str, *, reads_bytes: bool) -> list[str]:
        """As `_problems`, of a key frame. `reads_bytes`: hash it again."""
        path = self.key_frame(layer)
        record = self._folder.read(self.key_record(layer))
        if record is None or not path.exists():
            return [f"the key frame of layer {layer} is missing: {path}"]
        length = os.stat(path).st_size
        if length != record.get("length_bytes", length):
            return [f"the key frame of layer {layer} has {length} bytes in {path}, expected {record['length_bytes']}"]
        if reads_bytes and images.digest_of(path) != record.get("sha256"):
            return [f"the key frame of layer {layer} holds other bytes than were written, in {path}"]
        return []


def _check_length(path: Path, expected: int, what: str, remedy: str) -> None:
    """Raises: Corrupt for a file that is gone, or was cut short: what is missing would read as zeroes."""
    try:
        with translated(f"file {path} of {what}"):
            found = os.stat(path).st_size
    except NotFound as error:
        raise Corrupt(f"{what} is missing its file {path}", remedy=remedy) from error
    if found < expected:
        raise Corrupt(f"{what} has {found} bytes in {path}, expected {expected}", remedy=remedy)


def _digest(layer: Layer) -> str:
    """Over the layer's bytes and its parent's digest: equal only for equal content."""
    return digest(b"block-layer", pack([layer.size_bytes, layer.format, layer.sha256, layer.below])).hex()
