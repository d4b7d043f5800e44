"""What the adapter asks of an object store, and the values it gets back. `disk` and `s3_blobs` are two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeAlias
from urllib.parse import quote

import msgspec
from plait.errors import InvalidArgument, NotFound

OWN: Final = "_plait/"
"""Everything of plait's own lies below this prefix of the store's root."""

STAGING: Final = f"{OWN}staging/"
EDITS: Final = f"{OWN}edits/"
"""What working sets hold (overlay.py): nothing that a commit names lies there."""

EXPORTED: Final = "/.plait-export/"
"""Where an export keeps, beside the files, what it has put there: nobody's data."""

CHUNK_BYTES: Final = 1 << 20

Content: TypeAlias = bytes | BinaryIO | Path
"""What an object is to hold: bytes, what a stream still has, or a file of this machine."""

Report: TypeAlias = Callable[[int], None]
"""Hears now and then how many are done by now, and may raise to stop the work."""


def unheard(done: int) -> None:
    """The report of work that nobody watches."""


class Blob(msgspec.Struct, frozen=True, gc=False):
    """One stored object. `key` is relative to the store's root; `version` is "" where the store keeps no versions."""

    key: str
    size_bytes: int
    etag: str = ""
    version: str = ""
    modified_at_us: int = 0


class Pinned(msgspec.Struct, frozen=True, gc=False):
    """Bytes that no later write can alter: at `place` ("": at the address of `sha256`), in the version `version`."""

    size_bytes: int
    etag: str
    sha256: bytes
    place: str = ""
    version: str = ""


def sha256_of(blobs: Blobs, key: str, version: str = "") -> bytes:
    """The hash of what a key holds now. Raises: NotFound."""
    hashed = hashlib.sha256()
    for chunk in blobs.stream(key, version):
        hashed.update(chunk)
    return hashed.digest()


@contextmanager
def pinning(uri: str) -> Iterator[None]:
    """An object of a listing is pinned in the block. Raises: NotFound that says what to do, when it is not there."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            f"{uri} was listed, and is not there any more",
            remedy="repeat when those who delete there have ended; some servers also list another name than was put",
        ) from error


class Blobs(Protocol):
    """An object store below one root. Thread-safe. Keys are relative, never start with a slash, and may be any text.

    Errors: NotFound for what is not there, PermissionDenied, StoreUnavailable.
    """

    @property
    def versioned(self) -> bool:
        """Whether each write leaves the earlier version readable."""
        ...

    def uri(self, key: str) -> str:
        """How other tools name this key."""
        ...

    def key_of(self, location: str) -> str:
        """The key behind a URI, a path or a key. Raises: InvalidArgument for one outside the root."""
        ...

    def head(self, key: str, version: str = "") -> Blob | None: ...

    def get(self, key: str, *, version: str = "", start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of [start, stop), fewer where the object ends."""
        ...

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """The whole object in chunks."""
        ...

    def has_md5(self, key: str, version: str = "") -> bool:
        """Whether the object's ETag is the MD5 of its content. Cost: one request."""
        ...

    def list(self, prefix: str) -> list[Blob]:
        """Every object whose key starts with the prefix, sorted by the bytes of their keys, whatever the store does."""
        ...

    def list_current(self, prefix: str, report: Report) -> Sequence[Blob]:
        """As `list`, and with their versions where the store keeps these. `report` hears how many are found."""
        ...

    def list_versions(self, prefix: str) -> Iterator[Blob]:
        """Every version of every object below the prefix; where there are none, every object."""
        ...

    def put(self, key: str, content: Content) -> Blob:
        """Write an object, whole or not at all, over whatever is there; durable when this returns."""
        ...

    def put_all(self, contents: Mapping[str, Content], report: Report) -> None:
        """`put` of many objects, which costs less than one by one. `report` hears how many are done."""
        ...

    def read_etag(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and the ETag that belongs to exactly these, or None."""
        ...

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str | None:
        """Write over exactly the object with this ETag (None: only where there is none). Returns the ETag of what was
        written, as `read_etag` would, or None: something else is there."""
        ...

    def pin_all(self, blobs: Sequence[Blob], report: Report) -> Sequence[Pinned]:
        """Keep the bytes of these objects as they are now, whatever is written under their keys later; durable when
        this returns. `report` hears how many are done, and may raise.

        Repeat: the same answer for the same bytes. Raises: NotFound when one is gone meanwhile.
        """
        ...

    def copy(self, key: str, destination: str, version: str = "") -> None:
        """Copy inside the store."""
        ...

    def delete(self, blobs: Iterable[Blob]) -> None:
        """Delete these, each in its version where it has one. What is gone already is fine."""
        ...

    def make_folder(self, prefix: str) -> None:
        """Let other tools write below a prefix; where folders are not made, nothing happens."""
        ...

    def drop_folder(self, prefix: str) -> None:
        """Delete everything below a prefix, every version of it. Repeat: no-op."""
        ...

    def presign(self, key: str, *, version: str = "", seconds: int = 3600) -> str:
        """A link that needs no credentials for 1 second to a week. Raises: InvalidArgument, Unsupported."""
        ...

    def close(self) -> None: ...


def address(sha256: bytes) -> str:
    """Where content lies that is kept by its hash: fanned out, so that no folder on a disk grows too large."""
    text = sha256.hex()
    return f"{OWN}objects/{text[:2]}/{text[2:]}"


def check_object_key(key: str) -> str:
    """Return the key of an object, or raise InvalidArgument. These names mean the same on a disk and in a bucket."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise InvalidArgument(
            f"{key!r} is no object's name", remedy="write names such as 2013/01.csv, without empty, '.' or '..' parts"
        )
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"object name {key!r} is not valid Unicode", remedy="rename it") from error
    if size > 900:
        raise InvalidArgument(f"object name {key[:40]!r}… has {size} bytes, the limit is 900")
    return key


def version_query(version: str) -> str:
    """How a version is named after an object's URI."""
    return f"?versionId={quote(version, safe='')}" if version else ""
