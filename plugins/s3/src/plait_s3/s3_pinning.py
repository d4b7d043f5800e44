"""Keeping the bytes of a bucket's objects as they are, whatever is written under their keys later."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError
from plait.errors import NotFound, StoreUnavailable

from plait_s3.blobs import CHUNK_BYTES, Blob, Pinned, Report, address, pinning, sha256_of
from plait_s3.parallel import side_by_side
from plait_s3.s3_access import TRANSFER
from plait_s3.s3_errors import LOST, code_of, translated

if TYPE_CHECKING:
    from plait_s3.s3_blobs import S3Blobs

_MD5: Final = re.compile(r"[0-9a-f]{32}\Z")
_TRIES_MAX: Final = 3


def is_md5(etag: str) -> bool:
    """Whether an ETag has the form of the content's MD5: that of an object put whole, on most servers."""
    return bool(_MD5.match(etag))


def pin_all(store: S3Blobs, blobs: Sequence[Blob], report: Report) -> Sequence[Pinned]:
    """`Blobs.pin_all`. Cost of each: none where the listing told its version and hash, a HEAD where it told no version,
    its bytes where its ETag is no hash; without versions a GET and a copy."""

    def pin(blob: Blob) -> Pinned:
        with pinning(store.uri(blob.key)):
            pinned = _pin_version(store, blob) if store.versioned else None
            return pinned or _pin_copy(store, blob.key)

    told = [_told(store, blob) for blob in blobs]
    asked = [blob for blob, pinned in zip(blobs, told, strict=True) if pinned is None]
    known = len(blobs) - len(asked)
    answers = iter(side_by_side(pin, asked, lambda done: report(known + done)))
    return [next(answers) if pinned is None else pinned for pinned in told]


def _told(store: S3Blobs, blob: Blob) -> Pinned | None:
    """What a listing tells of an object pins it, where that names its version and hash."""
    if store.versioned and blob.version not in ("", "null") and is_md5(blob.etag):
        return Pinned(blob.size_bytes, blob.etag, b"", blob.key, blob.version)
    return None


def _pin_version(store: S3Blobs, blob: Blob) -> Pinned | None:
    """The version that a key has; None for an object from before there were any."""
    found = blob if blob.version not in ("", "null") else store.head(blob.key)
    if found is None:
        raise NotFound(f"object {store.uri(blob.key)} does not exist")
    if found.version in ("", "null"):
        return None
    sha256 = b"" if is_md5(found.etag) else sha256_of(store, found.key, found.version)
    return Pinned(found.size_bytes, found.etag, sha256, found.key, found.version)


def _pin_copy(store: S3Blobs, key: str) -> Pinned:
    """A copy at the address of the bytes that a key has: they are read once, and copied if they are still there."""
    for _ in range(_TRIES_MAX):
        found, sha256 = _hashed(store, key)
        place = address(sha256)
        # Copied even where it is kept already: the newer date is the grace that retention gives to it.
        store.failpoint("objects.pin.before_copy")
        copied = _copy_exactly(store, found, place)
        if copied is None:
            continue
        # Servers that ignore the copy's condition exist: equal MD5s say that it has the bytes that were hashed.
        if (is_md5(copied) and copied == found.etag) or sha256_of(store, place) == sha256:
            return Pinned(found.size_bytes, copied, sha256)
    raise StoreUnavailable(
        f"object {store.uri(key)} is being overwritten all the time", remedy="commit when its writer has ended"
    )


def _hashed(store: S3Blobs, key: str) -> tuple[Blob, bytes]:
    """An object as it is, and the hash of exactly these bytes."""
    hashed = hashlib.sha256()
    with translated(f"object {store.uri(key)}"):
        found = store.client.get_object(**store.asked(key))
        with closing(found["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                hashed.update(chunk)
    return Blob(key, found["ContentLength"], found.get("ETag", "").strip('"')), hashed.digest()


def _copy_exactly(store: S3Blobs, found: Blob, place: str) -> str | None:
    """Copy what had this ETag, and return that of the copy; None when something else is there now."""
    source, target = store.asked(found.key), store.asked(place)
    condition = {"CopySourceIfMatch": f'"{found.etag}"'}
    with translated(f"object {store.uri(found.key)}"):
        try:
            if found.size_bytes < TRANSFER.multipart_threshold:
                copied = store.client.copy_object(**target, CopySource=source, **condition)
                return str(copied.get("CopyObjectResult", {}).get("ETag", "")).strip('"')
            store.client.copy(source, **target, ExtraArgs=condition, Config=TRANSFER)
        except ClientError as error:
            if code_of(error) in LOST:
                return None
            raise
    kept = store.head(place)
    return None if kept is None else kept.etag
