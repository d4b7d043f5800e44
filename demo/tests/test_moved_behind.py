"""Data that is moved away behind plait: a clear error, and once it is back the working set goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plait
import pyarrow as pa
import pytest
from plait.catalog import Catalog
from plait.errors import NotFound, PlaitError
from plait.types import Depth, TxState
from plait.working_set import WorkingSet

ROWS = pa.table({"id": pa.array(range(10), pa.int64())})
KEYS = {"files": "here.raw", "delta": "here.raw", "iceberg": "here.raw.events", "dolt": "here.raw", "block": "here.raw"}


def create(kind: str, tx: WorkingSet) -> None:
    handle: Any
    if kind == "files":
        handle = tx.open(KEYS[kind], create=True)
        handle.pipe_file("one.bin", b"1")
    elif kind == "delta":
        handle = tx.store("here")
        handle.create_table("raw", ROWS.schema).append(ROWS)
    elif kind == "iceberg":
        handle = tx.store("here")
        handle.create_table("raw.events", ROWS.schema).append(ROWS)
    elif kind == "block":
        handle = tx.store("here")
        handle.create("raw", size_bytes=1 << 20)
        change(kind, tx)
    else:
        handle = tx.open(KEYS[kind], create=True)
        with handle.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INT PRIMARY KEY)")


def change(kind: str, tx: WorkingSet) -> None:
    handle: Any = tx.open(KEYS[kind])
    if kind == "files":
        handle.pipe_file("two.bin", os.urandom(8))
    elif kind in ("delta", "iceberg"):
        handle.append(ROWS)
    elif kind == "block":
        with handle.connect() as client:
            client.write(0, os.urandom(4096))
            client.flush()
    else:
        with handle.begin() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_store_that_was_moved_is_an_error_and_goes_on_once_it_is_back(kind: str, tmp_path: Path) -> None:
    if kind == "block" and shutil.which("qemu-storage-daemon") is None and os.environ.get("CI") != "true":
        pytest.skip("NOT RUN without the qemu tools")
    folder, away = tmp_path / "store", tmp_path / "away"
    with plait.init(str(tmp_path)) as catalog:
        catalog.add_store("here", kind, {"warehouse" if kind == "iceberg" else "path": str(folder)})
        with catalog.transaction(message="made") as tx:
            create(kind, tx)
        assert catalog.publish() == []
        working = catalog.begin(message="more")
        change(kind, working)
    with plait.open(str(tmp_path)) as catalog:
        head = catalog.resolve("main").id
        folder.rename(away)
        assert list(catalog.verify(Depth.METADATA)), "nobody sees that the data is gone"
        for ask in asked(kind, catalog):
            with pytest.raises(PlaitError) as caught:
                ask()
            assert caught.value.message
        assert catalog.resolve("main").id == head
        # The other one was discarded, which its store is told once it is back.
        assert [one.message for one in catalog.working_sets() if one.state is not TxState.ABORTING] == ["more"]
        shutil.rmtree(folder, ignore_errors=True)
        away.rename(folder)
        catalog.working_set(working.id).commit()
        assert catalog.publish() == []
        catalog.recover()
        assert list(catalog.working_sets()) == []
        assert list(catalog.verify(Depth.BYTES)) == []


def asked(kind: str, catalog: Catalog) -> list[Callable[[], object]]:
    """What a user asks of a store, and needs its data."""

    def begin() -> None:
        tx = catalog.begin()
        try:
            change(kind, tx)
            tx.commit()
        finally:
            tx.discard()

    (left,) = catalog.working_sets()
    return [catalog.working_set(left.id).commit, begin]


@pytest.mark.parametrize(("kind", "place"), [("delta", "raw"), ("dolt", "raw.db"), ("iceberg", "raw/events-*")])
def test_one_asset_that_was_moved_is_an_error_that_writes_nothing_and_goes_on_once_it_is_back(
    kind: str, place: str, tmp_path: Path
) -> None:
    folder, away = tmp_path / "store", tmp_path / "away"
    with plait.init(str(tmp_path)) as catalog:
        catalog.add_store("here", kind, {"warehouse" if kind == "iceberg" else "path": str(folder)})
        with catalog.transaction(message="made") as tx:
            create(kind, tx)
        assert catalog.publish() == []
        working = catalog.begin(message="more")
        change(kind, working)
    (asset,) = folder.glob(place)
    asset.rename(away)
    with plait.open(str(tmp_path)) as catalog:
        head = catalog.resolve("main").id
        with pytest.raises(NotFound) as caught:
            catalog.working_set(working.id).commit()
        assert "raw" in caught.value.message
        assert "discard" in caught.value.remedy
        assert catalog.resolve("main").id == head
        assert [one.id for one in catalog.working_sets()] == [working.id]
        assert not asset.exists()
        away.rename(asset)
        catalog.working_set(working.id).commit()
        assert catalog.publish() == []
        assert list(catalog.verify(Depth.BYTES)) == []
