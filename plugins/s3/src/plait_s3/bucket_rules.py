"""Settings of a bucket that could delete what commits need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from plait.types import Risk

from plait_s3.s3_blobs import S3Blobs

_HARMLESS: Final = {"ExpiredObjectDeleteMarker"}
"""Markers that an object was deleted, of which no version is left."""


def problems(blobs: S3Blobs) -> Iterator[str]:
    """Why plait should not be used on this bucket as it is set up."""
    if blobs.versioning() == "Suspended":
        yield f"{blobs.uri('')}: versioning is suspended: enable it, or use a bucket that never had it"


def risks(blobs: S3Blobs) -> Iterator[Risk]:
    """Rules of the bucket that delete objects, and versioning that was stopped."""
    if blobs.versioning() == "Suspended":
        yield Risk(
            "versioning suspended", blobs.uri(""), "enable it: objects pinned by version can be overwritten for good"
        )
    own = blobs.uri("").removeprefix(f"s3://{blobs.bucket}/")
    for rule in blobs.lifecycle():
        expires = rule.get("Expiration", {}).keys() - _HARMLESS
        deletes = ["Expiration"] if expires else []
        deletes += ["NoncurrentVersionExpiration"] if "NoncurrentVersionExpiration" in rule else []
        moves = [name for name in ("Transitions", "NoncurrentVersionTransitions") if name in rule]
        scope = rule.get("Filter", {}).get("Prefix") or rule.get("Filter", {}).get("And", {}).get("Prefix")
        prefix = scope or rule.get("Prefix") or ""
        if (deletes or moves) and (prefix.startswith(own) or own.startswith(prefix)):
            yield Risk(
                f"lifecycle rule {rule.get('ID', '')!r} ({', '.join(deletes + moves)})",
                f"s3://{blobs.bucket}/{prefix}",
                "limit it to other prefixes: plait's retention decides what is kept",
            )
