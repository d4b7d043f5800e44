"""Frozen layers: the record of each is what counts, and names its parent. Where the bytes are is each driver's own.

A layer without a digest in its record is still written to; sealing it makes it immutable and durable, and gives it the
digest of its content.
"""

from __future__ import annotations

import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.types import Depth, Key, Risk

from plait_block import images
from plait_block.folder import Folder
from plait_block.images import Image
from plait_block.ranges import Range

_ID: Final = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's record. `source`: an imported image, in place;
    `below`: the parent's digest, which stays known when the parent is collected; `pages`: see `content`; `holder`: the
    layer in whose image it is a snapshot; `depth`: of images below its own; `length_bytes`: of its file, where the
    volume's size does not tell that; 0: it was not noted."""

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
    holder: str = ""
    depth: int = 0
    length_bytes: int = 0

    @property
    def is_sealed(self) -> bool:
        return bool(self.digest)


Known: TypeAlias = dict[Path, list[str]]
"""What is wrong with layers and key frames, at one depth, by their records."""


class Layers(ABC):
    """All layers of one store, kept by one driver. Thread-safe: every change is one file's."""

    driver: ClassVar[str]
    """What the store's option says."""

    format: ClassVar[str]
    """How the daemon is to read a layer that this driver made."""

    flips: ClassVar[bool]
    """How a volume is cut under its clients. True: it goes on in a new layer, put on top, and what was the top is the
    cut. False: it goes on where it is, and the cut is a new layer, made beside it in one atomic step."""

    is_read_on_when_deleted: ClassVar[bool] = True
    """Who has a layer open reads it to its end, as files are whose names are gone."""

    is_fenced_at_times: ClassVar[bool] = False
    """The storage may shut out a daemon that it took for dead: for good, in what that has open."""

    def __init__(self, folder: Folder, failpoint: Callable[[str], None]) -> None:
        self._folder = folder
        self._failpoint = failpoint

    # -- what each driver does ---------------------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Make and drop a probe. Raises: Unsupported with what is missing here, and how to get it."""

    def source(self, location: str, *, is_typed: bool = False) -> str:
        """What an import names, in one form. `is_typed`: by a program, for which relative paths mean something.
        Raises: InvalidArgument."""
        path = Path(location.removeprefix("file://"))
        if not path.is_absolute() and not is_typed:
            raise InvalidArgument(f"image {location!r} has a relative path", remedy="give its absolute path")
        return os.path.abspath(path)

    def sources(self, place: str) -> Iterator[tuple[Key, str]]:
        """The image at a place, or all below it: a name each, and what `adopt` takes. Raises: NotFound."""
        top = Path(os.path.normpath(place.removeprefix("file://")))
        if not top.is_absolute() or not top.exists():
            raise NotFound(f"{top} does not exist", remedy="name an image or a folder of images by its absolute path")
        for path in images.images_below(top, self._folder.root) if top.is_dir() else [top]:
            yield path.relative_to(top if top.is_dir() else top.parent).with_suffix("").parts, str(path)

    @abstractmethod
    def check_source(self, source: str) -> None:
        """Whether `adopt` would take an image in. Raises: NotFound, InvalidArgument, Unsupported."""

    def left_behind(self, source: str) -> Iterator[Risk]:
        """What `adopt` would not take in of an image."""
        return iter(())

    def is_gone(self, layer: Layer) -> bool:
        """Whether a layer is an image of somebody's, and that is no longer there."""
        return False

    @abstractmethod
    def adopt(self, source: str, asset: str) -> Layer:
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
    def verify(self, layer: Layer, depth: Depth, known: Known) -> tuple[int, list[str]]:
        """How many layers were looked at, and what is wrong. EXISTS: every file is there. METADATA: records hash to
        their digests, images have their sizes. BYTES: every file holds what was written. What is `known` is not looked
        at again, and what is looked at is known from then on."""

    def sweep(self) -> None:
        """Drop bytes that no record names, as deaths leave them, where the folder does not show them."""
        return

    def forget_bytes(self, layer: str) -> None:
        """Drop what a layer's record alone names, before the record goes. Repeat: no-op."""
        return

    @abstractmethod
    def _make(self, layer: Layer, parent: Layer | None) -> Layer:
        """The bytes of a new layer: those of its parent, or zeroes. Whole or absent, durable. Repeat: no-op."""

    def _cut(self, layer: Layer, top: Layer) -> Layer:
        """Where cuts do not flip: as `_make`, of what a layer that is written to holds at this moment."""
        raise NotImplementedError(f"cuts flip in the driver {self.driver}")

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

    def stands_on(self, layer: str | None, ancestor: str) -> bool:
        """Whether a layer is another one, or a descendant of it. Cost: a record for each layer between them."""
        return any(one.id == ancestor for one in self.lineage(layer))

    def ways(self, before: Layer | None, after: Layer | None) -> tuple[list[Layer], list[Layer], Layer | None]:
        """The layers from each side down to their common ancestor, which is not among them, and that ancestor.

        All layers there are, and None, where they have none, or a layer on the way is gone (collected). Cost: a record
        for each layer of the longer way, on both sides.
        """
        found: tuple[dict[str, Layer], dict[str, Layer]] = ({}, {})
        walks = (self.lineage(None if side is None else side.id) for side in (before, after))
        for both in zip_longest(*walks):
            for layer, own, other in zip(both, found, reversed(found), strict=True):
                if layer is None:
                    continue
                own[layer.id] = layer
                if layer.id in other:
                    old, new = (_before(side.values(), layer) for side in found)
                    return old, new, layer
        return [*found[0].values()], [*found[1].values()], None

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
        """A new layer on its parent: it holds what the parent does, to be written to; or what `content`, which is being
        written to, does at this moment. Repeat: the same one."""
        found = self.find(layer)
        if found is not None:
            return found
        self._folder.make(self._folder.layers)
        below = None if parent is None else parent.id
        made = Layer(layer, asset, below, size_bytes, format=self.format, driver=self.driver)
        made = self._make(made, parent) if content is None else self._cut(made, content)
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


def _before(layers: Iterable[Layer], end: Layer) -> list[Layer]:
    return [*takewhile(lambda one: one.id != end.id, layers)]
