"""The two kinds of store: a directory on a disk, and a prefix of a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from plait.adapter import Context, folder_option
from plait.errors import PlaitError
from plait.types import Risk, Store

from plait_s3.adapter import ObjectAdapter
from plait_s3.disk import FilesBlobs
from plait_s3.probe import unusable

if TYPE_CHECKING:
    from plait_s3.s3_blobs import S3Blobs


class FilesAdapter(ObjectAdapter):
    """A directory on a local disk. Options: `path` (absolute), `copy` (false: refuse imports, which copy), `csv_keys`
    (see `mergers_by_keys`)."""

    kind: ClassVar[str] = "files"
    options_known: ClassVar[frozenset[str]] = frozenset({"path", "copy", "csv_keys"})
    option_needed: ClassVar[str] = "path"
    copies: ClassVar[str] = "true"

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self._folder = folder_option(store, "path")

    def local_folder(self) -> str:
        return self._folder

    def _connect(self) -> FilesBlobs:
        return FilesBlobs(self._folder, self.context.failpoint)


class S3Adapter(ObjectAdapter):
    """A prefix of a bucket. Options: `bucket`, `prefix`, `endpoint`, `region`, `access_key`, `secret_key`, and `copy`
    and `csv_keys` as of `files`."""

    kind: ClassVar[str] = "s3"
    options_known: ClassVar[frozenset[str]] = frozenset(
        {"bucket", "prefix", "endpoint", "region", "access_key", "secret_key", "copy", "csv_keys"}
    )
    option_needed: ClassVar[str] = "bucket"
    copies: ClassVar[str] = "false"

    def _connect(self) -> S3Blobs:
        # boto3 takes a third of a second to import, which commands on other stores need not pay.
        from plait_s3.s3_blobs import S3Blobs

        return S3Blobs(self.store.options, self.context.failpoint, self.context.credential)

    def check(self) -> Sequence[str]:
        from plait_s3.bucket_rules import problems

        # First: there are servers that make a missing bucket as soon as one writes to it.
        try:
            found = list(problems(self._bucket))
        except PlaitError as error:
            return (unusable(self.blobs, error),)
        return [*found, *super().check()]

    def retention_risks(self) -> Iterator[Risk]:
        from plait_s3.bucket_rules import risks

        yield from risks(self._bucket)

    @property
    def _bucket(self) -> S3Blobs:
        return cast("S3Blobs", self.blobs)
