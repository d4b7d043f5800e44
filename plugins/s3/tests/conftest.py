"""The stores that every test of the adapter runs on: a directory, and two real S3 servers with and without versions."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from plait_conformance.fixtures import here as here
from plait_conformance.fixtures import plaited as plaited
from plait_conformance.s3_servers import S3Server, make_bucket, seaweedfs_server, versitygw_server
from plait_conformance.testing import MemoryState
from plait_s3 import s3_blobs
from plait_s3.listing import read_entries_apart
from plait_s3.testing import Place


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with versitygw_server(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(scope="session")
def bucket() -> Callable[[S3Server, bool], str]:
    """Makes each bucket once."""
    made: dict[tuple[S3Server, bool], str] = {}

    def make(server: S3Server, versioned: bool) -> str:
        if (server, versioned) not in made:
            name = "plait-versioned" if versioned else "plait-plain"
            make_bucket(server, name, versioned=versioned)
            made[server, versioned] = name
        return made[server, versioned]

    return make


def _options(server: S3Server, bucket: str) -> dict[str, str]:
    return {
        "bucket": bucket,
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@pytest.fixture
def bucket_options(
    request: pytest.FixtureRequest, bucket: Callable[[S3Server, bool], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], dict[str, str]]:
    """The options of a bucket on SeaweedFS that keeps versions, or none; the credentials are in the environment."""
    server = cast(S3Server, request.getfixturevalue("seaweedfs"))
    monkeypatch.setenv("PLAIT_TEST_KEY", server.access_key)
    monkeypatch.setenv("PLAIT_TEST_SECRET", server.secret_key)
    named = {"access_key": "env:PLAIT_TEST_KEY", "secret_key": "env:PLAIT_TEST_SECRET"}
    return lambda versioned: {**_options(server, bucket(server, versioned)), **named}


_SERVERS = [
    pytest.param((name, versioned), id=name + ("-versioned" if versioned else ""), marks=pytest.mark.s3server)
    for name in ("seaweedfs", "versitygw")
    for versioned in (False, True)
]


@pytest.fixture(params=[pytest.param(None, id="files"), *_SERVERS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param is None:
        return Place("files", {"path": str(tmp_path / "store")}, MemoryState())
    return _bucket_place(request)


@pytest.fixture(params=_SERVERS)
def s3_place(request: pytest.FixtureRequest) -> Place:
    """The servers alone."""
    return _bucket_place(request)


@pytest.fixture
def files_place(tmp_path: Path) -> Place:
    """The directory alone."""
    return Place("files", {"path": str(tmp_path / "store")}, MemoryState())


def _bucket_place(request: pytest.FixtureRequest) -> Place:
    name, versioned = request.param
    server = cast(S3Server, request.getfixturevalue(name))
    made = cast(Callable[[S3Server, bool], str], request.getfixturevalue("bucket"))(server, versioned)
    options = {
        "bucket": made,
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "prefix": f"t/{uuid.uuid4()}",
    }
    return Place("s3", options, MemoryState(), versioned)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every request of every client that is made from now on, by its name."""
    counts: Counter[str] = Counter()

    def count(client: Any) -> None:
        read_entries_apart(client)
        client.meta.events.register("before-send.s3", lambda event_name, **given: counts.update([event_name[15:]]))

    monkeypatch.setattr(s3_blobs, "read_entries_apart", count)
    return counts
