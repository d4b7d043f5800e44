"""The adapter on a real directory, alone and in a catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import plait
import pytest
from plait.catalog import Catalog
from plait.codec import ref_digest
from plait.errors import CommitConflict, InvalidArgument, Unsupported
from plait.failpoint import armed
from plait.types import Choice, Depth, ItemChangeKind, Move, Proposal, PublishState, Put, SnapshotRef, Staging, Store
from plait_conformance.testing import MemoryPort, intent_of, make_adapter
from plait_files.adapter import FilesAdapter
from plait_files.filesystem import AssetFileSystem

KEY = ("raw", "landing")


class Died(Exception):
    """A process that stopped."""


@pytest.fixture
def adapter(tmp_path: Path) -> FilesAdapter:
    made = make_adapter(FilesAdapter, Store("raw", "files", options={"path": str(tmp_path / "raw")}))
    assert isinstance(made, FilesAdapter)
    return made


def write(adapter: FilesAdapter, tx: str, base: SnapshotRef | None, objects: dict[str, bytes]) -> Staging:
    port = MemoryPort(adapter, tx, {KEY: base} if base else {})
    staging = port.add(KEY, new=base is None)
    adapter.open(staging, port).pipe(objects)
    return staging


def vote(adapter: FilesAdapter, staging: Staging, attempt: int = 1) -> SnapshotRef:
    voted = adapter.prepare(staging.tx, attempt, {KEY: staging})[KEY]
    assert voted is not None
    return voted


def content(adapter: FilesAdapter, snapshot: SnapshotRef) -> dict[str, bytes]:
    objects = adapter.open(snapshot, None)
    return {name: objects.cat_file(name) for name in objects.find("")}


def test_a_prepared_snapshot_reads_back_and_later_writes_do_not_alter_it(adapter: FilesAdapter) -> None:
    staging = write(adapter, "t1", None, {"a": b"1", "b/c": b"2"})
    voted = vote(adapter, staging)
    (Path(staging.location) / "files" / "a").write_bytes(b"later")
    assert content(adapter, voted) == {"a": b"1", "b/c": b"2"}
    assert vote(adapter, staging) == voted
    assert content(adapter, vote(adapter, staging, attempt=2)) == {"a": b"later", "b/c": b"2"}


def test_an_untouched_staging_votes_its_base(adapter: FilesAdapter) -> None:
    base = vote(adapter, write(adapter, "t1", None, {"a": b"1"}))
    assert vote(adapter, write(adapter, "t2", base, {})) == base


def test_equal_content_has_an_equal_digest_whatever_the_way(adapter: FilesAdapter) -> None:
    base = vote(adapter, write(adapter, "t1", None, {"a": b"1"}))
    longer = vote(adapter, write(adapter, "t2", base, {"b": b"2"}))
    port = MemoryPort(adapter, "t3", {KEY: longer})
    adapter.open(port.add(KEY), port).rm("b")
    assert vote(adapter, port.stagings[KEY]).digest == base.digest


def test_any_tool_may_write_plain_files_into_a_staging(adapter: FilesAdapter) -> None:
    staging = write(adapter, "t1", None, {})
    (Path(staging.location) / "files" / "by-hand.csv").write_bytes(b"x")
    assert content(adapter, vote(adapter, staging)) == {"by-hand.csv": b"x"}


def test_staging_again_resets_nothing(adapter: FilesAdapter) -> None:
    staging = write(adapter, "t1", None, {"a": b"1"})
    assert adapter.stage("t1", {KEY: intent_of("t1")})[KEY] == staging
    assert content(adapter, vote(adapter, staging)) == {"a": b"1"}


def test_a_committed_snapshot_is_read_only(adapter: FilesAdapter) -> None:
    voted = vote(adapter, write(adapter, "t1", None, {"a": b"1"}))
    with pytest.raises(Unsupported):
        adapter.open(voted, None).pipe("a", b"2")
    with pytest.raises(Unsupported):
        adapter.open(voted, None).rm("a")


@pytest.mark.parametrize("name", ["../escape", "a//b", "a/../../b", "/../x"])
def test_names_that_leave_the_folder_are_refused(adapter: FilesAdapter, name: str) -> None:
    port = MemoryPort(adapter, "t1")
    objects = adapter.open(port.add(KEY, new=True), port)
    with pytest.raises(InvalidArgument):
        objects.pipe(name, b"x")


@pytest.mark.parametrize("name", ["a b", "ü/ß", "a-b", "%2F", "x" * 200, "p/q"])
def test_odd_names_survive(adapter: FilesAdapter, name: str) -> None:
    base = vote(adapter, write(adapter, "t1", None, {name: b"1", "other": b"2"}))
    assert content(adapter, base) == {name: b"1", "other": b"2"}
    port = MemoryPort(adapter, "t2", {KEY: base})
    adapter.open(port.add(KEY), port).rm(name)
    assert content(adapter, vote(adapter, port.stagings[KEY])) == {"other": b"2"}


def test_a_commit_of_one_object_among_many_writes_few_chunks(adapter: FilesAdapter) -> None:
    manifests = adapter._manifests
    kept = adapter._folder.put_object(b"x")
    entry = __import__("plait_files.manifest", fromlist=["Content"]).Content(*kept)
    root = manifests.edit(manifests.scratch(), manifests.empty(), {f"{n:06}": entry for n in range(3000)})
    assert root
    built = manifests.edit(manifests.tree, manifests.empty(), {f"{n:06}": entry for n in range(3000)})
    before = manifests.nodes.written, manifests.nodes.written_bytes
    manifests.edit(manifests.tree, built, {"001500x": entry})
    assert manifests.nodes.written - before[0] <= 6
    assert manifests.nodes.written_bytes - before[1] <= 64 * 1024


def test_publish_twice_is_publish_once_and_foreign_heads_are_kept(adapter: FilesAdapter) -> None:
    one = vote(adapter, write(adapter, "t1", None, {"a": b"1"}))
    two = vote(adapter, write(adapter, "t2", one, {"a": b"2"}))
    three = vote(adapter, write(adapter, "t3", one, {"a": b"3"}))
    for _ in range(2):
        assert adapter.publish({KEY: Move(None, one, 1)})[KEY].state is PublishState.DONE
    assert adapter.publish({KEY: Move(one, three, 2)})[KEY].state is PublishState.DONE
    found = adapter.publish({KEY: Move(one, two, 3)})[KEY]
    assert found.state is PublishState.DIVERGED
    assert found.found == three


def test_a_death_anywhere_in_prepare_changes_no_answer(adapter: FilesAdapter) -> None:
    reached: list[str] = []
    staging = write(adapter, "t0", None, {"a": b"1", "b": b"2"})
    with armed(reached.append):
        expected = vote(adapter, staging)
    assert len(reached) >= 4
    for number in range(len(reached)):
        staging = write(adapter, f"d{number}", None, {"a": b"1", "b": b"2"})
        left = iter(range(number))

        def die(name: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Died(name)

        with armed(die), pytest.raises(Died):
            vote(adapter, staging)
        assert vote(adapter, staging).digest == expected.digest


def test_verify_finds_flipped_and_lost_objects(adapter: FilesAdapter) -> None:
    voted = vote(adapter, write(adapter, "t1", None, {"a": b"1", "b": b"2"}))
    assert adapter.verify(voted, Depth.BYTES).problems == ()
    objects = sorted((adapter._folder.root / "objects").rglob("*"))
    kept = [path for path in objects if path.is_file()]
    kept[0].write_bytes(b"9")
    assert adapter.verify(voted, Depth.METADATA).problems == ()
    assert len(adapter.verify(voted, Depth.BYTES).problems) == 1
    kept[0].unlink()
    assert len(adapter.verify(voted, Depth.METADATA).problems) == 1


def test_abort_leaves_nothing_and_may_be_repeated(adapter: FilesAdapter) -> None:
    staging = write(adapter, "t1", None, {"a": b"1"})
    vote(adapter, staging)
    for _ in range(2):
        adapter.abort("t1")
    adapter.abort("unknown")
    assert not Path(staging.location).exists()


def test_reachable_names_are_in_the_inventory(adapter: FilesAdapter) -> None:
    voted = vote(adapter, write(adapter, "t1", None, {"a": b"1", "b": b"2"}))
    needed = {item.path for item in adapter.reachable(voted)}
    assert needed <= {item.path for item in adapter.inventory()}
    assert len([path for path in needed if path.startswith("objects/")]) == 2


class TestInACatalog:
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        with plait.init(tmp_path) as made:
            made.add_store("raw", "files", {"path": str(tmp_path / "raw")})
            self.write(made, "main", {"x.json": b'{"a":1,"b":1}', "t.txt": b"1\n2\n", "bin": b"\0"}, create=True)
            made.create_branch("dev")
            yield made

    def write(self, catalog: Catalog, branch: str, objects: dict[str, bytes], *, create: bool = False) -> None:
        with catalog.transaction(branch, message=f"write {sorted(objects)}") as tx:
            cast(AssetFileSystem, tx.open("raw.landing", create=create)).pipe(objects)

    def read(self, catalog: Catalog, name: str, spec: str = "main") -> bytes:
        return bytes(cast(AssetFileSystem, catalog.at(spec).open("raw.landing")).cat_file(name))

    def test_a_merge_joins_the_content_of_one_object(self, catalog: Catalog) -> None:
        self.write(catalog, "dev", {"x.json": b'{"a":2,"b":1}', "t.txt": b"0\n1\n2\n"})
        self.write(catalog, "main", {"x.json": b'{"a":1,"b":2}', "t.txt": b"1\n2\n3\n"})
        catalog.merge("dev")
        assert json.loads(self.read(catalog, "x.json")) == {"a": 2, "b": 2}
        assert self.read(catalog, "t.txt") == b"0\n1\n2\n3\n"
        assert catalog.publish() == []

    def test_a_true_conflict_is_listed_per_object_and_resolved(self, catalog: Catalog) -> None:
        self.write(catalog, "dev", {"bin": b"\0dev", "x.json": b'{"a":7,"b":1}'})
        self.write(catalog, "main", {"bin": b"\0main", "x.json": b'{"a":8,"b":1}'})
        with pytest.raises(CommitConflict) as caught:
            catalog.merge("dev")
        assert [conflict.item for conflict in caught.value.conflicts] == ["bin", "x.json"]
        tx = catalog.working_set(caught.value.details["tx"])
        tx.resolve("raw.landing", Choice.THEIRS, item="bin")
        tx.resolve("raw.landing", Choice.VALUE, item="x.json", value='{"a":9,"b":1}')
        tx.commit()
        assert self.read(catalog, "bin") == b"\0dev"
        assert self.read(catalog, "x.json") == b'{"a":9,"b":1}'

    def test_two_writers_of_different_objects_both_land(self, catalog: Catalog) -> None:
        first = catalog.begin("main", message="first")
        cast(AssetFileSystem, first.open("raw.landing")).pipe("one", b"1")
        self.write(catalog, "main", {"two": b"2"})
        first.commit()
        assert self.read(catalog, "one") + self.read(catalog, "two") == b"12"

    def test_items_are_restored_and_reverted(self, catalog: Catalog) -> None:
        self.write(catalog, "main", {"t.txt": b"new\n", "bin": b"\1"})
        catalog.revert("main", items={KEY: ["t.txt"]})
        assert (self.read(catalog, "t.txt"), self.read(catalog, "bin")) == (b"1\n2\n", b"\1")
        catalog.restore("main~2", items={KEY: ["bin"]})
        assert self.read(catalog, "bin") == b"\0"

    def test_diff_and_blame_are_per_object(self, catalog: Catalog) -> None:
        self.write(catalog, "main", {"t.txt": b"new\n", "more": b""})
        changes = list(catalog.diff_items("raw.landing", "main~1", "main"))
        assert [(change.item, change.kind) for change in changes] == [
            ("more", ItemChangeKind.ADDED),
            ("t.txt", ItemChangeKind.CHANGED),
        ]
        blamed = {one.item: one.commit.message for one in catalog.blame("raw.landing")}
        assert blamed["t.txt"] == "write ['more', 't.txt']"
        assert blamed["bin"] == "write ['bin', 't.txt', 'x.json']"

    def test_import_takes_a_folder_in(self, catalog: Catalog, tmp_path: Path) -> None:
        (tmp_path / "old" / "deep").mkdir(parents=True)
        (tmp_path / "old" / "deep" / "a").write_bytes(b"1")
        catalog.import_assets({("raw", "old"): str(tmp_path / "old")})
        assert cast(AssetFileSystem, catalog.at("main").open("raw.old")).cat_file("deep/a") == b"1"

    def test_a_write_past_plait_is_diverged_and_adopted(self, catalog: Catalog, tmp_path: Path) -> None:
        self.write(catalog, "dev", {"side": b"1"})
        foreign = catalog.at("dev").entry("raw.landing").snapshot
        head = next((tmp_path / "raw" / "_plait" / "heads").glob("*-*[!k]"))
        said = json.loads(head.read_text())
        head.write_text(json.dumps({**said, "version": foreign.version, "seq": 10_000}))
        self.write(catalog, "main", {"mine": b"2"})
        assert [publication.state for publication in catalog.publish()] == ["diverged"]
        catalog.adopt("raw.landing")
        assert self.read(catalog, "side") + self.read(catalog, "mine") == b"12"
        assert catalog.publish() == []
        assert json.loads(head.read_text())["version"] == catalog.at("main").entry("raw.landing").snapshot.version

    def test_an_atomic_group_is_published_like_any_commit(self, catalog: Catalog, tmp_path: Path) -> None:
        self.write(catalog, "dev", {"more": b"1"})
        before, after = (catalog.at(spec).entry("raw.landing").snapshot for spec in ("main", "dev"))
        move = Put(KEY, after, ref_digest(before))
        catalog.commit_many([Proposal("main", (move,))], atomic=True)
        heads = (tmp_path / "raw" / "_plait" / "heads").glob("*-*[!k]")
        assert [json.loads(head.read_text())["version"] for head in heads] == [after.version]

    @pytest.mark.parametrize("later", ["main", "dev"])
    @pytest.mark.parametrize("choice", [Choice.OURS, Choice.THEIRS])
    def test_blame_after_a_resolved_conflict_names_who_wrote_what_is_there(
        self, catalog: Catalog, later: str, choice: Choice
    ) -> None:
        for branch in sorted(("main", "dev"), key=lambda branch: branch == later):
            with catalog.transaction(branch, message=f"by {branch}") as tx:
                cast(AssetFileSystem, tx.open("raw.landing")).pipe({"bin": b"\0" + branch.encode(), branch: b"1"})
        with pytest.raises(CommitConflict) as caught:
            catalog.merge("dev")
        waiting = catalog.working_set(caught.value.details["tx"])
        waiting.resolve_all(choice)
        waiting.commit()
        blamed = {one.item: one.commit.message for one in catalog.blame("raw.landing")}
        assert blamed["bin"] == ("by main" if choice is Choice.OURS else "by dev")
        assert (blamed["main"], blamed["dev"]) == ("by main", "by dev")
        assert blamed["t.txt"].startswith("write ")
        alone = list(catalog.blame("raw.landing", items=["bin"]))
        assert [(one.item, one.commit.message) for one in alone] == [("bin", blamed["bin"])]

    def test_blame_of_what_a_merge_joined_is_the_merge_and_of_a_revert_the_revert(self, catalog: Catalog) -> None:
        self.write(catalog, "dev", {"t.txt": b"0\n1\n2\n"})
        self.write(catalog, "main", {"t.txt": b"1\n2\n3\n"})
        merged = catalog.merge("dev")
        assert {one.item: one.commit for one in catalog.blame("raw.landing")}["t.txt"] == merged
        reverted = catalog.revert("main")
        blamed = {one.item: one.commit for one in catalog.blame("raw.landing")}
        assert blamed["t.txt"] == reverted
        assert blamed["bin"].message.startswith("write ")
