"""The end of a transaction: its votes go, then its volumes, then the layers that it made and no commit needs.

A commit's volumes end in peace: one with clients stays until they have gone, and is noted until then:

    places/<tx>/released.json    the versions that the commit keeps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from plait.errors import StoreUnavailable

from plait_block.daemon import Daemon
from plait_block.folder import Folder
from plait_block.layers import Layers
from plait_block.place import Place

_RELEASED: Final = "released.json"


class Ending:
    """Ends the transactions of one store."""

    def __init__(
        self,
        folder: Folder,
        layers: Layers,
        daemon: Daemon,
        working: Callable[[Path], Place],
        failpoint: Callable[[str], None],
    ) -> None:
        """`working`: the working volume in a folder of a transaction's."""
        self._folder = folder
        self._layers = layers
        self._daemon = daemon
        self._working = working
        self._failpoint = failpoint

    def abort(self, tx: str) -> None:
        """Drop its volumes, cutting clients off, and every layer that it made. Repeat: no-op."""
        self._end(tx, kept=(), force=True)

    def release(self, tx: str, kept: Sequence[str]) -> None:
        """Drop its volumes without clients, and then the layers that the kept versions do not need; and those of
        transactions whose volumes had clients when they were released. Repeat: no-op."""
        if not self._folder.places(tx).is_dir():
            return
        try:
            self._end(tx, kept=kept, force=False)
        except StoreUnavailable:  # Clients are connected: a later release ends it.
            self._folder.write(self._folder.places(tx) / _RELEASED, {"kept": list(kept)})
        for marker in sorted(self._folder.root.glob(f"places/*/{_RELEASED}")):
            record = self._folder.read(marker)
            if record is not None:
                with suppress(StoreUnavailable):
                    self._end(marker.parent.name, kept=record["kept"], force=False)

    def drop(self, layer: str) -> None:
        """Drop a layer, and what serves it. Repeat: no-op."""
        found = self._layers.find(layer)
        if found is not None:
            with self._daemon.monitor_if_running() as monitor:
                if monitor is not None:
                    for export in (f"v-{layer}", f"m-{layer}"):
                        monitor.withdraw(export, force=True)
                    monitor.remove_chain([self._layers.image(found)])
        self._layers.remove(layer)

    def _end(self, tx: str, *, kept: Sequence[str], force: bool) -> None:
        places = self._folder.places(tx)
        made = self._folder.made(places)
        self._folder.remove_tree(self._folder.votes(tx))  # First: no vote names a layer that is gone.
        self._failpoint("block.end.after_votes")
        for path in sorted(places.glob("*/place.json")):
            self._working(path.parent).remove(force=force)
            self._failpoint("block.end.after_place")
        for layer in self._unneeded(made, kept):
            self.drop(layer)
            self._failpoint("block.end.after_layer")
        self._folder.remove_tree(places)

    def _unneeded(self, made: Sequence[str], kept: Sequence[str]) -> list[str]:
        """The layers that no kept version stands on, in order. Cost: a record for each layer from the kept ones down
        to the last that is needed; all below them where one is not."""
        unneeded = dict.fromkeys(made)
        for version in kept:
            for layer in self._layers.lineage(version):
                if not unneeded:
                    return []
                unneeded.pop(layer.id, None)
        return list(unneeded)
