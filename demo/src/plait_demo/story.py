"""The story, step by step, on the public API alone: also the longest example of how to use plait."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import plait
import pyarrow as pa
from fsspec import AbstractFileSystem
from plait.catalog import Catalog
from plait.errors import AlreadyExists, CommitConflict
from plait.refspec import format_time
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.table import Table

from plait_demo.crash import crash_at, is_demo, mark
from plait_demo.flights import FLIGHTS, LANDING, SCHEMA, fetch, of_month, read
from plait_demo.telling import Teller

PAGE = "history.html"
NEXT = (
    "plait",
    "plait log --graph --all",
    "plait diff main~1 main --items",
    "plait blame raw.landing",
    f"plait cat {FLIGHTS} --limit 5",
    "plait demo crash --at transaction.sealed",
)
"""What to try in the demo's folder. The tests run every line."""


def flights_of(tx: plait.WorkingSet) -> Table:
    return cast(Table, tx.open(FLIGHTS))


def objects_of(tx: plait.WorkingSet) -> AbstractFileSystem:
    return cast(AbstractFileSystem, tx.open(LANDING))


def correct(tx: plait.WorkingSet, delays: dict[int, int]) -> None:
    """Set the arrival delay of some flights: rewrites the files that hold them."""
    table = flights_of(tx)
    wanted = "id in (" + ", ".join(map(str, delays)) + ")"
    rows = table.scan(row_filter=wanted).to_arrow().to_pylist()
    table.upsert(pa.Table.from_pylist([{**row, "arr_delay": delays[row["id"]]} for row in rows], schema=SCHEMA))


def count(catalog: Catalog, spec: str = "main") -> int:
    return int(cast(Table, catalog.at(spec).open(FLIGHTS)).scan().count())


def tell(folder: Path, data: Path | None, *, force: bool = False, as_json: bool = False) -> dict[str, Any]:
    """Run the story in a folder, and leave it there. Returns: what was told, step by step, and what to try next.

    Raises: AlreadyExists for a folder that is somebody's.
    """
    if folder.exists():
        if not is_demo(folder) or not force:
            remedy = "run again with --force to start anew" if is_demo(folder) else "choose another --folder"
            raise AlreadyExists(f"{folder} exists already", remedy=remedy)
        shutil.rmtree(folder)
    flights, others = read(data or fetch())
    folder.mkdir(parents=True)
    mark(folder)
    teller = Teller(8, as_json=as_json)
    with plait.init(folder) as catalog:
        _load(teller, catalog, folder, flights, others)
        _nightly(teller, catalog, flights)
        _two_branches(teller, catalog, flights)
        _conflict(teller, catalog)
        _undo(teller, catalog)
        _look(teller, catalog)
    _page(teller, folder)
    with teller.step("kill -9 in the middle of a commit: both stores or neither"):
        for place in ("sequencer.rows_written", "sequencer.after_commit"):
            crash_at(place, folder, teller.say)
        teller.say("any other step: plait demo crash --list, then plait demo crash --at STEP")
    return {"folder": str(folder), "steps": teller.told, "page": (folder / PAGE).as_uri(), "next": list(NEXT)}


def _load(teller: Teller, catalog: Catalog, folder: Path, flights: pa.Table, others: dict[str, bytes]) -> None:
    with teller.step("One commit over two stores: flights into Iceberg by month, raw files into a folder"):
        catalog.add_store("lake", "iceberg", {"warehouse": str(folder / "lake")})
        catalog.add_store("raw", "files", {"path": str(folder / "raw")})
        with catalog.transaction(message="Flights and raw files, January to October") as tx:
            table = cast(IcebergCatalog, tx.store("lake")).create_table("air.flights", SCHEMA)
            with table.update_schema() as schema:
                schema.set_identifier_fields("id")
            with table.update_spec() as spec:
                spec.add_identity("month")
            table.append(pa.concat_tables([of_month(flights, month) for month in range(1, 11)]))
            objects = cast(AbstractFileSystem, tx.create(LANDING))
            for name, content in others.items():
                objects.pipe(name, content)
            objects.pipe("quality.json", json.dumps({"checked": False, "loaded": 10}, indent=2).encode())
        assert tx.committed is not None
        teller.say(f"commit {tx.committed.id[:12]}: {count(catalog):,} flights, {len(others) + 1} objects")


