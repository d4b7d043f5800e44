"""Merges, successions and restores on the real engines."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from plait.errors import InvalidArgument, Unsupported
from plait.types import Choice, Conflicted, ConflictKind, Json, Merged, Move, PublishState, Resolution, SnapshotRef
from plait_dolt.adapter import DoltAdapter
from plait_dolt.engine import Row, Session
from plait_dolt.lite import LiteSession
from plait_dolt.names import OWN
from plait_dolt.server_session import ServerSession
from plait_dolt.testing import Place, Transaction, rows

BASE = (
    "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(50), pop INT)",
    "INSERT INTO city VALUES (1,'Ur',10), (2,'Uruk',20), (3,'Kish',30)",
)


class Sides:
    """A base and two sides of it, and merging them in new transactions."""

    def __init__(self, place: Place, base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> None:
        self.place = place
        self.adapter: DoltAdapter = place.adapter()
        self.base = self.write(None, *base)
        self.ours = self.write(self.base, *ours)
        self.theirs = self.write(self.base, *theirs)

    def write(self, base: SnapshotRef | None, *statements: str) -> SnapshotRef:
        tx = Transaction(self.adapter, self.place.key, str(uuid.uuid4()), base)
        tx.run(*statements)
        return tx.prepare()

    def merge(self, *settled: tuple[str, Choice] | tuple[str, Choice, Json], tx: str = "") -> Merged | Conflicted:
        resolutions = [Resolution(self.place.key, *one) for one in settled]
        return self.adapter.merge(
            tx or str(uuid.uuid4()), 1, base=self.base, ours=self.ours, theirs=self.theirs, resolutions=resolutions
        )

    def merged(self, *settled: tuple[str, Choice] | tuple[str, Choice, Json]) -> SnapshotRef:
        found = self.merge(*settled)
        assert isinstance(found, Merged), found
        return found.snapshot

    def conflicted(self, *settled: tuple[str, Choice] | tuple[str, Choice, Json]) -> Conflicted:
        found = self.merge(*settled)
        assert isinstance(found, Conflicted), found
        return found

    def rows(self, snapshot: SnapshotRef, table: str = "city") -> list[tuple[object, ...]]:
        return [tuple(row.values()) for row in rows(self.adapter, snapshot, table)]

    def descends(self, snapshot: SnapshotRef, ancestor: SnapshotRef) -> bool:
        with self.adapter.engine.session(snapshot.asset, "") as session:
            return session.has_ancestor(snapshot.version, ancestor.version)


def asking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are run from here on."""
    asked: list[str] = []
    for session in (LiteSession, ServerSession):

        def rows(self: Session, sql: str, *args: object, run: Any = session.rows) -> list[Row]:
            asked.append(sql)
            return list(run(self, sql, *args))

        monkeypatch.setattr(session, "rows", rows)
    return asked


def test_two_sides_merge_cell_by_cell(place: Place) -> None:
    sides = Sides(
        place,
        BASE,
        ["UPDATE city SET pop = 11 WHERE id = 1", "DELETE FROM city WHERE id = 3"],
        ["UPDATE city SET name = 'Ur III' WHERE id = 1", "INSERT INTO city VALUES (4,'Eridu',40)"],
    )
    tx = str(uuid.uuid4())
    merged = sides.merge(tx=tx)
    assert isinstance(merged, Merged)
    assert sides.rows(merged.snapshot) == [(1, "Ur III", 11), (2, "Uruk", 20), (4, "Eridu", 40)]
    assert sides.descends(merged.snapshot, sides.ours)
    assert sides.descends(merged.snapshot, sides.theirs)
    assert sides.merge(tx=tx) == merged
    with sides.adapter.engine.session(place.name, "") as session:
        assert session.branches(f"{OWN}m/") == []


def test_a_schema_change_of_one_side_meets_rows_of_the_other(place: Place) -> None:
    sides = Sides(
        place,
        BASE,
        ["ALTER TABLE city ADD COLUMN river VARCHAR(20)", "UPDATE city SET river = 'Euphrates' WHERE id = 1"],
        ["UPDATE city SET pop = 21 WHERE id = 2"],
    )
    assert sides.rows(sides.merged()) == [(1, "Ur", 10, "Euphrates"), (2, "Uruk", 21, None), (3, "Kish", 30, None)]


