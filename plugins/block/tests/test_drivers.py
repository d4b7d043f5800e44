"""What only some drivers do: files that share their blocks, images in Ceph."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from plait.errors import InvalidArgument, NotFound, StoreUnavailable, Unsupported
from plait.types import Depth, Merged, SnapshotRef
from plait_block import BlockAdapter, rbd, reflinks
from plait_block.ceph import Pool, _binding

from .conftest import KEY, SIZE, Fresh, Work, content

PAGE = 4096
pytestmark = pytest.mark.drivers("raw")


def items(adapter: BlockAdapter, before: SnapshotRef, after: SnapshotRef) -> list[str]:
    return [change.item for change in adapter.diff(before, after)]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on a filesystem without reflinks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def used(mounted: Path) -> int:
    """What all files of the filesystem cost, what they share counted once, and what XFS reserves for a while not."""
    os.sync()
    subprocess.run(["xfs_spaceman", "-c", "prealloc -s", str(mounted)], check=True)
    found = os.statvfs(mounted)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_a_filesystem_without_reflinks_is_refused_before_anything_is_written(
    make_fresh: Callable[[Path], Fresh], elsewhere: Path
) -> None:
    adapter = make_fresh(elsewhere / "volumes")()
    (problem,) = adapter.check()
    assert "tmpfs" in problem
    with pytest.raises(Unsupported, match="tmpfs") as refused:
        Work(adapter, "tx-1").write(0, b"x")
    assert "mkfs.xfs -m reflink=1" in str(refused.value.remedy)
    assert list((elsewhere / "volumes" / "layers").iterdir()) == []


def test_a_store_with_reflinks_is_checked(adapter: BlockAdapter, folder: Path) -> None:
    assert adapter.check() == ()
    assert list((folder / "layers").iterdir()) == []


def test_an_image_is_cloned_and_its_owner_may_go_on_writing(
    adapter: BlockAdapter, tmp_path: Path, mounted: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(16 << 20))
    before, old = used(mounted), image.read_bytes()
    taken = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]
    assert used(mounted) - before < 1 << 20
    image.write_bytes(b"other".ljust(SIZE, b"\0"))
    assert content(adapter, taken, 0, 16 << 20) == old
    assert adapter.verify(taken, Depth.BYTES).problems == ()
    assert list(adapter.retention_risks()) == []
    assert adapter.snapshot("tx-i", {KEY: str(image)})[KEY] != taken
    image.write_bytes(old)
    assert adapter.snapshot("tx-i", {KEY: str(image)})[KEY] == taken
    after = Work(adapter, "tx-1", taken).write(PAGE, b"ours").prepare()
    assert items(adapter, taken, after) == [f"@{PAGE}+{PAGE}"]


def test_images_that_cannot_be_cloned_are_refused(adapter: BlockAdapter, tmp_path: Path, elsewhere: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "a.qcow2"), "1M"], check=True)
    (tmp_path / "odd.img").write_bytes(b"x" * 1000)
    (elsewhere / "far.img").write_bytes(b"x" * PAGE)
    with pytest.raises(Unsupported, match="takes raw ones"):
        adapter.snapshot("tx-i", {KEY: str(tmp_path / "a.qcow2")})
    with pytest.raises(InvalidArgument, match="1000 bytes"):
        adapter.snapshot("tx-i", {KEY: str(tmp_path / "odd.img")})
    with pytest.raises(Unsupported, match="another filesystem"):
        adapter.snapshot("tx-i", {KEY: str(elsewhere / "far.img")})
    found = {one.name: one.refusal for one in adapter.discover(str(tmp_path))}
    assert "takes raw ones" in found[("a",)]
    (far,) = adapter.discover(str(elsewhere))
    assert "another filesystem" in far.refusal


@pytest.mark.drivers("raw", "rbd")
def test_a_version_needs_no_other(adapter: BlockAdapter, base: SnapshotRef) -> None:
    middle = Work(adapter, "tx-1", base).write(PAGE, b"middle").prepare()
    newest = Work(adapter, "tx-2", middle).write(2 * PAGE, b"newest").prepare()
    for tx, kept in (("tx-base", base), ("tx-1", middle), ("tx-2", newest)):
        adapter.release(tx, [kept])
    kept = {item.path for one in (base, newest) for item in adapter.reachable(one)}
    adapter.delete([item for item in adapter.inventory() if item.path not in kept])
    assert adapter.verify(middle, Depth.EXISTS).problems
    assert content(adapter, newest, PAGE, 6) == b"middle"
    assert adapter.verify(newest, Depth.BYTES).problems == ()
    assert items(adapter, base, newest) == [f"@{PAGE}+{2 * PAGE}"]


@pytest.mark.drivers("raw", "rbd")
def test_equal_content_has_an_equal_digest_whatever_its_history(adapter: BlockAdapter, base: SnapshotRef) -> None:
    there = Work(adapter, "tx-1", base).write(PAGE, b"x").write(5 * PAGE, b"y").prepare()
    back = Work(adapter, "tx-2", there).write(PAGE, bytes(PAGE)).write(5 * PAGE, bytes(PAGE)).prepare()
    assert back != base
    assert back.digest == base.digest
    assert there.digest != base.digest
    assert items(adapter, base, back) == []


def test_a_copy_that_shares_nothing_any_more_is_as_good(
    adapter: BlockAdapter, base: SnapshotRef, make_fresh: Callable[[Path], Fresh], tmp_path: Path
) -> None:
    after = Work(adapter, "tx-1", base).write(PAGE, b"x").prepare()
    adapter.close()
    shutil.copytree(adapter.folder.root, tmp_path / "copy", ignore=shutil.ignore_patterns("run"))
    copied = make_fresh(tmp_path / "copy")()
    first, second = (copied.layers.own_files(copied.layers.get(one.version))[1] for one in (base, after))
    assert reflinks.differing(reflinks.extents(first), reflinks.extents(second))[0][0] == 0
    assert items(copied, base, after) == [f"@{PAGE}+{PAGE}"]
    assert copied.verify(after, Depth.BYTES).problems == ()


def test_versions_cost_what_they_change(adapter: BlockAdapter, tmp_path: Path, mounted: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(256 << 20))
    base = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]
    before = used(mounted)
    changed = 64 * (PAGE + 60 * PAGE)
    for branch in range(4):
        work = Work(adapter, f"tx-{branch}", base)
        with work.volume.connect() as client:
            for number in range(64):
                client.write((number << 22) + branch * PAGE, os.urandom(PAGE))
                client.write((number << 22) + (1 << 20), os.urandom(60 * PAGE))
            client.flush()
        work.prepare()
    assert used(mounted) - before <= 4 * changed * 1.2


@pytest.mark.drivers("raw", "rbd")
def test_a_cut_under_a_writer_holds_what_was_flushed_and_nothing_out_of_order(
    adapter: BlockAdapter, base: SnapshotRef
) -> None:
    work = Work(adapter, "tx-1", base)
    flushed, ends = [0], threading.Event()

    def write() -> None:
        with work.volume.connect() as client:
            while not ends.is_set():
                number = flushed[0] + 1
                for page in (0, 512):
                    client.write(page * PAGE, number.to_bytes(8, "big") * 512)
                    client.flush()
                flushed[0] = number

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not flushed[0]:
            assert thread.is_alive()
        cuts = [(flushed[0], work.prepare()) for _ in range(20)]
    finally:
        ends.set()
        thread.join()
    for known, cut in cuts:
        first, second = (content(adapter, cut, page * PAGE, PAGE) for page in (0, 512))
        numbers = [int.from_bytes(page[:8], "big") for page in (first, second)]
        assert [first, second] == [number.to_bytes(8, "big") * 512 for number in numbers]
        assert known <= numbers[1] <= numbers[0] <= numbers[1] + 1
        assert adapter.verify(cut, Depth.BYTES).problems == ()


# -- Ceph --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(ceph: Mapping[str, str]) -> Pool:
    return Pool(**ceph)


@pytest.mark.drivers("rbd")
def test_an_image_in_ceph_is_cloned_and_its_owner_may_go_on_writing(adapter: BlockAdapter, pool: Pool) -> None:
    pool.create("theirs", SIZE)
    pool.write("theirs", PAGE, b"first")
    source = f"rbd:{pool}/theirs"
    assert ("theirs",) in [one.name for one in adapter.discover(f"rbd:{pool}")]
    taken = adapter.snapshot("tx-i", {KEY: source})[KEY]
    assert adapter.snapshot("tx-i", {KEY: source})[KEY] == taken
    pool.write("theirs", PAGE, b"later")
    assert content(adapter, taken, PAGE, 5) == b"first"
    assert adapter.verify(taken, Depth.BYTES).problems == ()
    assert pool.snapshots("theirs") == []
    after = Work(adapter, "tx-1", taken).write(0, b"ours").prepare()
    assert items(adapter, taken, after) == [f"@0+{PAGE}"]
    for wrong, error in (("/images/a.img", InvalidArgument), (f"rbd:{pool}/nothing", NotFound)):
        with pytest.raises(error):
            adapter.snapshot("tx-i", {KEY: wrong})


@pytest.mark.drivers("rbd")
def test_who_was_shut_out_of_ceph_opens_the_volume_again_and_has_what_was_flushed(
    adapter: BlockAdapter, base: SnapshotRef, pool: Pool
) -> None:
    work = Work(adapter, "tx-1", base)
    with work.volume.connect() as client:
        client.write(0, b"first")
        client.flush()
        for name in pool.names():
            with pool._opened(name, None, writable=True) as image:  # As another client does where this one stalls.
                for owner in image.lock_get_owners():
                    image.lock_break(owner["mode"], owner["owner"])
        with pytest.raises(StoreUnavailable, match="shutdown") as refused:
            client.write(PAGE, b"lost")
            client.flush()
        assert "open the volume again" in str(refused.value.remedy)
    work.write(2 * PAGE, b"again")
    cut = work.prepare()
    assert [content(adapter, cut, at, 5) for at in (0, PAGE, 2 * PAGE)] == [b"first", bytes(5), b"again"]


@pytest.mark.drivers("rbd")
def test_what_a_merge_cut_off_an_image_in_ceph_is_a_difference(adapter: BlockAdapter, pool: Pool) -> None:
    for name, size in (("long", 2 * SIZE), ("short", SIZE)):
        pool.create(name, size)
        pool.write(name, size - PAGE, b"z")
    base, short = (adapter.snapshot(f"tx-{name}", {KEY: f"rbd:{pool}/{name}"})[KEY] for name in ("long", "short"))
    ours = Work(adapter, "tx-1", base).write(0, b"x").prepare()
    answer = adapter.merge("tx-m", 1, base=base, ours=ours, theirs=short)
    assert isinstance(answer, Merged)
    assert adapter.open(answer.snapshot, None).size_bytes == SIZE
    differing = [f"@{SIZE - PAGE}+{PAGE}", f"@{2 * SIZE - PAGE}+{PAGE}"]
    assert items(adapter, ours, answer.snapshot) == items(adapter, answer.snapshot, ours) == differing


@pytest.mark.drivers("rbd")
def test_clones_do_not_become_deep(adapter: BlockAdapter, base: SnapshotRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd, "DEPTH_MAX", 3)
    history = [base]
    for number in range(8):
        history.append(Work(adapter, f"tx-{number}", history[-1]).write(number * PAGE, b"%04d" % number).prepare())
    assert max(adapter.layers.get(one.version).depth for one in history) == 3
    assert [content(adapter, history[-1], page * PAGE, 4) for page in (0, 7)] == [b"0000", b"0007"]
    assert items(adapter, history[2], history[-1]) == [f"@{2 * PAGE}+{6 * PAGE}"]
    assert adapter.verify(history[-1], Depth.BYTES).problems == ()


@pytest.mark.drivers("rbd")
def test_what_is_dropped_leaves_the_pool(adapter: BlockAdapter, base: SnapshotRef, pool: Pool) -> None:
    before = pool.names()
    work = Work(adapter, "tx-1", base)
    with work.volume.connect() as client:
        client.write(0, b"x")
        work.prepare()
    assert pool.names() != before
    adapter.abort("tx-1")
    assert pool.names() == before
    newest = Work(adapter, "tx-2", base).write(0, b"newest").prepare()
    for tx, kept in (("tx-base", base), ("tx-2", newest)):
        adapter.release(tx, [kept])
    reachable = {item.path for item in adapter.reachable(newest)}
    adapter.delete([item for item in adapter.inventory() if item.path not in reachable])
    assert adapter.verify(base, Depth.EXISTS).problems
    assert content(adapter, newest, 0, 6) == b"newest"
    assert adapter.verify(newest, Depth.BYTES).problems == ()
    assert len(set(pool.names()) - set(before)) == 1


@pytest.mark.drivers("rbd")
def test_a_snapshot_that_is_gone_from_ceph_is_found_out(adapter: BlockAdapter, base: SnapshotRef, pool: Pool) -> None:
    adapter.close()
    layer = adapter.layers.get(base.version)
    (image,) = [name for name in pool.names() if name.endswith(layer.holder or layer.id)]
    pool.drop_snapshot(image, layer.id)
    for depth in Depth:
        assert "missing" in adapter.verify(base, depth).problems[0]


@pytest.mark.drivers("rbd")
def test_a_cluster_that_cannot_be_used_is_named(fresh: Fresh, ceph: Mapping[str, str]) -> None:
    assert fresh().check() == ()
    assert "nowhere" in fresh(pool="nowhere").check()[0]
    assert "/nothing.conf" in fresh(conf="/nothing.conf").check()[0]


@pytest.mark.drivers("rbd")
def test_all_stores_of_a_process_share_a_connection(fresh: Fresh, pool: Pool) -> None:
    pool.names()
    threads = len(os.listdir("/proc/self/task"))
    kept = [fresh() for _ in range(3)]  # Each with a connection of its own would have 15 threads more.
    for adapter in kept:
        assert adapter.check() == ()
        list(adapter.discover(f"rbd:{pool}"))
    assert len(os.listdir("/proc/self/task")) < threads + 24


def test_a_missing_binding_is_named_with_how_to_get_it() -> None:
    with pytest.raises(Unsupported, match="rados_of_nobody") as refused:
        _binding("rados_of_nobody")
    assert "apt-get install python3-rbd" in str(refused.value.remedy)


# -- parts -------------------------------------------------------------------------------------------------------------


def test_extents_that_are_unsure_are_never_taken_as_shared() -> None:
    sure, unsure = (reflinks.Extent(0, 8192, shift) for shift in (4096, None))
    assert reflinks.differing([sure], [sure]) == []
    assert reflinks.differing([unsure], [unsure]) == [(0, 8192)]
    assert reflinks.differing([sure], [reflinks.Extent(4096, 8192, 4096)]) == [(0, 4096)]
    assert reflinks.differing([sure], [reflinks.Extent(0, 8192, 8192)]) == [(0, 8192)]
    assert reflinks.differing([], []) == []


def test_another_driver_on_the_same_folder_is_refused(fresh: Fresh, base: SnapshotRef) -> None:
    with pytest.raises(InvalidArgument, match="'raw'"):
        fresh(driver="qcow2").locate(base)
