"""The strict fake store keeps the adapter contract, over all its kinds, and says so when the core does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from plait.adapter import Capability, Context
from plait.clock import ManualClock
from plait.errors import AlreadyExists, InvalidArgument, NotFound, TransactionClosed
from plait.failpoint import armed
from plait.plugins import Plugins
from plait.types import (
    Choice,
    Conflicted,
    ConflictKind,
    Depth,
    Intent,
    ItemChangeKind,
    Json,
    Key,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Store,
)
from plait_conformance import fake_plugin
from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_handles import FakeAsset, FakeNamespace
from plait_conformance.fake_kinds import KINDS
from plait_conformance.fake_storage import head_items, hold, release, write_behind
from plait_conformance.killing import Place, sample
from plait_conformance.testing import MemoryPort, MemoryState

A: Key = ("f", "a")
B: Key = ("f", "b")
DONE = Published(PublishState.DONE)
Items = Mapping[str, str]

headed = pytest.mark.parametrize("kind", [kind.kind for kind in KINDS if Capability.NATIVE_HEAD in kind.capabilities])
ancestral = pytest.mark.parametrize("kind", [kind.kind for kind in KINDS if kind.keeps_ancestry])
CLASSES = {kind.kind: kind for kind in KINDS}


class Died(BaseException):
    """What a test's failpoint raises: no production code catches it."""


def make(kind: str, path: Path) -> FakeAdapter:
    return CLASSES[kind](Store("f", kind, options={"path": str(path)}), Context(MemoryState(), ManualClock()))


