"""Adapters that break one rule each, on purpose: the suite must fail at exactly that rule, or it is blind there.

Each is the strict fake store of a kind with a native head, but for the one thing that its docstring says. `fails` names
the tests that speak of the rule.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from unittest import mock

from plait.adapter import Adapter, Capability, Context, Side
from plait.errors import InvalidArgument, NotFound, PlaitError, StoreUnavailable
from plait.types import (
    Choice,
    Conflicted,
    Depth,
    Found,
    Health,
    Intent,
    Item,
    ItemChange,
    Key,
    Location,
    Merged,
    Move,
    PastVersion,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
    Store,
)

from plait_conformance import fake_storage
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_harness import FakeHarness
from plait_conformance.fake_kinds import FakeDoltAdapter
from plait_conformance.fake_storage import Folder, Head


class BrokenHarness(FakeHarness):
    """A harness whose adapter breaks a rule."""

    fails: ClassVar[frozenset[str]] = frozenset()
    """The tests that must fail, as Class::test. No other of the contract may; what follows of it elsewhere may."""


def breaks(*tests: str) -> Callable[[type[FakeAdapter]], type[BrokenHarness]]:
    """Make the harness of a broken adapter, under the adapter's name."""

    def make(broken: type[FakeAdapter]) -> type[BrokenHarness]:
        return type(broken.__name__, (BrokenHarness,), {"adapter": broken, "fails": frozenset(tests)})

    return make


@breaks("TestSnapshot::test_an_equal_head_gives_an_equal_answer")
class AnswersDifferently(FakeDoltAdapter):
    """`snapshot` of an equal head is another one each time."""

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        found = super().snapshot(tx, assets)
        return {key: replace(snapshot, attrs={"asked": uuid.uuid4().hex}) for key, snapshot in found.items()}


@breaks("TestDiscover::test_asset_is_what_its_snapshots_asset_will_be")
class ForeseesAnotherAsset(FakeDoltAdapter):
    """What is found is foretold as another asset than its snapshot then is of."""

    def discover(self, place: str) -> Iterator[Found]:
        return (replace(found, asset=f"{found.asset}-foretold") for found in super().discover(place))

    def history(self, found: Found) -> Sequence[PastVersion]:
        return super().history(replace(found, asset=found.location))


@breaks("TestDiscover::test_what_a_place_holds_that_snapshot_can_take")
class RefusesWhatItTakes(FakeDoltAdapter):
    """What `snapshot` takes is told as refused."""

    def discover(self, place: str) -> Iterator[Found]:
        return (replace(found, refusal="it is foreign") for found in super().discover(place))


@breaks("TestDiscover::test_writes_nothing")
class WritesWhenItLooks(FakeDoltAdapter):
    """To look into a place leaves a new head there."""

    def discover(self, place: str) -> Iterator[Found]:
        for found in super().discover(place):
            yield found
            fake_storage.write_behind(self.folder.path, found.asset, {"looked": "1"})


@breaks("TestDiscover::test_notfound_for_a_place_that_is_not_there")
class FindsNothingAnywhere(FakeDoltAdapter):
    """A place that is not there is like an empty one."""

    def discover(self, place: str) -> Iterator[Found]:
        return (found for found in super().discover("") if place in ("", found.asset))


@breaks("TestDiscover::test_oldest_first_and_last_what_snapshot_takes")
class TellsHistoryBackwards(FakeDoltAdapter):
    """A native history comes newest first."""

    def history(self, found: Found) -> Sequence[PastVersion]:
        return list(super().history(found))[::-1]


@breaks("TestSnapshot::test_notfound_for_an_asset_that_is_not_there")
class MisnamesAbsence(FakeDoltAdapter):
    """An asset that is not there is called a bad argument."""

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        try:
            return super().snapshot(tx, assets)
        except NotFound as error:
            raise InvalidArgument(error.message) from error


@breaks("TestDiff::test_lazily")
class DiffsAtOnce(FakeDoltAdapter):
    """`diff` is a list, made before anybody looks at it."""

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        return list(super().diff(before, after, items=items))  # type: ignore[return-value]


@breaks(
    "TestDiff::test_items_limits_it",
    "TestDiff::test_or_a_working_sets_staging",
)
class DiffsEverything(FakeDoltAdapter):
    """`diff` does not care which items were asked for."""

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        return super().diff(before, after)


@breaks(
    "TestDiff::test_in_native_key_order",
    "TestMerge::test_every_conflict_in_native_key_order",
)
class DiffsInDisorder(FakeDoltAdapter):
    """`diff` tells what was added first, and what was removed last."""

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        yield from sorted(super().diff(before, after, items=items), key=lambda change: change.kind)


