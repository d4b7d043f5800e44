"""What qemu-img does: make overlays, copy whole images, say what a layer itself holds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plait.disk import fsync
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreUnavailable, Unsupported

from plait_block.folder import translated

OPTIONS: Final = "cluster_size=128k,extended_l2=on"
"""Sub-clusters of 4 KiB: a small change costs what it changes, and neighbours do not look like conflicts."""
_REMEDY: Final = "apt-get install qemu-utils qemu-system-common e2fsprogs fuse2fs fuse3 util-linux"
_BLOCK: Final = 1 << 20
_LINES_MAX: Final = 4
_PAGE: Final = 4096
_ZEROES: Final = bytes(_PAGE)
_MAGIC: Final = b"QFI\xfb"
_MAGICS: Final = {_MAGIC: "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vhd", b"QED\0": "qed"}
_VDI_MAGIC: Final = b"\x7f\x10\xda\xbe"
_VDI_MAGIC_AT: Final = 64
_CORRUPT, _LEAKS_ALONE = 2, 3
"""What `qemu-img check` ends with, the latter where nothing is lost but space."""
_FLOCK: Final = "hhqqi4x"
_WRITER_AT: Final = 101
"""The byte of an image that qemu holds a lock on while it may write to it (its block/file-posix.c)."""
_DYING_SECONDS: Final = 2
"""A daemon that was killed keeps its files for a moment."""
_IN_USE: Final = (
    "if that is a storage daemon whose sockets are gone, disconnect its clients and end it: "
    "'pgrep -af qemu-storage-daemon' names it"
)
_SUFFIXES: Final = frozenset({".qcow2", ".img", ".raw", ".vmdk", ".vdi", ".vhd"})


@dataclass(frozen=True, slots=True)
class Image:
    """One file of a chain. `node` names it in the daemon."""

    node: str
    path: Path
    format: str

    def __str__(self) -> str:
        return str(self.path)

    def protocol(self) -> dict[str, Any]:
        """Where qemu finds its bytes."""
        return {"driver": "file", "filename": str(self.path)}


def options_of(images: Sequence[Image]) -> dict[str, Any]:
    """A chain, top first, as qemu's explicit options: no image's own header decides what is read."""
    chain: dict[str, Any] | None = None
    for image in reversed(images):
        node: dict[str, Any] = {"driver": image.format, "file": image.protocol()}
        if image.format == "qcow2":
            node["backing"] = chain
        chain = node
    assert chain is not None
    return chain


def uri_of(images: Sequence[Image]) -> str:
    """The same as one name that every qemu program takes."""
    return "json:" + json.dumps(options_of(images), separators=(",", ":"))


def create_overlay(path: Path, size_bytes: int, parent: Image | None) -> None:
    """An empty layer on a parent: whole or absent, durable. Repeat: no-op."""
    if path.exists():
        return
    backing = ["-b", str(parent.path), "-F", parent.format] if parent is not None else []
    with _made(path) as temporary:
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", OPTIONS, *backing, str(temporary), str(size_bytes))


def flatten(images: Sequence[Image], path: Path) -> None:
    """One image without a parent that holds what the chain holds: whole or absent, durable. Cost: O(allocated)."""
    with _made(path) as temporary:
        run("qemu-img", "convert", "-q", "-O", "qcow2", "-o", OPTIONS, uri_of(images), str(temporary))


@contextmanager
def _made(path: Path) -> Iterator[Path]:
    """What a block writes gets its name when the block ends well, and is dropped else: the disk may be full of it."""
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        keep(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_unused(path: Path) -> None:
    """Raises: StoreUnavailable while some process, another daemon say, has an image open and may write to it."""
    deadline = time.monotonic() + _DYING_SECONDS
    while is_locked(path, _WRITER_AT):
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"another process has image {path} open to write", remedy=_IN_USE)
        time.sleep(0.005)


def is_locked(path: Path, at: int = 0) -> bool:
    """Whether a process holds a lock on this byte of a file; False where there is no file."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    try:
        with translated(f"file {path}"), path.open("rb") as stream:
            held, *_ = struct.unpack(_FLOCK, fcntl.fcntl(stream, fcntl.F_OFD_GETLK, asked))
    except NotFound:
        return False
    return bool(held != fcntl.F_UNLCK)


