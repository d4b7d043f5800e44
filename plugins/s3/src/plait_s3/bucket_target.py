"""A prefix of a bucket as the target of an export.

Each object carries in its metadata what it holds, so that one request tells whose it is. Where source and target are
one endpoint with one set of credentials, objects are copied by the server; else they pass through here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from plait.errors import InvalidArgument, StoreUnavailable

from plait_s3.blobs import OWN, Blob, Blobs, check_object_key, unheard
from plait_s3.export_state import STATE, Record, State, head_line, read_state, record_lines
from plait_s3.file_names import is_plaits
from plait_s3.manifest import Entry
from plait_s3.s3_blobs import S3Blobs
from plait_s3.s3_errors import LOST, code_of, translated
from plait_s3.selection import content_of
from plait_s3.targets import Group, Held, Moved, Target, altered, checked

MARK: Final = "plait-content"
"""The metadata of an exported object: `content_of` it."""

_KEPT: Final = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl")
"""What else an object has that its readers go by."""

COPY_BYTES_MAX: Final = 5 << 30
"""Larger objects S3 copies in parts only."""
_COPY_PART_BYTES: Final = 512 << 20
_PART_BYTES_MIN: Final = 8 << 20
_PARTS_MAX: Final = 10_000
_KEY_BYTES_MAX: Final = 1024


@dataclass
class _Object:
    blobs: S3Blobs
    name: str
    size_bytes: int
    etag: str
    metadata: Mapping[str, str] | None = field(default=None)

    def holds(self, content: str) -> bool:
        """By its ETag, or by what the export wrote beside it: an encrypted object's ETag says nothing."""
        hashed, digest, size = content.split(":")
        if int(size) != self.size_bytes:
            return False
        if hashed == "md5" and digest == self.etag:
            return True
        if self.metadata is None:
            self.metadata = (self.blobs.describe(self.name) or {}).get("Metadata", {})
        return self.metadata.get(MARK) == content

    def record(self, content: str, *, is_left: bool) -> Record | None:
        return Record(content, is_left) if is_left else None


