"""What differs between two versions of a table or view: its metadata first, then its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from plait.types import ItemChange, ItemChangeKind, Json

from plait_iceberg.changes import Version, stream_rows
from plait_iceberg.evolve import widest
from plait_iceberg.fields import counterparts, current_schema, origins, projection, renumbered, schemas
from plait_iceberg.files import Files
from plait_iceberg.manifests import ManifestReader, compare
from plait_iceberg.metadata import CHECKSUMS, VIEW, Document, Metadata
from plait_iceberg.rows import Shape


def diff(
    files: Files,
    before: Metadata | None,
    after: Metadata | None,
    *,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Iterator[ItemChange]:
    """All changes, lazily: schema, partition, sort, property, snapshot (each by name or id), then rows by key.

    Two different tables under one key are one removed and one added. Cost: the two metadata files and manifest lists;
    the manifests, delete files and data files that only one version holds.
    """
    if before and after and before.digest == after.digest:
        return
    if before and after and (before.asset, before.format) != (after.asset, after.format):
        yield from diff(files, before, None, check_cancelled=check_cancelled)
        yield from diff(files, None, after, check_cancelled=check_cancelled)
        return
    yield from _metadata_changes(before, after)
    known = before or after
    if known is not None and known.format != VIEW:
        yield from _row_changes(files, before, after, check_cancelled)


def _row_changes(
    files: Files, before: Metadata | None, after: Metadata | None, check_cancelled: Callable[[], None]
) -> Iterator[ItemChange]:
    sides = [side.document for side in (after, before) if side is not None]
    target = _widened(*sides) if len(sides) == 2 else sides[0]
    reader = ManifestReader(files.io)
    changes = compare(reader, before.current if before else None, after.current if after else None)
    if not changes:
        return
    old, new = (Version(side, projection(target, side.document)) if side else None for side in (before, after))
    shape = Shape((new or old).schema)  # type: ignore[union-attr]
    yield from stream_rows(reader, shape, old, new, changes, check_cancelled=check_cancelled)


def _widened(document: Document, other: Document) -> Document:
    """A version whose columns can hold the values of another one too, in which their types were promoted."""
    theirs = renumbered(other, {one: ours for ours, one in counterparts(other, document).items()})
    types = {one["id"]: one["type"] for one in current_schema(theirs)["fields"]}
    known, schema = schemas(document), current_schema(document)
    fields = [{**one, "type": widest(one["type"], types.get(one["id"], one["type"]))} for one in schema["fields"]]
    number = max(one.get("schema-id", 0) for one in known) + 1
    return {
        **document,
        "schemas": [*known, {**schema, "schema-id": number, "fields": fields}],
        "current-schema-id": number,
    }


# -- metadata ----------------------------------------------------------------------------------------------------------


def _metadata_changes(before: Metadata | None, after: Metadata | None) -> Iterator[ItemChange]:
    old, new = (before.document if before else {}), (after.document if after else {})
    if _is_table(old) and _is_table(new):
        # A merge may have given a column another id: it is the same column.
        old = renumbered(old, _distinct({one: other for other, one in counterparts(old, new).items()}, old, new))
    yield from _named("schema", "schema:", _columns(old), _columns(new))
    yield from _named("schema", "", _identifiers(old), _identifiers(new))
    for aspect in ("partition", "sort"):
        yield from _named(aspect, "", _ordering(old, aspect), _ordering(new, aspect))
    yield from _named("property", "property:", old.get("properties") or {}, new.get("properties") or {})
    yield from _named("snapshot", "snapshot:", _snapshots(old), _snapshots(new))
    yield from _named("view", "", _view(old), _view(new))


def _named(aspect: str, prefix: str, old: Mapping[Any, Json], new: Mapping[Any, Json]) -> Iterator[ItemChange]:
    """Changes of a map; the keys are ids or names, a `name` inside the value is what people read."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        shown = after if after is not None else before
        name = shown["name"] if aspect == "schema" and isinstance(shown, dict) else key
        if before is None:
            kind = ItemChangeKind.ADDED
        else:
            kind = ItemChangeKind.REMOVED if after is None else ItemChangeKind.CHANGED
        yield ItemChange(f"{prefix}{name}", kind, aspect, before, after)


def _distinct(same: Mapping[int, int], old: Document, new: Document) -> dict[int, int]:
    """The ids of the same columns, and negative ones for columns of old whose id means another column in new."""
    taken = {*origins(new), *same.values()}
    gone = origins(old).keys() - same.keys()
    return {**{field_id: -field_id if field_id in taken else field_id for field_id in gone}, **same}


def _is_table(document: Document) -> bool:
    return bool(document) and "view-uuid" not in document


def _columns(document: Document) -> dict[int, Json]:
    if not document:
        return {}
    if not _is_table(document):
        schema_id = _current_view(document)["schema-id"]
        schema = next(one for one in document["schemas"] if one.get("schema-id", 0) == schema_id)
        return {one["id"]: one for one in schema["fields"]}
    return {one["id"]: one for one in current_schema(document)["fields"]}


def _identifiers(document: Document) -> dict[str, Json]:
    """The names of the identifier fields, in order of their ids."""
    if not _is_table(document):
        return {}
    ids = sorted(current_schema(document).get("identifier-field-ids", ()))
    columns = _columns(document)
    names: list[Json] = []
    for field_id in ids:
        column = columns.get(field_id)
        names.append(column["name"] if isinstance(column, dict) else f"#{field_id}")
    return {"identifier": names} if names else {}


_ORDERINGS = {
    "partition": ("partition-specs", "spec-id", "default-spec-id"),
    "sort": ("sort-orders", "order-id", "default-sort-order-id"),
}


def _ordering(document: Document, aspect: str) -> dict[str, Json]:
    listed, number, default = _ORDERINGS[aspect]
    wanted = document.get(default, 0)
    fields: Json = next((one["fields"] for one in document.get(listed, ()) if one[number] == wanted), [])
    return {aspect: fields} if fields else {}


def _snapshots(document: Document) -> dict[str, Json]:
    return {
        str(one["snapshot-id"]): {
            "timestamp-ms": one["timestamp-ms"],
            "parent-snapshot-id": one.get("parent-snapshot-id"),
            **{name: told for name, told in (one.get("summary") or {}).items() if name != CHECKSUMS},
        }
        for one in document.get("snapshots") or ()
    }


def _current_view(document: Document) -> Document:
    wanted = document["current-version-id"]
    found: Document = next(one for one in document["versions"] if one["version-id"] == wanted)
    return found


def _view(document: Document) -> dict[str, Json]:
    if not document or _is_table(document):
        return {}
    representations = _current_view(document)["representations"]
    return {f"view:{one['dialect']}": one["sql"] for one in representations}
