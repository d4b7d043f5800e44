"""Real servers for tests: started in a folder, on a free port of 127.0.0.1, stopped by their process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POSTGRESQL_REMEDY = "apt-get install postgresql"
_START_SECONDS = 60
_STARTS_MAX = 3
"""Another process may take the free port before the server does: then another one is tried."""


def postgresql_folder() -> Path | None:
    """Where the newest installed PostgreSQL has its programs, or None when there is none."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: _major(path.parent.parent.name)
    )
    if installed:
        return installed[-1].parent
    config = shutil.which("pg_config")
    if config is None:
        return None
    folder = Path(subprocess.run([config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
    return folder if (folder / "postgres").exists() else None


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own in an empty folder, as durable as in production: yields ``postgresql://…`` without a
    database's name; ``/postgres`` is there to connect to.

    The server refuses to run as root, so then it runs as the user `postgres`, who must be able to reach the folder.

    Raises: FileNotFoundError when no server is installed, RuntimeError with its log when it does not start.
    """
    programs = postgresql_folder()
    if programs is None:
        raise FileNotFoundError(f"no PostgreSQL server is installed: {POSTGRESQL_REMEDY}")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    rows = folder / "rows"
    make: list[str | Path] = [
        programs / "initdb",
        "--no-sync",
        "--auth=trust",
        "--username=plait",
        "--encoding=UTF8",
        "--locale=C",
    ]
    made = subprocess.run(_unprivileged([*make, "-D", rows]), cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr}")
    process, port = _start(programs, folder)
    try:
        yield f"postgresql://plait@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGQUIT)  # PostgreSQL's "immediate shutdown": nobody needs a last checkpoint.
        try:
            process.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(programs: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "log"
    for _ in range(_STARTS_MAX):
        port = free_port()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "on",
            "max_connections": 100,
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = _unprivileged([programs / "postgres", "-D", folder / "rows", *options])
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        if _becomes_ready(process, folder / "rows" / "postmaster.pid"):
            return process, port
        process.kill()
        process.wait()
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


def _becomes_ready(process: subprocess.Popen[bytes], status: Path) -> bool:
    """Wait for the line in which the server itself says that it takes connections."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return True
        time.sleep(0.02)
    return False


def _unprivileged(command: Sequence[str | Path]) -> list[str]:
    """The command as a user who may run servers, and who dies with this process where the system can do that."""
    setpriv = shutil.which("setpriv")
    words = [str(word) for word in command]
    if setpriv is None:
        return words
    identity = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return [setpriv, *identity, "--pdeathsig", "INT", *words]


def _major(name: str) -> int:
    return int(name) if name.isdigit() else 0
