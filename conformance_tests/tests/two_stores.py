"""A scenario for the crash tests: commits, a merge, a revert over Iceberg and files. Prints what was acknowledged."""

from __future__ import annotations

import sys
from typing import cast

import plait
import pyarrow as pa
from fsspec import AbstractFileSystem
from plait.failpoint import arm_from_environment
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.table import Table


def append(tx: plait.WorkingSet, number: int) -> None:
    cast(Table, tx.open("one.t")).append(pa.table({"id": [number]}))
    cast(AbstractFileSystem, tx.open("two.t")).pipe(str(number), b"x" * number)


def prepare(folder: str) -> None:
    """What exists before the scenario: a table in one store, a prefix in the other."""
    with plait.init(folder) as catalog:
        catalog.add_store("one", "iceberg", {"warehouse": f"{folder}/one"})
        catalog.add_store("two", "files", {"path": f"{folder}/two"})
        with catalog.transaction(message="create") as tx:
            cast(IcebergCatalog, tx.store("one")).create_table("t", pa.schema([("id", pa.int64())]))
            tx.create("two.t")


def run(folder: str) -> None:
    with plait.open(folder) as catalog:
        catalog.create_branch("dev")
        for branch, number in (("main", 1), ("dev", 2)):
            with catalog.transaction(branch, message=f"add {number}") as tx:
                append(tx, number)
            print(f"committed {number}", flush=True)
        catalog.merge("dev", message="add 2 by merging")
        print("merged", flush=True)
        catalog.revert("main~1", message="remove 1")
        print("reverted", flush=True)
        dropped = catalog.begin(name="dropped")
        append(dropped, 9)
        dropped.discard()
        print("discarded", flush=True)


if __name__ == "__main__":
    arm_from_environment()
    run(sys.argv[1])
