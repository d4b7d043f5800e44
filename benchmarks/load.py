"""What the benchmarks share: servers on loopback, threads that commit for a while, and what that cost."""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from plait.errors import PlaitError
from plait.types import Proposal, Put, SnapshotRef
from plait_conformance.servers import free_port, postgresql_folder, postgresql_server

Row = dict[str, object]

CLIENT_NUMBERS = 10_000_000
"""How many numbers each client of a load has for itself."""


def pointer(number: int) -> SnapshotRef:
    """A registered snapshot of a pointer store: a commit of it is metadata alone."""
    return SnapshotRef("p", "table", f"table-{number}", f"s3://bucket/table-{number}/v0.metadata.json", bytes(32))


def proposal(number: int, keys: int = 1, ref: str = "main") -> Proposal:
    puts = tuple(Put(("p", f"t{number % 997}", f"k{number}-{place}"), pointer(number)) for place in range(keys))
    return Proposal(ref, puts, message="bench")


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that every user can reach: PostgreSQL's server refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="plait-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    pid: int
    folder: Path


@contextmanager
def serving(folder: Path, *, database: str | None = None) -> Iterator[Served]:
    """A server started as its users start it, over the folder's SQLite file or another database."""
    command = [sys.executable, "-m", "plait_server", "--init", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command += ["--database", database or f"sqlite:///{folder / 'catalog.db'}"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        url = re.search(r"plait://\S+", process.stdout.readline())
        if url is None:
            raise RuntimeError(f"the server did not start: {(folder / 'server.log').read_text()[-2000:]}")
        yield Served(url[0], process.pid, folder)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def served(dialect: str) -> Iterator[Served]:
    """A real server process over a new catalog on "sqlite" or "postgresql", both with full durability."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        database = None
        if dialect == "postgresql":
            rows = folder / "postgresql"
            rows.mkdir()
            database = stack.enter_context(postgresql_server(rows)) + "/postgres"
        yield stack.enter_context(serving(folder, database=database))


def has_postgresql() -> bool:
    return postgresql_folder() is not None


@contextmanager
def s3_server() -> Iterator[dict[str, str] | None]:
    """Options of a store on a real S3 server, or None where `scripts/engines.sh` has not built it."""
    cache = Path(os.environ.get("PLAIT_CACHE") or Path.home() / ".cache/plait")
    program = shutil.which("versitygw", path=os.pathsep.join([str(cache / "bin"), os.environ.get("PATH", "")]))
    if program is None:
        yield None
        return
    with scratch() as folder:
        (folder / "buckets" / "bench").mkdir(parents=True)
        (folder / "secret").write_text("benchsecret")
        port = free_port()
        process = subprocess.Popen(
            [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "buckets")],
            env={**os.environ, "ROOT_ACCESS_KEY": "bench", "ROOT_SECRET_KEY": "benchsecret"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1)
            yield {
                "bucket": "bench",
                "endpoint": f"http://127.0.0.1:{port}",
                "access_key": "bench",
                "secret_key": f"file:{folder / 'secret'}",
            }
        finally:
            process.kill()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """What a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def clients(
    commit: Callable[[int], None], count: int, seconds: float, start: int, *, server_pid: int | None = None
) -> Row:
    """`count` threads that commit distinct keys for a while, without retries of their own: what came of it."""
    latencies: list[float] = []
    failures: list[str] = []
    until = time.perf_counter() + seconds

    def run(client: int) -> None:
        number = start + client * CLIENT_NUMBERS
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                commit(number)
                latencies.append(time.perf_counter() - began)
            except PlaitError as error:
                failures.append(error.code)
            number += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(count)]
    server_before = 0.0 if server_pid is None else cpu_seconds(server_pid)
    own_before, began = own_cpu_seconds(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    done = max(len(latencies), 1)
    row: Row = {
        "commits": len(latencies),
        "seconds": round(took, 2),
        "commits_per_second": round(len(latencies) / took),
        "p50_ms": round(statistics.median(latencies or [0.0]) * 1000, 2),
        "p99_ms": round(percentile(latencies or [0.0], 0.99) * 1000, 2),
        "failures": len(failures),
    }
    if server_pid is not None:
        row["server_cpu_ms"] = round((cpu_seconds(server_pid) - server_before) / done * 1000, 2)
        row["client_cpu_ms"] = round((own_cpu_seconds() - own_before) / done * 1000, 2)
    return row


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(row: Row) -> None:
    """One line of the table."""
    rest = "  ".join(f"{name}={value}" for name, value in row.items() if name not in ("what", "limit"))
    print(f"{row['what']!s:<44} {rest}\n{'':<44} limited by {row['limit']}", flush=True)
