"""Three-way merge of what a table says about itself: schema, partition specs, sort orders, properties, refs.

Everything is done on plain documents. Ids that both sides gave to different things are given anew for theirs; the
answer tells how theirs' ids map onto the merged table's, so that no file is ever read under a wrong id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from plait.errors import InvalidArgument, Unsupported
from plait.rows.merging import Decisions
from plait.types import Choice, ConflictKind
from pydantic import TypeAdapter
from pyiceberg.exceptions import ResolveError
from pyiceberg.schema import promote
from pyiceberg.types import IcebergType

from plait_iceberg.fields import current_schema, descend, last_column_id, origins, renumber, renumbered, schemas
from plait_iceberg.metadata import Document, Metadata
from plait_iceberg.name_mapping import NAME_MAPPING, joined
from plait_iceberg.orderings import SORT_ORDERS, SPECS, merge_orderings

_PARTS: Final = frozenset({"element", "key", "value"})
_TYPE: Final[TypeAdapter[IcebergType]] = TypeAdapter(IcebergType)


@dataclass
class Evolved:
    """The merged table before its new snapshot, and how theirs' ids map onto it."""

    document: Document
    columns: dict[int, int] = field(default_factory=dict)
    """theirs' column id → merged id, for all that theirs' schemas tell of."""
    base_columns: dict[int, int] = field(default_factory=dict)
    """base's column id → merged id. They differ where an earlier merge gave a column of base's a new id in ours."""
    specs: dict[int, int] = field(default_factory=dict)
    sort_orders: dict[int, int] = field(default_factory=dict)
    rewrite: bool = False
    """Whether theirs' new data files hold ids that mean something else in the merged table."""

    @property
    def to_theirs(self) -> dict[int, int]:
        """merged column id → theirs' id."""
        return {merged: theirs for theirs, merged in self.columns.items()}

    @property
    def to_base(self) -> dict[int, int]:
        """merged column id → base's id."""
        return {merged: base for base, merged in self.base_columns.items()}


def evolve(base: Metadata, ours: Metadata, theirs: Metadata, decisions: Decisions) -> Evolved:
    """Merge all but the data. Conflicts are noted in `decisions`; then the answer is not to be used.

    Raises: Unsupported for a tag or branch inside theirs that ours cannot hold.
    """
    merged = Evolved(dict(ours.document))
    merged.base_columns, in_theirs = descend(base.document, ours.document), descend(base.document, theirs.document)
    if not _lineage_is_known(base, ours, theirs, merged.base_columns.keys() & in_theirs.keys(), decisions):
        return merged
    inherited = {in_theirs[field_id]: merged_id for field_id, merged_id in merged.base_columns.items()}
    old = renumbered(base.document, merged.base_columns)
    merged.columns = _map_columns(old, ours.document, theirs.document, inherited)
    merged.rewrite = _must_rewrite(old, ours.document, theirs.document, merged.columns)
    _merge_schema(merged, old, ours.document, theirs.document, decisions)
    merged.specs, merged.sort_orders = (
        merge_orderings(kind, merged.document, old, theirs.document, merged.columns, decisions)
        for kind in (SPECS, SORT_ORDERS)
    )
    _merge_properties(merged, base, ours, theirs, decisions)
    _merge_refs(merged, base.document, ours.document, theirs.document)
    location = (base.document["location"], ours.document["location"], theirs.document["location"])
    merged.document["location"] = decisions.three_way("location", *location, ConflictKind.ITEM_CHANGED)
    return merged


# -- columns -----------------------------------------------------------------------------------------------------------


def _lineage_is_known(
    base: Metadata, ours: Metadata, theirs: Metadata, known: Collection[int], decisions: Decisions
) -> bool:
    """Whether it is known for each of base's columns what became of it in both sides; else a conflict on the table."""
    for field_id, origin in origins(base.document).items():
        if field_id not in known:
            decisions.conflict(
                None,
                ".".join(origin.path),
                ".".join(origins(ours.document).get(field_id, origin).path),
                ".".join(origins(theirs.document).get(field_id, origin).path),
                ConflictKind.SCHEMA_CHANGED,
                f"column id {field_id} stands for different columns: take one side, or bring the rows over by hand",
            )
            return False
    return True


def _map_columns(base: Document, ours: Document, theirs: Document, inherited: Mapping[int, int]) -> dict[int, int]:
    """theirs' column id → merged id: as inherited from base, else ours' of the same name, else itself where that is
    free or means the same, else a new one."""
    before, here, there = origins(base), origins(ours), origins(theirs)
    fresh = count(max(last_column_id(ours), last_column_id(theirs)) + 1)
    current = current_schema(ours)["fields"]
    ours_new = {one["name"]: one for one in current if one["id"] not in before}
    mapped = dict(inherited)
    for schema in schemas(theirs):
        for one in schema["fields"]:
            twin = ours_new.get(one["name"])
            if twin is not None and one["id"] not in mapped and twin["id"] not in mapped.values():
                mapped.update(_pair_ids(one, twin))
    taken = set(mapped.values())
    for field_id, origin in there.items():
        if field_id in mapped:
            continue
        is_free = field_id > last_column_id(ours) or here.get(field_id) == origin
        mapped[field_id] = field_id if is_free and field_id not in taken else next(fresh)
        taken.add(mapped[field_id])
    return mapped


