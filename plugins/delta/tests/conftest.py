"""One store on a real directory for each test, and a bucket on a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from plait_conformance.delta_tables import Tables
from plait_conformance.s3_servers import (
    ACCESS_KEY,
    SECRET_KEY,
    S3Server,
    make_bucket,
    seaweedfs_server,
    versitygw_server,
)
from plait_delta import DeltaAdapter

BUCKET = "plait-delta"


@pytest.fixture
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tables]:
    """A store in a folder; in a bucket of the server that a module's parameters name."""
    place = getattr(request, "param", "folder")
    if place == "folder":
        yield Tables(DeltaAdapter, tmp_path / "delta")
        return
    server = cast(S3Server, request.getfixturevalue(place))
    options = {"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key}
    made = Tables(DeltaAdapter, f"s3://{BUCKET}/t/{uuid.uuid4()}", options)
    yield made
    made.adapter.close()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        make_bucket(server, BUCKET)
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with versitygw_server(tmp_path_factory.mktemp("versitygw")) as server:
        make_bucket(server, BUCKET)
        yield server


@pytest.fixture
def bucket_path() -> str:
    """The `path` of a new, empty store."""
    return f"s3://{BUCKET}/suite/{uuid.uuid4()}"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The options that name who asks, by variables of the environment."""
    monkeypatch.setenv("PLAIT_TEST_KEY", ACCESS_KEY)
    monkeypatch.setenv("PLAIT_TEST_SECRET", SECRET_KEY)
    return {"access_key": "env:PLAIT_TEST_KEY", "secret_key": "env:PLAIT_TEST_SECRET"}
