"""What plait says to a Dolt SQL server over one connection: its SQL, procedures and system tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pymysql
from plait.errors import Corrupt, NotFound, PlaitError
from pymysql.cursors import SSCursor
from sqlalchemy.pool import PoolProxiedConnection

from plait_dolt.engine import OF_DOLT, Refused, Row, Session, Table
from plait_dolt.names import quote

_KEY_COLUMNS: Final = (
    "SELECT column_name AS name FROM information_schema.key_column_usage WHERE table_schema = database() "
    "AND table_name = %s AND constraint_name = 'PRIMARY' ORDER BY ordinal_position"
)
_CASCADES: Final = (
    "SELECT DISTINCT table_name AS name FROM information_schema.referential_constraints WHERE constraint_schema = "
    "database() AND referenced_table_name = %s AND delete_rule NOT IN ('NO ACTION', 'RESTRICT') ORDER BY table_name"
)
_GENERATED: Final = re.compile(r"^\s*`(?P<name>(?:[^`]|``)+)` .*GENERATED ALWAYS AS \(.*\)(?P<stored> STORED)?", re.M)
"""A column's line of SHOW CREATE TABLE: nothing else tells (Dolt 1.83)."""


class ServerSession(Session):
    """A pooled connection, pointed at a database and revision."""

    def __init__(
        self, connection: PoolProxiedConnection, database: str, translate: Callable[[Exception], PlaitError]
    ) -> None:
        self.connection = connection
        self.database = database
        self.revision = ""
        self.is_spoiled = False
        self._translate = translate
        self._streaming: Any = None

    def use(self, revision: str) -> None:
        if self.database:
            self._execute(f"USE {quote(f'{self.database}/{revision}' if revision else self.database)}", ())
        else:
            self._execute("SELECT 1", ())
        self.revision = revision

    def _execute(self, sql: str, args: Sequence[object], kind: type[Any] | None = None) -> Any:
        try:
            driver: Any = self.connection.driver_connection
            cursor = driver.cursor(kind)
            cursor.execute(sql, tuple(args))
        except (pymysql.MySQLError, OSError) as error:
            told = self._translate(error)
            if isinstance(told, NotFound) and self.database:
                told = self._damage() or told
            raise told from error
        return cursor

    def _damage(self) -> Corrupt | None:
        """Of a database that Dolt cannot read: asked for one of its revisions, Dolt finds none."""
        driver: Any = self.connection.driver_connection
        try:
            driver.cursor().execute(f"USE {quote(self.database)}")
        except (pymysql.MySQLError, OSError) as error:
            told = self._translate(error)
            return told if isinstance(told, Corrupt) else None
        return None

    def rows(self, sql: str, *args: object) -> list[Row]:
        cursor = self._execute(sql, args)
        if cursor.description is None:
            return []
        names = _names(cursor.description)
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stream(self, sql: str, *args: object) -> Iterator[Row]:
        self._streaming = cursor = self._execute(sql, args, SSCursor)
        names = _names(cursor.description)
        try:
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        except (pymysql.MySQLError, OSError) as error:
            raise self._translate(error) from error

    def end_stream(self) -> None:
        """Rows that nobody asked for any more go with their connection: PyMySQL would read all of them first."""
        result = None if self._streaming is None else self._streaming._result
        if result is not None and result.unbuffered_active:
            result.unbuffered_active, self._streaming.connection = False, None
            self.is_spoiled = True

    def call(self, procedure: str, *args: object) -> Row:
        found = self.rows(f"CALL {procedure}({', '.join(['%s'] * len(args))})", *args)
        return found[0] if found else {}

    def commit(self, message: str, *options: str) -> bool:
        # A refusal would be a warning in the server's log, for each untouched working set.
        if options:
            return super().commit(message, *options)
        return bool(self.call("dolt_commit", "-A", "-m", message, "--skip-empty"))

    def has_ancestor(self, commit: str, ancestor: str) -> bool:
        return bool(self.value("SELECT has_ancestor(%s, %s)", commit, ancestor))

    def head_since(self, ancestor: str) -> tuple[str, str, bool]:
        (row,) = self.rows(
            "SELECT dolt_hashof('HEAD') AS h, dolt_hashof_db('HEAD') AS r, has_ancestor('HEAD', %s) AS a", ancestor
        )
        return row["h"], row["r"], bool(row["a"])

    def tables(self) -> list[str]:
        found = self.rows("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        return sorted(next(iter(row.values())) for row in found)

    def table(self, name: str) -> Table:
        columns = self.rows(f"SHOW COLUMNS FROM {quote(name)}")
        # SHOW KEYS tells of none where a column is virtual (Dolt 1.83).
        key = self.rows(_KEY_COLUMNS, name)
        types = {row["Field"]: str(row["Type"]).lower() for row in columns}
        generated = {
            found["name"].replace("``", "`"): found["stored"]
            for found in _GENERATED.finditer(self.create_statement(name))
        }
        virtual = frozenset(column for column, stored in generated.items() if stored is None)
        return Table(name, tuple(types), types, tuple(row["name"] for row in key), frozenset(generated), virtual)

    def create_statement(self, table: str) -> str:
        return str(self.rows(f"SHOW CREATE TABLE {quote(table)}")[0]["Create Table"])

    def has_triggers(self, table: str) -> bool:
        return any(row["Table"] == table for row in self.rows("SHOW TRIGGERS"))

    def cascades(self, table: str) -> list[str]:
        return [row["name"] for row in self.rows(_CASCADES, table)]

    def programs(self) -> Mapping[str, str]:
        views = {row["name"]: row["fragment"] for row in self.rows("SELECT name, fragment FROM dolt_schemas")}
        procedures = self.rows("SELECT name, create_stmt FROM dolt_procedures")
        return {**views, **{row["name"]: row["create_stmt"] for row in procedures}}

    def diff_rows(
        self,
        table: str,
        before: str,
        after: str,
        columns: Sequence[str],
        where: str = "",
        args: Sequence[object] = (),
    ) -> Iterator[Row]:
        asked = ", ".join(quote(column) for column in columns)
        if not OF_DOLT.isdisjoint(columns):  # By such a name no column can be asked for.
            asked = "*"
        sql = f"SELECT {asked} FROM dolt_diff(%s, %s, %s) {f'WHERE {where}' if where else ''}"
        return self.stream(sql, before, after, table, *args)

    def fast_forward(self, before: str, after: str) -> bool:
        try:
            moved = self.call("dolt_merge", "--ff-only", after)
        except Refused as error:
            if "fast-forward" in error.text or "stomped" in error.text:
                return False
            raise
        return bool(moved["fast_forward"])

    def merge(self, theirs: str, message: str) -> bool:
        self.rows("SET @@dolt_allow_commit_conflicts = 1, @@dolt_force_transaction_commit = 1")
        self.is_spoiled = True  # These settings are not for whoever takes the connection next.
        merged = self.call("dolt_merge", "--no-ff", "-m", message, theirs)
        return not merged["conflicts"]

    def fatal_conflicts(self, base: str, ours: str, theirs: str) -> list[str]:
        """Dolt 1.83 dies of a conflict in a table with a stored generated column and no further index."""
        changed = self.rows("SELECT to_table_name AS name FROM dolt_diff_summary(%s, %s)", base, theirs)
        exposed = {name for name in {row["name"] for row in changed} & {*self.tables()} if self._has_stored(name)}
        if not exposed:
            return []
        try:
            found = self.rows("SELECT * FROM dolt_preview_merge_conflicts_summary(%s, %s)", ours, theirs)
        except Refused:  # Over schemas that do not fit, which the merge lists.
            return []
        return sorted(row["table"] for row in found if row["table"] in exposed and row["num_data_conflicts"])

    def put_ours(self, table: Table, row: Row, where: str, args: Sequence[object]) -> bool:
        written = {name: value for name, value in row.items() if name not in table.generated}
        puts = ", ".join(f"{quote('our_' + name)} = %s" for name in written)
        listed = quote("dolt_conflicts_" + table.name)
        self.rows(f"UPDATE {listed} SET {puts} WHERE {where}", *written.values(), *args)
        return True

    def _has_stored(self, name: str) -> bool:
        table = self.table(name)
        return bool(table.key and table.generated and not table.virtual)

    def abandon(self) -> None:
        try:
            self.call("dolt_merge", "--abort")
        except Refused:
            return  # There was none.

    def relax(self) -> None:
        self.is_spoiled = True  # As in `merge`.
        self.rows("SET foreign_key_checks = 0")

    def copy_rows(self, table: Table, columns: Sequence[str], commit: str, where: str, args: Sequence[object]) -> None:
        held = self.rows(f"SELECT * FROM {quote(table.name)} AS OF %s WHERE {where} LIMIT 1", commit, *args)
        if not held:
            return
        columns = [column for column in columns if column in held[0] and column not in table.generated]
        listed = ", ".join(quote(column) for column in columns)
        old = f"(SELECT {listed} FROM {quote(table.name)} AS OF %s WHERE {where}) AS old"
        # ON DUPLICATE KEY UPDATE over AS OF is refused by Dolt 1.83, so the update is a join.
        same = " AND ".join(f"held.{quote(column)} = old.{quote(column)}" for column in table.key)
        updates = ", ".join(f"held.{quote(column)} = old.{quote(column)}" for column in columns)
        self.rows(f"UPDATE {quote(table.name)} AS held JOIN {old} ON {same} SET {updates}", commit, *args)
        olds = ", ".join(f"old.{quote(column)}" for column in columns)
        lacking = f"{old} LEFT JOIN {quote(table.name)} AS held ON {same} WHERE held.{quote(table.key[0])} IS NULL"
        self.rows(f"INSERT INTO {quote(table.name)} ({listed}) SELECT {olds} FROM {lacking}", commit, *args)


def _names(description: Sequence[Sequence[Any]]) -> list[str]:
    """The columns of an answer. Of two with one name, the first keeps it: Dolt puts its own behind the user's."""
    names: list[str] = []
    for name, *_ in description:
        names.append(f"{name} of Dolt" if name in names else name)
    return names
