"""A bucket as an object store, through boto3. Trusts no server to be S3: what matters is checked here or by `probe`.

pin_all         with versioning, the version that a key has now; without, a server-side copy to a content address
put_if_match    one conditional PUT; a lost answer is found out by reading
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from botocore.exceptions import ClientError
from plait.errors import InvalidArgument, NotFound, StoreUnavailable

from plait_s3 import s3_pinning
from plait_s3.blobs import CHUNK_BYTES, Blob, Content, Pinned, Report, unheard
from plait_s3.listing import Entry, Page, entries_of, list_all, read_entries_apart
from plait_s3.parallel import side_by_side
from plait_s3.s3_access import TRANSFER, Access
from plait_s3.s3_errors import GONE, LOST, code_of, translated
from plait_s3.s3_pinning import is_md5

_BULK_KEYS_MAX: Final = 1000
_NOT_IN_XML: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What a bulk deletion cannot name: its request would be refused, or delete another object."""
_LINK_SECONDS_MAX: Final = 7 * 24 * 3600
"""What a signature can say."""


class S3Blobs:
    """Objects below one prefix of one bucket. Thread-safe, as boto3's clients are."""

    def __init__(
        self,
        options: Mapping[str, str],
        failpoint: Callable[[str], None],
        credential: Callable[[str], str] = lambda value: value,
    ) -> None:
        """`options`: bucket, prefix, endpoint, region, access_key, secret_key. Connects lazily.

        `credential` resolves their values; those of the keys for each request.
        """
        self._access = Access(options, credential)
        self.bucket = self._access.option("bucket")
        prefix = self._access.option("prefix").strip("/")
        self._prefix = prefix + "/" if prefix else ""
        self.failpoint = failpoint

    @cached_property
    def client(self) -> Any:
        client = self._access.connect(self.bucket)
        read_entries_apart(client)
        return client

    @cached_property
    def versioned(self) -> bool:
        """Whether the bucket keeps every version that is put from now on."""
        return self.versioning() == "Enabled"

    def versioning(self) -> str:
        """ "Enabled", "Suspended", or "" where it never was; servers that know of none have none."""
        try:
            with translated(f"versioning of bucket {self.bucket!r}"):
                return str(self.client.get_bucket_versioning(Bucket=self.bucket).get("Status", ""))
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in (
                "NotImplemented", "VersioningNotConfigured", "501",
            ):  # fmt: skip
                return ""
            raise

    @property
    def reached(self) -> Mapping[str, str]:
        """The options that say how, and not where: credentials in clear."""
        return self._access.in_clear()

    def is_reached_as(self, other: S3Blobs) -> bool:
        """Whether another is behind the same endpoint, with the same credentials: it can copy from here by itself."""
        return self._access.is_as(other._access)

    # -- names -------------------------------------------------------------------------------------------------------

    def _full(self, key: str) -> str:
        return self._prefix + key

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._full(key)}"

    def key_of(self, location: str) -> str:
        if not location.startswith("s3://"):
            return location.strip("/")
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if bucket != self.bucket or not (key + "/").startswith(self._prefix):
            raise InvalidArgument(f"{location!r} is not below {self.uri('')!r}", remedy="name a prefix of this store")
        return key.removeprefix(self._prefix).strip("/")

    def asked(self, key: str, version: str = "") -> dict[str, str]:
        """The parameters of boto3's client that name an object."""
        asked = {"Bucket": self.bucket, "Key": self._full(key)}
        return {**asked, "VersionId": version} if version else asked

    # -- reading -----------------------------------------------------------------------------------------------------

    def head(self, key: str, version: str = "") -> Blob | None:
        found = self.describe(key, version)
        if found is None:
            return None
        return Blob(
            key,
            found["ContentLength"],
            found.get("ETag", "").strip('"'),
            found.get("VersionId", ""),
            int(found["LastModified"].timestamp() * 1_000_000),
        )

    def describe(self, key: str, version: str = "") -> Mapping[str, Any] | None:
        """What the server says of an object, metadata included."""
        # versitygw 1.8 finds older versions by GET alone, where versioning was suspended since.
        for ask in (self.client.head_object, self.client.get_object) if version else (self.client.head_object,):
            with suppress(NotFound), translated(f"object {self.uri(key)}"):
                found: Mapping[str, Any] = ask(**self.asked(key, version))
                if "Body" in found:
                    found["Body"].close()
                return found
        return None

    def get(self, key: str, *, version: str = "", start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            return b""
        asked = self.asked(key, version)
        if start or stop is not None:
            asked["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        try:
            with translated(f"object {self.uri(key)}"):
                return bytes(self.client.get_object(**asked)["Body"].read())
        except StoreUnavailable as error:
            # An empty object, or one that ends before `start`, has no such range.
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in ("InvalidRange", "416"):
                return b""
            raise

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        with translated(f"object {self.uri(key)}"):
            found = self.client.get_object(**self.asked(key, version))
            with closing(found["Body"]) as body:
                yield from body.iter_chunks(CHUNK_BYTES)

    def has_md5(self, key: str, version: str = "") -> bool:
        found = self.describe(key, version) or {}
        encrypted = found.get("ServerSideEncryption", "").startswith("aws:kms") or "SSECustomerAlgorithm" in found
        return is_md5(found.get("ETag", "").strip('"')) and not encrypted

    def list(self, prefix: str) -> list[Blob]:
        return [*self.list_plain(prefix, unheard)]

    def list_current(self, prefix: str, report: Report) -> Sequence[Blob]:
        operation = ("list_object_versions", "Versions") if self.versioned else ("list_objects_v2", "Contents")
        return self._list(*operation, prefix, report)

    def list_plain(self, prefix: str, report: Report) -> Sequence[Blob]:
        """`list_current` without versions: of a bucket that others look after."""
        return self._list("list_objects_v2", "Contents", prefix, report)

    def _list(self, operation: str, member: str, prefix: str, report: Report) -> Sequence[Blob]:
        found = list_all(partial(self._pages, operation, member), self._full(prefix), report)
        # SeaweedFS lists `a/b` before `a-b`: an order that only bytes give.
        return sorted(
            (self._relative(blob) for blob, is_latest in found if is_latest), key=lambda blob: blob.key.encode()
        )

    def list_versions(self, prefix: str) -> Iterator[Blob]:
        if not self.versioned:
            yield from self.list(prefix)
        else:
            for page in self._pages("list_object_versions", "Versions", self._full(prefix), ""):
                yield from (self._relative(blob) for blob, _ in page.entries)

    def _pages(self, operation: str, member: str, prefix: str, delimiter: str) -> Iterator[Page]:
        asked = {"Bucket": self.bucket, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
        last: Entry | None = None
        with translated(f"prefix s3://{self.bucket}/{prefix}"):
            for page in self.client.get_paginator(operation).paginate(**asked):
                entries = entries_of(page, member)
                if entries and entries[0] == last:
                    del entries[0]  # versitygw 1.8 ends some pages of versions with what the next one begins with.
                last = entries[-1] if entries else last
                folders = [one["Prefix"] for one in page.get("CommonPrefixes", ())]
                yield Page(entries, folders, not page.get("IsTruncated"))

    def _relative(self, blob: Blob) -> Blob:
        if not self._prefix:
            return blob
        return Blob(blob.key[len(self._prefix) :], blob.size_bytes, blob.etag, blob.version, blob.modified_at_us)

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, content: Content) -> Blob:
        if isinstance(content, Path):
            with content.open("rb") as stream:
                return self.put(key, stream)
        self.failpoint("objects.object.before_put")
        with translated(f"object {self.uri(key)}"):
            if isinstance(content, bytes):
                written = self.client.put_object(**self.asked(key), Body=content)
                etag, version = written.get("ETag", "").strip('"'), written.get("VersionId", "")
                return Blob(key, len(content), etag, version)
            self.client.upload_fileobj(_Unclosed(content), self.bucket, self._full(key), Config=TRANSFER)
        return self.head(key) or Blob(key, 0)

    def put_all(self, contents: Mapping[str, Content], report: Report) -> None:
        side_by_side(lambda one: self.put(*one), contents.items(), report)

    def read_etag(self, key: str) -> tuple[bytes, str] | None:
        try:
            with translated(f"object {self.uri(key)}"):
                found = self.client.get_object(**self.asked(key))
                return bytes(found["Body"].read()), found["ETag"]
        except NotFound:
            return None

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        written = self._put_on(condition, key, data)
        # versitygw 1.8 takes an object that was deleted for one that is there, while a version of it is left.
        if written is None and etag is None and self.versioned and self._forget_deleted(key):
            return self._put_on(condition, key, data)
        return written

    def _put_on(self, condition: Mapping[str, str], key: str, data: bytes) -> str | None:
        with translated(f"object {self.uri(key)}"):
            try:
                return str(self.client.put_object(**self.asked(key), Body=data, **condition).get("ETag", ""))
            except ClientError as error:
                if code_of(error) in LOST:
                    return None
                raise

    def _forget_deleted(self, key: str) -> bool:
        """Drop all versions and markers of an object whose newest is a marker; whether it is. What is put meanwhile
        stays. Cost: a request for each thousand of them."""
        versions, markers, is_deleted = [], [], False
        with translated(f"object {self.uri(key)}"):
            asked = {"Bucket": self.bucket, "Prefix": self._full(key)}
            for page in self.client.get_paginator("list_object_versions").paginate(**asked):
                versions += [blob for blob, _ in entries_of(page, "Versions") if blob.key == self._full(key)]
                found = [one for one in page.get("DeleteMarkers", ()) if one["Key"] == self._full(key)]
                markers += [Blob(one["Key"], 0, version=one["VersionId"]) for one in found]
                is_deleted = is_deleted or any(one["IsLatest"] for one in found)
        if is_deleted:
            for doomed in (versions, markers):  # The markers last: until they go, nothing older comes to light.
                self.delete(map(self._relative, doomed))
        return is_deleted

    def pin_all(self, blobs: Sequence[Blob], report: Report) -> Sequence[Pinned]:
        return s3_pinning.pin_all(self, blobs, report)

    def copy(self, key: str, destination: str, version: str = "") -> None:
        source = {"Bucket": self.bucket, "Key": self._full(key)}
        if version:
            source["VersionId"] = version
        with translated(f"object {self.uri(key)}"):
            self.client.copy(source, self.bucket, self._full(destination), Config=TRANSFER)

    def delete(self, blobs: Iterable[Blob]) -> None:
        named = []
        for blob in blobs:
            if _NOT_IN_XML.search(blob.key):
                with translated(f"object {self.uri(blob.key)}"):
                    self.client.delete_object(**self.asked(blob.key, blob.version))
            else:
                named.append(_object_identifier(self._full(blob.key), blob.version))
        for start in range(0, len(named), _BULK_KEYS_MAX):
            self.failpoint("objects.delete.before_batch")
            batch = {"Objects": named[start : start + _BULK_KEYS_MAX], "Quiet": True}
            with translated(f"objects of bucket {self.bucket!r}"):
                answer = self.client.delete_objects(Bucket=self.bucket, Delete=batch)
            refused = [one for one in answer.get("Errors", ()) if one.get("Code") not in GONE]
            if refused:
                raise StoreUnavailable(
                    f"{len(refused)} objects could not be deleted, the first: {refused[0]}", remedy="repeat"
                )

    def make_folder(self, prefix: str) -> None:
        return

    def drop_folder(self, prefix: str) -> None:
        self.delete(self.list_versions(prefix))

    def presign(self, key: str, *, version: str = "", seconds: int = 3600) -> str:
        if not 1 <= seconds <= _LINK_SECONDS_MAX:
            raise InvalidArgument(
                f"a link cannot hold {seconds} seconds", remedy=f"choose between 1 and {_LINK_SECONDS_MAX}, a week"
            )
        with translated(f"object {self.uri(key)}"):
            return str(
                self.client.generate_presigned_url("get_object", Params=self.asked(key, version), ExpiresIn=seconds)
            )

    def lifecycle(self) -> Sequence[Mapping[str, Any]]:
        """The bucket's enabled lifecycle rules; none where the server knows of none."""
        try:
            answer = self.client.get_bucket_lifecycle_configuration(Bucket=self.bucket)
        except ClientError as error:
            if code_of(error) in ("NoSuchLifecycleConfiguration", "NotImplemented", "501", "404"):
                return []
            with translated(f"lifecycle rules of bucket {self.bucket!r}"):
                raise
        return [rule for rule in answer.get("Rules", ()) if rule.get("Status") == "Enabled"]

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


def _object_identifier(key: str, version: str) -> dict[str, str]:
    return {"Key": key, "VersionId": version} if version else {"Key": key}


class _Unclosed(io.RawIOBase):
    """A stream that boto3 may not close: it closes what it uploads, and the file belongs to its opener."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
