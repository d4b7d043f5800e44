"""Published heads: what each volume's bound ref holds, and a live volume on it that virtual machines write to.

    heads/<asset>/head.json    the published snapshot and the seq of its publication
    heads/<asset>/place.json   the live volume: a place like a working set's, on the published layer

Writes to a live volume are somebody's past plait: they are frozen and reported, never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, TypeAlias

from plait.codec import decode_snapshot, encode_snapshot
from plait.errors import Corrupt, NotFound, StoreUnavailable
from plait.types import Depth, Move, Published, PublishState, SnapshotRef

from plait_block import space
from plait_block.folder import Folder
from plait_block.layers import Layer, Layers
from plait_block.place import Place

Refer: TypeAlias = Callable[[Layer], SnapshotRef]
Frozen: TypeAlias = Callable[[], AbstractContextManager[None]]
LIVE: Final = "live:"
"""The native name of a live volume is this and the asset's id."""


@dataclass(frozen=True, slots=True)
class Head:
    snapshot: SnapshotRef | None
    seq: int


class Heads:
    """All heads of one store."""

    def __init__(
        self,
        folder: Folder,
        layers: Layers,
        *,
        live: Callable[[str], Place],
        refer: Refer,
        failpoint: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._live = live
        self._refer = refer
        self._failpoint = failpoint

    def read(self, asset: str) -> Head:
        """The head as recorded. Raises: Corrupt."""
        record = self._folder.read(self._folder.head(asset) / "head.json")
        if record is None:
            return Head(None, 0)
        try:
            text = record["snapshot"]
            return Head(None if text is None else decode_snapshot(bytes.fromhex(text)), int(record["seq"]))
        except (KeyError, ValueError, TypeError) as error:
            raise Corrupt(f"the head of volume {asset} cannot be read: {error}") from error

    def freeze(self, asset: str, frozen: Frozen) -> SnapshotRef:
        """What the live volume holds now: the published snapshot while nobody wrote to it, else a new layer on it.

        Raises: NotFound for a volume that is not published.
        """
        with self._folder.locked(self._folder.head(asset) / "head.lock"):
            head = self._frozen(asset, self.read(asset), frozen)
            if head.snapshot is None:
                raise NotFound(
                    f"volume {asset} is not published", remedy="publish its branch first: 'plait store check'"
                )
            return head.snapshot

    def publish(self, move: Move, frozen: Frozen) -> Published:
        """Move one head from before to after. Repeat: DONE, without a write.

        DIVERGED: with what was written to the live volume, frozen; or with nothing, where a head is to stay whose
        files are gone, an imported image say. BUSY: clients are connected to it, or a later move was here already.
        """
        one = move.after or move.before
        if one is None:
            return Published(PublishState.DONE)
        with self._folder.locked(self._folder.head(one.asset) / "head.lock"):
            head = self._frozen(one.asset, self.read(one.asset), frozen, move.after)
            if head.snapshot == move.after:
                is_lost = move.before == move.after and self._is_lost(head.snapshot)
                return Published(PublishState.DIVERGED if is_lost else PublishState.DONE)
            if head.snapshot != move.before:
                return Published(PublishState.DIVERGED, head.snapshot)
            if head.seq > move.seq:
                return Published(PublishState.BUSY)
            live = self._live(one.asset)
            self._failpoint("block.publish.before_live")
            try:
                # Somebody may have come, written and gone since the freeze: then the next look finds it.
                if move.after is None:
                    live.withdraw()
                else:
                    layer = self._layers.get(move.after.version)
                    live.make(one.asset, layer)
                    live.rest_on(layer, unless_written=head.snapshot is not None)
            except StoreUnavailable:
                return Published(PublishState.BUSY)
            self._failpoint("block.publish.before_head")
            self._write(one.asset, Head(move.after, move.seq))
            return Published(PublishState.DONE)

    def _frozen(self, asset: str, head: Head, frozen: Frozen, coming: SnapshotRef | None = None) -> Head:
        """The head after what was written to its live volume is taken in. `coming`: what a move that died may have put
        the live volume on already."""
        live = self._live(asset)
        state = live.read()
        if head.snapshot is None or state is None or state.top is None:
            return head
        layer = live.freeze(frozen)
        ends = {one.version for one in (head.snapshot, coming) if one is not None}
        if layer is None or layer.id in ends or not any(self._layers.stands_on(layer.id, end) for end in ends):
            return head
        self._failpoint("block.freeze.before_head")
        found = Head(self._refer(layer), head.seq)
        self._write(asset, found)
        return found

    def _is_lost(self, snapshot: SnapshotRef | None) -> bool:
        return snapshot is not None and bool(space.verify(self._layers, snapshot, Depth.EXISTS, {}).problems)

    def _write(self, asset: str, head: Head) -> None:
        text = None if head.snapshot is None else encode_snapshot(head.snapshot).hex()
        self._folder.write(self._folder.head(asset) / "head.json", {"snapshot": text, "seq": head.seq})
