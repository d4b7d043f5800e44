"""What is different in a bucket: who reads roots there, the server that deltalake is given, and what can go wrong."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import obstore
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store
from plait.adapter import Context
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported
from plait.stores import NoState, resolve_credential
from plait.types import Depth, PublishState, Store
from plait_conformance.delta_tables import KEY, ROWS, Tables, append, batch, correct, delete, ordered, row, rows_in
from plait_conformance.s3_servers import S3Server, make_bucket
from plait_conformance.servers import free_port
from plait_conformance.testing import make_adapter
from plait_delta import DeltaAdapter
from plait_delta.bucket import _CLIENT, BucketFiles
from plait_delta.files import BRANCHES, LOG
from plait_delta.gateway import Gateway
from plait_delta.roots import ROOTS
from plait_delta.space import SUMS

pytestmark = [
    pytest.mark.s3server,
    pytest.mark.parametrize("tables", ["seaweedfs", "versitygw"], indirect=True),
]
_DIES_SECONDS = 20


def files_of(tables: Tables) -> BucketFiles:
    return cast(BucketFiles, cast(DeltaAdapter, tables.adapter)._layout.files)


def test_deltalake_reads_a_branch_where_locate_says_and_appends_to_a_working_set(tables: Tables) -> None:
    base = tables.create([row(1), row(2)])
    port = tables.port({KEY: base})
    staging = port.add(KEY)
    write_deltalake(staging.location, batch([row(3)]), mode="append", storage_options=tables.storage)
    assert rows_in(staging.location, storage=tables.storage) == ordered([row(1), row(2), row(3)])
    delete("id = 1")(tables.table(port))
    branch = tables.vote(port)
    assert tables.read(branch) == ordered([row(2), row(3)])
    assert tables.read(base) == ordered([row(1), row(2)])


def test_a_handle_has_all_that_deltalake_can(tables: Tables) -> None:
    base = tables.create([row(1), row(2), row(3)])
    port = tables.port({KEY: base})
    port.add(KEY)
    table = tables.table(port)
    table.update({"price": "9"}, predicate="id = 2")
    assert ordered(table.to_pyarrow_table().to_pylist()) == ordered([row(1), row(2, price=9), row(3)])
    append(row(4))(table)
    assert table.optimize.compact()["numFilesRemoved"] > 1
    table.alter.set_table_properties({"delta.dataSkippingNumIndexedCols": "4"})
    table.restore(1)
    branch = tables.vote(port)
    opened: Any = tables.adapter.open(branch, None)
    assert ordered(opened.to_pyarrow_table().to_pylist()) == ordered([row(1), row(2, price=9), row(3)])
    assert tables.adapter.verify(branch, Depth.BYTES).problems == ()


def test_an_import_finds_tables_of_any_name_and_no_branches(tables: Tables) -> None:
    tables.change(tables.create([row(1)]), append(row(2)))
    write_deltalake(f"{tables.place}/_raw", batch([row(3)]), storage_options=tables.storage)
    assert [found.name for found in tables.adapter.discover("")] == [("_raw",)]


def test_a_large_file_arrives_in_parts_and_whole(tables: Tables) -> None:
    schema = pa.schema([("id", pa.int64()), ("noise", pa.binary())])
    rows = pa.table({"id": list(range(24)), "noise": [os.urandom(1 << 20) for _ in range(24)]}, schema)
    port = tables.port()
    tables.namespace(port).create_table(KEY[1:], schema, key_columns=["id"]).append(rows)
    snapshot = tables.vote(port)
    assert tables.located(snapshot).to_pyarrow_table().sort_by("id").equals(rows)
    assert tables.adapter.verify(snapshot, Depth.BYTES).problems == ()


def test_large_files_leave_nothing_in_the_temporary_folder_and_need_nothing_old_there(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    served, files = served_store(tables), files_of(tables)
    for old in tmp_path.iterdir():
        shutil.rmtree(old)
    obstore.put(served, files.key(f"{tables.place}/large"), bytes(24 << 20))
    assert files.infos([f"{tables.place}/large"])[f"{tables.place}/large"].size == 24 << 20
    os.kill(files.gateway.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_prepare_reads_again_only_what_others_wrote(tables: Tables) -> None:
    port = tables.port()
    made = tables.namespace(port).create_table(KEY[1:], ROWS)
    made.append(batch([row(1, os.urandom(1 << 20).hex())]))
    before = files_of(tables).counts()["bytes"]
    tables.vote(port)
    assert files_of(tables).counts()["bytes"] - before < 1 << 19
    assert tables.adapter.verify(tables.vote(port), Depth.BYTES).problems == ()


def test_what_others_wrote_is_voted_for_without_a_server_of_our_own(tables: Tables) -> None:
    port = tables.port({KEY: tables.create([row(1)])})
    staging = port.add(KEY)
    write_deltalake(staging.location, batch([row(2)]), mode="append", storage_options=tables.storage)
    fresh = cast(DeltaAdapter, tables.restarted())
    voted = fresh.prepare(port.tx, 1, port.stagings)[KEY]
    assert voted is not None
    assert cast(BucketFiles, fresh._layout.files)._gateway is None
    assert tables.read(voted) == ordered([row(1), row(2)])


def test_a_root_of_many_commits_is_read_by_everybody(tables: Tables) -> None:
    """deltalake writes a checkpoint of every hundredth, which would name files as nobody else can read them."""
    base = tables.create([row(0)])
    port = tables.port({KEY: base})
    staging = port.add(KEY)
    table = tables.table(port)
    for number in range(1, 103):
        table.append(batch([row(number)]))
    assert len(rows_in(staging.location, storage=tables.storage)) == 103
    assert len(tables.read(tables.vote(port))) == 103


def test_tables_are_imported_in_place_and_published_to_their_readers(tables: Tables) -> None:
    folder = f"{tables.place}/eu/sales"
    write_deltalake(folder, batch([row(1)]), storage_options=tables.storage)
    write_deltalake(f"{tables.place}/us", batch([row(7)]), storage_options=tables.storage)
    found = list(tables.adapter.discover(tables.place))
    assert [(one.name, one.refusal, one.asset) for one in found] == [
        (("eu", "sales"), "", "eu/sales"),
        (("us",), "", "us"),
    ]
    scheme = tables.place.replace("s3://", "s3a://")
    base = tables.adapter.snapshot("tx", {KEY: f"{scheme}/eu/sales/"})[KEY]
    assert base.asset == "eu/sales"
    branch = tables.change(base, append(row(2)))
    assert rows_in(folder, storage=tables.storage) == [row(1)]
    tables.published(base, branch)
    assert rows_in(folder, storage=tables.storage) == ordered([row(1), row(2)])
    write_deltalake(folder, batch([row(3)]), mode="append", storage_options=tables.storage)
    assert tables.publish(branch, tables.change(branch, append(row(4)))).state is PublishState.DIVERGED


@pytest.mark.parametrize("name", ["a b", "ü", "a+b", "x=1&y"])
def test_a_folder_of_any_name_holds_a_table(tables: Tables, name: str) -> None:
    write_deltalake(f"{tables.place}/{name}", batch([row(1), row(2)]), storage_options=tables.storage)
    (found,) = tables.adapter.discover(tables.place)
    assert (found.name, found.refusal) == ((name,), "")
    base = tables.adapter.snapshot("tx", {KEY: found.location})[KEY]
    branch = tables.change(base, append(row(3)), delete("id = 1"))
    tables.published(base, branch)
    assert tables.head(name) == tables.read(branch) == ordered([row(2), row(3)])
    assert tables.adapter.verify(branch, Depth.BYTES).problems == ()


def test_a_store_may_be_a_whole_bucket(tables: Tables) -> None:
    name = f"whole-{uuid.uuid4().hex[:12]}"
    make_bucket(S3Server(tables.options["endpoint"]), name)
    whole = Tables(DeltaAdapter, f"s3://{name}", tables.options)
    assert whole.adapter.check() == ()
    base = whole.create([row(1)])
    branch = whole.change(base, append(row(2)), delete("id = 1"))
    whole.published(None, branch)
    assert whole.head() == [row(2)]
    assert [one.name for one in whole.adapter.discover(f"s3://{name}")] == [("hourly",)]
    whole.adapter.close()


def test_places_of_other_buckets_are_refused(tables: Tables) -> None:
    with pytest.raises(Unsupported, match="another bucket"):
        tables.adapter.snapshot("tx", {KEY: "s3://elsewhere/table"})
    with pytest.raises(NotFound, match="does not exist"):
        list(tables.adapter.discover(f"{tables.place}/nothing"))
    with pytest.raises(Unsupported, match="another bucket"):
        tables.adapter.snapshot("tx", {KEY: f"https://{files_of(tables).bucket}/table"})
    with pytest.raises(InvalidArgument, match=r"has '\.' or '\.\.' in it"):
        tables.adapter.snapshot("tx", {KEY: "../other"})


def test_check_probes_the_bucket(tables: Tables) -> None:
    assert tables.adapter.check() == ()
    assert list(files_of(tables).below(tables.place)) == []
    gone = {**tables.options, "path": "s3://no-such-bucket-here/x"}
    (problem,) = make_adapter(DeltaAdapter, Store("w", "delta", options=gone)).check()
    assert "no-such-bucket-here" in problem


def test_locate_names_the_server_and_no_secret(tables: Tables) -> None:
    base = tables.create([row(1)])
    found = tables.adapter.locate(base)
    assert found.options["endpoint"] == tables.options["endpoint"]
    assert tables.options["secret_key"] not in repr(found)
    assert tables.options["access_key"] not in repr(found)


def test_a_wrong_key_is_a_denial_and_a_server_that_is_down_is_said_soon(tables: Tables) -> None:
    base = tables.create([row(1)])
    wrong = {**tables.options, "path": tables.place, "secret_key": "wrong"}
    with pytest.raises(PermissionDenied, match="may not be read"):
        make_adapter(DeltaAdapter, Store("weather", "delta", options=wrong)).verify(base, Depth.EXISTS)
    down = {**tables.options, "path": tables.place, "endpoint": f"http://127.0.0.1:{free_port()}"}
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        make_adapter(DeltaAdapter, Store("weather", "delta", options=down)).open(base, None)
    assert time.monotonic() - started < 30


def test_what_the_environment_says_of_another_bucket_is_not_for_this_one(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-account")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    base = tables.create([row(1)])
    tables.change(base, append(row(2)), delete("id = 1"))


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[]", b'{"table": 7, "root": null}', b'{"table": "PLACE/hourly"}'])
def test_a_damaged_word_on_a_root_is_corrupt_and_can_be_discarded(tables: Tables, damaged: bytes) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, append(row(2))), tables.change(base, append(row(3)))
    tx, files = tables.tx(), files_of(tables)

    def merge() -> object:
        return tables.adapter.merge(tx, 1, base=base, ours=ours, theirs=theirs)

    merge()
    records = f"{tables.place}/{ROOTS}/{tx}"
    for name in files.children(records)[1]:
        files.replace(f"{records}/{name}", damaged.replace(b"PLACE", tables.place.encode()))
    with pytest.raises(Corrupt, match="cannot be read") as caught:
        merge()
    assert caught.value.remedy == "discard the working set"
    tables.adapter.abort(tx)
    assert files.children(records) == ([], [])


def test_new_keys_in_the_file_of_an_option_count_at_once(tables: Tables, tmp_path: Path) -> None:
    secret, right = tmp_path / "secret", tables.options["secret_key"]
    secret.write_text(right)
    store = Tables(DeltaAdapter, tables.place, {**tables.options, "secret_key": f"file:{secret}"})
    options = {"path": tables.place, **store.options}
    store.adapter = DeltaAdapter(
        Store("weather", "delta", options=options), Context(NoState(), credential=resolve_credential)
    )
    base = store.create([row(1)])
    port = store.port({KEY: base})
    port.add(KEY)
    opened = store.table(port)
    secret.write_text("of-yesterday")
    with pytest.raises(PermissionDenied):
        store.change(base, append(row(2)))
    with pytest.raises(DeltaError, match="lacked the necessary privileges"):
        append(row(2))(opened)
    secret.write_text(right)
    store.published(None, store.change(base, append(row(2))))
    append(row(3))(opened)
    assert store.head() == ordered([row(1), row(2)])
    assert store.read(store.vote(port)) == ordered([row(1), row(3)])
    store.adapter.close()


def test_deltalake_asks_its_server_past_the_proxy_of_the_environment(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tables.create([row(1)])  # The bucket itself is asked from here on without the proxy.
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    tables.change(base, append(row(2)), delete("id = 1"))


def test_what_deltalake_cannot_ask_is_an_error_and_no_damage(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tables.create([row(1)])
    ours, theirs = tables.change(base, correct(row(1, "cap"))), tables.change(base, delete("id = 1"), append(row(2)))
    files = files_of(tables)
    files.gateway.close()
    down = {**tables.options, "endpoint": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setattr(files, "_gateway", Gateway(files.bucket, down))
    monkeypatch.setattr("plait_delta.publish._CHECKPOINT_EVERY", 1)
    with pytest.raises(StoreUnavailable, match="cannot be read by delta-rs"):
        tables.adapter.verify(base, Depth.METADATA)
    with pytest.raises(StoreUnavailable):
        tables.adapter.open(base, None)
    with pytest.raises(StoreUnavailable):
        tables.merged(base, ours, theirs)
    tables.published(None, base)
    tables.published(base, ours)


def test_a_root_that_is_gone_is_no_table_that_was_dropped(tables: Tables) -> None:
    port = tables.port()
    tables.namespace(port).create_table(KEY[1:], ROWS)
    files_of(tables).remove(tables.place)
    with pytest.raises(NotFound, match="is gone"):
        tables.adapter.prepare(port.tx, 1, port.stagings)


def test_a_client_that_hangs_up_is_nothing_to_tell(tables: Tables, capfd: pytest.CaptureFixture[str]) -> None:
    options = files_of(tables).native(tables.place).options
    assert options is not None
    for sent in (b"PUT /x/y HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", b"PUT"):
        with socket.create_connection(("127.0.0.1", int(options["AWS_ENDPOINT_URL"].rpartition(":")[2]))) as client:
            client.sendall(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # Reset, not ended.
    tables.create([row(1)])
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_told(tables: Tables) -> None:
    files = files_of(tables)
    served = served_store(tables)
    resource.prlimit(files.gateway.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with pytest.raises(BaseError, match="File too large"):
        obstore.put(served, files.key(f"{tables.place}/x"), bytes(20 << 20), use_multipart=False)
    assert not files.exists(f"{tables.place}/x")


def test_a_store_may_lie_inside_what_looks_like_a_root(tables: Tables) -> None:
    inside = Tables(DeltaAdapter, f"{tables.place}/{BRANCHES}/a/b", tables.options)
    base = inside.create([row(1)])
    assert inside.read(inside.change(base, append(row(2)), delete("id = 1"))) == [row(2)]
    inside.adapter.close()


def test_a_large_file_may_take_longer_than_a_server_that_says_nothing(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all limits a sixtieth: seven seconds, where silence is given up after one, and three more tries."""

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if at else 200)
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(28 - at))
            self.send_header("Content-Range", f"bytes {at}-27/28")
            self.end_headers()
            with suppress(OSError):
                for _ in range(at, 28):
                    self.wfile.write(b"x")
                    time.sleep(0.25)

    for name, value in dict(_CLIENT).items():
        monkeypatch.setitem(_CLIENT, name, f"{int(value[:-1]) * 1000 // 60}ms")
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        options = {**tables.options, "endpoint": f"http://127.0.0.1:{server.server_port}"}
        files = BucketFiles("b", options, failpoint=lambda name: None, credential=lambda value: value)
        with files.open("s3://b/large") as stream:
            assert stream.read() == b"x" * 28
        server.shutdown()


