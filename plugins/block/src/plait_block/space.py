"""Which files a snapshot needs, which there are, and whether they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from plait.errors import InvalidArgument, StoreUnavailable
from plait.types import Depth, Health, Item, SnapshotRef

from plait_block.daemon import Daemon
from plait_block.folder import Folder, translated
from plait_block.layers import Known, Layers
from plait_block.place import Place


def reachable(folder: Folder, layers: Layers, snapshot: SnapshotRef) -> Iterator[Item]:
    """Every file that reading a snapshot needs; an imported image is its owner's file, and named by its whole path."""
    for path in layers.files(layers.get(snapshot.version)):
        yield _item(folder, path)


def inventory(folder: Folder, layers: Layers, prefix: str) -> Iterator[Item]:
    """Frozen layers, key frames and their records. What is still written to belongs to its transaction."""
    if not folder.layers.is_dir():
        return
    working = {layer.id for layer in layers.all() if not layer.is_sealed}
    for path in sorted(folder.layers.iterdir()):
        item = _item(folder, path)
        if path.name.split(".")[0] not in working and path.name[0] != "." and item.path.startswith(prefix):
            yield item


def _item(folder: Folder, path: Path) -> Item:
    name = path.relative_to(folder.root).as_posix() if path.is_relative_to(folder.root) else str(path)
    if not path.exists():
        return Item(name)
    found = path.stat()
    return Item(name, found.st_blocks * 512, found.st_mtime_ns // 1000)


def delete(folder: Folder, layers: Layers, daemon: Daemon, items: Iterable[Item], held: Iterable[Path]) -> None:
    """Delete these. Repeat: no-op. Raises: InvalidArgument for what is not plait's, and for files that are held;
    StoreUnavailable for what a client reads that could not read on. Then nothing is deleted."""
    doomed = [folder.root / item.path for item in items]
    needed = set(held)
    for path in doomed:
        if path.parent != folder.layers or ".." in path.parts:
            raise InvalidArgument(f"{path} is not under plait's care, so it is not deleted")
        if path in needed:
            raise InvalidArgument(
                f"{path} is in use by a working set or a live volume", remedy="commit or discard it, then collect again"
            )
    for path in filter(_is_record, doomed):
        if not _forget(layers, daemon, path.stem) and not layers.is_read_on_when_deleted:
            raise StoreUnavailable(f"layer {path.stem} is read by a client", remedy="disconnect it, then collect again")
    # Records last: a layer without its bytes is found by verify, bytes without a record by nobody.
    for path in sorted(doomed, key=lambda one: one.suffix == ".json"):
        if _is_record(path):
            layers.forget_bytes(path.stem)
        with translated(f"file {path}"):
            path.unlink(missing_ok=True)


def held_by_heads(layers: Layers, heads: Iterable[Place]) -> Iterator[Path]:
    """What live volumes stand on."""
    for place in heads:
        for name in place.stands_on():
            layer = layers.find(name)
            if layer is not None:
                yield from layers.files(layer)


def held_by_working_sets(folder: Folder, layers: Layers, places: Iterable[Place]) -> Iterator[Path]:
    """Frozen layers that no vote names, so that the core does not know of them: a freeze whose vote was not recorded.

    (The core itself keeps what working sets were begun from, and what they voted.)
    """
    for place in places:
        tx = place.path.parent
        votes = (folder.read(path) for path in folder.votes(tx.name).glob("*.json"))
        voted = {vote["layer"] for vote in votes if vote is not None}
        made = set(folder.made(tx))
        for name in place.stands_on():
            for layer in layers.lineage(name):
                if layer.id not in made or layer.id in voted:
                    break
                yield from layers.own_files(layer)


def _is_record(path: Path) -> bool:
    return path.suffix == ".json" and not path.name.endswith(".key.json")


def _forget(layers: Layers, daemon: Daemon, layer: str) -> bool:
    """Stop serving a layer, unless clients are connected to it; whether it is served no more."""
    with daemon.monitor_if_running() as monitor:
        found = None if monitor is None else layers.find(layer)
        if monitor is None or found is None:
            return True
        if not monitor.withdraw(f"v-{layer}", force=False):
            return False
        monitor.remove_chain([layers.image(found)])
        return True


def verify(layers: Layers, snapshot: SnapshotRef, depth: Depth, known: Known) -> Health:
    """Whether a snapshot is whole, as its driver sees it. `known`: see `Layers.verify`."""
    layer = layers.find(snapshot.version)
    if layer is None:
        return Health(1, (f"layer {snapshot.version} is missing its record",))
    checked, problems = layers.verify(layer, depth, known)
    if layer.digest != snapshot.digest.hex():
        problems.insert(0, f"layer {layer.id} has another digest than the snapshot")
    return Health(checked, tuple(problems))
