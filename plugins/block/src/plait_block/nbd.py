"""A small NBD client: enough to read, write and ask what is allocated, on any Python, without a C library.

Source: the NBD protocol, fixed newstyle with structured replies (github.com/NetworkBlockDevice/nbd, doc/proto.md).
One request at a time; a lost connection is StoreUnavailable, and a new client goes on.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported

ALLOCATION_DEPTH: Final = "qemu:allocation-depth"
_SECONDS_MAX: Final = 60
_REQUEST_MAX: Final = 1 << 20
_STATUS_MAX: Final = 1 << 30

_OPTION, _OPTION_REPLY = 0x49484156454F5054, 0x0003E889045565A9
_REQUEST, _SIMPLE, _STRUCTURED = 0x25609513, 0x67446698, 0x668E33EF
_OPT_GO, _OPT_STRUCTURED, _OPT_META = 7, 8, 10
_REP_ACK, _REP_INFO, _REP_META = 1, 3, 4
_REP_UNKNOWN = 0x80000006
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _ZEROES, _STATUS = 0, 1, 2, 3, 4, 6, 7
_FLAG_READ_ONLY = 2
_OFFSET_DATA, _OFFSET_HOLE, _BLOCK_STATUS = 1, 2, 5
_ERRORS = {1: PermissionDenied, 22: InvalidArgument}


class NbdClient:
    """One connection to one export. Not thread-safe. Offsets and lengths in bytes."""

    def __init__(self, path: Path, export: str) -> None:
        """Connect. Raises: NotFound when there is no such export, StoreUnavailable."""
        self.export = export
        self.size_bytes = 0
        self.is_writable = False
        self._context: int | None = None
        self._cookie = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS_MAX)
        try:
            self._socket.connect(str(path))
            self._negotiate()
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what users call ---------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """Bytes as they are now. Raises: InvalidArgument outside of the volume, StoreUnavailable."""
        self._check(offset, length)
        content = bytearray(length)
        for at in range(0, length, _REQUEST_MAX):
            count = min(_REQUEST_MAX, length - at)
            self._send(_READ, offset + at, count)
            for kind, payload in self._replies():
                start = struct.unpack(">Q", payload[:8])[0] - offset
                if kind == _OFFSET_DATA:
                    content[start : start + len(payload) - 8] = payload[8:]
        return bytes(content)

    def write(self, offset: int, content: bytes) -> None:
        """Durable only after `flush`. Raises: Unsupported on a read-only export, InvalidArgument."""
        self._check_writable(offset, len(content))
        for at in range(0, len(content), _REQUEST_MAX):
            part = content[at : at + _REQUEST_MAX]
            self._send(_WRITE, offset + at, len(part), part)
            self._done()

    def write_zeroes(self, offset: int, length: int) -> None:
        """As `write` of zeroes, without sending them."""
        self._check_writable(offset, length)
        for at in range(0, length, _STATUS_MAX):
            self._send(_ZEROES, offset + at, min(_STATUS_MAX, length - at))
            self._done()

    def flush(self) -> None:
        """Everything that was written is durable when this returns."""
        self._send(_FLUSH, 0, 0)
        self._done()

    def allocated(self, depth: int) -> Iterator[tuple[int, int]]:
        """Ranges (start, end) that the `depth` topmost layers hold, in order. Cost: O(extents), no data is read."""
        at = 0
        while at < self.size_bytes:
            self._send(_STATUS, at, min(_STATUS_MAX, self.size_bytes - at))
            for kind, payload in self._replies():
                if kind != _BLOCK_STATUS:
                    continue
                for length, found in struct.iter_unpack(">II", payload[4:]):
                    if 0 < found <= depth:
                        yield at, at + length
                    at += length

    def close(self) -> None:
        """Repeat: no-op."""
        if self._socket.fileno() >= 0:
            with suppress(StoreUnavailable):  # The server may have gone first.
                self._send(_DISCONNECT, 0, 0)
            self._socket.close()

    # -- the protocol ------------------------------------------------------------------------------------------------

    def _negotiate(self) -> None:
        magic, option, flags = struct.unpack(">QQH", self._receive(18))
        if magic != 0x4E42444D41474943 or option != _OPTION or not flags & 1:
            raise StoreUnavailable("what listens on the socket does not speak NBD's fixed newstyle")
        self._socket.sendall(struct.pack(">I", 3))
        name = self.export.encode()
        for _ in self._option(_OPT_STRUCTURED, b""):
            pass
        query = ALLOCATION_DEPTH.encode()
        body = struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(query)) + query
        for kind, payload in self._option(_OPT_META, body):
            if kind == _REP_META:
                self._context = struct.unpack(">I", payload[:4])[0]
        for kind, payload in self._option(_OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">H", 0)):
            if kind == _REP_INFO and payload[:2] == b"\0\0":
                self.size_bytes, flags = struct.unpack(">QH", payload[2:12])
                self.is_writable = not flags & _FLAG_READ_ONLY

    def _option(self, option: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        self._socket.sendall(struct.pack(">QII", _OPTION, option, len(body)) + body)
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._receive(20))
            payload = self._receive(length)
            if magic != _OPTION_REPLY:
                raise StoreUnavailable("the NBD server broke the handshake")
            if kind == _REP_UNKNOWN:
                raise NotFound(f"there is no export {self.export!r}")
            if kind & 0x80000000:
                raise StoreUnavailable(f"the NBD server refused option {option}: {payload.decode(errors='replace')}")
            if kind == _REP_ACK:
                return
            yield kind, payload

    def _send(self, command: int, offset: int, length: int, content: bytes = b"") -> None:
        self._cookie += 1
        try:
            header = struct.pack(">IHHQQI", _REQUEST, 0, command, self._cookie, offset, length)
            self._socket.sendall(header + content)
        except OSError as error:
            raise self._lost(error) from error

    def _replies(self) -> Iterator[tuple[int, bytes]]:
        """The chunks that answer the last request."""
        try:
            is_done = False
            while not is_done:
                (magic,) = struct.unpack(">I", self._receive(4))
                if magic == _SIMPLE:
                    code, cookie = struct.unpack(">IQ", self._receive(12))
                    self._raise_for(code, "")
                    kind, payload, is_done = 0, b"", True
                elif magic == _STRUCTURED:
                    flags, kind, cookie, length = struct.unpack(">HHQI", self._receive(16))
                    payload, is_done = self._receive(length), bool(flags & 1)
                else:
                    raise StoreUnavailable("the NBD server broke the protocol")
                assert cookie == self._cookie
                if kind & 0x8000:
                    code, size = struct.unpack(">IH", payload[:6])
                    self._raise_for(code, payload[6 : 6 + size].decode(errors="replace"))
                yield kind, payload
        except OSError as error:
            raise self._lost(error) from error

    def _done(self) -> None:
        for _ in self._replies():
            pass

    def _raise_for(self, code: int, text: str) -> None:
        if code:
            error = _ERRORS.get(code, StoreUnavailable)
            raise error(f"export {self.export!r} refused: {text or os.strerror(code)}")

    def _receive(self, length: int) -> bytes:
        content = bytearray(length)
        view = memoryview(content)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionResetError("the server closed the connection")
            view = view[count:]
        return bytes(content)

    def _lost(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"export {self.export!r} cannot be reached: {error.strerror or error}",
            remedy="open the volume again: that starts its daemon when it is gone",
        )

    def _check_writable(self, offset: int, length: int) -> None:
        self._check(offset, length)
        if not self.is_writable:
            raise Unsupported(
                f"export {self.export!r} is a committed volume and cannot change",
                remedy="open it inside a transaction: catalog.transaction(ref) as tx, then tx.open(key)",
            )

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise InvalidArgument(
                f"bytes {offset} to {offset + length} are outside of the volume, which has {self.size_bytes}"
            )
