"""Rows in, values out: the catalog's metadata in SQLite or PostgreSQL. No meaning lives here."""

from plait.persist.engine import Database
from plait.persist.rows import Repository, Rows, create_repository, find_repository

__all__ = ["Database", "Repository", "Rows", "create_repository", "find_repository"]
