"""Migrations: every released schema becomes today's, a copy first, and one that died goes on where it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import plait
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from plait.errors import InvalidArgument, Unsupported
from plait.failpoint import armed
from plait.persist import Database, schema
from plait.persist.migrations import STEPS, Migrated, Step, migrate
from plait.types import Depth, Proposal
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.fixtures import BACKENDS
from plait_conformance.samples import put

SCHEMAS = Path(__file__).parent / "schemas"
RELEASED = range(1, schema.REVISION + 1)


def load(url: str, revision: int) -> None:
    """Fill an empty database with the fixture of a revision; `scripts/schema_fixture.py` makes it."""
    parsed = sa.make_url(url)
    text = (SCHEMAS / f"{revision}.{parsed.get_backend_name()}.sql").read_text(encoding="utf-8")
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.executescript(text)
        return
    engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.connection.cursor().execute(text)
    engine.dispose()


def widen(operations: Operations) -> None:
    """What a next release may do: a column more, and a table built anew because a column may be empty now."""
    operations.add_column("store", sa.Column("note", sa.Text, nullable=True))
    with operations.batch_alter_table("token") as token:
        token.alter_column("created_at_us", nullable=True)
    operations.execute(sa.text("UPDATE store SET note = 'migrated'"))


def index(operations: Operations) -> None:
    operations.create_index("tx_by_name", "tx", ["repository_id", "name"])


NEXT: Mapping[int, Step] = {**STEPS, schema.REVISION + 1: widen, schema.REVISION + 2: index}


@pytest.fixture
def two_on(monkeypatch: pytest.MonkeyPatch) -> int:
    """As if this release were two revisions on."""
    monkeypatch.setattr(schema, "REVISION", schema.REVISION + 2)
    return schema.REVISION


def revision_of(url: str) -> int:
    database = Database(url)
    try:
        return database.revision()
    finally:
        database.close()


def run(url: str, steps: Mapping[int, Step] = STEPS, *, copy: bool = True) -> Migrated:
    database = Database(url)
    try:
        return migrate(database, steps=steps, copy=copy)
    finally:
        database.close()


def copied_revision(url: str, before: int) -> int:
    """The revision that the copy holds which was made of an earlier one."""
    if url.startswith("sqlite:"):
        return revision_of(f"{url}.schema-{before}")
    database = Database(url)
    try:
        with database.read() as connection:
            held = sa.text(f'SELECT revision FROM "plait_schema-{before}".schema_version')
            return int(connection.execute(held).scalar_one())
    finally:
        database.close()


def check_history(url: str) -> None:
    """All that the fixture holds is there, whole, and goes on."""
    with plait.open(url, recover=False) as catalog:
        assert [commit.message for commit in catalog.log()] == [
            "Merge dev into main", "A change", "A third", "Two assets", "Empty repository",
        ]  # fmt: skip
        held = {entry.key[1]: entry.snapshot.version for entry in catalog.at().entries()}
        assert held == {"a": "v2", "b": "v1", "c": "v1"}
        assert [move.after is None for move in catalog.reflog("dev")] == [True, False, False]
        assert [tx.name for tx in catalog.working_sets()] == ["load"]
        assert catalog.working_set("load").participants()[0].staging is not None
        assert list(catalog.verify(Depth.METADATA)) == []
        again = Proposal("main", (put("a", 2, 1),), message="A change", idempotency_key="the-key")
        answered = catalog.as_session(plait.Session("ada")).commit(again)
        assert answered == catalog.resolve("main~1"), "an answer that was kept is still an answer"
        catalog.commit(Proposal("main", (put("d", 1),)))


@pytest.mark.parametrize("revision", RELEASED)
def test_a_released_schema_becomes_todays_and_keeps_everything(database_url: str, revision: int) -> None:
    load(database_url, revision)
    assert run(database_url).after == schema.REVISION
    check_history(database_url)
    database = Database(database_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == [], "run scripts/schema_fixture.py, if it is not released"
    database.close()


def test_a_migrated_schema_is_todays_for_a_newly_made_one_too(database_url: str) -> None:
    database = Database(database_url)
    database.create_schema()
    assert migrate(database) == Migrated(schema.REVISION, schema.REVISION, None)
    database.close()


def test_an_older_schema_is_refused_until_it_is_migrated(database_url: str, two_on: int) -> None:
    load(database_url, two_on - 2)
    with pytest.raises(InvalidArgument, match="plait migrate"):
        plait.open(database_url)
    assert run(database_url, NEXT).before == two_on - 2
    with Database(database_url).read() as connection:
        assert connection.execute(sa.text("SELECT note FROM store")).scalars().all() == ["migrated"]
        assert connection.execute(sa.text("SELECT created_at_us FROM token")).scalar() is not None
        assert "tx_by_name" in {one["name"] for one in sa.inspect(connection).get_indexes("tx")}
    check_history(database_url)
    assert run(database_url, NEXT) == Migrated(two_on, two_on, None)


def test_a_newer_schema_is_refused_always(database_url: str) -> None:
    load(database_url, schema.REVISION)
    database = Database(database_url)
    with database.write() as connection:
        connection.execute(sa.update(schema.schema_version).values(revision=schema.REVISION + 1))
    with pytest.raises(InvalidArgument, match="newer plait"):
        plait.open(database_url)
    with pytest.raises(InvalidArgument, match="newer plait"):
        migrate(database, steps=NEXT)
    database.close()


def test_a_schema_too_old_to_have_steps_from_is_left_alone(database_url: str, two_on: int) -> None:
    load(database_url, two_on - 2)
    with pytest.raises(InvalidArgument, match="no way from there"):
        run(database_url, {two_on: index})
    assert revision_of(database_url) == two_on - 2


def test_the_copy_is_the_database_as_it_was(tmp_path: Path, two_on: int) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    load(url, two_on - 2)
    done = run(url, NEXT)
    assert done.copy == str(tmp_path / f"catalog.db.schema-{two_on - 2}")
    assert revision_of(f"sqlite:///{done.copy}") == two_on - 2
    with closing(sqlite3.connect(done.copy)) as copied:
        assert "note" not in {row[1] for row in copied.execute("PRAGMA table_info(store)")}
        assert copied.execute("SELECT count(*) FROM log").fetchone()[0] > 5
    assert sorted(path.name for path in tmp_path.iterdir() if "schema" in path.name) == [Path(done.copy).name]


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_copy_in_postgresql_is_a_schema_of_its_own(database_url: str, two_on: int) -> None:
    load(database_url, two_on - 2)
    done = run(database_url, NEXT)
    assert done.copy == f"schema plait_schema-{two_on - 2}"
    database = Database(database_url)
    with database.read() as connection:
        held = connection.execute(sa.text(f'SELECT revision FROM "plait_schema-{two_on - 2}".schema_version'))
        assert held.scalar() == two_on - 2
        count = sa.text(f'SELECT count(*) FROM "plait_schema-{two_on - 2}".log')
        assert connection.execute(count).scalar() == connection.execute(sa.text("SELECT count(*) FROM log")).scalar()
    database.close()


def test_without_a_copy_when_there_is_a_backup(tmp_path: Path, two_on: int) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    load(url, two_on - 2)
    assert run(url, NEXT, copy=False).copy is None
    assert not [path for path in tmp_path.iterdir() if "schema" in path.name]


class Died(BaseException):
    """Stands for the process that ends here: nothing that catches errors may catch it."""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_migration_that_dies_anywhere_goes_on_where_it_was(
    request: pytest.FixtureRequest, tmp_path: Path, two_on: int, backend: str
) -> None:
    def fresh(name: str) -> str:
        if backend == "postgresql":
            url = new_postgresql_database(request.getfixturevalue("postgresql_url"))
        else:
            url = f"sqlite:///{tmp_path / name}"
        load(url, two_on - 2)
        return url

    places: list[str] = []
    with armed(places.append):
        run(fresh("whole"), NEXT)
    assert ("copy.before_rename" in places) == (backend == "sqlite")
    assert {"migrate.copied", "migrate.before_step_is_durable", "migrate.stepped"} <= set(places)
    for place in range(len(places)):
        url, reached = fresh(str(place)), list[str]()

        def die(name: str, reached: list[str] = reached, place: int = place) -> None:
            reached.append(name)
            if len(reached) > place:
                raise Died

        with armed(die), pytest.raises(Died):
            run(url, NEXT)
        assert run(url, NEXT).after == two_on
        assert copied_revision(url, two_on - 2) == two_on - 2
        check_history(url)


@pytest.mark.parametrize("place", ["migrate.looked", "migrate.copied"])
def test_who_migrates_at_the_same_time_leaves_the_copy_as_it_was(database_url: str, two_on: int, place: str) -> None:
    load(database_url, two_on - 2)
    others: list[Migrated] = []

    def other(name: str) -> None:
        if name == place and not others:
            others.append(Migrated(0, 0, None))
            others.append(run(database_url, NEXT))

    with armed(other):
        done = run(database_url, NEXT)
    assert done.after == others[1].after == two_on
    assert len({one.copy for one in (done, others[1])} - {None}) == 1
    assert copied_revision(database_url, two_on - 2) == two_on - 2, "that of before any step"
    check_history(database_url)


def test_a_step_that_fails_changes_nothing(database_url: str, two_on: int) -> None:
    def fail(operations: Operations) -> None:
        index(operations)
        raise ZeroDivisionError

    load(database_url, two_on - 2)
    with pytest.raises(ZeroDivisionError):
        run(database_url, {**NEXT, two_on: fail})
    assert revision_of(database_url) == two_on - 1
    with Database(database_url).read() as connection:
        assert "tx_by_name" not in {one["name"] for one in sa.inspect(connection).get_indexes("tx")}
    assert run(database_url, NEXT).before == two_on - 1
    check_history(database_url)


def test_a_served_catalog_is_migrated_where_its_database_is() -> None:
    from plait.connecting import migrate as migrate_catalog

    with pytest.raises(Unsupported, match="where its database is"):
        migrate_catalog("plait://db.example/default")
