"""Each call of the contract on the real engines: what it does, what its repetition does, what it refuses."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from plait.errors import Corrupt, NotFound, PermissionDenied, StoreUnavailable, Unsupported
from plait.types import Choice, Depth, ItemChangeKind, Merged, Move, PublishState, Resolution, SnapshotRef
from plait_conformance.testing import MemoryState
from plait_dolt.adapter import DoltAdapter
from plait_dolt.testing import Place, Transaction, rows

CITY = "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(50), pop INT)"


def new_tx() -> str:
    return str(uuid.uuid4())


def write(adapter: DoltAdapter, place: Place, base: SnapshotRef | None, *statements: str) -> SnapshotRef:
    """One transaction's prepared snapshot."""
    tx = Transaction(adapter, place.key, new_tx(), base)
    tx.run(*statements)
    return tx.prepare()


def first(adapter: DoltAdapter, place: Place) -> SnapshotRef:
    return write(adapter, place, None, CITY, "INSERT INTO city VALUES (1,'Ur',10), (2,'Uruk',20), (3,'Kish',30)")


def test_a_prepared_snapshot_holds_what_was_staged_and_later_writes_do_not_alter_it(place: Place) -> None:
    adapter = place.adapter()
    tx = Transaction(adapter, place.key, new_tx(), None)
    tx.run(CITY, "INSERT INTO city VALUES (1,'Ur',10)")
    voted = tx.prepare()
    tx.run("INSERT INTO city VALUES (2,'Uruk',20)")
    assert tx.prepare() == voted
    assert rows(adapter, voted, "city") == [{"id": 1, "name": "Ur", "pop": 10}]
    assert len(rows(adapter, tx.prepare(attempt=2), "city")) == 2


def test_stage_twice_is_the_same_place_with_what_was_written(place: Place) -> None:
    adapter = place.adapter()
    tx = Transaction(adapter, place.key, new_tx(), first(adapter, place))
    tx.run("DELETE FROM city")
    again = place.adapter().stage(tx.tx, {place.key: tx.intent})[place.key]
    assert again == tx.staging
    assert rows(adapter, tx.prepare(), "city") == []


def test_an_untouched_staging_votes_its_base_and_so_does_one_that_was_written_back(place: Place) -> None:
    adapter = place.adapter()
    base = first(adapter, place)
    tx = Transaction(adapter, place.key, new_tx(), base)
    assert tx.prepare() == base
    tx.run("UPDATE city SET pop = 11 WHERE id = 1")
    tx.run("UPDATE city SET pop = 10 WHERE id = 1")
    assert tx.prepare(attempt=2) == base


def test_diff_names_rows_by_their_key_and_shows_schemas(place: Place) -> None:
    adapter = place.adapter()
    before = first(adapter, place)
    after = write(
        adapter,
        place,
        before,
        "UPDATE city SET pop = 11 WHERE id = 1",
        "DELETE FROM city WHERE id = 2",
        "INSERT INTO city VALUES (4,'Eridu',40)",
        "CREATE TABLE river (name VARCHAR(20) PRIMARY KEY)",
        "INSERT INTO river VALUES ('Tigris, the'), ('Euphrates')",
    )
    changes = list(adapter.diff(before, after))
    assert [(change.item, change.kind.value) for change in changes] == [
        ("city::id=1", "changed"),
        ("city::id=2", "removed"),
        ("city::id=4", "added"),
        ("river", "added"),
        ("river::name=Euphrates", "added"),
        ('river::name="Tigris, the"', "added"),
    ]
    assert changes[0].before == {"id": 1, "name": "Ur", "pop": 10}
    assert changes[0].after == {"id": 1, "name": "Ur", "pop": 11}
    assert "CREATE TABLE" in str(changes[3].after)
    (one,) = adapter.diff(before, after, items=["city::id=2"])
    assert one.kind is ItemChangeKind.REMOVED
    assert [change.item for change in adapter.diff(before, after, items=["city::id=1::pop", "city::id=1::name"])] == [
        "city::id=1::pop"
    ]


def test_a_table_is_found_by_the_item_that_names_it_whatever_its_name(place: Place) -> None:
    adapter = place.adapter()
    table = '"odd :: name"'
    made = write(adapter, place, None, "CREATE TABLE `odd :: name` (id INT PRIMARY KEY)")
    (change,) = adapter.diff(None, made)
    assert change.item == table
    assert list(adapter.diff(None, made, items=[table])) == [change]


