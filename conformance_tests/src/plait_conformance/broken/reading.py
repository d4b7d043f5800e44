"""Adapters that break a rule of what only reads: snapshots, discovery, diffs, locations, checks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plait.adapter import Side
from plait.errors import InvalidArgument, NotFound
from plait.types import (
    Depth,
    Found,
    Health,
    ItemChange,
    Key,
    Location,
    PastVersion,
    SnapshotRef,
    Staging,
)

from plait_conformance import fake_storage
from plait_conformance.broken.harness import breaks
from plait_conformance.fake_kinds import FakeDoltAdapter


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
    "TestPublish::test_what_is_written_while_a_head_moves_is_not_overwritten_either",
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
