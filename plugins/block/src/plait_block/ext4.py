"""The filesystem inside a volume, through its own tools: e2fsck recovers and judges, fuse2fs shows it as a folder.

Nothing needs root, but the device /dev/fuse: the daemon shows a layer as a file, and fuse2fs mounts that file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from plait.errors import StoreUnavailable, Unsupported

from plait_block import images
from plait_block.daemon import Daemon, Refused
from plait_block.extents import Reader
from plait_block.folder import Folder
from plait_block.images import Image
from plait_block.layers import Layer, Layers

_SUPERBLOCK: Final = 1024
_MAGIC: Final = b"\x53\xef"
_NEEDS_RECOVERY: Final = 4
_MOUNT_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.01


def is_ext4(reader: Reader) -> bool:
    """Whether the volume as a whole is an ext2, ext3 or ext4 filesystem."""
    if reader.size_bytes < 2 * _SUPERBLOCK:
        return False
    (superblock,) = reader.read_many([(_SUPERBLOCK, 2 * _SUPERBLOCK)])
    return superblock[56:58] == _MAGIC


class Filesystems:
    """Shows layers as folders. Thread-safe."""

    def __init__(self, folder: Folder, layers: Layers, daemon: Daemon) -> None:
        self._folder = folder
        self._layers = layers
        self._daemon = daemon

    @contextmanager
    def shown(self, layer: Layer) -> Iterator[Path]:
        """A frozen layer's files, read-only. One that was cut under a machine is recovered in a throw-away overlay.

        Raises: Unreadable; Unsupported without /dev/fuse or the tools.
        """
        with self._scratch() as scratch, _named(layer):
            chain = self._layers.chain(layer)
            with self._as_file(chain, scratch, writable=False) as file:
                if not _is_dirty(file):
                    with _mounted(file, scratch, "ro,norecovery,fakeroot") as root:
                        yield root
                    return
            overlay = Image(f"s{scratch.name}", scratch / "overlay.qcow2", "qcow2")
            images.create_overlay(overlay.path, layer.size_bytes, chain[0])
            with self._as_file([overlay, *chain], scratch, writable=True) as file:
                _recover(file)
                with _mounted(file, scratch, "ro,norecovery,fakeroot") as root:
                    yield root

    @contextmanager
    def changed(self, layer: Layer) -> Iterator[Path]:
        """A layer's files, to be changed: the layer holds the result, once e2fsck has found nothing wrong with it.

        Raises: Unreadable; Broken with e2fsck's words; Unsupported without /dev/fuse or the tools.
        """
        with (
            self._scratch() as scratch,
            _named(layer),
            self._as_file(self._layers.chain(layer), scratch, writable=True) as file,
        ):
            if _is_dirty(file):
                _recover(file)
            with _mounted(file, scratch, "fakeroot") as root:
                yield root
            _judge(file)

    # -- parts -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        name = Layers.new_id()
        path = self._folder.run / "files" / name
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _as_file(self, chain: list[Image], scratch: Path, *, writable: bool) -> Iterator[Path]:
        file = scratch / "volume"
        file.touch()
        export = f"f-{scratch.name}"
        with self._daemon.monitor() as monitor:
            node = monitor.add_chain(chain, writable=writable)
            try:
                monitor.serve_file(export, node, file, writable=writable)
            except Refused as error:
                monitor.remove_chain(chain)
                raise Unsupported(
                    f"the files in a volume cannot be shown: {error.message}",
                    remedy="plait needs read and write access to /dev/fuse, and the program fusermount3",
                ) from error
        try:
            yield file
        finally:
            with self._daemon.monitor() as monitor:
                monitor.withdraw(export, force=True)
                monitor.remove_chain(chain)


class Unreadable(StoreUnavailable):
    """A filesystem that its own tools do not show: damaged, or with features that they do not know."""


class Broken(StoreUnavailable):
    """e2fsck refuses what a change made of a filesystem; the change was dropped."""


def _is_dirty(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(_SUPERBLOCK + 96)
        return bool(int.from_bytes(stream.read(4), "little") & _NEEDS_RECOVERY)


@contextmanager
def _named(layer: Layer) -> Iterator[None]:
    """Where the filesystem of a layer cannot be read, say which it is."""
    try:
        yield
    except Unreadable as error:
        if error.remedy:
            raise  # Another layer's, shown within.
        raise Unreadable(
            f"the filesystem in layer {layer.id} cannot be read: {error.message}",
            remedy="mend it in a working set, with e2fsck over its NBD URI, or take another side of the volume whole",
        ) from error


def _recover(file: Path) -> None:
    """Replay the journal, as the next mount of a crashed machine would. Raises: Unreadable."""
    try:
        images.run("e2fsck", "-p", str(file), accepts=(0, 1))
    except StoreUnavailable as error:
        raise Unreadable(error.message) from error


def _judge(file: Path) -> None:
    try:
        images.run("e2fsck", "-fn", str(file))
    except StoreUnavailable as error:
        raise Broken(error.message, remedy="nothing was changed; look at the volume with e2fsck") from error


@contextmanager
def _mounted(file: Path, scratch: Path, options: str) -> Iterator[Path]:
    """The filesystem in a file as a folder; written back when this ends."""
    root = scratch / "root"
    root.mkdir(exist_ok=True)
    # It ends with this process, however that dies.
    unmount = [images.find("fusermount3"), "-u", "-z", str(root)]
    command = [images.find("setpriv"), "--pdeathsig", "TERM", images.find("fuse2fs"), "-f", "-o", options]
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen([*command, str(file), str(root)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _MOUNT_SECONDS
        while not os.path.ismount(root):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"fuse2fs shows nothing within {_MOUNT_SECONDS} s", remedy="try again")
            if process.poll() is not None:
                said = " ".join((scratch / "log").read_text(errors="replace").split())
                raise Unreadable(f"fuse2fs shows nothing: {said.replace(str(file), 'VOLUME') or 'no answer'}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        yield root
    finally:
        subprocess.run(unmount, capture_output=True, check=False)
        try:
            process.wait(_MOUNT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
