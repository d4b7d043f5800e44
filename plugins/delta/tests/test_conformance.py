"""The conformance suite on tables in a folder, and on tables in a bucket of a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from plait_conformance.harness import Harness
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.s3_servers import READER_KEY, READER_SECRET, S3Server
from plait_conformance.suite import *  # noqa: F403
from plait_delta.testing import BucketHarness, DeltaHarness

_READER = {"PLAIT_TEST_KEY": READER_KEY, "PLAIT_TEST_SECRET": READER_SECRET}


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.s3server)])
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    if request.param == "folder":
        return DeltaHarness
    server = cast(S3Server, request.getfixturevalue("seaweedfs"))
    path = cast(str, request.getfixturevalue("bucket_path"))
    options = {"endpoint": server.endpoint, **cast(dict[str, str], request.getfixturevalue("credentials"))}

    def make(folder: Path) -> Harness:
        return BucketHarness(folder, path, options, _READER)

    return make
