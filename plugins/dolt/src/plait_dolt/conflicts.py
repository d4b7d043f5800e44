"""What a native merge could not decide: read from Dolt's tables as conflicts, settled there by plait's resolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from plait.errors import InvalidArgument, Unsupported
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

from plait_dolt.engine import Refused, Row, Session, Table
from plait_dolt.items import from_json, parse_item, row_item, table_item, to_json
from plait_dolt.names import quote

_PREFIXES = ("base_", "our_", "their_")
_RESOLVE = {Choice.OURS: "--ours", Choice.THEIRS: "--theirs"}


@dataclass(frozen=True, slots=True)
class Sides:
    """The three commits of a merge."""

    base: str
    ours: str
    theirs: str

    def commit(self, choice: Choice) -> str:
        return {Choice.BASE: self.base, Choice.OURS: self.ours, Choice.THEIRS: self.theirs}[choice]


@dataclass(frozen=True, slots=True)
class Ahead:
    """Conflicts that nobody settled yet, and the rows (table, key, row) that both sides have to hold for a merge that
    meets none of them."""

    left: list[Conflict]
    rows: list[tuple[Table, tuple[object, ...], Row | None]]


def settle(session: Session, sides: Sides, resolutions: Sequence[Resolution]) -> list[Conflict]:
    """Apply what the resolutions say; what is left, in order of table and key. Nothing left: it can be committed.

    A resolution of a table settles every row of it that has no resolution of its own.
    Raises: InvalidArgument for a resolution that does not fit its conflict.
    """
    chosen = {one.item: one for one in resolutions if one.item is not None}
    session.relax()
    left = [*_schemas(session), *_rows(session, chosen)] or [*_violations(session, sides, chosen)]
    return sorted(left or _still_violating(session), key=lambda conflict: conflict.item or "")


def settle_ahead(session: Session, sides: Sides, tables: Sequence[str], resolutions: Sequence[Resolution]) -> Ahead:
    """Settle conflicting rows of these tables before the merge that would have listed them.

    Raises: InvalidArgument for a resolution that does not fit its conflict.
    """
    chosen = {one.item: one for one in resolutions if one.item is not None}
    ahead = Ahead([], [])
    for table in map(session.table, tables):
        asked = "SELECT * FROM dolt_preview_merge_conflicts(%s, %s, %s)"
        for row in session.rows(asked, sides.ours, sides.theirs, table.name):
            one = _RowConflict.of(table, row)
            resolution = chosen.get(one.item, chosen.get(table_item(table.name)))
            if resolution is None:
                ahead.left.append(one.conflict())
            ahead.rows.append((table, one.key, one.ours if resolution is None else one.chosen(resolution)))
    return ahead


def settled_schemas(session: Session, resolutions: Sequence[Resolution]) -> dict[str, Choice]:
    """The tables whose schemas conflict, where a side was chosen. Dolt resolves none that has changed rows: the merge
    has to begin anew, with the chosen table on both sides. Raises: InvalidArgument."""
    chosen = {one.item: one for one in resolutions}
    found = {}
    for conflict in _schemas(session):
        resolution = chosen.get(conflict.item)
        if resolution is not None:
            _side_option(resolution)
            found[parse_item(str(conflict.item)).table] = resolution.choice
    return found


def _schemas(session: Session) -> Iterator[Conflict]:
    for row in session.rows("SELECT * FROM dolt_schema_conflicts"):
        yield Conflict(
            (),
            ConflictKind.SCHEMA_CHANGED,
            table_item(row["table_name"]),
            base=to_json(row["base_schema"]),
            ours=to_json(row["our_schema"]),
            theirs=to_json(row["their_schema"]),
            detail=str(row["description"]),
        )


def _side_option(resolution: Resolution) -> str:
    if resolution.choice not in _RESOLVE:
        raise InvalidArgument(
            f"the conflict on table {resolution.item} is settled by a side, not by {resolution.choice.value}",
            remedy="choose ours or theirs, or write the table as it shall be into the merge's working set",
        )
    return _RESOLVE[resolution.choice]


def _rows(session: Session, chosen: Mapping[str, Resolution]) -> Iterator[Conflict]:
    for found in session.rows("SELECT * FROM dolt_conflicts"):
        if not found["num_conflicts"]:
            continue
        table = session.table(found["table"])
        if not table.columns:  # doltlite lists a renamed one by its old name, and lets nobody settle it.
            detail = f"one side renamed table {table.name!r}, and both changed the same rows of it"
            yield Conflict((), ConflictKind.SCHEMA_CHANGED, detail=detail)
            continue
        whole = chosen.get(table_item(table.name))
        if not table.key or table.virtual:  # Of the latter, Dolt 1.83 lists the number only.
            if whole is None:
                which = "of a table with a virtual column" if table.key else "without a primary key"
                detail = f"{found['num_conflicts']} rows {which} changed on both sides"
                yield Conflict((), ConflictKind.ITEM_CHANGED, table_item(table.name), detail=detail)
            else:
                option = _side_option(whole)
                try:
                    session.call("dolt_conflicts_resolve", option, table.name)
                except Refused as error:  # Where the columns are others by now.
                    yield Conflict((), ConflictKind.SCHEMA_CHANGED, detail=f"table {table.name!r}: {error.text}")
            continue
        has_triggers = session.has_triggers(table.name)
        listed = quote("dolt_conflicts_" + table.name)
        is_settled = True
        for row in session.rows(f"SELECT * FROM {listed}"):
            one = _RowConflict.of(table, row)
            resolution = chosen.get(one.item, whole)
            if resolution is None:
                is_settled = False
                yield one.conflict()
            else:
                one.settle(session, resolution, has_triggers=has_triggers)
        if is_settled:  # Else nothing of this merge is kept. Not row by row: each time, Dolt reads the whole list.
            session.call("dolt_conflicts_resolve", "--ours", table.name)


@dataclass(frozen=True, slots=True)
class _RowConflict:
    """One row that both sides changed: as the driver reads it, None where it is absent."""

    table: Table
    item: str
    key: tuple[object, ...]
    base: Row | None
    ours: Row | None
    theirs: Row | None

    @classmethod
    def of(cls, table: Table, row: Row) -> _RowConflict:
        sides = []
        for prefix in _PREFIXES:
            values = {name: row[prefix + name] for name in table.columns if prefix + name in row}
            absent = all(values.get(name) is None for name in table.key)
            sides.append(None if absent else values)
        held = next(side for side in sides if side is not None)
        item = row_item(table, {name: to_json(held[name]) for name in table.key})
        return cls(table, item, tuple(held[name] for name in table.key), *sides)

    @property
    def both_changed(self) -> list[str]:
        """The columns that each side changed, and not alike."""
        base, ours, theirs = (side or {} for side in (self.base, self.ours, self.theirs))
        return [
            name
            for name in self.table.columns
            if base.get(name) != ours.get(name) != theirs.get(name) != base.get(name)
        ]

    def conflict(self) -> Conflict:
        base, ours, theirs = (_shown(side) for side in (self.base, self.ours, self.theirs))
        if self.ours is None or self.theirs is None:
            detail = f"{'ours' if self.ours is None else 'theirs'} deleted the row, the other side changed it"
        else:
            detail = f"both sides changed {', '.join(self.both_changed)}"
        return Conflict((), ConflictKind.ITEM_CHANGED, self.item, base, ours, theirs, detail)

    def chosen(self, resolution: Resolution) -> Row | None:
        """The row that a resolution says."""
        if resolution.choice is Choice.VALUE:
            return None if resolution.value is None else self._given(resolution.value)
        return {Choice.BASE: self.base, Choice.OURS: self.ours, Choice.THEIRS: self.theirs}[resolution.choice]

    def settle(self, session: Session, resolution: Resolution, *, has_triggers: bool) -> None:
        """Put the chosen row."""
        if resolution.choice is Choice.OURS:  # Which is there already.
            return
        row = self.chosen(resolution)
        if not has_triggers:
            put_row(session, self.table, self.key, row)
            return
        where = " OR ".join(
            "(" + " AND ".join(f"{quote(prefix + name)} = %s" for name in self.table.key) + ")" for prefix in _PREFIXES
        )
        if row is None or not session.put_ours(self.table, row, where, self.key * len(_PREFIXES)):
            raise _has_triggers(self.table)

    def _given(self, value: Json) -> Row:
        """The row that a user gave: columns left out are as the two sides merge, which must be possible."""
        given = given_row(self.table, self.item, value)
        base, ours, theirs = (side or {} for side in (self.base, self.ours, self.theirs))
        undecided = [name for name in self.both_changed if name not in given]
        if undecided:
            raise InvalidArgument(
                f"{self.item}: both sides changed {', '.join(undecided)}, and the value leaves it out",
                remedy="give every column that the conflict names",
            )
        merged = {
            name: theirs.get(name) if ours.get(name) == base.get(name) else ours.get(name)
            for name in self.table.columns
        }
        return {**merged, **dict(zip(self.table.key, self.key, strict=True)), **given}


def _shown(side: Row | None) -> Json:
    return None if side is None else {name: to_json(value) for name, value in side.items()}


def given_row(table: Table, item: str, value: Json) -> Row:
    """A row as a person wrote it, in the driver's values. Raises: InvalidArgument naming a column that is not there."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"{item} is settled by a row, not by {value!r}", remedy='give {"column": value, …}')
    unknown = sorted(set(value) - set(table.columns))
    if unknown:
        raise InvalidArgument(f"table {table.name!r} has no column {unknown[0]!r}")
    return {name: from_json(one, table.types[name], name) for name, one in value.items()}


