"""Listings of a bucket, which may have a million entries.

Entries are read apart: botocore's general parser takes 0.15 ms for each. What this does not understand is left to
botocore. And folders are listed side by side: a page of a thousand takes an S3 endpoint 0.1 s and more, and its
successor can only be asked for then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore import handlers

from plait_s3.blobs import Blob, Report
from plait_s3.parallel import side_by_side

ENTRIES: Final = "plait-entries"
"""Under which a page of botocore's holds the entries that were read here."""

_ENTRIES: Final = ("Contents", "Version")
_FOLDERS_IN_PAGE_MAX: Final = 50
"""Each folder is a request of its own: where a page has more of them, pages one after another are fewer."""
_DEPTH_MAX: Final = 16

Entry = tuple[Blob, bool]
"""A blob with its whole key, and whether it is the newest version."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the server; `folders` are whole prefixes, with a delimiter alone."""

    entries: Sequence[Entry]
    folders: Sequence[str]
    is_last: bool


Pages = Callable[[str, str], Iterator[Page]]
"""The pages below a prefix, up to a delimiter ("": none), each asked for when it is taken."""


def list_all(pages: Pages, prefix: str, report: Report) -> list[Entry]:
    """All entries below a prefix, in no order. `report` hears how many there are.

    Cost: one request where one page has them; else a request for each thousand entries and at most one more for every
    twenty of them, up to 16 at a time where they lie in folders.
    """
    one_by_one = pages(prefix, "")
    page = next(one_by_one)
    found = list(page.entries)
    report(len(found))
    split = None if page.is_last else _split(pages, prefix, page)
    if split is None:
        for page in one_by_one:
            found += page.entries
            report(len(found))
        return found
    found = list(split.entries)
    counts = [len(found)]

    def below(folder: str) -> list[Entry]:
        entries: list[Entry] = []
        for page in pages(folder, ""):
            entries += page.entries
            counts.append(len(page.entries))
        return entries

    for entries in side_by_side(below, split.folders, lambda done: report(sum(counts))):
        found += entries
    return found


def _split(pages: Pages, prefix: str, first: Page) -> Page | None:
    """The folders below a prefix, if there are some, and few enough for the entries in them."""
    for _ in range(_DEPTH_MAX):
        names = {blob.key[len(prefix) :].partition("/")[0] for blob, _ in first.entries}
        if len(names) > _FOLDERS_IN_PAGE_MAX:
            return None
        level = next(pages(prefix, "/"))
        if not level.is_last or not level.folders:
            return None
        if len(level.folders) > 1:
            return level
        if level.entries:
            return None
        prefix = level.folders[0]
    return None


def read_entries_apart(client: Any) -> None:
    """Let a client's pages of objects, and of versions, come with `ENTRIES` in place of botocore's lists."""
    events = client.meta.events
    for operation in _LISTINGS:
        events.register(f"before-parse.s3.{operation}", _take_out)
    if _find_error is not None:
        events.unregister("before-parse.s3.*", _find_error)
        events.register_first("before-parse.s3.*", _find_error_elsewhere)


_LISTINGS: Final = ("ListObjectsV2", "ListObjectVersions")
_find_error: Final = getattr(handlers, "_handle_200_error", None)
"""botocore parses every answer a second time, to find errors that come with status 200: half of a listing's time."""


def _find_error_elsewhere(operation_model: Any, response_dict: Any, **kwargs: Any) -> None:
    if operation_model.name not in _LISTINGS:
        assert _find_error is not None
        _find_error(operation_model=operation_model, response_dict=response_dict, **kwargs)


def _take_out(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **kwargs: Any) -> None:
    if response_dict["status_code"] != 200 or not response_dict["body"]:
        return
    try:
        page = ElementTree.fromstring(response_dict["body"])
        space = page.tag[: page.tag.rfind("}") + 1]
        entries = [part for member in _ENTRIES for part in page.findall(space + member)]
        is_encoded = page.findtext(f"{space}EncodingType") == "url"
        found = [_entry(part, len(space), is_encoded) for part in entries]
    except ElementTree.ParseError:
        response_dict["status_code"] = 500  # Cut off on the way: botocore asks again.
        return
    except (KeyError, ValueError):
        return
    if page.tag == "Error":
        response_dict["status_code"] = 500
        return
    page[:] = [part for part in page if part.tag[len(space) :] not in _ENTRIES]
    response_dict["body"] = ElementTree.tostring(page)
    customized_response_dict[ENTRIES] = found


def _entry(part: ElementTree.Element, start: int, is_encoded: bool) -> Entry:
    """`start`: where the fields' own names begin, after their namespace. Raises: KeyError, ValueError."""
    said = {field.tag[start:]: field.text or "" for field in part}
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


def entries_of(page: Mapping[str, Any], member: str) -> list[Entry]:
    """The entries of a page, read here or by botocore, which lists them as `member`."""
    return page[ENTRIES] if ENTRIES in page else [parsed_entry(one) for one in page.get(member, ())]


def parsed_entry(one: Mapping[str, Any]) -> Entry:
    """The same of an entry that botocore parsed."""
    blob = Blob(
        one["Key"],
        one["Size"],
        one.get("ETag", "").strip('"'),
        one.get("VersionId", ""),
        int(one["LastModified"].timestamp() * 1_000_000),
    )
    return blob, bool(one.get("IsLatest", True))
