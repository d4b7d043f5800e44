"""Items as text: unambiguous, alike in every process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import InvalidArgument
from plait.rows.items import check_row_item, hashed_item, keyed_item
from plait.types import Json

_values: st.SearchStrategy[Json] = st.one_of(st.integers(), st.text(), st.booleans())
_names = st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True)


# -- text --------------------------------------------------------------------------------------------------------------


@given(_names, st.data())
def test_every_keyed_item_is_recognised_as_a_row(names: list[str], data: st.DataObject) -> None:
    values = [data.draw(_values) for _ in names]
    assert check_row_item(keyed_item(names, values)) == keyed_item(names, values)


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_two_rows_have_one_item_only_if_their_identifiers_are_equal(one: list[str], two: list[str]) -> None:
    names = ["a", "b"]
    assert (keyed_item(names, one) == keyed_item(names, two)) == (one == two)


@pytest.mark.parametrize("item", ["id", "schema:price", "property:a", "partition", "row:12", "", "id=1,", "=", 'id="a'])
def test_other_items_are_no_rows(item: str) -> None:
    with pytest.raises(InvalidArgument):
        check_row_item(item)


def test_items_read_as_people_write_them() -> None:
    assert keyed_item(["id"], [7]) == "id=7"
    assert keyed_item(["region", "id"], ["eu", 7]) == "region=eu,id=7"
    assert keyed_item(["order id"], ["a,b"]) == '"order id"="a,b"'
    assert keyed_item(["day"], ["2026-11-01"]) == "day=2026-11-01"
    assert keyed_item(["ok"], [True]) == "ok=true"


def test_a_hashed_item_stays_when_a_column_is_added() -> None:
    assert hashed_item({1: "x"}) == hashed_item({1: "x", 2: None})
    assert hashed_item({1: "x"}) != hashed_item({1: "y"})
