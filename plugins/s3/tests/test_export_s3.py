"""Exports to buckets, on two real servers with and without versions: what an unmodified client reads there."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreDiverged, StoreUnavailable
from plait.failpoint import armed
from plait_conformance.s3_servers import S3Server
from plait_s3 import bucket_target, export
from plait_s3.exporting import ExportReport
from plait_s3.filesystem import AssetFileSystem
from plait_s3.testing import Place, Writer, export_in_a_process

pytestmark = pytest.mark.s3server

KEY = ("raw", "landing")
NAMES = ("a-b", "a/b", "a.b", "a/é ü/日本.txt", "with space/+plus&more=%25?x#y.txt", "~", "2013/deep/er/x")


@pytest.fixture
def written(s3_place: Place) -> Writer:
    return Writer(s3_place.adapter())


class Bucket:
    """A prefix, as somebody sees it who has never heard of plait."""

    def __init__(self, options: Mapping[str, str], prefix: str) -> None:
        self.bucket, self.prefix = options["bucket"], prefix
        self.reached = {name: options[name] for name in ("endpoint", "access_key", "secret_key")}
        self.uri = f"s3://{self.bucket}/{prefix}"
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=options["endpoint"],
            aws_access_key_id=options["access_key"],
            aws_secret_access_key=options["secret_key"],
            region_name="us-east-1",
        )

    def held(self) -> dict[str, bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + "/")
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        names = [key.removeprefix(self.prefix + "/") for key in keys if not key.endswith("/")]
        return {name: self.get(name)["Body"].read() for name in names if not name.startswith(".plait-export/")}

    def get(self, name: str) -> Any:
        return self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")

    def put(self, name: str, content: bytes, **described: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=content, **described)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")


@pytest.fixture
def outside(s3_place: Place) -> Bucket:
    """Beside the source, in its bucket."""
    return Bucket(s3_place.options, s3_place.options["prefix"] + "-out/2013")


@pytest.fixture
def elsewhere(seaweedfs: S3Server, bucket: Callable[[S3Server, bool], str]) -> Bucket:
    """On what goes for another server than any source's."""
    options = {"bucket": bucket(seaweedfs, False), "endpoint": seaweedfs.endpoint.replace("127.0.0.1", "localhost")}
    options |= {"access_key": seaweedfs.access_key, "secret_key": seaweedfs.secret_key}
    return Bucket(options, f"elsewhere/{uuid.uuid4()}")


def contents(fs: AssetFileSystem) -> dict[str, bytes]:
    return {name: fs.cat_file(name) for name in fs.find("")}


def done(report: ExportReport) -> dict[str, str]:
    return {step.name: step.action.value for step in report.steps}


