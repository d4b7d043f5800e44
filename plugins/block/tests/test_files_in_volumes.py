"""A real ext4 filesystem inside: diffs, merges and restores by file, and e2fsck's word on every result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from plait.adapter import Merger
from plait.errors import Corrupt, InvalidArgument, StoreUnavailable
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Depth,
    ItemChangeKind,
    Merged,
    Resolution,
    SnapshotRef,
    Staging,
)
from plait_block import BlockAdapter, images
from plait_block.ext4 import Broken

from .conftest import KEY, Fresh, Work, ext4_image, need

TREE = {
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/motd": "one\ntwo\nthree\n",
    "home/ada/notes": "n\n",
    "home/bob/x": "x\n",
}


def lines_merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Line by line, for files with as many lines on all sides."""
    merged = []
    for old, left, right in zip(*(side.splitlines(True) for side in (base, ours, theirs)), strict=True):
        if left != right and old not in (left, right):
            return None
        merged.append(right if left == old else left)
    return b"".join(merged)


@pytest.fixture
def adapter(fresh: Fresh) -> BlockAdapter:
    return fresh(mergers=[Merger("lines", "*motd", lines_merge, version="2")])


@pytest.fixture
def disk(adapter: BlockAdapter, tmp_path: Path) -> SnapshotRef:
    image = ext4_image(tmp_path / "disk", TREE)
    return adapter.snapshot("tx-i", {KEY: str(image)})[KEY]


def changed(adapter: BlockAdapter, tx: str, base: SnapshotRef, change: Callable[[Path], object]) -> SnapshotRef:
    work = Work(adapter, tx, base)
    with work.volume.files() as root:
        change(root)
    return work.prepare()


def texts(adapter: BlockAdapter, snapshot: SnapshotRef) -> dict[str, str]:
    with adapter.open(snapshot, None).files() as root:
        return {
            path.relative_to(root).as_posix(): path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }


def is_whole(adapter: BlockAdapter, snapshot: SnapshotRef, tmp_path: Path) -> bool:
    """What e2fsck says of a copy that a real client made."""
    need("nbdcopy")
    copy = tmp_path / "copy"
    copy.unlink(missing_ok=True)
    subprocess.run(["nbdcopy", adapter.locate(snapshot).uri, str(copy)], check=True)
    return subprocess.run(["/usr/sbin/e2fsck", "-fn", str(copy)], capture_output=True, check=False).returncode == 0


def merged(
    adapter: BlockAdapter, base: SnapshotRef, ours: SnapshotRef, theirs: SnapshotRef, *settled: Resolution
) -> Merged | Conflicted:
    return adapter.merge("tx-m", 1, base=base, ours=ours, theirs=theirs, resolutions=settled)


def conflicts(answer: Merged | Conflicted) -> Sequence[Conflict]:
    assert isinstance(answer, Conflicted)
    return answer.conflicts


def snapshot_of(answer: Merged | Conflicted) -> SnapshotRef:
    assert isinstance(answer, Merged), answer
    return answer.snapshot


