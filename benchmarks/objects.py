"""What plait costs over many objects: imports, commits, one object among many. Figures of one run, as JSON.

    python benchmarks/objects.py --objects 100000
    python benchmarks/objects.py --objects 100000 --bucket     # also on SeaweedFS, with versions

Machines are noisy, and this one's client, server and disk share two cores: trust the CPU and the counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import plait
from fsspec import AbstractFileSystem
from plait.catalog import Catalog
from plait.errors import NothingToCommit

Row = dict[str, Any]


@contextmanager
def timed(rows: dict[str, Row], name: str, objects: int) -> Iterator[Row]:
    """Seconds and CPU seconds of a block, and microseconds for each object."""
    row: Row = {}
    began, cpu = time.perf_counter(), time.process_time()
    yield row
    seconds = time.perf_counter() - began
    row.update(
        objects=objects,
        seconds=round(seconds, 3),
        cpu_seconds=round(time.process_time() - cpu, 3),
        us_per_object=round(seconds / objects * 1e6),
    )
    rows[name] = row
    print(f"{name:>42}  {row}", flush=True)


def folder_of(root: Path, objects: int) -> Path:
    """A directory with so many small files, a thousand in each folder."""
    for number in range(objects):
        folder = root / f"{number // 1000:04}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:07}.json").write_bytes(b'{"id": %d, "payload": "%d"}\n' % (number, number * 7919))
    return root


def handle(tx: plait.WorkingSet, key: str) -> AbstractFileSystem:
    return cast(AbstractFileSystem, tx.open(key, create=True))


def written_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def on_a_disk(catalog: Catalog, root: Path, objects: int, rows: dict[str, Row]) -> None:
    catalog.add_store("raw", "files", {"path": str(root / "raw")})
    source = folder_of(root / "source", objects)
    with timed(rows, "disk: import of a directory", objects):
        catalog.import_assets({("raw", "imported"): str(source)})
    with timed(rows, "disk: the same again, nothing changed", objects), suppress(NothingToCommit):
        catalog.import_assets({("raw", "imported"): str(source)})
    packs = root / "raw" / "_plait" / "packs"
    before = written_bytes(packs)
    with timed(rows, "disk: commit of one object among them", 1) as row, catalog.transaction() as tx:
        handle(tx, "raw.imported").pipe_file("0000/one-more.json", b"{}")
    row["manifest_bytes"] = written_bytes(packs) - before
    batch = objects // 10
    with catalog.transaction() as tx:
        with timed(rows, "disk: put of a folder into a working set", batch):
            files = sorted(path for path in source.rglob("*.json"))[:batch]
            handle(tx, "raw.written").put([str(path) for path in files], [path.name for path in files])
        began = tx
    with timed(rows, "disk: put and commit of new content", batch), catalog.transaction() as tx:
        handle(tx, "raw.written").pipe({f"new/{n}": b"new %d" % n for n in range(batch)})
    assert began.committed is not None
    with timed(rows, "disk: list one folder among them", 1):
        cast(AbstractFileSystem, catalog.at("main").open("raw.imported")).ls("0000")


def in_a_bucket(catalog: Catalog, root: Path, objects: int, rows: dict[str, Row]) -> None:
    from plait_conformance.s3_servers import make_bucket, seaweedfs_server
    from plait_s3.s3_blobs import S3Blobs

    (root / "seaweedfs").mkdir()
    with seaweedfs_server(root / "seaweedfs") as server:
        make_bucket(server, "bench", versioned=True)
        options = {"bucket": "bench", "endpoint": server.endpoint, "access_key": server.access_key}
        (root / "secret").write_text(server.secret_key)
        blobs = S3Blobs({**options, "secret_key": server.secret_key}, lambda place: None)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: blobs.put(f"landing/{n // 1000:04}/{n:07}", b"%d" % n), range(objects)))
        blobs.close()
        catalog.add_store("far", "s3", {**options, "secret_key": f"file:{root / 'secret'}"})
        with timed(rows, "versioned bucket: import in place", objects):
            catalog.import_assets({("far", "imported"): "landing"})
        with timed(rows, "versioned bucket: commit of one object", 1), catalog.transaction() as tx:
            handle(tx, "far.imported").pipe_file("0000/one-more", b"1")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--objects", type=int, default=10_000)
    arguments.add_argument("--bucket", action="store_true")
    arguments.add_argument("--json", type=Path)
    asked = arguments.parse_args()
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with plait.init(root / "catalog") as catalog:
            on_a_disk(catalog, root, asked.objects, rows)
            if asked.bucket:
                in_a_bucket(catalog, root, asked.objects, rows)
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