class TestWhatIsThere:
    def test_a_plain_client_reads_every_commit_byte_for_byte(self, written: Writer, outside: Bucket) -> None:
        objects = {name: name.encode() for name in NAMES} | {"empty": b"", "large": os.urandom(20 << 20)}
        old = written(objects)
        new = written({"a-b": b"new", "a/b": None, "large": os.urandom(9 << 20)})
        assert set(done(export(old, outside.uri, dry_run=True)).values()) == {"write"}
        assert outside.held() == {}
        export(old, outside.uri)
        assert outside.held() == objects
        assert done(export(new, outside.uri)) == {"a-b": "write", "a/b": "leave", "large": "write"}
        assert done(export(new, outside.uri)) == {"a/b": "leave"}
        assert outside.held() == {**contents(new), "a/b": b"a/b"}
        assert done(export(new, outside.uri, delete=True)) == {"a/b": "delete"}
        assert outside.held() == contents(new)
        export(old, outside.uri)
        assert outside.held() == objects

    def test_what_its_readers_go_by_is_kept(self, s3_place: Place, outside: Bucket) -> None:
        adapter = s3_place.adapter(copy="true")
        client = adapter.blobs.client  # type: ignore[attr-defined]
        described = {"ContentType": "text/csv", "CacheControl": "max-age=60", "Metadata": {"theirs": "1"}}
        for content in (b"old", b"now"):
            client.put_object(**adapter.blobs.asked("landing/a"), Body=content, **described)  # type: ignore[attr-defined]
        snapshot = adapter.snapshot("tx", {KEY: "landing"})[KEY]
        client.put_object(**adapter.blobs.asked("landing/a"), Body=b"later")  # type: ignore[attr-defined]
        export(adapter.open(snapshot, None), outside.uri)
        found = outside.get("a")
        assert found["Body"].read() == b"now"
        if s3_place.versioned:  # Elsewhere the import's own copy is what was committed.
            assert (found["ContentType"], found["CacheControl"]) == ("text/csv", "max-age=60")
            assert found["Metadata"]["theirs"] == "1"

    def test_what_an_export_left_is_imported_by_nobody(self, s3_place: Place, written: Writer) -> None:
        export(written({"a": b"1"}), f"s3://{s3_place.options['bucket']}/{s3_place.options['prefix']}/landing")
        adapter = s3_place.adapter(copy="true")
        assert adapter.open(adapter.snapshot("tx", {KEY: "landing"})[KEY], None).find("") == ["a"]

    def test_objects_beyond_what_one_copy_takes_are_copied_in_parts(
        self, requests: Counter[str], written: Writer, outside: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_target, "COPY_BYTES_MAX", 6 << 20)
        monkeypatch.setattr(bucket_target, "_COPY_PART_BYTES", 5 << 20)
        content = os.urandom(11 << 20)
        fs = written({"large": content, "small": b"1"})
        requests.clear()
        export(fs, outside.uri)
        assert (requests["UploadPartCopy"], requests["CopyObject"]) == (3, 1)
        assert outside.held() == {"large": content, "small": b"1"}
        assert done(export(fs, outside.uri, check=True)) == {}

    def test_to_another_server_bytes_are_sent(self, written: Writer, elsewhere: Bucket, requests: Counter[str]) -> None:
        objects = {name: name.encode() for name in NAMES} | {"empty": b"", "large": os.urandom(20 << 20)}
        fs = written(objects)
        requests.clear()
        export(fs, elsewhere.uri, options=elsewhere.reached)
        assert elsewhere.held() == objects
        assert requests["CopyObject"] == 0
        assert done(export(written({"a": b"1"}), elsewhere.uri, options=elsewhere.reached, check=True)) == {
            "a": "write"
        }

    def test_some_of_the_objects_below_a_folder(self, written: Writer, outside: Bucket) -> None:
        fs = written({"2013/a.csv": b"1", "2013/x/b.csv": b"2", "2013/c.txt": b"3", "2014/d.csv": b"4"})
        export(fs, outside.uri, folder="2013", match="*.csv")
        assert outside.held() == {"a.csv": b"1", "x/b.csv": b"2"}
        assert done(export(fs, outside.uri + "/", folder="2013", match="c*", delete=True)) == {
            "a.csv": "delete", "x/b.csv": "delete", "c.txt": "write",
        }  # fmt: skip
        assert outside.held() == {"c.txt": b"3"}

    def test_a_working_set_is_exported_as_it_is_now(self, written: Writer, outside: Bucket) -> None:
        written({"a": b"1", "b": b"2", "c": b"3"})
        fs = written.stage({"a": b"staged", "b": None})
        fs.cp_file("c", "d")
        export(fs, outside.uri)
        assert outside.held() == {"a": b"staged", "c": b"3", "d": b"3"}
        fs.pipe_file("a", b"again")
        assert done(export(fs, outside.uri)) == {"a": "write"}
        assert outside.held() == contents(fs)
        assert done(export(written.adapter.open(written.commit(fs), None), outside.uri, check=True)) in (
            {},
            {"a": "write"},  # It was known by its SHA-256, and a bucket's version is by its MD5.
        )
        assert outside.held() == contents(fs)


