"""A real catalog server for tests: `-m plait_server` in a process of its own, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plait.plugins import MODULES

from plait_conformance.forking import Forked

_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_READY = re.compile(r"serving plait(s?)://127\.0\.0\.1:(\d+)/(\S+) · https?://127\.0\.0\.1:(\d+)")


class DidNotStart(AssertionError):
    """A server ended before it was ready; `code` is its exit code."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"the server did not start: exit code {code}: {log[-4000:]}")
        self.code = code


@dataclass(slots=True)
class ServerProcess:
    """A running server. `folder` holds its database and its log; the same folder can be served again."""

    folder: Path
    process: Forked
    url: str
    http: str
    ports: tuple[int, int]
    database: str

    @property
    def log(self) -> str:
        """What it logged until now: a JSON object a line."""
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def stop(self) -> int:
        """Ask it to stop gracefully and wait; its exit code. Repeat: no-op."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Until it ends, at a failpoint say; its exit code. Raises: AssertionError with where its threads are."""
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the server does not end: {self.log[-20_000:]}") from error


def database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'catalog.db'}"


def start_server(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    ports: tuple[int, int] = (0, 0),
    database: str | None = None,
) -> ServerProcess:
    """Start a server over the folder's database, made when it is not there, and wait until it is ready.

    `ports` are those of gRPC and HTTP, 0 for free ones: give those of a server that died to take its place.
    Raises: DidNotStart with the log when it ends instead.
    """
    database = database or database_url(folder)
    words = ["-m", "plait_server", "--init", "--database", database]
    words += ["--grpc", f"127.0.0.1:{ports[0]}", "--http", f"127.0.0.1:{ports[1]}", *arguments]
    inherited = {name: value for name, value in os.environ.items() if name == MODULES or not name.startswith("PLAIT_")}
    output = folder / f"server-{uuid.uuid4().hex[:8]}.out"
    log = folder / "server.log"
    log.touch()
    process = Forked(words, environment={**inherited, **(environment or {})}, folder=folder, output=output, errors=log)
    ready = _READY.search(_first_line(process, output))
    if ready is None:
        process.kill()
        raise DidNotStart(process.wait(), log.read_text(encoding="utf-8"))
    secure, grpc_port, repository, http_port = ready.groups()
    return ServerProcess(
        folder,
        process,
        f"plait{secure}://127.0.0.1:{grpc_port}/{repository}",
        f"http{secure}://127.0.0.1:{http_port}",
        (int(grpc_port), int(http_port)),
        database,
    )


@contextmanager
def serving(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, database: str | None = None
) -> Iterator[ServerProcess]:
    """A server for the length of a block, stopped gracefully at its end."""
    server = start_server(folder, *arguments, environment=environment, database=database)
    try:
        yield server
    finally:
        server.stop()


def _first_line(process: Forked, output: Path) -> str:
    """The first line it prints, empty when it ends or prints nothing in time."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        text = output.read_text(encoding="utf-8") if output.exists() else ""
        if "\n" in text or ended:
            return text
        time.sleep(0.01)
    return ""
