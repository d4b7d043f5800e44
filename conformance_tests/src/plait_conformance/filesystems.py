"""Filesystems for tests, on a sparse file: mounted in a folder, and unmounted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFLINK_REMEDY = "apt-get install xfsprogs"
_SIZE_BYTES = 4 << 30


@contextmanager
def reflink_filesystem() -> Iterator[Path]:
    """An XFS whose files can share blocks: yields where it is mounted.

    In a folder of its own, not in pytest's: what a killed run leaves mounted would fail the later runs that clean up.

    Raises: FileNotFoundError without mkfs.xfs, PermissionError without root, RuntimeError where loop devices cannot be
    mounted.
    """
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    program = shutil.which("mkfs.xfs", path=folders)
    if program is None:
        raise FileNotFoundError(f"without mkfs.xfs: {REFLINK_REMEDY}")
    if os.geteuid() != 0:
        raise PermissionError("without root, who mounts a filesystem with reflinks: sudo")
    with tempfile.TemporaryDirectory(prefix="plait-xfs-") as folder:
        image, mounted = Path(folder, "image"), Path(folder, "mounted")
        with image.open("wb") as stream:
            stream.truncate(_SIZE_BYTES)
        mounted.mkdir()
        _run([program, "-q", "-m", "reflink=1", str(image)])
        _run(["mount", "-o", "loop", str(image), str(mounted)])
        try:
            yield mounted
        finally:
            _run(["umount", "--lazy", str(mounted)])  # A daemon that was stopped may still be on its way out.


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"since {command[0]} failed: {done.stderr.strip()}")
