"""Other Iceberg catalogs, as pyiceberg opens them: opened, and a table of theirs moved if it is where it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    BadRequestError,
    ForbiddenError,
    NoSuchIcebergTableError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ValidationError,
)
from pyiceberg.typedef import Identifier

ANSWERS: Final = (NoSuchTableError, NoSuchNamespaceError, TableAlreadyExistsError)
"""What a catalog says about what it has."""
_UNSUPPORTED: Final = 406
"""What a REST catalog answers, by its specification, to what it does not support."""
_DENIED: Final = (ForbiddenError, UnauthorizedError, PermissionError)
_REFUSED: Final = (BadRequestError, ValidationError, ValueError, NotImplementedError)


def opened(name: str, properties: Mapping[str, str], shown: str) -> Catalog:
    """A catalog by its name in pyiceberg's configuration and what is given beside that; `shown` is what errors call it.

    Raises: InvalidArgument, StoreUnavailable.
    """
    given: dict[str, Any] = dict(properties)
    try:
        return load_catalog(name, **given)
    except (ValueError, ImportError) as error:
        raise InvalidArgument(
            f"{shown} is no Iceberg catalog: {type(error).__name__}: {_told(error, given, shown)}",
            remedy="give its URI, or a name of .pyiceberg.yaml",
        ) from error
    except Exception as error:  # Every driver that pyiceberg brings has errors of its own.
        raise StoreUnavailable(
            f"Iceberg catalog {shown} does not answer: {type(error).__name__}: {_told(error, given, shown)}"
        ) from error


@contextmanager
def asked(catalog: Catalog, what: str, shown: str) -> Iterator[None]:
    """Turn drivers' errors into plait's; `what` is asked, `shown` what it is called. pyiceberg's own errors that say
    which table or namespace is there are left as they are.

    Raises: StoreUnavailable where the catalog does not answer; Unsupported, PermissionDenied, NotFound for one table.
    """
    try:
        yield
    except NoSuchIcebergTableError as error:
        raise Unsupported(f"{what} has something else under a table's name: {error}", remedy="rename one") from error
    except ANSWERS:
        raise
    except FileNotFoundError as error:
        raise NotFound(
            f"{what}: a table's file does not exist: {error}", remedy="bring it back; see 'plait verify'"
        ) from error
    except Exception as error:  # Every driver that pyiceberg brings has errors of its own, some of many lines.
        told = _told(error, catalog.properties, shown).splitlines()[:1]
        said = told[0] if told else type(error).__name__
        if isinstance(error, _DENIED):
            raise PermissionDenied(f"{what} refuses it: {said}", remedy="check the credentials for it") from error
        if isinstance(error, _REFUSED):
            raise Unsupported(
                f"{what} cannot take it: {said}", remedy="rename the table, or see what it can"
            ) from error
        raise StoreUnavailable(
            f"{what}, {shown}, does not answer: {said}",
            remedy="commits do not wait for it; once it is back, 'plait store check' catches up",
        ) from error


def _told(error: Exception, given: Mapping[str, str], shown: str) -> str:
    uri = given.get("uri")
    return str(error).replace(uri, shown) if uri else str(error)


def location(catalog: Catalog, identifier: Identifier) -> str | None:
    """The metadata file that a catalog names for a table; None where it has no such table.

    Cost: one row of a SQL catalog; others have pyiceberg read the metadata file.
    """
    if (sql := _sql(catalog)) is not None:
        import sqlalchemy as sa

        row = _row()
        with sql.connect() as connection:
            found: str | None = connection.scalar(sa.select(row.metadata_location).where(*_named(catalog, identifier)))
        return found
    try:
        return catalog.load_table(identifier).metadata_location
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def is_atomic(catalog: Catalog) -> bool:
    """Whether a table can be moved, or dropped, only if it still is at one version: where SQL is at hand."""
    return _sql(catalog) is not None


def move_if(catalog: Catalog, identifier: Identifier, before: str, after: str | None) -> bool:
    """Let a table of a catalog that `is_atomic` go from one metadata file to another (None: drop it) in one statement;
    say whether it was at `before`, and so was moved."""
    import sqlalchemy as sa

    sql, row = _sql(catalog), _row()
    assert sql is not None
    at = (*_named(catalog, identifier), row.metadata_location == before)
    moved = {"metadata_location": after, "previous_metadata_location": before}
    statement = sa.delete(row).where(*at) if after is None else sa.update(row).where(*at).values(moved)
    with sql.begin() as connection:
        return bool(connection.execute(statement).rowcount)


def overwrite(catalog: Catalog, identifier: Identifier, after: str) -> bool:
    """Register a metadata file in the place of the one that a table is at; whether the catalog can."""
    try:
        catalog.register_table(identifier, after, overwrite=True)
    except (NotImplementedError, TableAlreadyExistsError):  # A REST catalog of before `overwrite` passes it over.
        return False
    except RESTError as error:
        if getattr(getattr(error.__cause__, "response", None), "status_code", None) != _UNSUPPORTED:
            raise
        return False
    return True


def _sql(catalog: Catalog) -> Any:
    """The engine of a SQL catalog; None for others."""
    if not any(one.__module__ == "pyiceberg.catalog.sql" for one in type(catalog).__mro__):
        return None
    engine = cast(Any, catalog).engine
    return engine if engine.dialect.supports_sane_rowcount else None


def _row() -> Any:
    from pyiceberg.catalog.sql import IcebergTables  # Imported where a SQL catalog was opened, not with the adapter.

    return IcebergTables


def _named(catalog: Catalog, identifier: Identifier) -> tuple[Any, ...]:
    row = _row()
    namespace = Catalog.namespace_to_string(identifier[:-1])
    return row.catalog_name == catalog.name, row.table_namespace == namespace, row.table_name == identifier[-1]
