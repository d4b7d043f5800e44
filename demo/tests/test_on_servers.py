"""The same story where stores are servers: Dolt's, SeaweedFS, PostgreSQL, and plait's own before it all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import plait
import pytest
from plait.types import Depth
from plait_conformance.catalogs import new_postgresql_database
from plait_conformance.fixtures import postgresql_url
from plait_conformance.s3_servers import S3Server, make_bucket, seaweedfs_server
from plait_conformance.servers import DOLT_REMEDY, DoltServer, dolt_program, dolt_server
from plait_conformance.serving import start_server
from plait_demo import story
from plait_demo.flights import read
from plait_demo.stores import Configured, has_volumes, local
from plait_demo.telling import Teller

__all__ = ["postgresql_url"]

pytestmark = [pytest.mark.postgres, pytest.mark.s3server, pytest.mark.doltserver]


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    (tmp_path / "seaweedfs").mkdir()
    with seaweedfs_server(tmp_path / "seaweedfs") as server:
        for bucket in ("warehouse", "landing", "tables"):
            make_bucket(server, bucket)
        yield server


@pytest.fixture
def dolt(tmp_path: Path) -> Iterator[DoltServer]:
    assert dolt_program() is not None, f"Dolt is not installed: {DOLT_REMEDY}"
    (tmp_path / "dolt").mkdir()
    with dolt_server(tmp_path / "dolt") as server:
        yield server


@pytest.fixture
def configured(tmp_path: Path, s3: S3Server, dolt: DoltServer) -> Configured:
    assert has_volumes(), "run scripts/volumes.sh"
    secret = tmp_path / "secret"
    secret.write_text(s3.secret_key)
    lake = {
        "warehouse": "s3://warehouse/lake",
        "s3.endpoint": s3.endpoint,
        "s3.access-key-id": s3.access_key,
        "s3.secret-access-key": f"file:{secret}",
        "s3.region": "us-east-1",
    }
    raw = {
        "bucket": "landing",
        "endpoint": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": f"file:{secret}",
    }
    meteo = {**raw, "path": "s3://tables/meteo"}
    del meteo["bucket"]
    return {
        **local(tmp_path / "stores"),
        "lake": ("iceberg", lake),
        "meteo": ("delta", meteo),
        "crm": ("dolt", {"url": f"mysql://root@127.0.0.1:{dolt.port}"}),
        "raw": ("s3", raw),
    }


def test_the_story_is_the_same_over_servers(
    tmp_path: Path, postgresql_url: str, configured: Configured, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        (tmp_path / "server").mkdir()
        database = new_postgresql_database(postgresql_url)
        server = start_server(tmp_path / "server", database=database)
        stack.callback(server.stop)
        catalog = stack.enter_context(plait.connect(server.url))
        told = story.Story(Teller(6), catalog, tmp_path, read(archive), configured)
        # The gate is a plugin of the process that commits, and this server has none.
        for step in story.STEPS:
            if step is not story.bad_load:
                step(told)
        assert "over 5 stores: lake, meteo, crm, raw, vm" in capsys.readouterr().out

        server.kill()
        again = start_server(tmp_path / "server", database=database, ports=server.ports)
        stack.callback(again.stop)
        assert list(catalog.verify(Depth.BYTES)) == []
        assert catalog.publish() == []
