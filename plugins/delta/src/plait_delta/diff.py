"""What differs between two versions of a table: its metadata, and the rows of the files that only one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from plait.adapter import Context
from plait.rows.comparing import ByColumns, RowChanges, compare
from plait.types import ItemChange, ItemChangeKind, Json

from plait_delta.actions import State, described
from plait_delta.feed import feed_changes
from plait_delta.rows import Side, read, read_in_order


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the metadata as an item."""

    aspect: str
    value: Json


def parts(state: State | None) -> dict[str, Part]:
    """A version's metadata, item by item."""
    if state is None:
        return {}
    found: dict[str, Part] = {}
    for one in state.schema["fields"]:
        found[f"schema:{one['name']}"] = Part("schema", _column(one))
    for name, value in sorted(state.configuration.items()):
        found[f"property:{name}"] = Part("property", value)
    if state.partition_columns:
        found["partition"] = Part("partition", list(state.partition_columns))
    if description := state.metadata.get("description"):
        found["description"] = Part("property", description)
    found["protocol"] = Part("protocol", described(state.protocol))
    for app, transaction in sorted(state.transactions.items()):
        found[f"txn:{app}"] = Part("transaction", transaction["version"])
    return found


def _column(one: dict[str, Any]) -> Json:
    column: dict[str, Json] = {"type": one["type"], "nullable": one["nullable"]}
    if one.get("metadata"):
        column["metadata"] = one["metadata"]
    return column


def diff(before: Side | None, after: Side | None, context: Context) -> Iterator[ItemChange]:
    """Metadata first, then rows in order of their keys. Nothing for equal sides. Cost: the files that differ."""
    return chain(_parts_changed(before, after), chain.from_iterable(_rows(before, after, context)))


def _parts_changed(before: Side | None, after: Side | None) -> Iterator[ItemChange]:
    old, new = parts(before.state if before else None), parts(after.state if after else None)
    for item in sorted({**old, **new}):
        was, now = old.get(item), new.get(item)
        if was == now:
            continue
        kind = ItemChangeKind.CHANGED
        if was is None or now is None:
            kind = ItemChangeKind.ADDED if was is None else ItemChangeKind.REMOVED
        one = now or was
        assert one is not None
        yield ItemChange(item, kind, one.aspect, was.value if was else None, now.value if now else None)


def _rows(before: Side | None, after: Side | None, context: Context) -> Iterator[Iterator[ItemChange]]:
    newest = after or before
    if newest is None:
        return
    shape = ByColumns(newest.state.key_columns)
    if before is not None and after is not None and same_types(before.state, after.state):
        found = feed_changes(shape, before, after) or row_changes(shape, before, after, context)
        yield found.as_items()
        return
    if before is not None and after is not None:
        # A column changed its type, so no row is what it was.
        yield from _rows(before, None, context)
        yield from _rows(None, after, context)
        return
    for rows in read_in_order(newest, shape):
        context.check_cancelled()
        none = rows.slice(0, 0)
        changes = compare(shape, none, rows) if after is not None else compare(shape, rows, none)
        yield changes.as_items()


def same_types(one: State, other: State) -> bool:
    """Whether columns of one name have one type, so that the files of one can be read with the columns of the other."""
    types = {column["name"]: column["type"] for column in one.schema["fields"]}
    return all(types.get(column["name"], column["type"]) == column["type"] for column in other.schema["fields"])


def row_changes(
    shape: ByColumns, before: Side, after: Side, context: Context, under: State | None = None
) -> RowChanges:
    """The rows that differ, each once, with the columns of `under` (None: after's). Cost: the files that differ."""
    wanted = under or after.state
    gone = [one for one in before.state.files if one not in after.state.files]
    come = [one for one in after.state.files if one not in before.state.files]
    context.check_cancelled()
    old = read(before, gone, wanted)
    context.check_cancelled()
    return compare(shape, old, read(after, come, wanted))


def rows_lost(before: Side, after: Side, context: Context) -> int:
    """How many rows are no longer there, whatever files were rewritten. Cost: the files that differ."""
    if before.state.files.keys() <= after.state.files.keys():
        return 0
    lost: int = row_changes(ByColumns(()), before, after, context).removed.num_rows
    return lost
