"""Reading the objects of a view: what was committed comes as it was committed, or an error says that it does not.

Staged objects were not committed, so there is nothing to compare them with, and nothing that they are lost from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from plait.errors import Corrupt, NotFound

from plait_s3.blobs import Blob, Blobs, sha256_of, version_query
from plait_s3.manifest import Entry, same_content
from plait_s3.overlay import Found

_REMEDY: Final = "restore it from a backup, or from another commit that holds it: 'plait verify' says which"


class Reading:
    """One object, read once from its start to its end."""

    def __init__(self, blobs: Blobs, item: str, found: Found) -> None:
        """`item`: what errors name it."""
        self._blobs = blobs
        self._item = item
        self._found = found
        self._hashed = None if isinstance(found, Blob) else found.new_hash()
        self._where = f"object {item!r}, kept at {blobs.uri(found.key)}{version_query(found.version)},"
        self.done_bytes = 0
        """How many have been compared."""

    def get(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of [start, stop), not compared with anything. Raises: Corrupt when the object is lost."""
        with self._kept():
            return self._blobs.get(self._found.key, version=self._found.version, start=start, stop=stop)

    def whole(self) -> bytes:
        """Raises: Corrupt."""
        data = self.get()
        self.add(data)
        self.end()
        return data

    def stream(self) -> Iterator[bytes]:
        """In chunks. Raises: Corrupt, at the end for other bytes: so what is made whole at the end only is right."""
        with self._kept():
            for chunk in self._blobs.stream(self._found.key, self._found.version):
                self.add(chunk)
                yield chunk
        self.end()

    def add(self, data: bytes | memoryview) -> None:
        """Take the bytes that come next."""
        self.done_bytes += len(data)
        if self._hashed is not None:
            self._hashed.update(data)

    def end(self) -> None:
        """Compare what was added with what was committed. Raises: Corrupt, however often it is asked."""
        if self._hashed is None or isinstance(self._found, Blob):
            return
        entry, hashed = self._found, self._hashed.hexdigest()
        if not differs(self._blobs, entry, hashed):
            self._hashed = None  # Once is enough: it may cost a request.
            return
        raise Corrupt(
            f"{self._where} holds other bytes than were committed: expected {entry.size_bytes} with {entry.hash_name} "
            f"{entry.hash_text}, found {self.done_bytes} with {hashed}",
            remedy=_REMEDY,
        )

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """What was committed and is not there is lost, which is no question of a wrong name."""
        try:
            yield
        except NotFound as error:
            if isinstance(self._found, Blob):
                raise
            raise Corrupt(f"{self._where} is lost: {error.message}", remedy=_REMEDY) from error


def holds_same(blobs: Blobs, one: Entry | None, other: Entry | None) -> bool:
    """As `same_content`, and by reading where that cannot tell: of one size, and one put in parts, the other whole."""
    if same_content(one, other):
        return True
    if one is None or other is None or one.size_bytes != other.size_bytes or bool(one.sha256) == bool(other.sha256):
        return False
    hashed, plain = (one, other) if one.sha256 else (other, one)
    try:
        return sha256_of(blobs, plain.key, plain.version) == hashed.sha256
    except NotFound:
        return False


def differs(blobs: Blobs, entry: Entry, hashed: str) -> bool:
    """Whether content with this hash (`Entry.new_hash`) is other than was committed. Cost: none where it is the same;
    else a request, where nothing but an ETag was kept: of encrypted objects it is no MD5, and nothing can be said."""
    return hashed != entry.hash_text and (bool(entry.sha256) or blobs.has_md5(entry.key, entry.version))
