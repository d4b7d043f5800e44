"""What plait costs over unlike stores, beside what the stores cost themselves. Ratios of one run, as a table and JSON.

    python benchmarks/stores.py                      # all of it: about five minutes
    python benchmarks/stores.py --only block --rounds 10

Client, stores and disk share the machine's cores: trust ratios, not seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

import plait
import pyarrow as pa
import pymysql
import sqlalchemy as sa
from plait.catalog import Catalog
from plait.local import LocalBackend
from plait_conformance.servers import dolt_program, dolt_server
from plait_demo import stores
from plait_demo.flights import SCHEMA, WEATHER_SCHEMA

STEPS = ("stage", "prepare", "publish", "release")
BLOCK_BYTES = 4096


def median_ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1000, 1)


class Report:
    """Rows, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, **figures: Any) -> None:
        self.rows.append({"name": name, **figures})
        print(f"{name:<46}" + "  ".join(f"{key} {value}" for key, value in figures.items()), flush=True)


@contextmanager
def counted_steps(catalog: Catalog, names: list[str]) -> Iterator[dict[tuple[str, str], list[float]]]:
    """How long each store's part of each step takes, call by call."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    adapters = cast(LocalBackend, catalog.backend).adapters
    for name in names:
        adapter = adapters.get(name)
        for step in STEPS:
            setattr(adapter, step, _timed(getattr(adapter, step), spent[name, step]))
    yield spent


def _timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            spent.append(time.perf_counter() - began)

    return timed


# -- one commit over several stores ------------------------------------------------------------------------------------


def change(tx: plait.WorkingSet, store: str, number: int) -> None:
    """A small change with the store's own client."""
    if store == "lake":
        row = {**dict.fromkeys(SCHEMA.names), "id": number, "month": 1}
        stores.flights(tx).append(pa.Table.from_pylist([row], schema=SCHEMA))
    elif store == "meteo":
        hour = {**dict.fromkeys(WEATHER_SCHEMA.names), "origin": "X", "time_hour": str(number)}
        stores.weather(tx).append(pa.Table.from_pylist([hour], schema=WEATHER_SCHEMA))
    elif store == "crm":
        with stores.reference(tx).begin() as connection:
            connection.execute(sa.text(f"INSERT INTO airlines VALUES ('X{number}', 'one')"))
    elif store == "raw":
        stores.objects(tx).pipe(f"{number}.txt", b"one")
    else:
        cast(Any, tx.open(stores.DISK)).write(number * BLOCK_BYTES, b"x" * BLOCK_BYTES)


def several(root: Path, rounds: int, report: Report) -> None:
    configured = stores.local(root)
    names = list(configured)
    with plait.init(root) as catalog:
        stores.add_stores(catalog, configured)
        with catalog.transaction(message="begin") as tx:
            stores.make_flights(tx)
            stores.make_weather(tx)
            stores.make_reference(tx, {"airlines": [{"carrier": "UA", "name": "United"}]})
            tx.create(stores.LANDING)
            if "vm" in names:
                cast(Any, tx.store("vm")).create("disk0", size_bytes=1 << 30)
        number = 0
        commits: dict[str, list[float]] = defaultdict(list)
        with counted_steps(catalog, names) as spent:
            # Round after round, so that whatever else the machine does meets all of them alike.
            for _ in range(rounds):
                for touched in (*[[name] for name in names], names):
                    number += 1
                    tx = catalog.begin(message=f"commit {number}")
                    for name in touched:
                        change(tx, name, number)
                    began = time.perf_counter()
                    tx.commit()
                    commits["+".join(touched)].append(time.perf_counter() - began)
        for touched_names, seconds in commits.items():
            report.add(f"commit over {touched_names}", median_ms=median_ms(seconds))
        for name in names:
            figures = {f"{step}_ms": median_ms(spent[name, step]) for step in STEPS if spent[name, step]}
            report.add(f"steps in {name}", **figures)
        slowest = max(statistics.median(commits[name]) for name in names)
        ratio = statistics.median(commits["+".join(names)]) / slowest
        report.add(f"all {len(names)} beside the slowest alone", ratio=round(ratio, 2), goal="1.3")


