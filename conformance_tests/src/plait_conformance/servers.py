"""Real servers for tests: started in a folder, on a free port of 127.0.0.1, stopped by their process id."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

POSTGRESQL_REMEDY = "apt-get install postgresql"
DOLT_REMEDY = "bash scripts/engines.sh, which builds it with Go"
_START_SECONDS = 60
_PORTS = random.SystemRandom()  # Hypothesis seeds the usual one, in all of a run's processes alike.
STARTS_MAX = 3
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


def dolt_program() -> Path | None:
    """Where Dolt's program is: in plait's cache, else on the path."""
    cache = Path(os.environ.get("PLAIT_CACHE") or Path.home() / ".cache/plait")
    found = shutil.which("dolt", path=os.pathsep.join([str(cache / "bin"), os.environ.get("PATH", "")]))
    return None if found is None else Path(found)


class DoltServer:
    """A Dolt SQL server of its own over an empty folder; `kill` and `start` again to see what survives."""

    def __init__(self, folder: Path) -> None:
        program = dolt_program()
        if program is None:
            raise FileNotFoundError(f"no Dolt is installed: {DOLT_REMEDY}")
        self._program = program
        self._folder = folder
        # Dolt leaves an empty file behind for each database where temporary files go.
        self._environment = {**os.environ, "HOME": str(folder), "DOLT_ROOT_PATH": str(folder), "TMPDIR": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        (folder / "databases").mkdir(exist_ok=True)
        for name, value in _DOLT_SETTINGS.items():
            command = [str(program), "config", "--global", "--add", name, value]
            subprocess.run(command, check=True, capture_output=True, cwd=folder, env=self._environment)

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}"

    @property
    def databases(self) -> Path:
        return self._folder / "databases"

    def start(self) -> None:
        """Raises: RuntimeError with its log when it does not start."""
        for _ in range(STARTS_MAX):
            self.port = self.port or free_port()
            configuration = self._folder / "server.yaml"
            configuration.write_text(_DOLT_CONFIGURATION.format(port=self.port, folder=self.databases))
            with (self._folder / "log").open("ab") as output:
                self._process = subprocess.Popen(
                    dying_with_parent([str(self._program), "sql-server", "--config", str(configuration)]),
                    cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
            if comes_to_listen(self._process, self.port):
                return
            self.kill()
            self.port = 0
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"Dolt does not start: {log[-2000:]}")

    def kill(self) -> None:
        """Kill it with signal 9, as a power cut would. Repeat: no-op."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections in this block, as the system does that for it, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # It may be answering just now.
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


_DOLT_SETTINGS = {
    # First, or every command below calls home.
    "metrics.disabled": "true",
    "versioncheck.disabled": "true",
    "user.name": "plait",
    "user.email": "plait@localhost",
}
_DOLT_CONFIGURATION = """\
log_level: warning
behavior:
  autocommit: true
  dolt_transaction_commit: false
  auto_gc_behavior:
    enable: false
listener:
  host: 127.0.0.1
  port: {port}
data_dir: {folder}
"""


@contextmanager
def dolt_server(folder: Path) -> Iterator[DoltServer]:
    """A running Dolt SQL server. Raises: FileNotFoundError when there is no program, RuntimeError with its log."""
    server = DoltServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listened on a moment ago; none of those that systems give to outgoing
    connections, which could take one before its server does."""
    found: list[int] = []
    with ExitStack() as probes:
        while len(found) < count:
            probe, port = probes.enter_context(socket.socket()), _PORTS.randrange(20_000, 32_000)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def _start(programs: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "log"
    for _ in range(STARTS_MAX):
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


def comes_to_listen(
    process: subprocess.Popen[bytes], port: int, has_failed: Callable[[], bool] = lambda: False
) -> bool:
    """Wait until it listens. Returns: False once it has ended or failed, or when that takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None and not has_failed():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


def dying_with_parent(command: Sequence[str]) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


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
