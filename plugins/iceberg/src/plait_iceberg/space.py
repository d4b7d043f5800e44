"""Which files a version needs, which there are, and what rules could delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from plait.types import Item, Risk

from plait_iceberg.checksums import notes
from plait_iceberg.files import Files
from plait_iceberg.manifests import ManifestReader
from plait_iceberg.metadata import VIEW, Metadata, load
from plait_iceberg.new_tables import OWN_FOLDER
from plait_iceberg.verifying import LOST


def reachable(files: Files, found: Metadata, *, check_cancelled: Callable[[], None]) -> Iterator[Item]:
    """Every file that any Iceberg snapshot of this version needs, each once, named canonically.

    Cost: each manifest list and manifest of the version, read once.
    """
    seen: set[str] = set()

    def once(location: str, size_bytes: int = 0) -> Iterator[Item]:
        name = files.canonical(location)
        if name not in seen:
            seen.add(name)
            yield Item(name, size_bytes)

    yield from once(found.location)
    if found.format == VIEW:
        return
    for entry in found.document.get("metadata-log", ()):
        yield from once(entry["metadata-file"])
    for kind in ("statistics", "partition-statistics"):
        for one in found.document.get(kind, ()):
            yield from once(one["statistics-path"], one.get("file-size-in-bytes", 0))
    manifests: set[str] = set()
    noted = notes(found.document)
    for snapshot in found.table.snapshots:
        # A reader of its own for each snapshot: the entries of a whole history need not fit into memory.
        reader = ManifestReader(files.io)
        yield from once(snapshot.manifest_list)
        if note := noted.get(snapshot.snapshot_id):
            yield from once(note)
        for manifest in reader.manifests(found.table, snapshot.snapshot_id):
            if manifest.manifest_path in manifests:
                continue
            check_cancelled()
            manifests.add(manifest.manifest_path)
            yield from once(manifest.manifest_path, manifest.manifest_length)
            for path, held in reader.live(manifest).items():
                yield from once(path, held.file.file_size_in_bytes)


def inventory(files: Files, prefix: str) -> Iterator[Item]:
    """Every file in the folders of tables that plait created, below a prefix of the warehouse.

    Files elsewhere (of imported tables, of a table with a location that a user chose) are not plait's alone, and are
    never listed, so never collected.
    """
    root = files.canonical(f"{files.warehouse}/-").removesuffix("-")
    for item in files.walk(prefix or files.warehouse):
        folders = item.path.removeprefix(root).split("/")[:-1]
        if item.path.startswith(root) and any(OWN_FOLDER.search(folder) for folder in folders):
            yield item


_EXPIRE = "history.expire."


def retention_risks(files: Files) -> Iterator[Risk]:
    """Table properties that let other engines delete files which a commit names. Cost: one read for each table."""
    newest: dict[str, Item] = {}
    for item in files.walk(files.warehouse):
        folder, _, name = item.path.rpartition("/")
        if folder.endswith("/metadata") and name.endswith(".metadata.json"):
            known = newest.setdefault(folder, item)
            if (item.modified_at_us, item.path) > (known.modified_at_us, known.path):
                newest[folder] = item
    for _, item in sorted(newest.items()):
        try:
            found = load(files, item.path)
        except LOST:
            continue  # no metadata of any table, or deleted since: `verify` tells what a commit has lost
        yield from risks_of(found.document["location"], found.properties, is_view=found.format == VIEW)


def risks_of(table: str, properties: Mapping[str, str], *, is_view: bool = False) -> Iterator[Risk]:
    """What the properties of one table, here named by its location, let other engines delete."""
    if properties.get("write.metadata.delete-after-commit.enabled", "false").lower() == "true":
        yield Risk(
            "write.metadata.delete-after-commit.enabled=true",
            table,
            "set it to false: engines that write past plait delete metadata files that commits name",
        )
    if not is_view and properties.get("gc.enabled", "true").lower() != "false":
        yield Risk(
            "gc.enabled=true",
            table,
            "set gc.enabled=false: else an engine's expire_snapshots or orphan removal may delete what commits need",
        )
    for name in sorted(properties):
        if name.startswith(_EXPIRE):
            yield Risk(f"{name}={properties[name]}", table, f"remove {name}: plait's retention decides what is kept")
