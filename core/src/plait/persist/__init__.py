"""The catalog's metadata in SQLite or PostgreSQL: rows in, values out. What rows mean is decided above."""

from plait.persist.engine import Database, sqlite_file
from plait.persist.rows import Repository, Rows, create_repository, find_repository

__all__ = ["Database", "Repository", "Rows", "create_repository", "find_repository", "sqlite_file"]
