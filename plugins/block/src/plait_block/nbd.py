"""A small NBD client: enough to read, write and ask what is allocated, on any Python, without a C library.

Source: the NBD protocol, fixed newstyle with structured replies (github.com/NetworkBlockDevice/nbd, doc/proto.md).
Requests are sent ahead of their answers; a lost connection is StoreUnavailable, and a new client goes on.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported

ALLOCATION_DEPTH: Final = "qemu:allocation-depth"
_SECONDS_MAX: Final = 60
_REQUEST_MAX: Final = 1 << 20
_STATUS_MAX: Final = 1 << 30
_FLYING_MAX: Final = 32
"""Twice as many as qemu works on at once: it is kept busy while half of them are sent in one piece."""
_BUFFER_BYTES: Final = 256 << 10

_OPTION, _OPTION_REPLY = 0x49484156454F5054, 0x0003E889045565A9
_REQUEST_HEAD: Final = struct.Struct(">IHHQQI")
_REQUEST: Final = 0x25609513
_SIMPLE_MAGIC, _STRUCTURED_MAGIC = b"\x67\x44\x66\x98", b"\x66\x8e\x33\xef"
_STRUCTURED_HEAD: Final = struct.Struct(">4xHHQ")
_OPT_GO, _OPT_STRUCTURED, _OPT_META = 7, 8, 10
_REP_ACK, _REP_INFO, _REP_META = 1, 3, 4
_REP_UNKNOWN = 0x80000006
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _ZEROES, _STATUS = 0, 1, 2, 3, 4, 6, 7
_FLAG_READ_ONLY = 2
_OFFSET_DATA, _BLOCK_STATUS, _IS_ERROR = 1, 5, 0x8000
_ERRORS = {1: PermissionDenied, 22: InvalidArgument}
_SHUT_OUT: Final = 108
"""ESHUTDOWN: the storage behind the server took it for dead."""


@dataclass(slots=True)
class _Flight:
    """What was asked and is not answered yet. `waits`: for how many answers; `content`: the bytes that came, of
    `length` in all; what did not come is zero."""

    start: int
    length: int = 0
    content: bytes | bytearray = b""
    waits: int = 0
    code: int = 0
    said: str = ""

    def take_in(self, kind: int, payload: bytes) -> None:
        if kind == _OFFSET_DATA:
            if len(payload) - 8 == self.length:
                self.content = payload[8:]
                return
            if not self.content:
                self.content = bytearray(self.length)
            assert isinstance(self.content, bytearray)
            at = int.from_bytes(payload[:8], "big") - self.start
            self.content[at : at + len(payload) - 8] = memoryview(payload)[8:]
        elif kind == _BLOCK_STATUS:
            self.content += payload[4:]
        elif kind & _IS_ERROR:
            code, length = struct.unpack(">IH", payload[:6])
            self.fail(code, payload[6 : 6 + length])

    def fail(self, code: int, said: bytes) -> None:
        self.code, self.said = self.code or code, self.said or said.decode(errors="replace")


class NbdClient:
    """One connection to one export. Not thread-safe. Offsets and lengths in bytes."""

    def __init__(self, path: Path, export: str) -> None:
        """Connect. Raises: NotFound when there is no such export, StoreUnavailable."""
        self.export = export
        self.size_bytes = 0
        self.is_writable = False
        self._context: int | None = None
        self._cookie = 0
        self._flights: dict[int, _Flight] = {}
        self._unsent = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS_MAX)
        try:
            self._socket.connect(str(path))
            self._answers = self._socket.makefile("rb", _BUFFER_BYTES)
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
        return next(self.read_many([(offset, offset + length)]))

    def read_many(self, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of ranges (start, end), in order, asked for ahead of their turn. Raises: as `read`."""
        flying: deque[_Flight] = deque()
        for start, end in ranges:
            self._check(start, end - start)
            flight = _Flight(start, end - start)
            flying.append(flight)
            for at in range(start, end, _REQUEST_MAX):
                self._send(_READ, at, min(_REQUEST_MAX, end - at), flight=flight)
            if len(flying) >= _FLYING_MAX:
                while len(flying) > _FLYING_MAX // 2:
                    yield self._landed(flying)
        while flying:
            yield self._landed(flying)

    def write(self, offset: int, content: bytes) -> None:
        """Durable only after `flush`. Raises: Unsupported on a read-only export, InvalidArgument."""
        self.write_many([(offset, content)])

    def write_many(self, parts: Iterable[tuple[int, bytes]]) -> None:
        """As `write` of each (offset, bytes), without waiting for one before the next is sent."""
        flying: deque[_Flight] = deque()
        for offset, content in parts:
            self._check_writable(offset, len(content))
            for at in range(0, len(content), _REQUEST_MAX):
                part = content[at : at + _REQUEST_MAX]
                flying.append(_Flight(offset))
                self._send(_WRITE, offset + at, len(part), part, flight=flying[-1])
                while len(flying) >= _FLYING_MAX:
                    self._landed(flying)
        while flying:
            self._landed(flying)

    def write_zeroes(self, offset: int, length: int) -> None:
        """As `write` of zeroes, without sending them."""
        self._check_writable(offset, length)
        for at in range(0, length, _STATUS_MAX):
            self._wait(self._send(_ZEROES, offset + at, min(_STATUS_MAX, length - at)))

    def flush(self) -> None:
        """Everything that was written is durable when this returns."""
        self._wait(self._send(_FLUSH, 0, 0))

    def allocated(self, depth: int) -> Iterator[tuple[int, int]]:
        """Ranges (start, end) that the `depth` topmost layers hold, in order. Cost: O(extents), no data is read."""
        at = 0
        while at < self.size_bytes:
            flight = self._send(_STATUS, at, min(_STATUS_MAX, self.size_bytes - at))
            self._wait(flight)
            for length, found in struct.iter_unpack(">II", flight.content):
                if 0 < found <= depth:
                    yield at, at + length
                at += length

    def close(self) -> None:
        """Repeat: no-op."""
        if self._socket.fileno() >= 0:
            with suppress(OSError, StoreUnavailable):  # The server may have gone first.
                self._send(_DISCONNECT, 0, 0)
                self._send_out()
            self._answers.close()
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

    def _send(
        self, command: int, offset: int, length: int, content: bytes = b"", *, flight: _Flight | None = None
    ) -> _Flight:
        flight = flight or _Flight(offset)
        flight.waits += 1
        self._cookie += 1
        self._flights[self._cookie] = flight
        self._unsent += _REQUEST_HEAD.pack(_REQUEST, 0, command, self._cookie, offset, length)
        self._unsent += content
        if len(self._unsent) > _BUFFER_BYTES:
            try:
                self._send_out()
            except OSError as error:
                raise self._lost(error) from error
        return flight

    def _send_out(self) -> None:
        unsent, self._unsent = self._unsent, bytearray()
        if unsent:
            self._socket.sendall(unsent)

    def _landed(self, flying: deque[_Flight]) -> bytes:
        """What the first of these requests is answered."""
        flight = flying.popleft()
        self._wait(flight)
        return bytes(flight.content) if flight.content else bytes(flight.length)

    def _wait(self, flight: _Flight) -> None:
        """Take in answers, in whatever order they come, until this one is whole. Raises: what it was answered."""
        try:
            self._send_out()
            while flight.waits:
                self._take_in()
        except OSError as error:
            raise self._lost(error) from error
        if flight.code:
            error_type = _ERRORS.get(flight.code, StoreUnavailable)
            said = f"{flight.said}: {os.strerror(flight.code)}" if flight.said else os.strerror(flight.code)
            remedy = "open the volume again; what was not flushed is lost" if flight.code == _SHUT_OUT else ""
            raise error_type(f"export {self.export!r} refused: {said}", remedy=remedy)

    def _take_in(self) -> None:
        """One chunk of an answer."""
        head = self._receive(16)
        if head.startswith(_STRUCTURED_MAGIC):
            flags, kind, cookie = _STRUCTURED_HEAD.unpack(head)
            flight = self._flights[cookie]
            flight.take_in(kind, self._receive(int.from_bytes(self._receive(4), "big")))
            if flags & 1:
                del self._flights[cookie]
                flight.waits -= 1
        elif head.startswith(_SIMPLE_MAGIC):
            code, cookie = struct.unpack(">4xIQ", head)
            flight = self._flights.pop(cookie)
            flight.fail(code, b"")
            flight.waits -= 1
        else:
            raise StoreUnavailable("the NBD server broke the protocol")

    def _receive(self, length: int) -> bytes:
        content: bytes = self._answers.read(length)
        if len(content) < length:
            raise ConnectionResetError("the server closed the connection")
        return content

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
