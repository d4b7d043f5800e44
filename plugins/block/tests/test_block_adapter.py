"""The contract, on real images under a real daemon, read and written by real NBD clients."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from plait.errors import Corrupt, InvalidArgument, NotFound, StoreUnavailable, Unsupported
from plait.failpoint import armed
from plait.types import (
    Choice,
    Conflicted,
    Depth,
    Intent,
    Item,
    ItemChangeKind,
    Key,
    Merged,
    Move,
    PublishState,
    Resolution,
    SnapshotRef,
)
from plait_block import BlockAdapter, images, qcow2, volume
from plait_block.folder import Folder, translated
from plait_conformance.testing import MemoryPort

from .conftest import KEY, SIZE, Fresh, Work, content, need

PAGE = 4096
pytestmark = pytest.mark.drivers("qcow2", "raw", "rbd")


def items(adapter: BlockAdapter, before: object, after: object) -> list[str]:
    return [change.item for change in adapter.diff(before, after)]  # type: ignore[arg-type]


def wait_for_the_end_of(daemon: int) -> None:
    """Until it holds no file any more; somebody else has to reap it."""
    status = Path(f"/proc/{daemon}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


# -- stage, open, prepare ----------------------------------------------------------------------------------------------


def test_a_prepared_volume_is_read_by_the_stores_own_clients(
    adapter: BlockAdapter, base: SnapshotRef, tmp_path: Path
) -> None:
    need("nbdcopy", "nbdinfo")
    location = adapter.locate(base)
    copied = tmp_path / "copied"
    subprocess.run(["nbdcopy", location.uri, str(copied)], check=True)
    converted = tmp_path / "converted"
    subprocess.run(["qemu-img", "convert", "-O", "raw", location.options["image"], str(converted)], check=True)
    assert copied.read_bytes() == converted.read_bytes()
    assert copied.read_bytes()[: PAGE + 1] == b"a" * PAGE + b"\0"
    assert copied.stat().st_size == SIZE


def test_a_real_client_writes_to_a_working_volume(adapter: BlockAdapter, base: SnapshotRef, tmp_path: Path) -> None:
    need("nbdcopy")
    work = Work(adapter, "tx-1", base)
    image = tmp_path / "image"
    image.write_bytes(os.urandom(SIZE))
    subprocess.run(["nbdcopy", "--flush", str(image), work.volume.uri], check=True)
    prepared = work.prepare()
    assert content(adapter, prepared, 0, SIZE) == image.read_bytes()
    assert content(adapter, base, 0, 1) == b"a"


def test_staging_twice_is_staging_once(adapter: BlockAdapter, base: SnapshotRef) -> None:
    intent = Intent("intent-1", base)
    first = adapter.stage("tx-1", {KEY: intent})[KEY]
    adapter.open(first, None).write(0, b"mine")
    again = adapter.stage("tx-1", {KEY: intent})[KEY]
    assert again == first
    assert adapter.open(again, None).read(0, 4) == b"mine"


def test_preparing_twice_is_preparing_once_and_a_new_attempt_takes_new_writes(
    adapter: BlockAdapter, base: SnapshotRef
) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"one")
    first = work.prepare()
    work.write(0, b"two")
    assert adapter.prepare("tx-1", 1, work.port.stagings)[KEY] == first
    second = work.prepare()
    assert second != first
    assert [content(adapter, one, 0, 3) for one in (base, first, second)] == [b"aaa", b"one", b"two"]


def test_what_a_connected_client_writes_after_prepare_is_not_in_it(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base)
    with work.volume.connect() as client:
        client.write(0, b"before")
        prepared = work.prepare()
        client.write(0, b"after!")
        client.flush()
        assert client.read(0, 6) == b"after!"
        assert content(adapter, prepared, 0, 6) == b"before"
    assert adapter.verify(prepared, Depth.BYTES).problems == ()
    assert work.volume.read(0, 6) == b"after!"
    assert content(adapter, work.prepare(), 0, 6) == b"after!"


def test_an_untouched_volume_votes_its_base(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base)
    assert work.prepare() == base
    assert work.volume.read(0, 1) == b"a"
    assert work.prepare() == base


def test_who_is_not_connected_at_the_vote_cannot_write_past_it_unnoticed(
    adapter: BlockAdapter, base: SnapshotRef
) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"mine")
    uri = work.volume.uri
    prepared = work.prepare()
    refused = subprocess.run(["nbdinfo", uri], capture_output=True, check=False)
    assert refused.returncode != 0
    assert work.volume.uri == uri
    assert work.volume.read(0, 4) == b"mine"
    assert work.prepare() == prepared


def test_versions_that_nobody_reads_are_not_served_for_ever(
    adapter: BlockAdapter, base: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "_SERVED_MAX", 1)
    history = grown(adapter, base, 3)
    with adapter.open(history[0], None).connect() as client:
        uris = [adapter.locate(one).uri for one in history]
        alive = [subprocess.run(["nbdinfo", uri], capture_output=True, check=False).returncode == 0 for uri in uris]
        assert alive == [True, False, True, True]
        assert client.read(0, 4) == b"aaaa"
    assert content(adapter, history[1], 0, 4) == b"0000"


def test_a_new_volume_without_a_size_is_none(adapter: BlockAdapter) -> None:
    staging = adapter.stage("tx-1", {KEY: Intent("intent-1", None)})[KEY]
    with pytest.raises(InvalidArgument, match="size"):
        _ = adapter.open(staging, None).uri
    assert adapter.prepare("tx-1", 1, {KEY: staging}) == {KEY: None}
    adapter.open(staging, None).create(size_bytes=SIZE)
    vote = adapter.prepare("tx-1", 2, {KEY: staging})[KEY]
    assert vote is not None
    assert content(adapter, vote, 0, SIZE) == bytes(SIZE)


def test_a_committed_version_refuses_writes(adapter: BlockAdapter, base: SnapshotRef) -> None:
    with pytest.raises(Unsupported, match="committed"):
        adapter.open(base, None).write(0, b"x")


def test_writes_survive_a_killed_daemon_once_flushed(adapter: BlockAdapter, base: SnapshotRef, folder: Path) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"flushed")
    uri = work.volume.uri
    os.kill(int((folder / "run" / "pid").read_text()), signal.SIGKILL)
    assert work.volume.uri == uri
    assert work.volume.read(0, 7) == b"flushed"
    assert content(adapter, work.prepare(), 0, 7) == b"flushed"


@pytest.mark.drivers("qcow2")
def test_a_daemon_whose_sockets_are_gone_is_named_and_replaced_once_it_ended(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    uri = Work(adapter, "tx-1", base).volume.uri
    daemon = int((folder / "run" / "pid").read_text())
    (folder / "run" / "qmp").unlink()
    with pytest.raises(StoreUnavailable, match=str(daemon)):
        content(adapter, base, 0, 1)
    adapter.close()
    assert str(daemon) in adapter.check()[0]
    os.kill(daemon, signal.SIGTERM)
    wait_for_the_end_of(daemon)
    assert content(adapter, base, 0, 1) == b"a"
    assert Work(adapter, "tx-1", base).volume.uri.partition("?")[2] == uri.partition("?")[2]


@pytest.mark.drivers("qcow2")
def test_a_daemon_that_dies_right_after_its_start_is_started_again(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter.close()
    starts, pid = tmp_path / "starts", folder / "run" / "pid"
    killer = tmp_path / "qemu-storage-daemon"
    killer.write_text(
        "#!/bin/sh\n"
        f"echo start >> {starts}\n"
        f'{images.find("qemu-storage-daemon")} "$@" || exit 1\n'
        f"[ $(wc -l < {starts}) = 3 ] || kill -9 $(cat {pid})\n"
    )
    killer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert content(adapter, base, 0, 1) == b"a"
    assert starts.read_text().split() == ["start"] * 3


@pytest.mark.drivers("qcow2")
def test_a_daemon_whose_process_id_was_lost_is_stopped_as_well(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    content(adapter, base, 0, 1)
    (folder / "run" / "pid").unlink()
    adapter.close()
    assert not {"qmp", "nbd"} & {path.name for path in (folder / "run").iterdir()}


@pytest.mark.slow
@pytest.mark.drivers("qcow2", "raw")
@pytest.mark.parametrize("is_new", [True, False])
def test_a_volume_that_an_unreachable_daemon_serves_is_not_frozen_under_its_client(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path, is_new: bool
) -> None:
    work = Work(adapter, "tx-1", None if is_new else base)
    with work.volume.connect() as client:
        client.write(0, b"flushed")
        client.flush()
        daemon = int((folder / "run" / "pid").read_text())
        shutil.rmtree(folder / "run")
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match=r"another process .*pgrep"):
                    work.prepare()
            with pytest.raises(StoreUnavailable, match="pgrep"):
                adapter.restore("tx-1", work.port.stagings[KEY], base, items=None)
            client.write(7, b", too")
            client.flush()
        finally:
            os.kill(daemon, signal.SIGKILL)
    prepared = work.prepare()
    assert content(adapter, prepared, 0, 12) == b"flushed, too"
    assert adapter.verify(prepared, Depth.BYTES).problems == ()


def test_the_last_user_stops_the_daemon(fresh: Fresh, folder: Path) -> None:
    one, other = fresh(), fresh()
    work = Work(one, "tx-1").write(0, b"shared")
    snapshot = work.prepare()
    assert content(other, snapshot, 0, 6) == b"shared"
    one.close()
    assert content(other, snapshot, 0, 6) == b"shared"
    other.close()
    assert not (folder / "run" / "pid").exists()
    assert content(one, snapshot, 0, 6) == b"shared"


# -- diff --------------------------------------------------------------------------------------------------------------


def test_a_diff_names_exactly_the_pages_that_differ(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base)
    work.write(PAGE, b"x").write(5 << 20, b"y" * 3 * PAGE).write(0, b"a" * 10)
    expected = [f"@{PAGE}+{PAGE}", f"@{5 << 20}+{3 * PAGE}"]
    (staging,) = work.port.stagings.values()
    assert items(adapter, base, staging) == expected
    after = work.prepare()
    assert items(adapter, base, after) == expected
    assert items(adapter, after, base) == expected
    assert items(adapter, after, after) == []
    (limited,) = adapter.diff(base, after, items=[expected[0]])
    assert limited.item == expected[0]
    assert limited.kind is ItemChangeKind.ADDED
    assert {
        change.item: change.kind
        for change in adapter.diff(after, Work(adapter, "tx-2", after).write(0, bytes(PAGE)).prepare())
    } == {f"@0+{PAGE}": ItemChangeKind.REMOVED}


def test_a_diff_of_two_branches_goes_by_their_common_ancestor(adapter: BlockAdapter, base: SnapshotRef) -> None:
    left = Work(adapter, "tx-l", Work(adapter, "tx-m", base).write(0, b"L").prepare()).write(PAGE, b"l").prepare()
    right = Work(adapter, "tx-r", base).write(0, b"L").write(2 * PAGE, b"r").prepare()
    assert items(adapter, left, right) == [f"@{PAGE}+{2 * PAGE}"]


def test_a_diff_against_nothing_lists_what_is_not_zero(adapter: BlockAdapter, base: SnapshotRef) -> None:
    added = list(adapter.diff(None, base))
    assert [change.item for change in added] == [f"@0+{PAGE}", f"@{1 << 20}+{2 * PAGE}"]
    assert {change.kind for change in added} == {ItemChangeKind.ADDED}
    assert [change.kind for change in adapter.diff(base, None)] == [ItemChangeKind.REMOVED] * 2


# -- merge -------------------------------------------------------------------------------------------------------------


def merged(
    adapter: BlockAdapter, base: SnapshotRef, ours: SnapshotRef, theirs: SnapshotRef, *settled: Resolution
) -> Merged | Conflicted:
    return adapter.merge("tx-merge", 1, base=base, ours=ours, theirs=theirs, resolutions=settled)


def test_a_merge_joins_what_the_sides_wrote_apart(adapter: BlockAdapter, base: SnapshotRef) -> None:
    ours = Work(adapter, "tx-o", base).write(0, b"ours").write(3 << 20, b"same").prepare()
    theirs = Work(adapter, "tx-t", base).write(1 << 20, b"theirs").write(3 << 20, b"same").prepare()
    answer = merged(adapter, base, ours, theirs)
    assert isinstance(answer, Merged)
    assert merged(adapter, base, ours, theirs) == answer
    found = [content(adapter, answer.snapshot, at, 6) for at in (0, 1 << 20, 3 << 20)]
    assert found == [b"oursaa", b"theirs", b"same\0\0"]
    assert items(adapter, ours, answer.snapshot) == [f"@{1 << 20}+{PAGE}"]
    assert adapter.verify(answer.snapshot, Depth.BYTES).problems == ()


def test_extents_that_both_sides_wrote_differently_conflict_and_are_settled_one_by_one(
    adapter: BlockAdapter, base: SnapshotRef
) -> None:
    ours = Work(adapter, "tx-o", base).write(0, b"ours").write(1 << 20, b"ours").write(2 << 20, b"o").prepare()
    theirs = Work(adapter, "tx-t", base).write(0, b"theirs").write(1 << 20, b"theirs").write(4 << 20, b"t").prepare()
    answer = merged(adapter, base, ours, theirs)
    assert isinstance(answer, Conflicted)
    first, second = f"@0+{PAGE}", f"@{1 << 20}+{PAGE}"
    assert [conflict.item for conflict in answer.conflicts] == [first, second]
    settled = merged(
        adapter, base, ours, theirs, Resolution(KEY, first, Choice.THEIRS), Resolution(KEY, second, Choice.OURS)
    )
    assert isinstance(settled, Merged)
    found = [content(adapter, settled.snapshot, at, 6) for at in (0, 1 << 20, 2 << 20, 4 << 20)]
    assert found == [b"theirs", b"oursbb", b"o\0\0\0\0\0", b"t\0\0\0\0\0"]


# -- restore, abort ----------------------------------------------------------------------------------------------------


def test_a_whole_restore_holds_the_snapshot_and_votes_it_again(adapter: BlockAdapter, base: SnapshotRef) -> None:
    later = Work(adapter, "tx-1", base).write(0, b"later").prepare()
    work = Work(adapter, "tx-2", later).write(0, b"draft")
    (staging,) = work.port.stagings.values()
    for _ in range(2):
        assert adapter.restore("tx-2", staging, base, items=None) == staging
    assert work.volume.read(0, 5) == b"aaaaa"
    assert work.prepare().digest == base.digest


def test_a_restore_of_extents_leaves_the_rest(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"x").write(1 << 20, b"y")
    (staging,) = work.port.stagings.values()
    adapter.restore("tx-1", staging, base, items=[f"@0+{PAGE}"])
    assert [work.volume.read(0, 1), work.volume.read(1 << 20, 1)] == [b"a", b"y"]
    with pytest.raises(InvalidArgument, match="extent"):
        adapter.restore("tx-1", staging, base, items=["@0+999999999"])


def test_a_whole_restore_under_a_connected_client_is_refused(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"x")
    (staging,) = work.port.stagings.values()
    with work.volume.connect() as client:
        with pytest.raises(StoreUnavailable, match="connected"):
            adapter.restore("tx-1", staging, base, items=None)
        assert client.read(0, 1) == b"x"


def test_an_abort_leaves_nothing_of_its_transaction(adapter: BlockAdapter, base: SnapshotRef, folder: Path) -> None:
    before = {path for path in folder.rglob("*") if path.is_file() and "run" not in path.parts}
    work = Work(adapter, "tx-1", base).write(0, b"x")
    work.prepare()
    other = Work(adapter, "tx-2", base).write(0, b"y").prepare()
    merged(adapter, base, other, work.write(PAGE, b"z").prepare())
    for tx in ("tx-1", "tx-2", "tx-merge", "tx-unknown", "tx-1"):
        adapter.abort(tx)
    assert {path for path in folder.rglob("*") if path.is_file() and "run" not in path.parts} == before
    with pytest.raises(NotFound):
        work.volume.read(0, 1)
    assert content(adapter, base, 0, 1) == b"a"


def test_a_committed_transaction_leaves_its_layers_alone(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"lost")
    work.prepare()
    kept = work.write(0, b"kept").prepare()
    other = Work(adapter, "tx-2", base).write(PAGE, b"x")
    work.write(0, b"late")
    for _ in range(2):
        adapter.release("tx-1", [kept])
    assert not (folder / "places" / "tx-1").exists()
    assert not (folder / "votes" / "tx-1").exists()
    assert content(adapter, kept, 0, 4) == b"kept"
    assert adapter.verify(kept, Depth.BYTES).problems == ()
    with pytest.raises(NotFound, match="ended"):
        work.volume.read(0, 1)
    assert other.volume.read(PAGE, 1) == b"x"
    adapter.release("tx-2", [])
    layers = {path.name.split(".")[0] for path in folder.glob("layers/*.json")}
    assert layers == {one.id for one in adapter.layers.lineage(kept.version)}


def test_a_released_volume_with_clients_stays_until_they_have_gone(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    work = Work(adapter, "tx-1", base)
    with work.volume.connect() as client:
        client.write(0, b"mine")
        kept = work.prepare()
        adapter.release("tx-1", [kept])
        client.write(0, b"late")
        assert client.read(0, 4) == b"late"
    Work(adapter, "tx-2", base)
    adapter.release("tx-2", [])
    assert [path.name for path in folder.glob("places/*")] == ["tx-base"]
    assert content(adapter, kept, 0, 4) == b"mine"


# -- heads -------------------------------------------------------------------------------------------------------------


def publish(
    adapter: BlockAdapter, before: SnapshotRef | None, after: SnapshotRef | None, seq: int
) -> tuple[PublishState, SnapshotRef | None]:
    published = adapter.publish({KEY: Move(before, after, seq)})[KEY]
    return published.state, published.found


def test_a_head_moves_once_and_a_machine_runs_on_it(adapter: BlockAdapter, base: SnapshotRef) -> None:
    after = Work(adapter, "tx-1", base).write(0, b"next").prepare()
    assert publish(adapter, None, base, 1) == (PublishState.DONE, None)
    assert adapter.live(base.asset).read(0, 4) == b"aaaa"
    for _ in range(2):
        assert publish(adapter, base, after, 2) == (PublishState.DONE, None)
    assert adapter.live(base.asset).read(0, 4) == b"next"
    assert publish(adapter, base, after, 1) == (PublishState.DONE, None)
    assert publish(adapter, after, base, 1) == (PublishState.BUSY, None)
    assert publish(adapter, after, None, 3) == (PublishState.DONE, None)
    with pytest.raises(NotFound):
        adapter.live(base.asset)


def test_writes_past_plait_diverge_and_nothing_is_overwritten(adapter: BlockAdapter, base: SnapshotRef) -> None:
    after = Work(adapter, "tx-1", base).write(0, b"next").prepare()
    publish(adapter, None, base, 1)
    live = adapter.live(base.asset)
    live.write(PAGE, b"machine")
    state, found = publish(adapter, base, after, 2)
    assert state is PublishState.DIVERGED
    assert found is not None
    assert content(adapter, found, PAGE, 7) == b"machine"
    assert live.read(PAGE, 7) == b"machine"
    assert publish(adapter, base, after, 2) == (PublishState.DIVERGED, found)
    answer = merged(adapter, base, after, found)
    assert isinstance(answer, Merged)
    assert publish(adapter, found, answer.snapshot, 3) == (PublishState.DONE, None)
    assert live.read(0, 4) + live.read(PAGE, 7) == b"nextmachine"


def test_a_head_in_use_is_busy(adapter: BlockAdapter, base: SnapshotRef) -> None:
    after = Work(adapter, "tx-1", base).write(0, b"next").prepare()
    publish(adapter, None, base, 1)
    with adapter.live(base.asset).connect() as client:
        assert publish(adapter, base, after, 2) == (PublishState.BUSY, None)
        assert client.read(0, 1) == b"a"
    assert publish(adapter, base, after, 2) == (PublishState.DONE, None)


def test_what_is_written_after_a_move_that_died_diverges_though_it_stands_on_another_head(
    adapter: BlockAdapter, base: SnapshotRef
) -> None:
    after = Work(adapter, "tx-1", base).write(0, b"next").prepare()
    publish(adapter, None, after, 1)

    def die(name: str) -> None:
        if name == "block.publish.before_head":
            raise InterruptedError(name)

    with pytest.raises(InterruptedError), armed(die):
        publish(adapter, after, base, 2)
    adapter.live(base.asset).write(PAGE, b"machine")
    state, found = publish(adapter, after, base, 2)
    assert state is PublishState.DIVERGED
    assert found is not None
    assert content(adapter, found, 0, 4) + content(adapter, found, PAGE, 7) == b"aaaamachine"


def test_what_is_written_while_a_head_goes_is_not_lost(adapter: BlockAdapter, base: SnapshotRef) -> None:
    publish(adapter, None, base, 1)

    def write(name: str) -> None:
        if name == "block.publish.before_live":
            adapter.live(base.asset).write(PAGE, b"machine")

    with armed(write):
        assert publish(adapter, base, None, 2) == (PublishState.BUSY, None)
    state, found = publish(adapter, base, None, 2)
    assert state is PublishState.DIVERGED
    assert found is not None
    assert content(adapter, found, PAGE, 7) == b"machine"


def test_a_live_volume_is_frozen_under_its_machine_with_the_guests_hooks(
    fresh: Fresh, base: SnapshotRef, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    hooks = {f"{when}_freeze": f"sh -c 'echo {when} $PLAIT_ASSET $PLAIT_URI >> {log}'" for when in ("pre", "post")}
    adapter = fresh(pre_freeze=hooks["pre_freeze"], post_freeze=hooks["post_freeze"])
    publish(adapter, None, base, 1)
    native: dict[Key, str] = {KEY: f"live:{base.asset}"}
    assert adapter.snapshot("tx-1", native) == {KEY: base}
    with adapter.live(base.asset).connect() as client:
        client.write(0, b"busy")
        frozen = adapter.snapshot("tx-1", native)[KEY]
        client.write(0, b"more")
        assert content(adapter, frozen, 0, 4) == b"busy"
    uri = adapter.live(base.asset).uri
    assert log.read_text().split() == ["pre", base.asset, uri, "post", base.asset, uri]
    assert publish(adapter, base, frozen, 2)[0] is PublishState.DIVERGED


def test_a_guest_that_cannot_be_quieted_is_not_frozen(fresh: Fresh, base: SnapshotRef) -> None:
    adapter = fresh(pre_freeze="false")
    publish(adapter, None, base, 1)
    adapter.live(base.asset).write(0, b"x")
    with pytest.raises(StoreUnavailable, match="pre_freeze"):
        adapter.snapshot("tx-1", {KEY: f"live:{base.asset}"})
    assert adapter.live(base.asset).read(0, 1) == b"x"


@pytest.mark.drivers("qcow2", "raw")  # Of images in Ceph: test_drivers.py.
def test_what_a_merge_cut_off_a_volume_is_a_difference(adapter: BlockAdapter, tmp_path: Path) -> None:
    def imported(name: str, content: bytes) -> SnapshotRef:
        (tmp_path / name).write_bytes(content)
        return adapter.snapshot(f"tx-{name}", {KEY: str(tmp_path / name)})[KEY]

    base = imported("base", bytes(SIZE) + b"z" * SIZE)
    ours = Work(adapter, "tx-1", base).write(0, b"x").prepare()
    answer = adapter.merge("tx-m", 1, base=base, ours=ours, theirs=imported("cut", bytes(SIZE)))
    assert isinstance(answer, Merged)
    assert adapter.open(answer.snapshot, None).size_bytes == SIZE
    assert items(adapter, ours, answer.snapshot) == items(adapter, answer.snapshot, ours) == [f"@{SIZE}+{SIZE}"]


# -- imports -----------------------------------------------------------------------------------------------------------


@pytest.mark.drivers("qcow2")
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_an_image_is_taken_in_where_it_is(adapter: BlockAdapter, tmp_path: Path, folder: Path, form: str) -> None:
    raw, image = tmp_path / "raw", tmp_path / f"image.{form}"
    raw.write_bytes(b"theirs".ljust(1 << 20, b"\0") + bytes(1 << 20))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, str(raw), str(image)], check=True)
    taken = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]
    assert adapter.snapshot("tx-j", {KEY: f"file://{image}"}) == {KEY: taken}
    assert not list(folder.rglob("*.qcow2"))
    assert content(adapter, taken, 0, 6) == b"theirs"
    after = Work(adapter, "tx-1", taken).write(PAGE, b"ours").prepare()
    assert items(adapter, taken, after) == [f"@{PAGE}+{PAGE}"]
    assert [risk.affects for risk in adapter.retention_risks()] == [str(image)]
    work = adapter.open_store(Work(adapter, "tx-2").port)
    assert work.create_from("copy", image).read(0, 6) == b"theirs"


@pytest.mark.drivers("qcow2")
def test_internal_snapshots_of_an_image_are_said_to_stay_behind(adapter: BlockAdapter, tmp_path: Path) -> None:
    image = tmp_path / "images" / "disk.qcow2"
    image.parent.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    for name in ("first", "second"):
        subprocess.run(["qemu-img", "snapshot", "-c", name, str(image)], check=True)
    (image.parent / "raw.img").write_bytes(bytes(1 << 20))
    disk, raw = adapter.discover(str(image.parent))
    assert (["internal snapshots (2)" in risk.rule for risk in disk.risks], disk.refusal, raw.risks) == ([True], "", ())
    adapter.snapshot("tx-i", {KEY: str(image)})
    assert disk.risks[0] in list(adapter.retention_risks())
    image.unlink()
    (gone,) = adapter.retention_risks()
    assert (gone.affects, "is gone" in gone.rule, "put it back" in gone.remedy) == (str(image), True, True)


@pytest.mark.drivers("qcow2")
def test_a_changed_image_is_found_out(adapter: BlockAdapter, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    taken = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]
    image.write_bytes(b"x" * (1 << 20))
    assert "written to after its import" in adapter.verify(taken, Depth.METADATA).problems[0]
    assert "other bytes" in adapter.verify(taken, Depth.BYTES).problems[0]


@pytest.mark.drivers("qcow2")
def test_images_that_plait_cannot_take_in_are_refused(adapter: BlockAdapter, tmp_path: Path) -> None:
    parent, child = tmp_path / "parent.qcow2", tmp_path / "child.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(parent), "1M"], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(parent), "-F", "qcow2", str(child)], check=True
    )
    with pytest.raises(Unsupported, match="flatten"):
        adapter.snapshot("tx-i", {KEY: str(child)})
    with pytest.raises(NotFound, match="does not exist"):
        adapter.snapshot("tx-i", {KEY: str(tmp_path / "nothing")})
    with pytest.raises(InvalidArgument, match="absolute"):
        adapter.snapshot("tx-i", {KEY: "disk.img"})


@pytest.mark.slow
@pytest.mark.drivers("qcow2")
def test_damaged_encrypted_and_odd_images_are_refused_and_leave_the_name_free(
    adapter: BlockAdapter, tmp_path: Path
) -> None:
    whole, cut, locked, odd, empty = (tmp_path / name for name in ("whole", "cut", "locked", "odd", "empty"))
    odd.write_bytes(os.urandom(1000))
    empty.touch()
    (tmp_path / "raw").write_bytes(os.urandom(1 << 20))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "raw"), str(whole)], check=True)
    cut.write_bytes(whole.read_bytes()[: 1 << 19])
    secret = ["--object", "secret,id=key,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=key"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *secret, str(locked), "1M"], check=True)
    volumes = adapter.open_store(MemoryPort(adapter, "tx-1"))
    for image, error, why in (
        (cut, InvalidArgument, "damaged"),
        (locked, Unsupported, "encrypted"),
        (odd, InvalidArgument, "1000 bytes"),
        (empty, InvalidArgument, "0 bytes.*leave it out"),
    ):
        with pytest.raises(error, match=why):
            volumes.create_from("disk0", image)
    assert volumes.create_from("disk0", whole).size_bytes == 1 << 20


# -- space -------------------------------------------------------------------------------------------------------------


def grown(adapter: BlockAdapter, base: SnapshotRef, commits: int) -> list[SnapshotRef]:
    history = [base]
    for number in range(commits):
        work = Work(adapter, f"tx-{number}", history[-1])
        history.append(work.write(number * PAGE, b"%04d" % number).prepare())
    return history


@pytest.mark.slow
@pytest.mark.drivers("qcow2")
def test_chains_stay_short_and_every_version_readable(adapter: BlockAdapter, base: SnapshotRef, folder: Path) -> None:
    history = grown(adapter, base, 40)
    assert len(list(folder.glob("layers/*.key.qcow2"))) == 1
    newest = history[-1]
    assert content(adapter, newest, 39 * PAGE, 4) == b"0039"
    assert content(adapter, newest, 3 * PAGE, 4) == b"0003"
    assert len([item for item in adapter.reachable(newest) if item.path.endswith(".qcow2")]) <= 32
    assert items(adapter, history[-3], newest) == [f"@{38 * PAGE}+{2 * PAGE}"]
    assert items(adapter, history[20], newest) == [f"@{20 * PAGE}+{20 * PAGE}"]
    assert adapter.verify(newest, Depth.BYTES).problems == ()


@pytest.mark.slow
@pytest.mark.drivers("qcow2")
def test_a_key_frame_that_fails_says_so_and_leaves_nothing_half_done(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    history = grown(adapter, base, 31)
    root = adapter.layers.own_files(adapter.layers.get(base.version))[1]
    root.chmod(0o644)
    content = bytearray(root.read_bytes())
    tables = int.from_bytes(content[40:48], "big")
    content[tables + 6] ^= 2  # The place of the first table of places is none any more.
    root.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="key frame"):
        Work(adapter, "tx-full", history[-1]).write(0, b"x")
    assert not list(folder.glob("layers/*key*"))
    assert not list(folder.glob("layers/.*"))


@pytest.mark.slow
@pytest.mark.drivers("qcow2")
def test_freezing_under_a_client_keeps_the_chain_short_as_well(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    work = Work(adapter, "tx-1", base)
    with work.volume.connect() as client:
        for number in range(40):
            client.write(number * PAGE, b"%04d" % number)
            last = work.prepare()
        client.write(0, b"x")
        assert client.read(39 * PAGE, 4) == b"0039"
    assert len([item for item in adapter.reachable(last) if item.path.endswith(".qcow2")]) <= 32
    assert content(adapter, last, 5 * PAGE, 4) == b"0005"
    assert content(adapter, work.prepare(), 5 * PAGE, 4) == b"0005"


def test_a_commit_in_a_long_history_reads_no_more_records(
    adapter: BlockAdapter, base: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside one that is a key frame's distance before, so that chains are of one length."""
    monkeypatch.setattr(qcow2, "CHAIN_MAX", 4)
    publish(adapter, None, base, 1)
    read, heads, costs = Folder.read, [base], []

    def counting(folder: Folder, path: Path) -> Mapping[str, Any] | None:
        costs[-1] += 1
        return read(folder, path)

    monkeypatch.setattr(Folder, "read", counting)
    for number in range(12):
        costs.append(0)
        work = Work(adapter, f"tx-{number}", heads[-1]).write(number * PAGE, b"x")
        heads.append(work.prepare())
        publish(adapter, heads[-2], heads[-1], number + 2)
        adapter.release(work.port.tx, [heads[-1]])
        assert items(adapter, heads[-2], heads[-1]) == [f"@{number * PAGE}+{PAGE}"]
    assert max(costs[-4:]) <= max(costs[4:-4])


