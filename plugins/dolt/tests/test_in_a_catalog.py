"""Whole commits, merges, reverts, restores and publications through plait's catalog, on both engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import plait
import pymysql
import pytest
import sqlalchemy as sa
from plait import limits
from plait.adapter import Adapter
from plait.catalog import Catalog
from plait.errors import CommitConflict, InvalidArgument, NotFound, Unsupported
from plait.failpoint import armed
from plait.hookspecs import hookimpl
from plait.importing import ImportReport
from plait.plugins import Plugins
from plait.types import Choice, Depth
from plait_dolt import DoltAdapter
from plait_dolt.names import tags_of
from plait_dolt.testing import Place

CITY = "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(50), pop INT)"


class OnlyDolt:
    """The plugin under test alone."""

    @hookimpl
    def plait_register_adapters(self) -> Sequence[type[Adapter]]:
        return [DoltAdapter]


@pytest.fixture
def folder(place: Place, tmp_path: Path) -> str:
    made = str(tmp_path / "catalog")
    plait.init(made).close()
    with open_catalog(made) as opened:
        opened.add_store("crm", "dolt", place.options)
    return made


def open_catalog(folder: str) -> Catalog:
    return plait.open(folder, plugins=Plugins([OnlyDolt()], installed=False))


@pytest.fixture
def catalog(folder: str) -> Iterator[Catalog]:
    with open_catalog(folder) as opened:
        yield opened


def run(handle: object, *statements: str) -> None:
    with cast(sa.Engine, handle).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def write(catalog: Catalog, place: Place, ref: str, *statements: str) -> None:
    with catalog.transaction(ref, message=statements[0]) as tx:
        run(tx.open(place.key, create=True), *statements)


def held(catalog: Catalog, place: Place, spec: str, table: str = "city") -> list[tuple[object, ...]]:
    with cast(sa.Engine, catalog.at(spec).open(place.key)).connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def native(place: Place) -> list[tuple[object, ...]]:
    """What somebody who knows nothing of plait reads on the public branch."""
    with place.adapter().engine.client(place.name, "main").connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM city")]


def begin(catalog: Catalog, place: Place) -> None:
    write(catalog, place, "main", CITY, "INSERT INTO city VALUES (1,'Ur',10), (2,'Uruk',20), (3,'Kish',30)")


def test_branches_merge_cell_by_cell_and_a_revert_takes_it_back(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    catalog.create_branch("dev")
    write(catalog, place, "dev", "UPDATE city SET pop = 11 WHERE id = 1", "DELETE FROM city WHERE id = 3")
    write(catalog, place, "main", "UPDATE city SET name = 'Ur III' WHERE id = 1")
    catalog.merge("dev")
    assert held(catalog, place, "main") == [(1, "Ur III", 11), (2, "Uruk", 20)]
    assert [change.item for change in catalog.diff_items(place.key, "main~1", "main")] == ["city::id=1", "city::id=3"]
    catalog.publish()
    assert native(place) == held(catalog, place, "main")
    catalog.revert("main", "main")
    assert held(catalog, place, "main") == [(1, "Ur III", 10), (2, "Uruk", 20), (3, "Kish", 30)]
    assert held(catalog, place, "main~1") == [(1, "Ur III", 11), (2, "Uruk", 20)]
    assert catalog.publish() == []
    assert native(place) == held(catalog, place, "main")
    assert list(catalog.verify(Depth.BYTES)) == []


def test_a_row_and_a_cell_are_blamed_on_the_commit_that_made_them(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    write(catalog, place, "main", "UPDATE city SET pop = 11 WHERE id = 1")
    write(catalog, place, "main", "UPDATE city SET name = 'Ur III' WHERE id = 1")
    blamed = {one.item: one.commit.message for one in catalog.blame(place.key)}
    assert blamed["city::id=1"].startswith("UPDATE city SET name")
    assert blamed["city::id=2"].startswith("CREATE")
    cells = {
        one.item: one.commit.message
        for one in catalog.blame(place.key, items=["city::id=1::pop", "city::id=1::name", "city::id=2::pop"])
    }
    assert cells["city::id=1::pop"].startswith("UPDATE city SET pop")
    assert cells["city::id=1::name"].startswith("UPDATE city SET name")
    assert cells["city::id=2::pop"].startswith("CREATE")


def test_a_conflict_is_settled_by_row_or_by_sql(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    catalog.create_branch("dev")
    write(catalog, place, "dev", "UPDATE city SET pop = 11", "UPDATE city SET name = 'Larsa' WHERE id = 3")
    write(catalog, place, "main", "UPDATE city SET pop = 12 WHERE id = 1")
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("dev")
    assert [conflict.item for conflict in caught.value.conflicts] == ["city::id=1"]
    (tx,) = catalog.working_sets()
    working = catalog.working_set(tx.id)
    working.resolve(place.key, Choice.THEIRS, item="city::id=1")
    working.commit()
    assert held(catalog, place, "main") == [(1, "Ur", 11), (2, "Uruk", 11), (3, "Larsa", 11)]
    write(catalog, place, "dev", "UPDATE city SET pop = 98 WHERE id = 2")
    write(catalog, place, "main", "UPDATE city SET pop = 97 WHERE id = 2")
    working = catalog.begin_merge("dev")
    run(working.open(place.key), "UPDATE city SET pop = 195 WHERE id = 2")
    working.commit()
    assert held(catalog, place, "main")[1] == (2, "Uruk", 195)


def test_items_are_restored_and_reverted(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    write(catalog, place, "main", "UPDATE city SET pop = 0")
    catalog.restore("main~1", items={place.key: ["city::id=2"]})
    assert held(catalog, place, "main") == [(1, "Ur", 0), (2, "Uruk", 20), (3, "Kish", 0)]
    catalog.revert("main~1", "main", items={place.key: ["city::id=3"]})
    assert held(catalog, place, "main") == [(1, "Ur", 0), (2, "Uruk", 20), (3, "Kish", 30)]
    catalog.restore("main~3", items={place.key: ["city"]})
    assert held(catalog, place, "main") == [(1, "Ur", 10), (2, "Uruk", 20), (3, "Kish", 30)]


def test_concurrent_writers_of_one_database_all_succeed(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    open_sets = [catalog.begin("main") for _ in range(3)]
    for number, working in enumerate(open_sets):
        run(working.open(place.key), f"UPDATE city SET pop = {number} WHERE id = {number + 1}")
    for working in open_sets:
        working.commit()
    assert [row[2] for row in held(catalog, place, "main")] == [0, 1, 2]
    assert catalog.publish() == []
    assert native(place) == held(catalog, place, "main")


def test_a_foreign_write_is_detected_and_adopted_with_nothing_lost(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    catalog.publish()
    with place.adapter().engine.session(place.name, "main") as session:
        session.rows("INSERT INTO city VALUES (9,'Nippur',90)")
        session.commit("past plait")
    write(catalog, place, "main", "UPDATE city SET pop = 11 WHERE id = 1")
    (diverged,) = catalog.publish()
    assert diverged.state == "diverged"
    catalog.adopt(place.key)
    assert held(catalog, place, "main") == [(1, "Ur", 11), (2, "Uruk", 20), (3, "Kish", 30), (9, "Nippur", 90)]
    assert catalog.publish() == []
    assert native(place) == held(catalog, place, "main")


def test_an_imported_database_is_an_asset_like_any_other(catalog: Catalog, place: Place) -> None:
    adapter = place.adapter()
    adapter.engine.create_database(place.name, "main")
    with adapter.engine.session(place.name, "main") as session:
        session.rows(CITY)
        session.rows("INSERT INTO city VALUES (1,'Ur',10)")
        session.commit("what people have")
    catalog.import_assets({place.key: place.name})
    write(catalog, place, "main", "INSERT INTO city VALUES (2,'Uruk',20)")
    assert held(catalog, place, "main~1") == [(1, "Ur", 10)]
    assert catalog.publish() == []
    assert native(place) == [(1, "Ur", 10), (2, "Uruk", 20)]


def test_a_database_is_imported_with_its_own_history(catalog: Catalog, place: Place) -> None:
    adapter = place.adapter()
    adapter.engine.create_database(place.name, "main")
    with adapter.engine.session(place.name, "main") as session:
        session.rows(CITY)
        session.commit("the table")
        for number in range(3):
            session.rows(f"INSERT INTO city VALUES ({number},'city',{number})")
            session.commit(f"city {number}")
        session.call("dolt_commit", "--allow-empty", "-m", "nothing")
    found = list(catalog.discover(place.key[0], place.name))
    commits = adapter.history(found[0])
    assert [commit.message for commit in commits[1:]] == ["the table", "city 0", "city 1", "city 2", "nothing"]

    def stop(what: str, done: int, total: int | None) -> None:
        if what.startswith("versions") and done == 2:
            raise KeyboardInterrupt

    def take(**how: Any) -> ImportReport:
        return catalog.import_found(place.key[0], catalog.discover(place.key[0], place.name), **how)

    (line,) = take(dry_run=True).assets
    assert (line.key, line.refusal, line.versions) == (place.key, "", len(commits))
    assert list(catalog.at("main").entries()) == []
    with pytest.raises(KeyboardInterrupt):
        take(progress=stop)
    report = take(origin="what people have")
    assert report.commit is not None
    assert report.commit.message == "Import 1 of what people have"
    assert [ref.name for ref in catalog.refs()] == ["main"]
    assert list(catalog.working_sets()) == []
    again = take()
    assert (again.commit, [one.is_there for one in again.assets]) == (None, [True])
    assert len(held(catalog, place, "main")) == 3
    assert catalog.publish() == []
    blamed = {one.item: one.commit for one in catalog.blame(place.key)}
    assert blamed["city::id=1"].message == "city 1"
    assert blamed["city::id=1"].properties["dolt.commit"] == commits[3].version
    assert blamed["city::id=1"].author == commits[3].author != ""
    brought = [commit.message for commit in catalog.log() if "dolt.commit" in commit.properties]
    assert brought[:2] == ["nothing", "city 2"]
    assert list(catalog.verify()) == []
    with adapter.engine.session(place.name, "main") as session:
        if adapter.engine.rewrites_refs:
            assert len(session.tags("plait/")) <= 2  # Of the import, and of the merge that ended it.
        assert session.branches("plait/w/") == []


def test_what_others_commit_while_a_database_is_imported_is_adopted_without_conflicts(
    catalog: Catalog, place: Place
) -> None:
    adapter = place.adapter()
    adapter.engine.create_database(place.name, "main")
    with adapter.engine.session(place.name, "main") as session:
        session.rows(CITY)
        session.rows("INSERT INTO city VALUES (1,'Ur',10), (2,'Uruk',20)")
        session.commit("what people have")
        found = list(catalog.discover(place.key[0], place.name))

        def write_on(name: str) -> None:
            if name == "import.before_merge":
                session.rows("UPDATE city SET pop = 11 WHERE id = 1")
                session.commit("meanwhile")

        with armed(write_on):
            catalog.import_found(place.key[0], found)
    assert [one.state for one in catalog.publish()] == ["diverged"]
    catalog.adopt(place.key)
    assert held(catalog, place, "main") == [(1, "Ur", 11), (2, "Uruk", 20)]
    assert catalog.publish() == []


def test_a_message_or_author_of_any_length_comes_shortened(catalog: Catalog, place: Place) -> None:
    adapter, store = place.adapter(), place.key[0]
    is_long = "url" in place.options  # doltlite keeps no such messages itself.
    message = "ü" * (limits.MESSAGE_BYTES_MAX // 2 + 9 if is_long else 9)
    adapter.engine.create_database(place.name, "main")
    with adapter.engine.session(place.name, "main") as session:
        session.rows(CITY)
        author = f"{'n' * limits.NAME_BYTES_MAX} <n@example.org>"
        session.call("dolt_commit", "-A", "-m", message, "--author", author)
    report = catalog.import_found(store, catalog.discover(store, place.name))
    assert report.commit is not None
    brought = next(commit for commit in catalog.log() if "dolt.commit" in commit.properties)
    assert len(brought.message.encode()) == (limits.MESSAGE_BYTES_MAX - 1 if is_long else len(message.encode()))
    assert brought.message.endswith("ü…" if is_long else "ü")
    assert brought.author.endswith("n…")
    assert held(catalog, place, "main") == []


def test_databases_that_cannot_come_are_told(catalog: Catalog, place: Place) -> None:
    adapter, store = place.adapter(), place.key[0]
    adapter.engine.create_database(place.name, "main")
    with adapter.engine.session(place.name, "main") as session:
        session.rows(CITY)
        session.commit("the table")
        session.rows("INSERT INTO city VALUES (1,'Ur',10)")
    (found,) = catalog.discover(store, place.name)
    assert [risk.rule for risk in found.risks] == ["rows that nobody committed stay behind"]
    catalog.import_found((store, "old"), [found], history=False)
    (moved,) = catalog.import_found(store, [found]).assets
    assert (moved.is_there, moved.refusal) == (True, f"it is in the history as {store}.old.{place.name}")
    with pytest.raises(NotFound, match="has no database 'nowhere'"):
        list(catalog.discover(store, "nowhere"))
    with pytest.raises(InvalidArgument, match="this store's"):
        list(catalog.discover(store, "mysql://203.0.113.1:3306" if "url" in place.options else "/elsewhere/people.db"))


def test_a_dropped_key_keeps_its_data_and_comes_back(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    with catalog.transaction(message="drop") as tx:
        tx.drop(place.key)
    assert catalog.publish() == []
    catalog.revert("main", "main")
    assert catalog.publish() == []
    assert held(catalog, place, "main") == native(place)
    databases = place.adapter().engine.databases()
    assert [name for name in databases if name.startswith(place.name)] == [place.name]


def test_a_key_made_again_in_one_transaction_is_another_database(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    old = ("crm", f"{place.name}_old")
    with catalog.transaction(message="start over") as tx:
        tx.rename(place.key, old)
        run(tx.open(place.key, create=True), CITY)
    assert held(catalog, place, "main") == []
    assert len(cast(sa.Engine, catalog.at("main").open(old)).connect().exec_driver_sql("SELECT * FROM city").all()) == 3
    assert catalog.publish() == []
    assert len(native(place)) == 3


def test_what_is_read_in_place_needs_no_plait(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    write(catalog, place, "main", "DELETE FROM city")
    location = catalog.at("main~1").locate(place.key)
    reading = "connection.execute('SELECT * FROM city').fetchall()"
    if "url" in place.options:
        assert f"{place.name}/" in location.uri
        reading = "engine.connect().exec_driver_sql('SELECT * FROM city').all()"
    script = f"{location.snippet}print(len({reading}))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "3"


def test_a_client_that_knows_nothing_of_plait_writes_into_a_working_set(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    tx = catalog.begin(message="by hand")
    location = tx.locate(place.key)
    if "url" in place.options:
        host, _, path = location.uri.removeprefix("mysql://").partition("/")
        name, _, port = host.partition(":")
        connection: Any = pymysql.connect(host=name, port=int(port), user="root", database=path)
        connection.cursor().execute("DELETE FROM city WHERE id = 1")
        connection.commit()
        connection.close()
    else:
        assert "read-only" not in location.snippet
        script = f"{location.snippet}connection.execute('DELETE FROM city WHERE id = 1')\nconnection.commit()"
        subprocess.run([sys.executable, "-c", script], check=True)
    assert len(held(catalog, place, "main")) == 3
    tx.commit()
    assert len(held(catalog, place, "main")) == 2


def test_a_staging_that_somebody_dropped_is_told_with_what_to_do(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    tx = catalog.begin()
    run(tx.open(place.key), "UPDATE city SET pop = 0")
    with place.adapter().engine.session(place.name, "main") as session:
        (branch,) = session.branches("plait/w/")
        session.call("dolt_branch", "-D", branch)
    with pytest.raises(NotFound, match=r"staged for .* is not in its store any more.*verify.*discard the working set"):
        tx.commit()
    tx.discard()
    assert list(catalog.working_sets()) == []


def test_two_that_discard_one_working_set_at_once_both_succeed(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    tx = catalog.begin()
    for pop in (1, 2):
        run(tx.open(place.key), f"UPDATE city SET pop = {pop}")
        tx.preview()
    others = [catalog.recover]

    def reached(name: str) -> None:
        if name == "dolt.end.tag_dropped" and others:
            others.pop()()

    with armed(reached):
        tx.discard()
    assert others == []
    with place.adapter().engine.session(place.name, "main") as session:
        assert list(session.tags(tags_of(tx.id))) == []


KILLED = """
import sys
from plait.failpoint import arm_from_environment
sys.path.insert(0, sys.argv[3])
from test_in_a_catalog import OnlyDolt, open_catalog, run
catalog = open_catalog(sys.argv[1])
arm_from_environment()
with catalog.transaction(message="committed") as tx:
    run(tx.open(("crm", sys.argv[2])), "UPDATE city SET pop = 11 WHERE id = 1")
