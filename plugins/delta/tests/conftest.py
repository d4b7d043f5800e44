"""One store on a real directory for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from plait_conformance.delta_tables import Tables
from plait_delta import DeltaAdapter


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(DeltaAdapter, tmp_path / "delta")
