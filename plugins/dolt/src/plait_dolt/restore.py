"""Bringing a working set, tables of it, or rows of it, to what a snapshot holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence

from plait.adapter import Context
from plait.errors import Unsupported
from plait.refspec import format_key
from plait.types import SnapshotRef, Staging

from plait_dolt.engine import Engine, Session
from plait_dolt.items import Condition, condition, joined, parse_item
from plait_dolt.names import branch_of, database_of, quote

_ROWS_AT_ONCE = 100
"""Each statement of these reads the whole table of the snapshot, on doltlite."""


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
        whole = sorted({name.table for name in wanted if name.row is None})
        _check_tables(whole, held.union(now.tables()), then, now)
        for table in whole:
            context.check_cancelled()
            _restore_table(now, table, snapshot, table in held)
            context.failpoint("dolt.restore.item_put")
        rows = defaultdict(list)
        for name in wanted:
            if name.row is not None:
                rows[name.table].append(name.row)
        for table, named in sorted(rows.items()):
            put = _rows_of(now, then if table in held else None, table, snapshot)
            for start in range(0, len(named), _ROWS_AT_ONCE):
                context.check_cancelled()
                put(named[start : start + _ROWS_AT_ONCE])
                context.failpoint("dolt.restore.item_put")


def _check_tables(names: Sequence[str], tables: Container[str], then: Session, now: Session) -> None:
    """Raises: Unsupported for a view, a trigger or a procedure: what they stand on may not be there."""
    others = [name for name in names if name not in tables]
    if others and (programs := [name for name in others if name in {*then.programs(), *now.programs()}]):
        raise Unsupported(
            f"{programs[0]!r} is no table, and views, triggers and procedures are not restored one by one",
            remedy="restore the database as a whole, or run the text that 'plait cat KEY::ITEM --at SPEC' prints",
        )


def _restore_table(now: Session, name: str, snapshot: SnapshotRef, is_held: bool) -> None:
    if is_held:
        now.call("dolt_checkout", snapshot.version, "--", name)
    else:
        now.rows(f"DROP TABLE IF EXISTS {quote(name)}")


def _rows_of(
    now: Session, then: Session | None, name: str, snapshot: SnapshotRef
) -> Callable[[Sequence[Mapping[str, str]]], None]:
    """What puts some rows of a table as they were `then` (None: there was none). Raises: Unsupported, here or there."""
    if name not in now.tables():
        raise Unsupported(f"the working set has no table {name!r}", remedy=f"restore {name} as a whole")
    if now.has_triggers(name):
        raise Unsupported(
            f"table {name!r} has triggers, which would change what is restored row by row",
            remedy=f"restore {name} as a whole",
        )
    table, old = now.table(name), then.table(name) if then else None
    if old is not None and old.key != table.key:
        raise Unsupported(f"table {name!r} has another primary key there", remedy="restore the table as a whole")

    def is_there(conditions: Sequence[Condition]) -> bool:
        """Whether all of them name a row of the snapshot."""
        where, args = joined(conditions)
        asked = f"SELECT COUNT(*) AS rows_there FROM {quote(name)} WHERE {where}"
        return then is not None and bool(then.value(asked, *args) == len(conditions))

    def put(rows: Sequence[Mapping[str, str]]) -> None:
        wanted = [condition(table, row) for row in rows]
        # One by one where some are not: two names may be one to a collation.
        coming = wanted if is_there(wanted) else [one for one in wanted if is_there([one])]
        if gone := [one for one in wanted if one not in coming]:
            if others := now.cascades(name):
                raise Unsupported(
                    f"rows of {', '.join(others)} go with the rows of table {name!r} that they refer to",
                    remedy=f"restore {', '.join([name, *others])} as a whole",
                )
            where, args = joined(gone)
            now.rows(f"DELETE FROM {quote(name)} WHERE {where}", *args)
        if coming and old is not None:
            both = [column for column in table.columns if column in old.types]
            now.copy_rows(table, both, snapshot.version, *joined(coming))

    return put