def test_a_conflict_shows_the_row_on_all_sides_and_names_its_cells(place: Place) -> None:
    sides = Sides(
        place,
        BASE,
        ["UPDATE city SET pop = 11 WHERE id = 1", "DELETE FROM city WHERE id = 3"],
        ["UPDATE city SET pop = 12, name = 'Ur III' WHERE id = 1", "UPDATE city SET pop = 31 WHERE id = 3"],
    )
    first, second = sides.conflicted().conflicts
    assert (first.item, first.kind, first.detail) == (
        "city::id=1", ConflictKind.ITEM_CHANGED, "both sides changed pop"
    )  # fmt: skip
    assert first.base == {"id": 1, "name": "Ur", "pop": 10}
    assert first.ours == {"id": 1, "name": "Ur", "pop": 11}
    assert first.theirs == {"id": 1, "name": "Ur III", "pop": 12}
    assert (second.item, second.ours) == ("city::id=3", None)


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        ([("city::id=1", Choice.OURS), ("city::id=3", Choice.OURS)], [(1, "Ur", 11), (2, "Uruk", 20)]),
        (
            [("city::id=1", Choice.THEIRS), ("city::id=3", Choice.THEIRS)],
            [(1, "Ur III", 12), (2, "Uruk", 20), (3, "Kish", 31)],
        ),
        (
            [("city::id=1", Choice.BASE), ("city::id=3", Choice.BASE)],
            [(1, "Ur", 10), (2, "Uruk", 20), (3, "Kish", 30)],
        ),
        (
            [("city::id=1", Choice.VALUE, {"pop": 99}), ("city::id=3", Choice.VALUE, None)],
            [(1, "Ur III", 99), (2, "Uruk", 20)],
        ),
        ([("city", Choice.THEIRS)], [(1, "Ur III", 12), (2, "Uruk", 20), (3, "Kish", 31)]),
    ],
)
def test_conflicts_are_settled_row_by_row_or_for_a_table(
    place: Place, settled: list[tuple[str, Choice]], expected: list[tuple[object, ...]]
) -> None:
    sides = Sides(
        place,
        BASE,
        ["UPDATE city SET pop = 11 WHERE id = 1", "DELETE FROM city WHERE id = 3"],
        ["UPDATE city SET pop = 12, name = 'Ur III' WHERE id = 1", "UPDATE city SET pop = 31 WHERE id = 3"],
    )
    if len(settled) > 1:
        assert [conflict.item for conflict in sides.conflicted(settled[0]).conflicts] == ["city::id=3"]
    assert sides.rows(sides.merged(*settled)) == expected


@pytest.mark.parametrize("change", ["ADD COLUMN river VARCHAR(20)", "DROP COLUMN name", "RENAME COLUMN name TO town"])
@pytest.mark.parametrize("changing", [Choice.OURS, Choice.THEIRS])
def test_rows_are_settled_one_by_one_though_a_side_has_other_columns(
    place: Place, change: str, changing: Choice
) -> None:
    altered = {changing: [f"ALTER TABLE city {change}"]}
    sides = Sides(
        place,
        BASE,
        [*altered.get(Choice.OURS, ()), "UPDATE city SET pop = pop + 1"],
        [*altered.get(Choice.THEIRS, ()), "UPDATE city SET pop = pop + 2"],
    )
    assert [one.item for one in sides.conflicted().conflicts] == [f"city::id={number}" for number in (1, 2, 3)]
    settled = [("city::id=1", Choice.THEIRS), ("city::id=2", Choice.OURS), ("city::id=3", Choice.BASE)]
    with sides.adapter.open(sides.merged(*settled), None).connect() as connection:
        found = connection.exec_driver_sql("SELECT id, pop FROM city ORDER BY id").fetchall()
    assert list(map(tuple, found)) == [(1, 12), (2, 21), (3, 30)]


