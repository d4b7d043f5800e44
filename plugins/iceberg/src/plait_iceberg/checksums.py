"""The SHA-256 of each file that a snapshot brought, as it was when its commit was made.

pyiceberg writes Parquet without checksums, and a byte that changed on a disk may well decode, into other rows. So a
commit notes what it wrote, in a file beside the metadata that the snapshot's summary names; its own name holds the
hash of what it says. Only files on local disks: object stores check theirs, and hashing would read them back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from plait.errors import NotFound
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata

from plait_iceberg.files import Files, translated
from plait_iceberg.manifests import ManifestReader
from plait_iceberg.metadata import CHECKSUMS, Document


def new_files(reader: ManifestReader, snapshot_id: int, manifest_list: str) -> Iterator[str]:
    """The files that came with a snapshot: its manifest list, its own manifests, and what these added."""
    yield manifest_list
    for manifest in reader.listed(manifest_list):
        if manifest.added_snapshot_id == snapshot_id:
            yield manifest.manifest_path
            for path, held in reader.live(manifest).items():
                if held.entry.status == ManifestEntryStatus.ADDED:
                    yield path


def hashes(files: Files, paths: Iterable[str]) -> dict[str, str]:
    """Of the local ones among these files. Cost: their bytes."""
    return {path: files.sha256(path) for path in paths if files.is_local(path)}


def keep(files: Files, table: TableMetadata, found: Mapping[str, str]) -> dict[str, str]:
    """Write a note, not yet flushed; what the snapshot's summary has to say of it. Cost: one file, if there is any
    hash."""
    if not found:
        return {}
    content = json.dumps(found, indent=1).encode()
    provider = load_location_provider(table.location, table.properties)
    location = provider.new_metadata_location(_name(content))
    with translated(f"file {location}"), files.io.new_output(location).create(overwrite=True) as stream:
        stream.write(content)
    return {CHECKSUMS: location}


def notes(document: Document) -> dict[int, str]:
    """Where the notes of a table's snapshots are, by their ids. Imported snapshots have none."""
    told = {one["snapshot-id"]: (one.get("summary") or {}).get(CHECKSUMS) for one in document.get("snapshots") or ()}
    return {snapshot_id: location for snapshot_id, location in told.items() if location}


class Checksums:
    """What notes say, each read once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._notes: dict[str, Mapping[str, str]] = {}
        self._problems: dict[str, str] = {}

    def of(self, noted: Mapping[int, str], snapshot_id: int | None, path: str) -> str | None:
        """The hash of a file that a snapshot brought, as `notes` found them; None where none can be told."""
        note = None if snapshot_id is None else noted.get(snapshot_id)
        return None if note is None else self._read(note).get(path)

    def problems(self, note: str) -> Sequence[str]:
        """Why a note cannot be used."""
        self._read(note)
        return [self._problems[note]] if note in self._problems else []

    def _read(self, note: str) -> Mapping[str, str]:
        if note not in self._notes:
            self._notes[note] = {}
            try:
                content = self._files.read(note)
            except NotFound as error:
                self._problems[note] = str(error)
            else:
                if _name(content) == note.rpartition("/")[2]:
                    self._notes[note] = json.loads(content)
                else:
                    self._problems[note] = f"file {note} holds other bytes than were committed"
        return self._notes[note]


def _name(content: bytes) -> str:
    return f"sha256-{hashlib.sha256(content).hexdigest()}.json"
