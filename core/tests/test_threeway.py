"""Three-way joining, key by key: what is decided without the store, and what the store is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from plait.adapter import Adapter, Capability, Context
from plait.codec import ref_digest
from plait.threeway import Candidate, Outcome, ThreeWay
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Delete,
    Entry,
    Key,
    Merged,
    Operation,
    Put,
    Resolution,
    SnapshotRef,
    Store,
    Strategy,
)
from plait_conformance.testing import MemoryState

KEY: Key = ("lake", "t")


def snapshot(version: str, content: str | None = None, asset: str = "t") -> SnapshotRef:
    """Equal `content` (the version, unless given) is an equal native digest."""
    return SnapshotRef("lake", "k", asset, version, (content or version).encode())


def entry(version: str, content: str | None = None, *, asset: str = "t", content_id: str = "c") -> Entry:
    return Entry(KEY, content_id, snapshot(version, content, asset))


class Joiner(Adapter):
    """A store whose merges end as told: a version, or items in conflict that resolutions settle."""

    kind = "k"
    snapshot = diff = locate = verify = stage = open = prepare = restore = abort = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(Store("lake", "k"), Context(MemoryState()))
        self.answer: str | list[str | None] = "merged"
        self.succeeds = False
        self.merges: list[tuple[str | None, str, str]] = []
        self.successions: list[tuple[str, str]] = []

    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        assert (tx, attempt) == ("tx-1", 2)
        self.merges.append((None if base is None else base.version, ours.version, theirs.version))
        if isinstance(self.answer, str):
            return Merged(snapshot(self.answer))
        settled = {resolution.item for resolution in resolutions}
        left = [item for item in self.answer if item is None or item not in settled]
        if left:
            return Conflicted(tuple(Conflict((), ConflictKind.ITEM_CHANGED, item) for item in left))
        return Merged(snapshot("settled by " + ",".join(sorted({chosen.choice.value for chosen in resolutions}))))

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        assert (tx, attempt) == ("tx-1", 2)
        self.successions.append((onto.version, content.version))
        return content if self.succeeds else snapshot(f"{content.version} onto {onto.version}", content.digest.decode())


@pytest.fixture
def store() -> Joiner:
    return Joiner()


def join(
    store: Joiner,
    base: Entry | None,
    ours: Entry | None,
    theirs: Entry | None,
    *,
    merges: bool = True,
    bound: bool = False,
    **options: Any,
) -> Outcome:
    capabilities = frozenset({Capability.MERGE} if merges else ())
    threeway = ThreeWay(
        "tx-1", 2, lambda name: store, lambda name: capabilities, lambda name: bound, lambda key: None, **options
    )
    return threeway.join([Candidate(KEY, base, theirs)], {} if ours is None else {KEY: ours})


def puts(outcome: Outcome) -> list[str]:
    assert outcome.conflicts == []
    return [operation.snapshot.version for operation in outcome.operations if isinstance(operation, Put)]


ONE, TWO, THREE = entry("v1"), entry("v2"), entry("v3")
TWIN_OF_TWO = entry("w2", "v2")


class TestTrivialCases:
    """Decided by digests alone: the store is not asked to merge."""

    @pytest.mark.parametrize(
        ("base", "ours", "theirs", "operations"),
        [
            (ONE, ONE, TWO, [Put(KEY, TWO.snapshot, ref_digest(ONE.snapshot), "c")]),
            (None, None, ONE, [Put(KEY, ONE.snapshot, None, "c")]),
            (ONE, ONE, None, [Delete(KEY, ref_digest(ONE.snapshot))]),
            (ONE, TWO, TWO, []),
            (ONE, TWO, TWIN_OF_TWO, []),
            (ONE, None, None, []),
            (TWO, TWIN_OF_TWO, THREE, [Put(KEY, THREE.snapshot, ref_digest(TWIN_OF_TWO.snapshot), "c")]),
        ],
        ids=[
            "theirs changed",
            "theirs created",
            "theirs deleted",
            "both equal",
            "equal content",
            "both deleted",
            "ours equals base in content",
        ],
    )
    def test_one_side_or_equal_sides(
        self,
        store: Joiner,
        base: Entry | None,
        ours: Entry | None,
        theirs: Entry | None,
        operations: list[Operation],
    ) -> None:
        outcome = join(store, base, ours, theirs)
        assert (outcome.operations, outcome.conflicts, outcome.made) == (operations, [], {})
        assert store.merges == []


class TestSuccession:
    def test_what_a_bound_ref_receives_succeeds_what_it_holds(self, store: Joiner) -> None:
        outcome = join(store, ONE, ONE, TWO, bound=True)
        assert puts(outcome) == ["v2 onto v1"]
        assert store.successions == [("v1", "v2")]
        assert outcome.made == {KEY: snapshot("v2 onto v1", "v2")}

    def test_what_succeeds_already_is_taken_as_it_is(self, store: Joiner) -> None:
        store.succeeds = True
        outcome = join(store, ONE, ONE, TWO, bound=True)
        assert puts(outcome) == ["v2"]
        assert outcome.made == {}

    @pytest.mark.parametrize(
        ("base", "ours", "theirs"), [(None, None, ONE), (ONE, ONE, None), (ONE, ONE, entry("x1", asset="other"))]
    )
    def test_nothing_there_nothing_left_or_another_asset_succeeds_nothing(
        self, store: Joiner, base: Entry | None, ours: Entry | None, theirs: Entry | None
    ) -> None:
        outcome = join(store, base, ours, theirs, bound=True)
        assert len(outcome.operations) == 1
        assert store.successions == []


class TestTrueConflicts:
    def test_both_changed_is_merged_by_the_store(self, store: Joiner) -> None:
        outcome = join(store, ONE, TWO, THREE)
        assert outcome.operations == [Put(KEY, snapshot("merged"), ref_digest(TWO.snapshot), "c")]
        assert outcome.made == {KEY: snapshot("merged")}
        assert store.merges == [("v1", "v2", "v3")]

    def test_items_in_conflict_carry_their_key(self, store: Joiner) -> None:
        store.answer = ["id=1", "id=2"]
        outcome = join(store, ONE, TWO, THREE)
        assert outcome.operations == []
        assert outcome.conflicts == [Conflict(KEY, ConflictKind.ITEM_CHANGED, item) for item in ("id=1", "id=2")]

    @pytest.mark.parametrize(
        ("base", "ours", "theirs", "kind"),
        [
            (ONE, TWO, THREE, ConflictKind.VALUE_DIFFERS),
            (ONE, TWO, None, ConflictKind.KEY_CHANGED),
            (ONE, None, TWO, ConflictKind.KEY_DOES_NOT_EXIST),
            (None, ONE, TWO, ConflictKind.KEY_EXISTS),
        ],
    )
    def test_without_merging_the_key_is_the_conflict(
        self, store: Joiner, base: Entry | None, ours: Entry | None, theirs: Entry | None, kind: ConflictKind
    ) -> None:
        (conflict,) = join(store, base, ours, theirs, merges=False).conflicts
        assert (conflict.key, conflict.item, conflict.kind) == (KEY, None, kind)
        assert store.merges == []
        for side, shown in ((base, conflict.base), (ours, conflict.ours), (theirs, conflict.theirs)):
            assert shown == (side and {"store": "lake", "asset": "t", "version": side.snapshot.version})

    def test_different_assets_under_one_key_are_not_merged(self, store: Joiner) -> None:
        outcome = join(store, None, ONE, entry("x1", asset="other"))
        assert [conflict.kind for conflict in outcome.conflicts] == [ConflictKind.KEY_EXISTS]
        assert store.merges == []

    def test_the_same_content_in_another_asset_is_no_agreement(self, store: Joiner) -> None:
        assert join(store, None, ONE, entry("v1", asset="other")).conflicts

    def test_conflicts_come_with_the_operations_of_all_other_keys(self, store: Joiner) -> None:
        store.answer = ["id=1"]
        other: Key = ("lake", "u")
        merges = frozenset({Capability.MERGE})
        threeway = ThreeWay("tx-1", 2, lambda name: store, lambda name: merges, lambda name: False, lambda key: None)
        outcome = threeway.join([Candidate(KEY, ONE, THREE), Candidate(other, None, ONE)], {KEY: TWO})
        assert [conflict.key for conflict in outcome.conflicts] == [KEY]
        assert outcome.operations == [Put(other, ONE.snapshot, None, "c")]


class TestStrategies:
    @pytest.mark.parametrize("how", ["default", "of the key"])
    @pytest.mark.parametrize(
        ("strategy", "versions"), [(Strategy.OURS, []), (Strategy.THEIRS, ["v3"]), (Strategy.DROP, [])]
    )
    def test_a_side_settles_the_key(self, store: Joiner, strategy: Strategy, versions: list[str], how: str) -> None:
        options: dict[str, Any] = {"default": strategy} if how == "default" else {"strategies": {KEY: strategy}}
        assert puts(join(store, ONE, TWO, THREE, merges=False, **options)) == versions

    @pytest.mark.parametrize("strategy", [Strategy.OURS, Strategy.THEIRS])
    def test_a_side_settles_only_the_items_in_conflict(self, store: Joiner, strategy: Strategy) -> None:
        store.answer = ["id=1", "id=2"]
        assert puts(join(store, ONE, TWO, THREE, default=strategy)) == [f"settled by {strategy.value}"]

    def test_where_no_item_is_to_blame_the_side_settles_the_key(self, store: Joiner) -> None:
        store.answer = ["id=1", None]
        assert puts(join(store, ONE, TWO, THREE, default=Strategy.THEIRS)) == ["v3"]

    def test_dropping_leaves_even_what_only_theirs_changed(self, store: Joiner) -> None:
        assert join(store, ONE, ONE, TWO, default=Strategy.DROP) == Outcome()

    def test_ours_takes_what_only_theirs_changed(self, store: Joiner) -> None:
        assert puts(join(store, ONE, ONE, TWO, default=Strategy.OURS)) == ["v2"]

    def test_theirs_may_delete(self, store: Joiner) -> None:
        outcome = join(store, ONE, TWO, None, default=Strategy.THEIRS)
        assert outcome.operations == [Delete(KEY, ref_digest(TWO.snapshot))]


class TestResolutions:
    def resolved(self, *resolutions: Resolution) -> Mapping[Key, Sequence[Resolution]]:
        return {KEY: resolutions}

    @pytest.mark.parametrize(
        ("choice", "versions"), [(Choice.OURS, []), (Choice.THEIRS, ["v3"]), (Choice.BASE, ["v1"])]
    )
    def test_a_whole_key_takes_the_chosen_side(self, store: Joiner, choice: Choice, versions: list[str]) -> None:
        outcome = join(store, ONE, TWO, THREE, resolutions=self.resolved(Resolution(KEY, None, choice)))
        assert puts(outcome) == versions
        assert store.merges == []

    def test_a_chosen_side_still_succeeds_what_the_ref_holds(self, store: Joiner) -> None:
        chosen = self.resolved(Resolution(KEY, None, Choice.THEIRS))
        assert puts(join(store, ONE, TWO, THREE, bound=True, resolutions=chosen)) == ["v3 onto v2"]

    def test_items_are_settled_by_the_store(self, store: Joiner) -> None:
        store.answer = ["id=1", "id=2"]
        one = Resolution(KEY, "id=1", Choice.BASE)
        left = join(store, ONE, TWO, THREE, resolutions=self.resolved(one)).conflicts
        assert [conflict.item for conflict in left] == ["id=2"]
        both = self.resolved(one, Resolution(KEY, "id=2", Choice.OURS))
        assert puts(join(store, ONE, TWO, THREE, resolutions=both)) == ["settled by base,ours"]

    def test_a_users_choice_stands_beside_a_strategy(self, store: Joiner) -> None:
        store.answer = ["id=1", "id=2"]
        chosen = self.resolved(Resolution(KEY, "id=1", Choice.BASE))
        found = join(store, ONE, TWO, THREE, resolutions=chosen, default=Strategy.THEIRS)
        assert puts(found) == ["settled by base,theirs"]
