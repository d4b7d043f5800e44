"""What `check` finds out about stores that do not hold what plait needs."""

from __future__ import annotations

import os
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from plait.errors import InvalidArgument, PermissionDenied, StoreUnavailable
from plait_conformance.testing import MemoryState
from plait_s3.bucket_rules import risks
from plait_s3.disk import FilesBlobs
from plait_s3.probe import probe
from plait_s3.s3_blobs import S3Blobs
from plait_s3.testing import Place


class WithoutConditions(FilesBlobs):
    """As servers that ignore If-Match and If-None-Match."""

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str | None:
        self.put(key, data)
        return "some"


class WithoutIfMatch(FilesBlobs):
    """As servers that know If-None-Match only."""

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str | None:
        if etag is None:
            return super().put_if_match(key, data, None)
        self.put(key, data)
        return "some"


@pytest.mark.parametrize(
    ("store", "said"), [(WithoutConditions, "If-None-Match is ignored"), (WithoutIfMatch, "stale If-Match")]
)
def test_a_store_without_conditional_writes_is_refused(tmp_path: Path, store: type[FilesBlobs], said: str) -> None:
    (found,) = probe(store(str(tmp_path), lambda place: None))
    assert said in found


def test_probing_leaves_nothing_behind(place: Place) -> None:
    blobs = place.adapter().blobs
    assert list(probe(blobs)) == []
    assert [blob.key for blob in blobs.list("") if not blob.key.startswith("_plait/locks/")] == []


@pytest.mark.s3server
def test_an_unreachable_bucket_is_a_finding(s3_place: Place) -> None:
    adapter = s3_place.adapter(bucket="nobody-made-this")
    (found,) = adapter.check()
    assert "cannot be used" in found
    adapter.abort(str(uuid.uuid4()))  # Nothing is there to drop: a working set does not wait for the bucket.


@pytest.mark.s3server
def test_names_that_no_xml_can_say_are_dropped_too(s3_place: Place) -> None:
    blobs = s3_place.adapter().blobs
    names = {"d/a\x01b", "d/c\rd", "d/plain"}
    for name in names:
        blobs.put(name, b"x")
    if {blob.key for blob in blobs.list_versions("d/")} != names:
        pytest.skip("the server lists them under other names")
    blobs.drop_folder("d/")
    assert list(blobs.list("d/")) == []


@pytest.mark.s3server
def test_wrong_keys_are_denied_and_never_shown(s3_place: Place) -> None:
    adapter = s3_place.adapter(secret_key="not-the-right-secret")
    (found,) = adapter.check()
    assert "cannot be used" in found
    with pytest.raises(PermissionDenied) as caught:
        adapter.snapshot("tx", {("raw", "a"): "landing"})
    with pytest.raises(PermissionDenied):
        list(adapter.discover("landing"))
    told = found + str(caught.value)
    assert "not-the-right-secret" not in told
    assert adapter.store.options["access_key"] not in told