@pytest.fixture(params=[kind.kind for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> FakeAdapter:
    return make(kind, tmp_path / "store")


def opened(store: FakeAdapter, port: MemoryPort, key: Key = A, *, new: bool = False) -> FakeAsset:
    return cast(FakeAsset, store.open(port.add(key, new=new), port))


def prepared(
    store: FakeAdapter, tx: str, items: Items, base: SnapshotRef | None = None, key: Key = A, attempt: int = 1
) -> SnapshotRef:
    """A snapshot that a transaction of its own prepared: exactly these items."""
    port = MemoryPort(store, tx, {} if base is None else {key: base})
    asset = opened(store, port, key, new=base is None)
    for item in set(asset) - set(items):
        del asset[item]
    asset.update(items)
    vote = store.prepare(tx, attempt, port.stagings)[key]
    assert vote is not None
    return vote


def held(store: FakeAdapter, snapshot: SnapshotRef) -> dict[str, str]:
    return dict(store.open(snapshot, None))


def publish(store: FakeAdapter, before: SnapshotRef | None, after: SnapshotRef | None, seq: int) -> Published:
    return store.publish({A: Move(before, after, seq)})[A]


def merge_sides(store: FakeAdapter, sides: Mapping[str, SnapshotRef], *resolutions: Resolution) -> Merged | Conflicted:
    return store.merge("t3", 1, base=sides["base"], ours=sides["ours"], theirs=sides["theirs"], resolutions=resolutions)


class TestRegistration:
    def test_the_plugin_registers_every_kind(self) -> None:
        plugins = Plugins([fake_plugin], installed=False)
        assert plugins.kinds == sorted(["fake", "fake-block", "fake-delta", "fake-dolt", "fake-shared"])

    def test_a_child_process_finds_the_kinds_by_the_entry_point(self) -> None:
        assert set(CLASSES) <= set(Plugins().kinds)

    @pytest.mark.parametrize("options", [{}, {"path": "/x", "other": "1"}])
    def test_options_are_checked(self, options: dict[str, str]) -> None:
        with pytest.raises(InvalidArgument, match="path"):
            FakeAdapter(Store("f", "fake", options=options), Context(MemoryState()))

    def test_making_an_adapter_writes_nothing(self, kind: str, tmp_path: Path) -> None:
        make(kind, tmp_path / "store")
        assert not (tmp_path / "store").exists()


class TestStaging:
    def test_staged_already_is_the_same_place_and_never_reset(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        opened(store, port, new=True)["x"] = "1"
        again = store.stage("t1", port.intents)[A]
        assert again == port.get(A)
        assert dict(store.open(again, None)) == {"x": "1"}

    def test_a_staging_starts_as_its_base(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        assert dict(opened(store, MemoryPort(store, "t2", {A: base}))) == {"x": "1"}

    def test_stagings_are_isolated_and_so_is_their_base(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        one, two = (opened(store, MemoryPort(store, tx, {A: base})) for tx in ("t2", "t3"))
        one["x"] = "2"
        assert (dict(one), dict(two), held(store, base)) == ({"x": "2"}, {"x": "1"}, {"x": "1"})

    def test_nothing_is_written_once_the_transaction_is_sealed(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        asset = opened(store, port, new=True)
        port.closed = True
        with pytest.raises(TransactionClosed):
            asset["x"] = "1"
        assert dict(asset) == {}

    def test_a_handle_of_a_renamed_key_writes_no_more(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        asset = opened(store, port, new=True)
        port.move(A, B)
        with pytest.raises(TransactionClosed, match="open it again"):
            asset["x"] = "1"

    def test_only_json_text_is_an_item(self, store: FakeAdapter) -> None:
        with pytest.raises(InvalidArgument, match="JSON"):
            opened(store, MemoryPort(store, "t1"), new=True)["x"] = "{"

    @pytest.mark.parametrize("item", [".", "..", "a/b", "é ☃", ".hidden"])
    def test_any_text_names_an_item(self, store: FakeAdapter, item: str) -> None:
        assert held(store, prepared(store, "t1", {item: "1"})) == {item: "1"}

    def test_a_snapshot_opens_read_only(self, store: FakeAdapter) -> None:
        opened_snapshot = store.open(prepared(store, "t1", {"x": "1"}), None)
        assert not hasattr(opened_snapshot, "__setitem__")

    def test_the_namespace_creates_renames_and_drops(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1", {B: prepared(store, "t0", {"x": "1"}, key=B)})
        namespace: FakeNamespace = store.open_store(port)
        namespace.create("a")["y"] = "2"
        with pytest.raises(AlreadyExists):
            namespace.create("b")
        namespace.rename("a", "c")
        namespace.drop("b")
        assert namespace.names() == [("c",)]
        assert dict(namespace.open("c")) == {"y": "2"}
        assert port.dropped == {B}


class TestPrepare:
    def test_a_vote_is_immutable(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        asset = opened(store, port, new=True)
        asset["x"] = "1"
        vote = store.prepare("t1", 1, port.stagings)[A]
        assert vote is not None
        asset["x"] = "2"
        assert held(store, vote) == {"x": "1"}

    def test_the_same_attempt_is_the_same_vote_whatever_was_written_since(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        asset = opened(store, port, new=True)
        asset["x"] = "1"
        votes = store.prepare("t1", 1, port.stagings)
        asset["x"] = "2"
        assert store.prepare("t1", 1, port.stagings) == votes
        later = store.prepare("t1", 2, port.stagings)[A]
        assert later is not None
        assert held(store, later) == {"x": "2"}

    def test_an_untouched_staging_votes_its_base(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        port = MemoryPort(store, "t2", {A: base})
        asset = opened(store, port)
        asset["y"] = "2"
        del asset["y"]
        assert store.prepare("t2", 1, port.stagings) == {A: base}

    def test_a_vote_is_not_the_head(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        assert head_items(store.folder.path, vote.asset) is None

    def test_a_vote_is_pinned(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        assert store.folder.pins_of(vote.version) == {"t1"}

    def test_an_asset_keeps_its_identity(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        assert prepared(store, "t2", {"x": "2"}, base).asset == base.asset

    def test_equal_content_is_an_equal_digest(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        back = prepared(store, "t3", {"x": "1"}, prepared(store, "t2", {"x": "2"}, base))
        assert back.digest == base.digest
        assert (back.version == base.version) is not store.keeps_ancestry

    @pytest.mark.parametrize("kind", ["fake-dolt"])
    def test_equal_commits_of_dolt_are_different_versions(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        one, two = (prepared(store, tx, {"x": "2"}, base) for tx in ("t2", "t3"))
        assert one.version != two.version
        assert one.digest == two.digest

    @pytest.mark.parametrize("kind", ["fake-shared"])
    def test_keys_of_one_transaction_share_a_snapshot(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1", {A: prepared(store, "t0", {"x": "0"})})
        opened(store, port)
        for key in (B, ("f", "c")):
            opened(store, port, key, new=True)["x"] = "1"
        votes = store.prepare("t1", 1, port.stagings)
        b, c = votes[B], votes["f", "c"]
        assert b is not None
        assert c is not None
        assert b.version == c.version
        assert b.asset != c.asset
        assert votes[A] == port.base(A), "an untouched key keeps its own snapshot"

    @pytest.mark.parametrize("kind", ["fake-block"])
    def test_a_place_left_frozen_thaws_for_the_next_writer(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        asset = opened(store, port, new=True)
        with pytest.raises(Died), armed(raise_at("fake.prepare.frozen", 1)):
            store.prepare("t1", 1, port.stagings)
        staging = port.get(A)
        assert staging is not None
        assert store.folder.is_frozen(staging.location)
        asset["x"] = "1"
        assert not store.folder.is_frozen(staging.location)


class TestImport:
    def test_an_equal_head_is_an_equal_answer_and_is_pinned(self, store: FakeAdapter) -> None:
        write_behind(store.folder.path, "native", {"x": "1"})
        one, two = (store.snapshot(tx, {A: "native"})[A] for tx in ("t1", "t2"))
        assert one == two
        assert store.folder.pins_of(one.version) == {"t1", "t2"}
        assert held(store, one) == {"x": "1"}

    def test_an_unknown_asset_is_not_found(self, store: FakeAdapter) -> None:
        with pytest.raises(NotFound, match="native"):
            store.snapshot("t1", {A: "native"})

    def test_an_asset_imported_in_place_is_staged_when_it_is_written(self, store: FakeAdapter) -> None:
        write_behind(store.folder.path, "native", {"x": "1"})
        found = store.snapshot("t1", {A: "native"})[A]
        port = MemoryPort(store, "t1", {A: found})
        staging = port.add(A)
        assert port.compare_and_set(A, staging.location, found.version)
        in_place = replace(staging, location=found.version)
        assert store.prepare("t1", 1, {A: in_place}) == {A: found}
        cast(FakeAsset, store.open(in_place, port))["y"] = "2"
        vote = store.prepare("t1", 2, port.stagings)[A]
        assert vote is not None
        assert held(store, vote) == {"x": "1", "y": "2"}


class TestDiff:
    def test_items_are_named_in_order(self, store: FakeAdapter) -> None:
        before = prepared(store, "t1", {"a": "1", "b": "1", "d": "1"})
        after = prepared(store, "t2", {"a": "2", "c": "[3]", "d": "1"}, before)
        assert [(one.item, one.kind, one.before, one.after) for one in store.diff(before, after)] == [
            ("a", ItemChangeKind.CHANGED, 1, 2),
            ("b", ItemChangeKind.REMOVED, 1, None),
            ("c", ItemChangeKind.ADDED, None, [3]),
        ]
        assert [one.item for one in store.diff(before, after, items=["c", "d"])] == ["c"]
        assert list(store.diff(after, after)) == []

    def test_a_staging_is_a_side_and_so_is_nothing(self, store: FakeAdapter) -> None:
        port = MemoryPort(store, "t1")
        opened(store, port, new=True)["x"] = "1"
        assert [one.item for one in store.diff(None, port.get(A))] == ["x"]


class TestJoining:
    def sides(self, store: FakeAdapter, base: Items, ours: Items, theirs: Items) -> dict[str, SnapshotRef]:
        first = prepared(store, "t0", base)
        return {
            "base": first,
            "ours": prepared(store, "t1", ours, first),
            "theirs": prepared(store, "t2", theirs, first),
        }

    def test_a_merge_takes_what_each_side_changed(self, store: FakeAdapter) -> None:
        sides = self.sides(store, {"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "1", "c": "3"})
        merged = merge_sides(store, sides)
        assert isinstance(merged, Merged)
        assert held(store, merged.snapshot) == {"a": "2", "c": "3"}
        assert merge_sides(store, sides) == merged
        assert store.folder.pins_of(merged.snapshot.version) == {"t3"}

    @ancestral
    def test_a_merge_succeeds_both_sides(self, store: FakeAdapter) -> None:
        sides = self.sides(store, {"a": "1"}, {"a": "1", "b": "1"}, {"a": "1", "c": "3"})
        merged = merge_sides(store, sides)
        assert isinstance(merged, Merged)
        for side in ("ours", "theirs"):
            assert store.succeed("t3", 1, onto=sides[side], content=merged.snapshot) == merged.snapshot

    def test_every_conflict_is_listed_in_order(self, store: FakeAdapter) -> None:
        sides = self.sides(store, {"a": "1", "b": "1"}, {"a": "2"}, {"a": "3", "b": "4"})
        conflicted = merge_sides(store, sides)
        assert isinstance(conflicted, Conflicted)
        assert [(one.item, one.kind, one.base, one.ours, one.theirs) for one in conflicted.conflicts] == [
            ("a", ConflictKind.ITEM_CHANGED, 1, 2, 3),
            ("b", ConflictKind.ITEM_CHANGED, 1, None, 4),
        ]

    @pytest.mark.parametrize(
        ("choice", "value", "expected"),
        [
            (Choice.OURS, None, {"a": "2"}),
            (Choice.THEIRS, None, {"a": "3"}),
            (Choice.BASE, None, {"a": "1"}),
            (Choice.VALUE, 9, {"a": "9"}),
            (Choice.VALUE, None, {}),
        ],
    )
    def test_a_resolution_settles_an_item(
        self, store: FakeAdapter, choice: Choice, value: Json, expected: Items
    ) -> None:
        sides = self.sides(store, {"a": "1"}, {"a": "2"}, {"a": "3"})
        merged = merge_sides(store, sides, Resolution(A, "a", choice, value))
        assert isinstance(merged, Merged)
        assert held(store, merged.snapshot) == expected

    @ancestral
    def test_what_succeeds_already_succeeds_by_itself(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        second = prepared(store, "t2", {"x": "2"}, first)
        assert store.succeed("t3", 1, onto=first, content=second) == second

    @ancestral
    def test_a_revert_is_a_new_version_with_old_content(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        second = prepared(store, "t2", {"x": "2"}, first)
        back = store.succeed("t3", 1, onto=second, content=first)
        assert back.version != first.version
        assert back.digest == first.digest
        assert store.succeed("t3", 1, onto=second, content=first) == back
        assert store.succeed("t3", 1, onto=second, content=back) == back

    @pytest.mark.parametrize("kind", ["fake", "fake-block", "fake-shared"])
    def test_without_ancestry_everything_succeeds_everything(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        assert store.succeed("t3", 1, onto=prepared(store, "t2", {"x": "2"}, first), content=first) == first


class TestRestore:
    def test_whole(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        port = MemoryPort(store, "t3", {A: prepared(store, "t2", {"y": "2"}, first)})
        staging = port.add(A)
        restored = store.restore("t3", staging, first, items=None)
        assert store.restore("t3", staging, first, items=None) == restored
        assert dict(store.open(restored, None)) == {"x": "1"}
        vote = store.prepare("t3", 1, {A: restored})[A]
        assert vote is not None
        assert (vote.digest, vote.asset) == (first.digest, first.asset)

    def test_items(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1", "gone": "1"})
        port = MemoryPort(store, "t3", {A: prepared(store, "t2", {"x": "2", "y": "2", "new": "2"}, first)})
        for _ in range(2):
            restored = store.restore("t3", port.add(A), first, items=["x", "gone", "new"])
            assert dict(store.open(restored, None)) == {"x": "1", "gone": "1", "y": "2"}

    def test_a_dropped_asset_comes_back_as_itself(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        restored = store.restore("t2", store.stage("t2", {A: Intent("i2", None)})[A], first, items=None)
        vote = store.prepare("t2", 1, {A: restored})[A]
        assert vote is not None
        assert (vote.asset, vote.digest) == (first.asset, first.digest)


class TestAbort:
    def test_nothing_of_the_transaction_stays(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        store.abort("t1")
        store.abort("t1")
        for what in ("pins", "stagings", "names"):
            assert not (store.folder.path / what / "t1").exists()
        assert "not pinned" in store.verify(vote, Depth.EXISTS).problems[0]

    def test_an_unknown_transaction_is_fine(self, store: FakeAdapter) -> None:
        store.abort("never-seen")
        assert list(store.inventory()) == []

    def test_what_another_transaction_made_too_stays(self, store: FakeAdapter) -> None:
        base = prepared(store, "t1", {"x": "1"})
        kept = prepared(store, "t2", {"x": "2"}, base)
        prepared(store, "t3", {"x": "2"}, base)
        store.abort("t3")
        assert store.verify(kept, Depth.BYTES).problems == ()


@headed
class TestPublish:
    def test_a_published_head_is_what_native_readers_see(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        assert publish(store, None, first, 1) == DONE
        assert head_items(store.folder.path, first.asset) == {"x": "1"}

    def test_publish_twice_is_publish_once(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        assert publish(store, None, first, 1) == DONE
        log = store.folder.log(first.asset)
        assert publish(store, None, first, 1) == DONE
        assert store.folder.log(first.asset) == log

    def test_a_foreign_write_is_found_and_never_overwritten(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 1)
        version = write_behind(store.folder.path, first.asset, {"x": "7"})
        answer = publish(store, first, prepared(store, "t2", {"x": "2"}, first), 2)
        assert answer.state is PublishState.DIVERGED
        assert answer.found is not None
        assert answer.found.version == version
        assert head_items(store.folder.path, first.asset) == {"x": "7"}
        assert store.verify(answer.found, Depth.BYTES).problems == ()

    def test_a_foreign_drop_is_found(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 1)
        write_behind(store.folder.path, first.asset, None)
        answer = publish(store, first, prepared(store, "t2", {"x": "2"}, first), 2)
        assert answer == Published(PublishState.DIVERGED, None)

    def test_unpublishing_deletes_no_data(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 1)
        assert publish(store, first, None, 2) == DONE
        assert publish(store, first, None, 2) == DONE
        assert head_items(store.folder.path, first.asset) is None
        assert held(store, first) == {"x": "1"}
        assert publish(store, None, first, 3) == DONE

    def test_a_foreign_append_between_look_and_write_is_noticed(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 1)
        second = prepared(store, "t2", {"x": "2"}, first)
        appended: list[str] = []

        def append(name: str) -> None:
            if name == "fake.publish.before_head" and not appended:
                appended.append(name)
                head = store.folder.head(first.asset)
                store.folder.append_head(first.asset, replace(head, number=head.number + 1, seq=0, version=None))

        with armed(append):
            assert publish(store, first, second, 2) == Published(PublishState.DIVERGED, None)
        assert appended

    def test_a_head_at_after_is_done_even_when_busy(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 1)
        hold(store.folder.path, first.asset)
        assert publish(store, None, first, 1) == DONE


class TestPublishOfKinds:
    @pytest.mark.parametrize("kind", ["fake-block"])
    def test_a_held_head_is_busy_until_it_is_released(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        hold(store.folder.path, first.asset)
        assert publish(store, None, first, 1) == Published(PublishState.BUSY)
        assert head_items(store.folder.path, first.asset) is None
        release(store.folder.path, first.asset)
        assert publish(store, None, first, 1) == DONE

    @pytest.mark.parametrize("kind", ["fake-dolt"])
    def test_a_torn_publish_is_repaired_by_the_next(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        with pytest.raises(Died), armed(raise_at("fake.publish.after_head", 1)):
            publish(store, None, first, 1)
        assert store.folder.working(first.asset) < store.folder.head(first.asset).number
        assert publish(store, None, first, 1) == DONE
        assert store.folder.working(first.asset) == store.folder.head(first.asset).number


class TestSpace:
    def test_reachable_is_part_of_the_inventory(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        needed = {item.path for item in store.reachable(vote)}
        assert needed <= {item.path for item in store.inventory()}
        assert {path.split("/")[0] for path in needed} == {"objects", "versions", "pins"}
        assert [item.path for item in store.inventory("pins/t1")] == [f"pins/t1/{vote.version}"]

    def test_what_is_unreachable_is_deleted_and_the_rest_stays(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        lost = prepared(store, "t2", {"x": "2"}, first)
        store.abort("t2")
        needed = {item.path for item in store.reachable(first)}
        store.delete([item for item in store.inventory() if item.path not in needed])
        assert {item.path for item in store.inventory()} == needed
        assert store.verify(first, Depth.BYTES).problems == ()
        assert store.verify(lost, Depth.EXISTS).problems != ()

    def test_retention_takes_a_snapshot_with_its_pins(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        store.delete(list(store.reachable(first)))
        assert list(store.inventory()) == []

    def test_verify_is_as_deep_as_asked(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        path = store.folder.path / "objects" / vote.digest.hex()
        path.write_text("{}")
        assert store.verify(vote, Depth.METADATA).problems == ()
        assert "not what its name says" in store.verify(vote, Depth.BYTES).problems[0]
        path.unlink()
        assert store.verify(vote, Depth.EXISTS).problems == ()
        assert "is missing" in store.verify(vote, Depth.METADATA).problems[0]

    def test_locate_names_the_bytes(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        assert vote.digest.hex() in store.locate(vote).uri


class TestStrictness:
    """Each wrong call of the core is an AssertionError: sabotage of the contract is seen at once."""

    @headed
    def test_a_snapshot_that_nobody_prepared_is_not_published(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        store.abort("t1")
        with pytest.raises(AssertionError, match="not pinned"):
            publish(store, None, vote, 1)

    @headed
    def test_seq_must_grow(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        publish(store, None, first, 4)
        with pytest.raises(AssertionError, match="does not grow"):
            publish(store, first, prepared(store, "t2", {"x": "2"}, first), 4)

    @ancestral
    def test_a_head_moves_to_descendants_only(self, store: FakeAdapter) -> None:
        first = prepared(store, "t1", {"x": "1"})
        second = prepared(store, "t2", {"x": "2"}, first)
        publish(store, None, second, 1)
        with pytest.raises(AssertionError, match="does not descend"):
            publish(store, second, first, 2)

    @headed
    def test_a_published_transaction_is_not_aborted(self, store: FakeAdapter) -> None:
        publish(store, None, prepared(store, "t1", {"x": "1"}), 1)
        with pytest.raises(AssertionError, match="was published"):
            store.abort("t1")

    @headed
    def test_a_move_is_of_something(self, store: FakeAdapter) -> None:
        with pytest.raises(AssertionError, match="move"):
            publish(store, None, None, 1)

    @pytest.mark.parametrize("kind", ["fake"])
    def test_a_store_without_heads_publishes_nothing(self, store: FakeAdapter) -> None:
        with pytest.raises(AssertionError, match="no head"):
            publish(store, None, prepared(store, "t1", {"x": "1"}), 1)

    def test_an_unknown_staging_is_not_prepared(self, store: FakeAdapter) -> None:
        staging = store.stage("t1", {A: Intent("i1", None)})[A]
        with pytest.raises(AssertionError, match="never staged"):
            store.prepare("t1", 1, {A: replace(staging, location="stagings/t1/elsewhere")})
        with pytest.raises(AssertionError, match=r"is not f\.a of t2"):
            store.prepare("t2", 1, {A: staging})

    @pytest.mark.parametrize("equal", ["ours and theirs", "base and ours", "base and theirs"])
    def test_only_true_three_way_cases_are_merged(self, store: FakeAdapter, equal: str) -> None:
        first = prepared(store, "t0", {"a": "1"})
        second = prepared(store, "t1", {"a": "2"}, first)
        same = {"ours and theirs": (first, second, second), "base and ours": (first, first, second)}
        base, ours, theirs = same.get(equal, (first, second, first))
        with pytest.raises(AssertionError, match="equal sides"):
            store.merge("t3", 1, base=base, ours=ours, theirs=theirs)

    def test_different_assets_are_not_merged(self, store: FakeAdapter) -> None:
        ours, theirs = prepared(store, "t1", {"a": "1"}), prepared(store, "t2", {"a": "2"})
        with pytest.raises(AssertionError, match="different assets"):
            store.merge("t3", 1, base=None, ours=ours, theirs=theirs)

    def test_what_a_pin_needs_is_not_deleted(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        for item in store.reachable(vote):
            if not item.path.startswith("pins/"):
                with pytest.raises(AssertionError, match="needs"):
                    store.delete([item])
        assert store.verify(vote, Depth.BYTES).problems == ()

    @headed
    def test_what_a_head_needs_is_not_deleted(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        publish(store, None, vote, 1)
        with pytest.raises(AssertionError, match="needs"):
            store.delete(list(store.reachable(vote)))

    def test_another_stores_snapshot_is_refused(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        with pytest.raises(AssertionError, match="not this store's"):
            store.verify(replace(vote, store="g"), Depth.EXISTS)
        with pytest.raises(AssertionError, match="not in store"):
            store.stage("t1", {("g", "a"): Intent("i1", None)})

    def test_nothing_is_called_after_close(self, store: FakeAdapter) -> None:
        vote = prepared(store, "t1", {"x": "1"})
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            store.check,
            store.inventory,
            lambda: store.stage("t2", {A: Intent("i2", None)}),
            lambda: store.verify(vote, Depth.EXISTS),
            lambda: store.diff(vote, vote),
            lambda: store.abort("t2"),
        ]
        for call in calls:
            with pytest.raises(AssertionError, match="after close"):
                call()

    def test_the_trace_is_what_was_called(self, store: FakeAdapter) -> None:
        prepared(store, "t1", {"x": "1"})
        assert [call.name for call in store.trace] == ["stage", "open", "prepare"]
        assert store.trace[-1].args[:2] == ("t1", 1)


# -- crashes -----------------------------------------------------------------------------------------------------------


def raise_at(name: str, count: int) -> Callable[[str], None]:
    remaining = count

    def handle(reached: str) -> None:
        nonlocal remaining
        if reached == name:
            remaining -= 1
            if remaining == 0:
                raise Died(name)

    return handle


State = dict[str, SnapshotRef]
Step = Callable[[FakeAdapter, State], object]


def write_first(store: FakeAdapter, made: State) -> object:
    port = MemoryPort(store, "t1")
    for key in (A, B):
        asset = opened(store, port, key, new=key not in port.stagings)
        asset["x"] = "1"
        asset["y"] = "1"
        del asset["y"]
    vote = store.prepare("t1", 1, port.stagings)[A]
    assert vote is not None
    made["a"] = vote
    return held(store, vote)


def write_both_sides(store: FakeAdapter, made: State) -> object:
    for name, tx in (("ours", "t2"), ("theirs", "t3")):
        made[name] = prepared(store, tx, {"x": "1", tx: "2"}, made["a"])
    return held(store, made["ours"]), held(store, made["theirs"])


def merge(store: FakeAdapter, made: State) -> object:
    merged = store.merge("t4", 1, base=made["a"], ours=made["ours"], theirs=made["theirs"])
    assert isinstance(merged, Merged)
    made["merged"] = merged.snapshot
    return held(store, merged.snapshot)


def go_back(store: FakeAdapter, made: State) -> object:
    made["back"] = store.succeed("t5", 1, onto=made["merged"], content=made["a"])
    return held(store, made["back"])


def publish_step(before: str | None, after: str | None, seq: int) -> Step:
    def step(store: FakeAdapter, made: State) -> object:
        if Capability.NATIVE_HEAD not in store.capabilities:
            return None
        sides = [None if name is None else made[name] for name in (before, after)]
        return publish(store, sides[0], sides[1], seq), head_items(store.folder.path, made["a"].asset)

    return step


def restore(store: FakeAdapter, made: State) -> object:
    staging = store.stage("t6", {A: Intent("i6", made["merged"])})[A]
    staging = store.restore("t6", staging, made["a"], items=["t2", "t3"])
    opened(store, MemoryPort(store, "t6", {A: made["merged"]}))["lost"] = "1"
    items = dict(store.open(staging, None))
    store.prepare("t6", 1, {A: staging})
    staging = store.restore("t6", staging, made["ours"], items=None)
    store.prepare("t6", 2, {A: staging})
    return items, dict(store.open(staging, None))


def abort(store: FakeAdapter, made: State) -> object:
    store.abort("t6")
    return "t6" in {tx for tx, _ in store.folder.pins()}


def sweep(store: FakeAdapter, made: State) -> object:
    needed = {item.path for side in made.values() for item in store.reachable(side)}
    store.delete([item for item in store.inventory() if item.path not in needed])
    left = {item.path for item in store.inventory()} - needed
    return left, [store.verify(side, Depth.BYTES).problems for side in made.values()]


STEPS: tuple[Step, ...] = (
    write_first,
    publish_step(None, "a", 1),
    write_both_sides,
    publish_step("a", "ours", 2),
    merge,
    publish_step("ours", "merged", 3),
    go_back,
    publish_step("merged", "back", 4),
    restore,
    abort,
    sweep,
    publish_step("back", None, 5),
)


def run(kind: str, path: Path, handler: Callable[[str], None]) -> tuple[list[object], list[str]]:
    """Every step's answer. A step that dies is repeated by a new instance, as after a restart; the places of deaths."""
    made: State = {}
    answers: list[object] = []
    died = []
    for step in STEPS:
        try:
            with armed(handler):
                answer = step(make(kind, path), made)
        except Died as death:
            died.append(str(death))
            answer = step(make(kind, path), made)
        answers.append(answer)
    return answers, died


def places(kind: str, path: Path) -> list[tuple[str, int]]:
    """Where to die: the first and the last time of each name; with PLAIT_SOAK=1 each time."""
    reached: list[str] = []
    run(kind, path, reached.append)
    found = [Place(name, reached[: place + 1].count(name)) for place, name in enumerate(reached)]
    return [(place.name, place.count) for place in sample(found, 1_000 if os.environ.get("PLAIT_SOAK") else 2)]


def test_a_call_that_died_anywhere_is_repeated_with_the_same_effect(kind: str, tmp_path: Path) -> None:
    expected, _ = run(kind, tmp_path / "whole", lambda name: None)
    assert expected[-2] == (set(), [()] * 5)
    for name, count in places(kind, tmp_path / "recorded"):
        answers, died = run(kind, tmp_path / f"{name}-{count}", raise_at(name, count))
        assert died == [name]
        assert answers == expected, f"died at {name}@{count}"


@pytest.mark.parametrize("kind", ["fake-dolt"])
def test_after_any_crash_and_repeat_the_working_set_follows_the_head(kind: str, tmp_path: Path) -> None:
    publishing = [place for place in places(kind, tmp_path / "recorded") if place[0].startswith("fake.publish")]
    assert len({name for name, _ in publishing}) == 3
    for name, count in publishing:
        path = tmp_path / f"{name}-{count}"
        run(kind, path, raise_at(name, count))
        store = make(kind, path)
        for asset, head in store.folder.heads().items():
            assert store.folder.working(asset) == head.number


def test_every_step_between_two_writes_is_a_failpoint(kind: str, tmp_path: Path) -> None:
    names = {name for name, _ in places(kind, tmp_path / "recorded")}
    made = {"named", "pinned", "version_written", "object_written"}
    assert {f"fake.prepare.{step}" for step in made} <= names
    assert {f"fake.merge.{step}" for step in made} <= names
    assert {f"fake.abort.{what}_forgotten" for what in ("pins", "stagings", "names")} <= names
    assert {"fake.write.before_item", "fake.restore.item_written", "fake.delete.before_item"} <= names
    if Capability.NATIVE_HEAD in CLASSES[kind].capabilities:
        assert {"fake.publish.before_head", "fake.publish.after_head"} <= names
