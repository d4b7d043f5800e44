"""What only a server has: accounts, branch control, settings, and a death in the middle of a publication."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable
from plait.types import (
    Choice,
    Conflicted,
    Depth,
    Intent,
    ItemChange,
    ItemChangeKind,
    Json,
    Merged,
    Move,
    PublishState,
    Resolution,
    SnapshotRef,
)
from plait_conformance import servers
from plait_conformance.servers import DoltServer, dolt_program, dolt_server
from plait_conformance.testing import MemoryState
from plait_dolt.adapter import DoltAdapter
from plait_dolt.engine import Refused
from plait_dolt.server import ServerEngine
from plait_dolt.testing import Place, Transaction, rows
from sqlalchemy import make_url

pytestmark = pytest.mark.doltserver
NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "EXECUTE")
CITY = "CREATE TABLE city (id INT PRIMARY KEY, pop INT)"


@pytest.fixture
def place(server: DoltServer) -> Iterator[Place]:
    made = Place({"url": server.url}, MemoryState(), f"d{uuid.uuid4().hex[:10]}")
    yield made
    made.close()


@pytest.fixture
def own(server: DoltServer, tmp_path: Path) -> Iterator[tuple[DoltServer, Place]]:
    """A server that the test may kill, and whose accounts it may change."""
    assert dolt_program() is not None
    with dolt_server(tmp_path) as running:
        made = Place({"url": running.url}, MemoryState(), "crm")
        yield running, made
        made.close()


def write(adapter: DoltAdapter, place: Place, base: SnapshotRef | None, *statements: str) -> SnapshotRef:
    tx = Transaction(adapter, place.key, str(uuid.uuid4()), base)
    tx.run(*statements)
    return tx.prepare()


def root(server: DoltServer, *statements: str) -> None:
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "url"),
        ({"url": "mysql://root@h", "path": "/x"}, "url"),
        ({"url": "mysql://root:secret@127.0.0.1"}, "password"),
        ({"url": "postgresql://root@127.0.0.1"}, "postgresql"),
        ({"url": "mysql://root@127.0.0.1/reference"}, "server"),
        ({"url": "nonsense"}, "url"),
        ({"url": "mysql://root@h", "colour": "red"}, "colour"),
        ({"url": "mysql://root@h", "reserve": "some"}, "reserve"),
        ({"path": "relative"}, "path"),
        ({"path": "/x", "password": "env:X"}, "password"),
        ({"path": "/x", "branch": "a b"}, "a b"),
    ],
)
def test_options_that_cannot_be_are_refused_and_named(options: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Place(options, MemoryState(), "x").adapter()
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_denied_and_never_shown(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = place.adapter(url=place.options["url"].replace("root", "nobody"), password="hunter2")
    with pytest.raises(PermissionDenied) as caught:
        adapter.snapshot(str(uuid.uuid4()), {place.key: place.name})
    assert "hunter2" not in str(caught.value)
    (sentence,) = adapter.check()
    assert "hunter2" not in sentence


def test_a_server_that_is_not_there_is_unavailable(place: Place) -> None:
    adapter = place.adapter(url="mysql://root@127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        adapter.snapshot(str(uuid.uuid4()), {place.key: place.name})
    assert adapter.check()


def test_a_server_that_hangs_is_unavailable_and_used_again_when_it_goes_on(
    own: tuple[DoltServer, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, place = own
    monkeypatch.setattr("plait_dolt.server._GREETING_SECONDS", 0.5)
    adapter = place.adapter()
    one = write(adapter, place, None, CITY)
    with server.frozen():
        for asked in (adapter, place.adapter()):  # One that has connections, one that has none yet.
            with pytest.raises(StoreUnavailable, match="does not answer"):
                asked.publish({place.key: Move(None, one, seq=1)})
            with pytest.raises(StoreUnavailable, match="does not answer"):
                Transaction(asked, place.key, str(uuid.uuid4()), one)
    assert adapter.publish({place.key: Move(None, one, seq=1)})[place.key].state is PublishState.DONE
    write(adapter, place, one, "INSERT INTO city SELECT 1, SLEEP(1)")  # Longer than a greeting may take.


def test_a_server_without_a_connection_left_is_said_to_be_so(
    server: DoltServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dolt lets who connects wait until another one goes, and says nothing."""
    few = servers._DOLT_CONFIGURATION.replace("listener:\n", "listener:\n  max_connections: 2\n")
    monkeypatch.setattr(servers, "_DOLT_CONFIGURATION", few)
    monkeypatch.setattr("plait_dolt.server._GREETING_SECONDS", 0.5)
    with dolt_server(tmp_path) as running:
        place = Place({"url": running.url}, MemoryState(), "crm")
        clients = [pymysql.connect(host="127.0.0.1", port=running.port, user="root") for _ in range(2)]
        adapter = place.adapter()
        for ask in (lambda: list(adapter.discover("")), lambda: adapter.engine.client("crm", "main")):
            with pytest.raises(
                StoreUnavailable, match=r"nothing for 0\.5 seconds; all its max_connections may be in use"
            ):
                ask()
        for client in clients:
            client.close()
        assert list(adapter.discover("")) == []
        place.close()