class TestCost:
    def test_an_export_costs_what_changed(
        self, requests: Counter[str], s3_place: Place, written: Writer, outside: Bucket
    ) -> None:
        """Whatever else there is: one look at the target, one at the source and one copy for each object."""
        spent = {}
        for count in (30, 150):
            fs = written({f"{n % 10}/{n}": b"%d" % n for n in range(count)})
            to = Bucket(s3_place.options, f"{outside.prefix}/{count}")
            export(fs, to.uri)
            changed = written({"3/3": b"3!", "new": b"new", "7/7": None})
            requests.clear()
            report = export(s3_place.adapter().open(written.commits[-1], None), to.uri)
            assert done(report) == {"3/3": "write", "new": "write", "7/7": "leave"}
            spent[count] = +requests
            assert to.held() == {**contents(changed), "7/7": b"7"}
            written({"3/3": b"3", "new": None})
        assert spent[150]["CopyObject"] == 2
        assert spent[150]["HeadObject"] == 3 + 2
        assert spent[150]["ListObjectsV2"] == spent[150]["ListObjectVersions"] == 0
        assert spent[150]["PutObject"] == 2
        assert spent[150]["GetObject"] <= spent[30]["GetObject"] + 6
        assert spent[150].total() <= 40

    def test_what_has_not_changed_costs_nothing_but_a_look(
        self, requests: Counter[str], s3_place: Place, written: Writer, outside: Bucket
    ) -> None:
        fs = written({str(n): b"%d" % n for n in range(60)})
        export(fs, outside.uri)
        requests.clear()
        assert done(export(fs, outside.uri)) == {}
        assert requests == {"GetObject": 1}


class TestWhatOthersWrote:
    @pytest.fixture
    def exported(self, written: Writer, outside: Bucket) -> Bucket:
        export(written({"a": b"one", "b/c": b"two", "d": b"three"}), outside.uri)
        return outside

    def test_an_overwritten_object_is_noticed_and_kept(self, written: Writer, exported: Bucket) -> None:
        exported.put("a", b"ONE")
        changed = written({"a": b"1", "d": b"3"})
        assert done(export(changed, exported.uri, dry_run=True)) == {"a": "edited", "d": "write"}
        with pytest.raises(StoreDiverged, match=r"1 at .* are not as plait wrote them: a"):
            export(changed, exported.uri)
        assert exported.held() == {"a": b"ONE", "b/c": b"two", "d": b"three"}
        export(changed, exported.uri, force=True)
        assert exported.held() == contents(changed)

    def test_what_is_not_exported_anew_is_looked_at_by_check_and_delete(
        self, written: Writer, exported: Bucket
    ) -> None:
        exported.put("b/c", b"TWO")
        exported.delete("d")
        fs = written({"a": b"1"})
        assert done(export(fs, exported.uri, dry_run=True)) == {"a": "write"}
        for rules in ({"check": True}, {"delete": True}):
            assert done(export(fs, exported.uri, dry_run=True, **rules)) == {
                "a": "write",
                "b/c": "edited",
                "d": "write",
            }
            with pytest.raises(StoreDiverged, match=": b/c"):
                export(fs, exported.uri, **rules)
        export(fs, exported.uri, check=True, force=True)
        assert exported.held() == contents(fs)

    def test_an_object_of_the_export_that_was_put_in_anothers_place_is_not_its_own(
        self, written: Writer, exported: Bucket
    ) -> None:
        source = {"Bucket": exported.bucket, "Key": f"{exported.prefix}/b/c"}
        exported.client.copy_object(Bucket=exported.bucket, Key=f"{exported.prefix}/a", CopySource=source)
        with pytest.raises(StoreDiverged, match=": a"):
            export(written({"a": b"1"}), exported.uri)

    def test_others_objects_are_nobodys_business_unless_all_else_is_to_go(
        self, written: Writer, exported: Bucket
    ) -> None:
        exported.put("theirs", b"theirs")
        fs = written({"a": None})
        assert done(export(fs, exported.uri)) == {"a": "leave"}
        with pytest.raises(StoreDiverged, match=": theirs"):
            export(fs, exported.uri, delete=True)
        assert exported.held() == {"a": b"one", **contents(fs), "theirs": b"theirs"}
        export(fs, exported.uri, delete=True, force=True)
        assert exported.held() == contents(fs)

    def test_a_store_of_plaits_is_never_deleted(self, written: Writer) -> None:
        fs = written({"a": b"1"})
        export(fs, written.adapter.blobs.uri(""), delete=True, force=True)
        assert written.adapter.blobs.get("a") == b"1"
        assert contents(fs) == {"a": b"1"}

    def test_folders_that_consoles_made_are_let_be(self, written: Writer, outside: Bucket) -> None:
        for marker in ("", "b/"):
            outside.put(marker, b"")
        fs = written({"a": b"1"})
        export(fs, outside.uri, delete=True)
        assert outside.held() == contents(fs)

    def test_what_was_left_is_still_the_exports_own(self, written: Writer, exported: Bucket) -> None:
        export(written({"a": None}), exported.uri)
        export(written({"d": b"3"}), exported.uri)
        fs = written({"a": b"back"})
        assert done(export(fs, exported.uri)) == {"a": "write"}
        assert exported.held() == contents(fs)

    def test_a_first_export_takes_over_only_what_is_the_same(self, written: Writer, outside: Bucket) -> None:
        fs = written({"a": b"1", "b": b"2"})
        outside.put("b", b"x")
        with pytest.raises(StoreDiverged, match=": b"):
            export(fs, outside.uri)
        assert outside.held() == {"b": b"x"}
        outside.delete("b")
        export(fs, outside.uri)
        outside.client.delete_object(Bucket=outside.bucket, Key=f"{outside.prefix}/.plait-export/state.jsonl")
        assert done(export(fs, outside.uri)) == {}

    def test_two_at_once_are_refused(self, written: Writer, outside: Bucket) -> None:
        fs = written({"a": b"1"})

        def meanwhile(name: str) -> None:
            if name == "export.begun":
                with armed(lambda name: None):
                    export(fs, outside.uri)

        with armed(meanwhile), pytest.raises(StoreUnavailable, match="another export has written to"):
            export(fs, outside.uri)
        assert done(export(fs, outside.uri)) == {}
        assert outside.held() == {"a": b"1"}


