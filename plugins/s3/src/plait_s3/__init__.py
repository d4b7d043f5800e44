"""Directories and S3 prefixes in plait: branches without copies, diffs and merges by object, fsspec file systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from plait.adapter import Context, Merger
from plait.hookspecs import hookimpl
from plait.types import SnapshotRef, Store

if TYPE_CHECKING:
    import click

    from plait_s3.content import command_merger
    from plait_s3.exporting import export
    from plait_s3.filesystem import AssetFileSystem
    from plait_s3.kinds import FilesAdapter, S3Adapter

__all__ = [
    "AssetFileSystem",
    "FilesAdapter",
    "S3Adapter",
    "command_merger",
    "export",
    "open_snapshot",
    "plait_register_adapters",
    "plait_register_commands",
    "plait_register_mergers",
]


@hookimpl
def plait_register_adapters() -> Mapping[str, str]:
    """The kinds `files` and `s3`; fsspec and boto3 are imported with them."""
    return {"files": "plait_s3.kinds:FilesAdapter", "s3": "plait_s3.kinds:S3Adapter"}


@hookimpl(trylast=True)
def plait_register_mergers() -> Sequence[Merger]:
    """JSON by path, CSV by key columns, text by lines: after everybody else's, since text takes every name."""
    from plait_s3.content import BUILT_IN

    return BUILT_IN


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """`plait export files` and `plait export s3`."""
    import click

    from plait_s3.commands import export_files, export_s3

    return [click.Group("export", commands=[export_files, export_s3])]


def open_snapshot(kind: str, version: str, digest: str, **options: str) -> AssetFileSystem:
    """Read one committed snapshot with the store's own credentials, without a catalog. `Location.snippet` calls it."""
    from plait.stores import NoState, resolve_credential

    from plait_s3.kinds import FilesAdapter, S3Adapter

    store = Store("store", kind, options=options)
    made = {"files": FilesAdapter, "s3": S3Adapter}[kind]
    adapter = made(store, Context(state=NoState(), credential=resolve_credential))
    return adapter.open(SnapshotRef("store", kind, "", version, bytes.fromhex(digest)), None)


_PLACES: Final = {
    "AssetFileSystem": "filesystem",
    "FilesAdapter": "kinds",
    "S3Adapter": "kinds",
    "command_merger": "content",
    "export": "exporting",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"plait_s3.{_PLACES[name]}"), name)
