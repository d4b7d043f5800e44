"""A store's mirror: another Iceberg catalog whose tables follow the bound ref, read and written by plain pyiceberg."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import plait
import pytest
from plait.adapter import Adapter, Capability
from plait.cli import run
from plait.errors import CommitConflict, InvalidArgument, NothingToCommit, StoreUnavailable
from plait.failpoint import armed
from plait.types import Choice, Depth, Lack, Move, Published, PublishState, SnapshotRef, Store
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.fixtures import BACKENDS
from plait_conformance.tables import KEY, KEYED, Rows, Tables, append, correct, order, ordered, read_back
from plait_conformance.testing import MemoryState, make_adapter
from plait_iceberg import IcebergAdapter, catalogs, patience
from pyiceberg.catalog import Catalog as Other
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError, RESTError
from pyiceberg.table import Table
from pyiceberg.view.metadata import SQLViewRepresentation, ViewVersion
from requests import HTTPError, Response

ORDERS = "lake.sales.orders"
NAMES = {"sales.orders"}


class Story:
    """A catalog with one mirrored store, and the mirror as somebody sees it who knows nothing of plait."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri
        plait.init(str(folder)).close()
        self.catalog = plait.open(str(folder))

    @property
    def options(self) -> dict[str, str]:
        return {"warehouse": str(self.folder / "warehouse"), "mirror.type": "sql", "mirror.uri": self.uri}

    def other(self) -> Other:
        return load_catalog("default", type="sql", uri=self.uri, warehouse=f"file://{self.folder}/warehouse")

    def seen(self, name: str = "sales.orders") -> Rows | None:
        """The rows of a table of the mirror's."""
        with closing(self.other()) as other:
            try:
                return ordered(other.load_table(name).scan().to_arrow().to_pylist())
            except NoSuchTableError:
                return None

    def names(self) -> set[str]:
        with closing(self.other()) as other:
            return {".".join(name) for space in other.list_namespaces() for name in other.list_tables(space)}

    def write(self, *rows: dict[str, Any], ref: str = "main", key: str = ORDERS) -> None:
        """Add rows in one commit; the table is made where it is not there."""
        with self.catalog.transaction(ref, message="write") as tx:
            space, name = cast(Other, tx.store("lake")), tuple(key.split(".")[1:])
            table = space.load_table(name) if space.table_exists(name) else space.create_table(name, KEYED)
            append(*rows)(table)

    def write_behind(self, *rows: dict[str, Any], name: str = "sales.orders") -> None:
        with closing(self.other()) as other:
            append(*rows)(other.load_table(name))

    def held(self, spec: str = "main", key: str = ORDERS) -> Rows:
        return ordered(cast(Table, self.catalog.at(spec).open(key)).scan().to_arrow().to_pylist())