# -- Dolt: the recipe by hand, and through plait -----------------------------------------------------------------------


def dolt(root: Path, rounds: int, rows: int, report: Report) -> None:
    if dolt_program() is None:
        report.add("Dolt", skipped="no Dolt is installed: run scripts/engines.sh")
        return
    (root / "dolt").mkdir()
    with dolt_server(root / "dolt") as server, plait.init(root) as catalog:
        catalog.add_store("crm", "dolt", {"url": f"mysql://root@127.0.0.1:{server.port}"})
        with catalog.transaction(message="begin") as tx:
            stores.make_reference(tx, {"airlines": [{"carrier": "UA", "name": "United"}]})
        bare = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
        with bare.cursor() as cursor, (root / "decisions").open("ab", buffering=0) as decisions:
            cursor.execute("CREATE DATABASE bare")
            cursor.execute("USE bare")
            cursor.execute("CREATE TABLE airlines (carrier VARCHAR(16) PRIMARY KEY, name TEXT)")
            cursor.execute("CALL DOLT_COMMIT('-A', '-m', 'begin')")
            by_hand, through_plait = [], []
            for number in range(rounds):
                began = time.perf_counter()
                _recipe(cursor, number, decisions)
                by_hand.append(time.perf_counter() - began)
                began = time.perf_counter()
                with catalog.transaction(message="one") as tx:
                    change(tx, "crm", number)
                through_plait.append(time.perf_counter() - began)
        report.add("Dolt: the recipe by hand", median_ms=median_ms(by_hand))
        ratio = statistics.median(by_hand) / statistics.median(through_plait)
        report.add("Dolt: through plait", median_ms=median_ms(through_plait), of_bare=round(ratio, 2), goal="0.8")
        _dolt_diff(catalog, bare, rows, report)


def _recipe(cursor: Any, number: int, decisions: RawIOBase) -> None:
    """Stage, write, prepare, decide, check, publish: what two-phase commits over Dolt need, and nothing else."""
    _run(
        cursor,
        f"CALL DOLT_BRANCH('w{number}', 'main')",
        f"USE `bare/w{number}`",
        f"INSERT INTO airlines VALUES ('X{number}', 'one')",
        "CALL DOLT_COMMIT('-A', '-m', 'one')",
        f"CALL DOLT_TAG('t{number}', 'HEAD')",
    )
    decisions.write(f"t{number}\n".encode())  # As durable as the catalog's commit.
    os.fsync(decisions.fileno())
    _run(
        cursor,
        "USE `bare/main`",
        "SELECT dolt_hashof_db('HEAD'), dolt_hashof_db('STAGED'), dolt_hashof_db('WORKING')",
        f"CALL DOLT_MERGE('--ff-only', 't{number}')",
        "SELECT dolt_hashof_db('HEAD'), dolt_hashof_db('STAGED'), dolt_hashof_db('WORKING')",
        f"CALL DOLT_BRANCH('-D', '-f', 'w{number}')",
    )


def _run(cursor: Any, *statements: str) -> None:
    for statement in statements:
        cursor.execute(statement)
        cursor.fetchall()