def test_check_finds_a_fit_server_fit_and_says_what_another_lacks(own: tuple[DoltServer, Place]) -> None:
    server, place = own
    adapter = place.adapter()
    assert adapter.check() == []
    write(adapter, place, None, CITY)
    assert adapter.check() == []
    root(server, "CREATE USER reader@'%' IDENTIFIED BY 'pw'", "GRANT SELECT ON *.* TO reader@'%'")
    root(server, "SET GLOBAL dolt_transaction_commit = 1")
    found = place.adapter(url=server.url.replace("root", "reader"), password="pw").check()
    assert any("branches and tags" in sentence for sentence in found), found
    assert any("dolt_transaction_commit" in sentence for sentence in found), found


def test_a_server_that_is_read_only_says_so_and_leaves_nothing_half_done(
    own: tuple[DoltServer, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, place = own
    adapter = place.adapter()
    held = write(adapter, place, None, CITY)
    written = servers._DOLT_CONFIGURATION
    monkeypatch.setattr(
        servers, "_DOLT_CONFIGURATION", written.replace("  autocommit", "  read_only: true\n  autocommit")
    )
    server.kill()
    server.start()
    for key, base in ((("crm", "new"), None), (place.key, held)):
        with pytest.raises(PermissionDenied, match="read only"):
            adapter.stage(str(uuid.uuid4()), {key: Intent(str(uuid.uuid4()), base)})
    monkeypatch.undo()
    server.kill()
    server.start()
    Transaction(adapter, ("crm", "new"), str(uuid.uuid4()), None)


def test_a_name_that_the_server_refuses_is_not_said_to_be_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = place.adapter()

    def full(name: str, branch: str) -> None:
        raise Refused("no space left on device")

    monkeypatch.setattr(adapter.engine, "create_database", full)
    with pytest.raises(Refused, match="no space"):
        Transaction(adapter, place.key, str(uuid.uuid4()), None)
    monkeypatch.undo()
    assert Transaction(adapter, place.key, str(uuid.uuid4()), None).staging.location.startswith(f"{place.name}/")


def test_check_names_each_right_that_is_missing(own: tuple[DoltServer, Place]) -> None:
    server, place = own
    for has_database in (False, True):
        for name in NEEDED:
            granted = ", ".join(right for right in NEEDED if right != name)
            user = f"lacks{name}{has_database}".lower()
            root(server, f"CREATE USER {user}@'%' IDENTIFIED BY 'pw'", f"GRANT {granted} ON *.* TO {user}@'%'")
            found = place.adapter(url=server.url.replace("root", user), password="pw").check()
            assert any(name in sentence or "denied" in sentence for sentence in found), (name, found)
            assert name == "SELECT" or not any("no right" in one and "SELECT" in one for one in found)
        root(server, f"CREATE USER all{has_database}@'%' IDENTIFIED BY 'pw'")
        root(server, f"GRANT {', '.join(NEEDED)} ON *.* TO all{has_database}@'%'")
        assert place.adapter(url=server.url.replace("root", f"all{has_database}"), password="pw").check() == []
        write(place.adapter(), place, None, CITY)


def test_an_account_that_may_only_read_is_denied_and_not_told_that_a_name_is_taken(
    own: tuple[DoltServer, Place],
) -> None:
    server, place = own
    root(server, "CREATE USER reader@'%' IDENTIFIED BY 'pw'", "GRANT SELECT ON *.* TO reader@'%'")
    held = write(place.adapter(), place, None, CITY)
    reader = place.adapter(url=server.url.replace("root", "reader"), password="pw")
    for key, base in ((("crm", "new"), None), (place.key, held)):
        with pytest.raises(PermissionDenied, match="rights"):
            reader.stage(str(uuid.uuid4()), {key: Intent(str(uuid.uuid4()), base)})
    assert any("branches and tags" in sentence for sentence in reader.check())


def test_reserved_branches_are_read_and_not_written_by_others(own: tuple[DoltServer, Place]) -> None:
    server, place = own
    root(server, "CREATE USER plait@'%' IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO plait@'%' WITH GRANT OPTION")
    root(server, "CREATE USER bob@'%' IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO bob@'%'")
    first = place.adapter()
    one = write(first, place, None, CITY)
    first.publish({place.key: Move(None, one, seq=1)})
    url = server.url.replace("root", "plait")
    adapter = place.adapter(url=url, password="pw", reserve="all")
    for _ in range(2):
        assert adapter.check() == []
    two = write(adapter, place, one, "INSERT INTO city VALUES (1, 1)")
    assert adapter.publish({place.key: Move(one, two, seq=2)})[place.key].state is PublishState.DONE
    bob = pymysql.connect(
        host="127.0.0.1", port=server.port, user="bob", password="pw", database="crm", autocommit=True
    )
    for statement in ("INSERT INTO city VALUES (2, 2)", "CALL dolt_branch('plait/w/mine')"):
        with pytest.raises(pymysql.MySQLError, match=r"permission|cannot create"):
            bob.cursor().execute(statement)
    bob.close()
    refused = place.adapter(url=server.url.replace("root", "bob"), password="pw", reserve="all").check()
    assert refused


def test_a_server_killed_while_it_publishes_is_repaired_and_loses_nothing(own: tuple[DoltServer, Place]) -> None:
    server, place = own
    adapter = place.adapter()
    held = write(adapter, place, None, CITY)
    adapter.publish({place.key: Move(None, held, seq=1)})
    for number in range(2, 6):
        after = write(adapter, place, held, f"INSERT INTO city VALUES ({number}, 0)")
        server.kill()
        with pytest.raises(StoreUnavailable):
            adapter.publish({place.key: Move(held, after, seq=number)})
        server.start()
        assert adapter.publish({place.key: Move(held, after, seq=number)})[place.key].state is PublishState.DONE
        assert len(rows(adapter, after, "city")) == number - 1
        held = after
    assert adapter.verify(held, Depth.BYTES).problems == ()


def test_a_torn_publication_is_repaired_before_anybody_commits_it_away(place: Place) -> None:
    adapter = place.adapter()
    one = write(adapter, place, None, CITY, "INSERT INTO city VALUES (1, 10)")
    adapter.publish({place.key: Move(None, one, seq=1)})
    two = write(adapter, place, one, "UPDATE city SET pop = 11")
    with adapter.engine.session(place.name, "main") as session:
        # The branch at the new commit, its staged and working tables at the old ones: what a kill leaves.
        session.call("dolt_reset", "--hard", two.version)
        session.call("dolt_checkout", one.version, "--", "city")
        session.call("dolt_add", "-A")
        standing = session.standing()
        assert (standing.commit, standing.working) == (two.version, one.digest.decode())
        assert adapter.publish({place.key: Move(one, two, seq=2)})[place.key].state is PublishState.DONE
        assert session.standing().is_clean
        session.rows("UPDATE city SET pop = 12")
        assert adapter.publish({place.key: Move(one, two, seq=2)})[place.key].state is PublishState.DONE
        assert session.rows("SELECT pop FROM city") == [{"pop": 12}], "somebody's uncommitted rows are theirs"


def test_a_database_dropped_behind_plait_is_said_to_be_gone(place: Place) -> None:
    adapter = place.adapter()
    one = write(adapter, place, None, CITY)
    adapter.publish({place.key: Move(None, one, seq=1)})
    adapter.engine.drop_database(place.name)
    assert adapter.verify(one, Depth.EXISTS).problems
    published = adapter.publish({place.key: Move(None, one, seq=1)})[place.key]
    assert (published.state, published.found) == (PublishState.DIVERGED, None)
    with pytest.raises(NotFound):
        adapter.stage(str(uuid.uuid4()), {place.key: Intent("again", one)})


def test_connections_cut_by_garbage_collection_are_made_again(place: Place) -> None:
    adapter = place.adapter()
    one = write(adapter, place, None, CITY)
    with adapter.engine.session(place.name, "") as session:
        session.is_spoiled = True  # type: ignore[attr-defined]
        session.call("dolt_gc")
    assert rows(adapter, one, "city") == []
    assert adapter.verify(one, Depth.BYTES).problems == ()


def test_bits_and_times_are_compared_named_and_settled_as_sql_writes_them(place: Place) -> None:
    adapter = place.adapter()
    made = "CREATE TABLE shift (b BIT(12), t TIME(6), name TEXT, late TIME, PRIMARY KEY (b, t))"
    first = "INSERT INTO shift VALUES (b'101010101010', '-12:34:56.5', 'x', '700:00:00')"
    base = write(adapter, place, None, made, first)
    ours, theirs = (write(adapter, place, base, f"UPDATE shift SET name = '{name}'") for name in ("ours", "theirs"))
    item = "shift::b=2730,t=-12:34:56.500000"
    before: dict[str, Json] = {"b": 2730, "t": "-12:34:56.500000", "name": "x", "late": "700:00:00"}
    changed = ItemChange(item, ItemChangeKind.CHANGED, "row", before, {**before, "name": "ours"})
    assert list(adapter.diff(base, ours)) == [changed]
    assert list(adapter.diff(base, ours, items=[item])) == [changed]
    assert adapter.verify(ours, Depth.BYTES).problems == ()
    settled = Resolution((), item, Choice.VALUE, {**before, "name": "both"})
    merged = adapter.merge(str(uuid.uuid4()), 1, base=base, ours=ours, theirs=theirs, resolutions=[settled])
    assert isinstance(merged, Merged)
    (row,) = rows(adapter, merged.snapshot, "shift")
    assert (row["b"], row["name"], row["late"]) == (b"\x0a\xaa", "both", timedelta(hours=700))


@pytest.mark.parametrize("choice", [Choice.THEIRS, Choice.VALUE, Choice.BASE])
def test_a_conflict_in_a_row_with_a_stored_column_is_listed_and_settled_and_no_servers_death(
    place: Place, choice: Choice
) -> None:
    adapter = place.adapter()
    made = "CREATE TABLE item (b INT, a INT, n INT, twice INT AS (n * 2) STORED, PRIMARY KEY (a, b))"
    other = "CREATE TABLE other (id INT PRIMARY KEY, n INT)"
    filled = ["INSERT INTO item (a, b, n) VALUES (1, 2, 10), (3, 4, 0)", "INSERT INTO other VALUES (1, 10)"]
    base = write(adapter, place, None, made, other, *filled)
    ours, theirs = (
        write(adapter, place, base, f"UPDATE item SET n = {n} WHERE a = 1", f"UPDATE other SET n = {n}")
        for n in (11, 12)
    )
    item = "item::a=1,b=2"
    wanted = {"b": 2, "a": 1, "n": 12, "twice": 24}
    join = partial(adapter.merge, str(uuid.uuid4()), 1, base=base, ours=ours, theirs=theirs)
    conflicted = join()
    assert isinstance(conflicted, Conflicted)
    assert [one.item for one in conflicted.conflicts] == [item, "other::id=1"]
    assert conflicted.conflicts[0].theirs == wanted
    resolutions = [Resolution((), item, choice, wanted), Resolution((), "other::id=1", Choice.OURS)]
    settled = join(resolutions=resolutions)
    assert isinstance(settled, Merged)
    expected = {"b": 2, "a": 1, "n": 10, "twice": 20} if choice is Choice.BASE else wanted
    assert rows(adapter, settled.snapshot, "item") == [expected, {"b": 4, "a": 3, "n": 0, "twice": 0}]
    assert rows(adapter, settled.snapshot, "other") == [{"id": 1, "n": 11}]


def test_a_dropped_table_conflicts_beside_one_with_a_generated_column(place: Place) -> None:
    adapter = place.adapter()
    made = "CREATE TABLE item (a INT PRIMARY KEY, n INT, twice INT AS (n * 2) STORED)"
    base = write(adapter, place, None, made, "INSERT INTO item (a, n) VALUES (1, 10), (2, 20)", CITY)
    ours = write(adapter, place, base, "DROP TABLE city", "UPDATE item SET n = 11 WHERE a = 1")
    theirs = write(adapter, place, base, "ALTER TABLE city ADD COLUMN x INT", "UPDATE item SET n = 21 WHERE a = 2")
    join = partial(adapter.merge, str(uuid.uuid4()), 1, base=base, ours=ours, theirs=theirs)
    conflicted = join()
    assert isinstance(conflicted, Conflicted)
    assert [one.item for one in conflicted.conflicts] == ["city"]
    settled = join(resolutions=[Resolution((), "city", Choice.OURS)])
    assert isinstance(settled, Merged)
    assert [row["n"] for row in rows(adapter, settled.snapshot, "item")] == [11, 21]


@pytest.mark.parametrize("stored", ["STORED", "VIRTUAL"])
def test_rows_with_generated_columns_are_named_by_their_key_and_restored(place: Place, stored: str) -> None:
    adapter = place.adapter()
    made = f"CREATE TABLE item (b INT, a INT, n INT, twice INT AS (n * 2) {stored}, PRIMARY KEY (a, b))"
    base = write(adapter, place, None, made, "INSERT INTO item (a, b, n) VALUES (1, 2, 10), (3, 4, 0)")
    later = write(adapter, place, base, "UPDATE item SET n = 11 WHERE a = 1", "DELETE FROM item WHERE a = 3")
    items = ["item::a=1,b=2", "item::a=3,b=4"]
    assert [change.item for change in adapter.diff(base, later)] == items
    (change,) = adapter.diff(base, later, items=items[:1])
    twice = ({"twice": 20}, {"twice": 22}) if stored == "STORED" else ({}, {})
    held = {"b": 2, "a": 1}
    assert (change.before, change.after) == ({**held, "n": 10, **twice[0]}, {**held, "n": 11, **twice[1]})
    tx = Transaction(adapter, place.key, str(uuid.uuid4()), later)
    adapter.restore(tx.tx, tx.staging, base, items=items)
    assert rows(adapter, tx.prepare(), "item") == rows(adapter, base, "item")


def test_a_conflict_in_a_table_with_a_virtual_column_is_settled_by_a_side(place: Place) -> None:
    adapter = place.adapter()
    made = "CREATE TABLE item (a INT PRIMARY KEY, n INT, twice INT AS (n * 2) VIRTUAL)"
    base = write(adapter, place, None, made, "INSERT INTO item (a, n) VALUES (1, 10)")
    ours, theirs = (write(adapter, place, base, f"UPDATE item SET n = {n}") for n in (11, 12))
    join = partial(adapter.merge, str(uuid.uuid4()), 1, base=base, ours=ours, theirs=theirs)
    conflicted = join()
    assert isinstance(conflicted, Conflicted)
    assert [one.item for one in conflicted.conflicts] == ["item"]
    settled = join(resolutions=[Resolution((), "item", Choice.THEIRS)])
    assert isinstance(settled, Merged)
    assert rows(adapter, settled.snapshot, "item") == [{"a": 1, "n": 12, "twice": 24}]


def test_chunks_that_rotted_are_damage_and_no_wrong_request(own: tuple[DoltServer, Place]) -> None:
    """Collected chunks are not looked at when a server starts. Over some, Dolt (1.83) drops the connection."""
    server, place = own
    adapter = place.adapter()
    rows_of = ", ".join(f"({number}, {number})" for number in range(500))
    one = write(adapter, place, None, CITY, f"INSERT INTO city VALUES {rows_of}")
    two = write(adapter, place, one, "UPDATE city SET pop = pop + 1")
    adapter.engine.collect(place.name)
    server.kill()
    (chunks,) = server.databases.glob(f"{place.name}/.dolt/noms/oldgen/*.darc")
    whole = chunks.read_bytes()
    seen, port = set(), server.port
    for at in range(len(whole) // 20, len(whole) // 2, len(whole) // 20):  # Behind the chunks is their index.
        chunks.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            server.start()
        except RuntimeError:  # Without these, it does not even start.
            server.port = port
            continue
        found = place.adapter()
        problems = [*found.verify(one, Depth.BYTES).problems, *found.verify(two, Depth.BYTES).problems]
        assert all("city" in problem or "commit" in problem for problem in problems), problems
        try:
            list(found.diff(one, two))
        except (Corrupt, StoreUnavailable) as error:
            seen.add(type(error))
            assert problems
        server.kill()
    assert seen


def test_dolts_words_for_damage_are_known(place: Place) -> None:
    engine = place.adapter().engine
    assert isinstance(engine, ServerEngine)
    for said in ("checksum error", "failed to read schema object i2jn3rbj: checksum error", "EOF", "unexpected EOF"):
        assert isinstance(engine.translate(pymysql.OperationalError(1105, said)), Corrupt)
    assert isinstance(engine.translate(pymysql.OperationalError(1105, "EOF is no column")), InvalidArgument)


@pytest.mark.parametrize("state", ["", "{", None])
def test_a_damaged_state_of_a_database_is_damage_and_no_wrong_request(
    own: tuple[DoltServer, Place], state: str | None
) -> None:
    server, place = own
    one = write(place.adapter(), place, None, CITY)
    server.kill()
    (file,) = server.databases.glob(f"{place.name}/.dolt/repo_state.json")
    file.unlink()
    if state is not None:
        file.write_text(state)
    server.start()
    adapter = place.adapter()
    for ask in (
        lambda: adapter.snapshot("tx", {place.key: place.name}),
        lambda: write(adapter, place, one, "SELECT 1"),
    ):
        with pytest.raises(Corrupt, match="cannot read what it holds") as caught:
            ask()
        assert caught.value.remedy == "restore a backup"
    assert "cannot read what it holds" in adapter.verify(one, Depth.EXISTS).problems[0]


def test_files_that_dolt_may_not_read_are_said_to_be_so(place: Place) -> None:
    engine = place.adapter().engine
    assert isinstance(engine, ServerEngine)
    said = "open /var/lib/dolt/crm/.dolt/repo_state.json: permission denied"
    assert isinstance(engine.translate(pymysql.OperationalError(1105, said)), PermissionDenied)


def test_a_snippet_runs_whatever_the_databases_name_and_reads_the_password_where_it_is_kept(
    own: tuple[DoltServer, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = own
    root(server, "CREATE DATABASE `a?b'c#d`", "CREATE USER ann IDENTIFIED BY 'p@ss'", "GRANT ALL ON *.* TO ann")
    monkeypatch.setenv("CRM_PASSWORD", "p@ss")
    url = make_url(server.url).set(username="ann")
    location = ServerEngine(url, lambda: "p@ss", secret="env:CRM_PASSWORD").locate("a?b'c#d", "main")
    assert "p@ss" not in location.snippet
    assert location.options == {"user": "ann", "password": "env:CRM_PASSWORD"}
    ran: dict[str, Any] = {}
    exec(location.snippet, ran)
    with ran["engine"].connect() as connection:
        assert connection.exec_driver_sql("SELECT DATABASE(), CURRENT_USER()").one() == ("a?b'c#d/main", "ann@%")
    ran["engine"].dispose()
