"""The adapter's promises, each on a directory and on two real S3 servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TypeVar, cast

import pytest
from boto3.s3.transfer import TransferConfig
from fsspec.callbacks import Callback
from fsspec.spec import AbstractFileSystem
from plait.adapter import MergeFunction, Merger
from plait.errors import Corrupt, InvalidArgument, NotFound, Unsupported
from plait.failpoint import armed
from plait.types import (
    Choice,
    Conflicted,
    Depth,
    ItemChangeKind,
    Json,
    Merged,
    Move,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
)
from plait_conformance.testing import MemoryPort, intent_of
from plait_s3.adapter import ObjectAdapter
from plait_s3.blobs import Blob, address
from plait_s3.filesystem import AssetFileSystem
from plait_s3.heads import HEADS, read_head
from plait_s3.manifest import NOTHING, Manifest, encode_entry, entry_of, write_manifest
from plait_s3.overlay import place_of
from plait_s3.s3_blobs import S3Blobs
from plait_s3.testing import Place, Writer

T = TypeVar("T")
KEY = ("raw", "landing")
NAMES = ("a-b", "a/b", "a.b", "a/é ü/日本.txt", "with space/+plus&more=%25?x#y.txt", "~", "0")


def opened(adapter: ObjectAdapter, tx: str, base: SnapshotRef | None = None) -> tuple[Staging, AssetFileSystem]:
    port = MemoryPort(adapter, tx, {} if base is None else {KEY: base})
    staging = port.add(KEY, new=base is None)
    return staging, adapter.open(staging, port)


def committed(
    adapter: ObjectAdapter, tx: str, writes: Mapping[str, bytes | None], base: SnapshotRef | None = None
) -> SnapshotRef:
    """A snapshot of base with these objects put (None: removed)."""
    staging, fs = opened(adapter, tx, base)
    for name, content in writes.items():
        if content is None:
            fs.rm(name)
        else:
            fs.pipe_file(name, content)
    vote = adapter.prepare(tx, 1, {KEY: staging})[KEY]
    assert vote is not None
    return vote


def contents(adapter: ObjectAdapter, snapshot: SnapshotRef) -> dict[str, bytes]:
    fs = adapter.open(snapshot, None)
    return {name: fs.cat_file(name) for name in fs.find("")}


class TestStaging:
    def test_stage_twice_is_the_same_place(self, place: Place) -> None:
        adapter = place.adapter()
        staging, fs = opened(adapter, "t1")
        fs.pipe_file("a", b"1")
        assert place.adapter().stage("t1", {KEY: intent_of("t1")}) == {KEY: staging}
        assert fs.cat_file("a") == b"1"

    def test_plain_objects_that_any_tool_puts_are_part_of_it(self, place: Place) -> None:
        adapter = place.adapter()
        staging, fs = opened(adapter, "t1")
        folder = adapter.blobs.key_of(staging.location)
        adapter.blobs.put(f"{folder}/2013/01.csv", b"plain")
        assert fs.find("") == ["2013/01.csv"]
        vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
        assert vote is not None
        assert contents(adapter, vote) == {"2013/01.csv": b"plain"}

    def test_a_removal_survives_the_process(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        staging, fs = opened(adapter, "t2", first)
        fs.rm("a")
        again = place.adapter()
        port = MemoryPort(again, "t2", {KEY: first})
        assert again.open(port.add(KEY), port).find("") == ["b"]
        second = again.prepare("t2", 1, {KEY: staging})[KEY]
        assert second is not None
        assert contents(again, second) == {"b": b"2"}

    def test_all_objects_removed_is_an_empty_asset(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        second = committed(adapter, "t2", {"a": None}, first)
        assert second.asset == first.asset
        assert contents(adapter, second) == {}
        third = committed(adapter, "t3", {"b": b"1"}, second)
        assert contents(adapter, third) == {"b": b"1"}

    def test_an_object_put_after_its_removal_is_there(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        _, fs = opened(adapter, "t2", first)
        fs.rm("a")
        fs.pipe_file("a", b"again")
        assert fs.cat_file("a") == b"again"
        fs.rm("a")
        assert not fs.exists("a")


class TestPrepare:
    def test_writes_after_prepare_alter_nothing(self, place: Place) -> None:
        adapter = place.adapter()
        staging, fs = opened(adapter, "t1")
        fs.pipe_file("a", b"first")
        vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
        fs.pipe_file("a", b"later")
        fs.pipe_file("b", b"later")
        assert vote is not None
        assert contents(place.adapter(), vote) == {"a": b"first"}
        fs.rm("a")
        assert contents(place.adapter(), vote) == {"a": b"first"}

    def test_prepare_repeats_its_answer_whatever_was_written_since(self, place: Place) -> None:
        adapter = place.adapter()
        staging, fs = opened(adapter, "t1")
        fs.pipe_file("a", b"first")
        vote = adapter.prepare("t1", 1, {KEY: staging})
        fs.pipe_file("a", b"later")
        assert place.adapter().prepare("t1", 1, {KEY: staging}) == vote
        later = adapter.prepare("t1", 2, {KEY: staging})[KEY]
        assert later is not None
        assert contents(adapter, later) == {"a": b"later"}

    def test_an_untouched_staging_votes_its_base(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        staging, _ = opened(adapter, "t2", first)
        assert adapter.prepare("t2", 1, {KEY: staging}) == {KEY: first}

    def test_a_new_asset_without_objects_is_an_empty_asset(self, place: Place) -> None:
        adapter = place.adapter()
        new, _ = opened(adapter, "t1")
        vote = adapter.prepare("t1", 1, {KEY: new})[KEY]
        assert vote is not None
        assert vote.asset
        assert contents(adapter, vote) == {}
        assert adapter.verify(vote, Depth.BYTES).problems == ()
        assert adapter.publish({KEY: Move(None, vote, 1)})[KEY].state is PublishState.DONE
        assert contents(adapter, committed(adapter, "t2", {"a": b"1"}, vote)) == {"a": b"1"}

    def test_an_untouched_staging_repeats_its_vote_whatever_was_written_since(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        staging, fs = opened(adapter, "t2", first)
        assert adapter.prepare("t2", 1, {KEY: staging}) == {KEY: first}
        fs.pipe_file("a", b"later")
        assert place.adapter().prepare("t2", 1, {KEY: staging}) == {KEY: first}
        later = adapter.prepare("t2", 2, {KEY: staging})[KEY]
        assert later is not None
        assert contents(adapter, later) == {"a": b"later"}

    def test_an_asset_that_is_staged_twice_has_two_places(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        other = (KEY[0], "other")
        intents = {KEY: intent_of("t2", first, number=1), other: intent_of("t2", first, number=2)}
        stagings = adapter.stage("t2", intents)
        adapter.open(stagings[KEY], MemoryPort(adapter, "t2")).pipe_file("a", b"2")
        votes = adapter.prepare("t2", 1, stagings)
        assert votes[other] == first
        changed = votes[KEY]
        assert changed is not None
        assert (changed.asset, contents(adapter, changed)) == (first.asset, {"a": b"2"})

    def test_the_same_bytes_again_are_no_change(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        staging, fs = opened(adapter, "t2", first)
        fs.pipe_file("a", b"1")
        fs.rm("b")
        fs.pipe_file("b", b"2")
        assert adapter.prepare("t2", 1, {KEY: staging}) == {KEY: first}

    def test_one_put_of_a_manifest_a_commit(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {f"{n:04}": b"x" for n in range(40)})
        staging, fs = opened(adapter, "t2", first)
        fs.pipe_file("0007", b"y")
        before = {blob.key for blob in adapter.blobs.list("_plait/packs/")}
        adapter.prepare("t2", 1, {KEY: staging})
        added = {blob.key for blob in adapter.blobs.list("_plait/packs/")} - before
        assert len(added) == 1

    def test_a_crash_at_any_step_and_a_repeat_give_the_same_answer(self, place: Place) -> None:
        adapter = place.adapter()
        base = committed(adapter, "t0", {"a": b"1", "b": b"2", "c": b"3"})
        reached: list[str] = []

        def scenario(tx: str) -> SnapshotRef:
            restarted = place.adapter()
            staging, fs = opened(restarted, tx, base)
            fs.pipe_file("a", b"changed")
            fs.cp_file("c", "d")
            fs.rm("b")
            vote = restarted.prepare(tx, 1, {KEY: staging})[KEY]
            assert vote is not None
            return vote

        with armed(reached.append):
            expected = scenario("t1")
        names = sorted(set(reached))
        assert {"objects.prepare.before_pins", "objects.prepare.before_pack", "objects.pack.after_put"} <= set(names)
        for number, name in enumerate(names):

            def crash(at: str, name: str = name) -> None:
                if at == name:
                    raise _CrashError(name)

            tx = f"crash{number}"
            with armed(crash), pytest.raises(_CrashError):
                scenario(tx)
            vote = scenario(tx)
            assert contents(adapter, vote) == contents(adapter, expected)
            assert vote == scenario(tx)
            if not place.versioned:
                assert vote.digest == expected.digest


class _CrashError(Exception):
    pass


def crashes_at_every_step(run: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    """Run once to learn the failpoints, then once for each, dying there and repeating: what the repeat answered."""
    reached: list[str] = []
    with armed(reached.append):
        run("whole")
    assert reached
    for number, name in enumerate(dict.fromkeys(reached)):

        def crash(at: str, name: str = name) -> None:
            if at == name:
                raise _CrashError(name)

        with armed(crash), pytest.raises(_CrashError):
            run(f"crash{number}")
        yield name, run(f"crash{number}")


class TestCrashes:
    def test_a_merge_repeats_its_answer(self, place: Place) -> None:
        adapter = place.adapter([Merger("both", "m", lambda base, ours, theirs: ours + theirs, version="2")])
        base = committed(adapter, "base", {"t": b"1\n2\n3\n4\n", "a": b"1", "m": b"0"})
        ours = committed(adapter, "ours", {"t": b"one\n2\n3\n4\n", "m": b"1"}, base)
        theirs = committed(adapter, "theirs", {"t": b"1\n2\n3\nfour\n", "a": None, "m": b"2"}, base)
        passed = []

        def run(tx: str) -> Merged:
            merged = adapter.merge(tx, 1, base=base, ours=ours, theirs=theirs)
            assert isinstance(merged, Merged)
            return merged

        for name, merged in crashes_at_every_step(run):
            assert contents(adapter, merged.snapshot) == {"t": b"one\n2\n3\nfour\n", "m": b"12"}, name
            assert merged.mergers == ("both 2",), name
            passed.append(name)
        assert {"objects.merge.before_titles", "objects.merge.before_pack"} <= set(passed)

    def test_a_publication_is_finished(self, place: Place) -> None:
        adapter = place.adapter()

        def run(tx: str) -> PublishState:
            snapshot = committed(adapter, tx, {"a": b"1"})
            return adapter.publish({KEY: Move(None, snapshot, 1)})[KEY].state

        for name, state in crashes_at_every_step(run):
            assert state is PublishState.DONE, name

    def test_a_restore_is_finished(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        second = committed(adapter, "t2", {"a": b"changed", "b": None}, first)

        def run(tx: str) -> dict[str, bytes]:
            staging, fs = opened(adapter, tx, second)
            fs.pipe_file("a", b"staged")
            adapter.restore(tx, staging, first, items=["a", "b"])
            restored = adapter.restore(tx, staging, first, items=None)
            found = adapter.open(restored, None)
            return {name: found.cat_file(name) for name in found.find("")}

        for name, found in crashes_at_every_step(run):
            assert found == {"a": b"1", "b": b"2"}, name

    def test_an_abort_is_finished(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})

        def run(tx: str) -> list[str]:
            committed(adapter, tx, {"b": b"2", "a": None}, first)
            adapter.abort(tx)
            return [item.path for item in adapter.inventory() if f"/{tx}/" in item.path]

        for name, left in crashes_at_every_step(run):
            assert left == [], name


class TestFileSystem:
    def test_folders_are_seen_over_base_and_staging(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"x/1": b"1", "x/y/2": b"22", "z": b"333"})
        _, fs = opened(adapter, "t2", first)
        fs.pipe_file("x/3", b"4444")
        fs.rm("x/y/2")
        assert fs.ls("", detail=False) == ["x", "z"]
        assert fs.ls("x", detail=False) == ["x/1", "x/3"]
        assert fs.find("") == ["x/1", "x/3", "z"]
        assert list(fs.walk("")) == [("", ["x"], ["z"]), ("x", [], ["1", "3"])]
        assert fs.du("") == 8
        assert (fs.isdir("x"), fs.isfile("x"), fs.exists("x/y"), fs.exists("x/y/2")) == (True, False, False, False)
        assert fs.info("x/3")["size"] == 4
        assert sorted(fs.glob("x/*")) == ["x/1", "x/3"]
        with pytest.raises(FileNotFoundError):
            fs.ls("nowhere")
        with pytest.raises(FileNotFoundError):
            fs.cat_file("nowhere")

    def test_an_object_does_not_hide_the_folder_of_its_name(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"x": b"1"})
        fs = adapter.open(committed(adapter, "t2", {"x/y": b"2"}, first), None)
        assert [(one["name"], one["type"]) for one in fs.ls("")] == [("x", "file"), ("x", "directory")]
        assert list(fs.walk("")) == [("", ["x"], ["x"]), ("x", [], ["y"])]

    def test_files_are_read_and_written_in_every_mode(self, place: Place) -> None:
        adapter = place.adapter()
        _, fs = opened(adapter, "t1", committed(adapter, "t0", {"log": b"one\n"}))
        with fs.open("log", "a") as text:
            text.write("two\n")
        with fs.open("log") as stream:
            stream.seek(4)
            assert stream.read() == b"two\n"
        with fs.open("new/file", "w", encoding="utf-8") as text:
            text.write("é")
        assert fs.cat_file("new/file") == "é".encode()
        assert fs.cat_file("log", start=-4) == b"two\n"
        assert fs.cat_file("log", start=1, end=3) == b"ne"
        fs.pipe_file("empty", b"")
        assert fs.cat_file("empty") == b""
        assert fs.size("empty") == 0
        large = bytes(range(256)) * 40_000
        with fs.open("large", "wb") as stream:
            for start in range(0, len(large), 1 << 20):
                stream.write(large[start : start + (1 << 20)])
        with fs.open("large", "rb") as stream:
            stream.seek(9_000_000)
            assert stream.read(300) == large[9_000_000:9_000_300]

    def test_a_writer_that_fails_leaves_what_was_there(self, place: Place) -> None:
        _, fs = opened(place.adapter(), "t1")
        fs.pipe_file("a", b"whole")
        with pytest.raises(ZeroDivisionError), fs.open("a", "wb") as stream:
            stream.write(b"ha")
            raise ZeroDivisionError
        assert fs.cat_file("a") == b"whole"

    def test_folders_go_in_and_out_as_fsspec_has_it(self, place: Place, tmp_path: Path) -> None:
        adapter = place.adapter()
        staging, fs = opened(adapter, "t1")
        objects = {f"2013/{month:02}.csv": b"%d" % month for month in range(1, 13)} | {"é ü.txt": b""}
        for name, content in objects.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(content)
        counted = Callback()
        fs.put(f"{tmp_path}/in", "landing", recursive=True, callback=counted)
        assert (counted.size, counted.value) == (13, 13)
        fs.put(f"{tmp_path}/in/2013/*.csv", "by-glob/")
        vote = adapter.prepare("t1", 1, {KEY: staging})[KEY]
        assert vote is not None
        expected = {f"landing/{name}": content for name, content in objects.items()}
        expected |= {f"by-glob/{name[5:]}": content for name, content in objects.items() if name.endswith(".csv")}
        assert contents(adapter, vote) == expected
        kept = adapter.open(vote, None)
        for folder in ("landing", "", "landing/2013", "landing/é ü.txt"):
            found = kept.find(folder, withdirs=True, detail=True)
            assert found == AbstractFileSystem.find(kept, folder, withdirs=True, detail=True)
        kept.get("landing", f"{tmp_path}/out", recursive=True, callback=counted)
        out = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
        assert out == objects
        with pytest.raises(FileNotFoundError):
            kept.get("nowhere", f"{tmp_path}/nowhere")

    def test_a_refused_name_among_many_puts_none(self, place: Place) -> None:
        _, fs = opened(place.adapter(), "t1")
        with pytest.raises(InvalidArgument):
            fs.pipe({"a": b"1", "b//c": b"2"})
        assert fs.find("") == []

    def test_copies_and_moves_of_kept_objects_copy_no_bytes(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"d/1": b"1", "d/2": b"2"})
        staging, fs = opened(adapter, "t2", first)
        kept = [blob.key for blob in adapter.blobs.list("_plait/objects/")]
        fs.mv("d", "e", recursive=True)
        fs.cp("e/1", "f")
        assert fs.find("") == ["e/1", "e/2", "f"]
        vote = adapter.prepare("t2", 1, {KEY: staging})[KEY]
        assert vote is not None
        assert contents(adapter, vote) == {"e/1": b"1", "e/2": b"2", "f": b"1"}
        assert [blob.key for blob in adapter.blobs.list("_plait/objects/")] == kept

    def test_a_staged_object_is_copied_and_moved(self, place: Place) -> None:
        _, fs = opened(place.adapter(), "t1")
        fs.pipe_file("a", b"1")
        fs.cp("a", "b")
        fs.mv("a", "c")
        assert {name: fs.cat_file(name) for name in fs.find("")} == {"b": b"1", "c": b"1"}

    def test_names_that_others_gave_are_read_and_removed(self, files_place: Place) -> None:
        adapter = files_place.adapter()
        names = ["../up", "./dot", "a//b", "fine"]  # As S3 keeps them.
        (kept,) = adapter.blobs.pin_all([adapter.blobs.put("x", b"1")], lambda done: None)
        manifest = Manifest(adapter.packs, NOTHING)
        node = manifest.tree.build((name.encode(), encode_entry(entry_of(kept))) for name in names)
        root = write_manifest(adapter.blobs, manifest, node, "import/others", lambda place: None)
        snapshot = SnapshotRef("raw", "files", "others", root.pack, root.node)
        assert contents(adapter, snapshot) == dict.fromkeys(names, b"1")
        assert set(contents(adapter, committed(adapter, "t1", dict.fromkeys(names[:3]), snapshot))) == {"fine"}

    def test_a_snapshot_cannot_be_written(self, place: Place) -> None:
        adapter = place.adapter()
        fs = adapter.open(committed(adapter, "t1", {"a": b"1"}), None)
        for write in (
            lambda: fs.pipe_file("a", b"2"),
            lambda: fs.rm("a"),
            lambda: fs.rm_file("a"),
            lambda: fs.cp_file("a", "b"),
            lambda: fs.mv("a", "b"),
            lambda: fs.open("b", "wb"),
            lambda: fs.touch("c"),
            lambda: fs.mkdir("d"),
        ):
            with pytest.raises(Unsupported, match="inside a transaction"):
                write()
        assert fs.cat_file("a") == b"1"

    def test_awkward_names_are_kept_apart_and_in_the_order_of_their_bytes(self, place: Place) -> None:
        adapter = place.adapter()
        written = {name: name.encode() for name in NAMES}
        first = committed(adapter, "t1", written)
        assert contents(place.adapter(), first) == written
        assert adapter.open(first, None).find("") == sorted(NAMES, key=str.encode)
        changes = [change.item for change in adapter.diff(None, first)]
        assert changes == sorted(NAMES, key=str.encode)
        second = committed(adapter, "t2", dict.fromkeys(NAMES[::2]), first)
        assert set(contents(adapter, second)) == set(NAMES[1::2])

    @pytest.mark.parametrize("name", ["n" * 300, "p/q"])
    def test_a_name_that_the_store_cannot_keep_is_refused_as_that(self, place: Place, name: str) -> None:
        fs = opened(place.adapter(), "t1")[1]
        fs.pipe_file("p", b"1")
        try:
            fs.pipe_file(name, b"2")
        except InvalidArgument:  # Not StoreUnavailable, which is tried again.
            return
        assert (fs.cat_file("p"), fs.cat_file(name)) == (b"1", b"2")

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../b", "a//b"])
    def test_names_that_leave_the_asset_are_refused(self, files_place: Place, name: str) -> None:
        _, fs = opened(files_place.adapter(), "t1")
        with pytest.raises(InvalidArgument):
            fs.pipe_file(name, b"x")


class TestDiff:
    def test_what_changed_inside_objects_is_listed_once(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2", "c": b"3"})
        second = committed(adapter, "t2", {"a": b"changed", "b": None, "d": b"4"}, first)
        found = [(change.item, change.kind) for change in adapter.diff(first, second)]
        assert found == [
            ("a", ItemChangeKind.CHANGED),
            ("b", ItemChangeKind.REMOVED),
            ("d", ItemChangeKind.ADDED),
        ]
        assert [change.item for change in adapter.diff(first, second, items=["d", "c"])] == ["d"]
        assert list(adapter.diff(second, second)) == []
        assert [change.kind for change in adapter.diff(first, None)] == [ItemChangeKind.REMOVED] * 3
        change = next(adapter.diff(first, second))
        assert (cast(dict[str, int], change.before)["size"], cast(dict[str, int], change.after)["size"]) == (1, 7)

    def test_a_working_set_can_be_compared(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        staging, fs = opened(adapter, "t2", first)
        fs.pipe_file("a", b"1")
        fs.pipe_file("c", b"3")
        fs.rm("b")
        found = [(change.item, change.kind.value) for change in adapter.diff(first, staging)]
        assert found == [("b", "removed"), ("c", "added")]


class TestMerge:
    def sides(
        self, adapter: ObjectAdapter, ours: Mapping[str, bytes | None], theirs: Mapping[str, bytes | None]
    ) -> tuple[SnapshotRef, SnapshotRef, SnapshotRef]:
        objects = {"a": b"1", "b": b"2", "t.txt": b"one\ntwo\nthree\nfour\nfive\n", "j.json": b'{"x": 1, "y": 2}'}
        base = committed(adapter, "base", objects)
        return base, committed(adapter, "ours", ours, base), committed(adapter, "theirs", theirs, base)

    def test_changes_to_different_objects_are_joined(self, place: Place) -> None:
        adapter = place.adapter()
        base, ours, theirs = self.sides(adapter, {"a": b"A", "new": b"n"}, {"b": None, "other": b"o"})
        merged = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(merged, Merged)
        found = contents(place.adapter(), merged.snapshot)
        assert {name: found.get(name) for name in ("a", "b", "new", "other")} == {
            "a": b"A", "b": None, "new": b"n", "other": b"o",
        }  # fmt: skip
        assert place.adapter().merge("t", 1, base=base, ours=ours, theirs=theirs) == merged

    def test_the_same_bytes_put_whole_and_in_parts_are_no_change_and_no_conflict(self, s3_place: Place) -> None:
        adapter = s3_place.adapter()
        blobs = cast(S3Blobs, adapter.blobs)

        def put_in_parts(tx: str, base: SnapshotRef, content: bytes) -> SnapshotRef:
            staging, _ = opened(adapter, tx, base)
            target = blobs.asked(f"{place_of(staging).objects}a")
            in_parts = TransferConfig(multipart_threshold=1)
            blobs.client.upload_fileobj(BytesIO(content), target["Bucket"], target["Key"], Config=in_parts)
            vote = adapter.prepare(tx, 1, {KEY: staging})[KEY]
            assert vote is not None
            return vote

        base = committed(adapter, "base", {"a": b"\0"})
        assert put_in_parts("again", base, b"\0") == base
        ours, theirs = committed(adapter, "ours", {"a": b"\1"}, base), put_in_parts("theirs", base, b"\1")
        assert adapter.merge("t", 1, base=base, ours=ours, theirs=theirs) == Merged(ours)
        changed = committed(adapter, "changed", {"a": b"\2"}, base)
        for one, other in ((ours, changed), (changed, ours)):
            merged = adapter.merge("u", 1, base=theirs, ours=one, theirs=other)
            assert isinstance(merged, Merged)
            assert contents(adapter, merged.snapshot) == {"a": b"\2"}

    def test_a_merger_that_fails_leaves_a_conflict_that_names_it(self, files_place: Place) -> None:
        def fail(base: bytes, ours: bytes, theirs: bytes) -> bytes:
            raise KeyError("column")

        gives_text = cast(MergeFunction, lambda base, ours, theirs: "text")
        adapter = files_place.adapter([Merger("broken", "a", fail), Merger("text", "b", gives_text)])
        base, ours, theirs = self.sides(adapter, {"a": b"A", "b": b"B"}, {"a": b"AA", "b": b"BB"})
        found = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(found, Conflicted)
        assert [conflict.detail for conflict in found.conflicts] == [
            "both sides changed it, and the merger 'broken' failed: KeyError: 'column'",
            "both sides changed it, and the merger 'text' failed: it gave str for bytes",
        ]

    def test_a_merge_names_the_mergers_that_have_a_version_also_when_it_is_repeated(self, place: Place) -> None:
        def both(base: bytes, ours: bytes, theirs: bytes) -> bytes:
            return ours + theirs

        mergers = [Merger("both", "a", both, version="2"), Merger("idle", "c", both, version="1")]
        adapter = place.adapter(mergers)
        base, ours, theirs = self.sides(
            adapter, {"a": b"A", "j.json": b'{"x": 9, "y": 2}'}, {"a": b"AA", "j.json": b'{"x": 1, "z": 3}'}
        )
        merged = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(merged, Merged)
        assert merged.mergers == ("both 2",)
        assert place.adapter(mergers).merge("t", 1, base=base, ours=ours, theirs=theirs) == merged

    def test_both_changed_the_inside_of_one_object(self, place: Place) -> None:
        adapter = place.adapter()
        base, ours, theirs = self.sides(
            adapter,
            {"t.txt": b"ONE\ntwo\nthree\nfour\nfive\n", "j.json": b'{"x": 9, "y": 2}'},
            {"t.txt": b"one\ntwo\nthree\nfour\nFIVE\n", "j.json": b'{"x": 1, "z": 3}'},
        )
        merged = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(merged, Merged)
        found = contents(adapter, merged.snapshot)
        assert found["t.txt"] == b"ONE\ntwo\nthree\nfour\nFIVE\n"
        assert json.loads(found["j.json"]) == {"x": 9, "z": 3}

    def test_conflicts_are_listed_by_object_and_settled_one_by_one(self, place: Place) -> None:
        adapter = place.adapter()
        base, ours, theirs = self.sides(
            adapter, {"a": b"\0ours", "b": None, "n": b"\0o"}, {"a": b"\0theirs", "b": b"changed", "n": b"\0t"}
        )
        found = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(found, Conflicted)
        assert [conflict.item for conflict in found.conflicts] == ["a", "b", "n"]
        assert cast(dict[str, object], found.conflicts[0].theirs)["size"] == 7
        settled = [
            Resolution(KEY, "a", Choice.THEIRS),
            Resolution(KEY, "b", Choice.BASE),
            Resolution(KEY, "n", Choice.VALUE, "by hand"),
        ]
        part = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs, resolutions=settled[:1])
        assert isinstance(part, Conflicted)
        assert [conflict.item for conflict in part.conflicts] == ["b", "n"]
        merged = adapter.merge("t", 1, base=base, ours=ours, theirs=theirs, resolutions=settled)
        assert isinstance(merged, Merged)
        objects = contents(adapter, merged.snapshot)
        assert (objects["a"], objects["b"], objects["n"]) == (b"\0theirs", b"2", b"by hand")
        removed = adapter.merge(
            "t", 1, base=base, ours=ours, theirs=theirs,
            resolutions=[*settled[:2], Resolution(KEY, "n", Choice.VALUE, None)],
        )  # fmt: skip
        assert isinstance(removed, Merged)
        assert "n" not in contents(adapter, removed.snapshot)
        with pytest.raises(InvalidArgument):
            adapter.merge(
                "t", 2, base=base, ours=ours, theirs=theirs,
                resolutions=[*settled[:2], Resolution(KEY, "n", Choice.VALUE, 7)],
            )  # fmt: skip

    @pytest.mark.parametrize(
        ("ours", "value", "expected"),
        [
            (b'{"a": 2}\n', {"a": [1, {"b": None}]}, b'{"a": [1, {"b": null}]}\n'),
            (b'{\n  "a": 2\n}', {"a": 3}, b'{\n  "a": 3\n}'),
            (b'{"a":2,"b":1}', [1, "\xfc"], b'[1,"\\u00fc"]'),
            (b'{"a": "\xc3\xbc"}', {"a": "\xf6"}, b'{"a": "\xc3\xb6"}'),
            (b"\0\xff", {}, b"{}"),
            (None, {"a": 1}, b'{"a": 1}'),
        ],
    )
    def test_a_json_document_is_a_value_in_the_layout_of_ours(
        self, ours: bytes | None, value: Json, expected: bytes, place: Place
    ) -> None:
        adapter = place.adapter()
        base, left, right = self.sides(adapter, {"j.json": ours}, {"j.json": b'{"a": 9}'})
        settled = [Resolution(KEY, "j.json", Choice.VALUE, value)]
        for _ in range(2):
            merged = adapter.merge("t", 1, base=base, ours=left, theirs=right, resolutions=settled)
            assert isinstance(merged, Merged)
            assert contents(adapter, merged.snapshot)["j.json"] == expected
        with pytest.raises(InvalidArgument, match="as JSON"):
            odd = [Resolution(KEY, "j.json", Choice.VALUE, [float("nan")])]
            adapter.merge("t", 1, base=base, ours=left, theirs=right, resolutions=odd)


class TestRestore:
    def test_a_whole_asset_is_brought_back(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        second = committed(adapter, "t2", {"a": b"changed", "b": None}, first)
        staging, fs = opened(adapter, "t3", second)
        fs.pipe_file("c", b"staged")
        restored = adapter.restore("t3", staging, first, items=None)
        assert adapter.restore("t3", restored, first, items=None) == restored
        vote = adapter.prepare("t3", 1, {KEY: restored})[KEY]
        assert vote is not None
        assert contents(adapter, vote) == {"a": b"1", "b": b"2"}
        assert (vote.digest, vote.asset) == (first.digest, first.asset)

    def test_single_objects_are_brought_back_without_a_copy(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        second = committed(adapter, "t2", {"a": b"changed", "b": None, "c": b"3"}, first)
        staging, fs = opened(adapter, "t3", second)
        fs.pipe_file("a", b"staged")
        for _ in range(2):
            staging = adapter.restore("t3", staging, first, items=["a", "b", "c"])
        vote = adapter.prepare("t3", 1, {KEY: staging})[KEY]
        assert vote is not None
        assert contents(adapter, vote) == {"a": b"1", "b": b"2"}
        assert vote.digest == first.digest


class TestAbort:
    def test_it_drops_what_was_staged_and_prepared_and_nothing_else(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        staging, fs = opened(adapter, "t2", first)
        fs.pipe_file("b", b"2")
        fs.rm("a")
        adapter.prepare("t2", 1, {KEY: staging})
        for _ in range(2):
            adapter.abort("t2")
        adapter.abort("unknown")
        assert [item.path for item in adapter.inventory() if "/t2/" in item.path] == []
        assert contents(place.adapter(), first) == {"a": b"1"}
        assert adapter.open(staging, None).find("") == ["a"]


class TestRelease:
    def test_after_a_commit_private_copies_go_and_the_commit_stays(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        second = committed(adapter, "t2", {"a": b"3", "b": None}, first)
        for _ in range(2):
            adapter.release("t2", [second])
        adapter.release("unknown", [])
        staged = [
            blob.key for blob in adapter.blobs.list("_plait/") if "/t2/" in blob.key and "/packs/" not in blob.key
        ]
        assert len(staged) == (1 if place.versioned else 0)
        assert contents(place.adapter(), second) == {"a": b"3"}
        assert contents(place.adapter(), first) == {"a": b"1", "b": b"2"}
        assert adapter.verify(second, Depth.BYTES).problems == ()
        assert {item.path for item in adapter.reachable(second)} <= {item.path for item in adapter.inventory()}


class TestPublish:
    def test_publish_twice_is_publish_once(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        second = committed(adapter, "t2", {"a": b"2"}, first)
        head = HEADS + first.asset
        for move in (Move(None, first, 1), Move(first, second, 2)):
            assert adapter.publish({KEY: move})[KEY].state is PublishState.DONE
            written = adapter.blobs.head(head)
            assert adapter.publish({KEY: move})[KEY].state is PublishState.DONE
            assert adapter.blobs.head(head) == written
        document = json.loads(adapter.blobs.get(head))
        assert (document["root"], document["pack"], document["seq"]) == (second.digest.hex(), second.version, 2)

    def test_a_foreign_head_is_reported_and_kept(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        second = committed(adapter, "t2", {"a": b"2"}, first)
        foreign = committed(adapter, "t3", {"a": b"3"}, first)
        adapter.publish({KEY: Move(None, first, 1)})
        adapter.publish({KEY: Move(first, foreign, 2)})
        published = adapter.publish({KEY: Move(first, second, 3)})[KEY]
        assert (published.state, published.found) == (PublishState.DIVERGED, foreign)
        assert adapter.publish({KEY: Move(None, first, 4)})[KEY].found == foreign
        assert adapter.publish({KEY: Move(foreign, second, 5)})[KEY].state is PublishState.DONE

    def test_a_stale_move_does_not_undo_a_later_one(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        second = committed(adapter, "t2", {"a": b"2"}, first)
        for move in (Move(None, first, 1), Move(first, second, 2), Move(second, first, 3)):
            assert adapter.publish({KEY: move})[KEY].state is PublishState.DONE
        assert adapter.publish({KEY: Move(first, second, 2)})[KEY].state is PublishState.BUSY

    def test_an_asset_disappears_and_comes_back(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        for move in (Move(None, first, 1), Move(first, None, 2), Move(first, None, 2), Move(None, first, 3)):
            assert adapter.publish({KEY: move})[KEY].state is PublishState.DONE

    def test_a_head_that_is_no_head_is_told_and_one_that_was_deleted_is_made_anew(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        second = committed(adapter, "t2", {"a": b"2"}, first)
        head = HEADS + first.asset
        adapter.publish({KEY: Move(None, first, 1)})
        adapter.blobs.put(head, b"garbage")
        with pytest.raises(Corrupt, match="delete it and take that over with 'plait store adopt KEY'"):
            adapter.publish({KEY: Move(first, second, 2)})
        adapter.blobs.delete([Blob(head, 0)])
        published = adapter.publish({KEY: Move(first, second, 2)})[KEY]
        assert (published.state, published.found) == (PublishState.DIVERGED, None)
        assert adapter.publish({KEY: Move(None, second, 3)})[KEY].state is PublishState.DONE
        assert read_head(adapter.blobs, first.asset).snapshot == second

    def test_of_racing_publishers_one_wins(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {"a": b"1"})
        rivals = [committed(adapter, f"r{n}", {"a": b"%d" % n}, first) for n in range(2, 8)]
        adapter.publish({KEY: Move(None, first, 1)})
        with ThreadPoolExecutor(len(rivals)) as pool:
            states = list(
                pool.map(lambda rival: place.adapter().publish({KEY: Move(first, rival, 2)})[KEY].state, rivals)
            )
        assert states.count(PublishState.DONE) == 1
        assert states.count(PublishState.DIVERGED) == len(rivals) - 1


class TestHealth:
    def test_a_fit_store_lacks_nothing(self, place: Place) -> None:
        adapter = place.adapter()
        assert list(adapter.check()) == []
        assert list(adapter.retention_risks()) == []

    def test_whole_snapshots_are_healthy(self, place: Place) -> None:
        adapter = place.adapter()
        snapshot = committed(adapter, "t1", {name: name.encode() for name in NAMES})
        for depth in Depth:
            assert adapter.verify(snapshot, depth).problems == ()
        assert adapter.verify(snapshot, Depth.BYTES).checked == len(NAMES) + 1

    @pytest.mark.parametrize("depth", [Depth.METADATA, Depth.BYTES])
    def test_what_snapshots_share_is_looked_at_once_and_told_of_each(self, files_place: Place, depth: Depth) -> None:
        adapter = files_place.adapter()
        write = Writer(adapter)
        write({f"{number:04}": b"%d" % number for number in range(600)})
        for number in range(8):
            write({f"{number * 71:04}": b"changed"})
        snapshots = write.commits
        verify = files_place.adapter().verifier(depth)
        found = [verify(snapshot) for snapshot in snapshots]
        assert [health.problems for health in found] == [()] * 9
        assert sum(health.checked for health in found) <= 600 + 8 * 128 + 9
        lost = adapter.open(snapshots[0], None).info("0599")["sha256"]
        Path(files_place.options["path"], address(bytes.fromhex(lost))).unlink()
        again = files_place.adapter().verifier(depth)
        for snapshot in reversed(snapshots):
            (problem,) = again(snapshot).problems
            assert "'0599'" in problem
        assert adapter.verify(snapshots[0], depth).problems == (problem,)

    def test_a_lost_object_is_found(self, place: Place) -> None:
        adapter = place.adapter()
        snapshot = committed(adapter, "t1", {"a": b"1", "b": b"2"})
        lost = next(item for item in adapter.reachable(snapshot) if "/packs/" not in item.path)
        adapter.delete([lost])
        assert adapter.verify(snapshot, Depth.EXISTS).problems == ()
        for depth in (Depth.METADATA, Depth.BYTES):
            (problem,) = adapter.verify(snapshot, depth).problems
            assert "does not exist" in problem

    def test_flipped_bytes_are_found(self, place: Place) -> None:
        if place.versioned:
            pytest.skip("a stored version cannot be overwritten through S3")
        adapter = place.adapter()
        snapshot = committed(adapter, "t1", {"a": b"good"})
        (kept,) = adapter.blobs.list("_plait/objects/")
        adapter.blobs.put(kept.key, b"evil")
        assert adapter.verify(snapshot, Depth.METADATA).problems == ()
        (problem,) = adapter.verify(snapshot, Depth.BYTES).problems
        assert "'a'" in problem
        assert "other bytes" in problem

    def test_a_damaged_manifest_is_found(self, place: Place) -> None:
        adapter = place.adapter()
        snapshot = committed(adapter, "t1", {"a": b"1"})
        (kept,) = adapter.blobs.list("_plait/packs/")
        whole = adapter.blobs.get(kept.key)
        adapter.blobs.put(kept.key, whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "other bytes" in adapter.verify(snapshot, Depth.EXISTS).problems[0]
        adapter.blobs.delete([Blob(kept.key, 0)])
        assert "lost" in adapter.verify(snapshot, Depth.EXISTS).problems[0]


class TestSpace:
    def test_only_what_is_unreachable_can_go(self, place: Place) -> None:
        adapter = place.adapter()
        first = committed(adapter, "t1", {f"{n:03}": b"%d" % n for n in range(50)})
        second = committed(adapter, "t2", {"007": b"changed", "008": None}, first)
        dropped = committed(adapter, "t3", {"x": b"dropped"}, second)
        needed = {item.path for snapshot in (first, second) for item in adapter.reachable(snapshot)}
        there = {item.path: item for item in adapter.inventory()}
        assert needed <= set(there)
        garbage = [item for path, item in there.items() if path not in needed]
        assert garbage
        for _ in range(2):
            adapter.delete(garbage)
        assert {item.path for item in adapter.inventory()} == needed
        again = place.adapter()
        assert len(contents(again, first)) == 50
        assert contents(again, second)["007"] == b"changed"
        assert again.verify(second, Depth.BYTES).problems == ()
        assert again.verify(dropped, Depth.EXISTS).problems != ()

    def test_what_is_not_plaits_own_is_never_deleted(self, place: Place) -> None:
        adapter = place.adapter()
        written = adapter.blobs.put("others/a", b"1")
        stranger = next(iter(adapter.inventory()), None)
        assert stranger is None
        first = committed(adapter, "t1", {"a": b"1"})
        (item,) = [item for item in adapter.reachable(first) if "/packs/" in item.path]
        foreign = item.path.replace(adapter.blobs.uri("_plait/packs/"), adapter.blobs.uri("others/"))
        with pytest.raises(InvalidArgument):
            adapter.delete([type(item)(foreign)])
        assert adapter.blobs.head("others/a") == adapter.blobs.head(written.key)


class TestImport:
    def test_a_prefix_is_imported_and_later_writes_do_not_alter_it(self, place: Place) -> None:
        adapter = place.adapter(copy="false" if place.versioned else "true")
        adapter.blobs.put("landing/2013/01.csv", b"id\n1\n")
        adapter.blobs.put("landing-other", b"beside")
        first = adapter.snapshot("t1", {KEY: "landing"})[KEY]
        assert adapter.snapshot("t2", {KEY: adapter.blobs.uri("landing/")}) == {KEY: first}
        adapter.blobs.put("landing/2013/01.csv", b"id\n2\n")
        assert contents(place.adapter(), first) == {"2013/01.csv": b"id\n1\n"}
        second = adapter.snapshot("t3", {KEY: "landing"})[KEY]
        assert second.asset == first.asset
        assert [change.item for change in adapter.diff(first, second)] == ["2013/01.csv"]
        assert adapter.verify(first, Depth.BYTES).problems == ()
        copied = list(adapter.blobs.list("_plait/objects/"))
        assert (copied == []) == place.versioned
        staging, fs = opened(adapter, "t4", second)
        fs.pipe_file("new", b"x")
        vote = adapter.prepare("t4", 1, {KEY: staging})[KEY]
        assert vote is not None
        assert set(contents(adapter, vote)) == {"2013/01.csv", "new"}

    def test_without_versions_and_leave_to_copy_it_is_refused(self, place: Place) -> None:
        if place.versioned:
            pytest.skip("the bucket keeps versions")
        adapter = place.adapter(**({"copy": "false"} if place.kind == "files" else {}))
        adapter.blobs.put("landing/a", b"1")
        with pytest.raises(Unsupported, match="copy=true"):
            adapter.snapshot("t1", {KEY: "landing"})

    def test_plaits_own_is_never_imported(self, place: Place) -> None:
        adapter = place.adapter(copy="true")
        committed(adapter, "t1", {"a": b"1"})
        adapter.blobs.put("beside", b"2")
        whole = adapter.snapshot("t2", {KEY: ""})[KEY]
        assert contents(adapter, whole) == {"beside": b"2"}
        with pytest.raises(InvalidArgument, match="plait's own"):
            adapter.snapshot("t3", {KEY: "_plait/objects"})

    def test_one_request_lists_what_a_versioned_bucket_holds(self, s3_place: Place) -> None:
        if not s3_place.versioned:
            pytest.skip("the bucket keeps no versions")
        adapter = s3_place.adapter()
        for number in range(20):
            adapter.blobs.put(f"landing/{number}", b"x")
        asked: list[str] = []
        client = cast(S3Blobs, adapter.blobs).client
        client.meta.events.register("before-call.s3", lambda model, **kwargs: asked.append(model.name))
        adapter.snapshot("t1", {KEY: "landing"})
        assert [name for name in asked if name != "PutObject"] == ["GetBucketVersioning", "ListObjectVersions"]

    def test_what_is_deleted_meanwhile_is_told_with_what_to_do(self, place: Place) -> None:
        blobs = place.adapter().blobs
        blobs.put("landing/a", b"1")
        (listed,) = blobs.list("landing/")  # Without versions, which would be there yet.
        blobs.delete([Blob("landing/a", 1)])
        with pytest.raises(NotFound, match="repeat when those who delete there have ended"):
            blobs.pin_all([listed], lambda done: None)

    def test_what_is_not_there_is_not_found(self, place: Place) -> None:
        with pytest.raises(NotFound):
            place.adapter(copy="true").snapshot("t1", {KEY: "nowhere"})


class TestLocate:
    def test_the_snippet_reads_the_snapshot_without_plaits_server(self, place: Place) -> None:
        adapter = place.adapter()
        snapshot = committed(adapter, "t1", {"a": b"1"})
        location = adapter.locate(snapshot)
        assert "plaitsecret" not in repr(location)
        if place.kind == "files":
            found: dict[str, AssetFileSystem] = {}
            exec(location.snippet, found)
            assert found["fs"].cat_file("a") == b"1"

    @pytest.mark.s3server
    def test_a_link_needs_no_credentials(self, s3_place: Place) -> None:
        adapter = s3_place.adapter()
        snapshot = committed(adapter, "t1", {"a b/é.txt": b"linked"})
        with urllib.request.urlopen(adapter.presign(snapshot, "a b/é.txt")) as answer:
            assert answer.read() == b"linked"
        with pytest.raises(NotFound):
            adapter.presign(snapshot, "nowhere")
        for seconds in (0, 604_801):
            with pytest.raises(InvalidArgument, match="a week"):
                adapter.presign(snapshot, "a b/é.txt", seconds=seconds)

    @pytest.mark.s3server
    def test_a_link_is_to_the_version_that_was_committed(self, s3_place: Place) -> None:
        adapter = s3_place.adapter()
        first = committed(adapter, "t1", {"a": b"first"})
        committed(adapter, "t2", {"a": b"second"}, first)
        with urllib.request.urlopen(adapter.presign(first, "a", seconds=60)) as answer:
            assert answer.read() == b"first"
