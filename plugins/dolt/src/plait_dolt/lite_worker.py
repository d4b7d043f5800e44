"""The process that doltlite lives in: it takes over the `sqlite3` of its whole process, so it gets one of its own.

Run as a script, with no import of plait's. Frames on stdin and stdout: four bytes of length, then msgpack.

    first        [dolt_version, sqlite_version], or [null, why it cannot be loaded]
    request      [session, operation, arguments]
    answer       [session, true, result] or [session, false, [name of sqlite3's error, text]]

Each session is a connection with a thread of its own: one that waits for a lock holds nobody else up. The process ends
with its parent, when stdin does.
"""

from __future__ import annotations

import importlib
import os
import queue
import struct
import sys
import threading
from typing import IO, Any

import msgspec

_ROWS_AT_ONCE = 1000
_LOCK_SECONDS = 30


class Answers:
    """Where answers go, one whole frame after another."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, answer: object) -> None:
        frame = msgspec.msgpack.encode(answer)
        try:
            with self._lock:
                self._stream.write(struct.pack(">I", len(frame)) + frame)
                self._stream.flush()
        except BrokenPipeError:
            os._exit(0)  # The parent has ended: nobody is there to be told anything.


class Session:
    """One connection, and its cursors by number."""

    def __init__(self, number: int, answers: Answers) -> None:
        self._number = number
        self._answers = answers
        self._cursors: dict[int, Any] = {}
        self._connection: Any = None
        self.requests: queue.SimpleQueue[tuple[str, list[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while (request := self.requests.get()) is not None:
            operation, arguments = request
            try:
                answer = [self._number, True, getattr(self, operation)(*arguments)]
            except Exception as error:
                answer = [self._number, False, [type(error).__name__, str(error)]]
            try:
                self._answers.send(answer)
            except (TypeError, ValueError, OverflowError) as error:
                self._answers.send([self._number, False, ["DataError", f"a value cannot be carried: {error}"]])

    def open(self, uri: str, isolation: Any, statements: list[str]) -> None:
        import sqlite3

        self.close()
        self._connection = sqlite3.connect(
            uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=isolation, check_same_thread=False
        )
        for statement in statements:
            self._connection.execute(statement).close()

    def execute(self, cursor: int, sql: str, parameters: list[Any], many: bool) -> list[Any]:
        """[description or null, rows counted, last row's id, in a transaction?, first rows, are there more?]"""
        held = self._cursors.get(cursor)
        if held is None:
            held = self._cursors[cursor] = self._connection.cursor()
        if many:
            held.executemany(sql, parameters)
        else:
            held.execute(sql, parameters)
        names = None if held.description is None else [column[0] for column in held.description]
        rows = held.fetchmany(_ROWS_AT_ONCE) if names is not None else []
        more = len(rows) == _ROWS_AT_ONCE
        return [names, held.rowcount, held.lastrowid, self._connection.in_transaction, rows, more]

    def fetch(self, cursor: int) -> list[Any]:
        rows = self._cursors[cursor].fetchmany(_ROWS_AT_ONCE)
        return [rows, len(rows) == _ROWS_AT_ONCE]

    def forget(self, cursor: int) -> None:
        held = self._cursors.pop(cursor, None)
        if held is not None:
            held.close()

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._cursors.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def load() -> list[Any]:
    """The versions, as the first frame says them; doltlite has `sqlite3` then, and nothing had it before."""
    try:
        importlib.import_module("doltlite")  # Before sqlite3, which it takes over.
        import sqlite3

        found = sqlite3.connect(":memory:").execute("SELECT dolt_version()").fetchone()[0]
    except Exception as error:
        return [None, f"{type(error).__name__}: {error}"]
    return [found, sqlite3.sqlite_version]


def main() -> None:
    requests = sys.stdin.buffer
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # What else prints, prints to stderr.
    answers.send(load())
    sessions: dict[int, Session] = {}
    while header := requests.read(4):
        number, operation, arguments = msgspec.msgpack.decode(requests.read(struct.unpack(">I", header)[0]))
        session = sessions.get(number)
        if session is None:
            session = sessions[number] = Session(number, answers)
        session.requests.put((operation, arguments))
        if operation == "close":
            sessions.pop(number).requests.put(None)
    os._exit(0)  # The parent has ended: threads that wait for locks are not waited for.


if __name__ == "__main__":
    main()
