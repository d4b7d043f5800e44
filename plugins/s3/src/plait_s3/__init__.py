"""Directories and S3 prefixes in plait: branches without copies, diffs and merges by object, fsspec file systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plait.adapter import Adapter, Context, Merger
from plait.hookspecs import hookimpl
from plait.stores import NoState, resolve_credential
from plait.types import SnapshotRef, Store

from plait_s3.adapter import ObjectAdapter
from plait_s3.content import BUILT_IN, command_merger
from plait_s3.filesystem import AssetFileSystem
from plait_s3.kinds import FilesAdapter, S3Adapter

__all__ = [
    "AssetFileSystem",
    "FilesAdapter",
    "S3Adapter",
    "command_merger",
    "open_snapshot",
    "plait_register_adapters",
    "plait_register_mergers",
]

_KINDS: Final[dict[str, type[ObjectAdapter]]] = {"files": FilesAdapter, "s3": S3Adapter}


@hookimpl
def plait_register_adapters() -> Sequence[type[Adapter]]:
    """The kinds `files` and `s3`."""
    return [FilesAdapter, S3Adapter]


@hookimpl
def plait_register_mergers() -> Sequence[Merger]:
    """JSON by path, CSV by key columns, text by lines."""
    return BUILT_IN


def open_snapshot(kind: str, version: str, digest: str, **options: str) -> AssetFileSystem:
    """Read one committed snapshot with the store's own credentials, without a catalog. `Location.snippet` calls it."""
    store = Store("store", kind, options=options)
    adapter = _KINDS[kind](store, Context(state=NoState(), credential=resolve_credential))
    return adapter.open(SnapshotRef("store", kind, "", version, bytes.fromhex(digest)), None)
