"""A real catalog server for tests: `python -m plait_server` in a process of its own, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_READY = re.compile(r"serving (plaits?)://127\.0\.0\.1:(\d+)/(\S+) · http://127\.0\.0\.1:(\d+)")


@dataclass(slots=True)
class ServerProcess:
    """A running server. `folder` holds its database and its log; the same folder can be served again."""

    folder: Path
    process: subprocess.Popen[str]
    url: str
    http: str
    ports: tuple[int, int]

    @property
    def log(self) -> str:
        """What it logged until now: a JSON object a line."""
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def stop(self) -> int:
        """Ask it to stop gracefully and wait; its exit code. Repeat: no-op."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Until it ends, at a failpoint say; its exit code."""
        try:
            return self.process.wait(_STOP_SECONDS)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


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
    Raises: AssertionError with the log when it ends instead.
    """
    command = [sys.executable, "-m", "plait_server", "--init", "--database", database or database_url(folder)]
    command += ["--grpc", f"127.0.0.1:{ports[0]}", "--http", f"127.0.0.1:{ports[1]}", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLAIT_")}
    with (folder / "server.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            env={**inherited, **(environment or {})},
        )
    ready = _READY.search(_first_line(process))
    if ready is None:
        process.kill()
        process.wait()
        raise AssertionError(f"the server did not start: {(folder / 'server.log').read_text(encoding='utf-8')[-4000:]}")
    scheme, grpc_port, repository, http_port = ready.groups()
    return ServerProcess(
        folder,
        process,
        f"{scheme}://127.0.0.1:{grpc_port}/{repository}",
        f"http://127.0.0.1:{http_port}",
        (int(grpc_port), int(http_port)),
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


def _first_line(process: subprocess.Popen[str]) -> str:
    """The first line it prints, empty when it ends or prints nothing in time."""
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(timeout=0.5):
                return process.stdout.readline()
    return ""
