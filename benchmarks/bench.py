"""`make bench`: what plait costs, as figures of one run and ratios between them. Writes JSON, says what limits each.

Client and server share this machine's cores, and machines are noisy: trust the ratios and the CPU, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import plait
import pyarrow as pa
from load import (
    CLIENT_NUMBERS,
    Row,
    Served,
    clients,
    has_postgresql,
    pointer,
    proposal,
    s3_server,
    scratch,
    served,
    serving,
    show,
    timed,
)
from plait.catalog import Catalog
from plait.codec import encode_key
from plait.limits import BATCH_PROPOSALS_MAX
from plait.tree import MemoryNodes, NodeCache, Tree
from plait.types import Mode, Proposal, Put

_TURNS, _WARM_TURNS = 40, 5
_CONNECTIONS = 32
_CALL_COMMITS = 500
_DURABLE = "one flush to disk a batch, and Python's gRPC on both sides"


def bench_grouping(seconds: float) -> Iterator[Row]:
    """What grouping gains at the sequencer, without gRPC: one at a time against full batches."""
    with scratch() as folder, plait.init(folder) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        single = clients(lambda number: _commit(catalog, number), 1, seconds, 0)
        yield {
            "what": "embedded, one at a time",
            **single,
            "limit": "one flush to disk and a dozen statements a commit",
        }
        done, took = 0, 0.0
        while took < seconds:
            batch = [proposal(5_000_000 + done + number) for number in range(BATCH_PROPOSALS_MAX)]
            took += timed(lambda batch=batch: catalog.commit_many(batch))
            done += len(batch)
        alone = int(str(single["commits_per_second"])) or 1
        yield {
            "what": f"embedded, {BATCH_PROPOSALS_MAX} at a time",
            "commits_per_second": round(done / took),
            "ratio_to_one_at_a_time": round(done / took / alone, 1),
            "limit": "one processor: the tree's path and seven rows a commit",
        }


def bench_grpc(seconds: float) -> Iterator[Row]:
    """Durable one-call commits over gRPC to one branch, client and server on the same cores."""
    for dialect in ("sqlite", "postgresql") if has_postgresql() else ("sqlite",):
        with served(dialect) as server, plait.connect(server.url) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            pid, alone = server.pid, 1
            for place, count in enumerate((1, 8, 32, 64)):
                row = clients(
                    lambda number: _commit(catalog, number), count, seconds, place * 1_000_000_000, server_pid=pid
                )
                rate = int(str(row["commits_per_second"])) or 1
                alone = rate if count == 1 else alone
                ratio = {} if count == 1 else {"ratio_to_one_client": round(rate / alone, 1)}
                yield {"what": f"gRPC on {dialect}, clients: {count}", **row, **ratio, "limit": _DURABLE}
            yield {
                "what": f"gRPC on {dialect}, connections: {_CONNECTIONS}",
                **_unlike(server, seconds),
                "limit": "threads of one server that wait for each other; of one client they share calls",
            }
            for keys in (1, 8):
                yield {
                    **_commit_many(catalog, pid, keys, seconds, alone),
                    "what": f"CommitMany on {dialect}, keys a commit: {keys}",
                }


def _unlike(server: Served, seconds: float) -> Row:
    """Clients that share nothing: what as many processes would be, without their processors."""
    with ExitStack() as stack:
        catalogs = [stack.enter_context(plait.connect(server.url)) for _ in range(_CONNECTIONS)]
        return clients(
            lambda number: _commit(catalogs[number // CLIENT_NUMBERS % _CONNECTIONS], number),
            _CONNECTIONS,
            seconds,
            4_000_000_000,
            server_pid=server.pid,
        )


def _commit_many(catalog: Catalog, pid: int, keys: int, seconds: float, alone: int) -> Row:
    """Two callers, so that the server works while a client packs and unpacks."""

    def call(number: int) -> None:
        first = (number // CLIENT_NUMBERS) * CLIENT_NUMBERS + number % CLIENT_NUMBERS * _CALL_COMMITS
        answers = catalog.commit_many([proposal(first + place, keys) for place in range(_CALL_COMMITS)])
        assert not any(isinstance(answer, Exception) for answer in answers)

    row = clients(call, 2, seconds, 9_000_000_000 + keys * 100_000_000, server_pid=pid)
    rate = int(str(row["commits"])) * _CALL_COMMITS / float(str(row["seconds"]))
    return {
        "commits_per_second": round(rate),
        "operations_per_second": round(rate * keys),
        "ratio_to_one_client": round(rate / alone, 1),
        "server_cpu_ms": round(float(str(row["server_cpu_ms"])) / _CALL_COMMITS, 2),
        "limit": "one processor: the tree's path and seven rows a commit",
    }


def bench_transactions(seconds: float) -> Iterator[Row]:
    """Whole transactions over gRPC: begin, stage, append to an Iceberg table and put an object, prepare, commit."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("item", pa.string())])
    with s3_server() as bucket, served("sqlite") as server, plait.connect(server.url) as catalog:
        catalog.add_store("lake", "iceberg", {"warehouse": str(server.folder / "lake")})
        if bucket is None:
            catalog.add_store("raw", "files", {"path": str(server.folder / "raw")})
        else:
            catalog.add_store("raw", "s3", bucket)
        with catalog.transaction(message="make") as tx:
            tx.store("lake").create_namespace("b")
            tx.store("lake").create_table("b.orders", schema=schema)
            tx.create("raw.landing").pipe("0.json", b"{}")

        def whole(number: int) -> None:
            with catalog.transaction(message="one append and one object") as tx:
                tx.open("lake.b.orders").append(pa.table([[number], ["tea"]], schema=schema))
                tx.open("raw.landing").pipe(f"{number}.json", b'{"item": "tea"}')

        for place, count in enumerate((1, 4)):
            row = clients(whole, count, seconds, (place + 1) * 1_000_000_000, server_pid=server.pid)
            yield {
                "what": f"append + object, clients: {count}",
                **row,
                "objects": "S3" if bucket else "directory",
                "limit": "the stores' own writes; several writers to one table merge in its lane",
            }