class TestStopped:
    @pytest.mark.parametrize("at", ["export.begun@1", "export.before_object@30", "export.before_end@1"])
    def test_a_kill_in_the_middle_and_a_second_run_give_exactly_the_version(
        self, at: str, written: Writer, s3_place: Place, outside: Bucket
    ) -> None:
        export(written({f"{n % 5}/{n}": b"%d" % n for n in range(60)}), outside.uri)
        between = written({f"{n % 5}/{n}": b"between" for n in range(50)} | {"gone": b"gone"})
        assert export_in_a_process(s3_place, written.commits[-1], outside.uri, at=at) == -9
        there = outside.held()
        assert there != contents(between) or at == "export.before_end@1"
        # Onto what came meanwhile: what the killed one wrote is plait's, and is not refused.
        newest = written({"0/0": b"newest", "1/1": None, "gone": None})
        export(newest, outside.uri, delete=True)
        assert outside.held() == contents(newest)

    def test_bytes_that_are_not_what_was_committed_are_never_written(
        self, written: Writer, outside: Bucket, elsewhere: Bucket
    ) -> None:
        fs = written({"a": b"right"})
        entry = fs._overlay.kept("a")
        assert entry is not None
        if entry.version:
            pytest.skip("past a server that keeps versions, nothing can be altered")
        written.adapter.blobs.put(entry.key, b"wrong")
        with pytest.raises(Corrupt, match="holds other bytes than were committed"):
            export(fs, outside.uri)
        with pytest.raises(Corrupt, match="holds other bytes than were committed"):
            export(fs, elsewhere.uri, options=elsewhere.reached)
        assert outside.held() == elsewhere.held() == {}


class TestRefused:
    def test_unsafe_names_are_refused_before_anything_is_written(self, written: Writer, outside: Bucket) -> None:
        fs = written({"safe": b"1", "n" * 200: b"2", "_plait/x": b"3", ".plait-export/state.jsonl": b"4"})
        with pytest.raises(InvalidArgument, match="3 names cannot be at") as refused:
            export(fs, outside.uri + f"/{'d' * 150}" * 6)
        assert "makes a key of more than 1024 bytes" in refused.value.message
        assert "'_plait/x' is a name of plait's own" in refused.value.message
        assert outside.held() == {}

    def test_plaits_own_prefixes_and_what_is_not_there_are_no_targets(self, written: Writer, outside: Bucket) -> None:
        fs = written({"a": b"1"})
        with pytest.raises(InvalidArgument, match="is plait's own"):
            export(fs, written.adapter.blobs.uri("_plait/objects"))
        with pytest.raises(NotFound, match="the bucket does not exist"):
            export(fs, "s3://no-such-bucket-is-here/x")