def test_diff_sees_what_is_uncommitted_in_a_working_set(place: Place) -> None:
    adapter = place.adapter()
    base = first(adapter, place)
    tx = Transaction(adapter, place.key, new_tx(), base)
    tx.run("UPDATE city SET name = 'Larsa' WHERE id = 3")
    assert [change.item for change in adapter.diff(base, tx.staging)] == ["city::id=3"]
    assert [change.item for change in adapter.diff(None, tx.staging)] == [
        "city", "city::id=1", "city::id=2", "city::id=3"
    ]  # fmt: skip


def test_diff_of_a_table_without_a_key_counts_rows_that_were_changed(place: Place) -> None:
    adapter = place.adapter()
    before = write(adapter, place, None, "CREATE TABLE log (a INT)", "INSERT INTO log VALUES (1), (1), (2)")
    after = write(adapter, place, before, "UPDATE log SET a = 3 WHERE a = 1")
    found = [(change.before, change.after) for change in adapter.diff(before, after)]
    assert sorted(found, key=str) == [(None, {"a": 3}), ({"a": 1}, None)]


def test_a_row_whose_key_is_written_otherwise_goes_and_comes(place: Place) -> None:
    """'ur' and 'Ur' are one key to the table, and two rows to whoever names them. (A Dolt server's own
    diff shows neither.)"""
    is_server = "url" in place.options
    collation = "utf8mb4_0900_ai_ci" if is_server else "NOCASE"
    adapter = place.adapter()
    create = f"CREATE TABLE city (name VARCHAR(20) COLLATE {collation} PRIMARY KEY, pop INT)"
    base = write(adapter, place, None, create, "INSERT INTO city VALUES ('ur', 1), ('kish', 2)")
    after = write(adapter, place, base, "DELETE FROM city WHERE name = 'ur'", "INSERT INTO city VALUES ('Ur', 1)")
    assert [row["name"] for row in rows(adapter, after, "city")] == ["kish", "Ur"]
    gone, come = ("city::name=ur", ItemChangeKind.REMOVED), ("city::name=Ur", ItemChangeKind.ADDED)
    changed = [] if is_server else [gone, come]
    assert [(one.item, one.kind) for one in adapter.diff(base, after)] == changed
    for item in ("city::name=ur", "city::name=Ur"):
        found = [(one.item, one.kind) for one in adapter.diff(base, after, items=[item])]
        assert found == [one for one in changed if one[0] == item]


def test_diff_names_all_rows_without_a_key_anew_when_a_column_comes(place: Place) -> None:
    adapter = place.adapter()
    before = write(adapter, place, None, "CREATE TABLE log (a INT)", "INSERT INTO log VALUES (1)")
    after = write(adapter, place, before, "ALTER TABLE log ADD COLUMN b INT")
    _, *found = adapter.diff(before, after)
    assert [(change.before, change.after) for change in found] == [({"a": 1}, None), (None, {"a": 1, "b": None})]
    assert [change.item for change in adapter.diff(None, after)][1:] == [found[1].item]


@pytest.mark.parametrize("kind", ["DOUBLE", "DECIMAL(10,1)", "BOOLEAN"])
def test_rows_whose_key_is_a_number_are_named_alike_and_found(place: Place, kind: str) -> None:
    adapter = place.adapter()
    table = f"CREATE TABLE rate (id {kind} PRIMARY KEY, n INT)"
    before = write(adapter, place, None, table, "INSERT INTO rate VALUES (0,0), (1,0)")
    after = write(adapter, place, before, "UPDATE rate SET n = 1 WHERE id = 1")
    (change,) = adapter.diff(before, after)
    assert change.item in [there.item for there in adapter.diff(None, after)]
    assert list(adapter.diff(before, after, items=[change.item])) == [change]


@pytest.mark.parametrize("is_working", [False, True])
def test_diff_shows_what_a_dropped_or_renamed_column_held(place: Place, is_working: bool) -> None:
    adapter = place.adapter()
    one = first(adapter, place)
    tx = Transaction(adapter, place.key, new_tx(), one)
    tx.run("ALTER TABLE city DROP COLUMN name", "ALTER TABLE city RENAME COLUMN pop TO people")
    tx.run("UPDATE city SET people = people + 1 WHERE id <> 3")
    two = tx.staging if is_working else tx.prepare()
    held = ({"id": 1, "name": "Ur", "pop": 10}, {"id": 1, "people": 11})
    (there,) = adapter.diff(one, two, items=["city::id=1"])
    (back,) = adapter.diff(two, one, items=["city::id=1"])
    assert (there.before, there.after) == (back.after, back.before) == held
    assert [change.before for change in adapter.diff(one, two) if change.item == "city::id=2"] == [
        {"id": 2, "name": "Uruk", "pop": 20}
    ]


