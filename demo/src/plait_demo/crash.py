"""One commit over two stores in a child process, killed where one says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import cast

import click
import plait
import pyarrow as pa
from fsspec import AbstractFileSystem
from plait.catalog import Catalog
from plait.errors import Corrupt, InvalidArgument
from plait.failpoint import arm_from_environment
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.table import Table

_ROW = pa.schema([("id", pa.int64())])


def prepare(folder: Path) -> None:
    with plait.init(folder) as catalog:
        catalog.add_store("lake", "iceberg", {"warehouse": str(folder / "lake")})
        catalog.add_store("raw", "files", {"path": str(folder / "raw")})
        with catalog.transaction(message="Before") as tx:
            cast(IcebergCatalog, tx.store("lake")).create_table("t", _ROW)
            tx.create("raw.t")


def commit(folder: str) -> None:
    """What the child does: one commit that changes both stores."""
    arm_from_environment()
    with plait.open(folder) as catalog, catalog.transaction(message="Both stores") as tx:
        cast(Table, tx.open("lake.t")).append(pa.table({"id": [1]}, schema=_ROW))
        cast(AbstractFileSystem, tx.open("raw.t")).pipe("1.txt", b"one")


def _child(folder: Path, environment: dict[str, str]) -> int:
    code = f"from plait_demo.crash import commit; commit({str(folder)!r})"
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=False).returncode


def steps() -> list[str]:
    """Every place between two writes that the commit passes, in order, as name@n."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "catalog"
        prepare(folder)
        record = Path(root) / "places"
        _child(folder, {"PLAIT_FAILPOINT_RECORD": str(record)})
        seen: Counter[str] = Counter()
        found = []
        for name in record.read_text().split():
            seen[name] += 1
            found.append(f"{name}@{seen[name]}")
        return found


def seen(catalog: Catalog) -> tuple[int, int]:
    """How much of the commit each store shows: (rows, objects)."""
    point = catalog.at("main")
    rows = cast(Table, point.open("lake.t")).scan().to_arrow().num_rows
    return rows, len(cast(AbstractFileSystem, point.open("raw.t")).find(""))


def crash_at(step: str) -> None:
    """Die there, recover, and tell. Raises: InvalidArgument for a step that the commit does not pass."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "catalog"
        prepare(folder)
        ended = _child(folder, {"PLAIT_FAILPOINT": step})
        if ended != -signal.SIGKILL:
            raise InvalidArgument(f"the commit does not pass {step!r}", remedy="see 'plait demo crash --list'")
        click.echo(f"   killed with SIGKILL at {step}")
        with plait.open(folder, recover=False) as catalog:
            for sentence in catalog.recover():
                click.echo(f"   recovery {sentence}")
            rows, objects = seen(catalog)
            if rows != objects:
                raise Corrupt(f"torn: {rows} rows and {objects} objects after dying at {step}")
            outcome = "both stores have it" if rows else "neither store has it"
            click.echo(f"   {outcome}: {rows} rows in the table, {objects} objects")
            if problems := list(catalog.verify(plait.Depth.BYTES)):
                raise Corrupt(f"{len(problems)} problems after dying at {step}: {problems[0].what}")
