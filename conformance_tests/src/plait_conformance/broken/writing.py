"""Adapters that break a rule of what writes: stagings, votes, merges, heads, space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plait.errors import NotFound
from plait.types import (
    Choice,
    Conflicted,
    Intent,
    Item,
    Key,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
)

from plait_conformance import fake_storage
from plait_conformance.broken.harness import breaks
from plait_conformance.fake_kinds import FakeDoltAdapter
from plait_conformance.fake_storage import Head


@breaks(
    "TestStage::test_the_same_place_for_the_same_id_never_reset",
    "TestStage::test_from_its_base_none_a_new_empty_asset",
)
class StagesAnew(FakeDoltAdapter):
    """`stage` resets what it staged before."""

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        staged = super().stage(tx, intents)
        for key, staging in staged.items():
            base = self._items(intents[key].base)
            for item in set(self.folder.items(staging.location)) - set(base):
                self.folder.set_item(staging.location, item, None)
            for item, text in base.items():
                self.folder.set_item(staging.location, item, text)
        return staged


@breaks(
    "TestPrepare::test_the_same_answer_for_the_same_tx_attempt",
    "TestPrepare::test_a_later_write_alters_nothing_that_was_prepared",
)
class PreparesAnew(FakeDoltAdapter):
    """`prepare` asked again makes another snapshot."""

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        self.folder.forget("names", tx)
        return super().prepare(tx, attempt, stagings)


@breaks(
    "TestAbort::test_an_unknown_tx_is_fine",
    "TestAbort::test_repeat_no_op",
)
class MissesTheUnknown(FakeDoltAdapter):
    """`abort` knows no transaction that it has not seen."""

    def abort(self, tx: str) -> None:
        if not any((self.folder.path / what / tx).exists() for what in ("pins", "stagings", "names")):
            raise NotFound(f"transaction {tx} is unknown")
        super().abort(tx)


@breaks(
    "TestAbort::test_what_others_have_prepared_alike_stays",
    "TestSnapshot::test_aborting_one_import_does_not_unpin_another",
)
class AbortsForOthers(FakeDoltAdapter):
    """`abort` deletes the content that its transaction prepared, whoever else has it."""

    def abort(self, tx: str) -> None:
        for path in (self.folder.path / "pins" / tx).glob("*"):
            record = self.folder.version(path.name)
            for content in record.members.values() if record else ():
                fake_storage.remove(self.folder.path / "objects" / content)
        super().abort(tx)


@breaks("TestRestore::test_or_some_items_of_it")
class RestoresEverything(FakeDoltAdapter):
    """`restore` of some items restores them all."""

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        every = None if items is None else sorted({*self._items(snapshot), *self._items(staging)})
        return super().restore(tx, staging, snapshot, items=every)


@breaks(
    "TestMerge::test_three_way_merge_of_one_asset",
    "TestMerge::test_the_result_is_prepared",
    "TestMerge::test_a_result_may_be_merged_again",
    "TestMerge::test_and_succeeds_ours",
)
class TakesTheirs(FakeDoltAdapter):
    """`merge` of sides without a conflict is theirs: what ours changed is lost."""

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
        answer = super().merge(tx, attempt, base=base, ours=ours, theirs=theirs, resolutions=resolutions)
        return Merged(theirs) if isinstance(answer, Merged) and not resolutions else answer


@breaks(
    "TestMerge::test_three_way_merge_of_one_asset",
    "TestMerge::test_every_conflict_in_native_key_order",
    "TestMerge::test_resolutions_of_single_items",
)
class MergesByForce(FakeDoltAdapter):
    """`merge` sees no conflict: theirs wins."""

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
        answer = super().merge(tx, attempt, base=base, ours=ours, theirs=theirs, resolutions=resolutions)
        if isinstance(answer, Merged):
            return answer
        settled = [Resolution((), conflict.item, Choice.THEIRS) for conflict in answer.conflicts]
        return super().merge(tx, attempt, base=base, ours=ours, theirs=theirs, resolutions=[*resolutions, *settled])


@breaks("TestMerge::test_resolutions_of_single_items")
class KeepsNoBase(FakeDoltAdapter):
    """A resolution that chooses the base gets ours."""

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
        mistaken = [replace(one, choice=Choice.OURS) if one.choice is Choice.BASE else one for one in resolutions]
        return super().merge(tx, attempt, base=base, ours=ours, theirs=theirs, resolutions=mistaken)


@breaks("TestSucceed::test_publish_moves_a_head_from_onto_to_it")
class GoesBack(FakeDoltAdapter):
    """`succeed` gives the old snapshot again, which no head can move to."""

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        return content


@breaks(
    "TestPublish::test_or_report_per_key_what_was_found_instead",
    "TestPublish::test_what_is_written_while_a_head_moves_is_not_overwritten_either",
    "TestPublish::test_what_somebody_else_wrote_is_never_overwritten",
    "TestPublish::test_a_diverged_head_holds_up_no_other",
    "TestPublish::test_move_each_native_head_from_its_before_to_its_after",
    "TestPublish::test_equal_before_and_after_ask_whether_the_head_is_still_there",
)
class Overwrites(FakeDoltAdapter):
    """`publish` moves the head, whoever has moved it meanwhile."""

    def _publish(self, move: Move) -> Published:
        side = move.after or move.before
        assert side is not None
        head = self.folder.head(side.asset)
        if head.seq == 0 and head.number:
            after = None if move.after is None else move.after.version
            self.folder.append_head(side.asset, Head(head.number + 1, after, move.seq))
            self.repair(side.asset, self.folder.head(side.asset))
            return Published(PublishState.DONE)
        return super()._publish(move)


@breaks("TestPublish::test_what_is_written_while_a_head_moves_is_not_overwritten_either")
class MovesWithoutComparing(FakeDoltAdapter):
    """`publish` looks at the head, and then writes on top of whatever came meanwhile."""

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        return {key: self._publish(move) for key, move in moves.items()}

    def _publish(self, move: Move) -> Published:
        append = self.folder.append_head

        def forced(asset: str, head: Head) -> bool:
            while not append(asset, head):
                head = replace(head, number=head.number + 1)
            return True

        self.folder.append_head = forced  # type: ignore[method-assign]
        try:
            return super()._publish(move)
        finally:
            self.folder.append_head = append  # type: ignore[method-assign]


@breaks("TestPublish::test_a_head_that_is_not_at_before_is_not_made_there")
class MakesGoneHeadsAgain(FakeDoltAdapter):
    """`publish` takes a head that is gone for one that never was."""

    def _publish(self, move: Move) -> Published:
        is_gone = move.after is not None and self.folder.head(move.after.asset).version is None
        return super()._publish(replace(move, before=None) if is_gone else move)


@breaks(
    "TestPublish::test_done_without_a_write_for_heads_already_at_after",
    "TestPublish::test_equal_before_and_after_ask_whether_the_head_is_still_there",
    "TestPrepare::test_and_not_the_head",
)
class PublishesOnce(FakeDoltAdapter):
    """`publish` of a head that is there already finds it diverged."""

    def _publish(self, move: Move) -> Published:
        after = None if move.after is None else move.after
        if after is not None and self.folder.head(after.asset).version == after.version:
            return Published(PublishState.DIVERGED, after)
        return super()._publish(move)


@breaks(
    "TestStage::test_never_after_the_key",
    "TestStage::test_places_and_new_assets_are_named_after_the_intents_id",
)
class NamesAfterTheKey(FakeDoltAdapter):
    """A new asset has the identity of whatever was under its key before."""

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        return super().stage(tx, {key: self._remembered(key, intent) for key, intent in intents.items()})

    def _remembered(self, key: Key, intent: Intent) -> Intent:
        if intent.base is not None:
            return intent
        self.context.state.compare_and_set(key[-1], None, intent.id.encode())
        first = self.context.state.get(key[-1])
        assert first is not None
        return replace(intent, id=first.decode())


@breaks(
    "TestSpace::test_delete_exactly_these",
    "TestSpace::test_what_stays_can_be_read_and_gone_on_from",
)
class ForgetsWhatItNeeds(FakeDoltAdapter):
    """`reachable` does not name the contents."""

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        return (item for item in super().reachable(snapshot) if not item.path.startswith("objects/"))
