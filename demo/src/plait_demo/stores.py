"""The demo's stores, and how its work is done in each with that store's own client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import plait
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from fsspec import AbstractFileSystem
from plait.catalog import Catalog
from plait.point import Point
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.table import Table

from plait_demo.flights import SCHEMA, WEATHER_SCHEMA

FLIGHTS, WEATHER, REFERENCE = "lake.air.flights", "meteo.hourly", "crm.reference"
LANDING, DISK = "raw.landing", "vm.disk0"
"""Where the demo keeps its data: rows by month, rows by hour, a small database, raw files, a volume with a model."""

Configured = Mapping[str, tuple[str, Mapping[str, str]]]
"""Stores by name: their kind and their options."""

_NEEDED = ("qemu-storage-daemon", "qemu-img", "mke2fs", "fuse2fs", "fusermount3")
MODEL = "model/delays.json"
_IMAGE_BYTES = 32 << 20

Opened = plait.WorkingSet | Point
"""Where assets are opened: to be written, or to be read at a commit."""


def volumes_remedy() -> str:
    """The command that brings what volumes with files inside need, and this machine or user lacks; "" for nothing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if not all(shutil.which(name, path=path) for name in _NEEDED):
        return "sudo apt-get install qemu-utils qemu-system-common e2fsprogs fuse2fs fuse3"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "sudo chmod 666 /dev/fuse"


def has_volumes() -> bool:
    return not volumes_remedy()


def local(folder: Path) -> Configured:
    """Each in a folder of its own, without a server; volumes are left out where they cannot be."""
    kinds = {"lake": ("iceberg", "warehouse"), "meteo": ("delta", "path"), "crm": ("dolt", "path")}
    kinds |= {"raw": ("files", "path"), **({"vm": ("block", "path")} if has_volumes() else {})}
    return {name: (kind, {option: str(folder / name)}) for name, (kind, option) in kinds.items()}


def add_stores(catalog: Catalog, configured: Configured) -> None:
    for name, (kind, options) in configured.items():
        catalog.add_store(name, kind, options)


# -- flights: an Iceberg table, written and read by pyiceberg ----------------------------------------------------------


def make_flights(tx: plait.WorkingSet) -> Table:
    table = cast(IcebergCatalog, tx.store("lake")).create_table(FLIGHTS.partition(".")[2], SCHEMA)
    with table.update_schema() as schema:
        schema.set_identifier_fields("id")
    with table.update_spec() as spec:
        spec.add_identity("month")
    return table


def flights(opened: Opened) -> Table:
    return cast(Table, opened.open(FLIGHTS))


def correct_flights(tx: plait.WorkingSet, delays: Mapping[int, int]) -> None:
    """Set the arrival delay of some flights: rewrites the files that hold them."""
    table = flights(tx)
    wanted = "id in (" + ", ".join(map(str, delays)) + ")"
    rows = table.scan(row_filter=wanted).to_arrow().to_pylist()
    table.upsert(pa.Table.from_pylist([{**row, "arr_delay": delays[row["id"]]} for row in rows], schema=SCHEMA))


def count_flights(opened: Opened) -> int:
    return int(flights(opened).scan().count())


# -- weather: a Delta table, written and read by deltalake -------------------------------------------------------------


def make_weather(tx: plait.WorkingSet) -> Any:
    namespace: Any = tx.store("meteo")
    return namespace.create_table(WEATHER.partition(".")[2], WEATHER_SCHEMA, key_columns=["origin", "time_hour"])


def weather(opened: Opened) -> Any:
    """A deltalake DeltaTable."""
    return opened.open(WEATHER)


def correct_weather(tx: plait.WorkingSet, origin: str, time_hour: str, precip: float) -> None:
    where = f"origin = '{origin}' AND time_hour = '{time_hour}'"
    weather(tx).update(new_values={"precip": precip}, predicate=where)


def count_weather(opened: Opened) -> int:
    return int(weather(opened).read("SELECT count(*) AS n FROM this")["n"][0].as_py())


