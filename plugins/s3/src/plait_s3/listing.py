"""Listings of a bucket, their entries read apart: botocore's general parser takes 0.15 ms for each, and a prefix may
have a million. What this does not understand is left to botocore.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from plait_s3.blobs import Blob

ENTRIES: Final = "plait-entries"
"""Under which a page holds what was read here: (blob with its whole key, whether it is the newest version) each."""

_ENTRY: Final = {"Contents", "Version"}


def read_entries_apart(client: Any) -> None:
    """Let a client's pages of objects, and of versions, come with `ENTRIES` in place of botocore's lists."""
    for operation in ("ListObjectsV2", "ListObjectVersions"):
        client.meta.events.register(f"before-parse.s3.{operation}", _take_out)


def _take_out(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **kwargs: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        page = ElementTree.fromstring(response_dict["body"])
        is_encoded = any(_name(part) == "EncodingType" and part.text == "url" for part in page)
        found = [_entry(part, is_encoded) for part in page if _name(part) in _ENTRY]
    except (ElementTree.ParseError, KeyError, ValueError):
        return
    for part in [part for part in page if _name(part) in _ENTRY]:
        page.remove(part)
    response_dict["body"] = ElementTree.tostring(page)
    customized_response_dict[ENTRIES] = found


def _name(part: ElementTree.Element) -> str:
    return part.tag.rpartition("}")[2]


def _entry(part: ElementTree.Element, is_encoded: bool) -> tuple[Blob, bool]:
    """Raises: KeyError, ValueError."""
    said = {field.tag.rpartition("}")[2]: field.text or "" for field in part}
    key = unquote_plus(said["Key"]) if is_encoded else said["Key"]
    changed = datetime.fromisoformat(said["LastModified"])
    blob = Blob(
        key,
        int(said["Size"]),
        said.get("ETag", "").strip('"'),
        said.get("VersionId", ""),
        int(changed.timestamp() * 1_000_000),
    )
    return blob, said.get("IsLatest") != "false"


def parsed_entry(one: Mapping[str, Any]) -> tuple[Blob, bool]:
    """The same of an entry that botocore parsed."""
    blob = Blob(
        one["Key"],
        one["Size"],
        one.get("ETag", "").strip('"'),
        one.get("VersionId", ""),
        int(one["LastModified"].timestamp() * 1_000_000),
    )
    return blob, bool(one.get("IsLatest", True))