def test_publish_moves_the_head_and_publish_twice_is_publish_once(place: Place) -> None:
    adapter = place.adapter()
    one = first(adapter, place)
    two = write(adapter, place, one, "UPDATE city SET pop = 11 WHERE id = 1")
    moves = [Move(None, one, seq=1), Move(one, two, seq=2)]
    for move in (moves[0], moves[0], moves[1], moves[1]):
        assert adapter.publish({place.key: move})[place.key].state is PublishState.DONE
    head = adapter.snapshot(new_tx(), {place.key: place.name})[place.key]
    assert head == two
    assert adapter.publish({place.key: moves[0]})[place.key].state is PublishState.DIVERGED
    back = Move(two, one, seq=3)
    assert adapter.publish({place.key: back})[place.key].state is PublishState.BUSY, "a head moves forward only"


def test_a_foreign_commit_is_found_and_never_overwritten(place: Place) -> None:
    adapter = place.adapter()
    one = first(adapter, place)
    adapter.publish({place.key: Move(None, one, seq=1)})
    two = write(adapter, place, one, "UPDATE city SET pop = 11 WHERE id = 1")
    with adapter.engine.session(place.name, "main") as session:
        session.rows("INSERT INTO city VALUES (9,'Nippur',90)")
        assert adapter.publish({place.key: Move(one, two, seq=2)})[place.key].state is PublishState.BUSY
        session.commit("somebody else's")
    published = adapter.publish({place.key: Move(one, two, seq=2)})[place.key]
    assert published.state is PublishState.DIVERGED
    assert published.found is not None
    assert len(rows(adapter, published.found, "city")) == 4


def test_a_snapshot_verifies_and_another_digest_does_not(place: Place) -> None:
    adapter = place.adapter()
    one = first(adapter, place)
    for depth in Depth:
        assert adapter.verify(one, depth).problems == ()
    wrong = SnapshotRef(one.store, one.kind, one.asset, one.version, b"0" * 32)
    assert adapter.verify(wrong, Depth.EXISTS).problems


def test_what_is_not_there_is_said_to_be(place: Place) -> None:
    adapter = place.adapter()
    with pytest.raises(NotFound):
        adapter.snapshot(new_tx(), {place.key: "nosuch"})


def test_triggers_change_nothing_that_is_settled_or_restored(place: Place) -> None:
    adapter = place.adapter()
    is_server = "url" in place.options
    body = (
        "FOR EACH ROW INSERT INTO audit VALUES (%s.id)" if is_server else "BEGIN INSERT INTO audit VALUES (%s.id); END"
    )
    base = write(adapter, place, None, "CREATE TABLE city (id INT PRIMARY KEY, pop INT)", "CREATE TABLE audit (id INT)",
                 "INSERT INTO city VALUES (1, 10), (2, 20), (3, 30)",
                 f"CREATE TRIGGER made AFTER INSERT ON city {body % 'NEW'}",
                 f"CREATE TRIGGER gone AFTER DELETE ON city {body % 'OLD'}")  # fmt: skip
    ours = write(adapter, place, base, "UPDATE city SET pop = pop + 1")
    theirs = write(adapter, place, base, "UPDATE city SET pop = pop + 2 WHERE id < 3", "DELETE FROM city WHERE id = 3")
    join = partial(adapter.merge, new_tx(), 1, base=base, ours=ours, theirs=theirs)
    settled = [Resolution((), f"city::id={id}", Choice.OURS) for id in (1, 2, 3)]
    by_theirs = [Resolution((), "city::id=1", Choice.THEIRS), Resolution((), "city::id=2", Choice.BASE), settled[2]]
    expected = [(settled, [11, 21, 31], [3])]
    if is_server:
        expected.append((by_theirs, [12, 20, 31], [3]))
    else:
        with pytest.raises(Unsupported, match="triggers"):
            join(resolutions=by_theirs)
    for resolutions, pops, audited in expected:
        merged = join(resolutions=resolutions)
        assert isinstance(merged, Merged)
        assert [one["pop"] for one in rows(adapter, merged.snapshot, "city")] == pops
        assert [one["id"] for one in rows(adapter, merged.snapshot, "audit")] == audited  # By their own deletion.
    with pytest.raises(Unsupported, match="triggers"):
        join(resolutions=[*settled[:2], Resolution((), "city::id=3", Choice.THEIRS)])
    tx = Transaction(adapter, place.key, new_tx(), ours)
    with pytest.raises(Unsupported, match="triggers"):
        adapter.restore(tx.tx, tx.staging, base, items=["city::id=1"])
    adapter.restore(tx.tx, tx.staging, base, items=["city"])
    assert tx.prepare().digest == base.digest