def check_no_triggers(session: Session, table: Table) -> None:
    """Raises: Unsupported where triggers would write more than the rows that are put there. Cost: one statement."""
    if session.has_triggers(table.name):
        raise _has_triggers(table)


def _has_triggers(table: Table) -> Unsupported:
    return Unsupported(
        f"table {table.name!r} has triggers, which would change what is written there row by row",
        remedy="take ours, or write it in SQL into the merge's working set, as it shall be with all that they do",
    )


def put_row(session: Session, table: Table, key: Sequence[object], row: Row | None) -> None:
    """Make this row, or none, be what is under a key, in a table without triggers."""
    where = " AND ".join(f"{quote(name)} = %s" for name in table.key)
    session.rows(f"DELETE FROM {quote(table.name)} WHERE {where}", *key)
    if row is not None:
        row = {name: value for name, value in row.items() if name not in table.generated}
        columns = ", ".join(quote(name) for name in row)
        places = ", ".join(["%s"] * len(row))
        session.rows(f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({places})", *row.values())


def _violations(session: Session, sides: Sides, chosen: Mapping[str, Resolution]) -> Iterator[Conflict]:
    """Rows that the merge made break a foreign key, a unique index or a check; each settled by its own item."""
    for found in session.rows("SELECT * FROM dolt_constraint_violations"):
        table = session.table(found["table"])
        whole = chosen.get(table_item(table.name))
        listed = quote("dolt_constraint_violations_" + table.name)
        is_checked = False
        for row in session.rows(f"SELECT * FROM {listed}"):
            values = {name: row[name] for name in table.columns if name in row}
            item = row_item(table, {name: to_json(value) for name, value in values.items()})
            resolution = chosen.get(item, whole)
            if resolution is None or not table.key:
                detail = f"{row['violation_type']}: {row['violation_info']}"
                yield Conflict((), ConflictKind.CONSTRAINT, item, ours=_shown(values), detail=detail)
                continue
            if not is_checked:
                check_no_triggers(session, table)
                is_checked = True
            key = [values[name] for name in table.key]
            _settle_violation(session, table, key, item, sides, resolution)
            where = " AND ".join(f"{quote(name)} = %s" for name in table.key)
            session.rows(f"DELETE FROM {listed} WHERE {where}", *key)


def _settle_violation(
    session: Session, table: Table, key: Sequence[object], item: str, sides: Sides, resolution: Resolution
) -> None:
    if resolution.choice is Choice.VALUE:
        value = resolution.value
        put_row(session, table, key, None if value is None else given_row(table, item, value))
        return
    put_row(session, table, key, None)
    where = " AND ".join(f"{quote(name)} = %s" for name in table.key)
    session.copy_rows(table, table.columns, sides.commit(resolution.choice), where, key)


def _still_violating(session: Session) -> Iterator[Conflict]:
    """Whether the settled rows keep every constraint."""
    session.call("dolt_verify_constraints", "--all")
    for found in session.rows("SELECT * FROM dolt_constraint_violations"):
        table = session.table(found["table"])
        for row in session.rows(f"SELECT * FROM {quote('dolt_constraint_violations_' + table.name)}"):
            values = {name: row[name] for name in table.columns if name in row}
            item = row_item(table, {name: to_json(value) for name, value in values.items()})
            detail = f"{row['violation_type']}: {row['violation_info']}"
            yield Conflict((), ConflictKind.CONSTRAINT, item, ours=_shown(values), detail=detail)