def remedy_for(said: str) -> str:
    """What to do about an error of qemu's, where its words do not tell."""
    return _IN_USE if '" lock' in said else ""


def make_immutable(path: Path) -> None:
    """Durable, and not to be written to any more."""
    with translated(f"layer {path}"):
        fsync(path)
        path.chmod(0o444)
        fsync(path.parent)


def keep(temporary: Path, path: Path) -> None:
    """Give a file its name: whole or absent, durable."""
    with translated(f"file {path}"):
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)


def own_extents(image: Image, *, is_root: bool) -> list[tuple[int, int]]:
    """Ranges (start, end) that this layer itself holds, in order; of a root, where it is not zero. No data is read."""
    alone = uri_of([image])
    found = json.loads(run("qemu-img", "map", "--output=json", alone))
    kept = (one for one in found if (one["data"] if is_root else one["present"]))
    return list(_joined((one["start"], one["start"] + one["length"]) for one in kept))


def _joined(ranges: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for start, end in ranges:
        if last is not None and last[1] == start:
            last = last[0], end
        else:
            if last is not None:
                yield last
            last = start, end
    if last is not None:
        yield last


def virtual_size(image: Image) -> int:
    """The volume's bytes. Raises: Corrupt when it is no such image."""
    with translated(f"image {image.path}"):
        if image.format == "raw":
            return image.path.stat().st_size
        with image.path.open("rb") as stream:
            header = stream.read(32)
    if header[:4] != _MAGIC or len(header) < 32:
        raise Corrupt(f"image {image.path} has no qcow2 header", remedy="restore it from a backup")
    return int.from_bytes(header[24:32], "big")


def internal_snapshots(path: Path) -> int:
    """How many snapshots a qcow2 image has inside of it; 0 for others. Source: QEMU, docs/interop/qcow2, "Header"."""
    with translated(f"image {path}"), path.open("rb") as stream:
        header = stream.read(64)
    return int.from_bytes(header[60:64], "big") if header.startswith(_MAGIC) else 0


def images_below(top: Path, own: Path) -> Iterator[Path]:
    """The files at and below a folder that are images by their names or headers, in order of their paths; but not in
    `own`, where this store keeps its own."""
    for folder, below, names in os.walk(top):
        below[:] = sorted(name for name in below if Path(folder, name) != own)
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_file() and (path.suffix in _SUFFIXES or _format_by_header(path)):
                yield path


def _format_by_header(path: Path) -> str:
    """`qcow2`, the name of another format, or nothing: a raw image has no header."""
    with translated(f"image {path}"), path.open("rb") as stream:
        start = stream.read(_VDI_MAGIC_AT + 4)
    if start[_VDI_MAGIC_AT:] == _VDI_MAGIC:
        return "vdi"
    return next((name for magic, name in _MAGICS.items() if start.startswith(magic)), "")


def format_of(path: Path) -> str:
    """`qcow2` or `raw`. Raises: NotFound; InvalidArgument for what is none; Unsupported for other formats, and for an
    image that needs other files."""
    if not path.is_file():
        raise NotFound(f"image {path} does not exist", remedy="name a raw or qcow2 image by its absolute path")
    found = _format_by_header(path)
    if not found:
        if path.suffix == ".qcow2":
            raise InvalidArgument(f"image {path} is no qcow2 image", remedy="give a raw image another name: disk.img")
        return "raw"
    if found != "qcow2":
        raise Unsupported(
            f"image {path} is a {found} image, and plait takes qcow2 and raw ones",
            remedy="convert it first: qemu-img convert -O qcow2 IMAGE NEW.qcow2",
        )
    described = _asked(path, "info", "-f", "qcow2", "-U")
    if described.get("encrypted"):
        raise Unsupported(
            f"image {path} is encrypted, and plait has no key to it",
            remedy="decrypt it first, with qemu-img convert; a guest's own encryption (LUKS) may stay",
        )
    if described.get("backing-filename") or described.get("format-specific", {}).get("data", {}).get("data-file"):
        raise Unsupported(
            f"image {path} needs other files", remedy="flatten it first: qemu-img convert -O qcow2 IMAGE FLAT"
        )
    return "qcow2"


def check_sound(path: Path, form: str) -> None:
    """Raises: InvalidArgument for an image whose size no volume can have, and for a qcow2 image with errors, such as
    one that was cut short: what is missing would read as zeroes. Cost: a qcow2 image's tables."""
    size = virtual_size(Image("", path, form))
    if not size:
        raise InvalidArgument(f"image {path} has 0 bytes, and a volume at least 512", remedy="leave it out")
    if size % 512:
        raise InvalidArgument(
            f"image {path} has {size} bytes, which is no multiple of 512",
            remedy="lengthen it first: truncate -s %512 IMAGE",
        )
    if form != "qcow2":
        return
    found = _asked(path, "check", "-f", "qcow2", "-U", accepts=(0, _CORRUPT, _LEAKS_ALONE))
    errors = found.get("corruptions", 0) + found.get("check-errors", 0)
    if errors:
        raise InvalidArgument(
            f"image {path} is damaged: qemu-img check finds {errors} errors",
            remedy="copy it again, or mend a copy: qemu-img check -r all IMAGE",
        )


def _asked(path: Path, *question: str, accepts: Sequence[int] = (0,)) -> dict[str, Any]:
    """What qemu-img answers about somebody's image. Raises: InvalidArgument when it cannot read it."""
    try:
        found: dict[str, Any] = json.loads(run("qemu-img", *question, "--output=json", str(path), accepts=accepts))
    except StoreUnavailable as error:
        raise InvalidArgument(f"image {path} cannot be read: {error.message}", remedy="copy it again") from error
    return found


def digest_of(path: Path) -> str:
    """SHA-256 over the file's pages that are not zero, each with its place; holes are skipped, not read."""
    hashed = hashlib.sha256()
    with translated(f"file {path}"), path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        hashed.update(size.to_bytes(8, "big"))
        for start, end in _data_ranges(stream.fileno(), size):
            for at in range(start, end, _BLOCK):
                block = os.pread(stream.fileno(), min(_BLOCK, end - at), at)
                for within in range(0, len(block), _PAGE):
                    page = block[within : within + _PAGE]
                    if page != _ZEROES[: len(page)]:
                        hashed.update((at + within).to_bytes(8, "big"))
                        hashed.update(page)
    return hashed.hexdigest()


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file's pages are that are no holes, in order."""
    end = 0
    while end < size:
        try:
            data = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return  # Only a hole is left.
        start = data // _PAGE * _PAGE
        end = -(-os.lseek(descriptor, data, os.SEEK_HOLE) // _PAGE) * _PAGE
        yield start, end


def dig_holes(path: Path) -> None:
    """Give back blocks of zeroes, where the disk can. (An empty overlay shrinks from 388 to 12 KiB.)"""
    if shutil.which("fallocate"):
        subprocess.run(["fallocate", "--dig-holes", str(path)], capture_output=True, check=False)


def find(program: str) -> str:
    """Where a program is. Raises: Unsupported when it is not installed."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise Unsupported(f"the program {program} is not installed", remedy=_REMEDY)
    return found


def run(program: str, *arguments: str, accepts: Sequence[int] = (0,)) -> str:
    """What a program prints. Raises: Unsupported when it is missing, StoreUnavailable with what it said."""
    found = ended(program, *arguments)
    if found.returncode not in accepts:
        said = " ".join((found.stdout + found.stderr).strip().splitlines()[-_LINES_MAX:])
        raise StoreUnavailable(f"{program} failed: {said or f'exit code {found.returncode}'}", remedy=remedy_for(said))
    return found.stdout


def ended(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a program said, and how it ended. Raises: Unsupported when it is missing."""
    command = [find(program), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
    )
