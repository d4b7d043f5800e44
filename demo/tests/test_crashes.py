"""kill -9 inside one commit over five stores, at the places where core and adapters write: all stores have it, or none.

In CI every place is passed by one of the two databases in a sample; `PLAIT_SOAK=1` dies at all of them, over both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plait_conformance import forking
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.fixtures import postgresql_url
from plait_demo.crash import commit, crash_at, prepare, steps

__all__ = ["postgresql_url"]

SOAK = bool(os.environ.get("PLAIT_SOAK"))
SAMPLE = 8


def commit_in_a_child(where: str | Path, environment: dict[str, str]) -> int:
    """As the demo does it, in a process that is there at once: importing five stores' libraries takes two seconds."""
    return forking.run(commit, where, environment={**os.environ, **environment})


@pytest.fixture(autouse=True, scope="module")
def _in_forked_children() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[crash_at.__module__], "_child", commit_in_a_child)
        yield


@pytest.fixture(scope="module")
def places() -> list[str]:
    return steps()


def sampled(places: list[str], offset: int) -> list[str]:
    """Evenly over the whole commit; two offsets take different ones."""
    stride = max(1, len(places) // SAMPLE)
    return places if SOAK else places[offset * stride // 2 :: stride]


def die_everywhere(places: list[str], where: str | Path) -> None:
    """Each death is followed by a recovery, and by the next commit in the same stores."""
    told: list[str] = []
    outcomes = [crash_at(place, where, told.append) for place in places]
    # The commit point is passed once: before it nothing is there, after it everything is.
    assert outcomes == sorted(outcomes), list(zip(places, outcomes, strict=True))
    assert {True, False} == set(outcomes)


def test_a_step_can_be_repeated_in_the_same_stores(tmp_path: Path, places: list[str]) -> None:
    """Though each death leaves objects behind, which later commits find there already."""
    prepare(tmp_path)
    last = [place for place in places if place.startswith("objects.place.before_rename")][-1]
    for _ in range(2):
        assert crash_at(last, tmp_path, lambda _: None)


@pytest.mark.timeout(7200 if SOAK else 600)
def test_all_stores_or_none_on_sqlite(tmp_path: Path, places: list[str]) -> None:
    prepare(tmp_path / "stores")
    die_everywhere(sampled(places, 0), tmp_path / "stores")


@pytest.mark.postgres
@pytest.mark.timeout(7200 if SOAK else 600)
def test_all_stores_or_none_on_postgresql(tmp_path: Path, places: list[str], postgresql_url: str) -> None:
    where = new_postgresql_database(postgresql_url)
    prepare(tmp_path / "stores", where)
    die_everywhere(sampled(places, 1), where)
