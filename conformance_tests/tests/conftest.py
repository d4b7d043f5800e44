"""What these tests share: a PostgreSQL server."""

from __future__ import annotations

from plait_conformance.fixtures import postgresql_url

__all__ = ["postgresql_url"]