def test_a_diff_names_files(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    def change(root: Path) -> None:
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (root / "home/bob/x").unlink()
        (root / "srv").mkdir()
        (root / "srv/link").symlink_to("../etc")
        (root / "etc/motd").chmod(0o600)
        os.utime(root / "home/ada/notes")

    after = changed(adapter, "tx-1", disk, change)
    found = {one.item: one for one in adapter.diff(disk, after)}
    assert {item: str(one.kind) for item, one in found.items()} == {
        "etc/hosts": "changed", "etc/motd": "changed", "home/bob/x": "removed", "srv": "added", "srv/link": "added"
    }  # fmt: skip
    assert list(found) == sorted(found)
    assert {one.aspect for one in found.values()} == {"file"}
    assert isinstance(described := found["srv/link"].after, dict)
    assert described["target"] == "../etc"
    (only,) = adapter.diff(disk, after, items=["etc/hosts"])
    assert only.kind is ItemChangeKind.CHANGED
    assert list(adapter.diff(disk, disk)) == []


def test_a_filesystem_differs_by_file_from_nothing_and_from_zeroes(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    blank = Work(adapter, "tx-1").prepare()
    for before, after in ((None, disk), (blank, disk)):
        found = {one.item: one for one in adapter.diff(before, after)}
        assert list(found) == sorted([*TREE, "etc", "home", "home/ada", "home/bob"])
        assert {(one.kind, one.aspect, one.before) for one in found.values()} == {(ItemChangeKind.ADDED, "file", None)}
        assert isinstance(told := found["etc/hosts"].after, dict)
        assert told["size"] == len(TREE["etc/hosts"])
        assert {one.item: one.kind for one in adapter.diff(after, before)} == dict.fromkeys(
            found, ItemChangeKind.REMOVED
        )
        assert list(adapter.diff(before, after, items=["etc/hosts"])) == [found["etc/hosts"]]


def test_files_are_found_by_path_where_a_filesystem_took_the_place_of_other_bytes(
    adapter: BlockAdapter, disk: SnapshotRef
) -> None:
    other = Work(adapter, "tx-1").write(0, b"other").prepare()
    assert {one.aspect for one in adapter.diff(other, disk)} == {"extent"}
    (found,) = adapter.diff(other, disk, items=["etc/hosts"])
    assert (found.item, found.kind) == ("etc/hosts", ItemChangeKind.ADDED)
    assert list(adapter.diff(other, disk, items=["etc/none"])) == []


def test_a_change_of_the_same_size_in_the_same_second_is_seen(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    after = changed(adapter, "tx-1", disk, lambda root: (root / "home/bob/x").write_text("y\n"))
    later = changed(adapter, "tx-2", after, lambda root: (root / "home/bob/x").write_text("z\n"))
    assert [one.item for one in adapter.diff(after, later)] == ["home/bob/x"]


def test_a_working_set_is_compared_by_file_as_well(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", disk)
    with work.volume.files() as root:
        (root / "new").write_text("new\n")
    (staging,) = work.port.stagings.values()
    assert [one.item for one in adapter.diff(disk, staging)] == ["new"]
    assert [one.item for one in adapter.diff(disk, work.prepare())] == ["new"]


def test_a_merge_joins_files_and_their_contents(adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path) -> None:
    def of_ours(root: Path) -> None:
        (root / "etc/motd").write_text("ONE\ntwo\nthree\n")
        (root / "ours").write_text("ours\n")

    def of_theirs(root: Path) -> None:
        (root / "etc/motd").write_text("one\ntwo\nTHREE\n")
        (root / "home/bob/x").unlink()
        (root / "home/bob").rmdir()
        (root / "deep/er").mkdir(parents=True)
        (root / "deep/er/file").write_text("deep\n")
        os.link(root / "deep/er/file", root / "deep/same")
        (root / "link").symlink_to("deep/er/file")
        (root / "deep/er/file").chmod(0o640)
        os.chown(root / "deep/er/file", 7, 8)
        os.setxattr(root / "deep/er/file", "user.colour", b"blue")

    ours, theirs = changed(adapter, "tx-o", disk, of_ours), changed(adapter, "tx-t", disk, of_theirs)
    result = snapshot_of(merged(adapter, disk, ours, theirs))
    assert merged(adapter, disk, ours, theirs) == Merged(result, ("lines 2",))
    assert texts(adapter, result) == {
        "deep/er/file": "deep\n", "deep/same": "deep\n", "etc/hosts": TREE["etc/hosts"],
        "etc/motd": "ONE\ntwo\nTHREE\n", "home/ada/notes": "n\n", "ours": "ours\n",
    }  # fmt: skip
    with adapter.open(result, None).files() as root:
        found = (root / "deep/er/file").stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid, found.st_nlink) == (0o640, 7, 8, 2)
        assert os.getxattr(root / "deep/er/file", "user.colour") == b"blue"
        assert os.readlink(root / "link") == "deep/er/file"
        assert not (root / "home/bob").exists()
    assert is_whole(adapter, result, tmp_path)
    assert adapter.verify(result, Depth.BYTES).problems == ()
    assert [one.item for one in adapter.diff(theirs, result)] == ["etc/motd", "ours"]


def test_mergers_are_chosen_by_media_type_too_and_one_that_fails_leaves_a_conflict(
    fresh: Fresh, tmp_path: Path
) -> None:
    def fail(base: bytes, ours: bytes, theirs: bytes) -> bytes:
        raise KeyError("column")

    adapter = fresh(mergers=[Merger("lines", "text/plain", lines_merge), Merger("broken", "*.cfg", fail)])
    image = ext4_image(tmp_path / "disk", {"a.txt": "one\ntwo\n", "b.cfg": "one\n"})
    disk = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]

    def writing(text: str, setting: str) -> Callable[[Path], object]:
        return lambda root: ((root / "a.txt").write_text(text), (root / "b.cfg").write_text(setting))

    ours = changed(adapter, "tx-o", disk, writing("ONE\ntwo\n", "ours\n"))
    theirs = changed(adapter, "tx-t", disk, writing("one\nTWO\n", "theirs\n"))
    found = merged(adapter, disk, ours, theirs)
    assert isinstance(found, Conflicted)
    assert [(one.item, one.detail) for one in found.conflicts] == [
        ("b.cfg", "both sides changed this, and the merger 'broken' failed: KeyError: 'column'")
    ]


def test_conflicts_are_per_path_and_settled_one_by_one(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    ours = changed(
        adapter,
        "tx-o",
        disk,
        lambda root: [(root / name).write_text("ours\n") for name in ("etc/hosts", "home/ada/notes", "both")],
    )
    theirs = changed(
        adapter,
        "tx-t",
        disk,
        lambda root: [(root / name).write_text("theirs\n") for name in ("etc/hosts", "home/ada/notes", "both", "new")],
    )
    items = ["both", "etc/hosts", "home/ada/notes"]
    assert [one.item for one in conflicts(merged(adapter, disk, ours, theirs))] == items
    choices = (Choice.THEIRS, Choice.OURS, Choice.BASE)
    settled = [Resolution(KEY, item, choice) for item, choice in zip(items, choices, strict=True)]
    assert [one.item for one in conflicts(merged(adapter, disk, ours, theirs, *settled[:2]))] == items[2:]
    found = texts(adapter, snapshot_of(merged(adapter, disk, ours, theirs, *settled)))
    assert [found[item] for item in (*items, "new")] == ["theirs\n", "ours\n", "n\n", "theirs\n"]
    written = Resolution(KEY, "etc/hosts", Choice.VALUE, "written\n")
    result = snapshot_of(merged(adapter, disk, ours, theirs, settled[0], written, settled[2]))
    assert texts(adapter, result)["etc/hosts"] == "written\n"
    assert is_whole(adapter, result, tmp_path)


@pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
def test_a_folder_dropped_here_and_written_to_there_is_a_conflict(
    adapter: BlockAdapter, disk: SnapshotRef, choice: Choice
) -> None:
    def drop(root: Path) -> None:
        (root / "home/bob/x").unlink()
        (root / "home/bob").rmdir()

    def add(root: Path) -> None:
        (root / "home/bob/new").write_text("new\n")

    dropped, added = changed(adapter, "tx-o", disk, drop), changed(adapter, "tx-t", disk, add)
    for ours, theirs in ((dropped, added), (added, dropped)):
        (conflict,) = conflicts(merged(adapter, disk, ours, theirs))
        assert (conflict.item, conflict.kind) == ("home/bob/new", ConflictKind.CONSTRAINT)
        result = snapshot_of(merged(adapter, disk, ours, theirs, Resolution(KEY, "home/bob/new", choice)))
        chosen = ours if choice is Choice.OURS else theirs
        assert texts(adapter, result).get("home/bob/new") == texts(adapter, chosen).get("home/bob/new")


def test_single_files_and_folders_are_restored(adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path) -> None:
    def change(root: Path) -> None:
        (root / "etc/hosts").write_text("changed\n")
        (root / "etc/motd").write_text("changed\n")
        (root / "home/bob/x").unlink()
        (root / "home/bob").rmdir()
        (root / "home/ada/more").write_text("more\n")

    after = changed(adapter, "tx-1", disk, change)
    work = Work(adapter, "tx-2", after)
    (staging,) = work.port.stagings.values()
    for _ in range(2):
        adapter.restore("tx-2", staging, disk, items=["etc/hosts", "home/bob/x", "home/ada", "home/ada/more"])
    result = work.prepare()
    assert texts(adapter, result) == {**TREE, "etc/motd": "changed\n"}
    assert is_whole(adapter, result, tmp_path)


def test_what_e2fsck_found_without_a_name_is_merged_as_other_files_are(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    def lose(root: Path) -> None:
        (root / "etc/hosts").rename(root / "lost+found/#13")

    mended = changed(adapter, "tx-1", disk, lose)
    assert [one.item for one in adapter.diff(disk, mended)] == ["etc/hosts", "lost+found", "lost+found/#13"]
    ours = changed(adapter, "tx-2", disk, lambda root: (root / "new").write_text("new\n"))
    joined = merged(adapter, disk, ours, mended)
    assert isinstance(joined, Merged)
    rest = {path: text for path, text in TREE.items() if path != "etc/hosts"}
    assert texts(adapter, joined.snapshot) == {**rest, "new": "new\n", "lost+found/#13": TREE["etc/hosts"]}
    back = changed(adapter, "tx-4", mended, lambda root: (root / "lost+found/#13").rename(root / "etc/hosts"))
    again = adapter.merge("tx-n", 1, base=mended, ours=joined.snapshot, theirs=back, resolutions=())
    assert isinstance(again, Merged)
    assert texts(adapter, again.snapshot) == {**TREE, "new": "new\n"}
    assert is_whole(adapter, again.snapshot, tmp_path)


def test_what_cannot_be_restored_changes_nothing(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", disk)
    (staging,) = work.port.stagings.values()

    def restore(*items: str) -> Staging:
        return adapter.restore("tx-1", staging, disk, items=items)

    for bad in ("../escape", "/etc/hosts", "lost+found/..", ""):
        with pytest.raises(InvalidArgument, match="no path"):
            restore(bad)
    with work.volume.connect(), pytest.raises(StoreUnavailable, match="connected"):
        restore("etc/hosts")
    assert work.prepare() == disk


def test_a_block_that_fails_changes_no_file(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", disk)
    with pytest.raises(ZeroDivisionError):
        with work.volume.files() as root:
            (root / "etc/hosts").write_text("half\n")
            raise ZeroDivisionError
    assert work.prepare() == disk


def test_what_fsck_refuses_is_not_taken_in(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", disk)
    with pytest.raises(Broken, match="e2fsck"):
        with work.volume.files() as root:
            # Before anything is written: debugfs opens nothing while fuse2fs writes its bitmaps.
            broken = root.parent / "volume"
            tool = ["/usr/sbin/debugfs", "-w", "-R", "zap_block -f /home -p 0xff 0", str(broken)]
            zapped = subprocess.run(tool, check=True, capture_output=True, text=True)
            assert "not open" not in zapped.stderr  # It ends with 0 all the same.
            (root / "etc/new").write_text("new\n")
    assert work.prepare() == disk


def test_a_filesystem_that_was_cut_under_a_machine_is_read_after_its_journal(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    """What a crash leaves: a transaction in the journal alone, here with a block of a file."""
    image, block = tmp_path / "cut", tmp_path / "block"
    shutil.copyfile(tmp_path / "disk", image)
    block.write_bytes(b"from the journal\n".ljust(len(TREE["etc/hosts"]), b"\n").ljust(1024, b"\0"))
    tool = ["/usr/sbin/debugfs", "-w"]
    (number,) = subprocess.run(
        [*tool, "-R", "blocks /etc/hosts", str(image)], check=True, capture_output=True, text=True
    ).stdout.split()
    (tmp_path / "commands").write_text(f"jo\njw -b {number} {block}\njc\n")
    subprocess.run([*tool, "-f", str(tmp_path / "commands"), str(image)], check=True, capture_output=True)
    cut = adapter.snapshot("tx-c", {KEY: str(image)})[KEY]
    assert texts(adapter, cut)["etc/hosts"].startswith("from the journal")
    assert [one.item for one in adapter.diff(disk, cut)] == ["etc/hosts"]
    after = changed(adapter, "tx-1", cut, lambda root: (root / "new").write_text("new\n"))
    assert texts(adapter, after)["etc/hosts"].startswith("from the journal")
    assert is_whole(adapter, after, tmp_path)
    assert adapter.verify(cut, Depth.BYTES).problems == ()


def test_names_of_one_file_stay_names_of_one_file(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    ours = changed(adapter, "tx-1", disk, lambda root: (root / "etc/hosts").write_text("ours\n"))
    theirs = changed(adapter, "tx-2", disk, lambda root: os.link(root / "home/bob/x", root / "home/ada/x"))
    both = snapshot_of(merged(adapter, disk, ours, theirs))
    with adapter.open(both, None).files() as root:
        assert (root / "home/bob/x").samefile(root / "home/ada/x")


def test_a_sparse_file_larger_than_the_volume_is_merged(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    size = 200 << 20

    def make(root: Path) -> None:
        with (root / "srv").open("wb") as stream:
            stream.seek(size // 2)
            stream.write(b"x")
            stream.truncate(size)

    ours = changed(adapter, "tx-1", disk, lambda root: (root / "etc/hosts").write_text("ours\n"))
    both = snapshot_of(merged(adapter, disk, ours, changed(adapter, "tx-2", disk, make)))
    with adapter.open(both, None).files() as root, (root / "srv").open("rb") as stream:
        assert os.fstat(stream.fileno()).st_size == size
        stream.seek(size // 2 - 1)
        assert stream.read(3) == b"\0x\0"
    assert is_whole(adapter, both, tmp_path)


def test_a_link_that_became_a_folder_is_merged_without_touching_what_it_led_to(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_text("the machine's own\n")

    def link(root: Path) -> None:
        (root / "inside").symlink_to("etc")
        (root / "out").symlink_to(outside)

    def make_folders(root: Path) -> None:
        for name in ("inside", "out"):
            (root / name).unlink()
            (root / name).mkdir()
            (root / name / "hosts").write_text("theirs\n")

    base = changed(adapter, "tx-0", disk, link)
    ours = changed(adapter, "tx-1", base, lambda root: (root / "new").write_text("new\n"))
    theirs = changed(adapter, "tx-2", base, make_folders)
    joined = texts(adapter, snapshot_of(merged(adapter, base, ours, theirs)))
    assert (outside / "hosts").read_text() == "the machine's own\n"
    assert joined == {**TREE, "new": "new\n", "inside/hosts": "theirs\n", "out/hosts": "theirs\n"}


def test_a_file_is_restored_in_its_folder_and_not_behind_a_link_that_took_its_place(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("hosts", "other"):
        (outside / name).write_text("the machine's own\n")

    def link(root: Path) -> None:
        shutil.rmtree(root / "etc")
        (root / "etc").symlink_to(outside)

    work = Work(adapter, "tx-2", changed(adapter, "tx-1", disk, link))
    (staging,) = work.port.stagings.values()
    adapter.restore("tx-2", staging, disk, items=["etc/other"])
    adapter.restore("tx-2", staging, disk, items=["etc/hosts"])
    assert {path.name: path.read_text() for path in outside.iterdir()} == dict.fromkeys(
        ("hosts", "other"), "the machine's own\n"
    )
    assert texts(adapter, work.prepare()) == {name: TREE[name] for name in TREE if name != "etc/motd"}


def test_what_settles_a_file_leaves_its_folder_as_ours_has_it(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    def close(root: Path) -> None:
        (root / "etc").chmod(0o700)
        (root / "etc/hosts").write_text("ours\n")

    ours = changed(adapter, "tx-1", disk, close)
    theirs = changed(adapter, "tx-2", disk, lambda root: (root / "etc/hosts").write_text("theirs\n"))
    settled = Resolution((), "etc/hosts", Choice.THEIRS)
    joined = snapshot_of(merged(adapter, disk, ours, theirs, settled))
    assert texts(adapter, joined)["etc/hosts"] == "theirs\n"
    with adapter.open(joined, None).files() as root:
        assert (root / "etc").stat().st_mode & 0o777 == 0o700


def test_a_file_whose_folder_one_side_dropped_is_settled_by_value(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    ours = changed(adapter, "tx-1", disk, lambda root: shutil.rmtree(root / "home/bob"))
    theirs = changed(adapter, "tx-2", disk, lambda root: (root / "home/bob/x").write_text("theirs\n"))
    for attempt in (ours, theirs), (theirs, ours):
        settled = Resolution((), "home/bob/x", Choice.VALUE, "both\n")
        joined = texts(adapter, snapshot_of(merged(adapter, disk, *attempt, settled)))
        assert joined == {**TREE, "home/bob/x": "both\n"}


def test_names_of_one_file_whose_content_is_merged_stay_names_of_one(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    base = changed(adapter, "tx-0", disk, lambda root: os.link(root / "etc/motd", root / "home/motd"))
    ours = changed(adapter, "tx-1", base, lambda root: (root / "etc/motd").write_text("ONE\ntwo\nthree\n"))
    theirs = changed(adapter, "tx-2", base, lambda root: (root / "etc/motd").write_text("one\ntwo\nTHREE\n"))
    with adapter.open(snapshot_of(merged(adapter, base, ours, theirs)), None).files() as root:
        assert (root / "home/motd").read_text() == "ONE\ntwo\nTHREE\n"
        assert (root / "home/motd").stat().st_nlink == 2


@pytest.mark.slow
def test_a_merge_that_fails_or_conflicts_at_its_end_leaves_no_layer(
    adapter: BlockAdapter, disk: SnapshotRef, folder: Path
) -> None:
    fill = os.urandom(9 << 20)  # Of 16 MiB: both do not fit.
    ours = changed(adapter, "tx-1", disk, lambda root: (root / "ours").write_bytes(fill))
    theirs = changed(adapter, "tx-2", disk, lambda root: (root / "theirs").write_bytes(fill))
    layers = sorted(folder.glob("layers/*"))
    with pytest.raises(StoreUnavailable, match="No space"):
        merged(adapter, disk, ours, theirs)
    assert sorted(folder.glob("layers/*")) == layers


def test_a_filesystem_that_cannot_be_read_differs_by_extent_and_is_merged_by_taking_a_side(
    adapter: BlockAdapter, disk: SnapshotRef
) -> None:
    work = Work(adapter, "tx-1", disk)
    theirs = work.write(1024 + 100, b"\xff" * 4).prepare()  # Features that no tool knows.
    ours = changed(adapter, "tx-2", disk, lambda root: (root / "new").write_text("new\n"))
    assert [one.item for one in adapter.diff(disk, theirs)] == ["filesystem", "@0+4096"]
    with pytest.raises(Corrupt, match=theirs.version):
        list(adapter.diff(disk, theirs, items=["etc/hosts"]))
    (conflict,) = conflicts(merged(adapter, disk, ours, theirs))
    assert (conflict.item, conflict.kind) == (None, ConflictKind.CONSTRAINT)
    assert theirs.version in conflict.detail
    assert ours.version not in conflict.detail
    assert "Superblock" in conflict.detail


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(adapter: BlockAdapter, tmp_path: Path) -> SnapshotRef:
    """A filesystem without checksums, which shows what a damaged folder has left."""
    image = ext4_image(tmp_path / "plain", TREE, "-b", "1024", "-O", "^metadata_csum")
    return adapter.snapshot("tx-p", {KEY: str(image)})[KEY]


def asked(tmp_path: Path, question: str) -> str:
    """What debugfs says of the plain filesystem."""
    tool = ["/usr/sbin/debugfs", "-R", question, str(tmp_path / "plain")]
    return subprocess.run(tool, check=True, capture_output=True, text=True).stdout


def losing(adapter: BlockAdapter, tx: str, base: SnapshotRef, tmp_path: Path) -> SnapshotRef:
    """A version in which /home/bob passes over its only entry."""
    at = int(asked(tmp_path, "blocks /home/bob").split()[0]) * 1024
    return Work(adapter, tx, base).write(at + 12 + 4, (1024 - 12).to_bytes(2, "little")).prepare()


def garbled(adapter: BlockAdapter, tx: str, base: SnapshotRef, tmp_path: Path) -> SnapshotRef:
    return Work(adapter, tx, base).write(70 << 10, b"\xff" * (64 << 10)).prepare()


@pytest.mark.parametrize("damage", [losing, garbled])
@pytest.mark.parametrize("side", [Choice.OURS, Choice.THEIRS])
def test_a_side_with_a_damaged_filesystem_is_not_merged_by_file(
    adapter: BlockAdapter,
    plain: SnapshotRef,
    tmp_path: Path,
    damage: Callable[[BlockAdapter, str, SnapshotRef, Path], SnapshotRef],
    side: Choice,
) -> None:
    bad = damage(adapter, "tx-1", plain, tmp_path)
    good = changed(adapter, "tx-2", plain, lambda root: (root / "new").write_text("new\n"))
    ours, theirs = (bad, good) if side is Choice.OURS else (good, bad)
    for _ in range(2):
        (conflict,) = conflicts(merged(adapter, plain, ours, theirs))
        assert (conflict.item, conflict.kind) == (None, ConflictKind.CONSTRAINT)
        assert f"filesystem in {side}, version {bad.version}, is damaged" in conflict.detail
        assert "plait open KEY --write" in conflict.detail
        assert "/run/files/" not in conflict.detail
        assert "\n" not in conflict.detail


def test_a_damaged_filesystem_that_was_mended_is_merged_by_file(
    adapter: BlockAdapter, plain: SnapshotRef, tmp_path: Path
) -> None:
    bad = losing(adapter, "tx-1", plain, tmp_path)
    copy = tmp_path / "copy"
    copy.write_bytes(adapter.open(bad, None).read(0, 16 << 20))
    subprocess.run(["/usr/sbin/e2fsck", "-fy", str(copy)], check=False, capture_output=True)
    mended = Work(adapter, "tx-2", bad).write(0, copy.read_bytes()).prepare()
    mended = changed(adapter, "tx-3", mended, lambda root: (root / "etc/hosts").write_text("mended\n"))
    good = changed(adapter, "tx-4", plain, lambda root: (root / "new").write_text("new\n"))
    found = texts(adapter, snapshot_of(merged(adapter, bad, good, mended)))
    assert (found["etc/hosts"], found["new"], found["home/bob/x"]) == ("mended\n", "new\n", "x\n")


def test_a_diff_with_a_damaged_filesystem_says_so_and_goes_by_extent(
    adapter: BlockAdapter, plain: SnapshotRef, tmp_path: Path
) -> None:
    bad = losing(adapter, "tx-1", plain, tmp_path)
    for before, after in ((plain, bad), (bad, plain), (None, bad)):
        note, *others = adapter.diff(before, after)
        assert (note.item, note.aspect) == ("filesystem", "filesystem")
        said = note.after if note.before is None else note.before
        assert isinstance(said, dict)
        assert re.fullmatch(rf"version {bad.version}: Unattached inode \d+", str(said["damaged"]))
        assert {one.aspect for one in others} == {"extent"}
    with pytest.raises(Corrupt, match=f"{bad.version} is damaged: .* · mend it on its branch"):
        list(adapter.diff(plain, bad, items=["home/bob/x"]))
    work = Work(adapter, "tx-2", plain)
    (staging,) = work.port.stagings.values()
    with pytest.raises(Corrupt, match=bad.version):  # It would remove the file.
        adapter.restore("tx-2", staging, bad, items=["home/bob/x"])


def test_a_sound_filesystem_is_judged_once(
    adapter: BlockAdapter, disk: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = changed(adapter, "tx-1", disk, lambda root: (root / "new").write_text("new\n"))
    judged: list[Sequence[str]] = []
    ended = images.ended

    def counted(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        judged.append(arguments)
        return ended(program, *arguments)

    monkeypatch.setattr(images, "ended", counted)
    for _ in range(2):
        assert [one.item for one in adapter.diff(disk, after)] == ["new"]
    assert len([one for one in judged if "-fn" in one]) == 2


def test_what_cannot_be_read_is_named_as_in_the_volume(
    adapter: BlockAdapter, plain: SnapshotRef, tmp_path: Path
) -> None:
    found = re.search(r"block (\d+), offset (0x[0-9a-f]+)", asked(tmp_path, "imap /etc/hosts"))
    assert found is not None
    work = Work(adapter, "tx-1", plain).write(int(found[1]) * 1024 + int(found[2], 16), bytes(128))
    (staging,) = work.port.stagings.values()
    with pytest.raises(
        Corrupt, match=r"in the working volume is damaged: Input/output error: etc/hosts · mend it on its branch"
    ) as caught:
        adapter.restore("tx-1", staging, plain, items=["home/bob/x"])
    assert "/run/files/" not in str(caught.value)


def test_a_side_without_a_filesystem_is_not_joined_with_one_by_extent(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    theirs = Work(adapter, "tx-1", disk).write(1024, bytes(1024)).prepare()
    ours = changed(adapter, "tx-2", disk, lambda root: (root / "new").write_text("new\n"))
    for sides in ((ours, theirs), (theirs, ours)):
        (conflict,) = conflicts(merged(adapter, disk, *sides))
        assert (conflict.item, conflict.kind) == (None, ConflictKind.CONSTRAINT)
        assert f"no ext4 filesystem is in {'theirs' if sides[0] is ours else 'ours'}," in conflict.detail


_KILLED = """
import os, signal, sys
from pathlib import Path
from plait.adapter import Context
from plait.types import Store
from plait_block import BlockAdapter
from plait_conformance.testing import MemoryState
adapter = BlockAdapter(Store("vm", "block", options={"path": sys.argv[1]}), Context(MemoryState()))
with adapter._filesystems.shown(adapter.layers.get(sys.argv[2])):
    if sys.argv[3] == "daemon":
        os.kill(int((Path(sys.argv[1]) / "run/pid").read_text()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("killed", ["client", "daemon"])
def test_what_was_killed_while_it_showed_files_leaves_nothing_once_the_store_is_closed(
    fresh: Fresh, disk: SnapshotRef, folder: Path, killed: str
) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(folder), disk.version, killed], check=False)
    assert list(folder.glob("run/files/*"))
    adapter = fresh()
    assert texts(adapter, disk) == TREE
    adapter.close()
    assert not list(folder.glob("run/files/*"))
    assert str(folder) not in Path("/proc/mounts").read_text()


def test_filesystems_of_different_sizes_are_merged_by_taking_a_side(
    adapter: BlockAdapter, disk: SnapshotRef, tmp_path: Path
) -> None:
    grown = tmp_path / "grown"
    shutil.copy(tmp_path / "disk", grown)
    os.truncate(grown, 32 << 20)
    theirs = adapter.snapshot("tx-j", {KEY: str(grown)})[KEY]
    ours = changed(adapter, "tx-1", disk, lambda root: (root / "new").write_text("new\n"))
    (conflict,) = conflicts(merged(adapter, disk, ours, theirs))
    assert (conflict.item, conflict.kind) == (None, ConflictKind.CONSTRAINT)
    assert str(32 << 20) in conflict.detail


def test_names_that_are_no_utf8_are_items_like_others(adapter: BlockAdapter, disk: SnapshotRef) -> None:
    names = [b"caf\xe9", rb"caf\xe9", rb"dev\x2d", rb"a\x5cx"]  # The second is written with a backslash.
    said = [r"caf\xe9", r"caf\x5cxe9", r"dev\x2d", r"a\x5cx5cx"]

    def put(text: str) -> Callable[[Path], object]:
        return lambda root: [(root / os.fsdecode(name)).write_text(text) for name in names]

    base, ours, theirs = disk, changed(adapter, "tx-1", disk, put("ours\n")), changed(adapter, "tx-2", disk, put("t\n"))
    assert sorted(one.item for one in adapter.diff(base, ours)) == sorted(said)
    assert [one.item for one in adapter.diff(base, ours, items=[said[0]])] == said[:1]
    found = [one.item for one in conflicts(merged(adapter, base, ours, theirs)) if one.item is not None]
    assert sorted(found) == sorted(said)
    settled = [Resolution((), item, Choice.THEIRS) for item in said[:2]]
    settled += [Resolution((), item, Choice.OURS) for item in said[2:]]
    joined = snapshot_of(merged(adapter, base, ours, theirs, *settled))
    work = Work(adapter, "tx-3", joined)
    (staging,) = work.port.stagings.values()
    adapter.restore("tx-3", staging, ours, items=said[:1])
    with adapter.open(work.prepare(), None).files() as root:
        assert [(root / os.fsdecode(name)).read_text() for name in names] == ["ours\n", "t\n", "ours\n", "ours\n"]
