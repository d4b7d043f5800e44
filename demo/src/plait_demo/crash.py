"""One commit over every store in a child process, killed where one says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import plait
import pyarrow as pa
import sqlalchemy as sa
from plait.catalog import Catalog
from plait.errors import Corrupt, InvalidArgument
from plait.failpoint import arm_from_environment

from plait_demo import stores
from plait_demo.flights import SCHEMA, WEATHER_SCHEMA

Where = str | Path
"""A folder that holds a catalog, or the URL of a database that does."""

_MARK = "made-by-plait-demo"
_MESSAGE = "One change in every store"
_FIRST_ID = 10_000_000
"""The rows that crashes add are above all real ones."""
_CRASHED = "crash"
"""How else they are told from real data."""


def mark(folder: Path) -> None:
    """This folder was made by the demo: it may be made anew, and crashes may happen in it."""
    (folder / _MARK).touch()


def is_demo(folder: Path) -> bool:
    return (folder / _MARK).exists()


def prepare(folder: Path, where: Where | None = None) -> None:
    """A catalog as the demo's, but for the data: in the folder, or in the database of a URL."""
    with plait.init(where or folder) as catalog:
        configured = stores.local(folder)
        stores.add_stores(catalog, configured)
        with catalog.transaction(message="Before") as tx:
            stores.make_flights(tx)
            stores.make_weather(tx)
            stores.make_reference(tx, {"airlines": [{"carrier": "UA", "name": "United"}]})
            tx.create(stores.LANDING)
            if "vm" in configured:
                stores.make_disk(tx, folder, {})


def commit(where: Where) -> None:
    """What the child does: one commit that changes every store."""
    arm_from_environment()
    with plait.open(where) as catalog:
        number = _FIRST_ID + next(iter(seen(catalog).values()))
        flight = {**dict.fromkeys(SCHEMA.names), "id": number, "month": 1}
        hour = {**dict.fromkeys(WEATHER_SCHEMA.names), "origin": _CRASHED, "time_hour": str(number)}
        with catalog.transaction(message=_MESSAGE) as tx:
            stores.flights(tx).append(pa.Table.from_pylist([flight], schema=SCHEMA))
            stores.weather(tx).append(pa.Table.from_pylist([hour], schema=WEATHER_SCHEMA))
            with stores.reference(tx).begin() as connection:
                connection.execute(sa.text(f"INSERT INTO airlines VALUES ('{_CRASHED}{number}', 'one')"))
            # New content each time: what is there already is not stored again, and the commit would pass fewer places.
            stores.objects(tx).pipe(f"{_CRASHED}/{number}.txt", os.urandom(16))
            if "vm" in {store.name for store in catalog.stores()}:
                stores.put_note(tx, f"{_CRASHED}{number}.txt", "one\n")


def _child(where: Where, environment: dict[str, str]) -> int:
    code = f"from plait_demo.crash import commit; commit({str(where)!r})"
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=False).returncode


def steps() -> list[str]:
    """Every place between two writes that the commit passes, in order, as name@n."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "catalog"
        prepare(folder)
        record = Path(root) / "places"
        _child(folder, {"PLAIT_FAILPOINT_RECORD": str(record)})
        counted: Counter[str] = Counter()
        found = []
        for name in record.read_text().split():
            counted[name] += 1
            found.append(f"{name}@{counted[name]}")
        return found


def seen(catalog: Catalog) -> dict[str, int]:
    """How many of these commits each store shows."""
    point = catalog.at("main")
    rows = stores.flights(point).scan(row_filter=f"id >= {_FIRST_ID}", selected_fields=("id",)).to_arrow()
    found = {
        "lake": rows.num_rows,
        "meteo": stores.weather(point).read(f"SELECT origin FROM this WHERE origin = '{_CRASHED}'").num_rows,
        "crm": sum(carrier.startswith(_CRASHED) for carrier in stores.airlines(point)),
        "raw": sum(name.startswith(f"{_CRASHED}/") for name in stores.objects(point).find("")),
    }
    if "vm" in {store.name for store in catalog.stores()}:
        found["vm"] = sum(name.startswith(_CRASHED) for name in stores.disk_files(point))
    return found


def crash_at(step: str, where: Where | None = None, say: Callable[[str], None] = click.echo) -> bool:
    """Die there, recover, and tell; whether the commit was whole. In the demo's catalog, or (None) in one for once.

    Raises: InvalidArgument for a step that the commit does not pass, Corrupt when it is neither whole nor absent.
    """
    if where is None:
        with tempfile.TemporaryDirectory() as root:
            fresh = Path(root) / "catalog"
            prepare(fresh)
            return crash_at(step, fresh, say)
    with plait.open(where) as catalog:
        before = next(iter(seen(catalog).values()))
    ended = _child(where, {"PLAIT_FAILPOINT": step})
    if ended != -signal.SIGKILL:
        raise InvalidArgument(f"the commit does not pass {step!r}", remedy="see 'plait demo crash --list'")
    say(f"killed with SIGKILL at {step}")
    with plait.open(where, recover=False) as catalog:
        for sentence in catalog.recover():
            say(f"recovery {sentence}")
        counts = seen(catalog)
        after = next(iter(counts.values()))
        if set(counts.values()) != {after} or after - before not in (0, 1):
            shown = ", ".join(f"{store} {count}" for store, count in counts.items())
            raise Corrupt(f"torn after dying at {step}: {shown}, before {before} in each")
        # Of this commit alone: those of earlier deaths are there still.
        shown = ", ".join(f"{store} {count - before}" for store, count in counts.items())
        say(f"{'every store has it' if after > before else 'no store has it'}: {shown}")
        if problems := list(catalog.verify(plait.Depth.BYTES)):
            raise Corrupt(f"{len(problems)} problems after dying at {step}: {problems[0].what}")
        for left in (tx for tx in catalog.working_sets() if tx.message == _MESSAGE):
            catalog.working_set(left.id).discard()
            say("discarded the working set that was left")
    return after > before
