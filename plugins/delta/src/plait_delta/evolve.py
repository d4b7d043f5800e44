"""The metadata of three versions of a table becomes one: protocol, columns, properties, partitioning, transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from plait.errors import InvalidArgument
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

from plait_delta.actions import State, joined_protocol
from plait_delta.features import is_mapped

T = TypeVar("T")

_MAX_COLUMN_ID = "delta.columnMapping.maxColumnId"


class Decisions:
    """The user's resolutions, and the conflicts that none of them settles. The core knows the key: here it is ()."""

    def __init__(self, resolutions: Sequence[Resolution]) -> None:
        self._by_item = {resolution.item: resolution for resolution in resolutions}
        self.conflicts: list[Conflict] = []

    def for_item(self, item: str) -> Resolution | None:
        """What was decided for an item, else for the table as a whole."""
        return self._by_item.get(item) or self._by_item.get(None)

    @property
    def whole(self) -> Resolution | None:
        """What was decided for the table as a whole."""
        return self._by_item.get(None)

    def three_way(self, item: str, base: T, ours: T, theirs: T, detail: str = "") -> T:
        """The side that changed; where both did, differently, what was decided, else a conflict (and ours for now)."""
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        resolution = self.for_item(item)
        if resolution is None:
            self.conflict(item, base, ours, theirs, ConflictKind.SCHEMA_CHANGED, detail)
            return ours
        if resolution.choice is Choice.VALUE:
            if item.startswith("property:") and isinstance(resolution.value, str | None):
                return resolution.value  # type: ignore[return-value]
            raise InvalidArgument(f"{item} cannot be resolved by a value", remedy="choose ours, theirs or base")
        return {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}[resolution.choice]

    def conflict(
        self, item: str | None, base: object, ours: object, theirs: object, kind: ConflictKind, detail: str
    ) -> None:
        """Note a conflict."""
        self.conflicts.append(Conflict((), kind, item, _json(base), _json(ours), _json(theirs), detail))


def _json(value: Any) -> Json:
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return {key: _json(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def evolve(base: State, ours: State, theirs: State, decisions: Decisions) -> State:
    """Ours with what theirs changed of all but the files. Conflicts are noted in `decisions`."""
    metadata = dict(ours.metadata)
    for name in ("name", "description"):
        metadata[name] = decisions.three_way(
            name, base.metadata.get(name), ours.metadata.get(name), theirs.metadata.get(name)
        )
    metadata["partitionColumns"] = decisions.three_way(
        "partition", base.partition_columns, ours.partition_columns, theirs.partition_columns, "both repartitioned"
    )
    metadata["configuration"] = _properties(base, ours, theirs, decisions)
    metadata["schemaString"] = _schema(base, ours, theirs, decisions)
    return State(
        ours.version,
        joined_protocol(ours.protocol, theirs.protocol),
        {name: value for name, value in metadata.items() if value is not None},
        ours.files,
        _transactions(base, ours, theirs, decisions),
    )


def _properties(base: State, ours: State, theirs: State, decisions: Decisions) -> dict[str, str]:
    was, mine, others = base.configuration, ours.configuration, theirs.configuration
    merged: dict[str, str] = {}
    for name in sorted({*was, *mine, *others}):
        if name == _MAX_COLUMN_ID:
            value: str | None = str(max(int(side.get(name, "0")) for side in (mine, others)))
        else:
            value = decisions.three_way(f"property:{name}", was.get(name), mine.get(name), others.get(name))
        if value is not None:
            merged[name] = value
    return merged


def _schema(base: State, ours: State, theirs: State, decisions: Decisions) -> str:
    """Columns by name, in ours' order, theirs' new ones at the end.

    With column mapping both sides give ids to new columns, so there the schema as a whole is one item.
    """
    was, mine, others = (_columns(side) for side in (base, ours, theirs))
    if any(is_mapped(side) for side in (base, ours, theirs)):
        fields = decisions.three_way(
            "schema",
            list(was.values()),
            list(mine.values()),
            list(others.values()),
            "both changed a schema with column mapping",
        )
        return json.dumps({"type": "struct", "fields": fields})
    merged = []
    for name in {**mine, **others, **was}:
        column = decisions.three_way(f"schema:{name}", was.get(name), mine.get(name), others.get(name))
        if column is not None:
            merged.append(column)
    if merged == list(mine.values()):
        return str(ours.metadata["schemaString"])
    return json.dumps({"type": "struct", "fields": merged})


def _columns(state: State) -> dict[str, Any]:
    return {one["name"]: {**one, "metadata": one.get("metadata") or {}} for one in state.schema["fields"]}


def _transactions(base: State, ours: State, theirs: State, decisions: Decisions) -> dict[str, Mapping[str, Any]]:
    """The applications' own counters. Two sides that both moved one conflict, as two writers of one table do."""
    merged: dict[str, Mapping[str, Any]] = {}
    for app in sorted({*base.transactions, *ours.transactions, *theirs.transactions}):
        was, mine, others = (side.transactions.get(app, {}).get("version") for side in (base, ours, theirs))
        chosen = decisions.three_way(f"txn:{app}", was, mine, others, "both sides took in a batch of this application")
        for side in (ours, theirs, base):
            if app in side.transactions and side.transactions[app]["version"] == chosen:
                merged[app] = side.transactions[app]
                break
    return merged
