"""The process dies between two writes, anywhere in a life; a new adapter repeats the call; the end is the same."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import TypeVar

from plait.failpoint import armed
from plait.types import Intent, Item, Key, Merged, Move, PublishState, SnapshotRef, Staging
from plait_dolt.adapter import DoltAdapter
from plait_dolt.names import OWN
from plait_dolt.testing import Place, rows

T = TypeVar("T")
CITY = "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(50), pop INT)"


class Died(Exception):
    """A process that stopped."""


class Life:
    """Every call that writes, in order; `die_at` says at which failpoint it stops once (None: never)."""

    def __init__(self, place: Place, die_at: int | None = None) -> None:
        self.place = place
        self.reached: list[str] = []
        self._left = die_at
        self._txs: list[str] = []
        self.adapter: DoltAdapter = place.adapter()

    def _handle(self, name: str) -> None:
        self.reached.append(name)
        if self._left is not None:
            if self._left == 0:
                self._left = None
                raise Died(name)
            self._left -= 1

    def step(self, act: Callable[[DoltAdapter], T]) -> T:
        """One call; when it dies, a new process makes it again."""
        try:
            with armed(self._handle):
                return act(self.adapter)
        except Died:
            self.adapter = self.place.adapter()
            with armed(self._handle):
                return act(self.adapter)

    def tx(self) -> str:
        self._txs.append(str(uuid.uuid4()))
        return self._txs[-1]

    def staged(self, tx: str, key: Key, base: SnapshotRef | None, *statements: str) -> Staging:
        staging = self.step(lambda adapter: adapter.stage(tx, {key: Intent(f"{tx}-1", base)}))[key]
        database, _, branch = staging.location.partition("/")
        with self.adapter.engine.client(database, branch).begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        return staging

    def prepared(self, base: SnapshotRef | None, *statements: str) -> SnapshotRef:
        tx = self.tx()
        staging = self.staged(tx, self.place.key, base, *statements)
        voted = self.step(lambda adapter: adapter.prepare(tx, 1, {self.place.key: staging}))[self.place.key]
        assert voted is not None
        return voted

    def publish(self, before: SnapshotRef | None, after: SnapshotRef, seq: int) -> None:
        moves = {self.place.key: Move(before, after, seq=seq)}
        published = self.step(lambda adapter: adapter.publish(moves))[self.place.key]
        assert published.state is PublishState.DONE

    def run(self) -> None:
        """All of it, with what must hold at the end."""
        key = self.place.key
        first = self.prepared(None, CITY, "INSERT INTO city VALUES (1,'Ur',10), (2,'Uruk',20), (3,'Kish',30)")
        self.publish(None, first, 1)
        ours = self.prepared(first, "UPDATE city SET pop = 11 WHERE id = 1")
        self.publish(first, ours, 2)
        theirs = self.prepared(first, "UPDATE city SET name = 'Ur III' WHERE id = 1")
        tx = self.tx()
        merged = self.step(lambda adapter: adapter.merge(tx, 1, base=first, ours=ours, theirs=theirs))
        assert isinstance(merged, Merged)
        self.publish(ours, merged.snapshot, 3)
        assert rows(self.adapter, merged.snapshot, "city")[0] == {"id": 1, "name": "Ur III", "pop": 11}
        succeeding = self.tx()
        across = self.step(lambda adapter: adapter.succeed(succeeding, 1, onto=merged.snapshot, content=first))
        assert across.digest == first.digest
        self.publish(merged.snapshot, across, 4)
        restoring = self.tx()
        staging = self.staged(restoring, key, across, "DELETE FROM city")
        items = ["city::id=2", "city::id=3"]
        self.step(lambda adapter: adapter.restore(restoring, staging, ours, items=items))
        self.step(lambda adapter: adapter.restore(restoring, staging, merged.snapshot, items=None))
        voted = self.step(lambda adapter: adapter.prepare(restoring, 1, {key: staging}))[key]
        assert voted is not None
        assert voted.digest == merged.snapshot.digest
        self.publish(across, voted, 5)
        self.step(lambda adapter: adapter.release(tx, [merged.snapshot]))
        self.step(lambda adapter: adapter.release(restoring, [voted]))
        aborted = self.tx()
        self.staged(aborted, key, across, "DELETE FROM city")
        fresh = self.staged(aborted, ("crm", self.place.name, "more"), None, CITY).location.partition("/")[0]
        self.step(lambda adapter: adapter.abort(aborted))
        assert fresh not in self.adapter.engine.databases()
        found = self.tx()
        assert self.step(lambda adapter: adapter.snapshot(found, {key: self.place.name}))[key] == voted
        dead = [Item(f"{self.place.name}/tags/{OWN}txn/{found}/head/{voted.version}")]
        assert dead[0] in list(self.adapter.reachable(voted))
        self.step(lambda adapter: adapter.delete(dead))
        assert dead[0] not in list(self.adapter.inventory(self.place.name))
        assert rows(self.adapter, voted, "city")[0] == {"id": 1, "name": "Ur III", "pop": 11}
        with self.adapter.engine.session(self.place.name, "main") as session:
            assert session.standing().is_clean
            assert session.head()[0] == voted.version
            left = [name for name in session.branches(OWN) if name.startswith(f"{OWN}w/{aborted}")]
            assert left == []


def test_a_life_that_is_cut_anywhere_ends_as_one_that_is_not(place: Place) -> None:
    whole = Life(place)
    whole.run()
    assert len(set(whole.reached)) > 15
    everywhere = range(len(whole.reached))
    first_times = [whole.reached.index(name) for name in dict.fromkeys(whole.reached)]
    for cut in everywhere if os.environ.get("PLAIT_SOAK") else first_times:
        again = Life(Place(place.options, place.state, f"{place.name}_{cut}"), cut)
        try:
            again.run()
        finally:
            again.place.close()
        assert len(again.reached) > cut, whole.reached[cut]
