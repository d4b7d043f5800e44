"""Bringing a working set, tables of it, or rows of it, to what a snapshot holds."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Context
from plait.errors import Unsupported
from plait.refspec import format_key
from plait.types import SnapshotRef, Staging

from plait_dolt.engine import Engine, Session
from plait_dolt.items import ItemName, condition, parse_item
from plait_dolt.names import branch_of, database_of, quote


def restore_whole(
    engine: Engine, context: Context, staging: Staging, snapshot: SnapshotRef, *, onto: str | None
) -> None:
    """Every table, view and procedure; the branch still descends from `onto` (None: from what it does now).

    Repeat: no-op. Stopped half-way: the branch is at the snapshot itself, which descends from less, never from else.
    """
    with engine.session(database_of(staging), branch_of(staging)) as session:
        standing = session.standing()
        is_there = standing.is_clean and standing.head == snapshot.digest.decode()
        if is_there and (onto is None or session.has_ancestor(standing.commit, onto)):
            return
        session.call("dolt_reset", "--hard", snapshot.version)
        context.failpoint("dolt.restore.tables_put")
        session.call("dolt_reset", "--soft", onto or standing.commit)


def restore_items(
    engine: Engine, context: Context, staging: Staging, snapshot: SnapshotRef, items: Sequence[str]
) -> None:
    """Tables and rows, each as the snapshot has it; what it does not have goes. Repeat: no-op."""
    database = database_of(staging)
    if snapshot.asset != database:
        raise Unsupported(
            f"{format_key(staging.key)} and the snapshot are not the same database", remedy="restore it as a whole"
        )
    wanted = [parse_item(item) for item in items]
    if any(name.cell is not None for name in wanted):
        raise Unsupported("single cells are not restored", remedy="restore the row")
    with engine.session(database, snapshot.version) as then, engine.session(database, branch_of(staging)) as now:
        held = set(then.tables())
        for name in sorted(wanted, key=lambda name: (name.row is not None, name.table)):
            context.check_cancelled()
            if name.row is None:
                _restore_table(now, name, snapshot, name.table in held)
            else:
                _restore_row(now, then, name, snapshot, name.table in held)
            context.failpoint("dolt.restore.item_put")


def _restore_table(now: Session, name: ItemName, snapshot: SnapshotRef, is_held: bool) -> None:
    if is_held:
        now.call("dolt_checkout", snapshot.version, "--", name.table)
    else:
        now.rows(f"DROP TABLE IF EXISTS {quote(name.table)}")


def _restore_row(now: Session, then: Session, name: ItemName, snapshot: SnapshotRef, is_held: bool) -> None:
    assert name.row is not None
    if name.table not in now.tables():
        raise Unsupported(f"the working set has no table {name.table!r}", remedy=f"restore {name.table} as a whole")
    if now.has_triggers(name.table):
        raise Unsupported(
            f"table {name.table!r} has triggers, which would change what is restored row by row",
            remedy=f"restore {name.table} as a whole",
        )
    table = now.table(name.table)
    where, args = condition(table, name.row)
    old = then.table(name.table) if is_held else None
    if old is not None and old.key != table.key:
        raise Unsupported(f"table {name.table!r} has another primary key there", remedy="restore the table as a whole")
    if old is None or not then.rows(f"SELECT 1 AS one FROM {quote(name.table)} WHERE {where}", *args):
        if others := now.cascades(name.table):
            raise Unsupported(
                f"rows of {', '.join(others)} go with the rows of table {name.table!r} that they refer to",
                remedy=f"restore {', '.join([name.table, *others])} as a whole",
            )
        now.rows(f"DELETE FROM {quote(name.table)} WHERE {where}", *args)
        return
    both = [column for column in table.columns if column in old.types]
    now.copy_row(table, both, snapshot.version, where, args)