def test_settling_reads_the_list_of_conflicts_once_however_many_there_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dolt reads the whole list for each row that is asked for there."""
    count = 40
    values = ", ".join(f"({number},'x',0)" for number in range(4, 4 + count))
    sides = Sides(
        place,
        [*BASE, f"INSERT INTO city VALUES {values}"],
        ["UPDATE city SET pop = 1 WHERE id > 3"],
        ["UPDATE city SET pop = 2 WHERE id > 3"],
    )
    asked = asking(monkeypatch)
    merged = sides.merged(*((f"city::id={number}", Choice.THEIRS) for number in range(4, 4 + count)))
    assert len([sql for sql in asked if "dolt_conflicts_city" in sql]) == 1
    assert len([sql for sql in asked if "`city`" in sql]) <= 2 * count + 4  # And what the table is like.
    monkeypatch.undo()
    assert {row[2] for row in sides.rows(merged)[3:]} == {2}


def test_a_value_that_leaves_a_conflicting_cell_out_is_refused(place: Place) -> None:
    sides = Sides(place, BASE, ["UPDATE city SET pop = 11 WHERE id = 1"], ["UPDATE city SET pop = 12 WHERE id = 1"])
    with pytest.raises(InvalidArgument, match="pop"):
        sides.merge(("city::id=1", Choice.VALUE, {"name": "x"}))
    with pytest.raises(InvalidArgument, match="nosuch"):
        sides.merge(("city::id=1", Choice.VALUE, {"nosuch": 1, "pop": 1}))


def test_two_schemas_that_do_not_fit_are_a_conflict_settled_by_a_side(place: Place) -> None:
    sides = Sides(
        place,
        BASE,
        ["ALTER TABLE city ADD COLUMN x INT", "UPDATE city SET x = 1"],
        ["ALTER TABLE city ADD COLUMN x VARCHAR(20)", "UPDATE city SET x = 'a'"],
    )
    (conflict,) = sides.conflicted().conflicts
    assert (conflict.item, conflict.kind) == ("city", ConflictKind.SCHEMA_CHANGED)
    assert "VARCHAR(20)" in str(conflict.theirs).upper()
    assert {row[3] for row in sides.rows(sides.merged(("city", Choice.THEIRS)))} == {"a"}


def test_rows_that_break_a_constraint_together_are_a_conflict(place: Place) -> None:
    sides = Sides(
        place,
        [
            *BASE,
            "CREATE TABLE temple (id INT PRIMARY KEY, city INT, FOREIGN KEY (city) REFERENCES city (id))",
        ],
        ["DELETE FROM city WHERE id = 3"],
        ["INSERT INTO temple VALUES (7, 3)"],
    )
    (conflict,) = sides.conflicted().conflicts
    assert (conflict.item, conflict.kind) == ("temple::id=7", ConflictKind.CONSTRAINT)
    assert sides.rows(sides.merged(("temple::id=7", Choice.OURS)), "temple") == []
    assert sides.rows(sides.merged(("temple::id=7", Choice.VALUE, {"id": 7, "city": 2})), "temple") == [(7, 2)]
    (still,) = sides.conflicted(("temple::id=7", Choice.THEIRS)).conflicts
    assert still.kind is ConflictKind.CONSTRAINT


def test_a_database_in_which_a_primary_key_changed_is_settled_as_a_whole(place: Place) -> None:
    anew = ["DROP TABLE city", "CREATE TABLE city (name VARCHAR(50) PRIMARY KEY)", "INSERT INTO city VALUES ('Ur')"]
    for ours, theirs in ((anew, ["DELETE FROM city WHERE id = 1"]), (["DELETE FROM city WHERE id = 1"], anew)):
        sides = Sides(place, BASE, ours, theirs)
        assert [conflict.item for conflict in sides.conflicted().conflicts] == [None]
        for onto, content in ((sides.ours, sides.theirs), (sides.theirs, sides.ours)):
            made = sides.adapter.succeed(str(uuid.uuid4()), 1, onto=onto, content=content)
            assert sides.rows(made) == sides.rows(content)
            assert sides.descends(made, onto)
            assert sides.descends(made, content)


def test_rows_that_conflict_in_a_renamed_table_are_settled_with_the_table_or_the_database(place: Place) -> None:
    sides = Sides(
        place,
        BASE,
        ["UPDATE city SET pop = 11 WHERE id = 1"],
        ["ALTER TABLE city RENAME TO town", "UPDATE town SET pop = 12 WHERE id = 1"],
    )
    (conflict,) = sides.conflicted().conflicts
    is_lite = "path" in place.options
    assert (conflict.kind, conflict.item) == (ConflictKind.SCHEMA_CHANGED, None if is_lite else "city")
    if is_lite:
        assert "renamed table 'city'" in conflict.detail
        assert sides.conflicted(("city", Choice.THEIRS)).conflicts == (conflict,)
    else:
        assert sides.rows(sides.merged(("city", Choice.OURS)))[0] == (1, "Ur", 11)


@pytest.mark.parametrize("name", ["commit", "commit_date", "diff_type"])
@pytest.mark.parametrize("key", ["id", ""])
def test_columns_may_be_named_as_those_that_dolt_adds(place: Place, name: str, key: str) -> None:
    key = key or name
    other = "n" if key == name else name
    made = [f"CREATE TABLE build (`{key}` VARCHAR(20) PRIMARY KEY, `{other}` VARCHAR(20))"]
    made.append("INSERT INTO build VALUES ('a', 'one'), ('b', 'one')")
    sides = Sides(place, made, *([f"UPDATE build SET `{other}` = '{text}'"] for text in ("two", "three")))
    item = f"build::{key}=b"
    for items in (None, [item]):
        change = list(sides.adapter.diff(sides.base, sides.ours, items=items))[-1]
        assert (change.item, change.before, change.after) == (item, {key: "b", other: "one"}, {key: "b", other: "two"})
    if (key, name) == ("diff_type", "diff_type"):
        return  # Dolt finds no conflict by it.
    conflicts = sides.conflicted().conflicts
    assert [(one.ours, one.theirs) for one in conflicts][1] == ({key: "b", other: "two"}, {key: "b", other: "three"})
    merged = sides.merged(*((str(one.item), Choice.THEIRS) for one in conflicts))
    assert sides.rows(merged, "build") == [("a", "three"), ("b", "three")]


def test_a_row_that_breaks_a_unique_index_is_taken_from_a_side_with_fewer_columns(place: Place) -> None:
    sides = Sides(
        place,
        ["CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(50) UNIQUE)"],
        ["INSERT INTO city VALUES (1,'Ur')", "ALTER TABLE city ADD COLUMN pop INT", "UPDATE city SET pop = 10"],
        ["INSERT INTO city VALUES (2,'Ur')"],
    )
    conflicts = sides.conflicted().conflicts
    assert {conflict.kind for conflict in conflicts} == {ConflictKind.CONSTRAINT}
    merged = sides.merged(("city", Choice.THEIRS))
    assert sides.rows(merged) == [(2, "Ur", None)]


def test_rows_without_a_key_that_conflict_under_other_columns_leave_a_conflict_of_the_database(place: Place) -> None:
    sides = Sides(
        place,
        ["CREATE TABLE log (a INT, b INT)", "INSERT INTO log VALUES (1, 1)"],
        ["ALTER TABLE log RENAME COLUMN a TO z", "UPDATE log SET b = 2"],
        ["UPDATE log SET b = 3"],
    )
    assert [conflict.item for conflict in sides.conflicted().conflicts] == ["log"]
    found = sides.merge(("log", Choice.THEIRS))
    assert isinstance(found, Merged) or [conflict.item for conflict in found.conflicts] == [None]


def test_tables_without_a_primary_key_merge_or_are_settled_as_a_whole(place: Place) -> None:
    sides = Sides(
        place,
        ["CREATE TABLE log (line VARCHAR(20), n INT)", "INSERT INTO log VALUES ('a',1), ('a',1), ('b',2)"],
        ["INSERT INTO log VALUES ('a',1)", "INSERT INTO log VALUES ('c',3)"],
        ["DELETE FROM log WHERE line = 'a'"],
    )
    assert [change.kind.value for change in sides.adapter.diff(sides.base, sides.theirs)] == ["removed"]
    found = sides.merge()
    if isinstance(found, Conflicted):
        (conflict,) = found.conflicts
        assert (conflict.item, conflict.kind) == ("log", ConflictKind.ITEM_CHANGED)
        found = sides.merge(("log", Choice.THEIRS))
    assert isinstance(found, Merged)
    assert {("b", 2), ("c", 3)} <= set(sides.rows(found.snapshot, "log"))


def test_a_cherry_pick_takes_one_change_and_a_revert_takes_it_back(place: Place) -> None:
    sides = Sides(place, BASE, ["UPDATE city SET pop = 11 WHERE id = 1"], ["UPDATE city SET pop = 21 WHERE id = 2"])
    later = sides.write(sides.theirs, "UPDATE city SET pop = 31 WHERE id = 3")
    picked = sides.adapter.merge(str(uuid.uuid4()), 1, base=sides.theirs, ours=sides.ours, theirs=later)
    assert isinstance(picked, Merged)
    assert sides.rows(picked.snapshot) == [(1, "Ur", 11), (2, "Uruk", 20), (3, "Kish", 31)]
    assert sides.descends(picked.snapshot, sides.ours)
    assert not sides.descends(picked.snapshot, later)
    reverted = sides.adapter.merge(str(uuid.uuid4()), 1, base=sides.ours, ours=picked.snapshot, theirs=sides.base)
    assert isinstance(reverted, Merged)
    assert sides.rows(reverted.snapshot) == [(1, "Ur", 10), (2, "Uruk", 20), (3, "Kish", 31)]
    assert sides.descends(reverted.snapshot, picked.snapshot)


def test_a_successor_has_the_content_and_descends_from_both(place: Place) -> None:
    sides = Sides(place, BASE, ["UPDATE city SET pop = 11 WHERE id = 1"], ["DELETE FROM city"])
    tx = str(uuid.uuid4())
    assert sides.adapter.succeed(tx, 1, onto=sides.base, content=sides.ours) == sides.ours
    back = sides.adapter.succeed(tx, 1, onto=sides.ours, content=sides.base)
    assert (back.digest, sides.descends(back, sides.ours)) == (sides.base.digest, True)
    across = sides.adapter.succeed(tx, 1, onto=sides.ours, content=sides.theirs)
    assert across.digest == sides.theirs.digest
    assert sides.descends(across, sides.ours)
    assert sides.descends(across, sides.theirs)
    assert place.adapter().succeed(tx, 1, onto=sides.ours, content=sides.theirs) == across
    for before, after in ((None, sides.ours), (sides.ours, across)):
        moved = sides.adapter.publish({place.key: Move(before, after, seq=1)})
        assert moved[place.key].state is PublishState.DONE


def test_restore_brings_back_a_row_a_table_or_all(place: Place) -> None:
    sides = Sides(place, BASE, ["DELETE FROM city"], ["UPDATE city SET pop = 1"])
    tx = Transaction(sides.adapter, place.key, str(uuid.uuid4()), sides.theirs)
    tx.run("CREATE TABLE extra (id INT PRIMARY KEY)", "ALTER TABLE city ADD COLUMN river VARCHAR(20)")
    tx.run("UPDATE city SET river = 'Tigris'", "INSERT INTO city VALUES (5,'Nippur',50,NULL)")
    for _ in range(2):
        sides.adapter.restore(tx.tx, tx.staging, sides.base, items=["city::id=1", "city::id=5", "extra"])
    voted = tx.prepare()
    assert sides.rows(voted) == [(1, "Ur", 10, "Tigris"), (2, "Uruk", 1, "Tigris"), (3, "Kish", 1, "Tigris")]
    with sides.adapter.open(voted, None).connect() as connection, pytest.raises(Exception, match=r"extra"):
        connection.exec_driver_sql("SELECT * FROM extra")
    sides.adapter.restore(tx.tx, tx.staging, sides.base, items=["city"])
    assert sides.rows(tx.prepare(attempt=2)) == sides.rows(sides.base)
    tx.run("DELETE FROM city")
    for _ in range(2):
        assert sides.adapter.restore(tx.tx, tx.staging, sides.ours, items=None) == tx.staging
    whole = tx.prepare(attempt=3)
    assert whole.digest == sides.ours.digest
    assert sides.descends(whole, sides.theirs)
    with pytest.raises(InvalidArgument, match="primary key"):
        sides.adapter.restore(tx.tx, tx.staging, sides.base, items=["city::name=Ur"])
    with pytest.raises(Unsupported):
        sides.adapter.restore(tx.tx, tx.staging, sides.base, items=["city::id=1::pop"])


def test_many_rows_are_restored_by_few_statements(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed, lost and new ones, two of them of one name to a collation, beside a column that came since."""
    table = "CREATE TABLE town (name VARCHAR(20) COLLATE NOCASE PRIMARY KEY, pop INT)"
    if "url" in place.options:
        table = table.replace("NOCASE", "utf8mb4_0900_ai_ci")
    names = [f"t{number:03}" for number in range(250)]
    values = ", ".join(f"('{name}', 1)" for name in names)
    sides = Sides(place, [table, f"INSERT INTO town VALUES {values}"], [], [])
    tx = Transaction(sides.adapter, place.key, str(uuid.uuid4()), sides.base)
    tx.run("ALTER TABLE town ADD COLUMN river VARCHAR(20)", "UPDATE town SET pop = 2, river = 'Tigris'")
    tx.run("DELETE FROM town WHERE name >= 't100' AND name < 't200'", "INSERT INTO town VALUES ('u', 2, 'Tigris')")
    asked = asking(monkeypatch)
    for _ in range(2):
        wanted = [f"town::name={name}" for name in [*names, "u", "v", "T005", "T150"]]
        sides.adapter.restore(tx.tx, tx.staging, sides.base, items=wanted)
    monkeypatch.undo()
    assert len([sql for sql in asked if "`town`" in sql and "COUNT" not in sql]) <= 2 * (3 * 3 + 6)
    river = {name: None if "t100" <= name < "t200" else "Tigris" for name in names}
    assert sorted(sides.rows(tx.prepare(), "town")) == [(name, 1, river[name]) for name in names]


