"""Between plait and any other Iceberg catalog: which of its tables can come, and which of ours it takes. No data moves.

Both directions hand over metadata locations. What cannot be handed over is told with its reason, and stops nothing
else; only a catalog that does not answer at all is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from plait.errors import InvalidArgument, StoreUnavailable
from plait.refspec import check_key, format_key
from plait.types import Entry, Found, Key, Mode
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    NoSuchNamespaceError,
    NoSuchTableError,
    ServiceUnavailableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import StaticTable
from pyiceberg.typedef import Identifier

from plait_iceberg.catalogs import overwrite
from plait_iceberg.metadata import FORMAT_VERSION_MAX, VIEW
from plait_iceberg.space import risks_of

_UNREACHABLE = (ConnectionError, TimeoutError, ServiceUnavailableError)


# -- into plait --------------------------------------------------------------------------------------------------------


def discover(source: Catalog, match: str = "*", mode: Mode = Mode.MANAGED) -> Iterator[Found]:
    """Every table and view of a catalog whose dotted name fits a glob, in order of their names, namespace by namespace.

    Views are listed to be refused: pyiceberg's catalogs do not tell where a view's metadata is. So are tables in a
    format that plait could not write, unless they are for a store in pointer mode.

    Raises: StoreUnavailable. Cost: one listing for each namespace, one load for each table that fits.
    """
    for namespace in _namespaces(source):
        for identifier in sorted(_listed(source, namespace)):
            if fnmatchcase(".".join(identifier), match):
                yield _describe(source, identifier, mode)
        for identifier in sorted(_listed_views(source, namespace)):
            if fnmatchcase(".".join(identifier), match):
                yield Found(identifier, refusal="it is a view, and catalogs do not tell where its metadata is")


def _namespaces(source: Catalog) -> Iterator[Identifier]:
    """All namespaces, parents first, each once, whatever the catalog answers below a level that it does not have."""
    seen: set[Identifier] = set()
    waiting: list[Identifier] = [()]
    while waiting:
        parent = waiting.pop()
        try:
            children = source.list_namespaces(parent)
        except _UNREACHABLE as error:
            raise _unavailable(source, error) from error
        except NoSuchNamespaceError:
            children = []
        except Exception as error:
            raise _unlisted(source, error) from error
        new = sorted({tuple(child) for child in children} - seen)
        seen.update(new)
        waiting.extend(reversed(new))
        if parent:
            yield parent


def _listed(source: Catalog, namespace: Identifier) -> list[Identifier]:
    try:
        return [tuple(one) for one in source.list_tables(namespace)]
    except _UNREACHABLE as error:
        raise _unavailable(source, error) from error
    except NoSuchNamespaceError:
        return []
    except Exception as error:
        raise _unlisted(source, error) from error


def _listed_views(source: Catalog, namespace: Identifier) -> list[Identifier]:
    try:
        return [tuple(one) for one in source.list_views(namespace)]
    except _UNREACHABLE as error:
        raise _unavailable(source, error) from error
    except Exception:
        # Many catalogs have no views, and say so in ways of their own.
        return []


def _describe(source: Catalog, identifier: Identifier, mode: Mode) -> Found:
    try:
        check_key(("store", *identifier))
        table = source.load_table(identifier)
    except _UNREACHABLE as error:
        raise _unavailable(source, error) from error
    except InvalidArgument as error:
        return Found(identifier, refusal=f"its name cannot be a key: {error.message}")
    except NoSuchTableError:
        return Found(identifier, refusal="it is no Iceberg table, or was dropped meanwhile")
    except Exception as error:
        # One table that its catalog or pyiceberg cannot load must not keep the others back.
        return Found(identifier, refusal=f"it cannot be loaded: {error}")
    if table.format_version > FORMAT_VERSION_MAX and mode is not Mode.POINTER:
        return Found(
            identifier,
            table.metadata_location,
            f"its format version is {table.format_version}, the newest that can be written is {FORMAT_VERSION_MAX}: "
            "keep it in a store with mode=pointer",
        )
    return Found(identifier, table.metadata_location, risks=tuple(risks_of(table.location(), table.properties)))


def _unavailable(catalog: Catalog, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"catalog {catalog.name!r} does not answer: {error}", remedy="check its uri and try again")


def _unlisted(catalog: Catalog, error: Exception) -> StoreUnavailable:
    """Every driver that pyiceberg brings has errors of its own, some of many lines."""
    told = next(iter(str(error).splitlines()), type(error).__name__)
    return StoreUnavailable(
        f"the tables of catalog {catalog.name!r} cannot be listed: {told}",
        remedy="see that it is an Iceberg catalog, and that you may read it",
    )


# -- out of plait ------------------------------------------------------------------------------------------------------


class ExportState(StrEnum):
    """What became of one entry: new in the target, there already, moved to this version, or not taken."""

    REGISTERED = "registered"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Exported:
    """One entry of a commit, and what the target made of it; `reason` says why it was refused."""

    key: Key
    identifier: Identifier
    state: ExportState
    reason: str = ""


def export(target: Catalog, entries: Iterable[Entry], *, replace: bool = False) -> Iterator[Exported]:
    """Register the tables of a commit in another catalog, under the same namespaces and names, lazily.

    The target then reads exactly that commit's versions. What its clients write goes past plait: no commit names it,
    and retention will collect what they put into folders of tables that plait created. So: for reading.

    Args:
        replace: move a table that the target has at another version to this one.
    Repeat: UNCHANGED for what is there already. Raises: StoreUnavailable.
    """
    for entry in entries:
        try:
            state, reason = _export_one(target, entry, replace)
        except _UNREACHABLE as error:
            raise _unavailable(target, error) from error
        yield Exported(entry.key, entry.key[1:], state, reason)


def _export_one(target: Catalog, entry: Entry, replace: bool) -> tuple[ExportState, str]:
    identifier, location = entry.key[1:], entry.snapshot.version
    if entry.snapshot.attrs.get("format") == VIEW:
        return ExportState.REFUSED, "it is a view, and pyiceberg's catalogs register tables only"
    if len(identifier) < 2:
        return ExportState.REFUSED, f"{format_key(entry.key)} has no namespace, which other catalogs need"
    if _is_lost(target, location):
        return ExportState.REFUSED, f"its metadata file {location} does not exist"
    try:
        for length in range(1, len(identifier)):
            target.create_namespace_if_not_exists(identifier[:length])
        there = target.load_table(identifier).metadata_location if target.table_exists(identifier) else None
        if there == location:
            return ExportState.UNCHANGED, ""
        if there is not None and not replace:
            return ExportState.REFUSED, f"the target has this table at {there}: export with replace to move it"
        if there is None:
            target.register_table(identifier, location)
        elif not overwrite(target, identifier, location):
            return ExportState.REFUSED, "the target cannot replace a table: drop it there (without purging it) first"
    except _UNREACHABLE:
        raise
    except TableAlreadyExistsError:
        return ExportState.REFUSED, "somebody created this table in the target meanwhile"
    except Exception as error:
        return ExportState.REFUSED, f"the target refused it: {error}"
    return (ExportState.REGISTERED if there is None else ExportState.REPLACED), ""


def _is_lost(target: Catalog, location: str) -> bool:
    """Whether the metadata file is known to be gone: some catalogs register first and look afterwards."""
    try:
        StaticTable.from_metadata(location, dict(target.properties))
    except FileNotFoundError:
        return True
    except Exception:
        # The target may have the rights or the format that this process lacks: it is the one to judge.
        return False
    return False
