"""The metadata of three versions of a table becomes one: protocol, columns, properties, partitioning, transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plait.rows.merging import Decisions

from plait_delta.actions import State, joined_protocol
from plait_delta.features import is_mapped

_MAX_COLUMN_ID = "delta.columnMapping.maxColumnId"


def evolve(base: State, ours: State, theirs: State, decisions: Decisions) -> State:
    """Ours with what theirs changed of all but the files. Conflicts are noted in `decisions`."""
    metadata = dict(ours.metadata)
    for name in ("name", "description"):
        metadata[name] = decisions.three_way(
            name, base.metadata.get(name), ours.metadata.get(name), theirs.metadata.get(name)
        )
    metadata["partitionColumns"] = decisions.three_way(
        "partition",
        base.partition_columns,
        ours.partition_columns,
        theirs.partition_columns,
        detail="both repartitioned",
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
            detail="both changed a schema with column mapping",
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
        chosen = decisions.three_way(
            f"txn:{app}", was, mine, others, detail="both sides took in a batch of this application"
        )
        for side in (ours, theirs, base):
            if app in side.transactions and side.transactions[app]["version"] == chosen:
                merged[app] = side.transactions[app]
                break
    return merged