"""


@pytest.mark.slow
def test_killed_between_commit_and_publish_it_is_published_by_the_next(folder: str, place: Place) -> None:
    with open_catalog(folder) as catalog:
        begin(catalog, place)
        catalog.publish()
    environment = {**os.environ, "PLAIT_FAILPOINT": "dolt.publish.before_move@1"}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, place.name,
         str(Path(__file__).parent)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert native(place)[0] == (1, "Ur", 10), "it was to die before the head moved"
    with open_catalog(folder) as catalog:
        assert held(catalog, place, "main")[0] == (1, "Ur", 11)
        catalog.recover()
        assert catalog.publish() == []
        assert native(place) == held(catalog, place, "main")


def test_a_view_is_shown_and_blamed_by_its_name_and_not_restored_alone(catalog: Catalog, place: Place) -> None:
    begin(catalog, place)
    write(catalog, place, "main", "CREATE VIEW big AS SELECT * FROM city WHERE id > 1")
    made = catalog.resolve("main")
    write(catalog, place, "main", "DELETE FROM city WHERE id = 1")
    (shown,) = catalog.diff_items(place.key, None, "main", items=["big"])
    assert "WHERE id > 1" in str(shown.after)
    (blamed,) = catalog.blame(place.key, items=["big"])
    assert (blamed.item, blamed.commit) == ("big", made)
    for undo in (catalog.restore, catalog.revert):
        with pytest.raises(Unsupported, match="'big' is no table"):
            undo(f"@{made.id}", items={place.key: ["big"]})
    assert list(catalog.working_sets()) == []
