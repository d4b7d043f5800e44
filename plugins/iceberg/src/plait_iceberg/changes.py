"""What differs between two versions of a table, as rows: the one place that diff, merge and restore read data from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from plait.rows.comparing import RowChanges, compare
from plait.types import ItemChange
from pyiceberg.schema import Schema

from plait_iceberg.manifests import FileChanges, Held, ManifestReader, data_files, find, touched_paths
from plait_iceberg.metadata import Metadata
from plait_iceberg.rows import Shape, read, read_all


@dataclass(frozen=True, slots=True)
class DifferingFiles:
    """The data files whose rows may differ: those of one version only, and those with other position deletes."""

    before: tuple[Held, ...]
    after: tuple[Held, ...]


def touched(reader: ManifestReader, changes: FileChanges) -> frozenset[str]:
    """The data files for which the versions hold different position deletes."""
    found = (touched_paths(reader, held).values() for held in (changes.removed, changes.added))
    return frozenset().union(*(paths for group in found for paths in group))


def differing_files(
    reader: ManifestReader, before: Metadata | None, after: Metadata | None, changes: FileChanges
) -> DifferingFiles:
    """Cost: the delete files that differ; manifests of both only where such a delete file points into them."""
    both = touched(reader, changes) - changes.removed.keys() - changes.added.keys()
    return DifferingFiles(
        (*data_files(changes.removed).values(), *(find(reader, before.current, both).values() if before else ())),
        (*data_files(changes.added).values(), *(find(reader, after.current, both).values() if after else ())),
    )


@dataclass(frozen=True, slots=True)
class Version:
    """A table version and the schema to read its files with."""

    metadata: Metadata
    schema: Schema


def compare_rows(
    reader: ManifestReader,
    shape: Shape,
    before: Version,
    after: Version,
    changes: FileChanges,
    *,
    check_cancelled: Callable[[], None] = lambda: None,
) -> RowChanges:
    """The rows that differ, each once. Cost: the rows of the files that differ, compared inside Arrow."""
    files = differing_files(reader, before.metadata, after.metadata, changes)
    old = read_all(reader, before.metadata.current, before.schema, files.before, check_cancelled=check_cancelled)
    new = read_all(reader, after.metadata.current, after.schema, files.after, check_cancelled=check_cancelled)
    return compare(shape, old, new)


def stream_rows(
    reader: ManifestReader,
    shape: Shape,
    before: Version | None,
    after: Version | None,
    changes: FileChanges,
    *,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Iterator[ItemChange]:
    """The rows that differ, lazily: file by file where one side has none, else in order of their identifiers."""
    files = differing_files(reader, before.metadata if before else None, after.metadata if after else None, changes)
    if before and after and files.before and files.after:
        yield from compare_rows(reader, shape, before, after, changes, check_cancelled=check_cancelled).as_items()
        return
    for version, held, sign in ((before, files.before, -1), (after, files.after, 1)):
        if version is None:
            continue
        table, schema = version.metadata.current, version.schema
        for _, rows in read(reader, table, schema, held, check_cancelled=check_cancelled):
            none = rows.slice(0, 0)
            found = compare(shape, rows, none) if sign < 0 else compare(shape, none, rows)
            yield from found.as_items()
