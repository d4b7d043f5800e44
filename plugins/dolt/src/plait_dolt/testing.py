"""A store on a real engine, and adapters over it as restarted processes would make them: for tests of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import sqlalchemy as sa
from plait.adapter import Context, State
from plait.clock import ManualClock
from plait.types import Intent, Key, SnapshotRef, Staging, Store

from plait_dolt.adapter import DoltAdapter


@dataclass(slots=True)
class Place:
    """Where a test's store is; `name`: a database's name that is free there."""

    options: dict[str, str]
    state: State
    name: str
    _made: list[DoltAdapter] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return ("crm", self.name)

    def adapter(self, **options: str) -> DoltAdapter:
        """A new instance, as a restarted process has it."""
        context = Context(state=self.state, clock=ManualClock())
        made = DoltAdapter(Store("crm", "dolt", options={**self.options, **options}), context)
        self._made.append(made)
        return made

    def close(self) -> None:
        for adapter in self._made:
            adapter.close()


class Transaction:
    """The calls of one transaction over one key, as the core makes them."""

    def __init__(self, adapter: DoltAdapter, key: Key, tx: str, base: SnapshotRef | None) -> None:
        self.adapter = adapter
        self.key = key
        self.tx = tx
        self.intent = Intent(f"{tx}-1", base)
        self.staging: Staging = adapter.stage(tx, {key: self.intent})[key]

    def run(self, *statements: str) -> None:
        """SQL on the working set, in one SQL transaction."""
        with self.engine().begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def engine(self) -> sa.Engine:
        return self.adapter.engine.client(*self.staging.location.split("/", 1))

    def prepare(self, attempt: int = 1) -> SnapshotRef:
        return cast(SnapshotRef, self.adapter.prepare(self.tx, attempt, {self.key: self.staging})[self.key])


def rows(adapter: DoltAdapter, snapshot: SnapshotRef, table: str) -> list[Mapping[str, object]]:
    """A table's rows at a snapshot, read through the engine that `open` gives."""
    with adapter.open(snapshot, None).connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()]
