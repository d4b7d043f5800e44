"""The embedded catalog: every call of `Backend`, answered beside the database."""

from plait.local.backend import LocalBackend
from plait.local.creating import DEFAULT_BRANCH, DEFAULT_REPOSITORY, create

__all__ = ["DEFAULT_BRANCH", "DEFAULT_REPOSITORY", "LocalBackend", "create"]
