"""Objects in plait's history: every version of every prefix, diffs and merges by object and by their content."""

from __future__ import annotations

from collections.abc import Sequence

from plait.adapter import Adapter
from plait.hookspecs import hookimpl

from plait_files.adapter import FilesAdapter

__all__ = ["FilesAdapter", "plait_register_adapters"]


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kind `files`."""
    return [FilesAdapter]
