"""What manifests cost, counted: bytes written, requests made. And that packs hold what trees need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plait.adapter import Context
from plait.errors import Corrupt
from plait.stores import NoState
from plait.types import Depth, SnapshotRef
from plait_s3 import space, verifying
from plait_s3.disk import FilesBlobs
from plait_s3.manifest import (
    EMPTY_ROOT,
    NOTHING,
    PACKS,
    Entry,
    Manifest,
    Packs,
    Root,
    decode_entry,
    encode_entry,
    same_content,
    write_manifest,
)
from plait_s3.verifying import Verifier

OBJECTS = 100_000


def entry(number: int) -> bytes:
    return encode_entry(Entry(number, f"{number:032x}", number.to_bytes(32, "big")))


def blobs_at(folder: Path) -> FilesBlobs:
    return FilesBlobs(str(folder), lambda place: None)


def snapshot_of(root: Root) -> SnapshotRef:
    return SnapshotRef("raw", "files", "a", root.pack, root.node)


def write(blobs: FilesBlobs, base: Root, edits: Mapping[bytes, bytes | None], stem: str) -> Root:
    """As a commit does: a reader without a cache, one apply, one pack."""
    manifest = Manifest(Packs(blobs), base)
    return write_manifest(blobs, manifest, manifest.tree.apply(base.node, edits), stem, lambda place: None)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[FilesBlobs, Root]:
    blobs = blobs_at(tmp_path_factory.mktemp("large"))
    manifest = Manifest(Packs(blobs), NOTHING)
    names = sorted(f"2013/{n % 365:03}/part-{n:06}.parquet".encode() for n in range(OBJECTS))
    root = manifest.tree.build((name, entry(number)) for number, name in enumerate(names))
    return blobs, write_manifest(blobs, manifest, root, "build", lambda place: None)


def some_name(number: int) -> bytes:
    return f"2013/{number % 365:03}/part-{number:06}.parquet".encode()


class TestCost:
    def test_one_object_among_many_costs_one_small_pack(self, large: tuple[FilesBlobs, Root]) -> None:
        blobs, base = large
        before = {blob.key for blob in blobs.list(PACKS)}
        changed = write(blobs, base, {some_name(54_321): entry(7)}, "one")
        added = [blob for blob in blobs.list(PACKS) if blob.key not in before]
        assert [blob.key for blob in added] == [PACKS + changed.pack]
        assert added[0].size_bytes <= 64 * 1024

    @pytest.mark.slow
    def test_packs_stay_small_after_many_commits(self, large: tuple[FilesBlobs, Root]) -> None:
        blobs, root = large
        tx, asset = "01a2103c-44c4-7f60-b771-4d50a0fb2e59", "c967c9ab-2128-5bc8-b6c1-3171caabdb61"
        for number in range(120):
            changes = {some_name(number * 499): entry(OBJECTS + number)}
            root = write(blobs, root, changes, f"many/{tx}/{number}.{asset}")
        sizes = [blob.size_bytes for blob in blobs.list(PACKS + "many/")]
        assert len(sizes) == 120
        assert max(sizes) <= 64 * 1024
        for number in (0, 99, 119):
            assert Manifest(Packs(blobs), root).tree.get(root.node, some_name(number * 499)) == entry(OBJECTS + number)

    def test_reading_one_object_costs_two_requests_a_level(self, large: tuple[FilesBlobs, Root]) -> None:
        blobs, base = large
        changed = write(blobs, base, {some_name(1): entry(1)}, "read")
        packs = Packs(blobs)
        manifest = Manifest(packs, changed)
        height = manifest.tree.node(changed.node).level + 1
        assert manifest.tree.get(changed.node, some_name(77_777)) is not None
        assert packs.reads <= 2 * height
        reads = packs.reads
        assert manifest.tree.get(changed.node, some_name(77_777)) is not None
        assert packs.reads == reads

    @pytest.mark.slow
    def test_reading_all_is_a_request_for_hundreds_of_objects(
        self, large: tuple[FilesBlobs, Root], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobs, base = large
        packs = Packs(blobs)
        manifest = Manifest(packs, base)
        assert sum(1 for _ in manifest.entries(base.node)) == OBJECTS
        assert packs.reads <= OBJECTS / 400
        monkeypatch.setattr(verifying, "_check", lambda blobs, key, entry, depth: [])  # The objects were never put.
        verifier = Verifier(blobs, Context(NoState()), Depth.METADATA)
        assert verifier.verify(snapshot_of(base)).checked == 1 + OBJECTS
        assert verifier.packs.reads <= OBJECTS / 250
        packs = Packs(blobs)
        assert sum(1 for _ in space.reachable(blobs, packs, snapshot_of(base), Context(NoState()))) > OBJECTS
        assert packs.reads <= OBJECTS / 250

    def test_a_diff_reads_what_changed(self, large: tuple[FilesBlobs, Root]) -> None:
        blobs, base = large
        changed = write(blobs, base, {some_name(5): None, some_name(90_000): entry(3)}, "diff")
        packs = Packs(blobs)
        manifest = Manifest(packs, base, changed)
        found = [change.key for change in manifest.tree.diff(base.node, changed.node)]
        assert found == sorted([some_name(5), some_name(90_000)])
        height = manifest.tree.node(base.node).level + 1
        assert packs.reads <= 2 + 4 * height


class TestPacks:
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.lists(
            st.dictionaries(st.integers(0, 300), st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=40),
            min_size=1, max_size=5,
        )
    )  # fmt: skip
    def test_every_commit_can_be_read_from_its_own_pack_on(
        self, tmp_path: Path, commits: list[dict[int, int | None]]
    ) -> None:
        blobs = blobs_at(tmp_path)
        root, expected = NOTHING, dict[bytes, bytes]()
        history = []
        for number, edits in enumerate(commits):
            changes = {b"%04d" % key: None if value is None else entry(value) for key, value in edits.items()}
            root = write(blobs, root, changes, f"h/{number}")
            for key, value in changes.items():
                if value is None:
                    expected.pop(key, None)
                else:
                    expected[key] = value
            history.append((root, dict(expected)))
        for root, held in history:
            manifest = Manifest(Packs(blobs), root)
            assert dict(manifest.tree.scan(root.node)) == held

    def test_a_snapshot_needs_no_pack_but_those_it_names(self, tmp_path: Path) -> None:
        blobs = blobs_at(tmp_path)
        base = write(blobs, NOTHING, {b"%04d" % n: entry(n) for n in range(2000)}, "base")
        # A stray pack with the very nodes of the next commit, from a transaction that is aborted later.
        stray = write(blobs, base, {b"0500": entry(1)}, "stray")
        first = write(blobs, base, {b"0500": entry(1)}, "first")
        second = write(blobs, first, {b"1500": entry(2)}, "second")
        assert stray.node == first.node
        manifest = Manifest(Packs(blobs), second)
        needed = manifest.packs_of(second.node)
        for blob in blobs.list(PACKS):
            if blob.key.removeprefix(PACKS) not in needed:
                blobs.delete([blob])
        assert base.pack in needed
        assert stray.pack not in needed
        again = Manifest(Packs(blobs), second)
        assert len(list(again.entries(second.node))) == 2000

    def test_the_same_changes_are_the_same_pack(self, tmp_path: Path) -> None:
        blobs = blobs_at(tmp_path)
        one = write(blobs, NOTHING, {b"a": entry(1)}, "t/1")
        assert write(blobs, NOTHING, {b"a": entry(1)}, "t/1") == one

    def test_a_lost_or_foreign_pack_is_corrupt(self, tmp_path: Path) -> None:
        blobs = blobs_at(tmp_path)
        with pytest.raises(Corrupt, match="lost"):
            Manifest(Packs(blobs), Root("gone", b"x" * 32)).tree.get(b"x" * 32, b"a")
        blobs.put(PACKS + "foreign", b"something else")
        with pytest.raises(Corrupt, match="no manifest pack"):
            Manifest(Packs(blobs), Root("foreign", b"x" * 32)).tree.get(b"x" * 32, b"a")

    @pytest.mark.parametrize("kept", [0, 4, 20])
    def test_a_pack_that_was_cut_short_is_to_be_restored(self, tmp_path: Path, kept: int) -> None:
        blobs = blobs_at(tmp_path)
        root = write(blobs, NOTHING, {b"a": entry(1)}, "t/1")
        blobs.put(PACKS + "cut", blobs.get(PACKS + root.pack)[:kept])
        with pytest.raises(Corrupt) as caught:
            Manifest(Packs(blobs), Root("cut", root.node)).tree.get(root.node, b"a")
        assert caught.value.remedy == "restore it from a backup of the store"

    def test_nothing_needs_no_pack(self, tmp_path: Path) -> None:
        manifest = Manifest(Packs(blobs_at(tmp_path)), NOTHING)
        assert list(manifest.entries(EMPTY_ROOT)) == []


class TestEntries:
    @given(st.builds(Entry, st.integers(0, 1 << 40), st.text(), st.binary(max_size=32), st.text(), st.text()))
    def test_an_entry_comes_back(self, one: Entry) -> None:
        assert decode_entry(encode_entry(one)) == one

    def test_content_is_compared_by_what_is_known_of_both(self) -> None:
        hashed, other = Entry(1, "", b"h" * 32), Entry(1, "", b"o" * 32)
        tagged = Entry(1, "e", b"", "place", "v1")
        assert same_content(hashed, Entry(1, "e", b"h" * 32, "elsewhere"))
        assert not same_content(hashed, other)
        assert same_content(tagged, Entry(1, "e", b"", "place", "v2"))
        assert not same_content(tagged, hashed)
        assert not same_content(hashed, None)
        assert same_content(None, None)
