"""Listings: what is read apart is what botocore's own parser reads, and folders are listed side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import boto3
import pytest
from plait_s3.blobs import Blob, unheard
from plait_s3.listing import ENTRIES, Entry, Page, list_all, parsed_entry, read_entries_apart
from plait_s3.s3_blobs import S3Blobs
from plait_s3.testing import Place

NAMES = ("a-b", "a/b", "a/é ü/日本.txt", "with space/+plus&more=%25?x#y.txt", "<tag>&amp;", "~")


@pytest.mark.s3server
@pytest.mark.parametrize("operation", ["list_objects_v2", "list_object_versions"])
def test_entries_read_apart_are_what_botocore_reads(s3_place: Place, operation: str) -> None:
    blobs = cast(S3Blobs, s3_place.adapter().blobs)
    again = cast(S3Blobs, s3_place.adapter().blobs)
    again.client.meta.events.unregister("before-parse.s3.ListObjectsV2", _registered())
    again.client.meta.events.unregister("before-parse.s3.ListObjectVersions", _registered())
    for name in NAMES:
        blobs.put(name, name.encode())
        blobs.put(name, b"again")
    asked = {"Bucket": blobs.bucket, "Prefix": s3_place.options["prefix"], "MaxKeys": 4}
    pages = list(blobs.client.get_paginator(operation).paginate(**asked))
    own = list(again.client.get_paginator(operation).paginate(**asked))
    assert all(ENTRIES in page and not page.get("Contents") and not page.get("Versions") for page in pages)
    expected = [[parsed_entry(one) for one in page.get("Contents", page.get("Versions", ()))] for page in own]
    assert [page[ENTRIES] for page in pages] == expected
    assert len(pages) > 1


def _registered() -> object:
    from plait_s3 import listing

    return listing._take_out


@pytest.fixture
def client() -> Any:
    """One that reads entries apart, and asks nobody."""
    made = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    read_entries_apart(made)
    return made


def received(client: Any, operation: str, body: bytes) -> dict[str, Any]:
    """An answer of status 200 as botocore goes on with it."""
    parsed: dict[str, Any] = {}
    answer: dict[str, Any] = {"status_code": 200, "body": body, "headers": {}, "parsed": parsed}
    client.meta.events.emit(
        f"before-parse.s3.{operation}",
        operation_model=client.meta.service_model.operation_model(operation),
        response_dict=answer,
        customized_response_dict=parsed,
    )
    return answer


@pytest.mark.parametrize("operation", ["ListObjectsV2", "ListObjectVersions", "CopyObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize("body", [b"<Error><Code>InternalError</Code></Error>", b"<CopyObjectResult><ETag>"])
def test_an_error_that_comes_with_success_is_seen(client: Any, operation: str, body: bytes) -> None:
    assert received(client, operation, body)["status_code"] == 500
    assert received(client, operation, b"<R><ETag>x</ETag></R>")["status_code"] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
     b"<R><Contents><Key>a</Key><Size>1</Size><LastModified>yesterday</LastModified></Contents></R>"],
)  # fmt: skip
def test_what_is_not_understood_is_left_to_botocore(client: Any, body: bytes) -> None:
    answer = received(client, "ListObjectsV2", body)
    assert (answer["status_code"], answer["body"], answer["parsed"]) == (200, body, {})


class _Bucket:
    """The pages that a server with these keys answers, and how many were asked for."""

    def __init__(self, keys: Sequence[str], page: int = 10) -> None:
        self.keys = sorted(keys)
        self.requests = 0
        self._page = page

    def pages(self, prefix: str, delimiter: str) -> Iterator[Page]:
        below = [key for key in self.keys if key.startswith(prefix)]
        names = list(dict.fromkeys(self._shown(key, prefix, delimiter) for key in below))
        for start in range(0, max(1, len(names)), self._page):
            self.requests += 1
            shown = names[start : start + self._page]
            folders = [name for name in shown if delimiter and name.endswith(delimiter)]
            entries: list[Entry] = [(Blob(name, 1), True) for name in shown if name not in folders]
            yield Page(entries, folders, start + self._page >= len(names))

    def _shown(self, key: str, prefix: str, delimiter: str) -> str:
        head, slash, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        return prefix + head + slash if slash else key


FOLDERS = [f"top/{folder}/{name:02}" for folder in "abcde" for name in range(25)]


@pytest.mark.parametrize(
    ("keys", "requests_max"),
    [
        pytest.param([], 1, id="nothing"),
        pytest.param(["top/one"], 1, id="one page"),
        pytest.param([f"top/{n:03}" for n in range(95)], 1 + 10, id="no folders"),
        pytest.param(FOLDERS, 2 + 5 * 3, id="folders"),
        pytest.param([*FOLDERS, "top/x", "top/a-"], 2 + 5 * 3, id="folders and objects"),
        pytest.param([key.replace("top/", "top/year/") for key in FOLDERS], 3 + 5 * 3, id="folders in one folder"),
        pytest.param([f"top/{n:03}/it" for n in range(200)], 2 + 20, id="more folders than a page"),
    ],
)
def test_everything_is_listed_once_in_few_requests(keys: list[str], requests_max: int) -> None:
    bucket = _Bucket([*keys, "elsewhere/x", "topless"])
    found = [blob.key for blob, _ in list_all(bucket.pages, "top/", unheard)]
    assert sorted(found) == sorted(keys)
    assert bucket.requests <= requests_max


def test_many_small_folders_are_listed_page_by_page() -> None:
    bucket = _Bucket([f"top/{n:04}/it" for n in range(990)], page=1000)
    crowd = _Bucket([f"top/{n // 2:04}/{n}" for n in range(1800)], page=1000)
    assert len(list_all(bucket.pages, "top/", unheard)) == 990
    assert len(list_all(crowd.pages, "top/", unheard)) == 1800
    assert (bucket.requests, crowd.requests) == (1, 2)


def test_a_report_hears_of_all_and_stops_the_listing() -> None:
    heard: list[int] = []
    list_all(_Bucket(FOLDERS).pages, "top/", heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == len(FOLDERS)

    def stop(done: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list_all(_Bucket(FOLDERS).pages, "top/", stop)


@pytest.mark.s3server
def test_a_server_lists_folders_side_by_side_as_one_after_another(s3_place: Place) -> None:
    blobs = cast(S3Blobs, s3_place.adapter().blobs)
    keys = [f"in/{folder}/{number:03}" for folder in ("é b", "a+%", "c/d") for number in range(380)] + ["in/a", "in/a-"]
    blobs.put_all(dict.fromkeys(keys, b"1"), unheard)
    blobs.delete([Blob(keys[0], 1)])
    heard: list[int] = []
    found = blobs.list_current("in/", heard.append)
    assert [blob.key for blob in found] == sorted(keys[1:], key=str.encode)
    assert [blob.key for blob in blobs.list("in/")] == [blob.key for blob in found]
    assert len(heard) > 2
    assert all(blob.version for blob in found) == blobs.versioned


@pytest.mark.s3server
def test_what_two_pages_hold_is_listed_once(s3_place: Place) -> None:
    blobs = cast(S3Blobs, s3_place.adapter().blobs)
    keys = [f"in/{number:04}" for number in range(1_002)]
    blobs.put_all(dict.fromkeys(keys, b"1"), unheard)
    assert [blob.key for blob in blobs.list_current("in/", unheard)] == keys
    listed = [(blob.key, blob.version) for blob in blobs.list_versions("in/")]
    assert len(listed) == len(set(listed)) == len(keys)
