"""Pages of a listing that are read apart say what botocore's own parser says of them."""

from __future__ import annotations

from typing import cast

import pytest
from plait_s3.listing import ENTRIES, parsed_entry, read_entries_apart
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


class _Events:
    def register(self, name: str, handler: object) -> None:
        self.handler = handler


@pytest.mark.parametrize(
    "body",
    [b"", b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
     b"<R><Contents><Key>a</Key><Size>1</Size><LastModified>yesterday</LastModified></Contents></R>"],
)  # fmt: skip
def test_what_is_not_understood_is_left_to_botocore(body: bytes) -> None:
    from types import SimpleNamespace

    client = SimpleNamespace(meta=SimpleNamespace(events=_Events()))
    read_entries_apart(client)
    response, custom = {"status_code": 200, "body": body}, {}
    client.meta.events.handler(response_dict=response, customized_response_dict=custom)
    assert (response["body"], custom) == (body, {})
