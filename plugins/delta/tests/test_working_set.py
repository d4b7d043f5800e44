"""Staging, writing with deltalake, preparing, publishing: through nothing but the contract, read back by deltalake."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, Unsupported
from plait.types import Depth, Intent, Move, PublishState, SnapshotRef, Store
from plait_conformance.delta_tables import KEY, ROWS, Tables, append, batch, correct, delete, ordered, row, rows_in
from plait_conformance.testing import intent_of, make_adapter
from plait_delta import DeltaAdapter


def test_a_created_table_is_read_by_any_client_where_locate_says(tables: Tables) -> None:
    made = tables.create([row(1), row(2)])
    assert tables.read(made) == ordered([row(1), row(2)])


def test_nothing_is_visible_in_the_table_before_it_is_published(tables: Tables) -> None:
    made = tables.create([row(1)])
    assert not DeltaTable.is_deltatable(str(tables.path / "hourly"))
    tables.published(None, made)
    assert rows_in(tables.path / "hourly") == [row(1)]


def test_a_working_set_copies_no_data(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    staging = port.add(KEY)
    assert rows_in(staging.location) == [row(1)]
    assert not [name for _, _, names in os.walk(staging.location) for name in names if name.endswith(".parquet")]


def test_append_update_delete_and_merge_work_in_a_working_set(tables: Tables) -> None:
    base = tables.create([row(1), row(2), row(3)])
    after = tables.change(
        base,
        append(row(4)),
        delete("id = 1"),
        correct(row(2, "ink")),
        lambda table: table.update(new_values={"price": 9}, predicate="id = 3"),
    )
    assert tables.read(after) == ordered([row(2, "ink"), row(3, price=9), row(4)])
    assert tables.read(base) == ordered([row(1), row(2), row(3)])


def test_a_foreign_client_may_write_into_a_working_set(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    write_deltalake(port.add(KEY).location, batch([row(2)]), mode="append")
    DeltaTable(port.add(KEY).location).delete("id = 1")
    assert tables.read(tables.vote(port)) == [row(2)]


def test_native_commits_carry_the_transactions_id(tables: Tables) -> None:
    port = tables.port({KEY: tables.create([row(1)])})
    table = tables.table(port)
    append(row(2))(table)
    table.delete("id = 1")
    assert [entry["plait.tx"] for entry in table.history()] == [port.tx] * 3


def test_stage_twice_is_the_same_place_and_keeps_what_was_written(tables: Tables) -> None:
    base = tables.create([row(1)])
    intents = {KEY: intent_of("tx-again", base)}
    first = tables.adapter.stage("tx-again", intents)
    write_deltalake(first[KEY].location, batch([row(2)]), mode="append")
    assert tables.restarted().stage("tx-again", intents) == first
    assert rows_in(first[KEY].location) == ordered([row(1), row(2)])


def test_an_untouched_staging_votes_its_base(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    port.add(KEY)
    assert tables.vote(port) == base


def test_a_staging_without_a_table_votes_for_nothing(tables: Tables) -> None:
    port = tables.port()
    port.add(KEY, new=True)
    assert tables.adapter.prepare(port.tx, 1, port.stagings) == {KEY: None}
    with pytest.raises(NotFound, match="no table was created"):
        tables.adapter.open(port.add(KEY), port)


def test_prepare_twice_is_the_same_vote_whatever_was_written_since(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    untouched = tables.port({KEY: base})
    untouched.add(KEY)
    append(row(2))(tables.table(port))
    first, none = tables.vote(port), tables.vote(untouched)
    append(row(3))(tables.table(port))
    append(row(3))(tables.table(untouched))
    tables.adapter = tables.restarted()
    assert (tables.vote(port), tables.vote(untouched)) == (first, none)
    assert tables.read(first) == ordered([row(1), row(2)])
    assert tables.read(tables.vote(port, attempt=2)) == ordered([row(1), row(2), row(3)])


def test_keys_made_renamed_and_made_again_are_different_tables(tables: Tables) -> None:
    port = tables.port()
    namespace = tables.namespace(port)
    namespace.create_table("hourly", ROWS).append(batch([row(1)]))
    namespace.rename_table("hourly", "daily")
    namespace.create_table("hourly", ROWS).append(batch([row(2)]))
    votes = tables.adapter.prepare(port.tx, 1, port.stagings)
    old, new = votes["weather", "daily"], votes[KEY]
    assert old is not None
    assert new is not None
    assert old.asset != new.asset
    assert (tables.read(old), tables.read(new)) == ([row(1)], [row(2)])


def test_a_dropped_table_can_be_made_again(tables: Tables) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    port = tables.port({KEY: base})
    namespace = tables.namespace(port)
    namespace.drop_table("hourly")
    namespace.create_table("hourly", ROWS).append(batch([row(2)]))
    made = tables.vote(port)
    assert made.asset != base.asset
    assert tables.read(made) == [row(2)]
    assert rows_in(tables.path / "hourly") == [row(1)]


def test_the_namespace_lists_and_refuses(tables: Tables) -> None:
    port = tables.port({KEY: tables.create([row(1)])})
    namespace = tables.namespace(port)
    assert namespace.list_tables() == [("hourly",)]
    assert namespace.table_exists("hourly")
    with pytest.raises(AlreadyExists):
        namespace.create_table("hourly", ROWS)
    with pytest.raises(InvalidArgument, match="'nope'"):
        namespace.create_table("other", ROWS, key_columns=("nope",))
    with pytest.raises(NotFound):
        namespace.load_table("other")


def test_a_snapshot_is_read_only_and_a_working_table_is_not_vacuumed(tables: Tables) -> None:
    base = tables.create([row(1)])
    with pytest.raises(Unsupported, match="cannot be changed"):
        tables.adapter.open(base, None).delete("id = 1")  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="other branches"):
        tables.table(tables.port({KEY: base})).vacuum()


def test_abort_leaves_nothing_of_a_transaction_and_all_of_others(tables: Tables) -> None:
    base = tables.create([row(1)])
    port = tables.port({KEY: base})
    append(row(2))(tables.table(port))
    tables.namespace(port).create_table("other", ROWS).append(batch([row(3)]))
    tables.adapter.prepare(port.tx, 1, port.stagings)
    for _ in range(2):
        tables.adapter.abort(port.tx)
    left = [os.path.join(path, name) for path, _, names in os.walk(tables.path) for name in names]
    assert left
    assert not [path for path in left if port.tx in path.split(os.sep)]
    assert not (tables.path / "other").exists()
    assert tables.read(base) == [row(1)]
    tables.adapter.abort("tx-unknown")


# -- publishing --------------------------------------------------------------------------------------------------------


def test_publish_writes_an_ordinary_commit_that_names_files_inside_the_table(tables: Tables) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    after = tables.change(base, append(row(2)), delete("id = 1"))
    tables.published(base, after)
    table = DeltaTable(str(tables.path / "hourly"))
    assert table.version() == 1
    assert rows_in(tables.path / "hourly") == [row(2)]
    assert rows_in(tables.path / "hourly", 0) == [row(1)]
    assert all(uri.startswith(str(tables.path / "hourly")) for uri in table.file_uris())
    assert table.transaction_version("plait") == 2


def test_publish_twice_is_publish_once(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    for _ in range(2):
        tables.published(None, base)
    for _ in range(2):
        tables.published(base, after)
    assert DeltaTable(str(tables.path / "hourly")).version() == 1


def test_a_head_can_come_back_to_what_it_was(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, delete("id = 1"), append(row(2)))
    tables.published(None, base)
    tables.published(base, after)
    tables.published(after, base)
    assert rows_in(tables.path / "hourly") == [row(1)]
    stale = tables.publish(base, after, seq=1)
    assert stale.state is PublishState.BUSY


def test_an_unpublished_table_is_empty_and_keeps_its_data_and_history(tables: Tables) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    for _ in range(2):
        tables.published(base, None)
    assert rows_in(tables.path / "hourly") == []
    assert rows_in(tables.path / "hourly", 0) == [row(1)]
    tables.published(None, base)
    assert rows_in(tables.path / "hourly") == [row(1)]


def test_a_foreign_commit_diverges_and_is_never_overwritten(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    tables.published(None, base)
    tables.foreign(row(3))
    found = tables.publish(base, after)
    assert found.state is PublishState.DIVERGED
    assert found.found is not None
    assert tables.read(found.found) == ordered([row(1), row(3)])
    assert rows_in(tables.path / "hourly") == ordered([row(1), row(3)])
    assert tables.publish(base, after) == found
    assert tables.publish(found.found, after).state is PublishState.DONE


def test_a_schema_change_is_published(tables: Tables) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    wider = pa.table({"id": [2], "item": ["ink"], "price": [1], "colour": ["red"]})
    after = tables.change(base, lambda table: table.append(wider, schema_mode="merge"))
    tables.published(base, after)
    assert rows_in(tables.path / "hourly") == ordered([{**row(1), "colour": None}, {**row(2, "ink"), "colour": "red"}])


def test_a_lost_head_is_found_as_gone(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    tables.published(None, base)
    os.rename(tables.path / "hourly" / "_delta_log", tables.path / "away")
    found = tables.publish(base, after)
    assert (found.state, found.found) == (PublishState.DIVERGED, None)


def test_many_publishers_of_one_move_publish_it_once(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    tables.published(None, base)
    adapters = [tables.restarted() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: one.publish({KEY: Move(base, after, 9)})[KEY].state, adapters))
    assert set(answers) == {PublishState.DONE}
    assert DeltaTable(str(tables.path / "hourly")).version() == 1


def test_many_new_tables_of_one_name_get_folders_of_their_own(tables: Tables) -> None:
    intents = [intent_of("tx-many", number=number) for number in range(8)]
    adapters = [tables.restarted() for _ in intents]

    def stage(number: int) -> str:
        return adapters[number].stage("tx-many", {KEY: intents[number]})[KEY].attrs["asset"]

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(stage, range(8)))
        again = list(pool.map(stage, range(8)))
    assert first == again
    assert len(set(first)) == 8
    assert "hourly" in first


def test_a_folder_once_given_stays_when_the_plain_name_becomes_free(tables: Tables) -> None:
    first, second = ({KEY: intent_of(tx)} for tx in ("tx-first", "tx-second"))
    assert tables.adapter.stage("tx-first", first)[KEY].attrs["asset"] == "hourly"
    given = tables.adapter.stage("tx-second", second)
    tables.adapter.abort("tx-first")
    assert tables.adapter.stage("tx-second", second) == given


# -- importing ---------------------------------------------------------------------------------------------------------


def test_an_import_names_a_table_in_place(tables: Tables) -> None:
    write_deltalake(str(tables.path / "raw" / "hourly"), batch([row(1)]))
    before = sorted(tables.path.rglob("*"))
    first = tables.adapter.snapshot("tx", {KEY: "raw/hourly"})
    again = tables.adapter.snapshot("tx", {KEY: str(tables.path / "raw" / "hourly")})
    assert first == again
    assert sorted(tables.path.rglob("*")) == before
    snapshot = first[KEY]
    assert tables.read(snapshot) == [row(1)]
    assert tables.publish(None, snapshot).state is PublishState.DONE
    after = tables.change(snapshot, append(row(2)))
    tables.published(snapshot, after)
    assert rows_in(tables.path / "raw" / "hourly") == ordered([row(1), row(2)])


def test_a_table_outside_of_the_store_can_be_imported(tables: Tables) -> None:
    outside = tables.path.parent / "elsewhere"
    write_deltalake(str(outside), batch([row(1)]))
    snapshot = tables.adapter.snapshot("tx", {KEY: str(outside)})[KEY]
    after = tables.change(snapshot, append(row(2)))
    tables.published(snapshot, after)
    assert rows_in(outside) == ordered([row(1), row(2)])


def test_a_table_of_another_feature_is_refused_before_anything_is_written(tables: Tables) -> None:
    folder = tables.path / "rich"
    write_deltalake(str(folder), batch([row(1)]))
    log = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 1,
                "minWriterVersion": 7,
                "writerFeatures": ["rowTracking", "domainMetadata"],
            }
    log.write_text("\n".join(json.dumps(action) for action in actions))
    before = sorted(tables.path.rglob("*"))
    with pytest.raises(Unsupported, match="domainMetadata"):
        tables.adapter.snapshot("tx", {KEY: "rich"})
    assert sorted(tables.path.rglob("*")) == before


def test_what_is_no_table_is_not_found(tables: Tables) -> None:
    with pytest.raises(NotFound, match="no Delta table"):
        tables.adapter.snapshot("tx", {KEY: "nowhere"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option 'path'"),
        ({"path": "relative"}, "absolute"),
        ({"path": "/x", "colour": "red"}, "no option 'colour'"),
        ({"path": "/x", "endpoint": "http://127.0.0.1"}, "no option 'endpoint'"),
        ({"path": "s3://"}, "names no bucket"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_adapter(DeltaAdapter, Store("weather", "delta", options=options))


def test_other_object_stores_are_refused_for_now() -> None:
    with pytest.raises(Unsupported, match="neither a local folder nor in S3"):
        make_adapter(DeltaAdapter, Store("weather", "delta", options={"path": "gs://bucket/x"}))


def test_check_says_what_a_folder_lacks(tables: Tables) -> None:
    assert tables.adapter.check() == ()
    assert not [path for path in tables.path.rglob("*") if path.is_file()]
    (tables.path.parent / "file").write_text("no folder")
    broken = make_adapter(DeltaAdapter, Store("w", "delta", options={"path": str(tables.path.parent / "file")}))
    (problem,) = broken.check()
    assert "file" in problem


# -- checking ----------------------------------------------------------------------------------------------------------


def test_a_whole_snapshot_is_healthy(tables: Tables) -> None:
    base = tables.create([row(1)])
    after = tables.change(base, append(row(2)))
    for depth in Depth:
        assert tables.adapter.verify(after, depth).problems == ()
    assert tables.adapter.verify(after, Depth.BYTES).checked == 3


def _data_file(tables: Tables, snapshot: SnapshotRef) -> str:
    (uri,) = DeltaTable(tables.adapter.locate(snapshot).uri).file_uris()
    return str(uri)


def test_changed_bytes_lost_files_and_changed_logs_are_found(tables: Tables) -> None:
    for harm, depth, message in (
        ("flip", Depth.BYTES, "other bytes"),
        ("cut", Depth.METADATA, "expected"),
        ("log", Depth.EXISTS, "something else"),
        ("link", Depth.EXISTS, "link"),
    ):
        base = tables.create([row(1)], key=("weather", harm))
        path = _data_file(tables, base)
        if harm == "flip":
            with open(path, "r+b") as stream:
                stream.seek(10)
                byte = stream.read(1)
                stream.seek(10)
                stream.write(bytes([byte[0] ^ 1]))
        elif harm == "cut":
            os.truncate(path, 10)
        elif harm == "link":
            os.unlink(os.path.join(tables.adapter.locate(base).uri, "_table"))
        else:
            log = os.path.join(tables.adapter.locate(base).uri, "_delta_log", f"{1:020}.json")
            with open(log) as stream:
                text = stream.read()
            with open(log, "w") as stream:
                stream.write("\n".join(line for line in text.splitlines() if '"add"' not in line))
        assert any(message in one for one in tables.restarted().verify(base, depth).problems), harm


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\\"name\\":\\"item\\"', b'\\"name\\":\\"itum\\"'),
        (b'\\"nullable\\":true', b'\\"nullable\\":frue'),
        (b'"schemaString"', b'"schemaStrang"'),
        (b'"path"', b'"pith"'),
        (b'"size"', b'"sise"'),
    ],
)
def test_nothing_is_read_from_or_written_on_top_of_a_damaged_log(tables: Tables, old: bytes, new: bytes) -> None:
    base = tables.create([row(1)])
    after, other = tables.change(base, append(row(2))), tables.change(base, append(row(3)))
    root, _, _ = base.version.rpartition("@")
    for path in sorted((tables.path / root / "_delta_log").glob("*.json")):
        path.write_bytes(path.read_bytes().replace(old, new))
    adapter = tables.restarted()
    assert adapter.verify(base, Depth.EXISTS).problems
    for act in (
        lambda: adapter.stage("tx", {KEY: Intent("one", base)}),
        lambda: adapter.open(base, None),
        lambda: list(adapter.diff(base, after)),
        lambda: adapter.merge("tx", 1, base=base, ours=after, theirs=other),
    ):
        with pytest.raises(Corrupt):
            act()


def test_what_only_delta_rs_misses_in_a_log_is_found(tables: Tables) -> None:
    base = tables.create([row(1)])
    root, _, _ = base.version.rpartition("@")
    for path in sorted((tables.path / root / "_delta_log").glob("*.json")):
        path.write_bytes(path.read_bytes().replace(b'"partitionColumns"', b'"partitionColumms"'))
    (problem,) = tables.restarted().verify(base, Depth.METADATA).problems
    assert "cannot be read by delta-rs" in problem


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'\\"numRecords\\":1', b'\\"numRecords\\":3', "has 1 rows, expected 3"),
        (b'"{\\"numRecords', b'";\\"numRecords', "statistics of file"),
        (b'\\"maxValues\\":{', b'\\"maxValues\\":[{},{', "statistics of file"),
        (b'\\"minValues\\":{', b'\\"minValues\\":7,\\"b\\":{', "no JSON object of objects"),
    ],
)
def test_damaged_statistics_which_queries_are_answered_by_are_found(
    tables: Tables, old: bytes, new: bytes, told: str
) -> None:
    base = tables.create([row(1)])
    root, _, _ = base.version.rpartition("@")
    for path in sorted((tables.path / root / "_delta_log").glob("*.json")):
        path.write_bytes(path.read_bytes().replace(old, new))
    problems = tables.restarted().verify(base, Depth.BYTES).problems
    assert problems
    assert all(told in problem for problem in problems)


def test_a_hash_that_is_lost_is_found(tables: Tables) -> None:
    base = tables.create([row(1)])
    (sums,) = tables.path.rglob("sha256.json")
    sums.write_bytes(sums.read_bytes().replace(b".parquet", b".parquat"))
    (problem,) = tables.adapter.verify(base, Depth.BYTES).problems
    assert "sha256.json has no hash of file" in problem
    sums.unlink()
    assert tables.adapter.verify(base, Depth.METADATA).problems == ()
    assert len(tables.adapter.verify(base, Depth.BYTES).problems) == 1


@pytest.mark.parametrize("name", ["a%20b", "a%2fb", "a[b", "a|b", "a^b", "a\\b", "a\tb"])
def test_a_folder_that_deltalake_reads_otherwise_is_refused(tables: Tables, name: str) -> None:
    """It would make the table elsewhere, fail, or panic."""
    store = Tables(DeltaAdapter, tables.path / name)
    (problem,) = store.adapter.check()
    assert "reads otherwise" in problem
    with pytest.raises(Unsupported, match="reads otherwise"):
        store.create([row(1)])


@pytest.mark.parametrize("name", ["a b", "100%", "a#b", "a?b", "a:b", "{a}", "*", "ü"])
def test_a_folder_of_any_other_name_is_as_good_as_any(tables: Tables, name: str) -> None:
    store = Tables(DeltaAdapter, tables.path / name)
    assert store.adapter.check() == ()
    base = store.create([row(1)])
    store.published(None, store.change(base, append(row(2)), delete("id = 1")))
    assert store.head() == [row(2)]


def test_links_and_what_others_own_are_no_hindrance(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tables.create([row(1)])
    tables.published(None, base)
    port = tables.port({KEY: base})
    port.add(KEY)
    (tables.path / "lost+found").mkdir()
    os.rename(tables.path / "hourly/_delta_log", tables.path / "log")
    os.symlink("../log", tables.path / "hourly/_delta_log")
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if str(path).endswith("lost+found"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr("plait_delta.disk.os.scandir", denied)
    assert [found.asset for found in tables.adapter.discover("")] == ["hourly"]
    os.rename(tables.path / "hourly", tables.path / "moved")
    assert any(item.path.endswith("/_table") for item in tables.adapter.inventory())
    os.rename(tables.path / "moved", tables.path / "hourly")
    tables.adapter.abort(port.tx)
    assert tables.read(base) == [row(1)]


def test_a_table_whose_name_begins_with_an_underscore_is_found_and_what_is_plaits_own_is_not(tables: Tables) -> None:
    tables.create([row(1)])
    for name in ("_raw", "_deep/_er"):
        write_deltalake(str(tables.path / name), batch([row(2)]))
    found = list(tables.adapter.discover(""))
    assert [(one.name, one.refusal) for one in found] == [(("_deep", "_er"), ""), (("_raw",), "")]
    assert {risk.affects for risk in tables.adapter.retention_risks()} == {"_deep/_er", "_raw"}


def test_an_empty_folder_holds_no_tables_and_is_there(tables: Tables) -> None:
    (tables.path / "empty").mkdir(parents=True)
    assert list(tables.adapter.discover("empty")) == []
    with pytest.raises(NotFound):
        list(tables.adapter.discover("nothing"))
