"""A harness of the conformance suite: rows are pages of a volume, read back by libnbd's own client."""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import ClassVar, cast

from plait.adapter import Adapter, Context, StagingPort
from plait.refspec import format_key
from plait.types import Json, Key, Location, Move, SnapshotRef, Store
from plait_conformance.harness import Edits, Harness, Rows
from plait_conformance.testing import MemoryState

from plait_block.adapter import BlockAdapter
from plait_block.ceph import Pool
from plait_block.heads import LIVE
from plait_block.rbd import RbdImage
from plait_block.volume import Volume, Volumes

_PAGE = 4096
_SIZE = 16 << 20


class BlockHarness(Harness):
    """Row n is every other page, so that no two rows touch and become one extent."""

    keeps_all_in_folder: ClassVar[bool] = True
    driver: ClassVar[str] = "qcow2"

    def open(self, context: Context) -> BlockAdapter:
        options = {"path": str(self.folder / "volumes"), "driver": self.driver, **self.options()}
        return BlockAdapter(Store("vm", "block", options=options), context)

    def options(self) -> dict[str, str]:
        """Those that the driver takes beside the path."""
        return {}

    def close(self) -> None:
        """End what is still open: a working volume whose URI was asked for stays served until then."""
        adapter = self.open(Context(MemoryState()))
        for places in sorted(adapter.folder.root.glob("places/*")):
            adapter.abort(places.name)
        adapter.close()

    def make_native(self, content: bytes) -> str:
        """An image that plait did not make; how it is named."""
        path = self.folder / f"{uuid.uuid4()}.img"
        path.write_bytes(content)
        return str(path)

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        volumes = cast(Volumes, adapter.open_store(port))
        _write(volumes.create(format_key(key[1:]), size_bytes=_SIZE), rows)

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        _write(cast(Volume, adapter.open(port.add(key), port)), edits)

    def read(self, location: Location) -> Rows:
        content = subprocess.run(["nbdcopy", location.uri, "-"], check=True, capture_output=True).stdout
        pages = range(0, len(content), 2 * _PAGE)
        found = {f"r{at // _PAGE // 2}": content[at : at + _PAGE].rstrip(b"\0").decode() for at in pages}
        return {row: text for row, text in found.items() if text}

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """A new raw image; or, as a machine that runs on the published volume, its live volume."""
        if snapshot is None:
            content = bytearray(_SIZE)
            for row, text in edits.items():
                content[_offset(row) : _offset(row) + _PAGE] = _page(text)
            return self.make_native(bytes(content))
        adapter = self.open(Context(MemoryState()))
        if adapter.head(snapshot.asset) is None:
            adapter.publish({("vm", "a"): Move(None, snapshot, 0)})
        _write(adapter.live(snapshot.asset), edits)
        adapter.close()
        return f"{LIVE}{snapshot.asset}"

    def item(self, row: str) -> str:
        return f"@{_offset(row)}+{_PAGE}"

    def value(self, row: str, text: str) -> Json:
        return _page(text).hex()

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """Flip one byte of a page where the layer's file keeps it."""
        adapter = self.open(Context(MemoryState()))
        text = next(iter(self.read(adapter.locate(snapshot)).values())).encode()
        adapter.close()
        for image in adapter.layers.chain(adapter.layers.get(snapshot.version)):
            content = bytearray(image.path.read_bytes())
            at = content.find(text.ljust(_PAGE, b"\0"))
            if at >= 0:
                content[at] ^= 1
                image.path.chmod(0o644)
                image.path.write_bytes(content)
                return
        raise AssertionError("no layer of the snapshot holds its rows")


class RawHarness(BlockHarness):
    """As files that share their blocks: its folder has to be on a filesystem with reflinks."""

    driver: ClassVar[str] = "raw"


class RbdHarness(BlockHarness):
    """As images in Ceph, as `PLAIT_TEST_CEPH` names pool, configuration and user: `POOL:/…/ceph.conf:USER`."""

    driver: ClassVar[str] = "rbd"
    keeps_all_in_folder: ClassVar[bool] = False
    survives_fork: ClassVar[bool] = False

    def options(self) -> dict[str, str]:
        return dict(zip(("pool", "conf", "user"), os.environ["PLAIT_TEST_CEPH"].split(":"), strict=True))

    def make_native(self, content: bytes) -> str:
        pool = Pool(**self.options())
        name = f"native-{uuid.uuid4()}"
        pool.create(name, len(content))
        pool.write(name, 0, content)
        return f"rbd:{pool}/{name}"

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """Another snapshot by the same name, of another byte: Ceph itself keeps those that are there."""
        adapter = self.open(Context(MemoryState()))
        row, text = next(iter(self.read(adapter.locate(snapshot)).items()))
        adapter.close()
        image = adapter.layers.image(adapter.layers.get(snapshot.version))
        assert isinstance(image, RbdImage)
        assert image.snapshot is not None
        flipped = bytes([text.encode()[0] ^ 1])
        image.pool.drop_snapshot(image.image, image.snapshot)
        image.pool.write(image.image, _offset(row), flipped)
        image.pool.snapshot(image.image, image.snapshot)


def _offset(row: str) -> int:
    return int(row[1:]) * 2 * _PAGE


def _page(text: str | None) -> bytes:
    return (text or "").encode().ljust(_PAGE, b"\0")


def _write(volume: Volume, edits: Edits) -> None:
    with volume.connect() as client:
        for row, text in edits.items():
            client.write(_offset(row), _page(text))
        client.flush()