@pytest.fixture(params=BACKENDS)
def bare(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """Without any store; the mirror to come is a SQL catalog on SQLite or PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLAIT_CATALOG", raising=False)
    uri = f"sqlite:///{tmp_path}/mirror.db"
    if request.param == "postgresql":
        database = new_postgresql_database(request.getfixturevalue("postgresql_url"))
        uri = database.replace("postgresql:", "postgresql+psycopg:")
    story = Story(tmp_path, uri)
    yield story
    story.catalog.close()


on_sqlite = pytest.mark.parametrize("bare", ["sqlite"], indirect=True)


@pytest.fixture
def story(bare: Story) -> Story:
    given = [word for name, value in bare.options.items() for word in ("--option", f"{name}={value}")]
    assert run(["store", "add", "lake", "--kind", "iceberg", *given]) == 0
    bare.write(order(1))
    return bare


def test_commits_on_main_appear_and_those_of_a_branch_do_not(story: Story) -> None:
    assert story.seen() == [order(1)]
    story.catalog.create_branch("dev")
    story.write(order(2), ref="dev")
    story.write(order(3))
    assert story.seen() == [order(1), order(3)]
    story.catalog.merge("dev")
    assert story.seen() == [order(1), order(2), order(3)]
    assert Capability.NATIVE_HEAD in story.catalog.capabilities("lake")
    assert (story.catalog.publish(), list(story.catalog.verify(Depth.BYTES))) == ([], [])


def test_what_is_given_to_paste_says_nothing_of_the_mirror(story: Story) -> None:
    story.write(order(1))
    tx = story.catalog.begin()
    tx.open(ORDERS)
    for location in (story.catalog.at("main").locate(ORDERS), tx.locate(ORDERS)):
        assert location.options == {}
        assert "mirror" not in location.snippet
    tx.discard()


def test_a_revert_moves_the_mirror_back(story: Story) -> None:
    story.write(order(2))
    story.catalog.revert("main", "main")
    assert story.seen() == [order(1)]
    story.write(order(3))
    assert story.seen() == [order(1), order(3)]


def test_a_write_through_the_mirror_is_told_kept_and_adopted(story: Story, capfd: pytest.CaptureFixture[str]) -> None:
    story.write_behind(order(7))
    assert run(["store", "check", "lake"]) == 9
    assert f"plait store adopt {ORDERS}" in capfd.readouterr().out
    story.write(order(2))
    (left,) = story.catalog.publish()
    assert left.state == "diverged"
    assert (story.seen(), story.held()) == ([order(1), order(7)], [order(1), order(2)])
    assert run(["store", "adopt", ORDERS]) == 0
    assert story.seen() == story.held() == [order(1), order(2), order(7)]
    assert run(["store", "check", "lake"]) == 0


def test_what_both_changed_is_a_conflict_and_settled_as_any(story: Story) -> None:
    with closing(story.other()) as other:
        correct(order(1, "foreign"))(other.load_table("sales.orders"))
    with story.catalog.transaction(message="ours") as tx:
        correct(order(1, "ours"))(cast(Table, tx.open(ORDERS)))
    with pytest.raises(CommitConflict):
        story.catalog.adopt(ORDERS)
    (tx_left,) = story.catalog.working_sets()
    working = story.catalog.working_set(tx_left.id)
    working.resolve(ORDERS, Choice.OURS, item="id=1")
    with pytest.raises(NothingToCommit):
        working.commit()
    assert story.catalog.publish() == []
    assert story.seen() == story.held() == [order(1, "ours")]


def test_a_table_that_was_dropped_in_the_mirror_is_diverged_too(story: Story) -> None:
    with closing(story.other()) as other:
        other.drop_table("sales.orders")
    story.catalog.check_store("lake")
    (left,) = story.catalog.publish()
    assert (left.state, story.seen()) == ("diverged", None)
    story.catalog.adopt(ORDERS)
    assert [entry.key for entry in story.catalog.at("main").entries()] == []
    assert story.catalog.publish() == []


def test_a_table_that_somebody_has_under_the_name_is_not_overwritten(story: Story) -> None:
    with closing(story.other()) as other:
        append(order(8))(other.create_table("sales.returns", KEYED))
    story.write(order(1), key="lake.sales.returns")
    (left,) = story.catalog.publish()
    assert left.state == "diverged"
    assert story.seen("sales.returns") == [order(8)]
    with pytest.raises(CommitConflict):
        story.catalog.adopt("lake.sales.returns")
    (tx_left,) = story.catalog.working_sets()
    working = story.catalog.working_set(tx_left.id)
    working.resolve("lake.sales.returns", Choice.OURS)
    with pytest.raises(NothingToCommit):
        working.commit()
    assert story.catalog.publish() == []
    assert story.seen("sales.returns") == story.held(key="lake.sales.returns") == [order(1)]


def test_views_and_tables_without_a_namespace_are_passed_over(story: Story) -> None:
    with story.catalog.transaction(message="others") as tx:
        cast(Any, tx.store("lake")).create_view("sales.all_orders", KEYED, view_of("select 1"))
        cast(Any, tx.store("lake")).create_table("loose", KEYED)
    assert (story.catalog.publish(), story.names()) == ([], NAMES)
    assert story.catalog.check_store("lake")[0] == []
    with story.catalog.transaction(message="rename and drop") as tx:
        tx.rename("lake.sales.all_orders", "lake.sales.every_order")
        tx.drop("lake.loose")
    assert (story.catalog.publish(), story.names()) == ([], NAMES)
    with story.catalog.transaction(message="out of its namespace") as tx:
        tx.rename(ORDERS, "lake.orders")
    assert (story.catalog.publish(), story.names()) == ([], set())
    with story.catalog.transaction(message="and back") as tx:
        tx.rename("lake.orders", ORDERS)
    assert (story.catalog.publish(), story.names()) == ([], NAMES)
    story.write(order(5), key="lake.free")
    with story.catalog.transaction(message="into a namespace") as tx:
        tx.rename("lake.free", "lake.shop.free")
    assert (story.catalog.publish(), story.seen("shop.free")) == ([], [order(5)])


def view_of(sql: str) -> ViewVersion:
    return ViewVersion(
        version_id=1,
        timestamp_ms=1,
        schema_id=0,
        summary={},
        representations=[SQLViewRepresentation(type="sql", sql=sql, dialect="spark")],
        default_namespace=["sales"],
    )


@on_sqlite
def test_a_mirror_that_is_down_holds_up_nothing_and_catches_up(story: Story) -> None:
    database = story.folder / "mirror.db"
    database.rename(story.folder / "away.db")
    story.write(order(2))
    story.write(order(3), key="lake.sales.returns")
    assert story.held() == [order(1), order(2)]
    assert {left.state for left in story.catalog.publish()} == {"idle"}
    assert not database.exists(), "a new, empty mirror was made in the place of the one that is away"
    ((missing,), _) = story.catalog.check_store("lake")
    assert "is gone" in missing.problem
    (story.folder / "away.db").rename(database)
    assert story.catalog.publish() == []
    assert (story.seen(), story.seen("sales.returns")) == ([order(1), order(2)], [order(3)])


@on_sqlite
def test_a_mirror_that_lost_its_tables_is_down_and_nothing_looks_dropped(story: Story) -> None:
    database = story.folder / "mirror.db"
    database.rename(story.folder / "away.db")
    sqlite3.connect(database).close()
    story.catalog.close()
    story.catalog = plait.open(str(story.folder))
    ((missing,), _) = story.catalog.check_store("lake")
    assert "does not answer" in missing.problem
    assert story.catalog.publish() == []


@on_sqlite
def test_a_mirror_that_hangs_is_waited_for_once(bare: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        uri = f"http://127.0.0.1:{never_answers.getsockname()[1]}"
        hanging = {**bare.options, "mirror.type": "rest", "mirror.uri": uri}
        (lacking,) = bare.catalog.add_store("lake", "iceberg", hanging)
        assert "has not answered in 0.2 seconds" in lacking.problem
        bare.write(order(1))
        monkeypatch.setattr(patience, "SECONDS_MAX", 3600)
        bare.write(order(2))
        ((missing,), _) = bare.catalog.check_store("lake")
        assert "an earlier call" in missing.problem
        assert {left.state for left in bare.catalog.publish()} == {"idle"}
    assert bare.held() == [order(1), order(2)]
    assert bare.catalog.set_store("lake", bare.options) == []
    assert (bare.catalog.publish(), bare.seen()) == ([], [order(1), order(2)])


def test_a_call_that_was_left_is_no_longer_in_the_way_once_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS_MAX", 0.1)
    ends, given_up = threading.Event(), threading.Event()
    waiting = patience.Patience("it", given_up.set)
    for told in ("in 0.1 seconds", "an earlier call"):
        with pytest.raises(StoreUnavailable, match=told):
            waiting.call(ends.wait)
    assert given_up.is_set()
    ends.set()
    monkeypatch.setattr(patience, "SECONDS_MAX", 60)
    left = waiting._left
    assert left is not None
    assert left[0].result(60) is True
    assert waiting.call(lambda: 7) == 7
    with pytest.raises(TimeoutError, match="its own"):
        waiting.call(_times_out)


def _times_out() -> None:
    raise TimeoutError("its own")


def test_renamed_and_dropped_tables(story: Story) -> None:
    with story.catalog.transaction(message="rename") as tx:
        tx.rename(ORDERS, "lake.shop.orders")
    assert (story.names(), story.seen("shop.orders")) == ({"shop.orders"}, [order(1)])
    with story.catalog.transaction(message="rename and change") as tx:
        tx.rename("lake.shop.orders", ORDERS)
        append(order(2))(cast(Table, tx.open(ORDERS)))
    assert (story.names(), story.seen()) == (NAMES, [order(1), order(2)])
    with story.catalog.transaction(message="another of that name") as tx:
        tx.drop(ORDERS)
    story.write(order(9))
    assert (story.names(), story.seen()) == (NAMES, [order(9)])
    with story.catalog.transaction(message="drop") as tx:
        tx.drop(ORDERS)
    assert (story.names(), story.catalog.publish(), story.held("main~1")) == (set(), [], [order(9)])
    story.catalog.restore("main~1", keys=[KEY])
    assert story.catalog.publish() == []
    assert story.names() == NAMES


@pytest.mark.parametrize("number", [2, 3, 4])
def test_tables_that_change_their_names_among_each_other(story: Story, number: int) -> None:
    names = ["orders", *(f"orders_{n}" for n in range(1, number))]
    for n, name in enumerate(names[1:], start=2):
        story.write(order(n), key=f"lake.sales.{name}")
    with story.catalog.transaction(message="each takes the next one's name") as tx:
        tx.rename(f"lake.sales.{names[-1]}", "lake.sales.aside")
        for before, after in reversed(list(pairwise(names))):
            tx.rename(f"lake.sales.{before}", f"lake.sales.{after}")
        tx.rename("lake.sales.aside", ORDERS)
    assert story.catalog.unpublished() == []
    assert story.names() == {f"sales.{name}" for name in names}
    assert [story.seen(f"sales.{name}") for name in names] == [[order(n)] for n in (number, *range(1, number))]


@on_sqlite
def test_one_table_takes_the_name_of_another_that_goes_while_the_mirror_is_down(story: Story) -> None:
    story.write(order(2), key="lake.sales.returns")
    database = story.folder / "mirror.db"
    database.rename(story.folder / "away.db")
    with story.catalog.transaction(message="drop") as tx:
        tx.drop(ORDERS)
    with story.catalog.transaction(message="rename") as tx:
        tx.rename("lake.sales.returns", ORDERS)
    story.write(order(3), key="lake.sales.returns")
    (story.folder / "away.db").rename(database)
    story.catalog.publish()
    assert story.catalog.publish() == []
    assert (story.seen(), story.seen("sales.returns")) == ([order(2)], [order(3)])


def test_a_renamed_table_that_was_written_to_is_diverged_under_its_new_name(story: Story) -> None:
    story.write_behind(order(7))
    with story.catalog.transaction(message="rename") as tx:
        tx.rename(ORDERS, "lake.shop.orders")
    (left,) = story.catalog.publish()
    assert (left.state, left.key) == ("diverged", ("lake", "shop", "orders"))
    story.write(order(2), key="lake.shop.orders")
    assert story.catalog.adopt("lake.shop.orders") is not None
    assert story.catalog.publish() == []
    assert (story.names(), story.seen("shop.orders")) == ({"shop.orders"}, [order(1), order(2), order(7)])


@on_sqlite
def test_a_mirror_is_added_to_a_store_that_has_a_history_and_taken_away_again(bare: Story) -> None:
    bare.catalog.add_store("lake", "iceberg", {"warehouse": bare.options["warehouse"]})
    assert Capability.NATIVE_HEAD not in bare.catalog.capabilities("lake")
    bare.write(order(1))
    bare.write(order(2), key="lake.sales.returns")
    assert not (bare.folder / "mirror.db").exists()
    given = ["--option", f"mirror.uri={bare.uri}", "--option", "mirror.type=sql"]
    assert run(["store", "set", "lake", *given]) == 0
    assert run(["store", "check", "lake"]) == 0
    assert (bare.seen(), bare.seen("sales.returns")) == ([order(1)], [order(2)])
    bare.write(order(3))
    assert bare.seen() == [order(1), order(3)]
    assert run(["store", "set", "lake", "--option", "mirror.uri=", "--option", "mirror.type="]) == 0
    bare.write(order(4))
    assert (bare.seen(), bare.catalog.publish()) == ([order(1), order(3)], [])
    assert list(bare.catalog.verify(Depth.BYTES)) == []
    assert run(["store", "set", "lake", *given]) == 0
    assert bare.catalog.publish() == []
    assert bare.seen() == [order(1), order(3), order(4)], "an older version of plait's own is no divergence"


@on_sqlite
def test_another_mirror_gets_all_tables(story: Story) -> None:
    story.write(order(2), key="lake.sales.returns")
    story.uri = f"sqlite:///{story.folder}/second.db"
    assert story.catalog.set_store("lake", {"mirror.uri": story.uri}) == []
    assert story.catalog.publish() == []
    assert (story.seen(), story.seen("sales.returns")) == ([order(1)], [order(2)])
    story.write(order(3))
    assert story.seen() == [order(1), order(3)]


def test_what_an_export_put_there_before_is_moved_on(bare: Story) -> None:
    bare.catalog.add_store("lake", "iceberg", {"warehouse": bare.options["warehouse"]})
    bare.write(order(1))
    assert run(["export", "iceberg", "--to", bare.uri]) == 0
    bare.write(order(2))
    assert bare.catalog.set_store("lake", {"mirror.uri": bare.uri}) == []
    assert bare.catalog.publish() == []
    assert bare.seen() == [order(1), order(2)]


@on_sqlite
def test_a_mirror_that_does_not_answer_is_told_when_the_store_is_set(story: Story) -> None:
    lacking = story.catalog.set_store("lake", {"mirror.uri": f"sqlite:///{story.folder}/nowhere/mirror.db"})
    assert len(lacking) == 1
    assert isinstance(lacking[0], Lack)
    assert story.catalog.stores()[0].options["mirror.uri"] == story.uri


@on_sqlite
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mirror.type": "in-memory"}, "in-memory"),
        ({"mirror.type": "nonsense"}, "nonsense"),
        ({"mirror.uri": "sqlite:///mirror.db"}, "absolute"),
        ({"mirror.uri": "sqlite:///:memory:"}, "absolute"),
        ({"mirror.uri": "postgresql://me:secret@host/db"}, "password"),
        ({"mirror.token": "secret"}, "secret"),
    ],
    ids=str,
)
def test_options_that_cannot_be(bare: Story, options: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        bare.catalog.add_store("lake", "iceberg", {"warehouse": bare.options["warehouse"], **options})


# -- other catalogs than SQL -------------------------------------------------------------------------------------------


class Replacing:
    """A catalog that replaces tables but compares nothing, as a REST catalog does."""

    def __init__(self, inner: Other) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def register_table(self, identifier: Any, location: str, overwrite: bool = False) -> Table:
        if overwrite:
            self.inner.drop_table(identifier)
        return self.inner.register_table(identifier, location)


class Keeping(Replacing):
    """A catalog that cannot replace a table, as Hive and Glue."""

    def register_table(self, identifier: Any, location: str, overwrite: bool = False) -> Table:
        return self.inner.register_table(identifier, location, overwrite=overwrite)


class Refusing(Replacing):
    """A REST catalog that says it cannot replace a table, as Iceberg's own reference server does."""

    def register_table(self, identifier: Any, location: str, overwrite: bool = False) -> Table:
        if overwrite:
            refusal = Response()
            refusal.status_code = 406
            raise RESTError("UnsupportedOperationException: not supported") from HTTPError(response=refusal)
        return self.inner.register_table(identifier, location)


KINDS = {"sql": None, "replacing": Replacing, "keeping": Keeping, "refusing": Refusing}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which catalog the mirror is, underneath always a SQL one."""
    wrap = KINDS[request.param]
    if wrap is not None:
        monkeypatch.setattr(catalogs, "load_catalog", lambda *names, **given: wrap(load_catalog(*names, **given)))
    return str(request.param)


class Died(Exception):
    """A process that stopped."""


class Mirrored:
    """Adapters one after the other over one mirror and one state, as restarted processes make them."""

    def __init__(self, warehouse: Path, database: Path) -> None:
        self.uri = f"sqlite:///{database}"
        self.store = Store("lake", "iceberg", options={"warehouse": str(warehouse), "mirror.uri": self.uri})
        self.state = MemoryState()
        self.seq = 0
        self.adapter = self.restart()

    def restart(self) -> Adapter:
        self.adapter = make_adapter(IcebergAdapter, self.store, state=self.state)
        return self.adapter

    def publish(self, before: SnapshotRef | None, after: SnapshotRef | None, key: tuple[str, ...] = KEY) -> Published:
        self.seq += 1
        return self.adapter.publish({key: Move(before, after, self.seq)})[key]

    def there(self) -> dict[str, str]:
        with closing(load_catalog("default", uri=self.uri)) as other:
            names = [name for space in other.list_namespaces() for name in other.list_tables(space)]
            return {".".join(name): other.load_table(name).metadata_location for name in names}

    def foreign(self, key: tuple[str, ...] = KEY) -> None:
        with closing(load_catalog("default", uri=self.uri)) as other:
            append(order(77))(other.load_table(key[1:]))


@pytest.mark.slow
def test_a_move_that_dies_anywhere_is_repeated_whatever_the_catalog_can(kind: str, tmp_path: Path) -> None:
    tables = Tables(Mirrored(tmp_path / "warehouse", tmp_path / "mirror.db").adapter)
    one = tables.create([order(1)])
    two = tables.change(one, append(order(2)))
    new = ("lake", "shop", "orders")
    steps: list[tuple[SnapshotRef | None, SnapshotRef | None, tuple[str, ...]]] = [
        (None, one, KEY),
        (one, two, KEY),
        (two, one, new),
        (one, None, new),
    ]
    died: set[str] = set()
    for number, step in enumerate(steps):
        for place in range(100):
            mirrored = Mirrored(tmp_path / "warehouse", tmp_path / f"mirror-{number}-{place}.db")
            for earlier in steps[:number]:
                assert mirrored.publish(*earlier).state is PublishState.DONE
            left = place

            def die(name: str) -> None:
                nonlocal left
                if left == 0:
                    died.add(name)
                    raise Died
                left -= 1

            try:
                with armed(die):
                    mirrored.publish(*step)
            except Died:
                mirrored.restart()
            else:
                break
            assert mirrored.publish(*step).state is PublishState.DONE
            assert mirrored.publish(*step).state is PublishState.DONE
            _, after, key = step
            assert mirrored.there() == ({} if after is None else {".".join(key[1:]): after.version})
    wanted = {"before_move", "after_move", "before_rename", "after_rename", "before_removal", "after_removal"}
    if kind in ("keeping", "refusing"):
        wanted |= {"before_drop", "after_drop"}
    assert {f"iceberg.publish.{name}" for name in wanted} == died


def test_what_is_foreign_is_found_whatever_the_catalog_can(kind: str, tmp_path: Path) -> None:
    mirrored = Mirrored(tmp_path / "warehouse", tmp_path / "mirror.db")
    tables = Tables(mirrored.adapter)
    one = tables.create([order(1)])
    two = tables.change(one, append(order(2)))
    assert mirrored.publish(None, one).state is PublishState.DONE
    mirrored.foreign()
    new = ("lake", "shop", "orders")
    for before, after, key in ((one, one, KEY), (one, two, KEY), (one, None, KEY), (one, one, new), (None, two, KEY)):
        answer = mirrored.publish(before, after, key)
        assert answer.state is PublishState.DIVERGED
        assert answer.found is not None
        assert read_back(answer.found) == [order(1), order(77)]
        assert set(mirrored.there()) == NAMES


@pytest.mark.parametrize("place", ["iceberg.publish.before_move", "iceberg.publish.after_move"])
def test_what_slips_in_beside_a_move(kind: str, place: str, tmp_path: Path) -> None:
    mirrored = Mirrored(tmp_path / "warehouse", tmp_path / "mirror.db")
    tables = Tables(mirrored.adapter)
    one = tables.create([order(1)])
    two = tables.change(one, append(order(2)))
    mirrored.publish(None, one)
    with armed(lambda name: mirrored.foreign() if name == place else None):
        answer = mirrored.publish(one, two)
    again = mirrored.publish(two, two)
    if place.endswith("after_move"):  # On top of what was published: that is where the next look finds it.
        assert answer.state is PublishState.DONE
        assert again.found is not None
        assert read_back(again.found) == [order(1), order(2), order(77)]
    elif kind == "sql":
        assert answer.found is not None
        assert read_back(answer.found) == [order(1), order(77)]
    else:  # The window that the docs name.
        assert (answer.state, again.state) == (PublishState.DONE, PublishState.DONE)
