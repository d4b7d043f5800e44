"""Which Delta tables plait works with, and what it refuses before anything is written.

Honoured means: data files and their deletion vectors are carried as they are, and delta-rs, which plait writes rows
with, keeps the feature's rules or refuses itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from plait.errors import Unsupported

from plait_delta.actions import State, features

HONOURED: Final = frozenset(
    {
        "appendOnly",
        "invariants",
        "checkConstraints",
        "changeDataFeed",
        "generatedColumns",
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "v2Checkpoint",
    }
)


def check_supported(state: State, what: str) -> None:
    """Raises: Unsupported for a table feature that plait, or delta-rs, could not keep."""
    readers, writers = features(state.protocol)
    implied = state.protocol["minWriterVersion"] < 7
    refused = sorted((readers | writers) - HONOURED - ({"identityColumns"} if implied else set()))
    # delta-rs lists it with deletion vectors, whether or not a column needs it.
    if "variantType" in refused and "variant" not in _types(state.schema):
        refused.remove("variantType")
    if refused:
        named = ", ".join(repr(one) for one in refused)
        raise Unsupported(
            f"{what} uses table features which plait cannot keep: {named}",
            remedy=f"plait keeps {', '.join(sorted(HONOURED))}; drop the others, or add the store as a pointer",
        )
    if '"delta.identity.' in state.metadata["schemaString"]:
        raise Unsupported(f"{what} has identity columns, which plait cannot keep", remedy="drop the column")


def _types(part: Any) -> Iterator[str]:
    """The names of all types in a schema, or in a part of one."""
    if isinstance(part, str):
        yield part
        return
    inner = [field["type"] for field in part.get("fields", ())]
    for one in (*inner, *(part[name] for name in ("elementType", "keyType", "valueType") if name in part)):
        yield from _types(one)


def is_mapped(state: State) -> bool:
    """Whether columns are found in data files by other names than the schema's (column mapping)."""
    return state.configuration.get("delta.columnMapping.mode", "none") != "none"


def required_columns(state: State) -> frozenset[str]:
    """Top-level columns that may not be null."""
    return frozenset(one["name"] for one in json.loads(state.metadata["schemaString"])["fields"] if not one["nullable"])