def _pair_ids(one: Document, twin: Document) -> dict[int, int]:
    """Ids of two columns of one name and type, side by side; empty if the types differ."""
    flat = renumber(one, lambda field_id: 0), renumber(twin, lambda field_id: 0)
    if flat[0]["type"] != flat[1]["type"]:
        return {}
    return dict(zip(_ids(one), _ids(twin), strict=True))


def _ids(one: Document) -> list[int]:
    found: list[int] = []

    def note(field_id: int) -> int:
        found.append(field_id)
        return field_id

    renumber(one, note)
    return found


def _must_rewrite(base: Document, ours: Document, theirs: Document, columns: Mapping[int, int]) -> bool:
    if any(field_id != merged for field_id, merged in columns.items()):
        return True
    # An id that theirs gave but tells of no longer may still be in its files.
    before, there = origins(base), origins(theirs)
    return any(
        field_id <= last_column_id(theirs) and field_id not in there
        for field_id in origins(ours)
        if field_id not in before
    )


def _merge_schema(merged: Evolved, base: Document, ours: Document, theirs: Document, decisions: Decisions) -> None:
    columns = merged.columns
    b, o, t = current_schema(base), current_schema(ours), current_schema(theirs)
    old = {one["id"]: one for one in b["fields"]}
    here = {one["id"]: one for one in o["fields"]}
    there = {columns[one["id"]]: renumber(one, columns.__getitem__) for one in t["fields"]}
    fields: list[Document] = []
    for field_id in {**there, **here} if list(here) == list(old) else {**here, **there}:
        one = _merge_column(old.get(field_id), here.get(field_id), there.get(field_id), decisions)
        if one is not None:
            fields.append(one)
    _check_names(fields, old, here, there, decisions)
    identifiers = decisions.three_way(
        "identifier",
        tuple(sorted(b.get("identifier-field-ids", ()))),
        tuple(sorted(o.get("identifier-field-ids", ()))),
        tuple(sorted(columns[one] for one in t.get("identifier-field-ids", ()))),
        ConflictKind.SCHEMA_CHANGED,
    )
    schema_id = next(
        (
            known["schema-id"]
            for known in schemas(ours)
            if known["fields"] == fields and sorted(known.get("identifier-field-ids", ())) == list(identifiers)
        ),
        None,
    )
    known_schemas = schemas(ours)
    if schema_id is None:
        schema_id = known_schemas[-1]["schema-id"] + 1
        added: Document = {"type": "struct", "schema-id": schema_id, "fields": fields}
        known_schemas = [*known_schemas, {**added, "identifier-field-ids": list(identifiers)}]
    last = max(last_column_id(ours), last_column_id(theirs), *columns.values())
    merged.document.update({"schemas": known_schemas, "current-schema-id": schema_id, "last-column-id": last})


def _merge_column(
    base: Document | None, ours: Document | None, theirs: Document | None, decisions: Decisions
) -> Document | None:
    """A column by its id: whole where one side changed it, else attribute by attribute."""
    name = (ours or theirs or base or {})["name"]
    if base is None or ours is None or theirs is None:
        return decisions.three_way(f"schema:{name}", base, ours, theirs, ConflictKind.SCHEMA_CHANGED)
    trial = Decisions(())
    attributes = {
        key: trial.three_way(key, base.get(key), ours.get(key), theirs.get(key), ConflictKind.SCHEMA_CHANGED)
        for key in {**ours, **theirs}
    }
    if trial.conflicts:
        attributes = decisions.three_way(f"schema:{name}", base, ours, theirs, ConflictKind.SCHEMA_CHANGED)
    attributes = {**attributes, "type": widest(widest(attributes["type"], ours["type"]), theirs["type"])}
    return {key: value for key, value in attributes.items() if value is not None}


def widest(chosen: Any, side: Any) -> Any:
    """The chosen type, or the side's that was promoted from it, members included: a promotion cannot be taken back, as
    a revert would, since files may hold the wider values. Source: Iceberg specification, "Schema Evolution"."""
    if isinstance(chosen, str) and isinstance(side, str):
        with suppress(ResolveError):
            return str(promote(_TYPE.validate_python(chosen), _TYPE.validate_python(side)))
    if isinstance(chosen, str) or isinstance(side, str):
        return chosen
    members = {one["id"]: one["type"] for one in side.get("fields", ())}
    wider = {part: widest(chosen[part], side[part]) for part in chosen.keys() & side.keys() & _PARTS}
    if "fields" in chosen:
        wider["fields"] = [
            {**one, "type": widest(one["type"], members.get(one["id"], one["type"]))} for one in chosen["fields"]
        ]
    return {**chosen, **wider}