@breaks(
    "TestHarness::test_write_sets_adds_and_removes_rows_and_leaves_the_others",
    "TestLocate::test_how_an_engine_reads_exactly_this_version",
    "TestMerge::test_its_sides_stay_as_they_are",
    "TestPrepare::test_another_attempt_sees_what_was_written_since",
    "TestPublish::test_equal_before_and_after_ask_whether_the_head_is_still_there",
    "TestPublish::test_move_each_native_head_from_its_before_to_its_after",
    "TestPublish::test_or_report_per_key_what_was_found_instead",
    "TestPublish::test_what_somebody_else_wrote_is_never_overwritten",
    "TestRestore::test_the_snapshot_stays_as_it_is",
    "TestSnapshot::test_describe_and_pin_native_heads",
    "TestSucceed::test_contents_data_that_natively_succeeds_onto",
)
class LocatesTheNewest(FakeDoltAdapter):
    """`locate` gives what is newest of the asset, whichever version was asked for."""

    def locate(self, target: SnapshotRef | Staging) -> Location:
        if isinstance(target, Staging):
            return super().locate(target)
        versions = sorted((self.folder.path / "versions").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in reversed(versions):
            record = self.folder.version(path.stem)
            if record is not None and target.asset in record.members:
                return super().locate(self.describe(target.asset, path.stem))
        return super().locate(target)


@breaks("TestLocate::test_of_a_staging_where_native_clients_write")
class LocatesTheBase(FakeDoltAdapter):
    """`locate` gives what a staging began with."""

    def locate(self, target: SnapshotRef | Staging) -> Location:
        base = target.base if isinstance(target, Staging) else target
        assert base is not None
        return super().locate(base)


@breaks("TestLocate::test_shows_no_secret")
class ShowsSecrets(FakeDoltAdapter):
    """`locate` gives away the password."""

    def locate(self, target: SnapshotRef | Staging) -> Location:
        return replace(super().locate(target), options={"password": "plain"})


@breaks("TestLocate::test_the_same_whoever_asks")
class LocatesForItself(FakeDoltAdapter):
    """`locate` names the instance that was asked."""

    def locate(self, target: SnapshotRef | Staging) -> Location:
        return replace(super().locate(target), options={"instance": uuid.uuid4().hex})


@breaks("TestVerify::test_a_changed_byte_is_found_by_bytes")
class VerifiesNoBytes(FakeDoltAdapter):
    """`verify` reads names, never bytes."""

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        return super().verify(snapshot, Depth.METADATA if depth is Depth.BYTES else depth)


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


@breaks("TestSpace::test_only_plaiterror_leaves")
class LetsErrorsOfTheSystemOut(FakeDoltAdapter):
    """What is lost is told in the words of the system."""

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        try:
            yield from super().diff(before, after, items=items)
        except PlaitError as error:
            raise FileNotFoundError(error.message) from error


@breaks("TestFaults::test_killed_at_any_step_both_stores_have_moved_or_neither")
class HasNoFailpoints(FakeDoltAdapter):
    """It says nowhere where it may die."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, replace(context, failpoint=lambda name: None))


@breaks(
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_and_prepare",
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_of_a_new_asset",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore_of_items",
)
class LosesItsVote(FakeDoltAdapter):
    """`prepare` that died half-way and is asked again says that nothing was written."""

    def _name_group(self, stagings: Mapping[Key, Staging]) -> fake_storage.Named:
        begun = self.folder.path / "begun" / next(iter(stagings.values())).tx
        if not fake_storage.write_new(begun, b""):
            return fake_storage.Named(None)
        named = super()._name_group(stagings)
        fake_storage.remove(begun)
        return named


@breaks(
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_and_prepare",
    "TestEveryCallMayBeRepeatedAfterACrash::test_stage_of_a_new_asset",
    "TestEveryCallMayBeRepeatedAfterACrash::test_restore_of_items",
    "TestEveryCallMayBeRepeatedAfterACrash::test_merge",
)
class TakesTornContentForWhole(FakeDoltAdapter):
    """What is stored under its hash is not written at once; half of it, left by a death, is taken for the whole."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.folder = _TornFolder(self.folder.path, context.failpoint)


class _TornFolder(Folder):
    def __init__(self, path: Path, failpoint: Callable[[str], None]) -> None:
        super().__init__(path)
        self._failpoint = failpoint

    def put_object(self, items: Mapping[str, str]) -> str:
        data = fake_storage._pack(dict(items))
        content = hashlib.sha256(data).hexdigest()
        path = self.path / "objects" / content
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[:-1])
            self._failpoint("fake.put_object.half")
            path.write_bytes(data)
        return content


class ExcusesDenials(BrokenHarness):
    """A denial is told as a store that cannot be reached."""

    adapter = FakeDoltAdapter
    fails = frozenset({"TestDenial::test_a_denial_by_the_store_is_reported_as_such_nothing_half_done"})

    @contextmanager
    def denied(self) -> Iterator[None]:
        excuse = StoreUnavailable("the fake store does not answer")
        with mock.patch.object(fake_storage, "_temporary", side_effect=excuse):
            yield


class _CheapDoltAdapter(FakeDoltAdapter):
    capabilities = FakeDoltAdapter.capabilities | {Capability.CHEAP_DIFF}


class ClaimsToBeCheap(BrokenHarness):
    """It claims a cheap diff, and reads everything."""

    adapter = _CheapDoltAdapter
    fails = frozenset({"TestCost::test_what_changed_costs_o_changes_never_o_items"})

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        assert isinstance(adapter, FakeAdapter)
        if not isinstance(adapter.folder, _CountedFolder):
            adapter.folder = _CountedFolder(adapter.folder.path)
        return {"bytes": adapter.folder.read_bytes}


class _CountedFolder(Folder):
    read_bytes = 0

    def object(self, content: str) -> dict[str, str]:
        self.read_bytes += (self.path / "objects" / content).stat().st_size
        return super().object(content)

    def object_bytes(self, content: str) -> bytes | None:
        found = super().object_bytes(content)
        self.read_bytes += len(found or b"")
        return found


BROKEN: Sequence[type[BrokenHarness]] = [
    found
    for found in globals().values()
    if isinstance(found, type) and issubclass(found, BrokenHarness) and found.fails
]
