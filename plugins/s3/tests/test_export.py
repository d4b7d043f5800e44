"""Exports to folders: exactly what was committed, whoever wrote there before, and whatever stopped the last one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, PlaitError, StoreDiverged, StoreUnavailable
from plait.failpoint import armed
from plait.types import SnapshotRef
from plait_conformance.filesystems import reflink_filesystem
from plait_conformance.testing import MemoryPort, MemoryState
from plait_s3 import export, file_names, folder_target
from plait_s3.blobs import Blob, address
from plait_s3.export_plan import Action
from plait_s3.exporting import ExportReport
from plait_s3.filesystem import AssetFileSystem
from plait_s3.manifest import NOTHING, Entry, Manifest, encode_entry, write_manifest
from plait_s3.testing import Place, Writer, export_in_a_process

KEY = ("raw", "landing")
NAMES = ("a-b", "a/b", "a.b", "a/é ü/日本.txt", "with space/+plus&more=%25?x#y.txt", "~", "empty", "2013/deep/er/x")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to; not there yet."""
    return tmp_path / "out"


@pytest.fixture
def written(files_place: Place) -> Writer:
    return Writer(files_place.adapter())


@pytest.fixture
def anywhere(place: Place) -> Writer:
    """In every store."""
    return Writer(place.adapter())


def held(folder: Path) -> dict[str, bytes]:
    """Every file but the export's own."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".plait-export/")}


def contents(fs: AssetFileSystem) -> dict[str, bytes]:
    return {name: fs.cat_file(name) for name in fs.find("")}


def done(report: ExportReport) -> dict[str, str]:
    return {step.name: step.action.value for step in report.steps}


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written anew."""
    return {str(path): (path.stat().st_ino, path.stat().st_ctime_ns) for path in folder.rglob("*") if path.is_file()}


class TestWhatIsThere:
    def test_a_folder_holds_exactly_the_objects(self, anywhere: Writer, out: Path) -> None:
        objects = {name: name.encode() for name in NAMES} | {"empty": b"", "large": os.urandom(5 << 20)}
        fs = anywhere(objects)
        planned = export(fs, out, dry_run=True)
        assert not (out).exists()
        report = export(fs, out)
        assert held(out) == objects
        assert done(report) == done(planned) == dict.fromkeys(objects, "write")
        assert report.size_bytes(Action.WRITE) == sum(map(len, objects.values()))
        assert sorted(path.name for path in (out / ".plait-export").iterdir()) == ["lock", "state.jsonl"]

    def test_only_what_differs_is_written(self, anywhere: Writer, out: Path) -> None:
        export(anywhere({"a/1": b"1", "a/2": b"2", "b/3": b"3", "gone/4": b"4"}), out)
        before = seen(out)
        fs = anywhere({"a/2": b"two", "new": b"5", "gone/4": None})
        assert done(export(fs, out)) == {"a/2": "write", "new": "write", "gone/4": "leave"}
        assert held(out) == {**contents(fs), "gone/4": b"4"}
        kept = {path for path, how in seen(out).items() if before.get(path) == how}
        assert {Path(path).name for path in kept} == {"1", "3", "4", "lock"}
        assert done(export(fs, out)) == {"gone/4": "leave"}
        assert done(export(fs, out, delete=True, dry_run=True)) == {"gone/4": "delete"}
        assert done(export(fs, out, delete=True)) == {"gone/4": "delete"}
        assert held(out) == contents(fs)
        assert not (out / "gone").exists()
        assert done(export(fs, out, delete=True)) == {}

    def test_an_export_that_repeats_writes_nothing(self, written: Writer, out: Path) -> None:
        fs = written({"a": b"1", "b/c": b"2"})
        export(fs, out)
        export(fs, out)  # What was new when it was remembered is read again, once.
        os.utime(out / ".plait-export/state.jsonl", ns=(2**62, 2**62))
        before = seen(out)
        assert done(export(fs, out)) == {}
        assert seen(out) == before

    def test_an_older_commit_is_exported_over_a_newer_one(self, written: Writer, out: Path) -> None:
        old = written({"a": b"1", "b": b"2"})
        new = written({"a": b"one", "b": None, "c": b"3"})
        for fs in (new, old, new, old):
            export(fs, out, delete=True)
            assert held(out) == contents(fs)

    def test_some_of_the_objects(self, written: Writer, out: Path) -> None:
        fs = written({"2013/a.csv": b"1", "2013/x/b.csv": b"2", "2013/c.txt": b"3", "2014/d.csv": b"4", "2013b": b"5"})
        export(fs, out, folder="2013", match="*.csv")
        assert held(out) == {"a.csv": b"1", "x/b.csv": b"2"}
        assert done(export(fs, out, folder="/2013/", match="c*", delete=True)) == {
            "a.csv": "delete", "x/b.csv": "delete", "c.txt": "write",
        }  # fmt: skip
        assert held(out) == {"c.txt": b"3"}
        with pytest.raises(NotFound, match="no object is below '2015/'"):
            export(fs, out, folder="2015", delete=True)
        assert held(out) == {"c.txt": b"3"}

    def test_a_working_set_is_exported_as_it_is_now(self, anywhere: Writer, out: Path) -> None:
        anywhere({"a": b"1", "b": b"2", "c": b"3"})
        fs = anywhere.stage({"a": b"staged", "b": None})
        fs.cp_file("c", "d")
        export(fs, out)
        assert held(out) == {"a": b"staged", "c": b"3", "d": b"3"}
        fs.pipe_file("a", b"again")
        assert done(export(fs, out)) == {"a": "write"}
        assert held(out) == contents(fs)
        committed = anywhere.adapter.open(anywhere.commit(fs), None)
        assert done(export(committed, out)) == {}

    def test_a_file_that_becomes_a_folder_has_to_go_first(self, written: Writer, out: Path) -> None:
        file, folder = written({"a": b"1", "z": b"0"}), written({"a": None, "a/b": b"2"})
        for now, before in ((file, {}), (folder, contents(file)), (file, contents(folder))):
            if before:
                with pytest.raises(InvalidArgument, match="--delete what is in the way"):
                    export(now, out)
                assert held(out) == before
            export(now, out, delete=True)
            assert held(out) == contents(now)


