"""Name mappings: which columns the names in data files without field ids stand for, as added or migrated files have.

Every new column changes this one property, so two branches that each add one would never merge by its text; and the
ids in theirs' are theirs'. It is merged name by name. Source: Iceberg specification, "Column Projection".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

NAME_MAPPING: Final = "schema.name-mapping.default"

_Names: TypeAlias = "dict[tuple[int | None, str], int]"
"""Id of the column above (None: there is none) and a name in it → id of the column that the name stands for."""


def joined(
    base: str | None,
    ours: str | None,
    theirs: str | None,
    base_columns: Mapping[int, int],
    columns: Mapping[int, int],
) -> str | None:
    """Ours with what theirs changed, in merged ids; None where one side took it away, or they do not go together.

    Args:
        base_columns: base's column id → merged id.
        columns: theirs' column id → merged id.
    """
    if theirs is None or (ours is None and base is not None):
        return None
    try:
        was, mine, others = _parse(base, base_columns), _parse(ours, {}), _parse(theirs, columns)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    names: _Names = {}
    for name in {**mine, **others, **was}:
        before, here, there = was.get(name), mine.get(name), others.get(name)
        if here != before and there not in (before, here):
            return None
        if (found := there if here == before else here) is not None:
            names[name] = found
    return ours if names == mine else json.dumps(_fields(names, None), separators=(",", ":"))


def _parse(text: str | None, columns: Mapping[int, int]) -> _Names:
    """Raises: ValueError, KeyError, TypeError, AttributeError for other than the specification's form, and for names
    that stand for no column."""
    names: _Names = {}

    def walk(fields: list[dict[str, Any]], above: int | None) -> None:
        for one in fields:
            number = columns.get(one["field-id"], one["field-id"])
            names.update({(above, name): number for name in one["names"]})
            walk(one.get("fields") or [], number)

    walk(json.loads(text) if text else [], None)
    return names


def _fields(names: _Names, above: int | None) -> list[dict[str, Any]]:
    fields: dict[int, dict[str, Any]] = {}
    for (parent, name), number in names.items():
        if parent == above:
            fields.setdefault(number, {"field-id": number, "names": []})["names"].append(name)
    for number, one in fields.items():
        if inner := _fields(names, number):
            one["fields"] = inner
    return list(fields.values())
