"""The process dies between two writes, anywhere; the call is repeated; what is there is right and nothing is torn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from plait.failpoint import armed
from plait.types import Depth, SnapshotRef, Staging, Store
from plait_conformance.tables import KEY, KEYED, Tables, append, batch, correct, delete, order, ordered, read_back
from plait_conformance.testing import MemoryPort, make_adapter
from plait_iceberg import IcebergAdapter

Act = Callable[[], SnapshotRef]


class Died(Exception):
    """A process that stopped."""


def restarted(warehouse: Path) -> IcebergAdapter:
    made = make_adapter(IcebergAdapter, Store("lake", "iceberg", options={"warehouse": str(warehouse)}))
    assert isinstance(made, IcebergAdapter)
    return made


def names_reached(act: Act) -> list[str]:
    reached: list[str] = []
    with armed(reached.append):
        act()
    return reached


def die_at(place: int) -> Callable[[str], None]:
    """Die at the place-th failpoint that is reached."""
    left = place

    def handle(name: str) -> None:
        nonlocal left
        if left == 0:
            raise Died(name)
        left -= 1

    return handle


def check_metadata_files_are_whole(warehouse: Path) -> None:
    found = [path for path in warehouse.rglob("*.metadata.json") if not path.name.startswith(".")]
    assert found
    for path in found:
        assert "location" in json.loads(path.read_text())


def loop(begin: Callable[[], Act], warehouse: Path, expected: list[dict[str, object]]) -> set[str]:
    """Run it once per failpoint, die there, repeat it; the names of all failpoints."""
    names = names_reached(begin())
    assert names
    for place, name in enumerate(names):
        act = begin()
        with pytest.raises(Died, match=name), armed(die_at(place)):
            act()
        check_metadata_files_are_whole(warehouse)
        assert read_back(act()) == ordered(expected), f"after a crash at {name}"
        assert act() == act()
        assert restarted(warehouse).verify(act(), Depth.BYTES).problems == ()
    return set(names)


def test_a_merge_of_rows_that_dies_anywhere_is_repeated_right(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1), order(2), order(3)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(2, "ink")), append(order(4)))

    def begin() -> Act:
        tx = tables.tx()

        def act() -> SnapshotRef:
            merged = restarted(warehouse).merge(tx, 1, base=base, ours=ours, theirs=theirs)
            return merged.snapshot  # type: ignore[union-attr]

        return act

    names = loop(begin, warehouse, [order(1, "cap"), order(2, "ink"), order(3), order(4)])
    assert names >= {
        "iceberg.write.before_data",
        "iceberg.write.before_manifests",
        "iceberg.write.before_manifest_list",
        "iceberg.write.before_checksums",
        "iceberg.write.before_metadata",
        "iceberg.files.before_link",
        "iceberg.write.after_metadata",
    }


def test_a_merge_of_files_that_dies_anywhere_is_repeated_right(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1)])
    base = tables.change(base, append(order(2)))
    ours = tables.change(base, append(order(3)))
    theirs = tables.change(base, delete("id = 1"), append(order(4)))

    def begin() -> Act:
        tx = tables.tx()

        def act() -> SnapshotRef:
            merged = restarted(warehouse).merge(tx, 1, base=base, ours=ours, theirs=theirs)
            return merged.snapshot  # type: ignore[union-attr]

        return act

    loop(begin, warehouse, [order(2), order(3), order(4)])


def test_a_restore_of_rows_that_dies_anywhere_is_repeated_right(tables: Tables, warehouse: Path) -> None:
    then = tables.create([order(1), order(2)])
    now = tables.change(then, correct(order(1, "cap")), append(order(3)))

    def begin() -> Act:
        tx = tables.tx()

        def act() -> SnapshotRef:
            adapter = restarted(warehouse)
            staging = adapter.restore(tx, Staging(tx, KEY, now, now.version), then, items=["id=1"])
            voted = adapter.prepare(tx, 1, {KEY: staging})[KEY]
            assert voted is not None
            return voted

        return act

    loop(begin, warehouse, [order(1), order(2), order(3)])


def test_a_working_set_that_dies_anywhere_is_gone_on_with(tables: Tables, warehouse: Path) -> None:
    """The client looks at what landed, as a person would, and writes what is missing."""
    base = tables.create([order(1)])

    def begin() -> Act:
        port = MemoryPort(tables.adapter, tables.tx(), {KEY: base})

        def act() -> SnapshotRef:
            table = tables.table(port)
            if table.scan("id = 2").to_arrow().num_rows == 0:
                table.append(batch(table, [order(2)]))
            return tables.vote(port)

        return act

    names = loop(begin, warehouse, [order(1), order(2)])
    assert names == {
        "iceberg.commit.before_checksums",
        "iceberg.commit.before_metadata",
        "iceberg.commit.before_move",
        "iceberg.prepare.before_vote",
    }


def test_a_creation_that_dies_anywhere_is_gone_on_with(tables: Tables, warehouse: Path) -> None:
    tables.create([order(9)])  # so that there is a whole file to look at whatever dies

    def begin() -> Act:
        port = tables.port()

        def act() -> SnapshotRef:
            table = tables.catalog(port).create_table_if_not_exists("sales.orders", KEYED)
            if table.scan().to_arrow().num_rows == 0:
                table.append(batch(table, [order(1)]))
            return tables.vote(port)

        return act

    loop(begin, warehouse, [order(1)])


def test_a_crash_leaves_nothing_that_retention_does_not_see(tables: Tables, warehouse: Path) -> None:
    base = tables.create([order(1), order(2)])
    ours = tables.change(base, correct(order(1, "cap")))
    theirs = tables.change(base, correct(order(2, "ink")))

    def merge() -> SnapshotRef:
        found = restarted(warehouse).merge("tx-dead", 1, base=base, ours=ours, theirs=theirs)
        return found.snapshot  # type: ignore[union-attr]

    with pytest.raises(Died), armed(lambda name: die_at(0)(name) if name == "iceberg.files.before_link" else None):
        merge()
    left = {f"file://{path}" for path in warehouse.rglob("*") if path.is_file()}
    assert {item.path for item in tables.adapter.inventory()} == left


def test_a_deletion_that_dies_is_repeated(tables: Tables, adapter: IcebergAdapter, warehouse: Path) -> None:
    tables.create([order(1)])
    items = list(adapter.inventory())
    with pytest.raises(Died), armed(die_at(2)):
        adapter.delete(items)
    assert len(list(adapter.inventory())) == len(items) - 2
    adapter.delete(items)
    assert list(adapter.inventory()) == []
