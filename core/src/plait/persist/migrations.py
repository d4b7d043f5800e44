"""Bringing a database of an earlier release to this one's schema: a copy first, then one step per revision.

Alembic's operations do the work (SQLite changes few things of a table in place: they rebuild it); the revision is
plait's own row, changed in the transaction of the step that makes it. So a migration that died goes on where it was.
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
"""By the revision that each one makes. Once released, a step is never changed again."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done: nothing when `before` is `after`. `copy` says where the database is as it was.

    None where there is none, or where somebody else migrated it meanwhile, and has it.
    """

    before: int
    after: int
    copy: str | None


def migrate(database: Database, *, steps: Mapping[int, Step] = STEPS, copy: bool = True) -> Migrated:
    """Bring a database to this release's revision. Nobody else may use it meanwhile; who migrates it too does no harm.

    Repeat: goes on where an earlier call died, and does nothing once it is done.
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
    """One step and its revision, together or not at all."""
    with database.write() as connection:
        database.lock_schema(connection)
        held = schema.schema_version.c.revision
        moved = sa.update(schema.schema_version).where(held == revision - 1).values(revision=revision)
        if connection.execute(moved).rowcount != 1:
            return  # Somebody else migrates too, and was here first.
        step(Operations(MigrationContext.configure(connection)))
        fix_plans(connection)
        failpoint("migrate.before_step_is_durable")
