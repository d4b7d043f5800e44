"""What only a directory can get wrong: durability, links, half-written files, and two processes at once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from plait.errors import InvalidArgument
from plait.types import Store
from plait_conformance.testing import MemoryPort, MemoryState, make_adapter
from plait_s3 import FilesAdapter, S3Adapter
from plait_s3.blobs import Blob, check_object_key
from plait_s3.disk import FilesBlobs
from plait_s3.testing import Place

KEY = ("raw", "landing")


def test_pinned_files_and_their_folders_are_fsynced_before_the_vote(
    files_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.add((found.st_dev, found.st_ino))
        fsync(descriptor)

    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    Path(staging.location, "a").write_bytes(b"plain")
    monkeypatch.setattr(os, "fsync", watched)
    vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
    assert vote is not None
    root = Path(files_place.options["path"])
    for item in adapter.reachable(vote):
        path = Path(item.path)
        for part in (path, *(parent for parent in path.parents if parent.is_relative_to(root))):
            found = part.stat()
            assert (found.st_dev, found.st_ino) in synced, part


def test_a_pinned_file_is_no_hard_link(files_place: Place) -> None:
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    staged = Path(staging.location, "a")
    staged.write_bytes(b"first")
    vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
    assert vote is not None
    with staged.open("r+b") as stream:
        stream.write(b"later")
    assert adapter.open(vote, None).cat_file("a") == b"first"
    assert staged.stat().st_nlink == 1


def test_links_are_refused(files_place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    for target in (secret, secret / "file"):
        link = Path(staging.location, "link")
        link.symlink_to(target)
        with pytest.raises(InvalidArgument, match="no plain file"):
            adapter.prepare("t1", 1, {KEY: staging})
        link.unlink()


def test_an_old_modification_time_makes_no_file_look_old(files_place: Place) -> None:
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    path = Path(staging.location, "a")
    path.write_bytes(b"1")
    os.utime(path, (0, 0))
    (item,) = [item for item in adapter.inventory() if item.path == str(path)]
    assert item.modified_at_us > 1_000_000_000_000_000


def test_a_refused_write_leaves_nothing_behind(files_place: Place) -> None:
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    fs = adapter.open(port.add(KEY, new=True), port)
    fs.pipe_file("a", b"1")
    with pytest.raises(InvalidArgument, match="both an object and a folder"):
        fs.pipe_file("a/b", b"2")
    assert fs.find("") == ["a"]
    assert list(adapter.blobs.list("_plait/tmp/")) == []


_RACER = """
import sys
from plait_s3.disk import FilesBlobs
blobs = FilesBlobs(sys.argv[1], lambda place: None)
won = 0
while True:
    data, etag = blobs.read_etag("head")
    count = int(data)
    if count >= int(sys.argv[2]):
        break
    won += blobs.put_if_match("head", b"%d" % (count + 1), etag) is not None
print(won)
"""


def test_of_racing_processes_each_move_has_one_winner(tmp_path: Path) -> None:
    FilesBlobs(str(tmp_path), lambda place: None).put("head", b"0")
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, str(tmp_path), "60"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    wins = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert sum(wins) == 60


def test_a_relative_location_stays_inside_the_root(tmp_path: Path) -> None:
    blobs = FilesBlobs(str(tmp_path / "root"), lambda place: None)
    with pytest.raises(InvalidArgument, match="absolute path"):
        blobs.key_of("../other")
    assert blobs.key_of(str(tmp_path / "root" / "a")) == blobs.key_of("a/") == "a"


def test_an_objects_name_that_is_no_unicode_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidArgument, match="not valid Unicode") as refused:
        check_object_key("\udcff.txt")
    assert refused.value.remedy == "rename it"


def test_a_folder_of_any_place_is_imported_by_copying(files_place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "a").write_bytes(b"1")
    (elsewhere / "b").write_bytes(b"2" * (3 << 20))
    adapter = files_place.adapter()
    first = adapter.snapshot("t1", {KEY: f"file://{elsewhere}"})[KEY]
    (elsewhere / "b").write_bytes(b"later")
    fs = adapter.open(first, None)
    assert {name: fs.size(name) for name in fs.find("")} == {"b": 3 << 20, "deep/a": 1}
    assert fs.cat_file("b") == b"2" * (3 << 20)
    second = adapter.snapshot("t2", {KEY: str(elsewhere)})[KEY]
    assert second.asset == first.asset
    assert [change.item for change in adapter.diff(first, second)] == ["b"]
    assert str(elsewhere) not in repr(sorted(item.path for item in adapter.reachable(first)))


def test_a_folder_around_the_store_is_imported_without_what_plait_keeps(files_place: Place, tmp_path: Path) -> None:
    adapter = files_place.adapter()
    adapter.blobs.put("a", b"1")
    found = adapter.snapshot("t1", {KEY: str(tmp_path)})[KEY]
    assert adapter.snapshot("t2", {KEY: str(tmp_path)})[KEY] == found
    assert adapter.open(found, None).find("") == ["store/a"]


def test_many_objects_are_one_fsync_each_and_one_for_each_folder(
    files_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: what a commit of many small objects waits for."""
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    for number in range(600):
        Path(staging.location, f"{number}").write_bytes(b"%d" % number)
    synced = {"files": 0, "folders": 0}
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        synced["folders" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "files"] += 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    adapter.prepare("t1", 1, {KEY: staging})
    # The objects and the pack; at most 256 folders of objects, and those that lead to these and to the pack.
    assert synced["files"] == 600 + 1
    assert synced["folders"] <= 256 + 3 + 4