def _dolt_diff(catalog: Catalog, bare: Any, rows: int, report: Report) -> None:
    with catalog.transaction(message="rows") as tx, stores.reference(tx).begin() as connection:
        connection.execute(sa.text("CREATE TABLE big (id INT PRIMARY KEY, n INT)"))
        for first in range(0, rows, 20_000):
            values = ", ".join(f"({number}, 0)" for number in range(first, min(first + 20_000, rows)))
            connection.execute(sa.text(f"INSERT INTO big VALUES {values}"))
    with catalog.transaction(message="one row of a hundred") as tx, stores.reference(tx).begin() as connection:
        connection.execute(sa.text("UPDATE big SET n = 1 WHERE id % 100 = 0"))
    versions = [catalog.at(spec).entry(stores.REFERENCE).snapshot.version for spec in ("main~1", "main")]
    began = time.perf_counter()
    with bare.cursor() as cursor:
        cursor.execute("USE reference")
        cursor.execute(f"SELECT * FROM dolt_diff('{versions[0]}', '{versions[1]}', 'big')")
        native = len(cursor.fetchall())
    native_seconds = time.perf_counter() - began
    began = time.perf_counter()
    found = sum(1 for _ in catalog.diff_items(stores.REFERENCE, "main~1", "main"))
    seconds = time.perf_counter() - began
    assert found == native == -(-rows // 100)
    report.add(
        f"Dolt: diff of 1 % of {rows:,} rows",
        native_s=round(native_seconds, 2),
        plait_s=round(seconds, 2),
        ratio=round(seconds / native_seconds, 2),
        goal="2",
    )
    _dolt_merge(catalog, bare, rows, report)


def _dolt_merge(catalog: Catalog, bare: Any, rows: int, report: Report) -> None:
    """1 % of the rows on a branch, beside another 1 % on main."""
    catalog.create_branch("dev", "main~1")
    with catalog.transaction("dev", message="another") as tx, stores.reference(tx).begin() as connection:
        connection.execute(sa.text("UPDATE big SET n = 2 WHERE id % 100 = 1"))
    ours, theirs = (catalog.at(spec).entry(stores.REFERENCE).snapshot.version for spec in ("main", "dev"))
    with bare.cursor() as cursor:
        for turn in ("cold", "warm"):
            _run(cursor, f"CALL DOLT_BRANCH('{turn}', '{ours}')", f"USE `reference/{turn}`")
            began = time.perf_counter()
            _run(cursor, f"CALL DOLT_MERGE('{theirs}', '-m', 'merge')")
            native_seconds = time.perf_counter() - began
            _run(cursor, "USE reference", f"CALL DOLT_BRANCH('-D', '-f', '{turn}')")
    began = time.perf_counter()
    catalog.merge("dev")
    seconds = time.perf_counter() - began
    with cast(Any, catalog.at("main").open(stores.REFERENCE)).connect() as connection:
        assert connection.execute(sa.text("SELECT sum(n) FROM big")).scalar() == 3 * -(-rows // 100)
    report.add(
        f"Dolt: merge of 1 % and 1 % of {rows:,} rows",
        native_s=round(native_seconds, 2),
        plait_s=round(seconds, 2),
        ratio=round(seconds / native_seconds, 2),
        goal="2",
    )


# -- Delta: 1 % of many rows -------------------------------------------------------------------------------------------


FED = ["id", "n", "_change_type"]
"""What a diff tells of the change data feed."""
DIFFS = 9
"""Turn by turn."""


def delta(root: Path, rows: int, report: Report) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("n", pa.int64())])
    table = pa.table({"id": range(rows), "n": [0] * rows}, schema=schema)
    with plait.init(root) as catalog:
        catalog.add_store("meteo", "delta", {"path": str(root / "delta")})
        with catalog.transaction(message="rows") as tx:
            feed = {"delta.enableChangeDataFeed": "true"}
            cast(Any, tx.store("meteo")).create_table("big", schema, key_columns=["id"], configuration=feed).append(
                table
            )
        catalog.create_branch("dev")
        for branch, rest in (("main", 0), ("dev", 1)):
            with catalog.transaction(branch, message=f"one row of a hundred, {rest}") as tx:
                cast(Any, tx.open("meteo.big")).update(new_values={"n": 1}, predicate=f"id % 100 = {rest}")
        opened = cast(Any, catalog.at("main").open("meteo.big"))

        def fed() -> pa.Table:
            return pa.table(opened.load_cdf(starting_version=opened.version(), columns=FED).read_all())

        # A diff gives rows as Python values, as Dolt's driver does. So the feed's rows are made Python values too: that
        # is what the ratio and its goal are about. (Without the time of the commit, which a diff does not tell.)
        asked: list[Callable[[], list[Any]]] = [
            lambda: [fed()],
            lambda: fed().to_pylist(),
            lambda: list(catalog.diff_items("meteo.big", "main~1", "main")),
        ]
        spent: list[list[float]] = [[], [], []]
        for _ in range(DIFFS):
            found = [_timed(ask, seconds)() for ask, seconds in zip(asked, spent, strict=True)]
        changed = [row for row in found[1] if row["_change_type"] == "update_postimage"]
        assert len(changed) == sum(one.aspect == "row" for one in found[2]) == -(-rows // 100)
        in_arrow, in_rows, through_plait = map(statistics.median, spent)
        report.add(
            f"Delta: diff of 1 % of {rows:,} rows",
            native_arrow_ms=median_ms(spent[0]),
            native_rows_ms=median_ms(spent[1]),
            plait_ms=median_ms(spent[2]),
            plait_first_ms=round(spent[2][0] * 1000, 1),
            ratio_to_arrow=round(through_plait / in_arrow, 1),
            ratio_to_rows=round(through_plait / in_rows, 1),
            goal="2 (rows)",
        )
        began = time.perf_counter()
        catalog.merge("dev")
        report.add(f"Delta: merge of 1 % and 1 % of {rows:,} rows", plait_s=round(time.perf_counter() - began, 2))


# -- a large volume: 1 % random changes --------------------------------------------------------------------------------


def block(root: Path, rounds: int, size_bytes: int, driver: str, report: Report) -> None:
    if remedy := stores.volumes_remedy():
        report.add("block", skipped=f"not here: {remedy}")
        return
    with plait.init(root) as catalog:
        catalog.add_store("vm", "block", {"path": str(root / "volumes"), "driver": driver})
        with catalog.transaction(message="begin") as tx:
            cast(Any, tx.store("vm")).create("disk0", size_bytes=size_bytes)
        with counted_steps(catalog, ["vm"]) as spent:
            for number in range(rounds):
                with catalog.transaction(message="one page") as tx:
                    change(tx, "vm", number)
        freezes = spent["vm", "prepare"]
        report.add(f"block: freeze of {size_bytes >> 30} GiB", p50_ms=median_ms(freezes), goal="20")
        catalog.create_branch("dev")
        pages = random.Random(7).sample(range(size_bytes // BLOCK_BYTES), size_bytes // BLOCK_BYTES // 50)
        half = len(pages) // 2
        for branch, mine in (("main", pages[:half]), ("dev", pages[half:])):
            with (
                catalog.transaction(branch, message="1 % of all pages") as tx,
                cast(Any, tx.open(stores.DISK)).connect() as disk,
            ):
                for page in mine:
                    disk.write(page * BLOCK_BYTES, page.to_bytes(8, "little") * (BLOCK_BYTES // 8))
                disk.flush()
        if driver == "qcow2":  # What files share would be counted for each of them.
            used = sum(path.stat().st_blocks * 512 for path in (root / "volumes").rglob("*") if path.is_file())
            ratio = round(used / (len(pages) * BLOCK_BYTES), 2)
            report.add("block: space of two branches beside what they changed", ratio=ratio, goal="1.2")
        began = time.perf_counter()
        extents = sum(1 for _ in catalog.diff_items(stores.DISK, "main~1", "main"))
        report.add("block: diff of 1 %", extents=extents, plait_s=round(time.perf_counter() - began, 2), goal="1")
        began = time.perf_counter()
        catalog.merge("dev")
        report.add("block: merge of 1 % and 1 %", plait_s=round(time.perf_counter() - began, 2), goal="10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["several", "dolt", "delta", "block"], action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size-bytes", type=int, default=10 << 30)
    parser.add_argument("--driver", default="qcow2", help="of block volumes; raw needs a TMPDIR with reflinks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report()
    runs: dict[str, Callable[[Path], None]] = {
        "several": lambda root: several(root, options.rounds, report),
        "dolt": lambda root: dolt(root, options.rounds * 5, options.rows, report),
        "delta": lambda root: delta(root, options.rows, report),
        "block": lambda root: block(root, options.rounds, options.size_bytes, options.driver, report),
    }
    for name in options.only or runs:
        with tempfile.TemporaryDirectory(prefix=f"plait-bench-{name}-") as folder:
            runs[name](Path(folder))
    if options.json:
        options.json.write_text(json.dumps(report.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
