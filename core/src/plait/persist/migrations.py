"""Migrates a database of an earlier release to this one's schema: a copy first, then one step per revision.

Alembic's operations do the work (where SQLite cannot change a table in place, they rebuild it). The revision is a row
of plait's own, changed in the same transaction as its step. So a migration that died continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from plait.errors import InvalidArgument
from plait.failpoint import failpoint
from plait.persist import schema
from plait.persist.copying import copy_database
from plait.persist.engine import Database, fix_plans

Step = Callable[[Operations], None]
"""Changes tables and rows from the revision before to its own. Runs in one transaction, in SQLite and PostgreSQL."""

STEPS: Final[Mapping[int, Step]] = {}
"""The steps, by the revision that each leads to. Once released, a step is never changed again."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did: nothing when `before` equals `after`. `copy`: where the copy of the old database is.

    None if no copy was made, or if somebody else migrated the database meanwhile, and made it.
    """

    before: int
    after: int
    copy: str | None


def migrate(database: Database, *, steps: Mapping[int, Step] = STEPS, copy: bool = True) -> Migrated:
    """Migrate a database to this release's revision. Nobody else may use it meanwhile; a second migration is harmless.

    Repeat: continues where an earlier call died; no-op once it is done.
    Raises: InvalidArgument for no catalog, for one of a newer release, and for one too old to have steps from.
    """
    before = database.revision()
    if before > schema.REVISION:
        database.check_schema()
    missing = [revision for revision in range(before + 1, schema.REVISION + 1) if revision not in steps]
    if missing:
        raise InvalidArgument(
            f"the catalog has schema {before}: this plait has no way from there to {schema.REVISION}",
            remedy="migrate it with a plait between the two first",
        )
    if before == schema.REVISION:
        return Migrated(before, before, None)
    failpoint("migrate.looked")
    kept = copy_database(database, before) if copy else None
    failpoint("migrate.copied")
    for revision in range(before + 1, schema.REVISION + 1):
        _step(database, revision, steps[revision])
        failpoint("migrate.stepped")
    return Migrated(before, schema.REVISION, kept)


def _step(database: Database, revision: int, step: Step) -> None:
    """Run one step and set its revision, in one transaction."""
    with database.write() as connection:
        database.lock_schema(connection)
        held = schema.schema_version.c.revision
        moved = sa.update(schema.schema_version).where(held == revision - 1).values(revision=revision)
        if connection.execute(moved).rowcount != 1:
            return  # Somebody else is migrating too, and has done this step.
        step(Operations(MigrationContext.configure(connection)))
        fix_plans(connection)
        failpoint("migrate.before_step_is_durable")
