"""Folders of objects on the command line: put, ls, get, import."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plait.cli.destination import writing
from plait.cli.folders import objects_to_get
from plait.errors import InvalidArgument, PermissionDenied, PlaitError, StoreUnavailable, Unsupported
from plait_conformance.serving import serving


@pytest.fixture
def photos(example: Path) -> Path:
    """A folder of files beside the example catalog."""
    for number in range(6):
        path = example / "photos" / f"20{13 + number % 2}" / f"{number}.raw"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * number)
    (example / "photos" / "README").write_text("photos")
    return example / "photos"


def listed(run_plait: Any, *words: str) -> dict[str, int | None]:
    return {row["item"]: row["bytes"] for row in run_plait("ls", *words, "--json").value}


def test_a_folder_is_put_listed_and_gotten_back(run_plait: Any, photos: Path) -> None:
    run_plait("begin", "photos")
    put = run_plait("put", "photos", "raw.photos", "--json").value
    assert put == {"put": "raw.photos", "bytes": 21, "objects": 7}
    assert listed(run_plait, "raw.photos::") == {"2013/": None, "2014/": None, "README": 6}
    assert run_plait("commit", "-m", "Photos").code == 0
    assert listed(run_plait, "raw.photos::2013") == {"2013/0.raw": 0, "2013/2.raw": 2, "2013/4.raw": 4}
    assert len(listed(run_plait, "raw.photos::", "-r")) == 7
    assert run_plait("get", "raw.photos", "back", "--json").value == {"folder": "back", "objects": 7}
    back = {path.relative_to("back"): path.read_bytes() for path in Path("back").rglob("*") if path.is_file()}
    assert back == {path.relative_to(photos): path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    assert run_plait("get", "raw.photos::2014/", "year").code == 0
    assert sorted(path.name for path in Path("year").iterdir()) == ["1.raw", "3.raw", "5.raw"]


def test_files_keep_their_names_below_a_folder(run_plait: Any, photos: Path) -> None:
    assert run_plait("put", "photos/README", "raw.photos", "-m", "One").code == 0
    assert run_plait("put", "photos/README", "raw.photos::text/", "-m", "Two").code == 0
    assert run_plait("put", "photos/2013", "raw.photos::old", "-m", "Three").code == 0
    assert set(listed(run_plait, "raw.photos::", "-r")) == {
        "README", "text/README", "old/0.raw", "old/2.raw", "old/4.raw",
    }  # fmt: skip
    assert run_plait("get", "raw.photos::text/README").code == 0
    assert Path("README").read_text() == "photos"
    Path("into").mkdir()
    assert run_plait("get", "raw.photos::old/2.raw", "into").code == 0
    assert Path("into/2.raw").read_bytes() == b"22"
    assert run_plait("get", "raw.photos::old/2.raw", "-").out == "22"
    assert not Path("-").exists()


def test_an_object_and_the_folder_of_its_name_are_both_seen_and_gotten(run_plait: Any, photos: Path) -> None:
    assert run_plait("put", "photos/README", "raw.photos::one", "-m", "One").code == 0
    assert run_plait("put", "photos/2013", "raw.photos::one", "-m", "Two").code == 0
    assert listed(run_plait, "raw.photos::") == {"one": 6, "one/": None}
    assert run_plait("get", "raw.photos::one", "object").code == 0
    assert Path("object").read_text() == "photos"
    assert run_plait("get", "raw.photos::one/", "folder").code == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == ["0.raw", "2.raw", "4.raw"]


def test_what_cannot_be_put_or_gotten_is_said(run_plait: Any, photos: Path) -> None:
    Path("empty").mkdir()
    assert "holds no file" in run_plait("put", "empty", "raw.photos", "-m", "x").err
    (photos / "loop").symlink_to(photos)
    assert "is a link to a folder" in run_plait("put", "photos", "raw.photos", "-m", "x").err
    for words in (
        ("get", "raw.landing::nowhere", "x"),
        ("get", "raw.landing::nowhere", "-"),
        ("ls", "raw.landing::nowhere"),
    ):
        refused = run_plait(*words)
        assert (refused.code, "raw.landing::nowhere does not exist" in refused.err) == (3, True)
    assert "not in a store of objects" in run_plait("ls", "lake.sales.orders::").err
    assert "not in a store of objects" in run_plait("get", "lake.sales.orders", "x").err
    assert not Path("x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["lake.new", "lake.sales.orders", "p.new"])
def test_what_takes_no_objects_is_told_before_anything_is_staged(run_plait: Any, photos: Path, key: str) -> None:
    run_plait("store", "add", "p", "--kind", "pointer", "--mode", "pointer")
    run_plait("begin", "tidy")
    for words in (("put", "photos", key), ("put", "photos/README", f"{key}::x"), ("rm", f"{key}::x")):
        refused = run_plait(*words, "--json")
        assert (refused.code, refused.error["code"]) == (13, "UNSUPPORTED")
        assert refused.error["remedy"]
    assert run_plait("status", "--json").value["assets"] == []


@pytest.mark.slow
def test_a_client_of_a_server_asks_its_own_adapters(run_plait: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        at = ("--catalog", server.url)
        for name, kind in (("f", "fake"), ("raw", "files")):
            folder = f"path={tmp_path}/{name}"
            assert run_plait(*at, "store", "add", name, "--kind", kind, "--option", folder).code == 0
        run_plait(*at, "begin", "tidy")
        assert run_plait(*at, "put", "photos/README", "f.new::x").code == 13
        assert run_plait(*at, "status", "--json").value["assets"] == []
        assert run_plait(*at, "put", "photos/README", "raw.new::x").code == 0
        assert run_plait(*at, "cat", "raw.new::x").out == "photos"


@pytest.mark.parametrize(
    ("words", "refused", "reason", "code"),
    [
        (("raw.landing::1.json", "nowhere/x"), "nowhere/x", "No such file or directory", 2),
        (("raw.landing::1.json", "taken"), "taken/1.json", "Is a directory", 2),
        (("raw.landing::1.json", "taken/1.json/x/y"), "taken/1.json/x/y", "No such file or directory", 2),
        (("raw.landing::1.json", "n" * 300), "n" * 300, "File name too long", 2),
        (("raw.landing", "taken"), "taken/1.json", "Is a directory", 2),
        (("raw.landing", "plain"), "plain", "File exists", 2),
        (("raw.landing::1.json", "/dev/full"), "/dev/full", "No space left on device", 7),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_a_place_that_the_system_refuses_is_named_with_the_reason(
    words: tuple[str, ...], refused: str, reason: str, code: int, run_plait: Any, example: Path
) -> None:
    Path("taken/1.json").mkdir(parents=True)
    Path("plain").touch()
    ran = run_plait("get", *words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.splitlines()[0] == f"error: {refused} cannot be written: {reason}"
    assert ran.err.splitlines()[1].startswith("→ ")
    assert run_plait("get", *words, "--json").error["message"] == f"{refused} cannot be written: {reason}"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, PermissionDenied), (errno.EROFS, PermissionDenied), (errno.EDQUOT, StoreUnavailable),
        (errno.EIO, StoreUnavailable), (errno.ELOOP, InvalidArgument),
    ],
)  # fmt: skip
@pytest.mark.parametrize("named", ["folder/file", None])
def test_what_the_system_refuses_has_a_documented_code(number: int, kind: type[PlaitError], named: str | None) -> None:
    with pytest.raises(kind, match=f"{named or 'folder'} cannot be written: {os.strerror(number)}"):
        with writing(Path("folder")):
            raise OSError(number, os.strerror(number), named)


def test_a_reader_that_has_gone_is_no_refusal() -> None:
    with pytest.raises(BrokenPipeError), writing("the standard output"):
        raise BrokenPipeError


@pytest.mark.slow
@pytest.mark.parametrize("words", [["get", "raw.landing::1.json", "-"], ["log"], ["ls"]])
def test_a_full_standard_output_is_said(example: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", "import plait.cli; plait.cli.main()", *words]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 7
    assert re.match("error: the standard output cannot be written: No space left on device\n→ .*\n\\Z", ran.stderr)


@pytest.mark.parametrize("spelled", ["./photos", "../here/photos", "{here}/photos", "file://{here}/photos"])
def test_a_folder_of_any_place_is_imported(run_plait: Any, photos: Path, spelled: str) -> None:
    location = spelled.format(here=photos.parent)
    assert run_plait("import", "assets", f"raw.photos={location}").code == 0
    (photos / "README").write_text("changed")
    (photos / "2013" / "0.raw").unlink()
    assert len(listed(run_plait, "raw.photos::", "-r")) == 7
    assert run_plait("cat", "raw.photos::README").out == "photos"
    assert run_plait("import", "assets", f"raw.photos={location}").code == 0
    changed = run_plait("diff", "main~1", "main", "--items", "--json").value
    assert sorted((row["change"], row["item"]) for row in changed) == [
        ("changed", "raw.photos::README"), ("removed", "raw.photos::2013/0.raw"),
    ]  # fmt: skip


def test_a_folder_that_is_not_there_is_not_imported(run_plait: Any, photos: Path) -> None:
    for location in ("photos", "./nowhere"):
        refused = run_plait("import", "assets", f"raw.photos={location}")
        assert (refused.code, "./name is a folder beside you" in refused.err) == (3, True)
    assert run_plait("tx", "list", "--json").value == []


@pytest.mark.parametrize("name", ["../out", "a/../../out", "."])
def test_an_object_never_leaves_the_folder_it_is_got_into(tmp_path: Path, name: str) -> None:
    class Handle:
        """What an S3 bucket may hold, where names are anything."""

        def find(self, folder: str, *, detail: bool) -> dict[str, dict[str, str]]:
            return {"fine": {"type": "file"}, name: {"type": "file"}}

    with pytest.raises(Unsupported):
        objects_to_get(Handle(), "raw.landing", None, tmp_path)


@pytest.mark.parametrize("path", ["raw.photos", "raw.photos::", "raw.photos::2013", "raw.photos::2013/"])
def test_the_standard_output_takes_one_object(run_plait: Any, photos: Path, path: str) -> None:
    run_plait("put", "photos", "raw.photos", "-m", "Photos")
    ran = run_plait("get", path, "-")
    assert (ran.code, ran.out) == (2, "")
    assert f"{path} is a folder of objects" in ran.err
    assert run_plait("get", "raw.photos::README", "-").out == "photos"


def test_a_value_that_is_no_json_is_not_printed_whole(run_plait: Any, example: Path) -> None:
    ran = run_plait("resolve", "lake.sales.orders::id=1", "--value", "[" * 100_000)
    assert ran.code == 2
    assert "is no JSON" in ran.err
    assert len(ran.err) < 500
