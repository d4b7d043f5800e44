"""The monitor of a qemu-storage-daemon (QMP): one command after the other, over a socket of the file system.

Source: https://www.qemu.org/docs/master/interop/qmp-spec.html. The library qemu.qmp runs an event loop for this, in a
thread of its own, and writes each message out for its log: a third of the CPU of a volume's commit
(docs/decisions/0013).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_SECONDS_MAX: Final = 60


class CommandFailed(Exception):
    """The daemon's words on a command that it refused."""


class Qmp:
    """One conversation, for one thread; its end is the connection's.

    Raises: OSError wherever the daemon does not answer, or is gone.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_SECONDS_MAX)
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._receive("QMP")
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """What the command returns. Raises: CommandFailed."""
        asked = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._socket.sendall(json.dumps(asked).encode())
        return self._receive("return")

    def _receive(self, member: str) -> Any:
        """That member of the next message that has it. Events, which nobody asked for, come between."""
        while line := self._lines.readline():
            try:
                message = json.loads(line)
            except ValueError as error:
                raise ConnectionError(f"not a message of QMP: {line[:80]!r}") from error
            if member in message:
                return message[member]
            if "error" in message:
                raise CommandFailed(str(message["error"].get("desc")))
        raise ConnectionError("the connection ended before the answer")