def test_an_object_that_is_staged_is_one_fsync(files_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folders are not flushed: the vote waits for the copy that prepare makes, and nothing else stands on it."""
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    handle = adapter.open(port.add(KEY, new=True), port)
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_ISREG(os.fstat(descriptor).st_mode)))
    handle.pipe("year/month/day.csv", b"1")
    assert synced == [True]


def test_kept_content_is_not_written_again(files_place: Place) -> None:
    adapter = files_place.adapter()
    first = adapter.blobs.pin_all([adapter.blobs.put("a", b"same")], lambda done: None)
    (kept,) = Path(files_place.options["path"], "_plait/objects").rglob("*/*")
    before = kept.stat()
    assert adapter.blobs.pin_all([adapter.blobs.put("b", b"same")], lambda done: None) == first
    assert (kept.stat().st_ino, list(adapter.blobs.list("_plait/tmp/"))) == (before.st_ino, [])


@pytest.mark.parametrize("size_bytes", [4, 3 << 20])
def test_kept_content_that_was_damaged_is_written_again(files_place: Place, size_bytes: int) -> None:
    adapter = files_place.adapter()
    content = b"x" * size_bytes
    (first,) = adapter.blobs.pin_all([adapter.blobs.put("a", content)], lambda done: None)
    (kept,) = Path(files_place.options["path"], "_plait/objects").rglob("*/*")
    with kept.open("r+b") as stream:
        stream.write(b"flip")
    assert adapter.blobs.pin_all([adapter.blobs.put("b", content)], lambda done: None) == [first]
    assert kept.read_bytes() == content


def test_deleting_leaves_no_empty_folders(tmp_path: Path) -> None:
    blobs = FilesBlobs(str(tmp_path), lambda place: None)
    blobs.put("_plait/objects/ab/cd", b"1")
    blobs.delete([Blob("_plait/objects/ab/cd", 1)])
    assert not (tmp_path / "_plait/objects").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [({}, "path"), ({"path": "relative"}, "relative"), ({"path": "/x", "bucket": "b"}, "bucket"),
     ({"path": "/x", "copy": "yes"}, "copy")],
)  # fmt: skip
def test_a_bad_option_of_a_directory_is_named(options: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make_adapter(FilesAdapter, Store("raw", "files", options=options))


def test_a_bad_option_of_a_bucket_is_named() -> None:
    with pytest.raises(InvalidArgument, match="bucket"):
        make_adapter(S3Adapter, Store("raw", "s3"), state=MemoryState())
    with pytest.raises(InvalidArgument, match="acess_key"):
        make_adapter(S3Adapter, Store("raw", "s3", options={"bucket": "b", "acess_key": "x"}))


@pytest.mark.parametrize("tx", ["", ".", "..", "../t1"])
def test_no_transactions_id_leads_out_of_its_own_folder(files_place: Place, tx: str) -> None:
    adapter = files_place.adapter()
    port = MemoryPort(adapter, "t1")
    staging = port.add(KEY, new=True)
    Path(staging.location, "a").write_bytes(b"kept")
    vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
    assert vote is not None
    with pytest.raises(InvalidArgument, match="no working set's id"):
        adapter.abort(tx)
    assert adapter.open(vote, None).cat_file("a") == b"kept"