def _check_names(
    fields: list[Document],
    base: Mapping[int, Document],
    ours: Mapping[int, Document],
    theirs: Mapping[int, Document],
    decisions: Decisions,
) -> None:
    """Two columns may not end with one name: each becomes what it is in the side that was chosen, or nothing there.
    Without a choice, note the conflict."""
    sides = {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}
    repeated = _repeated(fields)
    for name in sorted(repeated):
        resolution = decisions.for_item(f"schema:{name}")
        if resolution is None:
            mine, others = (
                next((one for one in side.values() if one["name"] == name), None) for side in (ours, theirs)
            )
            detail = "both sides have this name"
            decisions.conflict(f"schema:{name}", None, mine, others, ConflictKind.SCHEMA_CHANGED, detail)
            continue
        if resolution.choice not in sides:
            raise InvalidArgument(f"schema:{name} cannot be resolved by a value", remedy="choose ours, theirs or base")
        side = sides[resolution.choice]
        chosen = (one if one["name"] != name or _name(side, one) == name else side.get(one["id"]) for one in fields)
        fields[:] = [one for one in chosen if one is not None]
    if left := sorted(_repeated(fields) - repeated):
        detail = f"columns would have one name, {left[0]!r}, by what was chosen for others: choose a side for the table"
        decisions.conflict(None, None, None, None, ConflictKind.SCHEMA_CHANGED, detail)


def _name(side: Mapping[int, Document], one: Document) -> str | None:
    return side[one["id"]]["name"] if one["id"] in side else None


def _repeated(fields: list[Document]) -> set[str]:
    names = [one["name"] for one in fields]
    return {name for name in names if names.count(name) > 1}


# -- properties and refs -----------------------------------------------------------------------------------------------


def _merge_properties(merged: Evolved, base: Metadata, ours: Metadata, theirs: Metadata, decisions: Decisions) -> None:
    properties: dict[str, str] = {}
    for name in sorted({*base.properties, *ours.properties, *theirs.properties}):
        values = (base.properties.get(name), ours.properties.get(name), theirs.properties.get(name))
        value = joined(*values, merged.base_columns, merged.columns) if name == NAME_MAPPING else None
        if value is None:
            value = decisions.three_way(f"property:{name}", *values, ConflictKind.ITEM_CHANGED)
        if value is not None:
            properties[name] = value
    merged.document["properties"] = properties


def _merge_refs(merged: Evolved, base: Document, ours: Document, theirs: Document) -> None:
    """Tags and branches inside the table. The merged table knows ours' snapshots and no others."""
    held = {snapshot["snapshot-id"] for snapshot in ours.get("snapshots", ())}
    refs = dict(ours.get("refs", {}))
    old, new = base.get("refs", {}), theirs.get("refs", {})
    for name in sorted({*old, *new} - {"main"}):
        if old.get(name) == new.get(name) or refs.get(name) == new.get(name):
            continue
        if refs.get(name) != old.get(name) or (name in new and new[name]["snapshot-id"] not in held):
            raise Unsupported(
                f"theirs moved {name!r}, a branch or tag inside the table, to a snapshot that ours does not have",
                remedy=f"remove {name!r} from the table on the branch that is merged, then merge again",
            )
        if name in new:
            refs[name] = new[name]
        else:
            refs.pop(name, None)
    if refs:
        merged.document["refs"] = refs


def check_required(merged: Evolved, side: Document, columns: Mapping[int, int], who: str, decisions: Decisions) -> None:
    """A column that the other side requires may be null in the rows that this side wrote."""
    written = {columns.get(one["id"], one["id"]): one for one in current_schema(side)["fields"]}
    for one in current_schema(merged.document)["fields"]:
        if one["required"] and not written.get(one["id"], {}).get("required", False):
            decisions.conflict(
                f"schema:{one['name']}",
                None,
                one,
                written.get(one["id"]),
                ConflictKind.SCHEMA_CHANGED,
                f"the column is required, but rows that {who} wrote may have none: make it optional, or choose a side "
                "for the table",
            )


def check_returned(
    merged: Evolved, base: Document, side: Document, columns: Mapping[int, int], bringing: Choice, decisions: Decisions
) -> None:
    """A dropped column that the other side brings back, as a revert does, has no values in files that this side wrote
    without it: also not of rows that nobody changed, but that were in one file with changed ones."""
    written = {columns.get(one["id"], one["id"]) for one in current_schema(side)["fields"]}
    held = {merged.base_columns[one["id"]] for one in current_schema(base)["fields"]}
    known = {merged.base_columns[field_id] for field_id in origins(base)}
    for one in current_schema(merged.document)["fields"]:
        if one["id"] not in known or one["id"] in held | written:
            continue
        item = f"schema:{one['name']}"
        resolution = decisions.for_item(item)
        if resolution is None or resolution.choice is not bringing:
            mine, others = (None, one) if bringing is Choice.THEIRS else (one, None)
            detail = (
                "the column comes back, but rows were written without it since: choose the side that has it, which "
                "leaves it null in these, or a side for the table"
            )
            decisions.conflict(item, None, mine, others, ConflictKind.SCHEMA_CHANGED, detail)
