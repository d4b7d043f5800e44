"""The servers that tests start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from plait_conformance import s3_servers


@pytest.mark.s3server
def test_seaweedfs_starts_at_other_ports_when_one_was_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_ports = s3_servers.free_ports
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = [other.getsockname()[1]]

        def once_taken(count: int) -> list[int]:
            ports = free_ports(count)
            if taken:
                ports[5] = taken.pop()  # Where the filer is to listen.
            return ports

        monkeypatch.setattr(s3_servers, "free_ports", once_taken)
        with s3_servers.seaweedfs_server(tmp_path) as server:
            assert not taken
            s3_servers.make_bucket(server, "bucket")