def bench_flatness(sizes: tuple[int, ...], commits: int) -> Iterator[Row]:
    """One change over gRPC in catalogs of different sizes, turn by turn: medians, and their ratio to the first."""
    shapes = {f"{size} keys": (size, 0) for size in sizes} | {f"{commits} commits": (sizes[0], commits)}
    with ExitStack() as stack:
        folders = {name: stack.enter_context(scratch()) for name in shapes}
        for name, (keys, history) in shapes.items():
            with plait.init(f"sqlite:///{folders[name] / 'catalog.db'}") as catalog:
                catalog.add_store("p", "pointer", mode=Mode.POINTER)
                for puts in _filling(keys):
                    catalog.commit(Proposal("main", puts, message="fill"))
                for start in range(0, history, 1000):
                    catalog.commit_many([proposal(2 * 10**8 + start + number) for number in range(1000)])
        catalogs = {}
        for name, folder in folders.items():
            catalogs[name] = stack.enter_context(plait.connect(stack.enter_context(serving(folder)).url))
        times: dict[str, dict[str, list[float]]] = {}
        for turn in range(_TURNS):
            for name, catalog in catalogs.items():
                for what, took in _one_change(catalog, turn).items():
                    times.setdefault(what, {}).setdefault(name, []).append(took)
    for what, by_name in times.items():
        # The first turns load what every later one has in its caches.
        medians = {name: statistics.median(seconds[_WARM_TURNS:]) * 1000 for name, seconds in by_name.items()}
        first = next(iter(medians.values()))
        for name, median in medians.items():
            yield {
                "what": f"gRPC {what}, {name}",
                "p50_ms": round(median, 2),
                "ratio_to_smallest": round(median / first, 2),
                "limit": "round trips" if what == "diff" else "round trips and flushes to disk",
            }


