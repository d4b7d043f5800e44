"""Other engines read what plait published, and what it did not publish where `locate` says."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from plait_conformance.delta_tables import Rows, Tables, append, delete, ordered, row


def engine(module: str, packages: str) -> Any:
    """Missing: a failure in CI, else a skip that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        missing = f"NOT RUN: {module} is not installed: pip install {packages}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


def polars_rows(tables: Tables, folder: str, version: int | None = None) -> Rows:
    pl = engine("polars", "polars")
    return ordered(pl.read_delta(folder, version=version, storage_options=tables.storage).to_dicts())


def duckdb_rows(tables: Tables, folder: str, version: int | None = None) -> Rows:
    packages = "duckdb==1.5.5 duckdb-extensions==1.5.5 duckdb-extension-delta==1.5.5 duckdb-extension-httpfs==1.5.5"
    duckdb, extensions = engine("duckdb", packages), engine("duckdb_extensions", packages)
    with duckdb.connect() as connection:
        extensions.import_extension("delta", con=connection)
        connection.execute("LOAD delta")
        if tables.storage is not None:
            extensions.import_extension("httpfs", con=connection)
            told = {name.removeprefix("AWS_"): value for name, value in tables.storage.items()}
            connection.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{told['ACCESS_KEY_ID']}', SECRET '{told['SECRET_ACCESS_KEY']}', "
                f"ENDPOINT '{told['ENDPOINT_URL'].removeprefix('http://')}', URL_STYLE 'path', USE_SSL false)"
            )
        if version is None:
            found = connection.execute("SELECT * FROM delta_scan(?)", [folder])
        else:
            found = connection.execute(f"SELECT * FROM delta_scan('{folder}', version={version})")
        names = [one[0] for one in found.description]
        return ordered(dict(zip(names, values, strict=True)) for values in found.fetchall())


@pytest.mark.slow
@pytest.mark.parametrize("tables", ["folder", pytest.param("seaweedfs", marks=pytest.mark.s3server)], indirect=True)
@pytest.mark.parametrize("read", [polars_rows, duckdb_rows])
def test_an_engine_reads_tables_branches_and_past_commits(tables: Tables, read: Callable[..., Rows]) -> None:
    base = tables.create([row(1), row(2)])
    tables.published(None, base)
    branch = tables.change(base, append(row(3)), delete("id = 1"))
    assert read(tables, f"{tables.place}/hourly") == ordered([row(1), row(2)])
    location = tables.adapter.locate(branch)
    assert read(tables, location.uri, int(location.options["version"])) == ordered([row(2), row(3)])
    tables.published(base, branch)
    assert read(tables, f"{tables.place}/hourly") == ordered([row(2), row(3)])
    location = tables.adapter.locate(base)
    assert read(tables, location.uri, int(location.options["version"])) == ordered([row(1), row(2)])
