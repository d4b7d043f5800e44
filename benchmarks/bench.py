"""`make bench`: what plait costs, as figures of one run and ratios between them. Writes JSON, says what limits each.

Client and server share this machine's cores, and machines are noisy: trust the ratios and the CPU, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import plait
from plait.catalog import Catalog
from plait.errors import PlaitError
from plait.types import Mode, Proposal, Put, SnapshotRef

Row = dict[str, object]


def pointer(number: int, version: int = 0) -> SnapshotRef:
    """A registered snapshot of a pointer store: a commit of it is metadata alone."""
    return SnapshotRef("p", "table", f"table-{number}", f"v{version}", version.to_bytes(32, "big"))


def proposal(number: int, keys: int = 1) -> Proposal:
    puts = tuple(Put(("p", f"t{number % 997}", f"k{number}-{place}"), pointer(number)) for place in range(keys))
    return Proposal("main", puts, message="bench")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def clients(commit: Callable[[int], None], count: int, seconds: float, start: int) -> Row:
    """`count` threads that commit distinct keys for a while: rate, latencies, failures."""
    latencies: list[float] = []
    failures: list[str] = []
    until = time.perf_counter() + seconds

    def run(client: int) -> None:
        number = start + client * 10_000_000
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                commit(number)
                latencies.append(time.perf_counter() - began)
            except PlaitError as error:
                failures.append(error.code)
            number += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    return {
        "commits_per_second": round(len(latencies) / took),
        "p50_ms": round(statistics.median(latencies) * 1000, 2),
        "p99_ms": round(percentile(latencies, 0.99) * 1000, 2),
        "failures": len(failures),
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """A real server process over a new SQLite catalog: (URL, pid)."""
    command = [
        sys.executable, "-m", "plait_server", "--init", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
        "--database", f"sqlite:///{folder / 'catalog.db'}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("plait://"))
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def bench_grpc(seconds: float) -> Iterator[Row]:
    """Durable one-call commits over gRPC, client and server on the same cores."""
    folder = Path(tempfile.mkdtemp(prefix="plait-bench-"))
    try:
        with served(folder) as (url, pid), plait.connect(url) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            for place, count in enumerate((1, 8, 32, 64)):
                before = cpu_seconds(pid)
                row = clients(lambda number: _commit(catalog, number), count, seconds, place * 1_000_000_000)
                done = int(str(row["commits_per_second"])) * seconds
                cpu = round((cpu_seconds(pid) - before) / max(done, 1) * 1000, 2)
                yield {"what": f"gRPC commits, {count} clients", **row, "server_cpu_ms": cpu, "limit": "gRPC in Python"}
            for keys in (1, 8):
                began = time.perf_counter()
                for batch in range(4):
                    start = 9_000_000_000 + (keys * 10 + batch) * 10_000
                    catalog.commit_many([proposal(start + number, keys) for number in range(500)])
                rate = 2000 / (time.perf_counter() - began)
                yield {
                    "what": f"gRPC CommitMany, {keys} keys a commit",
                    "commits_per_second": round(rate),
                    "operations_per_second": round(rate * keys),
                    "limit": "the tree",
                }
    finally:
        shutil.rmtree(folder)


def _commit(catalog: Catalog, number: int) -> None:
    catalog.commit(proposal(number))


def bench_grouping(seconds: float) -> Iterator[Row]:
    """What grouping gains at the sequencer, without gRPC: one at a time against batches of 256."""
    with embedded() as catalog:
        single = clients(lambda number: _commit(catalog, number), 1, seconds, 0)
        began = time.perf_counter()
        for batch in range(8):
            catalog.commit_many([proposal(5_000_000 + batch * 256 + number) for number in range(256)])
        grouped = 2048 / (time.perf_counter() - began)
        alone = int(str(single["commits_per_second"]))
        yield {"what": "embedded, one at a time", **single, "limit": "one fsync a commit"}
        yield {
            "what": "embedded, grouped by 256",
            "commits_per_second": round(grouped),
            "ratio_to_single": round(grouped / alone, 1),
            "limit": "the tree",
        }


@contextmanager
def embedded() -> Iterator[Catalog]:
    folder = Path(tempfile.mkdtemp(prefix="plait-bench-"))
    catalog = plait.init(folder)
    try:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        yield catalog
    finally:
        catalog.close()
        shutil.rmtree(folder)


def bench_flatness(sizes: tuple[int, ...]) -> Iterator[Row]:
    """One-change commit, diff, merge and branch in catalogs of different sizes: medians and the ratio to the first."""
    first: dict[str, float] = {}
    for size in sizes:
        with embedded() as catalog:
            for start in range(0, size, 10_000):
                puts = tuple(
                    Put(("p", f"t{number % 997}", f"k{number}"), pointer(number))
                    for number in range(start, min(start + 10_000, size))
                )
                catalog.commit(Proposal("main", puts, message="fill"))
            times: dict[str, list[float]] = {"commit": [], "diff": [], "branch": [], "merge": []}
            for turn in range(15):
                _timed(times["commit"], lambda turn=turn: _commit(catalog, 10**8 + turn))
                _timed(times["diff"], lambda: list(catalog.diff("main~1", "main")))
                _timed(times["branch"], lambda turn=turn: catalog.create_branch(f"b{turn}"))
                change = Put(("p", "m", f"k{turn}"), pointer(turn))
                catalog.commit(Proposal(f"b{turn}", (change,), message="side"))
                _timed(times["merge"], lambda turn=turn: catalog.merge(f"b{turn}"))
            for what, values in times.items():
                median = statistics.median(values) * 1000
                first.setdefault(what, median)
                yield {
                    "what": f"{what}, {size} keys",
                    "p50_ms": round(median, 2),
                    "ratio_to_smallest": round(median / first[what], 2),
                    "limit": "one fsync" if what != "diff" else "the tree",
                }


def _timed(into: list[float], work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    into.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--sizes", default="1000,100000", help="catalogs to compare, in keys")
    chosen = parser.parse_args()
    rows: list[Row] = []
    sizes = tuple(int(size) for size in chosen.sizes.split(","))
    for bench in (bench_grouping(chosen.seconds), bench_grpc(chosen.seconds), bench_flatness(sizes)):
        for row in bench:
            rows.append(row)
            print("  ".join(f"{name}={value}" if name != "what" else f"{value:<32}" for name, value in row.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
