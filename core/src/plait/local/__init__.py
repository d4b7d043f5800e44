"""The embedded catalog: `Backend`, implemented in the process that opens the database."""

from plait.local.backend import LocalBackend
from plait.local.creating import DEFAULT_BRANCH, DEFAULT_REPOSITORY, create

__all__ = ["DEFAULT_BRANCH", "DEFAULT_REPOSITORY", "LocalBackend", "create"]
