"""What one call reads of the database, in a history of some commits and in one of many: as good as the same.

Rows are counted where each database counts them, without a clock: SQLite's steps of its machine, of which every row it
looks at takes several, and the rows that PostgreSQL fetched, also those that a filter dropped again. Nobody has run
ANALYZE, and PostgreSQL's statements were planned while the tables were empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import plait
import pytest
import sqlalchemy as sa
from plait.catalog import Catalog
from plait.errors import NotFound
from plait.refspec import format_time
from plait.types import Mode, Proposal
from plait_conformance.behaviour.stores import A, handle, write
from plait_conformance.fake_kinds import FakeDeltaAdapter
from plait_conformance.samples import delete, put
from plait_conformance.scenes import Scene, create_catalog

FEW, MANY = 600, 3_000
HEADS_FEW, HEADS_MANY = 20, 200
KEYS = 20
"""The same keys over and over: the tree stays as it is, the history grows."""
STEPS_EACH = 50


class Reads:
    """Counts what the databases of one engine look at."""

    def __init__(self, catalog: Catalog) -> None:
        engine: sa.Engine = catalog.backend._repository.database._engine  # type: ignore[attr-defined]
        self.count = 0
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "checkout", self._count_steps)
        else:
            sa.event.listen(engine, "begin", self._subtract_rows)
            sa.event.listen(engine, "commit", self._add_rows)
            sa.event.listen(engine, "rollback", self._add_rows)

    def _count_steps(self, driver: Any, record: object, proxy: object) -> None:
        driver.set_progress_handler(self._step, STEPS_EACH)

    def _step(self) -> int:
        self.count += 1
        return 0

    def _subtract_rows(self, connection: sa.Connection) -> None:
        self.count -= self._rows(connection)  # Some of earlier transactions may still be in the sum.

    def _add_rows(self, connection: sa.Connection) -> None:
        self.count += self._rows(connection)

    def _rows(self, connection: sa.Connection) -> int:
        read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        return int(connection.exec_driver_sql(read).scalar() or 0)


NUMBERS = count()


def grown(catalog: Catalog, start: int, end: int) -> None:
    """Commits of one key each, every one under an idempotency key of its own, as clients make them."""
    for first in range(start, end, 100):
        puts = [
            put(f"k{number % KEYS}", number, number - KEYS if number >= KEYS else None)
            for number in range(first, first + 100)
        ]
        assert len(catalog.commit_many([Proposal("main", (one,), message="m") for one in puts])) == len(puts)


def merge_of_one_key(catalog: Catalog) -> None:
    catalog.create_branch("dev")
    catalog.commit(Proposal("dev", (put("merged", 1),), message="m"))
    catalog.merge("dev")
    catalog.commit(Proposal("main", (delete("merged", 1),), message="m"))
    catalog.delete_ref("dev")


CALLS: dict[str, Callable[[Catalog, Any], object]] = {
    "commit": lambda catalog, early: catalog.commit(Proposal("main", (put(f"new{next(NUMBERS)}", 1),), message="m")),
    "undo it": lambda catalog, early: catalog.revert("main"),
    "transaction": lambda catalog, early: catalog.begin().discard(),
    "merge": lambda catalog, early: merge_of_one_key(catalog),
    "time travel": lambda catalog, early: catalog.resolve(f"main*{format_time(early.committed_at_us)}"),
    "commit by id": lambda catalog, early: catalog.resolve(f"@{early.id[:12]}"),
    "the commit before": lambda catalog, early: catalog.resolve("main~1"),
    "log": lambda catalog, early: list(islice(catalog.log(), 3)),
    "reflog": lambda catalog, early: list(islice(catalog.reflog("main"), 3)),
    "history of a key": lambda catalog, early: list(islice(catalog.history(("p", "k0")), 1)),
    "diff": lambda catalog, early: list(catalog.diff("main~1", "main")),
    "events": lambda catalog, early: catalog.backend.events(early.seq, 3),
    "kept answer": lambda catalog, early: catalog.commit(
        Proposal("main", (put("kept", 1),), message="m", idempotency_key="one")
    ),
}


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    with plait.init(database_url) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        yield catalog


@pytest.mark.slow
def test_a_call_reads_the_same_in_a_long_history(catalog: Catalog) -> None:
    reads = Reads(catalog)
    counted: dict[str, list[int]] = {name: [] for name in CALLS}
    start = 0
    for end in (FEW, MANY):
        grown(catalog, start, end)
        start = end
        early = catalog.resolve("main~50")
        for name, call in CALLS.items():
            call(catalog, early)  # Caches fill, as they would in both.
            before = reads.count
            call(catalog, early)
            counted[name].append(reads.count - before)
    assert not grew(counted)


@pytest.mark.slow
def test_a_commit_reads_the_same_in_a_store_with_many_native_heads(database_url: str, tmp_path: Path) -> None:
    scene = Scene(tmp_path, database_url)
    create_catalog(scene)
    counted: dict[str, list[int]] = {"transaction": [], "publish": [], "look at a head": []}
    with scene.open() as catalog:
        reads = Reads(catalog)
        catalog.add_store("s", FakeDeltaAdapter.kind, {"path": str(tmp_path / "store")})
        start = 0
        for end in (HEADS_FEW, HEADS_MANY):
            with catalog.transaction() as tx:
                for number in range(start, end):
                    handle(tx, ("s", f"a{number}"))["x"] = "1"
            start = end
            for name, call in {
                "transaction": lambda: write(catalog, x=next(NUMBERS)),
                "publish": catalog.publish,
                "look at a head": lambda: look(catalog),
            }.items():
                call()
                before = reads.count
                call()
                counted[name].append(reads.count - before)
    assert not grew(counted)


def look(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="has not diverged"):
        catalog.adopt(A)


def grew(counted: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    assert sum(few + many for few, many in counted.values()) > len(counted), "nothing was counted"
    return {name: (few, many) for name, (few, many) in counted.items() if many > 1.5 * few + 20}