@pytest.mark.slow
@pytest.mark.drivers("qcow2")
def test_what_is_collected_breaks_no_kept_layer_and_no_working_set(adapter: BlockAdapter, base: SnapshotRef) -> None:
    history = grown(adapter, base, 40)
    work = Work(adapter, "tx-open", history[2]).write(0, b"open")
    newest = history[-1]
    kept = {item.path for snapshot in (newest, history[2]) for item in adapter.reachable(snapshot)}
    dead = [item for item in adapter.inventory() if item.path not in kept]
    assert len(dead) > 40
    assert kept <= {item.path for item in adapter.inventory()}
    with pytest.raises(InvalidArgument, match="care"):
        adapter.delete([Item("../elsewhere")])
    for _ in range(2):
        adapter.delete(dead)
    assert adapter.verify(newest, Depth.BYTES).problems == ()
    assert content(adapter, newest, 3 * PAGE, 4) == b"0003"
    assert work.volume.read(0, 4) == b"open"
    assert items(adapter, history[2], newest) == [f"@{2 * PAGE}+{38 * PAGE}"]
    assert adapter.verify(history[7], Depth.EXISTS).problems


def test_a_collection_breaks_no_export_that_a_client_reads(
    adapter: BlockAdapter, base: SnapshotRef, driver: str
) -> None:
    history = grown(adapter, base, 4)
    kept = {item.path for item in adapter.reachable(history[1])}
    dead = [item for item in adapter.inventory() if item.path not in kept]
    with adapter.open(history[3], None).connect() as client:
        with pytest.raises(StoreUnavailable, match="is read by a client") if driver == "rbd" else nullcontext():
            adapter.delete(dead)
        assert client.read(2 * PAGE, 4) == b"0002"
        assert client.read(PAGE, 4) == b"0001"
    adapter.delete(dead)
    assert adapter.verify(history[3], Depth.EXISTS).problems
    assert adapter.verify(history[1], Depth.BYTES).problems == ()


