"""Dying at every failpoint of whole lives, with and without the daemon, and going on with another instance."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from plait.codec import decode_snapshot, encode_snapshot
from plait.failpoint import armed
from plait.types import Depth, Merged, Move, PublishState, SnapshotRef
from plait_block import BlockAdapter, qcow2

from .conftest import KEY, SIZE, Fresh, Work, content, ext4_image

PAGE = 4096
Life = Callable[[BlockAdapter], None]


class Died(BaseException):
    """What nobody catches."""


def work_on(adapter: BlockAdapter, tx: str, base: SnapshotRef, page: int, text: bytes) -> SnapshotRef:
    """A client that stays connected while its volume is prepared."""
    work = Work(adapter, tx, base)
    with work.volume.connect() as client:
        client.write(page * PAGE, text)
        client.flush()
        return work.prepare()


def begun(adapter: BlockAdapter, folder: Path) -> SnapshotRef:
    image = folder.parent / "image"
    if not image.exists():
        image.write_bytes(b"base".ljust(SIZE, b"\0"))
    return adapter.snapshot("tx-i", {KEY: str(image)})[KEY]


def working(folder: Path) -> Life:
    """Stage, write, prepare, merge, restore, prepare again."""

    def life(adapter: BlockAdapter) -> None:
        base = begun(adapter, folder)
        ours, theirs = work_on(adapter, "tx-1", base, 1, b"ours"), work_on(adapter, "tx-2", base, 2, b"they")
        merged = adapter.merge("tx-3", 1, base=base, ours=ours, theirs=theirs)
        assert isinstance(merged, Merged)
        assert [content(adapter, merged.snapshot, at * PAGE, 4) for at in range(3)] == [b"base", b"ours", b"they"]
        again = Work(adapter, "tx-4", merged.snapshot).write(0, b"xxxx").write(3 * PAGE, b"more")
        (staging,) = again.port.stagings.values()
        adapter.restore("tx-4", staging, base, items=[f"@0+{PAGE}"])
        prepared = again.prepare()
        expected = [b"base", b"ours", b"they", b"more"]
        assert [content(adapter, prepared, at * PAGE, 4) for at in range(4)] == expected
        adapter.restore("tx-4", staging, ours, items=None)
        again.attempt = 1
        assert content(adapter, again.prepare(), PAGE, 8) == b"ours\0\0\0\0"
        for snapshot in (ours, theirs, merged.snapshot, prepared):
            assert adapter.verify(snapshot, Depth.BYTES).problems == ()

    return life


def publishing(folder: Path) -> Life:
    """Publish, write past plait, find that, go on."""

    def life(adapter: BlockAdapter) -> None:
        base = begun(adapter, folder)
        after = work_on(adapter, "tx-1", base, 1, b"next")
        published = adapter.publish({KEY: Move(None, base, 1)})[KEY]
        if published.state is PublishState.DONE:
            with adapter.live(base.asset).connect() as client:
                client.write(2 * PAGE, b"live")
                client.flush()
                adapter.freeze(base.asset)
            published = adapter.publish({KEY: Move(base, after, 2)})[KEY]
        assert published.state is PublishState.DIVERGED
        assert published.found is not None
        assert content(adapter, published.found, 2 * PAGE, 4) == b"live"
        assert adapter.live(base.asset).read(2 * PAGE, 4) == b"live"
        assert adapter.verify(published.found, Depth.BYTES).problems == ()

    return life


def ending(folder: Path) -> Life:
    """Grow past a key frame, discard, collect."""

    def grow(adapter: BlockAdapter) -> tuple[SnapshotRef, SnapshotRef]:
        snapshot = base = begun(adapter, folder)
        for number in range(4):
            snapshot = work_on(adapter, f"tx-{number}", snapshot, number + 1, b"%04d" % number)
            adapter.release(f"tx-{number}", [snapshot])
        work_on(adapter, "tx-gone", snapshot, 9, b"gone")
        adapter.abort("tx-gone")
        return base, snapshot

    def life(adapter: BlockAdapter) -> None:
        # What is grown is in commits: those who collect do not grow it again.
        grown = folder / "grown"
        if not grown.exists():
            grown.write_text("\n".join(encode_snapshot(one).hex() for one in grow(adapter)))
        base, snapshot = (decode_snapshot(bytes.fromhex(line)) for line in grown.read_text().split())
        kept = {item.path for one in (base, snapshot) for item in adapter.reachable(one)}
        adapter.delete([item for item in adapter.inventory() if item.path not in kept])
        assert [content(adapter, snapshot, at * PAGE, 4) for at in (0, 1, 4)] == [b"base", b"0000", b"0003"]
        assert adapter.verify(snapshot, Depth.BYTES).problems == ()
        assert {item.path for item in adapter.inventory()} <= kept

    return life


def editing(folder: Path) -> Life:
    """Change files in place, and merge them."""

    def life(adapter: BlockAdapter) -> None:
        image = folder.parent / "disk"
        if not image.exists():
            ext4_image(image, {"a": "a\n", "b": "b\n"})
        base = adapter.snapshot("tx-i", {KEY: str(image)})[KEY]
        sides = []
        for name in ("a", "b"):
            work = Work(adapter, f"tx-{name}", base)
            with work.volume.files() as root:
                (root / name).write_text("changed\n")
            sides.append(work.prepare())
        merged = adapter.merge("tx-m", 1, base=base, ours=sides[0], theirs=sides[1])
        assert isinstance(merged, Merged)
        work = Work(adapter, "tx-r", merged.snapshot)
        (staging,) = work.port.stagings.values()
        adapter.restore("tx-r", staging, base, items=["b"])
        with adapter.open(work.prepare(), None).files() as root:
            assert [(root / name).read_text() for name in ("a", "b")] == ["changed\n", "b\n"]

    return life


@pytest.mark.parametrize(
    "kills_daemon",
    [
        pytest.param(lambda number: number % 2, id="every-other-daemon"),
        pytest.param(lambda number: False, id="no-daemon", marks=pytest.mark.slow),
        pytest.param(lambda number: True, id="every-daemon", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("lives", [working, publishing, ending, editing])
def test_a_death_at_any_step_is_gone_on_from(
    lives: Callable[[Path], Life],
    kills_daemon: Callable[[int], bool],
    tmp_path: Path,
    make_fresh: Callable[[Path], Fresh],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at_every_step(lives, kills_daemon, tmp_path, make_fresh, monkeypatch)


@pytest.mark.drivers("raw")
@pytest.mark.parametrize("lives", [working, publishing])
def test_with_other_drivers_as_well(
    lives: Callable[[Path], Life],
    tmp_path: Path,
    make_fresh: Callable[[Path], Fresh],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at_every_step(lives, lambda number: number % 2, tmp_path, make_fresh, monkeypatch)


def dies_at_every_step(
    lives: Callable[[Path], Life],
    kills_daemon: Callable[[int], int],
    tmp_path: Path,
    make_fresh: Callable[[Path], Fresh],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(qcow2, "CHAIN_MAX", 3)
    names: list[str] = []
    whole = tmp_path / "whole" / "volumes"
    whole.parent.mkdir()
    with armed(names.append):
        lives(whole)(make_fresh(whole)())
    places = [(name, names[: at + 1].count(name)) for at, name in enumerate(names) if name.startswith("block.")]
    chosen = [place for place in places if place[1] in (1, names.count(place[0]))]
    assert len({name for name, _ in chosen}) > 4
    for number, (name, count) in enumerate(chosen):
        folder = tmp_path / str(number) / "volumes"
        fresh = make_fresh(folder)
        left = count

        def die(reached: str, name: str = name, folder: Path = folder, number: int = number) -> None:
            nonlocal left
            if reached == name:
                left -= 1
                if not left:
                    if kills_daemon(number) and (folder / "run" / "pid").exists():
                        os.kill(int((folder / "run" / "pid").read_text()), signal.SIGKILL)
                        (folder / "run" / "pid").unlink()
                    raise Died(name)

        folder.parent.mkdir()
        with armed(die), pytest.raises(Died):
            lives(folder)(fresh())
        lives(folder)(fresh())
