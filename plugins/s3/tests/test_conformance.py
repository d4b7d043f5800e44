"""The conformance suite on a directory, and on a real S3 server with and without versions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from plait_conformance.harness import Harness
from plait_conformance.pytest_plugin import MakeHarness
from plait_conformance.suite import *  # noqa: F403
from plait_s3.testing import FilesHarness, S3Harness

_SERVER = [pytest.param(name, id=name, marks=pytest.mark.s3server) for name in ("seaweedfs", "seaweedfs-versioned")]


_READER = {"PLAIT_TEST_KEY": "readerkey", "PLAIT_TEST_SECRET": "readersecret"}


@pytest.fixture(params=["files", *_SERVER])
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    if request.param == "files":
        return FilesHarness
    bucket_options = cast(Callable[[bool], dict[str, str]], request.getfixturevalue("bucket_options"))
    options = bucket_options(request.param.endswith("versioned"))

    def make(folder: Path) -> Harness:
        return S3Harness(folder, {**options, "prefix": f"suite/{uuid.uuid4()}", "copy": "true"}, _READER)

    return make