def test_what_a_live_volume_stands_on_is_not_deleted(adapter: BlockAdapter, base: SnapshotRef) -> None:
    publish(adapter, None, base, 1)
    with pytest.raises(InvalidArgument, match="in use"):
        adapter.delete(adapter.reachable(base))
    assert content(adapter, base, 0, 1) == b"a"


def test_a_freeze_that_no_vote_names_is_not_collected(adapter: BlockAdapter, base: SnapshotRef) -> None:
    work = Work(adapter, "tx-1", base).write(0, b"x")

    def die(name: str) -> None:
        if name == "block.prepare.before_vote":
            raise KeyboardInterrupt

    with armed(die), pytest.raises(KeyboardInterrupt):
        work.prepare()
    kept = {item.path for item in adapter.reachable(base)}
    with pytest.raises(InvalidArgument, match="in use"):
        adapter.delete([item for item in adapter.inventory() if item.path not in kept])
    assert content(adapter, work.prepare(), 0, 1) == b"x"


@pytest.mark.drivers("qcow2")
def test_branches_cost_what_they_change(adapter: BlockAdapter, folder: Path) -> None:
    work = Work(adapter, "tx-base")
    for at in range(0, SIZE, 1 << 20):
        work.write(at, os.urandom(1 << 20))
    base = work.prepare()
    changed = SIZE // 8
    for branch in range(4):
        Work(adapter, f"tx-{branch}", base).write(0, os.urandom(changed)).prepare()
    used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*.qcow2"))
    assert used <= (SIZE + 4 * changed) * 1.2


