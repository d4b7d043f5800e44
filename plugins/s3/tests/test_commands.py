"""`plait export files`, `plait export s3` and links by `plait open`, as they are typed."""

from __future__ import annotations

import re
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import plait
import pytest
from plait.catalog import Catalog
from plait.cli import run
from plait.stores import resolve_credential
from plait_conformance.fixtures import Ran
from plait_s3.s3_blobs import S3Blobs


def write(catalog: Catalog, key: str, objects: Mapping[str, bytes | None]) -> str:
    with catalog.transaction("main", message="written") as tx:
        fs: Any = tx.open(key, create=True)
        for name, content in objects.items():
            if content is None:
                fs.rm(name)
            else:
                fs.pipe_file(name, content)
    assert tx.committed is not None
    return tx.committed.id


@pytest.fixture
def raw(here: Path) -> list[str]:
    """A directory as a store, with two commits: their ids."""
    with plait.open(".") as catalog:
        catalog.add_store("raw", "files", {"path": str(here / "store")})
        first = write(catalog, "raw.photos", {"2013/a": b"1", "2013/b.csv": b"2", "c": b"3"})
        return [first, write(catalog, "raw.photos", {"2013/a": b"one", "c": None})]


def held(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".plait-export/")}


class TestFolders:
    def test_any_point_is_exported_and_the_report_counts(
        self, plaited: Callable[..., Ran], raw: list[str], here: Path
    ) -> None:
        code, report = plaited("export", "files", "raw.photos", "--to", "out", "--at", "main~1", "--dry-run")
        assert code == 0
        assert report.pop("items") == [
            {"item": "2013/a", "action": "write", "bytes": 1},
            {"item": "2013/b.csv", "action": "write", "bytes": 1},
            {"item": "c", "action": "write", "bytes": 1},
        ]
        nothing = {"count": 0, "bytes": 0}
        assert report == {
            "key": "raw.photos", "commit": raw[0], "to": str(here / "out"), "dry_run": True,
            "write": {"count": 3, "bytes": 3}, "delete": nothing, "leave": nothing, "edited": nothing,
        }  # fmt: skip
        assert not Path("out").exists()
        assert plaited("export", "files", "raw.photos", "--to", "out", "--at", "main~1") == (
            0, {**report, "dry_run": False},
        )  # fmt: skip
        assert held(Path("out")) == {"2013/a": b"1", "2013/b.csv": b"2", "c": b"3"}
        code, report = plaited("export", "files", "raw.photos", "--to", "./out")
        assert (report["commit"], report["write"]["count"], report["leave"]["count"]) == (raw[1], 1, 1)
        assert plaited("export", "files", "raw.photos", "--to", "out", "--delete")[1]["delete"]["count"] == 1
        assert held(Path("out")) == {"2013/a": b"one", "2013/b.csv": b"2"}
        state = Path("out/.plait-export/state.jsonl").read_text()
        assert state.splitlines()[-1].startswith('{"format":1,"asset":"')
        assert f'"at":{{"key":"raw.photos","commit":"{raw[1]}"}}' in state.splitlines()[-1]

    def test_a_folder_and_a_glob(self, plaited: Callable[..., Ran], raw: list[str]) -> None:
        assert plaited("export", "files", "raw.photos::2013", "--to", "out", "--match", "*.csv")[0] == 0
        assert held(Path("out")) == {"b.csv": b"2"}
        code, refused = plaited("export", "files", "raw.photos::2031", "--to", "out", "--delete")
        assert (code, refused["code"]) == (3, "NOT_FOUND")

    def test_the_working_set_where_it_holds_the_key(self, plaited: Callable[..., Ran], raw: list[str]) -> None:
        plaited("begin", "more")
        Path("new").write_bytes(b"new")
        plaited("put", "new", "raw.photos::new")
        report = plaited("export", "files", "raw.photos", "--to", "out")[1]
        assert "working_set" in report
        assert held(Path("out")) == {"2013/a": b"one", "2013/b.csv": b"2", "new": b"new"}
        plaited("export", "files", "raw.photos", "--to", "out", "--at", "HEAD", "--delete")
        assert held(Path("out")) == {"2013/a": b"one", "2013/b.csv": b"2"}

    def test_any_program_writes_into_a_working_set(self, plaited: Callable[..., Ran], raw: list[str]) -> None:
        plaited("begin", "by hand")
        for key, words in (("raw.photos", ()), ("raw.more", ("--create",))):
            code, place = plaited("open", key, "--write", *words)
            assert code == 0
            Path("FILE").write_bytes(key.encode())
            subprocess.run(["sh", "-c", place["snippet"]], check=True)
        assert plaited("commit", "-m", "by hand")[0] == 0
        assert plaited("cat", "raw.photos::FILE")[1]["content"] == "raw.photos"
        assert plaited("cat", "raw.more::FILE")[1]["content"] == "raw.more"

    def test_an_edited_file_is_refused_by_name(self, plaited: Callable[..., Ran], raw: list[str]) -> None:
        plaited("export", "files", "raw.photos", "--to", "out")
        Path("out/2013/a").write_bytes(b"ONE")
        code, refused = plaited("export", "files", "raw.photos", "--to", "out")
        assert (code, refused["code"]) == (9, "STORE_DIVERGED")
        assert "2013/a" in refused["message"]
        code, planned = plaited("export", "files", "raw.photos", "--to", "out", "--dry-run")
        assert (code, planned["items"]) == (0, [{"item": "2013/a", "action": "edited", "bytes": 3}])
        assert plaited("export", "files", "raw.photos", "--to", "out", "--force")[0] == 0
        assert Path("out/2013/a").read_bytes() == b"one"

    def test_people_are_told_what_was_done_and_what_is_left(
        self, raw: list[str], here: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        said = []
        for words in (
            ("--at", "main~1", "--dry-run"), ("--at", "main~1"), ("--dry-run",), (), (), ("--delete",),
        ):  # fmt: skip
            assert run(["export", "files", "raw.photos", "--to", "out", *words]) == 0
            said.append(capfd.readouterr().out.replace(str(here), "…"))
        first, second = (commit[:12] for commit in raw)
        assert [line.split() for line in said[0].splitlines()[:2]] == [
            ["item", "action", "bytes"],
            ["2013/a", "write", "1"],
        ]
        assert said[0].splitlines()[-1] == f"raw.photos at {first} → …/out: 3 would be written (3 bytes)"
        assert said[1] == f"raw.photos at {first} → …/out: 3 written (3 bytes)\n"
        left = "1 that are not in it any more are left: --delete removes them\n"
        assert said[2].endswith(f"raw.photos at {second} → …/out: 1 would be written (3 bytes)\n{left}")
        assert said[3] == f"raw.photos at {second} → …/out: 1 written (3 bytes)\n{left}"
        assert said[4] == f"raw.photos at {second} → …/out: nothing differs\n{left}"
        assert said[5] == f"raw.photos at {second} → …/out: 1 deleted (1 bytes)\n"

    def test_what_cannot_be_exported_is_said(self, plaited: Callable[..., Ran], raw: list[str], here: Path) -> None:
        assert plaited("export", "files", "raw.nothing", "--to", "out")[0] == 3
        assert plaited("export", "s3", "raw.photos", "--to", "out")[0] == 2
        assert plaited("export", "files", "raw.photos", "--to", "s3://bucket/x")[0] == 2
        code, refused = plaited("open", "raw.photos::2013/a")
        assert (code, refused["message"]) == (13, "a directory has no presigned links")
        assert Path(refused["remedy"].removeprefix("read the file ")).read_bytes() == b"one"
        assert plaited("open", "raw.photos::nowhere")[0] == 3


@pytest.mark.s3server
@pytest.mark.parametrize("versioned", [False, True])
class TestBuckets:
    @pytest.fixture
    def far(self, here: Path, versioned: bool, bucket_options: Callable[[bool], dict[str, str]]) -> dict[str, str]:
        """A prefix of a bucket as a store, with two commits: its options."""
        options = {**bucket_options(versioned), "prefix": f"cli/{uuid.uuid4()}"}
        with plait.open(".") as catalog:
            catalog.add_store("far", "s3", options)
            write(catalog, "far.photos", {"2013/a": b"first", "b": b"2"})
            write(catalog, "far.photos", {"2013/a": b"second"})
        return options

    def test_a_prefix_is_exported_as_its_store_is_reached(
        self, plaited: Callable[..., Ran], far: dict[str, str]
    ) -> None:
        to = f"s3://{far['bucket']}/{far['prefix']}-out"
        code, report = plaited("export", "s3", "far.photos", "--to", to, "--at", "main~1")
        assert (code, report["to"], report["write"]) == (0, to + "/", {"count": 2, "bytes": 6})
        code, report = plaited("export", "s3", "far.photos", "--to", to, "--store", "far")
        assert (code, report["write"]) == (0, {"count": 1, "bytes": 6})
        assert plaited("export", "files", "far.photos", "--to", "out")[0] == 0
        assert held(Path("out")) == {"2013/a": b"second", "b": b"2"}

    def test_how_a_bucket_is_reached_is_said_with_options_and_never_a_secret(
        self, plaited: Callable[..., Ran], far: dict[str, str], raw: list[str]
    ) -> None:
        to = f"s3://{far['bucket']}/{far['prefix']}-raw"
        reached = [f"--option={name}={far[name]}" for name in ("endpoint", "access_key", "secret_key")]
        code, report = plaited("export", "s3", "raw.photos", "--to", to, *reached)
        assert (code, report["write"]["count"]) == (0, 2)
        assert plaited("export", "s3", "raw.photos", "--to", to, "--store", "far")[1]["write"]["count"] == 0
        code, refused = plaited("export", "s3", "raw.photos", "--to", to, "--option", "secret_key=clear")
        assert (code, "holds a secret in clear" in refused["message"]) == (2, True)
        code, refused = plaited("export", "s3", "raw.photos", "--to", to, "--option", "bucket=x")
        assert (code, "no option 'bucket'" in refused["message"]) == (2, True)

    def test_any_s3_client_writes_into_a_working_set(self, plaited: Callable[..., Ran], far: dict[str, str]) -> None:
        plaited("begin", "by hand")
        code, refused = plaited("open", "far.none", "--write")
        assert (code, refused["code"]) == (3, "NOT_FOUND")
        code, place = plaited("open", "far.photos", "--write")
        assert (code, place["options"]["secret_key"]) == (0, far["secret_key"])
        assert re.fullmatch(rf"aws s3 cp FILE {place['uri']} --endpoint-url {far['endpoint']}\n", place["snippet"])
        bucket, _, prefix = place["uri"].removeprefix("s3://").partition("/")
        assert plaited("cat", "far.photos::2013/new", "--at", "main")[0] == 3
        client = S3Blobs(far, lambda name: None, resolve_credential).client
        client.put_object(Bucket=bucket, Key=f"{prefix}2013/new", Body=b"by hand")
        assert plaited("commit", "-m", "by hand")[0] == 0
        assert plaited("cat", "far.photos::2013/new")[1]["content"] == "by hand"

    def test_a_link_to_any_version_needs_no_credentials(
        self, plaited: Callable[..., Ran], far: dict[str, str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        for spec, content in (("main~1", b"first"), ("main", b"second")):
            code, link = plaited("open", "far.photos::2013/a", "--at", spec, "--seconds", "60")
            assert (code, link["seconds"]) == (0, 60)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", link["until"])
            assert "X-Amz-Expires=60&" in link["url"] + "&"
            with urllib.request.urlopen(link["url"]) as answer:
                assert answer.read() == content
        assert run(["open", "far.photos::2013/a"]) == 0
        printed = capfd.readouterr()
        with urllib.request.urlopen(printed.out.strip()) as answer:
            assert answer.read() == b"second"
        assert re.match(r"holds until .*Z, or until the credentials that signed it end\n", printed.err)

    def test_links_are_bounded_and_to_what_is_there(self, plaited: Callable[..., Ran], far: dict[str, str]) -> None:
        for seconds in ("0", "604801"):
            assert plaited("open", "far.photos::b", "--seconds", seconds)[0] == 2
        code, refused = plaited("open", "far.photos::nowhere")
        assert (code, refused["message"]) == (3, "far.photos::nowhere does not exist")