def test_hashes_that_cannot_be_read_are_a_problem(tables: Tables) -> None:
    branch = tables.create([row(1)])
    (sums,) = (item.path for item in tables.adapter.reachable(branch) if item.path.endswith(SUMS))
    files_of(tables).replace(f"{tables.place}/{sums}", b'{"cut')
    assert "cannot be read" in tables.adapter.verify(branch, Depth.METADATA).problems[0]


@pytest.mark.parametrize("character", ["%", "#", "?", "[", "^", "\\"])
def test_a_place_that_deltalake_reads_otherwise_is_refused(tables: Tables, character: str) -> None:
    """It would make the table elsewhere, outside of the store, or panic."""
    store = Tables(DeltaAdapter, f"{tables.place}/a{character}20b", tables.options)
    (problem,) = store.adapter.check()
    assert "reads otherwise" in problem
    with pytest.raises(Unsupported, match="reads otherwise"):
        store.create([row(1)])
    store.adapter.close()


def test_deltalakes_server_lists_what_the_bucket_holds(tables: Tables) -> None:
    files = files_of(tables)
    names = [f"part {number:04} ü&<+=.bin" for number in range(1201)]
    for name in names:
        obstore.put(files.store, f"{files.key(tables.place)}/many/{name}", name.encode())
    served = served_store(tables)
    prefix = f"{files.key(tables.place)}/many"
    found = [one["path"] for page in obstore.list(served, prefix) for one in page]
    assert found == [f"{prefix}/{name}" for name in names]
    after = [one["path"] for page in obstore.list(served, prefix, offset=f"{prefix}/{names[1195]}") for one in page]
    assert after == [f"{prefix}/{name}" for name in names[1196:]]
    held = obstore.get(served, f"{prefix}/{names[7]}", options={"range": (5, 9)})
    assert (bytes(held.bytes()), held.meta["size"]) == (names[7].encode()[5:9], len(names[7].encode()))
    assert obstore.list_with_delimiter(served, files.key(tables.place))["common_prefixes"] == [prefix]
    obstore.delete(served, [f"{prefix}/{name}" for name in names])
    assert list(files.below(tables.place)) == []