def _filling(keys: int) -> Iterator[tuple[Put, ...]]:
    for start in range(0, keys, 10_000):
        numbers = range(start, min(start + 10_000, keys))
        yield tuple(Put(("p", f"t{number % 997}", f"k{number}"), pointer(number)) for number in numbers)


def _one_change(catalog: Catalog, turn: int) -> dict[str, float]:
    branch = f"b{turn}"
    took = {
        "commit": timed(lambda: _commit(catalog, 10**8 + turn)),
        "diff": timed(lambda: list(catalog.diff("main~1", "main"))),
        "branch": timed(lambda: catalog.create_branch(branch)),
    }
    catalog.commit(Proposal(branch, (Put(("p", "m", f"k{turn}"), pointer(turn)),), message="theirs"))
    catalog.commit(Proposal("main", (Put(("p", "n", f"k{turn}"), pointer(turn)),), message="ours"))
    took["merge"] = timed(lambda: catalog.merge(branch))
    return took


def bench_nodes(sizes: tuple[int, ...]) -> Iterator[Row]:
    """What one change reads and writes of the tree, counted: no clock, no noise."""
    first: dict[str, int] = {}
    for size in sizes:
        nodes = MemoryNodes()
        tree = Tree(nodes, salt=bytes(16))
        keys = sorted(encode_key(("p", f"t{number % 997}", f"k{number}")) for number in range(size))
        root = tree.build((key, bytes(48)) for key in keys)
        height, node = 1, tree.node(root)
        while node.level:
            height, node = height + 1, tree.node(node.values[0])
        middle = keys[size // 2]

        def counted(work: Callable[[Tree], object], nodes: MemoryNodes = nodes) -> Row:
            nodes.read = nodes.written = 0
            work(Tree(nodes, salt=bytes(16), cache=NodeCache()))
            return {"nodes_read": nodes.read, "nodes_written": nodes.written}

        ours = tree.apply(root, {middle + b"o\0": bytes(48)})
        theirs = tree.apply(root, {keys[size // 3] + b"t\0": bytes(48)})
        works: dict[str, Callable[[Tree], object]] = {
            "commit": lambda cold, root=root, middle=middle: cold.apply(root, {middle: b"v" * 48}),
            "diff": lambda cold, root=root, ours=ours: list(cold.diff(root, ours)),
            "merge": lambda cold, root=root, ours=ours, theirs=theirs: list(cold.join(root, ours, theirs)),
        }
        for what, work in works.items():
            row = counted(work)
            total = int(str(row["nodes_read"])) + int(str(row["nodes_written"]))
            first.setdefault(what, total)
            ratio = round(total / first[what], 2)
            yield {
                "what": f"nodes of one {what}, {size} keys",
                **row,
                "height": height,
                "ratio_to_smallest": ratio,
                "limit": "the tree's height",
            }


def _commit(catalog: Catalog, number: int) -> None:
    catalog.commit(proposal(number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--sizes", default="1000,1000000", help="catalogs to compare, in keys")
    parser.add_argument("--commits", type=int, default=100_000, help="a history to compare, in commits")
    parser.add_argument("--only", help="grouping, grpc, transactions, flatness or nodes")
    chosen = parser.parse_args()
    sizes = tuple(int(size) for size in chosen.sizes.split(","))
    benches: dict[str, Callable[[], Iterator[Row]]] = {
        "grouping": lambda: bench_grouping(chosen.seconds),
        "grpc": lambda: bench_grpc(chosen.seconds),
        "transactions": lambda: bench_transactions(chosen.seconds),
        "flatness": lambda: bench_flatness(sizes, chosen.commits),
        "nodes": lambda: bench_nodes(sizes),
    }
    rows: list[Row] = []
    for name, bench in benches.items():
        if chosen.only in (None, name):
            for row in bench():
                rows.append(row)
                show(row)
    if chosen.json:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
        chosen.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
