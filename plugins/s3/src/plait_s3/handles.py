"""Open objects: files that are read in ranges, or written as wholes."""

from __future__ import annotations

import io
import tempfile
from typing import Any, Final

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from plait_s3.blobs import Blobs
from plait_s3.committed import Reading
from plait_s3.overlay import Found

_SPOOLED_BYTES_MAX: Final = 8 << 20


class Reader(AbstractBufferedFile):  # type: ignore[misc]
    """Reads ranges of what a key held when it was opened; a version, where the store has them, even after that.

    Once everything from start to end was read, without a gap, it is compared with what was committed. Raises: Corrupt.
    """

    def __init__(
        self, fs: AbstractFileSystem, blobs: Blobs, key: str, found: Found, block_size: Any, cache_options: Any
    ) -> None:
        self._reading = Reading(blobs, key, found)
        options = {} if block_size is None else {"block_size": block_size}
        super().__init__(fs, key, mode="rb", size=found.size_bytes, cache_options=cache_options, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._reading.get(start, end)

    def read(self, length: int | None = -1) -> bytes:
        start, rest = self.loc, self.size - self.loc
        data: bytes = super().read(length)
        done = self._reading.done_bytes
        if start <= done:  # fsspec reads lines by going back to their ends.
            self._reading.add(memoryview(data)[done - start :])
            is_short = len(data) < (rest if length is None or length < 0 else min(length, rest))
            if is_short or self._reading.done_bytes == self.size:
                self._reading.end()
        return data


class Writer(io.BufferedIOBase):
    """Collects an object and puts it whole when closed: nobody ever sees half of it."""

    def __init__(self, blobs: Blobs, target: str) -> None:
        self._blobs = blobs
        self._target = target
        # Closed with the writer.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES_MAX)  # noqa: SIM115

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._spool.write(data)

    def tell(self) -> int:
        return self._spool.tell()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def discard(self) -> None:
        """Whoever wrote did not come to the end: what was there before stays."""
        self._spool.close()
        super().close()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._spool.seek(0)
            self._blobs.put(self._target, self._spool)  # type: ignore[arg-type]
        finally:
            self._spool.close()
            super().close()
