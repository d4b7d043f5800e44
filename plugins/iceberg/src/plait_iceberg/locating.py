"""Where a table is, and what to paste to read or write it there."""

from __future__ import annotations

from collections.abc import Mapping

from plait.adapter import OPENING
from plait.refspec import format_key
from plait.types import Location, SnapshotRef, Staging, Store

from plait_iceberg.files import file_options
from plait_iceberg.metadata import VIEW


def staging_location(store: Store, staging: Staging) -> Location:
    """The metadata file of a working set's table, which is written through a catalog only: plait's own."""
    snippet = (
        "# Python: a pyiceberg Table that writes into the working set\n"
        "import plait\n"
        f"table = {OPENING}.working_set({staging.tx!r}).open({format_key(staging.key)!r})\n"
    )
    return Location(staging.location, file_options(store), snippet)


def version_location(store: Store, snapshot: SnapshotRef) -> Location:
    """The metadata file of a version, which every Iceberg engine reads."""
    reach = file_options(store)
    if snapshot.attrs.get("format") == VIEW:
        return Location(snapshot.version, reach)
    names_environment = any(value.startswith("env:") for value in reach.values())
    snippet = (
        "# Python\n"
        + ("import os\n" if names_environment else "")
        + "from pyiceberg.table import StaticTable\n"
        + f"table = StaticTable.from_metadata({snapshot.version!r}{_properties(reach)})\n"
        + ("-- DuckDB, which has to know the bucket: CREATE SECRET (TYPE s3, …)\n" if reach else "-- DuckDB\n")
        + f"SELECT * FROM iceberg_scan('{snapshot.version}');\n"
    )
    return Location(snapshot.version, reach, snippet)


def _properties(reach: Mapping[str, str]) -> str:
    """These as an argument of pyiceberg's."""
    told = ", ".join(f"{name!r}: {_value(value)}" for name, value in sorted(reach.items()))
    return f", {{{told}}}" if told else ""


def _value(option: str) -> str:
    """An option as Python that gives its value, as `Context.credential` resolves it."""
    scheme, _, name = option.partition(":")
    if scheme == "env" and name:
        return f"os.environ[{name!r}]"
    if scheme == "file" and name:
        return f"open({name!r}).read().strip()"
    return repr(option)