def served_store(tables: Tables) -> S3Store:
    """The bucket, as deltalake is given it."""
    files = files_of(tables)
    options = files.native(tables.place).options
    assert options is not None
    config: Any = {name.lower(): value for name, value in options.items() if name.startswith("AWS_")}
    del config["aws_allow_http"]
    return S3Store(files.bucket, config=config, client_options={"allow_http": True})


def test_a_put_whose_answer_was_lost_meets_itself_and_is_done(tables: Tables) -> None:
    """obstore sends it again, and deltalake would tell that an update failed which was made."""
    files = files_of(tables)
    place = f"{tables.place}/hourly/{BRANCHES}/tx/root/{LOG}/{1:020}.json"
    put: Any = partial(obstore.put, served_store(tables), files.key(place), mode="create", use_multipart=False)
    put(file=b'{"commitInfo":{"timestamp":1}}')
    put(file=b'{"commitInfo":{"timestamp":1}}')
    with pytest.raises(AlreadyExistsError):
        put(file=b'{"commitInfo":{"timestamp":2}}')
    assert files.put_new(f"{tables.place}/x", b"one")
    assert files.put_new(f"{tables.place}/x", b"one")
    assert not files.put_new(f"{tables.place}/x", b"two")


def test_only_who_has_the_secret_is_answered(tables: Tables) -> None:
    base = tables.create([row(1)])
    options = files_of(tables).native(tables.place).options
    assert options is not None
    place = f"{options['AWS_ENDPOINT_URL']}/{tables.place.removeprefix('s3://')}/hourly/_delta_log/{0:020}.json"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(place)
    assert refused.value.code == 403
    wrong = {**options, "AWS_ACCESS_KEY_ID": "0" * 48}
    with pytest.raises(OSError, match="AccessDenied"):
        DeltaTable(tables.adapter.locate(base).uri, storage_options=wrong)


def test_a_server_of_deltalakes_that_died_is_started_again(tables: Tables) -> None:
    base = tables.create([row(1)])
    gateway = files_of(tables).gateway
    os.kill(gateway.pid, signal.SIGKILL)
    while gateway.is_usable:
        time.sleep(0.01)
    changed = tables.change(base, append(row(2)), correct(row(1, "cap")))
    assert tables.read(changed) == ordered([row(1, "cap"), row(2)])
    assert files_of(tables).gateway is not gateway


def test_the_server_of_deltalakes_ends_with_the_process_that_started_it(tables: Tables, tmp_path: Path) -> None:
    script = f"""
import os, signal
from plait.types import Store
from plait_conformance.testing import make_adapter
from plait_delta import DeltaAdapter
adapter = make_adapter(DeltaAdapter, Store("w", "delta", options={ {**tables.options, "path": tables.place}!r}))
print(adapter._layout.files.gateway.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(ended.stdout)
    deadline = time.monotonic() + _DIES_SECONDS
    while Path(f"/proc/{pid}/cmdline").exists() and b"gateway_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)