def test_a_restored_row_takes_no_rows_of_other_tables_along(place: Place) -> None:
    adapter = place.adapter()
    base = write(adapter, place, None, "CREATE TABLE city (id INT PRIMARY KEY)",
                 "CREATE TABLE street (id INT PRIMARY KEY, city INT, "
                 "FOREIGN KEY (city) REFERENCES city (id) ON DELETE CASCADE)",
                 "INSERT INTO city VALUES (1)")  # fmt: skip
    now = write(adapter, place, base, "INSERT INTO city VALUES (2)", "INSERT INTO street VALUES (5, 2)")
    tx = Transaction(adapter, place.key, new_tx(), now)
    if "url" in place.options:
        with pytest.raises(Unsupported, match="rows of street go with the rows of table 'city'"):
            adapter.restore(tx.tx, tx.staging, base, items=["city::id=2"])
        assert tx.prepare().digest == now.digest
    tx = Transaction(adapter, place.key, new_tx(), now)
    adapter.restore(tx.tx, tx.staging, base, items=["city", "street"])
    assert tx.prepare().digest == base.digest


@contextmanager
def lite(folder: Path) -> Iterator[tuple[Place, SnapshotRef, Path]]:
    """An embedded store with a database, a snapshot of it, and its file."""
    place = Place({"path": str(folder)}, MemoryState(), "crm")
    tx = Transaction(place.adapter(), place.key, "tx-1", None)
    tx.run("CREATE TABLE city (id INTEGER PRIMARY KEY)")
    try:
        yield place, tx.prepare(), folder / "crm.db"
    finally:
        place.close()


@pytest.mark.parametrize("content", [b"", b"x" * 4096, bytes(100)], ids=["empty", "overwritten", "headless"])
def test_an_embedded_database_that_is_none_any_more_is_damage(tmp_path: Path, content: bytes) -> None:
    with lite(tmp_path) as (place, one, file):
        file.write_bytes(content + file.read_bytes()[len(content) :] if content else b"")
        adapter = place.adapter()
        with pytest.raises(Corrupt, match="cannot be read") as caught:
            adapter.snapshot("tx-2", {place.key: f"{place.name}/{one.version}"})
        assert caught.value.remedy == "restore a backup"
        assert "cannot be read" in adapter.verify(one, Depth.EXISTS).problems[0]


def test_looking_at_a_commit_of_a_damaged_embedded_database_does_not_write_to_its_file(tmp_path: Path) -> None:
    with lite(tmp_path) as (place, one, file):
        whole = file.read_bytes()
        for offset in range(0, len(whole), len(whole) // 20):
            damaged = bytearray(whole)
            damaged[offset] ^= 0x40
            file.write_bytes(damaged)
            place.adapter().verify(one, Depth.BYTES)
            assert file.read_bytes() == damaged, f"byte {offset}"


def test_an_embedded_database_that_cannot_be_opened_is_not_taken_for_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lite(tmp_path) as (place, one, file):
        adapter = place.adapter()
        really = Path.open

        def refused(path: Path, *args: str) -> object:
            if path == file:
                raise PermissionError(13, os.strerror(13), str(path))
            return really(path, *args)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refused)
            with pytest.raises(PermissionDenied, match=r"crm\.db may not be read"):
                adapter.verify(one, Depth.EXISTS)
        file.unlink()
        file.mkdir()
        with pytest.raises(StoreUnavailable, match="Is a directory"):
            adapter.verify(one, Depth.EXISTS)
        file.rmdir()
        assert "there is no database" in adapter.verify(one, Depth.EXISTS).problems[0]
