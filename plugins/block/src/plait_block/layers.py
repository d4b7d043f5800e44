"""Frozen layers: the record of each is what counts, and names its parent; an image's header is only a hint.

A layer without a digest in its record is still written to; sealing it makes it immutable and durable, and gives it the
digest of its bytes and of its parent's. A key frame is a second form of a layer: a whole image with the same content,
so that chains stay short. Whoever reads down a chain stops at the first key frame.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from plait.codec import digest, pack
from plait.errors import Corrupt, NotFound

from plait_block import images
from plait_block.folder import Folder, sync, translated
from plait_block.images import Image

CHAIN_MAX: Final = 32
"""Reads fall from 3.9k/s without a chain to 0.27k/s at 400 layers: the 32nd layer gets a key frame."""
_ID: Final = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's record. `source`: an imported image, in place;
    `below`: the parent's digest, which stays known when the parent is collected."""

    id: str
    asset: str
    parent: str | None
    size_bytes: int
    format: str = "qcow2"
    source: str = ""
    sha256: str = ""
    below: str = ""
    digest: str = ""
    modified_ns: int = 0

    @property
    def is_sealed(self) -> bool:
        return bool(self.digest)


class Layers:
    """All layers of one store. Thread-safe: every change is one file's."""

    def __init__(self, folder: Folder, failpoint: Callable[[str], None]) -> None:
        self._folder = folder
        self._failpoint = failpoint

    # -- names -------------------------------------------------------------------------------------------------------

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(12)

    def record(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.json"

    def file(self, layer: Layer) -> Path:
        return Path(layer.source) if layer.source else self._folder.layers / f"{layer.id}.qcow2"

    def key_frame(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.key.qcow2"

    def key_record(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.key.json"

    # -- reading -----------------------------------------------------------------------------------------------------

    def find(self, layer: str) -> Layer | None:
        if not _ID.fullmatch(layer):
            return None
        record = self._folder.read(self.record(layer))
        if record is None:
            return None
        try:
            return Layer(**record)
        except TypeError as error:
            raise Corrupt(f"the record of layer {layer} cannot be read: {error}") from error

    def get(self, layer: str) -> Layer:
        """Raises: NotFound, Corrupt."""
        found = self.find(layer)
        if found is None:
            raise NotFound(f"layer {layer!r} does not exist in {self._folder.root}", remedy="see 'plait verify'")
        return found

    def image(self, layer: Layer) -> Image:
        return Image(f"l{layer.id}", self.file(layer), layer.format)

    def chain(self, layer: Layer) -> list[Image]:
        """The images that reading this layer goes through, top first, down to a root or a key frame. Cost: O(depth)."""
        return [self.image(layer), *self.below(layer.parent)]

    def below(self, parent: str | None) -> list[Image]:
        """The images that a layer on this parent goes through."""
        found: list[Image] = []
        while parent is not None:
            if self.has_key_frame(parent):
                return [*found, Image(f"k{parent}", self.key_frame(parent), "qcow2")]
            layer = self.get(parent)
            found.append(self.image(layer))
            parent = layer.parent
        return found

    def has_key_frame(self, layer: str) -> bool:
        return self.key_record(layer).exists()

    def lineage(self, layer: str | None) -> Iterator[Layer]:
        """A layer and its ancestors, as far as they are still there."""
        while layer is not None:
            found = self.find(layer)
            if found is None:
                return
            yield found
            layer = found.parent

    def all(self) -> Iterator[Layer]:
        """Every layer that has a record, by id."""
        if self._folder.layers.is_dir():
            for path in sorted(self._folder.layers.glob("*.json")):
                found = self.find(path.stem)
                if found is not None:
                    yield found

    # -- writing -----------------------------------------------------------------------------------------------------

    def create(self, layer: str, asset: str, parent: Layer | None, size_bytes: int) -> Layer:
        """A new layer to write to, empty on its parent. Repeat: the same one."""
        found = self.find(layer)
        if found is not None:
            return found
        self._folder.make(self._folder.layers)
        below = self.below(None if parent is None else parent.id)
        made = Layer(layer, asset, None if parent is None else parent.id, size_bytes)
        images.create_overlay(self.file(made), size_bytes, below[0] if below else None)
        self._failpoint("block.layer.before_record")
        self._folder.write(self.record(layer), _encode(made))
        return made

    def adopt(self, source: Path, asset: str) -> Layer:
        """An existing image as a root, where it is: nothing is copied. Equal bytes are an equal layer.

        Cost: reads the image once, but for its holes.
        """
        form = images.format_of(source)
        sha256 = images.digest_of(source)
        identity = hashlib.sha256(f"{source}\0{form}\0{sha256}".encode()).hexdigest()[:24]
        found = self.find(identity)
        if found is not None:
            return found
        size = images.virtual_size(Image("", source, form))
        modified = os.stat(source).st_mtime_ns
        root = Layer(identity, asset, None, size, form, str(source), sha256, modified_ns=modified)
        sealed = replace(root, digest=_digest(root))
        self._folder.write(self.record(identity), _encode(sealed))
        return sealed

    def seal(self, layer: str) -> Layer:
        """Make a layer that nobody writes to any more immutable and durable, its ancestors first. Repeat: no-op.

        Cost: reads what it changed, once.
        """
        found = self.get(layer)
        if found.is_sealed:
            return found
        parent = None if found.parent is None else self.seal(found.parent)
        path = self.file(found)
        images.dig_holes(path)
        with translated(f"layer {path}"):
            sync(path)
            path.chmod(0o444)
            sync(path.parent)
        self._failpoint("block.seal.before_record")
        below = "" if parent is None else parent.digest
        hashed = replace(found, sha256=images.digest_of(path), below=below, modified_ns=os.stat(path).st_mtime_ns)
        sealed = replace(hashed, digest=_digest(hashed))
        self._folder.write(self.record(layer), _encode(sealed))
        return sealed

    def base_for(self, layer: Layer) -> bool:
        """Make a frozen layer ready to be built upon: when its chain has become long, it gets a key frame (True).

        Repeat: no-op. Cost: O(allocated) once in 32 layers, whatever the number of branches on it.
        """
        if self.has_key_frame(layer.id):
            return True
        if len(self.chain(layer)) < CHAIN_MAX:
            return False
        with self._folder.locked(self._folder.run / "key-frames.lock"):
            if not self.has_key_frame(layer.id):
                path = self.key_frame(layer.id)
                images.flatten(self.chain(layer), path)
                self._failpoint("block.key_frame.before_record")
                self._folder.write(self.key_record(layer.id), {"sha256": images.digest_of(path)})
        return True

    def remove(self, layer: str) -> None:
        """Drop a layer that no snapshot needs: the record last. Repeat: no-op."""
        with translated(f"layer {layer}"):
            for path in (self.key_record(layer), self.key_frame(layer)):
                path.unlink(missing_ok=True)
            (self._folder.layers / f"{layer}.qcow2").unlink(missing_ok=True)
            (self._folder.layers / f".{layer}.qcow2").unlink(missing_ok=True)
            self.record(layer).unlink(missing_ok=True)

    # -- checking ----------------------------------------------------------------------------------------------------

    def problems(self, layer: Layer, *, reads_bytes: bool) -> list[str]:
        """What is wrong with one layer's own file and record. `reads_bytes`: hash it again."""
        path = self.file(layer)
        if not path.exists():
            return [f"layer {layer.id} is missing its file {path}"]
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
        if layer.source and os.stat(path).st_mtime_ns != layer.modified_ns and not reads_bytes:
            return [f"image {path} was written to after its import"]
        if reads_bytes and images.digest_of(path) != layer.sha256:
            return [f"layer {layer.id} holds other bytes than were committed, in {path}"]
        return []

    def key_frame_problems(self, layer: str, *, reads_bytes: bool) -> list[str]:
        """As `problems`, of a key frame."""
        path = self.key_frame(layer)
        record = self._folder.read(self.key_record(layer))
        if record is None or not path.exists():
            return [f"the key frame of layer {layer} is missing: {path}"]
        if reads_bytes and images.digest_of(path) != record.get("sha256"):
            return [f"the key frame of layer {layer} holds other bytes than were written, in {path}"]
        return []


def _encode(layer: Layer) -> dict[str, object]:
    return {name: getattr(layer, name) for name in Layer.__slots__}


def _digest(layer: Layer) -> str:
    """Over the layer's bytes and its parent's digest: equal only for equal content."""
    return digest(b"block-layer", pack([layer.size_bytes, layer.format, layer.sha256, layer.below])).hex()