class BucketTarget(Target):
    """Objects below a prefix; the only other thing there is the export's own state."""

    remembers_all: ClassVar[bool] = False

    def __init__(self, blobs: S3Blobs, source: Blobs, failpoint: Callable[[str], None]) -> None:
        """Raises: InvalidArgument for plait's own prefixes."""
        self.uri = blobs.uri("")
        self._blobs = blobs
        self._source = source
        self._failpoint = failpoint
        self._etag: str | None = None
        self._listed: dict[str, Blob] | None = None
        if OWN.rstrip("/") in self.uri.split("/"):
            raise InvalidArgument(f"{self.uri} is plait's own", remedy="export to another prefix")

    # -- looking -----------------------------------------------------------------------------------------------------

    def load(self) -> State | None:
        found = self._blobs.read_etag(STATE)
        self._etag = None if found is None else found[1]
        return None if found is None else read_state(found[0], self._blobs.uri(STATE))

    def begin(self) -> None:
        """Nothing: of two that write, the first save of the state that is not the one it has read is refused."""

    def disturbed(self, state: State, *, check: bool) -> set[str]:
        return set()

    def names(self) -> Collection[str]:
        if self._listed is None:
            found = self._blobs.list_plain("", unheard)
            # A key like a folder's name is what consoles make a folder of.
            plain = (blob for blob in found if blob.key and not blob.key.endswith("/"))
            self._listed = {blob.key: blob for blob in plain if not is_plaits(blob.key)}
        return self._listed.keys()

    def held(self, name: str) -> Held | None:
        if self._listed is not None:
            blob = self._listed.get(name)
            return None if blob is None else _Object(self._blobs, name, blob.size_bytes, blob.etag)
        found = self._blobs.describe(name)
        if found is None:
            return None
        return _Object(self._blobs, name, found["ContentLength"], found["ETag"].strip('"'), found.get("Metadata", {}))

    def refused(self, written: Collection[str], doomed: Collection[str]) -> Iterator[str]:
        room = _KEY_BYTES_MAX - len(self.uri.removeprefix(f"s3://{self._blobs.bucket}/").encode())
        for name in sorted(written):
            try:
                check_object_key(name)
            except InvalidArgument as error:
                yield error.message
                continue
            if is_plaits(name):
                yield f"{name!r} is a name of plait's own"
            elif len(name.encode()) > room:
                yield f"{name[:40]!r}… makes a key of more than {_KEY_BYTES_MAX} bytes"

    # -- writing -----------------------------------------------------------------------------------------------------

    def save(self, state: State, changed: Iterable[str]) -> None:
        data = head_line(state) + record_lines(state.records.items())
        written = self._blobs.put_if_match(STATE, data, self._etag)
        if written is None:
            # versitygw 1.8 takes a deletion, in a bucket with versions, for an object that is there.
            if self._etag is not None or self._blobs.read_etag(STATE) is not None:
                raise StoreUnavailable(
                    f"another export has written to {self.uri} meanwhile",
                    remedy="wait until it has ended, then repeat",
                )
            self._blobs.put(STATE, data)
        if not written:
            found = self._blobs.read_etag(STATE)
            written = None if found is None else found[1]
        self._etag = written

    def write(self, group: Group, moved: Moved) -> Mapping[str, Record]:
        for name, entry in group:
            self._failpoint("export.before_object")
            if isinstance(self._source, S3Blobs) and self._source.is_reached_as(self._blobs):
                self._copy(self._source, name, entry)
                moved(entry.size_bytes)
            else:
                self._upload(name, entry, moved)
        return {}

    def _copy(self, source: S3Blobs, name: str, entry: Entry) -> None:
        """By the server. The condition holds it to the bytes that were committed, whatever it makes of versions."""
        asked = source.asked(entry.key, entry.version)
        extra = {**self._described(entry), "MetadataDirective": "REPLACE"}
        if entry.etag:
            extra["CopySourceIfMatch"] = f'"{entry.etag}"'
        with translated(f"object {self._blobs.uri(name)}"):
            try:
                if entry.size_bytes <= COPY_BYTES_MAX:
                    self._blobs.client.copy_object(**self._blobs.asked(name), CopySource=asked, **extra)
                else:
                    how = TransferConfig(
                        multipart_threshold=COPY_BYTES_MAX, multipart_chunksize=_COPY_PART_BYTES, use_threads=False
                    )
                    target = self._blobs.asked(name)
                    self._blobs.client.copy(asked, target["Bucket"], target["Key"], ExtraArgs=extra, Config=how)
            except ClientError as error:
                if code_of(error) in LOST:
                    raise altered(source.uri(entry.key), entry) from error
                raise

    def _upload(self, name: str, entry: Entry, moved: Moved) -> None:
        part = max(_PART_BYTES_MIN, -(-entry.size_bytes // _PARTS_MAX))
        how = TransferConfig(multipart_threshold=part, multipart_chunksize=part, use_threads=False)
        stream = io.BufferedReader(_Chunks(checked(self._source, entry, moved)), _PART_BYTES_MIN)
        target = self._blobs.asked(name)
        with translated(f"object {self._blobs.uri(name)}"):
            self._blobs.client.upload_fileobj(
                stream, target["Bucket"], target["Key"], ExtraArgs=self._described(entry), Config=how
            )

    def _described(self, entry: Entry) -> dict[str, Any]:
        """An object's own metadata, where its store has some, and the export's. Cost: one request in a bucket."""
        found: Mapping[str, Any] = {}
        if isinstance(self._source, S3Blobs):
            described = self._source.describe(entry.key, entry.version)
            if described is None:
                raise altered(self._source.uri(entry.key), entry)
            found = described
        kept = {name: found[name] for name in _KEPT if name in found}
        return {**kept, "Metadata": {**found.get("Metadata", {}), MARK: content_of(entry)}}

    def delete(self, names: Sequence[str]) -> None:
        self._failpoint("export.before_delete")
        self._blobs.delete([Blob(name, 0) for name in names])

    def close(self) -> None:
        self._blobs.close()


class _Chunks(io.RawIOBase):
    """Chunks as a stream that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
