"""Manifest lists and manifests, decoded as pyiceberg decodes them, but each once, and each kind of schema read once.

pyiceberg makes a tree of readers anew from the schema in every file that it opens, which takes longer than to read a
small file with them. What would let us remove this: readers that pyiceberg remembers by their schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, Self, TypeVar

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import _SCHEMA_KEY, META_SCHEMA, AvroFile, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,
)
from pyiceberg.schema import Schema
from pyiceberg.typedef import StructProtocol
from pyiceberg.utils.lazydict import LazyDict
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from plait_iceberg.memory import Memory

D = TypeVar("D", bound=StructProtocol)

_HEADER: Final = construct_reader(META_SCHEMA, {-1: AvroFileHeader})
_LISTS: Final[Memory[tuple[ManifestFile, ...]]] = Memory(1 << 20)
_MANIFESTS: Final[Memory[tuple[ManifestEntry, ...]]] = Memory(1 << 20)
"""By what is read, which is packed: decoded it takes some thirty times as much."""


class _Kind:
    """What one kind of file is decoded into."""

    def __init__(
        self,
        schema: Schema,
        types: Mapping[int, Callable[..., StructProtocol]],
        enums: Mapping[int, Callable[..., Enum]],
    ) -> None:
        self.schema, self.types, self.enums = schema, dict(types), dict(enums)


_LIST: Final = _Kind(
    MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION],
    {-1: ManifestFile, 508: PartitionFieldSummary},
    {517: ManifestContent},
)
_MANIFEST: Final = _Kind(
    MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION],
    {-1: ManifestEntry, 2: DataFile},
    {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
)


def read_list(io: FileIO, path: str) -> tuple[ManifestFile, ...]:
    """The manifests that a manifest list names. Raises: what the file system raises, and any error for bad bytes."""
    data = _read(io, path)
    return _LISTS.get(hashlib.sha256(data).digest(), len(data), lambda: tuple(_Decoded[ManifestFile](data, _LIST)))


def read_manifest(io: FileIO, manifest: ManifestFile) -> tuple[ManifestEntry, ...]:
    """The live entries of a manifest. Raises: as `read_list`."""
    data = _read(io, manifest.manifest_path)
    # Besides the bytes: what entries inherit.
    inherited = manifest.added_snapshot_id, manifest.sequence_number, manifest.partition_spec_id
    return _MANIFESTS.get(
        (hashlib.sha256(data).digest(), *inherited),
        len(data),
        lambda: tuple(
            _inherit_from_manifest(_settled(entry), manifest)
            for entry in _Decoded[ManifestEntry](data, _MANIFEST)
            if entry.status != ManifestEntryStatus.DELETED
        ),
    )


def _settled(entry: ManifestEntry) -> ManifestEntry:
    """The entry with plain maps: pyiceberg's are decoded when they are first read, which is not thread-safe."""
    held = entry.data_file._data
    held[:] = [dict(one) if isinstance(one, LazyDict) else one for one in held]
    return entry


def _read(io: FileIO, path: str) -> bytes:
    with io.new_input(path).open(seekable=False) as stream:
        return bytes(stream.read())


class _Decoded(AvroFile[D]):
    """The records of an Avro file that was read already."""

    def __init__(self, data: bytes, kind: _Kind) -> None:
        self.decoder = new_decoder(data)
        self.header = _HEADER.read(self.decoder)
        self.reader = _reader(self.header.meta[_SCHEMA_KEY], kind)
        self.block = None

    def __iter__(self) -> Self:
        return self


@lru_cache(maxsize=256)
def _reader(schema: str, kind: _Kind) -> Reader:
    """Readers have no state: one tree may read several files at once."""
    written = AvroSchemaConversion().avro_to_iceberg(json.loads(schema))
    return resolve_reader(written, kind.schema, kind.types, kind.enums)