def test_abort_drops_branches_tags_and_the_database_that_it_began(place: Place) -> None:
    sides = Sides(place, BASE, ["DELETE FROM city"], ["UPDATE city SET pop = 1"])
    tx = Transaction(sides.adapter, place.key, str(uuid.uuid4()), sides.base)
    tx.run("DELETE FROM city WHERE id = 1")
    tx.prepare()
    fresh = Transaction(sides.adapter, ("crm", place.name, "second"), tx.tx, None)
    began = fresh.staging.location.partition("/")[0]
    assert began in sides.adapter.engine.databases()
    for _ in range(2):
        place.adapter().abort(tx.tx)
    assert began not in sides.adapter.engine.databases()
    with sides.adapter.engine.session(place.name, "") as session:
        assert [name for name in session.branches(OWN) if tx.tx in name] == []
        assert [name for name in session.tags(OWN) if tx.tx in name] == []
    sides.adapter.abort(str(uuid.uuid4()))


def test_release_keeps_what_was_committed_and_drops_the_rest(place: Place) -> None:
    sides = Sides(place, BASE, ["DELETE FROM city WHERE id = 1"], ["UPDATE city SET pop = 1 WHERE id = 2"])
    for again in (sides.adapter, place.adapter()):
        tx = Transaction(sides.adapter, place.key, str(uuid.uuid4()), sides.base)
        tx.run("DELETE FROM city WHERE id = 3")
        lost = tx.prepare(attempt=1)
        tx.run("DELETE FROM city WHERE id = 2")
        won = tx.prepare(attempt=2)
        merged = sides.merge(tx=tx.tx)
        assert isinstance(merged, Merged)
        for _ in range(2):
            again.release(tx.tx, [won])
        with sides.adapter.engine.session(place.name, "") as session:
            assert [name for name in session.branches(OWN) if tx.tx in name] == []
            made = {lost.version, won.version, merged.snapshot.version}
            named = {commit for name, commit in session.tags(OWN).items() if tx.tx in name or commit in made}
            assert named == {won.version}
        assert lost.version != won.version
        assert len(sides.rows(won)) == 1
    sides.adapter.release(str(uuid.uuid4()), [])
