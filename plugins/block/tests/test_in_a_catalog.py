"""Whole commits, merges, reverts and publications of volumes through plait's catalog."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import plait
import pytest
from plait.adapter import Adapter
from plait.catalog import Catalog
from plait.errors import CommitConflict, Corrupt, StoreDiverged
from plait.hookspecs import hookimpl
from plait.plugins import Plugins
from plait.types import Choice, Depth
from plait_block import BlockAdapter, Volume, Volumes

from .conftest import SIZE, ext4_image, need

PAGE = 4096
pytestmark = pytest.mark.drivers("qcow2", "raw")
DISK = "vm.disk0"


class Blocks:
    """The plugin under test alone."""

    @hookimpl
    def plait_register_adapters(self) -> Sequence[type[Adapter]]:
        return [BlockAdapter]


def reopened(tmp_path: Path) -> Catalog:
    return plait.open(str(tmp_path / "catalog"), plugins=Plugins([Blocks()], installed=False))


@pytest.fixture
def catalog(tmp_path: Path, folder: Path, options: Mapping[str, str]) -> Iterator[Catalog]:
    plait.init(str(tmp_path / "catalog")).close()
    with reopened(tmp_path) as opened:
        opened.add_store("vm", "block", {"path": str(folder), **options})
        yield opened
    assert not (folder / "run" / "pid").exists()


def write(catalog: Catalog, ref: str, pages: dict[int, bytes]) -> None:
    with catalog.transaction(ref, message=f"write {sorted(pages)}") as tx:
        volumes = cast(Volumes, tx.store("vm"))
        volume = volumes.open("disk0") if "disk0" in volumes.names() else volumes.create("disk0", size_bytes=SIZE)
        for page, content in pages.items():
            volume.write(page * PAGE, content)


def held(catalog: Catalog, spec: str, *pages: int) -> list[bytes]:
    volume = cast(Volume, catalog.at(spec).open(DISK))
    return [volume.read(page * PAGE, 4).rstrip(b"\0") for page in pages]


def live_volume(catalog: Catalog) -> Volume:
    tx = catalog.begin("main")
    try:
        return cast(Volumes, tx.store("vm")).live("disk0")
    finally:
        tx.discard()


def test_branches_merge_by_extent_and_a_revert_takes_it_back(catalog: Catalog) -> None:
    write(catalog, "main", {0: b"base", 9: b"base"})
    catalog.create_branch("dev")
    write(catalog, "dev", {0: b"dev"})
    write(catalog, "main", {9: b"main"})
    assert held(catalog, "dev", 0, 9) == [b"deve", b"base"]
    catalog.merge("dev")
    assert held(catalog, "main", 0, 9) == [b"deve", b"main"]
    assert [change.item for change in catalog.diff_items(DISK, "main~1", "main")] == [f"@0+{PAGE}"]
    catalog.revert("main", "main")
    assert held(catalog, "main", 0, 9) == [b"base", b"main"]
    assert held(catalog, "main~1", 0, 9) == [b"deve", b"main"]
    assert list(catalog.verify(Depth.BYTES)) == []


def test_a_conflict_is_settled_by_extent(catalog: Catalog) -> None:
    write(catalog, "main", {0: b"base"})
    catalog.create_branch("dev")
    write(catalog, "dev", {0: b"dev!", 1: b"dev!"})
    write(catalog, "main", {0: b"main"})
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("dev")
    (item,) = [conflict.item for conflict in caught.value.conflicts]
    (tx,) = catalog.working_sets()
    working = catalog.working_set(tx.id)
    working.resolve(DISK, Choice.THEIRS, item=item)
    working.commit()
    assert held(catalog, "main", 0, 1) == [b"dev!", b"dev!"]


def test_the_past_is_read_with_the_stores_own_client_and_parts_of_it_come_back(
    catalog: Catalog, tmp_path: Path
) -> None:
    need("nbdcopy")
    write(catalog, "main", {0: b"one", 1: b"one"})
    write(catalog, "main", {0: b"two", 1: b"two"})
    location = catalog.at("main~1").locate(DISK)
    subprocess.run(["nbdcopy", location.uri, str(tmp_path / "then")], check=True)
    assert (tmp_path / "then").read_bytes()[:3] == b"one"
    with catalog.transaction(message="restore") as tx:
        tx.restore(DISK, "main~1", items=[f"@0+{PAGE}"])
    assert held(catalog, "main", 0, 1) == [b"one", b"two"]


def test_any_nbd_client_writes_into_a_working_set(catalog: Catalog, tmp_path: Path) -> None:
    need("nbdcopy")
    write(catalog, "main", {0: b"one"})
    volume = tmp_path / "volume.img"
    subprocess.run(["nbdcopy", catalog.at("main").locate(DISK).uri, str(volume)], check=True)
    volume.write_bytes(b"two" + volume.read_bytes()[3:])
    tx = catalog.begin(message="by hand")
    subprocess.run(["nbdcopy", str(volume), tx.locate(DISK).uri], check=True)
    assert held(catalog, "main", 0) == [b"one"]
    tx.commit()
    assert held(catalog, "main", 0) == [b"two"]


def test_writes_to_the_live_volume_are_adopted(catalog: Catalog) -> None:
    write(catalog, "main", {0: b"base"})
    catalog.publish()
    live = live_volume(catalog)
    live.write(PAGE, b"live")
    write(catalog, "main", {2: b"main"})
    (publication,) = catalog.publish()
    assert publication.state == "diverged"
    catalog.adopt(DISK)
    assert catalog.publish() == []
    assert held(catalog, "main", 0, 1, 2) == [b"base", b"live", b"main"]
    assert live.read(PAGE, 4) + live.read(2 * PAGE, 4) == b"livemain"


def test_a_live_volume_is_committed_under_its_machine(catalog: Catalog) -> None:
    write(catalog, "main", {0: b"base"})
    catalog.publish()
    with live_volume(catalog).connect() as client:
        client.write(0, b"live")
        with catalog.transaction(message="freeze") as tx:
            cast(Volumes, tx.store("vm")).freeze("disk0")
        client.write(0, b"more")
        assert catalog.publish() == []
        assert held(catalog, "main", 0) == [b"live"]
        with pytest.raises(StoreDiverged, match="publish first"), catalog.transaction() as tx:
            write(catalog, "main", {1: b"elsewhere"})
            cast(Volumes, catalog.begin("main").store("vm")).freeze("disk0")
        assert client.read(0, 4) == b"more"


def test_an_imported_image_is_an_asset_like_any_other(catalog: Catalog, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"theirs".ljust(SIZE, b"\0"))
    with catalog.transaction(message="import") as tx:
        catalog.backend.import_assets(tx.id, {("vm", "disk0"): str(image)})
    write(catalog, "main", {1: b"ours"})
    assert held(catalog, "main", 0, 1) == [b"thei", b"ours"]
    assert image.read_bytes()[:PAGE] == b"theirs".ljust(PAGE, b"\0")


@pytest.mark.drivers("qcow2")
def test_an_imported_image_that_is_gone_is_named_with_what_to_do(catalog: Catalog, tmp_path: Path) -> None:
    image, moved = tmp_path / "image", tmp_path / "moved"
    image.write_bytes(b"theirs".ljust(SIZE, b"\0"))
    with catalog.transaction(message="import") as tx:
        catalog.backend.import_assets(tx.id, {("vm", "disk0"): str(image)})
    write(catalog, "main", {1: b"ours"})
    catalog.publish()
    assert catalog.check_store("vm")[0] == []
    image.rename(moved)
    (lack,), _ = catalog.check_store("vm")
    assert f"left {DISK}: layer " in lack.problem
    assert str(image) in lack.problem
    with pytest.raises(Corrupt, match=f"{image} · put the image back at {image}, as it was"):
        held(catalog, "main", 0)
    with pytest.raises(Corrupt, match="put the image back"):
        list(catalog.diff_items(DISK, None, "main"))
    assert catalog.publish() == []
    moved.rename(image)
    assert catalog.check_store("vm")[0] == []
    assert held(catalog, "main", 0, 1) == [b"thei", b"ours"]


def test_blame_says_of_each_file_who_changed_it(catalog: Catalog, tmp_path: Path) -> None:
    image = ext4_image(tmp_path / "image", {"a": "1\n", "b/c": "1\n"})
    other = ext4_image(tmp_path / "other", {"d": "1\n"})
    with catalog.transaction(message="import") as tx:
        catalog.backend.import_assets(tx.id, {("vm", "disk0"): str(image)})
        cast(Volumes, tx.store("vm")).create("disk1", size_bytes=16 << 20)
    with catalog.transaction(message="edit") as tx, cast(Volume, tx.open(DISK)).files() as root:
        (root / "a").write_text("2\n")
    with catalog.transaction(message="mkfs") as tx:
        cast(Volume, tx.open("vm.disk1")).write(0, other.read_bytes())
    with catalog.transaction(message="more") as tx, cast(Volume, tx.open("vm.disk1")).files() as root:
        (root / "e").write_text("2\n")

    def blamed(key: str, *items: str) -> dict[str, str]:
        return {one.item: one.commit.message for one in catalog.blame(key, items=items or None)}

    assert blamed(DISK) == {"a": "edit", "b": "import", "b/c": "import"}
    assert blamed(DISK, "b/c") == {"b/c": "import"}
    assert blamed("vm.disk1") == {"d": "mkfs", "e": "more"}
    assert blamed("vm.disk1", "d") == {"d": "mkfs"}


def test_a_machine_writes_on_while_its_working_set_is_committed(catalog: Catalog) -> None:
    write(catalog, "main", {0: b"base"})
    with catalog.transaction(message="under a client") as tx:
        volume = cast(Volume, tx.open(DISK))
        client = volume.connect()
        client.write(0, b"mine")
    client.write(0, b"late")
    client.close()
    assert held(catalog, "main", 0) == [b"mine"]


@pytest.mark.parametrize("end", ["commit", "discard"])
def test_a_working_volume_is_served_from_one_process_to_the_next(
    catalog: Catalog, tmp_path: Path, folder: Path, end: str
) -> None:
    write(catalog, "main", {0: b"base"})
    tx = catalog.begin(message="by hand")
    uri = tx.locate(DISK).uri
    catalog.close()
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 109 0 4k", uri], check=True, capture_output=True)
    with reopened(tmp_path) as later:
        working = later.working_set(tx.id)
        working.commit() if end == "commit" else working.discard()
    assert not (folder / "run" / "pid").exists()
    with reopened(tmp_path) as later:
        assert held(later, "main", 0) == [b"mmmm" if end == "commit" else b"base"]


_KILLED = """
import os, signal, sys, plait
from plait.failpoint import arm
from plait.plugins import Plugins
sys.path.insert(0, sys.argv[3])
from tests.test_in_a_catalog import Blocks, write
catalog = plait.open(sys.argv[1], plugins=Plugins([Blocks()], installed=False))
arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == sys.argv[2] else None)
write(catalog, "main", {1: b"killed"})
catalog.publish()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["coordinator.after_commit_point", "block.publish.before_head", "block.prepare.before_vote"]
)
def test_a_killed_process_loses_nothing_that_was_committed(
    catalog: Catalog, tmp_path: Path, folder: Path, place: str
) -> None:
    write(catalog, "main", {0: b"base"})
    catalog.publish()
    before = catalog.at("main").commit.id
    catalog.close()
    script = [sys.executable, "-c", _KILLED, str(tmp_path / "catalog"), place, str(Path(__file__).parent.parent)]
    ended = subprocess.run(script, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with reopened(tmp_path) as again:
        if place == "block.prepare.before_vote":
            assert again.at("main").commit.id == before
            assert held(again, "main", 1) == [b""]
        else:
            assert held(again, "main", 0, 1) == [b"base", b"kill"]
        assert again.publish() == []
        assert live_volume(again).read(PAGE, 4).rstrip(b"\0") == held(again, "main", 1)[0]
        assert list(again.verify(Depth.BYTES)) == []
