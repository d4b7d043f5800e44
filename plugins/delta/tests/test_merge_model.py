"""Merges against a model: rows that either side changed are never lost, whatever became of the files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from plait_conformance import merge_model as model
from plait_conformance.delta_tables import Tables, append, correct, delete, row
from plait_delta import DeltaAdapter


class Writes:
    def append(self, rows: model.Held) -> Callable[[Any], object]:
        return append(*(row(number, item) for number, item in rows.items()))

    def correct(self, rows: model.Held) -> Callable[[Any], object]:
        return correct(*(row(number, item) for number, item in rows.items()))

    def delete(self, predicate: str) -> Callable[[Any], object]:
        return delete(predicate)

    def compact(self) -> Callable[[Any], object]:
        return lambda table: table.optimize.compact()


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [True, False])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=model.FILES, ours=model.STEPS, theirs=model.STEPS)
def test_a_merge_is_what_the_rows_of_its_sides_say(
    keyed: bool, files: list[set[int]], ours: list[model.Step], theirs: list[model.Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(DeltaAdapter, Path(folder) / "delta")
        first, *more = model.layout(files)
        base = tables.create([row(number, item) for number, item in first.items()], keyed=keyed)
        if more:
            base = tables.change(base, *(Writes().append(one) for one in more))
        held = {number: item for one in (first, *more) for number, item in one.items()}
        (our_rows, our_writes), (their_rows, their_writes) = (
            model.carry_out(Writes(), held, steps) for steps in (ours, theirs)
        )
        sides = [tables.change(base, *writes) if writes else base for writes in (our_writes, their_writes)]
        answer = tables.adapter.merge(tables.tx(), 1, base=base, ours=sides[0], theirs=sides[1])
        if keyed:
            model.check_keyed(
                model.Sides(held, our_rows, their_rows), answer, lambda one: model.by_id(tables.read(one))
            )
        else:
            model.check_loose(model.Sides(held, our_rows, their_rows), answer, tables.read)
