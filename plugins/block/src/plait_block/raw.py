"""The driver `raw`: a layer is a whole sparse file, which shares its blocks with the layers that it came from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from plait.errors import Unsupported

from plait_block import images, reflinks
from plait_block.extents import Reader
from plait_block.folder import translated
from plait_block.images import Image
from plait_block.layers import Layer
from plait_block.ranges import Range
from plait_block.whole import WholeLayers


class RawLayers(WholeLayers):
    """Files on one filesystem with reflinks."""

    driver: ClassVar[str] = "raw"
    format: ClassVar[str] = "raw"
    _can_share = False

    def check(self) -> None:
        self._folder.make(self._folder.layers)
        reflinks.check(self._folder.layers)
        self._can_share = True

    def file(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.raw"

    def image(self, layer: Layer) -> Image:
        return Image(f"l{layer.id}", self.file(layer.id), "raw")

    def own_files(self, layer: Layer) -> Sequence[Path]:
        return self.record(layer.id), self.file(layer.id)

    def changed(self, before: Layer | None, after: Layer | None) -> list[Range]:
        old, new = ([] if side is None else reflinks.extents(self.file(side.id)) for side in (before, after))
        return reflinks.differing(old, new)

    @contextmanager
    def reading(self, layer: Layer) -> Iterator[Reader]:
        path = self.file(layer.id)
        with translated(f"file {path}"):
            descriptor = os.open(path, os.O_RDONLY)
        try:
            with translated(f"file {path}"):
                yield _File(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _make(self, layer: Layer, parent: Layer | None) -> Layer:
        if not self._can_share:
            self.check()
        path = self.file(layer.id)
        if not path.exists():
            temporary = path.with_name(f".{path.name}")
            if parent is None:
                with translated(f"file {temporary}"), temporary.open("wb") as stream:
                    stream.truncate(layer.size_bytes)
            else:
                reflinks.clone(self.file(parent.id), temporary, layer.size_bytes)
            images.keep(temporary, path)
        return layer

    def _cut(self, layer: Layer, top: Layer) -> Layer:
        return self._make(layer, top)

    def _harden(self, layer: Layer) -> None:
        images.make_immutable(self.file(layer.id))

    def check_source(self, source: str) -> None:
        path = Path(source)
        form = images.format_of(path)
        if form != "raw":
            raise Unsupported(
                f"image {path} is a {form} image, and the driver raw takes raw ones",
                remedy="convert it first: qemu-img convert -O raw IMAGE NEW.img",
            )
        images.check_sound(path, form)
        # A first look that writes nothing: cloning alone is certain.
        if self._folder.root.exists() and reflinks.filesystem_of(path) != reflinks.filesystem_of(self._folder.root):
            raise reflinks.elsewhere(path, self._folder.root)

    def adopt(self, source: str, asset: str) -> Layer:
        """A clone of the image, so that what its owner does to it later does not matter. Cost: as of every driver."""
        self.check_source(source)
        if not self._can_share:
            self.check()
        size = Path(source).stat().st_size
        first = Layer(hashlib.sha256(source.encode()).hexdigest()[:24], asset, None, size, "raw", driver="raw")
        with self._folder.locked(self._folder.run / "adopt.lock"):
            path = self.file(first.id)
            reflinks.clone(Path(source), path, size)
            hashed = self._hashed(first, None)
            identity = hashlib.sha256(f"{source}\0{hashed.digest}".encode()).hexdigest()[:24]
            found = self.find(identity)
            if found is not None:
                path.unlink()
                return found
            images.make_immutable(path)
            images.keep(path, self.file(identity))
            self._failpoint("block.adopt.before_record")
            sealed = replace(hashed, id=identity)
            self._write(sealed)
            return sealed

    def _remove(self, layer: str) -> None:
        path = self.file(layer)
        with translated(f"layer {layer}"):
            path.unlink(missing_ok=True)
            path.with_name(f".{path.name}").unlink(missing_ok=True)

    # -- checking ----------------------------------------------------------------------------------------------------

    def _size(self, layer: Layer) -> int | None:
        try:
            return self.file(layer.id).stat().st_size
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    size_bytes: int

    def read_many(self, ranges: Iterable[Range]) -> Iterator[bytes]:
        return (os.pread(self.descriptor, end - start, start) for start, end in ranges)
