"""One store on a real directory for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from plait.types import Store
from plait_conformance.fixtures import postgresql_url as postgresql_url
from plait_conformance.tables import Tables
from plait_conformance.testing import make_adapter
from plait_iceberg import IcebergAdapter


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def adapter(warehouse: Path) -> IcebergAdapter:
    made = make_adapter(IcebergAdapter, Store("lake", "iceberg", options={"warehouse": str(warehouse)}))
    assert isinstance(made, IcebergAdapter)
    return made


@pytest.fixture
def tables(adapter: IcebergAdapter) -> Tables:
    return Tables(adapter)
