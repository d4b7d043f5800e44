"""What is refused before it queues: ids that are none, names and snapshots beyond their limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import plait
import pytest
from plait import limits
from plait.backend import BeginRequest, Side
from plait.catalog import Catalog
from plait.errors import InvalidArgument
from plait.types import Commit, Delete, Mode, Proposal, Put, RefKind, Session, SnapshotRef, Source, SourceKind

SESSION = Session("ada")
PUT = Put(("p", "a"), SnapshotRef("p", "table", "a", "v1", b"1" * 32))
GOOD = Proposal("main", (PUT,), session=SESSION)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with plait.init(tmp_path) as made:
        made.add_store("p", "pointer", mode=Mode.POINTER)
        yield made


@pytest.mark.parametrize("tx", ["..", "../../x", "/", "x", "a\0", "01A22491-467F-703E-8DF2-7ACACDA99164"])
def test_a_working_set_of_an_id_that_adapters_cannot_name_folders_by_is_refused(catalog: Catalog, tx: str) -> None:
    with pytest.raises(InvalidArgument, match="is no UUID"):
        catalog.backend.begin(BeginRequest(tx, "main"), SESSION)
    assert catalog.working_sets() == []


@pytest.mark.parametrize(
    "request_",
    [
        BeginRequest("", "main", merged_parents=("zz",)),
        BeginRequest("", "main", base="zz"),
        BeginRequest("", "main", source=Source(SourceKind.MERGE, None, "zz")),
        BeginRequest("", "main", source=Source(SourceKind.REVERT, "main", "0" * 64)),
    ],
)
def test_a_working_set_of_commits_that_are_none_is_refused(catalog: Catalog, request_: BeginRequest) -> None:
    with pytest.raises(InvalidArgument, match="is no commit's id"):
        catalog.backend.begin(request_, SESSION)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: replace(GOOD, merged_parents=("zz",)), "'zz' is no commit's id"),
        (lambda: replace(GOOD, operations=(replace(PUT, content_id="junk"),)), "content id of p.a 'junk' is no UUID"),
        (lambda: replace(GOOD, idempotency_key="k" * 256), "1 to 255 bytes, not 256"),
        (lambda: replace(GOOD, idempotency_key=""), "1 to 255 bytes, not 0"),
        (lambda: replace(GOOD, author="a" * 2000), "the author has 2000 bytes, the limit is 1024"),
        (lambda: replace(GOOD, session=Session("a" * 2000)), "principal has 2000 bytes"),
        (
            lambda: replace(GOOD, operations=(replace(PUT, snapshot=replace(PUT.snapshot, version="\ud800")),)),
            "the snapshot of p.a holds half a character",
        ),
        (
            lambda: replace(GOOD, operations=(replace(PUT, snapshot=replace(PUT.snapshot, version="v" * 70_000)),)),
            r"the snapshot of p.a has 70\d\d\d bytes, the limit is 65536",
        ),
    ],
)
def test_a_proposal_beyond_its_limits_is_refused(catalog: Catalog, change: Callable[[], Proposal], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        catalog.backend.commit(change())
    assert catalog.resolve("main").seq == 1


@pytest.mark.parametrize("after", ["zz", "main", "", "0" * 63])
def test_a_ref_does_not_move_to_what_is_no_commits_id(catalog: Catalog, after: str) -> None:
    def move(after: str, key: str) -> None:
        catalog.backend.set_ref(
            "b", RefKind.BRANCH, expected=None, after=after, protect=None, session=SESSION, idempotency_key=key
        )

    with pytest.raises(InvalidArgument, match="is no commit's id"):
        move(after, "k")
    with pytest.raises(InvalidArgument, match="1 to 255 bytes"):
        move(catalog.resolve("main").id, "k" * (limits.IDEMPOTENCY_KEY_BYTES_MAX + 1))


def test_one_proposal_without_a_key_spoils_none_of_the_others(catalog: Catalog) -> None:
    results = catalog.backend.commit_many([GOOD, replace(GOOD, operations=(Delete((), None),))], atomic=False)
    assert isinstance(results[0], Commit)
    assert isinstance(results[1], InvalidArgument)


def test_an_empty_key_is_told_so(catalog: Catalog) -> None:
    tx = catalog.begin("main")
    with pytest.raises(InvalidArgument, match="at least one part"):
        tx.rename((), "p.a")
    with pytest.raises(InvalidArgument, match="at least one part"):
        list(catalog.backend.diff_items((), Side(), Side(), None))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[31m", "n" * 2000])
def test_a_token_is_named_for_somebody(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidArgument, match="token"):
        catalog.backend.create_token(name)
    assert catalog.backend.tokens() == []
