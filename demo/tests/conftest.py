"""A small archive of the form of the demo's data."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

HEADER = "year,month,day,dep_delay,arr_delay,carrier,flight,origin,dest,distance"
WEATHER_HEADER = (
    "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour"
)


def _make_archive(folder: Path) -> Path:
    rows = [f"2013,{1 + n % 12},{1 + n % 28},{n % 60},{n % 50},UA,{n},EWR,IAH,1400" for n in range(2400)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("flights.csv", "\n".join([HEADER, *rows]) + "\n")
    hours = [
        f"{origin},2013,{month},1,1,39.0,26.0,59.3,270,10.3,NA,0,1012,10,2013-{month:02}-01T06:00:00Z"
        for month in range(1, 13)
        for origin in ("EWR", "JFK")
    ]
    named = [f"{carrier},{carrier} Inc." for carrier in ("AA", "B6", "DL", "UA")]
    tables = {
        "weather.csv": [WEATHER_HEADER, *hours],
        "airlines.csv": ["carrier,name", *named],
        "airports.csv": ["faa,name", "EWR,Newark", "JFK,Kennedy"],
        "planes.csv": ["tailnum,year", "N10156,2004"],
    }
    files = {name: ("\n".join(lines) + "\n").encode() for name, lines in tables.items()}
    files["flights.csv.zip"] = packed.getvalue()
    made = folder / "data.tar.gz"
    with tarfile.open(made, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"pkg/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_archive(tmp_path_factory.mktemp("data"))
