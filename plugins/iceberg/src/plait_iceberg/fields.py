"""Field ids: which column of one table version is which of another's, when both grew apart.

Iceberg reads data files by field id, and two branches that each add a column give both the same next id. So an id
alone says nothing across branches: two ids are the same column only if the schema that first had them agrees on what
they were (their *origin*). Everything that reads one version's files under another's schema goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from pyiceberg.schema import Schema

from plait_iceberg.metadata import Document


@dataclass(frozen=True, slots=True)
class Origin:
    """What a field was when its id was given: its path of names, and its type."""

    path: tuple[str, ...]
    kind: str


def schemas(document: Document) -> list[Document]:
    """All schemas of a table, oldest first. (Version 1 documents may have only the current one.)"""
    found = document.get("schemas") or [document["schema"]]
    return sorted(found, key=lambda schema: schema.get("schema-id", 0))


def current_schema(document: Document) -> Document:
    """The schema that new files are written with."""
    wanted = document.get("current-schema-id", 0)
    return next(schema for schema in schemas(document) if schema.get("schema-id", 0) == wanted)


def last_column_id(document: Document) -> int:
    """The highest id that the table ever gave."""
    return int(document["last-column-id"])


def walk(fields: list[Document], path: tuple[str, ...] = ()) -> Iterator[tuple[int, Origin]]:
    """Every field below, nested ones included."""
    for field in fields:
        yield from _walk_one(field["id"], field["type"], (*path, field["name"]))


def _walk_one(field_id: int, kind: Any, path: tuple[str, ...]) -> Iterator[tuple[int, Origin]]:
    if isinstance(kind, str):
        yield field_id, Origin(path, kind)
        return
    yield field_id, Origin(path, kind["type"])
    match kind["type"]:
        case "struct":
            yield from walk(kind["fields"], path)
        case "list":
            yield from _walk_one(kind["element-id"], kind["element"], (*path, "element"))
        case "map":
            yield from _walk_one(kind["key-id"], kind["key"], (*path, "key"))
            yield from _walk_one(kind["value-id"], kind["value"], (*path, "value"))


def origins(document: Document) -> dict[int, Origin]:
    """What each id that the table's schemas tell of was when it was given."""
    found: dict[int, Origin] = {}
    for schema in schemas(document):
        for field_id, origin in walk(schema["fields"]):
            found.setdefault(field_id, origin)
    return found


def counterparts(source: Document, target: Document) -> dict[int, int]:
    """target's column id → source's id of the same column, for all columns that both tell of.

    An id that both say the same of is one column. A merge may have given a column a new id, since its old one was
    taken: so of the ids that are then left over on both sides, two of one origin are one column as well.
    """
    here, there = origins(source), origins(target)
    found = {field_id: field_id for field_id, origin in there.items() if here.get(field_id) == origin}
    left: dict[Origin, list[int]] = {}
    for field_id in sorted(here.keys() - found.keys()):
        left.setdefault(here[field_id], []).append(field_id)
    for field_id in sorted(there.keys() - found.keys()):
        if candidates := left.get(there[field_id]):
            found[field_id] = candidates.pop(0)
    return found


def descend(base: Document, side: Document) -> dict[int, int]:
    """base's column id → side's id of the same column; itself where side tells of it no longer.

    An id is left out where side gave it to another column and tells nowhere of base's: what became of it is unknown.
    """
    found = {old: new for new, old in counterparts(base, side).items()}
    taken = {*origins(side), *found.values()}
    return {**{old: old for old in origins(base) if old not in found and old not in taken}, **found}


def renumber(field: Document, new_id: Callable[[int], int]) -> Document:
    """A field with each id replaced, nested ones included."""
    return {**field, "id": new_id(field["id"]), "type": _renumber_type(field["type"], new_id)}


def _renumber_type(kind: Any, new_id: Callable[[int], int]) -> Any:
    if isinstance(kind, str):
        return kind
    match kind["type"]:
        case "struct":
            return {**kind, "fields": [renumber(field, new_id) for field in kind["fields"]]}
        case "list":
            element = _renumber_type(kind["element"], new_id)
            return {**kind, "element-id": new_id(kind["element-id"]), "element": element}
        case "map":
            return {
                **kind,
                "key-id": new_id(kind["key-id"]),
                "key": _renumber_type(kind["key"], new_id),
                "value-id": new_id(kind["value-id"]),
                "value": _renumber_type(kind["value"], new_id),
            }
    return kind


def renumbered(document: Document, ids: Mapping[int, int]) -> Document:
    """What a table says of its columns, partitions and sort orders, under other column ids."""
    if all(old == new for old, new in ids.items()):
        return document

    def new_id(field_id: int) -> int:
        return ids.get(field_id, field_id)

    def renumber_parts(listed: list[Document]) -> list[Document]:
        return [
            {**one, "fields": [{**part, "source-id": new_id(part["source-id"])} for part in one["fields"]]}
            for one in listed
        ]

    return {
        **document,
        "schemas": [
            {
                **schema,
                "fields": [renumber(field, new_id) for field in schema["fields"]],
                "identifier-field-ids": [new_id(one) for one in schema.get("identifier-field-ids", ())],
            }
            for schema in schemas(document)
        ],
        "partition-specs": renumber_parts(document.get("partition-specs", [])),
        "sort-orders": renumber_parts(document.get("sort-orders", [])),
        "last-column-id": max(last_column_id(document), *ids.values()),
    }


def projection(target: Document, source: Document, ids: Mapping[int, int] | None = None) -> Schema:
    """The target's current schema in the source's field ids, to read the source's files with.

    Args:
        ids: target id → source id of the same column, for all that the source has; by default its counterparts.
    Returns: columns with the target's names. One that the source never had reads as null, whatever another column
        with its id may hold there. All are optional, since older files may lack required ones.
    """
    known, wanted = origins(source), origins(target)
    same = counterparts(source, target) if ids is None else ids
    unused = count(max(last_column_id(target), last_column_id(source), *known, *wanted) + 1_000)
    given: dict[int, int] = {}

    def source_id(field_id: int) -> int:
        if field_id not in given:
            if field_id in same:
                given[field_id] = same[field_id]
            elif field_id > last_column_id(source):
                given[field_id] = field_id
            else:
                given[field_id] = next(unused)
        return given[field_id]

    schema = current_schema(target)
    fields = [{**renumber(field, source_id), "required": False} for field in schema["fields"]]
    identifiers = [source_id(field_id) for field_id in schema.get("identifier-field-ids", ())]
    return _relaxed(Schema.model_validate({"type": "struct", "schema-id": 0, "fields": fields}), identifiers)


def _relaxed(schema: Schema, identifiers: list[int]) -> Schema:
    """The schema with its identifiers, which pyiceberg refuses on optional columns when it validates."""
    return schema.model_copy(update={"identifier_field_ids": identifiers})
