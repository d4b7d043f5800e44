"""What differs between two versions of a table, as rows: the one place that diff, merge and restore read data from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from plait.rows.comparing import RowChanges, compare
from plait.types import ItemChange
from pyiceberg.schema import Schema

from plait_iceberg.manifests import FileChanges, Held, ManifestReader, data_files, find, scan_tasks, touched_paths
from plait_iceberg.metadata import Metadata
from plait_iceberg.rows import Shape, read, read_all


@dataclass(frozen=True, slots=True)
class DifferingFiles:
    """The data files whose rows may differ: those of one version only, and those with other position deletes."""

    before: tuple[Held, ...]
    after: tuple[Held, ...]


def touched(reader: ManifestReader, changes: FileChanges) -> frozenset[str]:
    """The data files for which the versions hold different position deletes."""
    return frozenset().union(*(_deleted_in(reader, held) for held in (changes.removed, changes.added)))


def taken_back(reader: ManifestReader, one: FileChanges, other: FileChanges) -> frozenset[str]:
    """The data files of which one side dropped position deletes, and the other added some."""
    sides = ((one.removed, other.added), (other.removed, one.added))
    return frozenset().union(*(_deleted_in(reader, gone) & _deleted_in(reader, new) for gone, new in sides))


def deleted_rows(reader: ManifestReader, version: Metadata, path: str) -> dict[str, frozenset[int]]:
    """The position delete files that apply to a data file of a version, and the places of rows that each deletes.

    Cost: as `scan_tasks`, and these delete files.
    """
    tasks = scan_tasks(reader, version.current, find(reader, version.current, [path]).values())
    applying = [one for task in tasks for one in task.delete_files]
    return {
        one.file_path: frozenset(reader.deleted(one)[path].to_pylist())
        for one in applying
        if path in reader.deleted(one)
    }


def _deleted_in(reader: ManifestReader, held: Mapping[str, Held]) -> frozenset[str]:
    return frozenset().union(*touched_paths(reader, held).values())


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
