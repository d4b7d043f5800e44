"""Merges against a model: rows that either side changed are never lost, whatever became of the files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from plait_conformance import merge_model as model
from plait_conformance.tables import KEYED, LOOSE, Tables, append, batch, delete, order, read_back


class Writes:
    def append(self, rows: model.Held) -> Callable[[Any], object]:
        return append(*(order(number, item) for number, item in rows.items()))

    def correct(self, rows: model.Held) -> Callable[[Any], object]:
        def write(table: Any) -> None:
            for number, item in rows.items():
                table.overwrite(batch(table, [order(number, item)]), f"id = {number}")

        return write

    def delete(self, predicate: str) -> Callable[[Any], object]:
        return delete(predicate)

    def compact(self) -> Callable[[Any], object]:
        """pyiceberg has none: all rows are written anew, into one file."""
        return lambda table: table.overwrite(table.scan().to_arrow())


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [True, False])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=model.FILES, ours=model.STEPS, theirs=model.STEPS)
def test_a_merge_is_what_the_rows_of_its_sides_say(
    tables: Tables, keyed: bool, files: list[set[int]], ours: list[model.Step], theirs: list[model.Step]
) -> None:
    first, *more = model.layout(files)
    rows = [order(number, item) for number, item in first.items()]
    base = tables.create(rows, schema=KEYED if keyed else LOOSE)
    if more:
        base = tables.change(base, *(Writes().append(one) for one in more))
    held = {number: item for one in (first, *more) for number, item in one.items()}
    (our_rows, our_writes), (their_rows, their_writes) = (
        model.carry_out(Writes(), held, steps) for steps in (ours, theirs)
    )
    sides = [tables.change(base, *writes) if writes else base for writes in (our_writes, their_writes)]
    answer = tables.adapter.merge(tables.tx(), 1, base=base, ours=sides[0], theirs=sides[1])
    if keyed:
        model.check_keyed(model.Sides(held, our_rows, their_rows), answer, lambda one: model.by_id(read_back(one)))
    else:
        model.check_loose(model.Sides(held, our_rows, their_rows), answer, read_back)
