"""A scenario for the crash tests: commits, a merge, a revert, over two Iceberg stores. Prints what was acknowledged."""

from __future__ import annotations

import sys
from typing import cast

import plait
import pyarrow as pa
from plait.failpoint import arm_from_environment
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.table import Table

STORES = ("one", "two")


def append(tx: plait.WorkingSet, number: int) -> None:
    for store in STORES:
        cast(Table, tx.open(f"{store}.t")).append(pa.table({"id": [number]}))


def prepare(folder: str) -> None:
    """What exists before the scenario: one table in each of two stores."""
    with plait.init(folder) as catalog:
        for store in STORES:
            catalog.add_store(store, "iceberg", {"warehouse": f"{folder}/{store}"})
        with catalog.transaction(message="create") as tx:
            for store in STORES:
                cast(IcebergCatalog, tx.store(store)).create_table("t", pa.schema([("id", pa.int64())]))


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