class TestWhatOthersWrote:
    @pytest.fixture
    def exported(self, written: Writer, out: Path) -> Path:
        export(written({"a": b"one", "b/c": b"two", "d": b"three"}), out)
        return out

    @pytest.mark.parametrize("is_new", [True, False])
    def test_an_edited_file_is_noticed_and_kept(self, is_new: bool, written: Writer, exported: Path) -> None:
        """Of the same size and time. By its content while it is new, and by its looks later."""
        if not is_new:
            os.utime(exported / ".plait-export/state.jsonl", ns=(2**62, 2**62))
        before = (exported / "a").stat()
        while (exported / "a").stat().st_ctime_ns == before.st_ctime_ns:
            (exported / "a").write_bytes(b"ONE")
            os.utime(exported / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
        for fs in (written({}), written({"d": b"3"}), written({"a": b"1"}), written({"a": None})):
            for rules in ({}, {"delete": True}):
                if not fs.exists("a") and not rules:
                    continue
                was = held(exported)
                assert done(export(fs, exported, dry_run=True, **rules))["a"] == "edited"
                with pytest.raises(StoreDiverged, match=r"1 at .* are not as plait wrote them: a") as refused:
                    export(fs, exported, **rules)
                assert "--force" in refused.value.remedy
                assert held(exported) == was

    def test_an_edited_file_that_is_not_exported_any_more_is_let_be(self, written: Writer, exported: Path) -> None:
        (exported / "a").write_bytes(b"ONE")
        assert done(export(written({"a": None}), exported)) == {}
        assert held(exported) == {"a": b"ONE", "b/c": b"two", "d": b"three"}
        assert done(export(written({}), exported, delete=True, dry_run=True)) == {"a": "edited"}
        assert done(export(written({}), exported, delete=True, force=True)) == {"a": "delete"}
        assert held(exported) == {"b/c": b"two", "d": b"three"}

    def test_force_writes_over_it(self, written: Writer, exported: Path) -> None:
        (exported / "a").write_bytes(b"edited")
        (exported / "b/c").unlink()
        (exported / "b/c").symlink_to(exported / "d")
        fs = written({"a": b"1"})
        assert done(export(fs, exported, force=True)) == {"a": "write", "b/c": "write"}
        assert held(exported) == contents(fs)
        assert not (exported / "b/c").is_symlink()

    def test_a_file_that_was_only_touched_is_not_edited(self, written: Writer, exported: Path) -> None:
        os.utime(exported / "a")
        (exported / "d").chmod(0o600)
        assert done(export(written({}), exported)) == {}

    def test_a_file_that_was_edited_into_what_is_wanted_is_that(self, written: Writer, exported: Path) -> None:
        (exported / "a").write_bytes(b"same")
        assert done(export(written({"a": b"same"}), exported)) == {}

    def test_a_deleted_file_comes_back(self, written: Writer, exported: Path) -> None:
        (exported / "b/c").unlink()
        (exported / "b").rmdir()
        fs = written({})
        assert done(export(fs, exported)) == {"b/c": "write"}
        assert held(exported) == contents(fs)

    def test_other_files_are_nobodys_business_unless_all_else_is_to_go(self, written: Writer, exported: Path) -> None:
        (exported / "theirs").write_bytes(b"theirs")
        (exported / os.fsdecode(b"not-\xff-unicode")).write_bytes(b"theirs")
        fs = written({"a": None})
        assert done(export(fs, exported)) == {"a": "leave"}
        with pytest.raises(StoreDiverged, match=r"2 at .*: not-.-unicode, theirs"):
            export(fs, exported, delete=True)
        assert len(held(exported)) == 5
        export(fs, exported, delete=True, force=True)
        assert held(exported) == contents(fs)

    def test_a_store_of_plaits_is_never_deleted(self, files_place: Place) -> None:
        fs = Writer(files_place.adapter())({"a": b"1"})
        store = Path(files_place.options["path"])
        for to in (store, store.parent):
            export(fs, to, delete=True, force=True)
            assert (to / "a").read_bytes() == b"1"
            assert contents(fs) == {"a": b"1"}

    def test_a_first_export_takes_over_only_what_is_the_same(self, written: Writer, out: Path) -> None:
        fs = written({"a": b"1", "b": b"2"})
        out.mkdir()
        (out / "a").write_bytes(b"1")
        (out / "b").write_bytes(b"x")
        with pytest.raises(StoreDiverged, match=r"1 at .*: b"):
            export(fs, out)
        assert sorted(os.listdir(out)) == ["a", "b"]
        (out / "b").write_bytes(b"2")
        assert done(export(fs, out)) == {}
        assert done(export(written({"a": b"one"}), out)) == {"a": "write"}

    def test_a_link_to_a_folder_is_never_followed(self, written: Writer, tmp_path: Path) -> None:
        out = tmp_path / "out"
        (tmp_path / "elsewhere").mkdir()
        out.mkdir()
        (out / "b").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InvalidArgument, match="'b' has objects below it, and is a file or a link there"):
            export(written({"a": b"1", "b/c": b"2"}), out, force=True)
        assert os.listdir(out) == ["b"]
        assert os.listdir(tmp_path / "elsewhere") == []

    def test_where_clocks_are_coarse_a_new_file_is_read_again(
        self, written: Writer, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time_ns()
        monkeypatch.setattr(folder_target, "_identity", lambda found: (found.st_size, now, now, found.st_ino))
        fs = written({"a": b"one"})
        export(fs, out)
        (out / "a").write_bytes(b"ONE")
        with pytest.raises(StoreDiverged, match=": a"):
            export(fs, out)

    def test_check_trusts_no_times(self, written: Writer, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folder_target, "_identity", lambda found: (found.st_size, 0, 0, 0))
        fs = written({"d": b"3"})
        export(fs, exported)
        (exported / "a").write_bytes(b"ONE")
        assert done(export(fs, exported)) == {}
        with pytest.raises(StoreDiverged, match=": a"):
            export(fs, exported, check=True)

    def test_what_is_remembered_may_be_lost(self, written: Writer, exported: Path) -> None:
        (exported / ".plait-export/state.jsonl").unlink()
        assert done(export(written({}), exported)) == {}
        assert done(export(written({"a": b"1", "d": None}), exported)) == {"a": "write", "d": "leave"}

    def test_what_is_remembered_must_be_readable(self, written: Writer, exported: Path) -> None:
        state = exported / ".plait-export/state.jsonl"
        state.write_bytes(b"?\n" + state.read_bytes())
        with pytest.raises(Corrupt, match=r"state\.jsonl cannot be read") as refused:
            export(written({}), exported)
        assert "remove it" in refused.value.remedy

    def test_another_asset_is_not_exported_over_it(self, files_place: Place, exported: Path) -> None:
        other = Writer(files_place.adapter())
        port = MemoryPort(other.adapter, "other", {})
        fs = other.adapter.open(port.add(("raw", "other"), new=True), port)
        fs.pipe_file("a", b"other")
        with pytest.raises(AlreadyExists, match="holds an export of another asset"):
            export(fs, exported)
        export(fs, exported, force=True, delete=True)
        assert held(exported) == {"a": b"other"}

    def test_a_manifest_that_is_gone_does_not_stop_it(self, written: Writer, exported: Path) -> None:
        fs = written({"a": b"1", "b/c": None})
        old = written.commits[0]
        written.adapter.blobs.delete(written.adapter.blobs.list_versions(f"_plait/packs/{old.version}"))
        written.adapter.packs.forget()
        assert done(export(fs, exported)) == {"a": "write", "b/c": "leave"}


class TestNames:
    @pytest.fixture
    def holding(self, files_place: Place) -> Callable[..., AssetFileSystem]:
        """A snapshot with any names: a bucket's objects may have them."""
        adapter = files_place.adapter()

        def make(*names: str) -> AssetFileSystem:
            manifest = Manifest(adapter.packs, NOTHING)
            entries = []
            for name in sorted(names, key=str.encode):
                sha256 = hashlib.sha256(name.encode()).digest()
                adapter.blobs.put(address(sha256), name.encode())
                entries.append((name.encode(), encode_entry(Entry(len(name.encode()), "", sha256))))
            root = manifest.tree.build(entries)
            made = write_manifest(adapter.blobs, manifest, root, "test", lambda name: None)
            return adapter.open(SnapshotRef("raw", "files", "x", made.pack, made.node), None)

        return make

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("../out-of-it", "is no object's name"),
            ("a/../../out-of-it", "is no object's name"),
            ("/etc/absolute", "is no object's name"),
            ("a//b", "is no object's name"),
            ("./a", "is no object's name"),
            ("a\0b", "is no object's name"),
            ("n" * 256, "has more than 255 bytes"),
            ("ü" * 128 + "/x", "has more than 255 bytes"),
            (".plait-export/state.jsonl", "is a name of plait's own"),
            ("_plait/heads/x", "is a name of plait's own"),
            (".plait/catalog.db", "is a name of plait's own"),
            ("a/_plait/objects/x", "is a name of plait's own"),
        ],
    )
    def test_unsafe_names_are_refused_before_anything_is_written(
        self, name: str, reason: str, holding: Callable[..., AssetFileSystem], tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidArgument, match=f"1 names cannot be at .*{reason}"):
            export(holding("safe", name), tmp_path / "in/out", force=True)
        assert not (tmp_path / "in").exists()
        assert not list(tmp_path.rglob("out-of-it"))

    def test_a_path_that_is_too_long_is_refused(self, holding: Callable[..., AssetFileSystem], tmp_path: Path) -> None:
        folder = tmp_path.joinpath(*["d" * 250] * 13)
        with pytest.raises(InvalidArgument, match="makes a path of more than 4095 bytes"):
            export(holding("safe", "/".join("e" * 199 for _ in range(4))), folder / ("f" * (3300 - len(str(folder)))))
        assert not (tmp_path / ("d" * 250)).exists()

    def test_an_object_that_is_a_folder_too_is_refused(
        self, holding: Callable[..., AssetFileSystem], out: Path
    ) -> None:
        with pytest.raises(InvalidArgument, match="'a' is an object and a folder too"):
            export(holding("a", "a/b"), out)
        export(holding("a/b"), out)
        with pytest.raises(InvalidArgument, match="'a' is a folder there"):
            export(holding("a", "a/b"), out)

    @pytest.mark.parametrize(
        ("one", "other"), [("Readme", "README"), ("A/x", "a/y"), ("caf\u00e9", "cafe\u0301"), ("straße", "STRASSE")]
    )
    def test_names_that_a_disk_cannot_tell_apart_are_refused(
        self,
        one: str,
        other: str,
        holding: Callable[..., AssetFileSystem],
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(folder_target.FolderTarget, "_folds_case", True)
        with pytest.raises(InvalidArgument, match="are one name on this disk"):
            export(holding(one, other), out)
        assert not (out).exists()
        export(holding(one), out)
        with pytest.raises(InvalidArgument, match="are one name on this disk"):
            export(holding(other), out)
        assert list(held(out)) == [one]

    def test_this_disk_tells_them_apart(self, holding: Callable[..., AssetFileSystem], out: Path) -> None:
        export(holding("Readme", "README"), out)
        assert held(out) == {"Readme": b"Readme", "README": b"README"}

    def test_a_disk_is_asked_whether_it_does(self, files_place: Place, tmp_path: Path) -> None:
        target = folder_target.FolderTarget(str(tmp_path), files_place.adapter().blobs, lambda name: None)
        (tmp_path / ".PLAIT-EXPORT").mkdir()
        assert target._folds_case

    def test_folders_of_plait_and_files_are_no_targets(
        self, holding: Callable[..., AssetFileSystem], tmp_path: Path
    ) -> None:
        for place in (tmp_path / "store/_plait", tmp_path / "store/_plait/objects"):
            with pytest.raises(InvalidArgument, match="is plait's own"):
                export(holding("a"), place)
        (tmp_path / "file").touch()
        with pytest.raises(InvalidArgument, match="is no folder"):
            export(holding("a"), tmp_path / "file")
        with pytest.raises(InvalidArgument, match="is no bucket"):
            export(holding("a"), "gs://bucket/prefix")

    def test_every_part_of_the_way_is_named(self) -> None:
        assert list(file_names.folders_above("a/b/c")) == ["a/b", "a"]


class _StoppedError(Exception):
    pass


class TestStopped:
    @pytest.mark.slow
    def test_it_goes_on_wherever_it_was_stopped(self, files_place: Place, tmp_path: Path) -> None:
        """At each step of an update, then on to what is newest by then: exactly that, and nothing counts as edited."""
        written = Writer(files_place.adapter())
        first = written({f"{n % 3}/{n}": b"%d" % n for n in range(8)})
        second = written({"0/0": b"new", "1/1": None, "added": b"2", "2/2": None, "2/5": None, "2": b"3"})
        third = written({"0/0": b"newest", "added": b"3", "1/4": b"4"})
        names: list[str] = []
        with armed(names.append):
            export(first, tmp_path / "recorded", delete=True)
            export(second, tmp_path / "recorded", delete=True)
        assert len(set(names)) >= 6
        for number in range(len(names)):
            out = tmp_path / str(number)
            left = number

            def stop(name: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise _StoppedError(name)

            with armed(stop), pytest.raises(_StoppedError):
                export(first, out, delete=True)
                export(second, out, delete=True)
            if number % 2:
                with armed(lambda name: _stop_at("export.before_end", name)), pytest.raises(_StoppedError):
                    export(second, out, delete=True)
                    export(first, out, delete=True)
            export(third, out, delete=True)
            assert held(out) == contents(third), names[number]
            assert sorted(os.listdir(out / ".plait-export")) == ["lock", "state.jsonl"]

    @pytest.mark.slow
    @pytest.mark.parametrize("at", ["export.before_place@2", "export.after_place@2", "export.before_end@1"])
    def test_a_kill_in_the_middle_and_a_second_run_give_exactly_the_version(
        self, at: str, anywhere: Writer, place: Place, out: Path
    ) -> None:
        fs = anywhere({f"{n % 5}/{n}": b"%d" % n * 50 for n in range(60)})
        assert export_in_a_process(place, anywhere.commits[-1], str(out), at=at) == -9
        there = held(out)
        assert there.items() <= contents(fs).items()
        assert export_in_a_process(place, anywhere.commits[-1], str(out)) == 0
        assert held(out) == contents(fs)

    def test_what_is_half_remembered_is_not(self, files_place: Place, out: Path) -> None:
        written = Writer(files_place.adapter())
        export(written({"a": b"1", "b": b"2"}), out)
        with (out / ".plait-export/state.jsonl").open("ab") as stream:
            stream.write(b'["a","sha25')
        for content in (b"3", b"4"):
            fs = written({"a": content})
            assert done(export(fs, out)) == {"a": "write"}
            assert held(out) == contents(fs)

    def test_two_at_once_are_refused(self, files_place: Place, out: Path) -> None:
        fs = Writer(files_place.adapter())({"a": b"1"})
        refusals: list[PlaitError] = []

        def meanwhile(name: str) -> None:
            if name == "export.begun":
                with pytest.raises(StoreUnavailable, match="another export is writing to") as refused:
                    export(fs, out)
                refusals.append(refused.value)

        with armed(meanwhile):
            export(fs, out)
        assert len(refusals) == 1
        assert done(export(fs, out)) == {}


def _stop_at(wanted: str, name: str) -> None:
    if name == wanted:
        raise _StoppedError(name)


class TestBytes:
    def test_other_bytes_than_were_committed_are_never_written(self, anywhere: Writer, out: Path) -> None:
        fs = anywhere({"a": b"right", "b": b"also"})
        entry = fs._overlay.kept("a")
        assert entry is not None
        if entry.version:
            pytest.skip("past a server that keeps versions, nothing can be altered")
        anywhere.adapter.blobs.put(entry.key, b"wrong")
        with pytest.raises(Corrupt, match="holds other bytes than were committed") as refused:
            export(fs, out)
        assert "verify" in refused.value.remedy
        assert held(out).keys() <= {"b"}

    def test_a_lost_object_is_said(self, anywhere: Writer, out: Path) -> None:
        fs = anywhere({"a": b"right", "b": b"also"})
        entry = fs._overlay.kept("a")
        assert entry is not None
        anywhere.adapter.blobs.delete([Blob(entry.key, 5, version=entry.version)])
        with pytest.raises(Corrupt, match="is lost or holds other bytes"):
            export(fs, out)
        assert held(out).keys() <= {"b"}

    def test_what_is_written_to_while_it_is_exported_is_said(self, files_place: Place, out: Path) -> None:
        written = Writer(files_place.adapter())
        fs = written.stage({"a": b"1"})

        def meanwhile(name: str) -> None:
            if name == "export.begun":
                fs.pipe_file("a", b"2")

        with armed(meanwhile), pytest.raises(StoreUnavailable, match="was written to while it was exported"):
            export(fs, out)
        assert held(out) == {}
        export(fs, out)
        assert held(out) == {"a": b"2"}

    def test_a_full_disk_is_said(self, files_place: Place, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fs = Writer(files_place.adapter())({"a": b"1"})

        def full(*given: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(folder_target.Placing, "take", full)
        with pytest.raises(StoreUnavailable, match=r"out/a cannot be exported to: .*No space left"):
            export(fs, out)

    def test_blocks_are_shared_where_the_disk_can(self) -> None:
        with ExitStack() as stack:
            try:
                disk = stack.enter_context(reflink_filesystem())
            except (FileNotFoundError, PermissionError, RuntimeError) as error:
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NOT RUN: {error}")
            adapter = Place("files", {"path": str(disk / "store")}, MemoryState()).adapter()
            content = os.urandom(8 << 20)
            fs = Writer(adapter)({"large": content})
            os.sync()
            before = os.statvfs(disk).f_bfree * os.statvfs(disk).f_bsize
            export(fs, disk / "out")
            os.sync()
            used = before - os.statvfs(disk).f_bfree * os.statvfs(disk).f_bsize
            assert held(disk / "out") == {"large": content}
            assert used < 1 << 20
            export(Writer(adapter)({"large": b"written"}), disk / "out", force=True)
            assert fs.cat_file("large") == content