# -- airlines, airports, planes: a Dolt database, written and read by SQL ----------------------------------------------


def reference(opened: Opened) -> sa.Engine:
    return cast(sa.Engine, opened.open(REFERENCE))


def make_reference(tx: plait.WorkingSet, tables: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    with cast(sa.Engine, tx.create(REFERENCE)).begin() as connection:
        for name, rows in tables.items():
            first, *others = rows[0]
            columns = [f"`{first}` VARCHAR(16) NOT NULL PRIMARY KEY", *(f"`{column}` TEXT" for column in others)]
            connection.execute(sa.text(f"CREATE TABLE {name} ({', '.join(columns)})"))
            places = ", ".join(f":{column}" for column in rows[0])
            connection.execute(sa.text(f"INSERT INTO {name} VALUES ({places})"), [dict(row) for row in rows])


def rename_airline(tx: plait.WorkingSet, carrier: str, name: str) -> None:
    with reference(tx).begin() as connection:
        connection.execute(
            sa.text("UPDATE airlines SET name = :name WHERE carrier = :carrier"), {"name": name, "carrier": carrier}
        )


def airlines(opened: Opened) -> dict[str, str]:
    with reference(opened).connect() as connection:
        return {row.carrier: row.name for row in connection.execute(sa.text("SELECT carrier, name FROM airlines"))}


# -- raw files: objects, written and read by fsspec --------------------------------------------------------------------


def objects(opened: Opened) -> AbstractFileSystem:
    return cast(AbstractFileSystem, opened.open(LANDING))


def put_quality(tx: plait.WorkingSet, **facts: object) -> None:
    """Change facts of a small JSON object; each stands in a line of its own."""
    held = objects(tx)
    known = json.loads(held.cat_file("quality.json")) if held.exists("quality.json") else {}
    held.pipe("quality.json", json.dumps({**known, **facts}, indent=2).encode())


# -- a volume: an ext4 filesystem with a model in it, served over NBD --------------------------------------------------


def make_disk(tx: plait.WorkingSet, folder: Path, model: Mapping[str, float]) -> None:
    """An image made by mke2fs, taken in where it is: without root, and without a copy."""
    content, image = folder / "image", folder / "disk0.img"
    (content / MODEL).parent.mkdir(parents=True)
    _write_model(content, model)
    with image.open("wb") as made:
        made.truncate(_IMAGE_BYTES)
    program = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program is not None, "has_volumes says whether it is there"
    subprocess.run([program, "-q", "-t", "ext4", "-d", str(content), str(image)], check=True, timeout=60)
    shutil.rmtree(content)
    volumes: Any = tx.store("vm")
    volumes.create_from(DISK.partition(".")[2], image)


def put_model(tx: plait.WorkingSet, model: Mapping[str, float]) -> None:
    with cast(Any, tx.open(DISK)).files() as root:
        _write_model(root, model)


def put_note(tx: plait.WorkingSet, name: str, text: str) -> None:
    with cast(Any, tx.open(DISK)).files() as root:
        (root / name).write_text(text)


def disk_files(opened: Opened) -> dict[str, str]:
    """The files on the volume and what they hold."""
    with cast(Any, opened.open(DISK)).files() as root:
        found = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_text() for path in found}


def _write_model(root: Path, model: Mapping[str, float]) -> None:
    (root / MODEL).write_text(json.dumps(model, indent=2) + "\n")


def train(table: pa.Table) -> dict[str, float]:
    """The demo's model: how late each carrier is, in minutes on average."""
    grouped = table.select(["carrier", "arr_delay"]).group_by("carrier").aggregate([("arr_delay", "mean")])
    rows = grouped.sort_by("carrier").to_pylist()
    return {row["carrier"]: round(row["arr_delay_mean"], 2) for row in rows if row["arr_delay_mean"] is not None}


def rows_of_month(table: pa.Table, first: int, last: int) -> pa.Table:
    return table.filter(pc.and_(pc.greater_equal(table["month"], first), pc.less_equal(table["month"], last)))
