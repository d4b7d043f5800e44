"""The harness itself: when one of these fails, mend the harness first, for the other failures follow from it."""

from __future__ import annotations

from plait.types import Key, Location

from plait_conformance.harness import Harness
from plait_conformance.suite.trial import Trial

ROWS = {"r0": "one", "r1": "zwei", "r17": "trois, ça va?"}


class TestHarness:
    def test_open_makes_a_new_instance_on_the_same_storage(self, trial: Trial) -> None:
        other = trial.open()
        assert other is not trial.adapter, "open returned the instance that it had returned before"
        assert other.store == trial.adapter.store, "open configured another store than before"
        other.close()
        snapshot = trial.create(ROWS)
        trial.reopen()
        assert trial.held(snapshot) == ROWS, "the new instance does not see what the old one wrote"

    def test_what_create_wrote_is_what_read_finds(self, trial: Trial) -> None:
        found = trial.held(trial.create(ROWS))
        assert found == ROWS, "create, or read, does not take rows as they are"

    def test_write_sets_adds_and_removes_rows_and_leaves_the_others(self, trial: Trial) -> None:
        base = trial.create(ROWS)
        changed = trial.change(base, {"r0": "eins", "r2": "new", "r17": None})
        assert trial.held(changed) == {"r0": "eins", "r1": "zwei", "r2": "new"}
        assert trial.held(base) == ROWS

    def test_write_removes_a_row_that_is_not_there_without_an_error(self, trial: Trial) -> None:
        assert trial.held(trial.change(trial.create(ROWS), {"r5": None, "r6": "x"})) == {**ROWS, "r6": "x"}

    def test_write_goes_on_where_it_was_in_the_same_transaction(self, trial: Trial) -> None:
        port = trial.begun({"r0": "a"})
        trial.harness.write(trial.adapter, port, trial.key(), {"r1": "b"})
        trial.harness.write(trial.adapter, port, trial.key(), {"r0": None})
        assert trial.held(trial.vote(port)) == {"r1": "b"}

    def test_two_assets_have_two_keys(self, trial: Trial) -> None:
        one, two = trial.create({"r0": "a"}, asset="a"), trial.create({"r0": "b"}, asset="b")
        assert trial.key("a") != trial.key("b")
        assert one.asset != two.asset
        assert (trial.held(one), trial.held(two)) == ({"r0": "a"}, {"r0": "b"})

    def test_write_behind_makes_an_asset_that_import_finds_by_its_name(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        assert isinstance(name, str), f"write_behind returned {name!r}, expected the asset's native name"
        found = trial.adapter.snapshot(trial.new_tx(), {trial.key(): name})
        assert trial.held(found[trial.key()]) == ROWS

    def test_write_behind_changes_the_rows_of_a_snapshot_and_leaves_the_others(self, trial: Trial) -> None:
        name = trial.harness.write_behind(None, ROWS)
        snapshot = trial.adapter.snapshot(trial.new_tx(), {trial.key(): name})[trial.key()]
        name = trial.harness.write_behind(snapshot, {"r0": "eins", "r1": None})
        found = trial.adapter.snapshot(trial.new_tx(), {trial.key(): name})[trial.key()]
        assert trial.held(found) == {"r0": "eins", "r17": ROWS["r17"]}

    def test_names_and_items_are_told_apart(self, trial: Trial) -> None:
        harness: Harness = trial.harness
        rows = [f"r{number}" for number in range(200)]
        assert len({harness.item(row) for row in rows}) == len(rows), "item gives two rows the same name"
        key: Key = trial.key()
        assert all(isinstance(part, str) and part for part in key), f"name gives {key!r}, expected texts"
        assert isinstance(trial.adapter.locate(trial.create({"r0": "a"})), Location)
