"""What tables and views that plait creates begin with: their first metadata, and a folder of their own."""

from __future__ import annotations

import re
import uuid

from plait.errors import Unsupported
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import TableProperties
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import SortOrder
from pyiceberg.typedef import Identifier, Properties
from pyiceberg.view.metadata import ViewHistoryEntry, ViewMetadata, ViewVersion

from plait_iceberg.metadata import FORMAT_VERSION_MAX

OWN_FOLDER = re.compile(r"-plait-[0-9a-f]{8}\Z")
"""Tables that plait creates live in folders of this form: what is in them is plait's alone."""

_PROTECTED = {"gc.enabled": "false"}
"""Keeps engines' expire_snapshots and orphan removal from deleting files that other branches need."""


def new_table(
    warehouse: str,
    identifier: Identifier,
    schema: Schema,
    *,
    location: str | None,
    partition_spec: PartitionSpec,
    sort_order: SortOrder,
    properties: Properties,
) -> TableMetadata:
    """A new table's metadata. `location` None: a folder of its own. Raises: Unsupported for too new a format."""
    version = int(properties.get(TableProperties.FORMAT_VERSION, TableProperties.DEFAULT_FORMAT_VERSION))
    if version > FORMAT_VERSION_MAX:
        raise Unsupported(
            f"format version {version} cannot be written, the newest is {FORMAT_VERSION_MAX}",
            remedy=f"leave {TableProperties.FORMAT_VERSION} out",
        )
    table_uuid = uuid.uuid4()
    return new_table_metadata(
        schema=schema,
        partition_spec=partition_spec,
        sort_order=sort_order,
        location=location.rstrip("/") if location else _own_folder(warehouse, identifier, table_uuid),
        properties={**_PROTECTED, **properties},
        table_uuid=table_uuid,
    )


def new_view(
    warehouse: str,
    identifier: Identifier,
    schema: Schema,
    view_version: ViewVersion,
    *,
    location: str | None,
    properties: Properties,
) -> ViewMetadata:
    """A new view's metadata. `location` None: a folder of its own."""
    view_uuid = uuid.uuid4()
    fresh = assign_fresh_schema_ids(schema)
    return ViewMetadata(
        view_uuid=str(view_uuid),
        format_version=1,
        location=location or _own_folder(warehouse, identifier, view_uuid),
        schemas=[fresh],
        current_version_id=view_version.version_id,
        versions=[view_version.model_copy(update={"schema_id": fresh.schema_id})],
        version_log=[ViewHistoryEntry(timestamp_ms=view_version.timestamp_ms, version_id=view_version.version_id)],
        properties=properties,
    )


def _own_folder(warehouse: str, identifier: Identifier, unique: uuid.UUID) -> str:
    """Tables of one name on two branches, or one after the other, never share one."""
    *folders, name = (re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in identifier)
    return "/".join([warehouse, *folders, f"{name}-plait-{unique.hex[:8]}"])
