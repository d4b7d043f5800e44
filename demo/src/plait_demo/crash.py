"""One commit over two stores in a child process, killed where one says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
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

from plait_demo.flights import FLIGHTS, LANDING, SCHEMA

_MARK = "made-by-plait-demo"
_MESSAGE = "One flight and one object"
_FIRST_ID = 10_000_000
"""The rows that crashes add are above all real ones."""


def mark(folder: Path) -> None:
    """This folder was made by the demo: it may be made anew, and crashes may happen in it."""
    (folder / _MARK).touch()


def is_demo(folder: Path) -> bool:
    return (folder / _MARK).exists()


def prepare(folder: Path) -> None:
    """A catalog as the demo's, but for the flights."""
    with plait.init(folder) as catalog:
        catalog.add_store("lake", "iceberg", {"warehouse": str(folder / "lake")})
        catalog.add_store("raw", "files", {"path": str(folder / "raw")})
        with catalog.transaction(message="Before") as tx:
            cast(IcebergCatalog, tx.store("lake")).create_table(FLIGHTS.partition(".")[2], SCHEMA)
            tx.create(LANDING)


def commit(folder: str) -> None:
    """What the child does: one commit that changes both stores."""
    arm_from_environment()
    with plait.open(folder) as catalog:
        number = _FIRST_ID + seen(catalog)[0]
        row = {**dict.fromkeys(SCHEMA.names), "id": number, "month": 1}
        with catalog.transaction(message=_MESSAGE) as tx:
            cast(Table, tx.open(FLIGHTS)).append(pa.Table.from_pylist([row], schema=SCHEMA))
            cast(AbstractFileSystem, tx.open(LANDING)).pipe(f"crash/{number}.txt", b"one")


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
    """How many of these commits each store shows: (rows, objects)."""
    point = catalog.at("main")
    rows = cast(Table, point.open(FLIGHTS)).scan(row_filter=f"id >= {_FIRST_ID}", selected_fields=("id",))
    objects = cast(AbstractFileSystem, point.open(LANDING))
    return rows.to_arrow().num_rows, sum(name.startswith("crash/") for name in objects.find(""))


def crash_at(step: str, folder: Path | None = None, say: Callable[[str], None] = click.echo) -> bool:
    """Die there, recover, and tell; whether the commit was whole. In the demo's folder, or (None) in one for once.

    Raises: InvalidArgument for a step that the commit does not pass, Corrupt when it is neither whole nor absent.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as root:
            fresh = Path(root) / "catalog"
            prepare(fresh)
            return crash_at(step, fresh, say)
    with plait.open(folder) as catalog:
        before = seen(catalog)[0]
    ended = _child(folder, {"PLAIT_FAILPOINT": step})
    if ended != -signal.SIGKILL:
        raise InvalidArgument(f"the commit does not pass {step!r}", remedy="see 'plait demo crash --list'")
    say(f"killed with SIGKILL at {step}")
    with plait.open(folder, recover=False) as catalog:
        for sentence in catalog.recover():
            say(f"recovery {sentence}")
        rows, objects = seen(catalog)
        if rows != objects or rows - before not in (0, 1):
            raise Corrupt(f"torn: {rows} rows and {objects} objects after dying at {step}")
        outcome = "both stores have it" if rows > before else "neither store has it"
        say(f"{outcome}: {rows} rows in the table, {objects} objects")
        if problems := list(catalog.verify(plait.Depth.BYTES)):
            raise Corrupt(f"{len(problems)} problems after dying at {step}: {problems[0].what}")
        for left in (tx for tx in catalog.working_sets() if tx.message == _MESSAGE):
            catalog.working_set(left.id).discard()
            say("discarded the working set that was left")
    return rows > before