@pytest.mark.drivers("qcow2", "raw")
@pytest.mark.parametrize("what", ["bytes", "record", "gone"])
def test_verify_finds_what_is_broken(adapter: BlockAdapter, base: SnapshotRef, what: str) -> None:
    after = Work(adapter, "tx-1", base).write(0, b"x").prepare()
    adapter.close()
    needed = base if adapter.layers.flips else after  # A chain needs what is below it.
    record, path = adapter.layers.own_files(adapter.layers.get(needed.version))
    if what == "gone":
        path.unlink()
    elif what == "record":
        record.write_text(record.read_text().replace('"size_bytes": 8', '"size_bytes": 9'))
    else:
        path.chmod(0o644)
        with path.open("r+b") as stream:
            stream.seek(-100, os.SEEK_END)
            stream.write(b"rot")
    found = {depth: adapter.verify(after, depth).problems != () for depth in Depth}
    assert found[Depth.BYTES]
    assert found[Depth.METADATA] == (what != "bytes")
    assert found[Depth.EXISTS] == (what == "gone")


@pytest.mark.drivers("qcow2")
@pytest.mark.parametrize("is_framed", [False, True])
def test_what_was_cut_short_is_not_read_as_zeroes_nor_built_upon(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path, monkeypatch: pytest.MonkeyPatch, is_framed: bool
) -> None:
    monkeypatch.setattr(qcow2, "CHAIN_MAX", 1 if is_framed else 9)
    after = Work(adapter, "tx-1", base).write(0, b"x").prepare()
    other = Work(adapter, "tx-2", base).write(1 << 20, b"y").prepare()
    adapter.close()
    path = folder / "layers" / f"{base.version}{'.key' * is_framed}.qcow2"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: len(whole) - 4096])
    assert adapter.verify(after, Depth.METADATA).problems
    for call in (
        lambda: content(adapter, after, 1 << 20, 1),
        lambda: Work(adapter, "tx-3", after).write(0, b"z"),
        lambda: adapter.merge("tx-4", 1, base=base, ours=after, theirs=other),
    ):
        with pytest.raises(Corrupt, match=path.name):
            call()
    adapter.abort("tx-3")
    path.write_bytes(whole)
    assert content(adapter, after, 1 << 20, 1) == b"b"
    assert adapter.verify(after, Depth.BYTES).problems == ()
    assert isinstance(adapter.merge("tx-4", 1, base=base, ours=after, theirs=other), Merged)
    path.unlink()
    with pytest.raises(Corrupt, match=path.name):
        content(adapter, after, 1 << 20, 1)


