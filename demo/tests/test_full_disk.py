"""Disks that are full as a commit begins, the catalog's too: a clear error, and the working set is still there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import plait
import pyarrow as pa
import pytest
from plait.errors import PlaitError

ROWS = pa.table({"id": pa.array(range(10), pa.int64())})


@contextmanager
def no_file_grows_beyond(size_bytes: int) -> Iterator[None]:
    """As on a full disk: writes fail with an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", ["files", "delta", "iceberg", "block"])
def test_full_disks_keep_the_working_set_and_the_branch(kind: str, tmp_path: Path) -> None:
    if kind == "block" and shutil.which("qemu-storage-daemon") is None and os.environ.get("CI") != "true":
        pytest.skip("NOT RUN without the qemu tools")
    key = ("here", "raw", "events") if kind == "iceberg" else ("here", "raw")
    with plait.init(str(tmp_path)) as catalog:
        catalog.add_store("here", kind, {"warehouse" if kind == "iceberg" else "path": str(tmp_path / "store")})
        tx = catalog.begin(message="too much")
        if kind == "files":
            cast(Any, tx.open("here.raw", create=True)).pipe_file("large.bin", b"x" * 100_000)
        elif kind == "block":
            cast(Any, tx.store("here")).create("raw", size_bytes=1 << 20)
            with cast(Any, tx.open(key)).connect() as client:
                client.write(0, b"x" * 4096)
        else:
            cast(Any, tx.store("here")).create_table(".".join(key[1:]), ROWS.schema).append(ROWS)
        head = catalog.resolve("main").id
        with no_file_grows_beyond(4096 if kind == "files" else 100), pytest.raises(PlaitError) as caught:
            tx.commit()
        assert caught.value.remedy
        assert catalog.resolve("main").id == head
        assert [one.id for one in catalog.working_sets()] == [tx.id]
        assert tx.commit().message == "too much"
        assert [entry.key for entry in catalog.at("main").entries()] == [key]
