"""What differs between two sides of a database: views and procedures, then table by table its schema and its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from plait.adapter import Side
from plait.errors import Unsupported
from plait.types import ItemChange, ItemChangeKind, Json, SnapshotRef

from plait_dolt.engine import OF_DOLT, WORKING, Engine, Session, Table
from plait_dolt.items import Condition, cell_item, condition, joined, parse_item, row_item, table_item, to_json
from plait_dolt.names import branch_of, database_of, quote

_ROWS_AT_ONCE = 100
_SCANS_MAX = 5
"""So often the changed rows of a table are gone through for some that are wanted; for more of them, all are read."""
_CHANGES = {"added": ItemChangeKind.ADDED, "removed": ItemChangeKind.REMOVED, "modified": ItemChangeKind.CHANGED}


@dataclass(frozen=True, slots=True)
class View:
    """Where a side is read: a commit, or a branch with what is uncommitted on it."""

    database: str
    revision: str
    is_branch: bool

    @property
    def name(self) -> str:
        return WORKING if self.is_branch else self.revision


def view_of(side: Side) -> View | None:
    if side is None:
        return None
    if isinstance(side, SnapshotRef):
        return View(side.asset, side.version, False)
    return View(database_of(side), branch_of(side), True)


class Wanted:
    """Which items a caller asked for; None: all."""

    def __init__(self, items: Sequence[str] | None) -> None:
        self._all = items is None
        self._rows: dict[str, list[Mapping[str, str]]] = {}
        self._whole: set[str] = set()
        self._exact = frozenset(items or ())
        for item in self._exact:
            if "::row:" not in item:
                name = parse_item(item)
                if name.row is None:
                    self._whole.add(name.table)
                else:
                    self._rows.setdefault(name.table, []).append(name.row)
        self._hashed = {item.rpartition("::row:")[0] for item in self._exact if "::row:" in item}

    def has_table(self, table: str) -> bool:
        return self.is_whole(table) or table in self._rows or table_item(table) in self._hashed

    def is_whole(self, table: str) -> bool:
        return self._all or table in self._whole

    def conditions(self, table: Table, prefixes: Sequence[str], *, rows_max: int | None = None) -> Iterator[Condition]:
        """SQL that limits rows of a table to what is wanted, a hundred rows at once; one empty one for no limit, also
        where more than `rows_max` are wanted: then `narrow` picks them."""
        rows = self._rows.get(table.name, ())
        named = [prefix + name for prefix in prefixes for name in table.key]
        is_much = rows_max is not None and len(rows) > rows_max
        if self.is_whole(table.name) or is_much or not OF_DOLT.isdisjoint(named) or not named:
            yield "", []
            return
        # An item that names other columns than the key names nothing here.
        fitting = [condition(table, row, prefixes) for row in rows if set(row) == set(table.key)]
        for start in range(0, len(fitting), _ROWS_AT_ONCE):
            yield joined(fitting[start : start + _ROWS_AT_ONCE])

    def narrow(self, change: ItemChange, table: Table) -> Iterator[ItemChange]:
        """The change of a row as it was asked for: the row, or cells of it."""
        if self._all:
            yield change
            return
        if self.is_whole(table.name) or change.item in self._exact:
            yield change
        for column in table.columns:
            cell = cell_item(change.item, column)
            if cell in self._exact:
                before = change.before.get(column) if isinstance(change.before, dict) else None
                after = change.after.get(column) if isinstance(change.after, dict) else None
                if before != after or change.before is None or change.after is None:
                    yield ItemChange(cell, change.kind, "item", before, after)


def diff(
    engine: Engine, before: Side, after: Side, items: Sequence[str] | None, check_cancelled: Callable[[], None]
) -> Iterator[ItemChange]:
    """All changes, lazily, in order of table and primary key. Cost: O(tables) hashes, and O(changed rows)."""
    old, new = view_of(before), view_of(after)
    if old == new or (isinstance(before, SnapshotRef) and isinstance(after, SnapshotRef) and _equal(before, after)):
        return
    if old and new and old.database != new.database:
        yield from diff(engine, before, None, items, check_cancelled)
        yield from diff(engine, None, after, items, check_cancelled)
        return
    if old and new and old.is_branch and new.is_branch:
        raise Unsupported("two working sets of one database cannot be compared", remedy="compare each with a commit")
    wanted = Wanted(items)
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(engine.session(view.database, view.revision)) if view else None for view in (old, new)
        ]
        states = [_State.of(session) for session in sessions]
        yield from _named(states[0].programs, states[1].programs, wanted)
        for name in sorted({*states[0].hashes, *states[1].hashes}):
            check_cancelled()
            if wanted.has_table(name) and states[0].hashes.get(name) != states[1].hashes.get(name):
                yield from _table(engine, (old, new), sessions, states, name, wanted)


def _equal(one: SnapshotRef, other: SnapshotRef) -> bool:
    return (one.asset, one.digest) == (other.asset, other.digest)


@dataclass(frozen=True, slots=True)
class _State:
    """What one side holds: a hash of every table, the text of every view and procedure."""

    hashes: Mapping[str, str]
    programs: Mapping[str, str]

    @classmethod
    def of(cls, session: Session | None) -> _State:
        if session is None:
            return cls({}, {})
        return cls(session.table_hashes(session.tables()), session.programs())


def _named(old: Mapping[str, str], new: Mapping[str, str], wanted: Wanted) -> Iterator[ItemChange]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after and wanted.is_whole(name):
            yield ItemChange(table_item(name), _kind(before, after), "schema", before, after)


def _kind(before: Json, after: Json) -> ItemChangeKind:
    if before is None:
        return ItemChangeKind.ADDED
    return ItemChangeKind.REMOVED if after is None else ItemChangeKind.CHANGED


def _table(
    engine: Engine,
    views: tuple[View | None, View | None],
    sessions: Sequence[Session | None],
    states: Sequence[_State],
    name: str,
    wanted: Wanted,
) -> Iterator[ItemChange]:
    old, new = (
        session.table(name) if session and name in state.hashes else None
        for session, state in zip(sessions, states, strict=True)
    )
    if wanted.is_whole(name):
        texts = [
            session.create_statement(name) if session and table else None
            for session, table in zip(sessions, (old, new), strict=True)
        ]
        if texts[0] != texts[1]:
            yield ItemChange(table_item(name), _kind(*texts), "schema", *texts)
    if old and new and old.key == new.key and (new.key or set(old.columns) == set(new.columns)):
        before, after = views
        assert before is not None
        assert after is not None
        branch = before if before.is_branch else after
        with engine.session(branch.database, branch.revision) as session:
            changed = _changed if new.key else _changed_keyless
            yield from changed(session, (before.name, after.name), old, new, wanted)
        return
    for view, table, kind in ((views[0], old, ItemChangeKind.REMOVED), (views[1], new, ItemChangeKind.ADDED)):
        if view is not None and table is not None:
            with engine.session(view.database, view.revision) as session:
                yield from _all_rows(session, table, kind, wanted)


def _changed(session: Session, ends: tuple[str, str], old: Table, new: Table, wanted: Wanted) -> Iterator[ItemChange]:
    olds, news = _names("from_", old), _names("to_", new)
    for where, args in wanted.conditions(new, ("from_", "to_"), rows_max=_SCANS_MAX * _ROWS_AT_ONCE):
        for row in session.diff_rows(new.name, *ends, _asked(olds, news), where, args):
            kind = _CHANGES[row["diff_type"]]
            before = None if kind is ItemChangeKind.ADDED else _side(row, olds)
            after = None if kind is ItemChangeKind.REMOVED else _side(row, news)
            if before == after:  # A column that came or went touches rows that read alike.
                continue
            if before and after and any(before[name] != after[name] for name in new.key):
                # One key to a collation, and two names.
                gone, come = row_item(new, before), row_item(new, after)
                yield from wanted.narrow(ItemChange(gone, ItemChangeKind.REMOVED, "row", before, None), new)
                yield from wanted.narrow(ItemChange(come, ItemChangeKind.ADDED, "row", None, after), new)
                continue
            item = row_item(new, after or before or {})
            yield from wanted.narrow(ItemChange(item, kind, "row", before, after), new)


def _names(prefix: str, table: Table) -> list[tuple[str, str]]:
    """Each column, and what it is called in an answer. Dolt says null for what is stored nowhere."""
    return [(name, prefix + name) for name in table.columns if name not in table.virtual]


def _asked(olds: Sequence[tuple[str, str]], news: Sequence[tuple[str, str]]) -> list[str]:
    """Not all that there is: two commits and their dates with each row would be half of the cost."""
    return [*(called for _, called in (*olds, *news)), "diff_type"]


def _side(row: Mapping[str, object], names: Sequence[tuple[str, str]]) -> dict[str, Json]:
    return {name: to_json(row.get(called)) for name, called in names}


def _changed_keyless(
    session: Session, ends: tuple[str, str], old: Table, new: Table, wanted: Wanted
) -> Iterator[ItemChange]:
    """Rows without a name: each distinct one once, as added or removed. Materialised, in order of their hashes."""
    found: dict[str, tuple[int, dict[str, Json]]] = {}
    olds, news = _names("from_", old), _names("to_", new)
    for row in session.diff_rows(new.name, *ends, _asked(olds, news)):
        kind = _CHANGES[row["diff_type"]]  # doltlite has numbers for such rows: they may be changed, too.
        for gone, names, step in ((ItemChangeKind.ADDED, olds, -1), (ItemChangeKind.REMOVED, news, 1)):
            if kind is not gone:
                values = _side(row, names)
                item = row_item(new, values)
                count = found[item][0] if item in found else 0
                found[item] = (count + step, values)
    for item, (count, values) in sorted(found.items()):
        if count > 0:
            yield from wanted.narrow(ItemChange(item, ItemChangeKind.ADDED, "row", None, values), new)
        elif count < 0:
            yield from wanted.narrow(ItemChange(item, ItemChangeKind.REMOVED, "row", values, None), new)


def _all_rows(session: Session, table: Table, kind: ItemChangeKind, wanted: Wanted) -> Iterator[ItemChange]:
    names = _names("", table)
    order = f" ORDER BY {', '.join(quote(name) for name in table.key)}" if table.key else ""
    for where, args in wanted.conditions(table, ("",)):
        limit = f" WHERE {where}" if where else ""
        for row in session.stream(f"SELECT * FROM {quote(table.name)}{limit}{order}", *args):
            values = _side(row, names)
            sides = (None, values) if kind is ItemChangeKind.ADDED else (values, None)
            yield from wanted.narrow(ItemChange(row_item(table, values), kind, "row", *sides), table)
