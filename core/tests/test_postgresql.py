"""What operators do to a PostgreSQL server: rights, standbys, few connections, encodings, tables that go."""

from __future__ import annotations

import threading
from collections.abc import Callable

import plait
import pytest
import sqlalchemy as sa
from plait.errors import Corrupt, InvalidArgument, PermissionDenied, StoreUnavailable
from plait.types import Mode, Proposal
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.samples import put

pytestmark = pytest.mark.postgres

Run = Callable[..., None]


@pytest.fixture
def url(postgresql_url: str) -> str:
    """A database that holds a new catalog, with the pointer store `p`."""
    made = new_postgresql_database(postgresql_url)
    with plait.init(made) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
    return made


@pytest.fixture
def run(url: str) -> Run:
    """Statements of the superuser, who may write whatever the database's settings say."""

    def execute(*statements: str) -> None:
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    return execute


def as_role(url: str, role: str) -> str:
    return url.replace("//plait@", f"//{role}@")


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def test_a_user_without_rights_is_told_so(url: str, run: Run) -> None:
    role = f"reader_{name_of(url)}"
    run(f"CREATE ROLE {role} LOGIN")
    with pytest.raises(PermissionDenied, match="permission denied for table schema_version"):
        plait.open(as_role(url, role))
    run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    with plait.open(as_role(url, role)) as catalog:
        assert [commit.message for commit in catalog.log()] == ["Empty repository"]
        with pytest.raises(PermissionDenied, match="refuses this user"):
            catalog.create_branch("dev")


def test_a_standby_is_read_and_writes_go_on_once_another_server_takes_them(url: str, run: Run) -> None:
    """Imitated by a setting that connections get when they are made: those of before the failover keep refusing."""
    run(f"ALTER DATABASE {name_of(url)} SET default_transaction_read_only = on")
    with plait.open(url) as catalog:
        assert catalog.resolve("main").message == "Empty repository"
        proposal = Proposal("main", (put("a", 1),), message="m", idempotency_key="once")
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            catalog.commit(proposal)
        run(f"ALTER DATABASE {name_of(url)} RESET default_transaction_read_only")
        assert catalog.commit(proposal) == catalog.resolve("main")


def test_a_table_that_is_gone_is_corrupt(url: str, run: Run) -> None:
    run("DROP TABLE change")
    with plait.open(url) as catalog, pytest.raises(Corrupt, match='not whole: relation "change" does not exist'):
        list(catalog.verify())


def test_threads_wait_for_each_other_where_no_more_connections_are_given(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.persist.engine._CROWDED_SECONDS", 60.0)
    role, threads, failed = f"few_{name_of(url)}", 12, list[BaseException]()
    granted = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    run(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2", granted)

    def work(catalog: plait.Catalog, number: int) -> None:
        try:
            for turn in range(1, 4):
                catalog.commit(Proposal("main", (put(f"k{number}", turn, turn - 1 or None),), message="m"))
                assert list(catalog.log())
        except BaseException as error:
            failed.append(error)

    with plait.open(as_role(url, role)) as catalog:
        running = [threading.Thread(target=work, args=(catalog, number)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert failed == []
        assert len(list(catalog.log())) == 1 + 3 * threads


def test_where_nobody_gives_a_connection_back_the_remedy_is_named(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.persist.engine._CROWDED_SECONDS", 0.0)
    role = f"none_{name_of(url)}"
    run(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    with pytest.raises(StoreUnavailable, match="max_connections"):
        plait.open(as_role(url, role))


def test_a_database_that_cannot_keep_every_text_is_refused(url: str, run: Run) -> None:
    made = f"latin_{name_of(url)}"
    run(f"CREATE DATABASE {made} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(InvalidArgument, match="keeps texts as LATIN1, expected UTF8"):
        plait.init(url.replace(name_of(url), made))


def test_texts_are_whole_whatever_encoding_the_environment_asks_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with plait.open(url) as catalog:
        assert catalog.create_branch("日本").name == "日本"
