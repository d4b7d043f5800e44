"""Text that no database can keep is refused by name, the same over every database, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plait.catalog import Catalog
from plait.clock import ManualClock
from plait.errors import InvalidArgument, NotFound
from plait.local import LocalBackend, create
from plait.persist import Database
from plait.persist.tx_rows import conflict_item
from plait.plugins import Plugins
from plait.types import Mode, Proposal, Put, Session, SnapshotRef, Store

BAD = pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"], ids=["nul", "half a character"])


@pytest.fixture
def catalog(database: Database, clock: ManualClock) -> Catalog:
    create(database, clock=clock)
    backend = LocalBackend(
        database,
        plugins=Plugins(installed=False),
        clock=clock,
        catalog=lambda backend: Catalog(backend, backend.adapters, session=Session(), clock=clock),
    )
    backend.add_store(Store("p", "pointer", Mode.POINTER), Session())
    return backend.catalog


WRITES: dict[str, Callable[[Catalog, str], object]] = {
    "message": lambda catalog, bad: catalog.commit(proposal(message=bad)),
    "author": lambda catalog, bad: catalog.commit(proposal(author=bad)),
    "property": lambda catalog, bad: catalog.commit(proposal(properties={"note": bad})),
    "idempotency key": lambda catalog, bad: catalog.commit(proposal(idempotency_key=bad)),
    "session": lambda catalog, bad: catalog.as_session(Session(client=bad)).commit(proposal()),
    "working set": lambda catalog, bad: catalog.begin(name=bad),
    "message of a working set": lambda catalog, bad: catalog.begin(message=bad),
    "message of its commit": lambda catalog, bad: catalog.begin(name="n").commit(bad),
    "key": lambda catalog, bad: catalog.commit(proposal(key=("p", bad))),
    "ref": lambda catalog, bad: catalog.create_branch(bad),
    "option": lambda catalog, bad: catalog.add_store("q", "pointer", {"path": bad}, mode=Mode.POINTER),
    "token": lambda catalog, bad: catalog.backend.create_token(bad),
}


def proposal(key: tuple[str, ...] = ("p", "a"), **fields: object) -> Proposal:
    return Proposal("main", (Put(key, SnapshotRef("p", "pointer", "a", "v1", b"1")),), **fields)  # type: ignore[arg-type]


@BAD
@pytest.mark.parametrize("write", WRITES)
def test_text_that_cannot_be_kept_is_refused(catalog: Catalog, write: str, bad: str) -> None:
    with pytest.raises(InvalidArgument):
        WRITES[write](catalog, bad)
    assert [event.seq for event in catalog.events()] == [1, 2]


def test_items_of_conflicts_may_be_any_text() -> None:
    assert len({conflict_item(item) for item in (None, "", "a\0b", "a\ud800b", "ab")}) == 5


LOOKS: dict[str, Callable[[Catalog, str], object]] = {
    "working set": lambda catalog, bad: catalog.working_set(bad),
    "store": lambda catalog, bad: catalog.check_store(bad),
    "token": lambda catalog, bad: catalog.backend.delete_token(bad),
}


@pytest.mark.parametrize("look", LOOKS)
def test_half_a_character_is_refused_where_something_is_looked_up(catalog: Catalog, look: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)):
        LOOKS[look](catalog, "a\ud800b")
