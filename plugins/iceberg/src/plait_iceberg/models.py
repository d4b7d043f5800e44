"""pyiceberg's models of a table's metadata, whose copies share what they do not change.

pyiceberg copies the metadata deeply, with every snapshot of the table, each time that it looks at what a transaction
has staged: some twenty times in an append. Nothing in it changes metadata in place, so a shallow copy is as good. What
would let us remove this: pyiceberg's `update_table_metadata` without its deep copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from typing import Any, Final, Self, cast

from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil, TableMetadataV1, TableMetadataV2
from pyiceberg.typedef import IcebergBaseModel


class _Sharing(IcebergBaseModel):
    """Copied in O(1), and equal to pyiceberg's own model of the same metadata."""

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return copy(self)

    def __eq__(self, other: object) -> bool:
        fields = type(self).model_fields
        return (
            isinstance(other, IcebergBaseModel)
            and type(other).model_fields.keys() == fields.keys()
            and all(getattr(self, name) == getattr(other, name) for name in fields)
        )

    __hash__ = None  # type: ignore[assignment]  # As pyiceberg's, which hold lists and cannot be hashed.


class _TableV1(_Sharing, TableMetadataV1):
    pass


class _TableV2(_Sharing, TableMetadataV2):
    pass


_MODELS: Final[dict[str, type[IcebergBaseModel]]] = {"1": _TableV1, "2": _TableV2}


def table_model(document: Mapping[str, Any]) -> TableMetadata:
    """pyiceberg's model of a table's metadata. Raises: what pyiceberg and pydantic raise for a bad one."""
    # Parsed from a copy: pyiceberg completes version 1 documents in place.
    text = json.dumps(document)
    model = _MODELS.get(str(document.get("format-version")))
    return TableMetadataUtil.parse_raw(text) if model is None else cast(TableMetadata, model.model_validate_json(text))
