"""The parent's side of doltlite's process: started when it is first needed, and again when it has died."""

from __future__ import annotations

import os
import queue
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from plait.errors import PlaitError, StoreUnavailable

_WORKER = Path(__file__).with_name("lite_worker.py")
_MARK = "_DOLTLITE_BOOTSTRAPPED"
_REMEDY = "pip install doltlite; it needs a Python whose sqlite3 is a shared library (docs/stores/dolt.md)"


class EngineError(Exception):
    """An error of the other process' sqlite3: the name of its class, and its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Process:
    """doltlite in a process of its own. Thread-safe; each session is one thread's at a time."""

    def __init__(self) -> None:
        # This marker would tell the child that doltlite is loaded already.
        environment = {name: value for name, value in os.environ.items() if name != _MARK}
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._writing = threading.Lock()
        self._knowing = threading.Lock()
        self._has_ended = False
        self._owner = os.getpid()
        self._answers: dict[int, queue.SimpleQueue[list[Any] | None]] = {}
        self._numbers = count(1)
        first = self._read()
        if first is None or first[0] is None:
            self.close()
            if first is None:
                why = f"its process ended at once, with code {self._process.returncode}"
                raise StoreUnavailable(f"doltlite cannot be loaded: {why}", remedy=f"retry; else: {_REMEDY}")
            raise StoreUnavailable(f"doltlite cannot be loaded: {first[1]}", remedy=_REMEDY)
        self.version, self.sqlite_version = str(first[0]), str(first[1])
        threading.Thread(target=self._listen, name="doltlite", daemon=True).start()

    @property
    def is_mine(self) -> bool:
        """False in a child that this process forked: its pipes are the parent's."""
        return self._owner == os.getpid()

    @property
    def is_alive(self) -> bool:
        return not self._has_ended and self._process.poll() is None

    def session(self) -> int:
        """A new session's number."""
        number = next(self._numbers)
        with self._knowing:
            self._answers[number] = queue.SimpleQueue()
            if self._has_ended:
                self._answers[number].put(None)
        return number

    def ask(self, session: int, operation: str, *arguments: object) -> Any:
        """One operation's result. Raises: EngineError, StoreUnavailable when the process has died."""
        waiting = self._answers.get(session)
        if waiting is None:
            raise EngineError("ProgrammingError", "Cannot operate on a closed database.")
        frame = msgspec.msgpack.encode([session, operation, arguments])
        try:
            with self._writing:
                assert self._process.stdin is not None
                self._process.stdin.write(struct.pack(">I", len(frame)) + frame)
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._died() from error
        answer = waiting.get()
        if answer is None:
            waiting.put(None)
            raise self._died()
        if not answer[1]:
            raise EngineError(*answer[2])
        return answer[2]

    def end(self, session: int) -> None:
        """Close a session. Repeat: no-op."""
        if session in self._answers:
            with suppress(PlaitError, EngineError):  # It is gone with its process.
                self.ask(session, "close")
            with self._knowing:
                self._answers.pop(session, None)

    def _died(self) -> StoreUnavailable:
        return StoreUnavailable("the process of doltlite has ended", remedy="retry: it is started again")

    def _read(self) -> list[Any] | None:
        assert self._process.stdout is not None
        header = self._process.stdout.read(4)
        if len(header) < 4:
            return None
        body = self._process.stdout.read(struct.unpack(">I", header)[0])
        found: list[Any] = msgspec.msgpack.decode(body)
        return found

    def _listen(self) -> None:
        try:
            while (answer := self._read()) is not None:
                waiting = self._answers.get(answer[0])
                if waiting is not None:
                    waiting.put(answer)
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # Cut off in the middle: it has died, or was closed.
        with self._knowing:
            self._has_ended = True
            for waiting in self._answers.values():
                waiting.put(None)

    def close(self) -> None:
        """End the process. Repeat: no-op."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError, ValueError):  # What was not sent is not wanted any more.
                    stream.close()