@pytest.mark.drivers("qcow2")
def test_an_image_that_cannot_be_opened_is_named(adapter: BlockAdapter, base: SnapshotRef, folder: Path) -> None:
    adapter.close()
    path = folder / "layers" / f"{base.version}.qcow2"
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(60)  # The header's count of internal snapshots.
        stream.write(b"\xff\xff\xff\xff")
    with pytest.raises(StoreUnavailable, match=rf"{path.name}.*plait verify"):
        content(adapter, base, 0, 1)


@pytest.mark.drivers("qcow2")
def test_a_store_whose_daemon_was_killed_is_closed_at_once(
    adapter: BlockAdapter, base: SnapshotRef, folder: Path
) -> None:
    content(adapter, base, 0, 1)
    os.kill(int((folder / "run/pid").read_text()), signal.SIGKILL)
    began = time.monotonic()
    adapter.close()
    assert time.monotonic() - began < 5  # It waited 10 s for the end of what was gone.
    assert not {"pid", "qmp", "nbd"} & {path.name for path in (folder / "run").iterdir()}


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.drivers("qcow2")
def test_a_disk_that_is_full_is_said_with_what_to_do() -> None:
    with (
        pytest.raises(StoreUnavailable, match="file place cannot be reached: full") as caught,
        translated("file place"),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert "make room" in caught.value.remedy


@pytest.mark.drivers("qcow2")
def test_bad_options_are_named(fresh: Fresh) -> None:
    with pytest.raises(InvalidArgument, match="colour"):
        fresh(colour="red")
    with pytest.raises(InvalidArgument, match="absolute"):
        fresh(path="volumes")
    with pytest.raises(InvalidArgument, match="zfs"):
        fresh(driver="zfs")
    with pytest.raises(InvalidArgument, match="pool"):
        fresh(driver="rbd")
    with pytest.raises(InvalidArgument, match="'pool'"):
        fresh(pool="rbd")


@pytest.mark.drivers("qcow2")
def test_a_store_is_checked(adapter: BlockAdapter) -> None:
    assert adapter.check() == ()


def test_bad_ids_and_sizes_are_refused(adapter: BlockAdapter, base: SnapshotRef) -> None:
    with pytest.raises(InvalidArgument, match="no id"):
        adapter.abort("../../etc")
    with pytest.raises(InvalidArgument, match="multiple of 512"):
        adapter.open_store(Work(adapter, "tx-2").port).create("disk1", size_bytes=1000)
    with pytest.raises(InvalidArgument, match="outside"):
        content(adapter, base, SIZE, 1)
    with pytest.raises(NotFound):
        adapter.locate(SnapshotRef("vm", "block", "x", "0" * 24, b""))