@pytest.mark.s3server
def test_keys_that_a_file_holds_by_now_count_at_once(s3_place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of before")
    adapter = s3_place.adapter(secret_key=f"file:{secret}")
    with pytest.raises(PermissionDenied):
        adapter.blobs.put("a", b"1")
    secret.write_text(s3_place.options["secret_key"])
    adapter.blobs.put("a", b"1")
    assert b"".join(adapter.blobs.stream("a")) == b"1"
    link = adapter.blobs.presign("a")
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"1"
    secret.unlink()
    with pytest.raises(StoreUnavailable, match=str(secret)):
        adapter.blobs.put("a", b"2")


@pytest.mark.s3server
def test_suspended_versions_are_a_risk(s3_place: Place) -> None:
    if not s3_place.versioned:
        pytest.skip("the bucket never had versions")
    adapter = s3_place.adapter(bucket=f"suspended-{uuid.uuid4()}")
    blobs = adapter.blobs
    assert isinstance(blobs, S3Blobs)
    blobs.client.create_bucket(Bucket=blobs.bucket)
    for status in ("Enabled", "Suspended"):
        blobs.client.put_bucket_versioning(Bucket=blobs.bucket, VersioningConfiguration={"Status": status})
    assert [risk.rule for risk in risks(blobs)] == ["versioning suspended"]
    assert any("suspended" in problem for problem in adapter.check())


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"Filter": {}, "Expiration": {"Days": 1}}, ("Expiration", "s3://raw/")),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 1}}, ("Expiration", "s3://raw/")),
        (
            {"Filter": {"Prefix": "our"}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
            ("NoncurrentVersionExpiration", "s3://raw/our"),
        ),
        ({"Prefix": "ours/in/", "Transitions": [{"StorageClass": "GLACIER"}]}, ("Transitions", "s3://raw/ours/in/")),
        ({"Filter": {"And": {"Prefix": "ours/"}}, "Expiration": {"Days": 1}}, ("Expiration", "s3://raw/ours/")),
        ({"Filter": {"Prefix": "theirs/"}, "Expiration": {"Days": 1}}, None),
        ({"Filter": {}, "Expiration": {"Days": 1}, "Status": "Disabled"}, None),
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, None),
        ({"Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, None),
    ],
)
def test_lifecycle_rules_that_reach_the_stores_prefix_are_risks(
    rule: dict[str, Any], told: tuple[str, str] | None
) -> None:
    options = {"bucket": "raw", "prefix": "ours", "access_key": "key", "secret_key": "secret"}
    adapter = Place("s3", options, MemoryState()).adapter()
    assert isinstance(adapter.blobs, S3Blobs)
    with Stubber(adapter.blobs.client) as server:
        server.add_response("get_bucket_versioning", {"Status": "Enabled"})
        rules = [{"ID": "r", "Status": "Enabled", **rule}]
        server.add_response("get_bucket_lifecycle_configuration", {"Rules": rules})
        found = [(risk.rule, risk.affects) for risk in adapter.retention_risks()]
    assert found == ([] if told is None else [(f"lifecycle rule 'r' ({told[0]})", told[1])])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"endpoint": "localhost:9000"}, "'localhost:9000', which is no URL · write it with http:// or https://"),
        ({"bucket": "s3://raw"}, "check the store's options bucket, without s3://, and region"),
        ({"region": "no region"}, "and region"),
    ],
)
def test_options_that_can_name_no_bucket_are_told(options: dict[str, str], named: str) -> None:
    credentials = {"access_key": "key", "secret_key": "secret"}
    adapter = Place("s3", {"bucket": "raw", **credentials, **options}, MemoryState()).adapter()
    with pytest.raises(InvalidArgument) as caught:
        list(adapter.discover("landing"))
    assert named in str(caught.value)
    (found,) = adapter.check()
    assert named in found


@pytest.mark.parametrize("credentials", [{}, {"access_key": "key"}])
def test_without_credentials_no_endpoint_is_blamed(
    credentials: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    adapter = Place("s3", {"bucket": "raw", "endpoint": "http://127.0.0.1:1", **credentials}, MemoryState()).adapter()
    with pytest.raises(PermissionDenied, match="access_key and secret_key, both"):
        list(adapter.discover("landing"))


@pytest.mark.s3server
def test_versions_stay_there_when_versioning_is_suspended(s3_place: Place) -> None:
    if not s3_place.versioned:
        pytest.skip("the bucket never had versions")
    blobs = s3_place.adapter(bucket=f"suspended-{uuid.uuid4()}").blobs
    assert isinstance(blobs, S3Blobs)
    blobs.client.create_bucket(Bucket=blobs.bucket)
    blobs.client.put_bucket_versioning(Bucket=blobs.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = blobs.put("a", b"first")
    blobs.client.put_bucket_versioning(Bucket=blobs.bucket, VersioningConfiguration={"Status": "Suspended"})
    blobs.put("a", b"later, longer")
    found = blobs.head("a", first.version)
    assert found is not None
    assert (found.size_bytes, found.etag) == (5, first.etag)
    assert blobs.has_md5("a", first.version)
    assert blobs.head("b", first.version) is None
