"""Many writers of many stores, on one branch: the embedded ones, as they are."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import plait
import pyarrow as pa
import pytest
from plait.catalog import Catalog
from plait.working_set import WorkingSet
from plait_demo import stores

WRITERS, COMMITS = 16, 2
BLOCK_BYTES = 4096
SCHEMA = pa.schema([("n", pa.int64())])
KEYS = {
    "files": "raw.landing",
    "delta": "meteo.weather",
    "iceberg": "lake.sales.orders",
    "dolt": "crm.reference",
    "block": "vm.disk0",
}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Each kind's asset, empty."""
    if not stores.has_volumes() and os.environ.get("CI") != "true":
        pytest.skip(f"NOT RUN: {stores.volumes_remedy()}")
    with plait.init(tmp_path) as catalog:
        for kind, key in KEYS.items():
            place = "warehouse" if kind == "iceberg" else "path"
            catalog.add_store(key.partition(".")[0], kind, {place: str(tmp_path / kind)})
        with catalog.transaction(message="made") as tx:
            tx.open(KEYS["files"], create=True).pipe_file("made.bin", b"")
            tx.store("meteo").create_table("weather", SCHEMA)
            tx.store("lake").create_table("sales.orders", SCHEMA)
            with tx.open(KEYS["dolt"], create=True).begin() as connection:
                connection.exec_driver_sql("CREATE TABLE t (n INT PRIMARY KEY)")
            tx.store("vm").create("disk0", size_bytes=WRITERS * COMMITS * BLOCK_BYTES)
        yield catalog


def add(kind: str, tx: WorkingSet, number: int) -> None:
    handle: Any = tx.open(KEYS[kind])
    if kind == "files":
        handle.pipe_file(f"{number}.bin", b"1")
    elif kind in ("delta", "iceberg"):
        handle.append(pa.table([[number]], schema=SCHEMA))
    elif kind == "dolt":
        with handle.begin() as connection:
            connection.exec_driver_sql(f"INSERT INTO t VALUES ({number})")
    else:
        with handle.connect() as client:
            client.write(number * BLOCK_BYTES, b"\1" * BLOCK_BYTES)
            client.flush()


def held(kind: str, catalog: Catalog) -> set[int]:
    """The numbers that `main` holds of all that were added."""
    handle: Any = catalog.at("main").open(KEYS[kind])
    if kind == "files":
        return {int(Path(name).stem) for name in handle.find("") if name != "made.bin"}
    if kind == "delta":
        return set(handle.read()["n"].to_pylist())
    if kind == "iceberg":
        return set(handle.scan().to_arrow()["n"].to_pylist())
    if kind == "dolt":
        with handle.connect() as connection:
            return {n for (n,) in connection.exec_driver_sql("SELECT n FROM t")}
    with handle.connect() as client:
        return {n for n in range(WRITERS * COMMITS) if client.read(n * BLOCK_BYTES, 1) == b"\1"}


def test_all_commit_and_nobody_waits_for_long(catalog: Catalog) -> None:
    """16 writers, each of some of the stores each time: what any of them added is there, and no two are in conflict."""
    waits: dict[int, list[float]] = {writer: [] for writer in range(WRITERS)}
    added: dict[str, set[int]] = {kind: set() for kind in KEYS}
    together = threading.Barrier(WRITERS)

    def write(writer: int) -> None:
        chance = random.Random(writer)
        together.wait()
        for number in range(writer * COMMITS, (writer + 1) * COMMITS):
            tx = catalog.begin(message=str(number))
            chosen = chance.sample(sorted(KEYS), chance.randint(1, len(KEYS)))
            for kind in chosen:
                add(kind, tx, number)
            began = time.monotonic()
            tx.commit()
            waits[writer].append(time.monotonic() - began)
            for kind in chosen:
                added[kind].add(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        for writing in [pool.submit(write, writer) for writer in range(WRITERS)]:
            writing.result()
    assert {commit.message for commit in catalog.log()} >= {str(number) for number in range(WRITERS * COMMITS)}
    assert catalog.publish() == []
    assert {kind: held(kind, catalog) for kind in KEYS} == added
    assert list(catalog.verify()) == []
    means = [statistics.mean(waited) for waited in waits.values()]
    assert max(means) < 10 * statistics.median(means), sorted(means)
