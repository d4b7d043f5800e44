"""A store in a folder, on the real daemon: nothing runs any more when a test ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, Protocol

import pytest
from plait.adapter import Context, Merger
from plait.types import SnapshotRef, Store
from plait_block import BlockAdapter, Volume, Volumes
from plait_conformance.ceph_cluster import ceph_cluster
from plait_conformance.filesystems import reflink_filesystem
from plait_conformance.fixtures import here as here
from plait_conformance.fixtures import plaited as plaited
from plait_conformance.testing import MemoryPort, MemoryState

SIZE = 8 << 20
KEY = ("vm", "disk0")
REMEDY = "apt-get install qemu-utils qemu-system-common libnbd-bin e2fsprogs fuse2fs fuse3"


def need(*programs: str) -> None:
    """Missing programs are a failure in CI, else a skip that says how to get them."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [program for program in programs if shutil.which(program, path=folders) is None]
    if missing:
        not_run(f"without {', '.join(missing)}: {REMEDY}")


def not_run(why: str) -> NoReturn:
    """A failure in CI, else a skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"NOT RUN {why}")
    pytest.skip(f"NOT RUN {why}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `drivers` run over each of these, others over the default."""
    if "driver" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("drivers")
        names = marker.args if marker else ["qcow2"]
        if metafunc.function.__name__ in _TAKES_MINUTES and not os.environ.get("PLAIT_SOAK"):
            names = [name for name in names if name != "rbd"]
        marks = {"raw": [pytest.mark.root], "rbd": [pytest.mark.root, pytest.mark.xdist_group("ceph")]}
        chosen = [pytest.param(name, marks=marks.get(name, [])) for name in names]  # A group shares one cluster.
        metafunc.parametrize("driver", chosen, indirect=True)


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def mounted() -> Iterator[Path]:
    """A filesystem whose files can share blocks, mounted for the length of a run."""
    with ExitStack() as stack:
        try:
            mounted_at = stack.enter_context(reflink_filesystem())
        except (FileNotFoundError, PermissionError, RuntimeError) as error:
            not_run(str(error))
        yield mounted_at


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The options of a pool in a cluster that runs for the length of a run."""
    with ExitStack() as stack:
        try:
            options = stack.enter_context(ceph_cluster(tmp_path_factory.mktemp("ceph")))
        except (FileNotFoundError, RuntimeError) as error:
            not_run(str(error))
        yield options


@pytest.fixture
def options(driver: str, request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Those of a store, beside its path."""
    return {"driver": driver, **(request.getfixturevalue("ceph") if driver == "rbd" else {})}


@pytest.fixture
def tmp_path(tmp_path: Path, driver: str, request: pytest.FixtureRequest) -> Path:
    """Where the driver can be: the usual place, for most."""
    if driver != "raw":
        return tmp_path
    top: Path = request.getfixturevalue("mounted")
    return Path(tempfile.mkdtemp(dir=top))


_TAKES_MINUTES = frozenset({"test_killed_at_any_step_both_stores_have_moved_or_neither"})
"""Over a cluster, which waits for each client that died: with PLAIT_SOAK alone."""


class Fresh(Protocol):
    """Makes another instance on the same folder, as another process would have."""

    def __call__(self, *, mergers: Sequence[Merger] = (), **options: str) -> BlockAdapter: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    need("qemu-storage-daemon", "qemu-img")
    return tmp_path / "volumes"


@pytest.fixture
def make_fresh(options: Mapping[str, str]) -> Iterator[Callable[[Path], Fresh]]:
    """All instances are closed at the end, and each folder's daemon with the last of them."""
    made: list[BlockAdapter] = []
    folders: set[Path] = set()

    def fresh(folder: Path) -> Fresh:
        state = MemoryState()
        folders.add(folder)

        def make(*, mergers: Sequence[Merger] = (), **others: str) -> BlockAdapter:
            context = Context(state=state, mergers=lambda: mergers)
            chosen = {"path": str(folder), **options, **others}
            adapter = BlockAdapter(Store("vm", "block", options=chosen), context)
            made.append(adapter)
            return adapter

        return make

    yield fresh
    for adapter in made:
        adapter.close()
    assert not [folder for folder in folders if (folder / "run" / "pid").exists()]


@pytest.fixture
def fresh(folder: Path, make_fresh: Callable[[Path], Fresh]) -> Fresh:
    return make_fresh(folder)


@pytest.fixture
def adapter(fresh: Fresh) -> BlockAdapter:
    return fresh()


class Work:
    """One transaction on one volume."""

    def __init__(self, adapter: BlockAdapter, tx: str, base: SnapshotRef | None = None) -> None:
        self.adapter = adapter
        self.port = MemoryPort(adapter, tx, {} if base is None else {KEY: base})
        self.attempt = 0
        if base is None:
            volumes = adapter.open_store(self.port)
            assert isinstance(volumes, Volumes)
            self.volume: Volume = volumes.create("disk0", size_bytes=SIZE)
        else:
            self.volume = adapter.open(self.port.add(KEY), self.port)

    def write(self, offset: int, content: bytes) -> Work:
        self.volume.write(offset, content)
        return self

    def prepare(self) -> SnapshotRef:
        self.attempt += 1
        vote = self.adapter.prepare(self.port.tx, self.attempt, self.port.stagings)[KEY]
        assert vote is not None
        return vote


@pytest.fixture
def base(adapter: BlockAdapter) -> SnapshotRef:
    """A volume with three pages of its own."""
    return Work(adapter, "tx-base").write(0, b"a" * 4096).write(1 << 20, b"b" * 8192).prepare()


def ext4_image(path: Path, tree: Mapping[str, str], *options: str) -> Path:
    """A filesystem made without root: `mke2fs -d`."""
    need("mke2fs", "fuse2fs", "fusermount3", "e2fsck", "debugfs")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("NOT RUN without access to /dev/fuse")
    folder = path.with_suffix(".tree")
    for name, text in tree.items():
        where = folder / name
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
    environment = {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])}
    command = ["mke2fs", "-q", "-t", "ext4", *options, "-d", str(folder), str(path)]
    subprocess.run(command, check=True, env=environment)
    return path


def content(adapter: BlockAdapter, snapshot: SnapshotRef, offset: int, length: int) -> bytes:
    return adapter.open(snapshot, None).read(offset, length)
