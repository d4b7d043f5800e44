"""The filesystem inside a volume, through its own tools: e2fsck recovers and judges, fuse2fs shows it as a folder.

Nothing needs root, but the device /dev/fuse: the daemon shows a layer as a file, and fuse2fs mounts that file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from plait.errors import Corrupt, StoreUnavailable, Unsupported

from plait_block import images
from plait_block.daemon import Daemon, Refused
from plait_block.extents import Reader
from plait_block.folder import Folder
from plait_block.images import Image
from plait_block.layers import Layer, Layers

_SUPERBLOCK: Final = 1024
_MAGIC_AT: Final = 56
_MAGIC: Final = b"\x53\xef"
_NEEDS_RECOVERY: Final = 4
_MOUNT_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.01
_UNKNOWN: Final = "unsupported feature"
"""What e2fsck and fuse2fs say of a filesystem that is newer than they are."""
_NO_FINDING: Final = re.compile(r"Pass \d|e2fsck \d|\d+/\d+ files|\*{5}")
_QUESTION: Final = re.compile(r"\s*[A-Z][^.?]*\? no$")
MEND: Final = (
    "mend it on its branch: after 'plait begin', 'plait open KEY --write' says its NBD URI; nbdcopy it into a file, "
    "e2fsck -fy that, nbdcopy it back, move what e2fsck put into lost+found to where it was, and 'plait commit'"
)


def is_ext4(reader: Reader) -> bool:
    """Whether the volume as a whole is an ext2, ext3 or ext4 filesystem."""
    if reader.size_bytes < 2 * _SUPERBLOCK:
        return False
    (superblock,) = reader.read_many([(_SUPERBLOCK, 2 * _SUPERBLOCK)])
    return superblock[_MAGIC_AT : _MAGIC_AT + 2] == _MAGIC


class Filesystems:
    """Shows layers as folders. Thread-safe."""

    def __init__(self, folder: Folder, layers: Layers, daemon: Daemon) -> None:
        self._folder = folder
        self._layers = layers
        self._daemon = daemon
        self._sound: set[str] = set()
        """Frozen layers with which e2fsck found nothing wrong: they stay as they are."""

    @contextmanager
    def shown(self, layer: Layer, *, judged: bool = False) -> Iterator[Path]:
        """A frozen layer's files, read-only. One that was cut under a machine is recovered in a throw-away overlay.

        `judged`: only once e2fsck has found nothing wrong: a damaged filesystem shows files as if they were not there.
        Cost: of judging, all metadata of the filesystem, once in the life of a process.
        Raises: Unreadable; Unsupported where no ext4 filesystem is, without /dev/fuse or the tools, or for a filesystem
        that is newer than they are.
        """
        with self._scratch() as scratch:
            chain = self._layers.chain(layer)
            with self._as_file(chain, scratch, writable=False) as file:
                _check_ext4(file)
                if not _is_dirty(file):
                    with self._mounted(layer, file, scratch, judged=judged) as root:
                        yield root
                    return
            overlay = Image(f"s{scratch.name}", scratch / "overlay.qcow2", "qcow2")
            images.create_overlay(overlay.path, layer.size_bytes, chain[0])
            with self._as_file([overlay, *chain], scratch, writable=True) as file:
                _recover(layer, file)
                with self._mounted(layer, file, scratch, judged=judged) as root:
                    yield root

    @contextmanager
    def _mounted(self, layer: Layer, file: Path, scratch: Path, *, judged: bool) -> Iterator[Path]:
        if judged and layer.id not in self._sound:
            found = _finding(file)
            if found:
                raise Unreadable(layer, found)
            self._sound.add(layer.id)
        with _mounted(layer, file, scratch, "ro,norecovery,fakeroot") as root:
            yield root

    @contextmanager
    def changed(self, layer: Layer) -> Iterator[Path]:
        """A layer's files, to be changed: the layer holds the result, once e2fsck has found nothing wrong with it.

        Raises: Unreadable; Broken with e2fsck's words; Unsupported as `shown`.
        """
        with (
            self._scratch() as scratch,
            self._as_file(self._layers.chain(layer), scratch, writable=True) as file,
        ):
            _check_ext4(file)
            if _is_dirty(file):
                _recover(layer, file)
            with _mounted(layer, file, scratch, "fakeroot") as root:
                yield root
            found = _finding(file)
            if found:
                raise Broken(
                    f"the ext4 filesystem would be damaged after this change, or was before: e2fsck says {found!r}",
                    remedy=f"nothing was changed; where the volume was damaged before, {MEND}",
                )

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


class Unreadable(Corrupt):
    """A filesystem that is damaged, so that its own tools show none of it, or not all. `finding`: what they say."""

    def __init__(self, layer: Layer, finding: str) -> None:
        self.where = f"version {layer.id}" if layer.is_sealed else "the working volume"
        super().__init__(f"the ext4 filesystem in {self.where} is damaged: {finding}", remedy=MEND)
        self.layer = layer
        self.finding = finding


class Broken(Corrupt):
    """e2fsck refuses what a change made of a filesystem; the change was dropped."""


def _check_ext4(file: Path) -> None:
    """Raises: Unsupported."""
    if _superblock(file, _MAGIC_AT, 2) != _MAGIC:
        raise Unsupported("no ext4 filesystem is in the volume", remedy="read its bytes over NBD, by its uri")


def _is_dirty(file: Path) -> bool:
    return bool(int.from_bytes(_superblock(file, 96, 4), "little") & _NEEDS_RECOVERY)


def _superblock(file: Path, at: int, length: int) -> bytes:
    """Some of its bytes."""
    with file.open("rb") as stream:
        stream.seek(_SUPERBLOCK + at)
        return stream.read(length)


def is_served(root: Path) -> bool:
    """Whether the daemon still serves the volume behind a folder that is shown."""
    try:
        with (root.parent / "volume").open("rb"):
            return True
    except OSError:
        return False


def _recover(layer: Layer, file: Path) -> None:
    """Replay the journal, as the next mount of a crashed machine would. Raises: Unreadable, Unsupported."""
    finding = _checked(file, "-p", accepts=(0, 1))
    if finding:
        raise Unreadable(layer, finding)


def _finding(file: Path) -> str:
    """What e2fsck finds wrong, in one line; empty where it finds nothing. Raises: Unsupported."""
    return _checked(file, "-fn", accepts=(0,))


def _checked(file: Path, how: str, *, accepts: Sequence[int]) -> str:
    ended = images.ended("e2fsck", how, str(file))
    if ended.returncode in accepts:
        return ""
    if ended.returncode < 0 or not is_served(file):
        raise StoreUnavailable("e2fsck was interrupted, or the storage daemon ended under it", remedy="try again")
    return _first(_known(ended.stdout + ended.stderr), file)


def _known(said: str) -> str:
    """What a tool said. Raises: Unsupported where it is older than the filesystem."""
    if _UNKNOWN in said:
        raise Unsupported(
            "the ext4 filesystem in the volume has features that this machine's tools do not know",
            remedy="install newer ones, 'apt-get install e2fsprogs fuse2fs', or take another version whole",
        )
    return said


def _first(said: str, file: Path) -> str:
    """The first finding among a tool's words, without the names of scratch files."""
    named = said.replace(f"{file}: ", "").replace(str(file), "the volume")
    lines = [line.strip() for line in named.splitlines() if not _NO_FINDING.match(line.strip())]
    findings = [found for found in (_QUESTION.sub("", line).rstrip(". ") for line in lines) if found]
    more = f", and {len(findings) - 1} more lines" if len(findings) > 1 else ""
    return f"{findings[0]}{more}" if findings else "its tools fail without a word"


@contextmanager
def _mounted(layer: Layer, file: Path, scratch: Path, options: str) -> Iterator[Path]:
    """The filesystem in a file as a folder; written back when this ends."""
    root = scratch / "root"
    root.mkdir(exist_ok=True)
    # It ends with this process, however that dies; a Ctrl-C is for this process, which then lets go of the folder.
    unmount = [images.find("fusermount3"), "-u", "-z", str(root)]
    command = [images.find("setpriv"), "--pdeathsig", "TERM", images.find("fuse2fs"), "-f", "-o", options]
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(file), str(root)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
    try:
        deadline = time.monotonic() + _MOUNT_SECONDS
        while not os.path.ismount(root):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"fuse2fs shows nothing within {_MOUNT_SECONDS} s", remedy="try again")
            if process.poll() is not None:
                said = (scratch / "log").read_text(errors="replace")
                raise Unreadable(layer, _first(_known(said), file))
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
