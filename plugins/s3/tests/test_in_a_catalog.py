"""Whole commits, merges, reverts and publications through plait's catalog, on every store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import plait
import pytest
from plait.adapter import Adapter, Merger
from plait.catalog import Catalog
from plait.errors import CommitConflict, InvalidArgument, NothingToCommit, StoreUnavailable
from plait.hookspecs import hookimpl
from plait.plugins import Plugins
from plait.types import Choice, Depth
from plait_s3 import FilesAdapter, S3Adapter
from plait_s3.adapter import ObjectAdapter
from plait_s3.content import BUILT_IN, command_merger
from plait_s3.filesystem import AssetFileSystem
from plait_s3.heads import HEADS
from plait_s3.testing import Place


class BothKinds:
    """The plugin under test alone, with both of its adapters."""

    @hookimpl
    def plait_register_adapters(self) -> Sequence[type[Adapter]]:
        return [S3Adapter, FilesAdapter]

    @hookimpl
    def plait_register_mergers(self) -> Sequence[Merger]:
        return BUILT_IN


@pytest.fixture
def catalog(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    folder = str(tmp_path / "catalog")
    plugins = Plugins([BothKinds()], installed=False)
    plait.init(folder).close()
    options = dict(place.options)
    if "secret_key" in options:
        monkeypatch.setenv("PLAIT_TEST_SECRET", options["secret_key"])
        options["secret_key"] = "env:PLAIT_TEST_SECRET"
    with plait.open(folder, plugins=plugins) as opened:
        opened.add_store("raw", place.kind, {**options, "copy": "false" if place.versioned else "true"})
        yield opened


def files(handle: object) -> AssetFileSystem:
    return cast(AssetFileSystem, handle)


def write(catalog: Catalog, ref: str, objects: dict[str, bytes | None]) -> None:
    with catalog.transaction(ref, message=f"write {sorted(objects)}") as tx:
        fs = files(tx.open("raw.landing", create=True))
        for name, content in objects.items():
            if content is None:
                fs.rm(name)
            else:
                fs.pipe_file(name, content)


def held(catalog: Catalog, spec: str) -> dict[str, bytes]:
    fs = files(catalog.at(spec).open("raw.landing"))
    return {name: fs.cat_file(name) for name in fs.find("")}


def test_branches_merge_by_the_inside_of_objects_and_a_revert_takes_it_back(catalog: Catalog, place: Place) -> None:
    write(catalog, "main", {"t.csv": b"id,n\n1,1\n2,2\n", "a": b"1"})
    catalog.create_branch("dev")
    write(catalog, "dev", {"t.csv": b"id,n\n1,10\n2,2\n", "a": None, "b": b"2"})
    write(catalog, "main", {"t.csv": b"id,n\n1,1\n2,20\n"})
    catalog.merge("dev")
    assert held(catalog, "main") == {"t.csv": b"id,n\n1,10\n2,20\n", "b": b"2"}
    changed = [change.item for change in catalog.diff_items("raw.landing", "main~1", "main")]
    assert changed == ["a", "b", "t.csv"]
    catalog.revert("main", "main")
    assert held(catalog, "main") == {"t.csv": b"id,n\n1,1\n2,20\n", "a": b"1"}
    assert held(catalog, "main~1") == {"t.csv": b"id,n\n1,10\n2,20\n", "b": b"2"}
    assert list(catalog.verify(Depth.BYTES)) == []


def test_a_commit_names_the_outside_program_that_merged_inside_of_it(tmp_path: Path) -> None:
    class Bringing(BothKinds):
        @hookimpl
        def plait_register_mergers(self) -> Sequence[Merger]:
            both = ["sh", "-c", 'cat "$1" "$2" > "$3"', "", "%ours", "%theirs", "%out"]
            return [command_merger("both", "*.bin", both, version="1.2"), *BUILT_IN]

    folder = str(tmp_path / "catalog")
    plait.init(folder).close()
    with plait.open(folder, plugins=Plugins([Bringing()], installed=False)) as catalog:
        catalog.add_store("raw", "files", {"path": str(tmp_path / "raw")})
        write(catalog, "main", {"a.bin": b"0", "t.csv": b"id,n\n1,1\n2,2\n"})
        for branch, digit in (("by-csv", b"1"), ("by-program", b"2")):
            catalog.create_branch(branch)
            write(catalog, branch, {"a.bin": digit} if branch == "by-program" else {"t.csv": b"id,n\n1,10\n2,2\n"})
        write(catalog, "main", {"a.bin": b"3", "t.csv": b"id,n\n1,1\n2,20\n"})
        assert catalog.merge("by-csv").properties == {}
        merging = catalog.begin_merge("by-program")
        assert merging.preview().conflicts == ()
        merged = merging.commit()
        assert held(catalog, "main")["a.bin"] == b"32"
        assert merged.properties == {"plait.mergers": "both 1.2"}
        assert list(catalog.verify(Depth.BYTES)) == []


def test_csv_is_merged_by_the_columns_that_the_store_names(tmp_path: Path) -> None:
    start = b"day,hour,t\n1,1,5\n1,2,6\n"
    with plait.init(tmp_path / "catalog") as catalog:
        with pytest.raises(InvalidArgument, match="csv_keys"):
            catalog.add_store("raw", "files", {"path": str(tmp_path / "raw"), "csv_keys": "*.csv"})
        catalog.add_store("raw", "files", {"path": str(tmp_path / "raw"), "csv_keys": "*.csv=day,hour"})
        write(catalog, "main", {"t.csv": start})
        catalog.create_branch("dev")
        write(catalog, "dev", {"t.csv": start.replace(b"1,2,6", b"1,2,7")})
        write(catalog, "main", {"t.csv": start.replace(b"1,1,5", b"1,1,4")})
        catalog.merge("dev")
        assert held(catalog, "main")["t.csv"] == b"day,hour,t\n1,1,4\n1,2,7\n"


def test_the_native_head_follows_main(catalog: Catalog, place: Place) -> None:
    adapter: ObjectAdapter = place.adapter()
    write(catalog, "main", {"a": b"1"})
    catalog.create_branch("dev")
    write(catalog, "dev", {"a": b"2"})
    for expected in (b"1", b"2"):
        catalog.publish()
        (head,) = adapter.blobs.list(HEADS)
        document = json.loads(adapter.blobs.get(head.key))
        assert document["root"] == catalog.at("main").entry("raw.landing").snapshot.digest.hex()
        assert held(catalog, "main")["a"] == expected
        if expected == b"1":
            catalog.merge("dev")


def test_a_conflict_is_settled_by_object(catalog: Catalog) -> None:
    write(catalog, "main", {"a": b"\0base", "b": b"1"})
    catalog.create_branch("dev")
    write(catalog, "dev", {"a": b"\0theirs", "b": b"2"})
    write(catalog, "main", {"a": b"\0ours"})
    with pytest.raises(CommitConflict) as caught:
        catalog.merge("dev")
    assert [conflict.item for conflict in caught.value.conflicts] == ["a"]
    (tx,) = catalog.working_sets()
    working = catalog.working_set(tx.id)
    working.resolve("raw.landing", Choice.THEIRS, item="a")
    working.commit()
    assert held(catalog, "main") == {"a": b"\0theirs", "b": b"2"}


def test_what_was_adopted_is_settled_though_another_store_is_down(
    catalog: Catalog, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.add_store("other", "files", {"path": str(tmp_path / "other")})
    adapter: ObjectAdapter = place.adapter()
    write(catalog, "main", {"a": b"1"})
    adapter.blobs.delete(adapter.blobs.list(HEADS))
    write(catalog, "main", {"a": b"2"})
    with pytest.raises(CommitConflict):
        catalog.adopt("raw.landing")
    working = catalog.working_set("adopt-raw.landing")
    working.resolve("raw.landing", Choice.OURS)
    abort = ObjectAdapter.abort

    def refused(self: ObjectAdapter, tx: str) -> None:
        if self.store.name == "other":
            raise StoreUnavailable("it is down")
        abort(self, tx)

    monkeypatch.setattr(ObjectAdapter, "abort", refused)
    with pytest.raises(NothingToCommit):
        working.commit()
    assert [publication.state for publication in catalog.publish()] == []
    (head,) = adapter.blobs.list(HEADS)
    document = json.loads(adapter.blobs.get(head.key))
    assert document["root"] == catalog.at("main").entry("raw.landing").snapshot.digest.hex()


def test_a_commit_of_one_object_costs_few_requests(requests: Counter[str], catalog: Catalog, place: Place) -> None:
    if place.kind == "files":
        pytest.skip("a directory is asked for nothing")
    write(catalog, "main", {str(number): b"1" for number in range(100)})
    with catalog.transaction("main", message="one more") as tx:
        files(tx.open("raw.landing")).pipe_file("new", b"1")
        requests.clear()
    spent = {"PutObject": 2, "GetObject": 1}  # The pack; the head, after a look at it.
    if place.versioned:  # An attempt's pack is looked for, what was staged, edits, and edits to drop.
        expected = {**spent, "ListObjectsV2": 2, "ListObjectVersions": 2}
    else:  # And the staged object is read and copied, then dropped.
        expected = {**spent, "GetObject": 2, "CopyObject": 1, "ListObjectsV2": 5, "DeleteObjects": 1}
    assert requests == expected


def test_an_imported_prefix_is_an_asset_like_any_other(catalog: Catalog, place: Place) -> None:
    adapter = place.adapter()
    adapter.blobs.put("landing/a", b"1")
    with catalog.transaction(message="import") as tx:
        tx_id = tx.id
        catalog.backend.import_assets(tx_id, {("raw", "landing"): "landing"})
        files(tx.open("raw.landing")).pipe_file("b", b"2")
    assert held(catalog, "main") == {"a": b"1", "b": b"2"}


@pytest.mark.s3server
def test_a_bucket_that_is_gone_is_a_finding_of_the_check_and_no_end_of_it(
    bucket_options: Callable[[bool], dict[str, str]], tmp_path: Path
) -> None:
    with plait.init(str(tmp_path / "catalog")) as catalog:
        catalog.add_store("far", "s3", {**bucket_options(False), "bucket": "nobody-made-this"})
        (missing,), risks = catalog.check_store("far")
    assert "cannot be used" in missing.problem
    assert risks == []