def _nightly(teller: Teller, catalog: Catalog, flights: pa.Table) -> None:
    with teller.step("A nightly load on a branch changes both stores, and lands at once"):
        catalog.create_branch("nightly")
        with catalog.transaction("nightly", message="November", properties={"run": "nightly-11"}) as tx:
            flights_of(tx).append(of_month(flights, 11))
            objects_of(tx).pipe("quality.json", json.dumps({"checked": False, "loaded": 11}, indent=2).encode())
        teller.say(f"on nightly {count(catalog, 'nightly'):,} flights, on main still {count(catalog):,}")
        merged = catalog.merge("nightly")
        teller.say(f"merged as {merged.id[:12]}: main has {count(catalog):,}")


def _two_branches(teller: Teller, catalog: Catalog, flights: pa.Table) -> None:
    with teller.step("Two branches append to one table and correct different rows: all of it is kept"):
        december = of_month(flights, 12)
        half = december.num_rows // 2
        for branch, part, delays in (
            ("early", december.slice(0, half), {1: -1}),
            ("late", december.slice(half), {2: -2}),
        ):
            catalog.create_branch(branch)
            with catalog.transaction(branch, message=f"{branch.title()} December, one correction") as tx:
                flights_of(tx).append(part)
                correct(tx, delays)
        before = count(catalog)
        for branch in ("early", "late"):
            catalog.merge(branch)
        rows = cast(Table, catalog.at("main").open(FLIGHTS)).scan(row_filter="id in (1, 2)").to_arrow().to_pylist()
        teller.say(f"{before:,} + {december.num_rows:,} = {count(catalog):,} flights")
        teller.say("corrected: " + ", ".join(f"id={row['id']} arr_delay={row['arr_delay']}" for row in rows))
        assert count(catalog) == before + december.num_rows
        assert {row["id"]: row["arr_delay"] for row in rows} == {1: -1, 2: -2}


def _conflict(teller: Teller, catalog: Catalog) -> None:
    with teller.step("A true conflict: listed per row and per object, resolved one by one"):
        catalog.create_branch("audit")
        for branch, delay, checked in (("audit", 100, "by audit"), ("main", 200, "by hand")):
            with catalog.transaction(branch, message=f"Check {checked}") as tx:
                correct(tx, {3: delay})
                objects_of(tx).pipe("quality.json", json.dumps({"checked": checked, "loaded": 12}, indent=2).encode())
        try:
            catalog.merge("audit")
        except CommitConflict as error:
            for conflict in error.conflicts:
                teller.say(f"{'.'.join(conflict.key)}::{conflict.item}")
                for side in ("base", "ours", "theirs"):
                    teller.say(f"   {side:<7}{json.dumps(getattr(conflict, side))[:110]}")
            tx = catalog.working_set(error.details["tx"])
        for conflict, _ in tx.conflicts():
            choice = plait.Choice.THEIRS if conflict.key[0] == "lake" else plait.Choice.OURS
            tx.resolve(conflict.key, choice, item=conflict.item)
            teller.say(f"resolved {conflict.item} by {choice.value}")
        teller.say(f"merged as {tx.commit().id[:12]}")


def _undo(teller: Teller, catalog: Catalog) -> None:
    with teller.step("Revert one table of a commit that changed two stores"):
        with catalog.transaction(message="A bad load") as tx:
            flights_of(tx).delete("month = 1")
            objects_of(tx).pipe("note.txt", b"January was removed\n")
        broken = count(catalog)
        catalog.revert("main", keys=[FLIGHTS])
        names = cast(AbstractFileSystem, catalog.at("main").open(LANDING)).find("")
        teller.say(f"{broken:,} flights after the bad load, {count(catalog):,} after reverting the table alone")
        teller.say(f"note.txt is still there: {'note.txt' in names}")


def _look(teller: Teller, catalog: Catalog) -> None:
    with teller.step("A time between two commits just made, blame, and proof"):
        commits = list(catalog.log("main"))
        between = commits[1].committed_at_us + (commits[0].committed_at_us - commits[1].committed_at_us) // 2
        teller.say(f"main*{format_time(between)} had {count(catalog, f'main*{format_time(between)}'):,} flights")
        for blamed in catalog.blame(LANDING):
            teller.say(f"{blamed.item:<14} {blamed.commit.id[:12]} {blamed.commit.message}")
        problems = list(catalog.verify(plait.Depth.BYTES))
        teller.say(f"verify, every byte: {len(problems)} problems in {len(commits)} commits")
        assert problems == []


def _page(teller: Teller, folder: Path) -> None:
    with teller.step("The history, as the command line draws it"):
        for arguments in (("--graph", "--oneline"), ("--html", PAGE)):
            command = [sys.executable, "-m", "plait.cli", "log", "--all", *arguments]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
            for line in ended.stdout.splitlines():
                teller.say(line)
