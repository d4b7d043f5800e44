"""Frozen layers: the record of each is what counts, and names its parent. Where the bytes are is each driver's own.

A layer without a digest in its record is still written to; sealing it makes it immutable and durable, and gives it the
digest of its content.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.types import Depth

from plait_block.folder import Folder
from plait_block.images import Image
from plait_block.ranges import Range

_ID: Final = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's record. `source`: an imported image, in place;
    `below`: the parent's digest, which stays known when the parent is collected; `pages`: see `content`."""

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
    driver: str = "qcow2"
    pages: str = ""

    @property
    def is_sealed(self) -> bool:
        return bool(self.digest)


class Layers(ABC):
    """All layers of one store, kept by one driver. Thread-safe: every change is one file's."""

    driver: ClassVar[str]
    """What the store's option says."""

    format: ClassVar[str]
    """How the daemon is to read a layer that this driver made."""

    flips: ClassVar[bool]
    """How a volume is cut under its clients. True: it goes on in a new layer, put on top, and what was the top is the
    cut. False: it goes on where it is, and the cut is a new layer, made beside it in one atomic step."""

    def __init__(self, folder: Folder, failpoint: Callable[[str], None]) -> None:
        self._folder = folder
        self._failpoint = failpoint

    # -- what each driver does ---------------------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Make and drop a probe. Raises: Unsupported with what is missing here, and how to get it."""

    @abstractmethod
    def check_source(self, source: Path) -> str:
        """The format of an image that `adopt` would take in. Raises: NotFound, InvalidArgument, Unsupported."""

    @abstractmethod
    def adopt(self, source: Path, asset: str) -> Layer:
        """An existing image as a root, without a copy. Equal bytes are an equal layer. Cost: reads the image once, but
        for its holes. Raises: as `check_source`."""

    @abstractmethod
    def image(self, layer: Layer) -> Image:
        """What the daemon opens to read this layer itself."""

    def chain(self, layer: Layer) -> list[Image]:
        """The images that reading this layer goes through, top first."""
        return [self.image(layer)]

    def base_for(self, layer: Layer) -> Image | None:
        """Make a frozen layer ready to be built upon; its key frame, when its chain has become long enough for one.
        Repeat: no-op."""
        return None

    @abstractmethod
    def changed(self, before: Layer | None, after: Layer | None) -> list[Range]:
        """Ranges that may differ between two layers. Cost: O(extents), and no data is read."""

    @abstractmethod
    def written(self, layer: Layer) -> list[Range]:
        """Ranges that were written to since a layer was made. Where cuts flip, not for one that is served: its daemon
        knows them. Cost: as of `changed`."""

    @abstractmethod
    def own_files(self, layer: Layer) -> Sequence[Path]:
        """The files that hold this layer itself, its record first."""

    def files(self, layer: Layer) -> Iterator[Path]:
        """Every file that reading this layer needs."""
        yield from self.own_files(layer)

    @abstractmethod
    def verify(self, layer: Layer, depth: Depth) -> tuple[int, list[str]]:
        """How many layers were looked at, and what is wrong. EXISTS: every file is there. METADATA: records hash to
        their digests, images have their sizes. BYTES: every file holds what was written."""

    @abstractmethod
    def _make(self, layer: Layer, content: Layer | None) -> None:
        """The bytes of a new layer: those of another one, or zeroes. Whole or absent, durable. Repeat: no-op."""

    @abstractmethod
    def _hardened(self, layer: Layer, parent: Layer | None) -> Layer:
        """Make the bytes immutable and durable; the layer with its digest. Repeat: the same."""

    @abstractmethod
    def _remove(self, layer: str) -> None:
        """Drop the bytes. Repeat: no-op."""

    # -- records -----------------------------------------------------------------------------------------------------

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(12)

    def record(self, layer: str) -> Path:
        return self._folder.layers / f"{layer}.json"

    def find(self, layer: str) -> Layer | None:
        """Raises: Corrupt; InvalidArgument for what another driver made."""
        if not _ID.fullmatch(layer):
            return None
        record = self._folder.read(self.record(layer))
        if record is None:
            return None
        try:
            found = Layer(**record)
        except TypeError as error:
            raise Corrupt(f"the record of layer {layer} cannot be read: {error}") from error
        if found.driver != self.driver:
            raise InvalidArgument(
                f"layer {layer} was made by the driver {found.driver!r}, and the store has {self.driver!r}",
                remedy=f"use --option driver={found.driver}, or another folder",
            )
        return found

    def get(self, layer: str) -> Layer:
        """Raises: NotFound, Corrupt."""
        found = self.find(layer)
        if found is None:
            raise NotFound(f"layer {layer!r} does not exist in {self._folder.root}", remedy="see 'plait verify'")
        return found

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

    def create(
        self, layer: str, asset: str, parent: Layer | None, size_bytes: int, *, content: Layer | None = None
    ) -> Layer:
        """A new layer on its parent, to write to: it holds what the parent does, or `content`. Repeat: the same one."""
        found = self.find(layer)
        if found is not None:
            return found
        self._folder.make(self._folder.layers)
        below = None if parent is None else parent.id
        made = Layer(layer, asset, below, size_bytes, format=self.format, driver=self.driver)
        self._make(made, content or parent)
        self._failpoint("block.layer.before_record")
        self._write(made)
        return made

    def put_on(self, layer: str, parent: str) -> None:
        """Record that a layer which is written to has another parent. Repeat: no-op."""
        found = self.get(layer)
        if found.parent != parent:
            self._write(replace(found, parent=parent))

    def seal(self, layer: str) -> Layer:
        """Make a layer that nobody writes to any more immutable and durable, its ancestors first. Repeat: no-op.

        Cost: reads what it changed, once.
        """
        found = self.get(layer)
        if found.is_sealed:
            return found
        parent = None if found.parent is None else self.seal(found.parent)
        sealed = self._hardened(found, parent)
        self._write(sealed)
        return sealed

    def remove(self, layer: str) -> None:
        """Drop a layer that no snapshot needs: the record last. Repeat: no-op."""
        self._remove(layer)
        self.record(layer).unlink(missing_ok=True)

    def _write(self, layer: Layer) -> None:
        self._folder.write(self.record(layer.id), {name: getattr(layer, name) for name in Layer.__slots__})
