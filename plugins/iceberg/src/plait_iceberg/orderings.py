"""Partition specs and sort orders of a table, each a list of numbered definitions with a default, merged three-way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plait.rows.merging import Decisions
from plait.types import Choice, ConflictKind

from plait_iceberg.fields import current_schema, origins, walk
from plait_iceberg.metadata import Document


@dataclass(frozen=True, slots=True)
class Kind:
    """A list of numbered definitions, one of them the default."""

    listed: str
    number: str
    default: str
    item: str
    attributes: tuple[str, ...]


SPECS: Final = Kind("partition-specs", "spec-id", "default-spec-id", "partition", ("transform", "name"))
SORT_ORDERS: Final = Kind(
    "sort-orders", "order-id", "default-sort-order-id", "sort", ("transform", "direction", "null-order")
)

_Definition = tuple[tuple[Any, ...], ...]


def _define(kind: Kind, one: Document, columns: Mapping[int, int]) -> _Definition:
    """What a spec or order means, whatever its number is."""
    return tuple(
        (columns.get(part["source-id"], part["source-id"]), *(part.get(name) for name in kind.attributes))
        for part in one["fields"]
    )


def _default(kind: Kind, document: Document, columns: Mapping[int, int]) -> _Definition:
    wanted = document.get(kind.default, 0)
    empty: Document = {"fields": []}
    found = next((one for one in document.get(kind.listed, ()) if one[kind.number] == wanted), empty)
    return _define(kind, found, columns)


def merge_orderings(
    kind: Kind,
    merged: Document,
    base: Document,
    theirs: Document,
    columns: Mapping[int, int],
    decisions: Decisions,
) -> dict[int, int]:
    """Let the merged table, whose columns are merged already, hold all that either side defines, and choose the default
    three-way. Returns: theirs' numbers → merged ones.

    Args:
        base: under merged column ids.
        columns: theirs' column id → merged id.
    A number that means the same in both stays, since delete files find their data files by it.
    """
    listed = list(merged.get(kind.listed, ()))
    defined = {one[kind.number]: _define(kind, one, {}) for one in listed}
    ours_default = _default(kind, merged, {})
    numbers = {definition: number for number, definition in defined.items()}
    numbers[ours_default] = merged.get(kind.default, 0)
    mapped: dict[int, int] = {}
    for one in theirs.get(kind.listed, ()):
        definition, number = _define(kind, one, columns), one[kind.number]
        if defined.get(number) == definition:
            mapped[number] = number
            continue
        if definition not in numbers:
            free = 0 if 0 not in defined else max(defined) + 1
            listed.append({**one, kind.number: free, "fields": list(_renumbered_parts(merged, one, columns, listed))})
            defined[free], numbers[definition] = definition, free
        mapped[number] = numbers[definition]
    merged[kind.listed] = listed
    defaults = _default(kind, base, {}), ours_default, _default(kind, theirs, columns)
    chosen = _choose_default(kind, merged, *defaults, decisions)
    merged[kind.default] = numbers.get(chosen, numbers[ours_default])
    return mapped


def _renumbered_parts(
    merged: Document, one: Document, columns: Mapping[int, int], listed: Sequence[Document]
) -> Iterator[Document]:
    """Theirs' fields with merged column ids; a partition field keeps the id that ours gave to the same field."""
    known = {
        (part["source-id"], part["transform"], part.get("name")): part.get("field-id")
        for spec in listed
        for part in spec["fields"]
    }
    for part in one["fields"]:
        source = columns[part["source-id"]]
        renumbered = {**part, "source-id": source}
        if "field-id" in part:
            found = known.get((source, part["transform"], part.get("name")))
            if found is None:
                found = merged.get("last-partition-id", 999) + 1
                merged["last-partition-id"] = found
            renumbered["field-id"] = found
        yield renumbered


def _choose_default(
    kind: Kind,
    merged: Document,
    base: _Definition,
    ours: _Definition,
    theirs: _Definition,
    decisions: Decisions,
) -> _Definition:
    """Three-way; and what would partition or sort by a column that the other side dropped is a conflict too."""
    known = {field_id for field_id, _ in walk(current_schema(merged)["fields"])}
    noted, resolution = len(decisions.conflicts), decisions.for_item(kind.item)
    chosen = decisions.three_way(kind.item, base, ours, theirs, ConflictKind.SCHEMA_CHANGED)
    if len(decisions.conflicts) == noted and _lost_column(merged, chosen, known):
        if resolution is not None:
            chosen = {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}.get(resolution.choice, chosen)
        if lost := _lost_column(merged, chosen, known):
            detail = (
                f"it needs column {lost}, which the other side dropped: choose one without it, or a side for the table"
            )
            decisions.conflict(kind.item, base, ours, theirs, ConflictKind.SCHEMA_CHANGED, detail)
    return chosen


def _lost_column(merged: Document, definition: _Definition, known: Collection[int]) -> str:
    """The first column that it needs and the merged table has not; "" where it has all."""
    for source, *_ in definition:
        if source not in known:
            origin = origins(merged).get(source)
            return repr(".".join(origin.path)) if origin else f"id {source}"
    return ""
