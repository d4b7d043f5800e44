"""What a snapshot's readers get is what was committed: other bytes, and lost ones, are errors that name the item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from plait.errors import Corrupt, NotFound
from plait.types import Choice, Conflicted, Resolution
from plait_conformance.testing import MemoryPort
from plait_s3.blobs import Blob
from plait_s3.committed import Reading
from plait_s3.filesystem import AssetFileSystem
from plait_s3.manifest import Entry
from plait_s3.s3_blobs import S3Blobs
from plait_s3.testing import Place, Writer

LINES = b"".join(b"%d\n" % number for number in range(1000))
KEY = ("raw", "landing")

READERS: Mapping[str, Callable[[AssetFileSystem, Path], object]] = {
    "cat_file": lambda fs, out: fs.cat_file("d/a"),
    "cat": lambda fs, out: fs.cat(["d/a", "d/b"]),
    "read_text": lambda fs, out: fs.read_text("d/a"),
    "open": lambda fs, out: fs.open("d/a", "rb").read(),
    "in pieces": lambda fs, out: list(iter(partial(fs.open("d/a", "rb").read, 100), b"")),
    "lines": lambda fs, out: list(fs.open("d/a", "rb")),
    "text lines": lambda fs, out: list(fs.open("d/a", "r")),
    "after looking for the end": lambda fs, out: _sought(fs.open("d/a", "rb")),
    "get": lambda fs, out: fs.get("d", f"{out}/got", recursive=True),
    "get_file": lambda fs, out: fs.get_file("d/a", out / "got"),
}


def _sought(stream: Any) -> bytes:
    stream.seek(0, 2)
    stream.seek(0)
    return bytes(stream.read())


def kept(fs: AssetFileSystem, item: str) -> Entry:
    entry = fs._overlay.kept(item)
    assert entry is not None
    return entry


def damage(fs: AssetFileSystem, item: str, content: bytes) -> None:
    entry = kept(fs, item)
    if entry.version:
        pytest.skip("a stored version cannot be overwritten through S3")
    fs.blobs.put(entry.key, content)


def lose(fs: AssetFileSystem, item: str) -> None:
    entry = kept(fs, item)
    fs.blobs.delete([Blob(entry.key, entry.size_bytes, entry.etag, entry.version)])


@pytest.fixture
def fs(place: Place) -> AssetFileSystem:
    return Writer(place.adapter())({"d/a": LINES, "d/b": b"b", "empty": b""})


@pytest.fixture
def files_fs(files_place: Place) -> AssetFileSystem:
    return Writer(files_place.adapter())({"d/a": LINES, "d/b": b"b", "empty": b""})


class TestDamaged:
    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    @pytest.mark.parametrize("content", [LINES[:-2] + b"!\n", LINES[:-10]], ids=["altered", "cut"])
    def test_whoever_reads_all_of_it_hears_so(
        self, files_fs: AssetFileSystem, tmp_path: Path, content: bytes, read: Callable[[AssetFileSystem, Path], object]
    ) -> None:
        damage(files_fs, "d/a", content)
        with pytest.raises(Corrupt, match="object 'd/a', kept at ") as refused:
            read(files_fs, tmp_path)
        assert f"expected {len(LINES)} with sha256 {hashlib.sha256(LINES).hexdigest()}, found" in str(refused.value)
        assert f"found {len(content)} with {hashlib.sha256(content).hexdigest()}" in str(refused.value)
        assert "restore it from a backup" in refused.value.remedy

    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_what_is_whole_is_read(
        self, files_fs: AssetFileSystem, tmp_path: Path, read: Callable[[AssetFileSystem, Path], object]
    ) -> None:
        found = read(files_fs, tmp_path)
        if isinstance(found, list):
            found = b"".join(part if isinstance(part, bytes) else part.encode() for part in found)
        assert found in (LINES, LINES.decode(), {"d/a": LINES, "d/b": b"b"}, None)

    def test_it_is_so_in_every_store(self, fs: AssetFileSystem) -> None:
        damage(fs, "d/a", LINES.swapcase() + b"!")
        for read in (lambda: fs.cat_file("d/a"), lambda: fs.open("d/a", "rb").read() + fs.cat_file("d/a")):
            with pytest.raises(Corrupt, match="other bytes than were committed"):
                read()

    def test_it_is_said_however_often_it_is_read(self, files_fs: AssetFileSystem) -> None:
        damage(files_fs, "d/b", b"B")
        stream = files_fs.open("d/b", "rb")
        for _ in range(2):
            with pytest.raises(Corrupt):
                stream.read()

    def test_ranges_are_given_as_they_are(self, files_fs: AssetFileSystem) -> None:
        damage(files_fs, "d/a", b"!" + LINES[1:])
        assert files_fs.cat_file("d/a", 0, 3) == b"!\n1"
        with files_fs.open("d/a", "rb") as stream:
            stream.seek(2)
            assert stream.read() == LINES[2:]

    def test_no_file_is_left(self, files_fs: AssetFileSystem, tmp_path: Path) -> None:
        damage(files_fs, "d/a", b"!" + LINES[1:])
        with pytest.raises(Corrupt):
            files_fs.get("d/a", f"{tmp_path}/got")
        assert not (tmp_path / "got").exists()

    def test_it_is_not_appended_to(self, files_place: Place) -> None:
        written = Writer(files_place.adapter())
        damage(written({"a": b"right"}), "a", b"wrong")
        fs = written.stage({})
        with pytest.raises(Corrupt):
            fs.open("a", "ab")
        assert fs._overlay.changes() == {}

    def test_of_a_working_set_only_what_was_committed_is_compared(self, files_place: Place) -> None:
        written = Writer(files_place.adapter())
        damage(written({"a": b"right", "b": b"1"}), "a", b"wrong")
        fs = written.stage({"b": b"2"})
        with fs.open("b", "rb") as stream:
            fs.pipe_file("b", b"three")
            assert stream.read() == b"t"
        assert fs.cat_file("b") == b"three"
        with pytest.raises(Corrupt):
            fs.cat_file("a")

    def test_one_read_is_enough(self, files_fs: AssetFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[str] = []
        get = type(files_fs.blobs).get

        def counted(self: Any, key: str, **range_: Any) -> bytes:
            reads.append(key)
            return bytes(get(self, key, **range_))

        monkeypatch.setattr(type(files_fs.blobs), "get", counted)
        assert files_fs.cat_file("d/a") == LINES
        assert files_fs.cat_file("empty") == b""
        with files_fs.open("d/a", "rb") as stream:
            assert b"".join(stream) == LINES
        assert len([key for key in reads if "/objects/" in key]) == 2


class TestLost:
    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_it_is_no_wrong_name(
        self, files_fs: AssetFileSystem, tmp_path: Path, read: Callable[[AssetFileSystem, Path], object]
    ) -> None:
        lose(files_fs, "d/a")
        with pytest.raises(Corrupt, match=r"object 'd/a', kept at .* is lost") as refused:
            read(files_fs, tmp_path)
        assert "'plait verify'" in refused.value.remedy

    def test_it_is_so_in_every_store(self, fs: AssetFileSystem) -> None:
        lose(fs, "d/a")
        for read in (lambda: fs.cat_file("d/a"), lambda: fs.cat_file("d/a", 0, 3), lambda: fs.open("d/a").read()):
            with pytest.raises(Corrupt, match=r"object 'd/a', kept at .* is lost"):
                read()
        with pytest.raises(FileNotFoundError):
            fs.cat_file("d/c")

    def test_a_staged_object_that_is_gone_is_not_found(self, files_place: Place) -> None:
        fs = Writer(files_place.adapter()).stage({"a": b"1"})
        stream = fs.open("a", "rb")
        fs.rm("a")
        with pytest.raises(NotFound):
            stream.read()


class TestMerge:
    @pytest.mark.parametrize("side", ["base", "ours", "theirs"])
    @pytest.mark.parametrize("spoil", [lambda fs: damage(fs, "t", b"0\n2\n3\n4\n"), lambda fs: lose(fs, "t")])
    def test_what_is_damaged_becomes_no_part_of_it(
        self, place: Place, side: str, spoil: Callable[[AssetFileSystem], None]
    ) -> None:
        adapter = place.adapter()
        written = Writer(adapter)
        texts = {"base": b"1\n2\n3\n4\n", "ours": b"1\n2\n3\nfour\n", "theirs": b"one\n2\n3\n4\n"}
        opened = {"base": written({"t": texts["base"]})}
        base = written.commits[0]
        sides = {}
        for name in ("ours", "theirs"):
            port = MemoryPort(adapter, name, {KEY: base})
            adapter.open(port.add(KEY), port).pipe_file("t", texts[name])
            prepared = adapter.prepare(name, 1, port.stagings)[KEY]
            assert prepared is not None
            sides[name], opened[name] = prepared, adapter.open(prepared, None)
        spoil(opened[side])
        with pytest.raises(Corrupt, match="object 't', kept at "):
            adapter.merge("t", 1, base=base, ours=sides["ours"], theirs=sides["theirs"])
        settled = [Resolution(KEY, "t", Choice.VALUE, "by hand")]
        merged = adapter.merge("t", 2, base=base, ours=sides["ours"], theirs=sides["theirs"], resolutions=settled)
        assert not isinstance(merged, Conflicted)


class TestMd5:
    """Of what stays in a bucket that keeps versions, only the ETag is known."""

    ENTRY = Entry(5, hashlib.md5(b"right", usedforsecurity=False).hexdigest(), b"", "a", "1")

    def reading(self, content: bytes, **described: str) -> Reading:
        class Held(S3Blobs):
            def get(self, key: str, *, version: str = "", start: int = 0, stop: int | None = None) -> bytes:
                return content

            def describe(self, key: str, version: str = "") -> Mapping[str, Any]:
                return {"ETag": f'"{TestMd5.ENTRY.etag}"', **described}

        return Reading(Held({"bucket": "b"}, print), "a", self.ENTRY)

    def test_it_is_compared(self) -> None:
        assert self.reading(b"right").whole() == b"right"
        for described in ({}, {"ServerSideEncryption": "AES256"}):
            with pytest.raises(Corrupt, match=f"expected 5 with md5 {self.ENTRY.etag}, found 5 with "):
                self.reading(b"wrong", **described).whole()

    @pytest.mark.parametrize(
        "described", [{"ServerSideEncryption": "aws:kms:dsse"}, {"SSECustomerAlgorithm": "AES256"}]
    )
    def test_of_an_encrypted_object_it_says_nothing(self, described: dict[str, str]) -> None:
        assert self.reading(b"other", **described).whole() == b"other"
