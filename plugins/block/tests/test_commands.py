"""`plait cat`, `get`, `put`, `ls` and `rm` of files in volumes, as they are typed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plait
import pytest
from plait.errors import InvalidArgument, Unsupported
from plait_block import Volume, Volumes
from plait_conformance.fixtures import Ran

from .conftest import SIZE, ext4_image

TREE = {"etc/hosts": "127.0.0.1\n", "models/deep/a[1].bin": "weights", "models/m.bin": "m"}


@pytest.fixture
def here(here: Path, tmp_path: Path) -> Path:
    """The catalog with one volume, which has links out of it."""
    (tmp_path / "image.tree/etc").mkdir(parents=True)
    (tmp_path / "image.tree/etc/passwd").symlink_to("/etc/passwd")
    (tmp_path / "image.tree/host").symlink_to("/etc")
    image = ext4_image(tmp_path / "image", TREE)
    with plait.open(".") as catalog:
        catalog.add_store("vm", "block", {"path": str(tmp_path / "volumes")})
        with catalog.transaction(message="import") as tx:
            catalog.backend.import_assets(tx.id, {("vm", "disk0"): str(image)})
    return here


def items(ran: Ran) -> list[str]:
    code, rows = ran
    assert code == 0, rows
    return [row["item"] for row in rows]


def told(ran: Ran) -> tuple[int, str]:
    code, document = ran
    return code, document["message"]


def test_files_are_listed_and_read_at_any_commit(plaited: Callable[..., Ran], here: Path) -> None:
    assert items(plaited("ls", "vm.disk0::")) == ["etc/", "host", "models/"]
    assert items(plaited("ls", "vm.disk0::models")) == ["models/deep/", "models/m.bin"]
    assert items(plaited("ls", "-r", "vm.disk0::models")) == ["models/deep/a[1].bin", "models/m.bin"]
    assert plaited("cat", "vm.disk0::etc/hosts") == (
        0,
        {"item": "vm.disk0::etc/hosts", "bytes": 10, "content": "127.0.0.1\n"},
    )
    (here / "hosts").write_text("later")
    plaited("put", "hosts", "vm.disk0::etc/hosts", "-m", "edit")
    assert plaited("cat", "vm.disk0::etc/hosts")[1]["content"] == "later"
    assert plaited("cat", "vm.disk0::etc/hosts", "--at", "main~1")[1]["content"] == "127.0.0.1\n"


def test_folders_are_got_without_what_leads_elsewhere(plaited: Callable[..., Ran], here: Path) -> None:
    assert plaited("get", "vm.disk0", "all") == (0, {"folder": "all", "objects": 3})
    got = {path.relative_to(here / "all").as_posix(): path.read_text() for path in (here / "all").rglob("*.*")}
    assert got == {name: text for name, text in TREE.items() if "." in name}
    assert not os.path.lexists(here / "all/host")
    assert plaited("get", "vm.disk0::models/m.bin", "one")[1] == {"file": "one", "bytes": 1}
    assert told(plaited("get", "vm.disk0::etc/passwd", "two")) == (3, "vm.disk0::etc/passwd does not exist")
    assert not (here / "two").exists()


def test_a_link_is_described_and_never_followed(plaited: Callable[..., Ran]) -> None:
    code, (link,) = plaited("cat", "vm.disk0::host")
    assert (code, link["kind"], link["target"]) == (0, "link", "/etc")
    assert told(plaited("cat", "vm.disk0::host/passwd"))[1] == "vm.disk0::host/passwd does not exist"
    assert "behind the link host" in told(plaited("put", "/etc/hostname", "vm.disk0::host/passwd", "-m", "out"))[1]
    assert "link in the volume" in told(plaited("put", "/etc/hostname", "vm.disk0::etc/passwd", "-m", "out"))[1]


def test_files_and_folders_are_put_and_removed(plaited: Callable[..., Ran], here: Path) -> None:
    (here / "new/sub").mkdir(parents=True)
    (here / "new/sub/x").write_text("x")
    (here / "new/y").write_text("y")
    assert plaited("begin")[0] == 0
    assert plaited("put", "new", "vm.disk0::srv")[1]["objects"] == 2
    assert plaited("put", "new/y", "vm.disk0::etc/")[0] == 0
    assert plaited("cat", "vm.disk0::etc/y")[1]["content"] == "y"
    assert told(plaited("rm", "vm.disk0::models"))[0] == 2
    removed = ["vm.disk0::models", "vm.disk0::models/deep", "vm.disk0::models/deep/a[1].bin", "vm.disk0::models/m.bin"]
    assert plaited("rm", "-r", "vm.disk0::models") == (0, {"removed": removed})
    assert plaited("rm", "vm.disk0::host")[0] == 0
    assert plaited("commit", "-m", "by hand")[0] == 0
    listed = ["etc", "etc/hosts", "etc/passwd", "etc/y", "srv", "srv/sub", "srv/sub/x", "srv/y"]
    assert items(plaited("cat", "vm.disk0")) == listed


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("etc", "etc is a folder in the volume"),
        ("models/m.bin/x", "models/m.bin is no folder in the volume"),
        ("../x", "item '../x' is no path in the volume"),
        ("x" * 256, f"item '{'x' * 256}' cannot be a path in the volume"),
        ("x/" * 300 + "x", f"item '{'x/' * 300}x' cannot be a path in the volume"),
        ("big", "the filesystem in the volume is full; nothing was changed"),
    ],
)
def test_what_cannot_be_put_is_said_and_changes_nothing(
    plaited: Callable[..., Ran], here: Path, path: str, message: str
) -> None:
    (here / "content").write_bytes(os.urandom((32 << 20) if path == "big" else 8))
    before = plaited("log")[1]
    code, said = told(plaited("put", "content", f"vm.disk0::{path}", "-m", "no"))
    assert code not in (0, 1)
    assert said == message
    assert plaited("log")[1] == before
    assert plaited("tx", "list")[1] == []


def test_a_volume_without_a_filesystem_is_read_by_extent(plaited: Callable[..., Ran], here: Path) -> None:
    with plait.open(".") as catalog, catalog.transaction(message="raw bytes") as tx:
        volumes: Volumes = tx.store("vm")  # type: ignore[assignment]
        volumes.create("disk1", size_bytes=SIZE).write(4096, b"bytes")
    assert items(plaited("cat", "vm.disk1::@4096+4096")) == ["@4096+4096"]
    assert told(plaited("cat", "vm.disk1::etc/hosts"))[0] == 3
    for words in (["ls", "vm.disk1::"], ["get", "vm.disk1", "all"], ["put", "/etc/hostname", "vm.disk1::x", "-m", "x"]):
        assert "no ext4 filesystem is in the volume" in told(plaited(*words))[1]
    assert told(plaited("open", "vm.disk0::etc/hosts"))[1] == "vm.disk0::etc/hosts is no object of a bucket"
    with plait.open(".") as catalog:
        tx = catalog.begin(message="no files")
        for volume in (catalog.at("main").open("vm.disk1"), tx.open("vm.disk1")):
            with pytest.raises(Unsupported, match="no ext4 filesystem"), volume.files():  # type: ignore[attr-defined]
                pass
        tx.discard()


def test_files_are_put_into_no_volume_that_is_not_there(plaited: Callable[..., Ran], here: Path) -> None:
    assert plaited("begin")[0] == 0
    code, said = told(plaited("put", "/etc/hostname", "vm.disk9::etc/hostname"))
    assert (code, said.split(" at ")[0]) == (3, "vm.disk9 does not exist")
    assert plaited("status")[1]["assets"] == []


def test_what_is_named_twice_is_removed_once(plaited: Callable[..., Ran]) -> None:
    assert plaited("begin")[0] == 0
    assert told(plaited("rm", "-r", "vm.disk0::models", "vm.disk0::nope"))[0] == 3
    assert items(plaited("ls", "-r", "vm.disk0::models")) == ["models/deep/a[1].bin", "models/m.bin"]
    code, done = plaited("rm", "-r", "vm.disk0::models", "vm.disk0::models/m.bin", "vm.disk0::models/deep")
    assert (code, len(done["removed"])) == (0, 4)
    assert told(plaited("ls", "-r", "vm.disk0::models"))[0] == 3


def test_a_commit_is_only_read(here: Path) -> None:
    with plait.open(".") as catalog:
        volume: Volume = catalog.at("main").open("vm.disk0")  # type: ignore[assignment]
        refused: Sequence[Callable[[Any], object]] = [
            lambda files: files.pipe("x", b"x"),
            lambda files: files.rm("etc/hosts"),
            lambda files: files.mkdir("x"),
        ]
        with volume.filesystem() as files:
            for call in refused:
                with pytest.raises(Unsupported, match="shown to be read"):
                    call(files)
            with pytest.raises(InvalidArgument, match="behind the link"):
                files.cat("host/passwd")
