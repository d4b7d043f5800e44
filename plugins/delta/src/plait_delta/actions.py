"""The actions of a Delta log, and what a version of a table comes to when they are replayed.

Paths inside a `State` are canonical: relative to the table's own folder, wherever the log was that named them
(`plait_delta.roots` says how). Source: Delta Transaction Log Protocol, "Actions" and "Action Reconciliation".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from plait.codec import digest, pack
from plait.errors import Corrupt, Unsupported

Action: TypeAlias = dict[str, Any]
"""One line of a commit: an object with one key, that is what sort of action it is."""

FileId: TypeAlias = tuple[str, str]
"""What tells logical files apart: the decoded path, and the deletion vector's id (empty without one)."""

APP_ID: Final = "plait"
"""The application of the `txn` action in what plait publishes; its version is the publication's seq."""

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_UUID_CHARS: Final = 20


def file_id(action: Mapping[str, Any]) -> FileId:
    """The id of the logical file that an add or a remove is about."""
    return unquote(action["path"]), _vector_id(action.get("deletionVector"))


def _vector_id(vector: Mapping[str, Any] | None) -> str:
    if not vector:
        return ""
    offset = vector.get("offset")
    return f"{vector['storageType']}{vector['pathOrInlineDv']}" + ("" if offset is None else f"@{offset}")


def vector_path(add: Mapping[str, Any]) -> str | None:
    """The file of an add's deletion vector, relative to where its paths are; None for one inline, or none at all."""
    vector = add.get("deletionVector")
    if not vector or vector["storageType"] != "u":
        return None
    text = vector["pathOrInlineDv"]
    prefix, encoded = text[:-_UUID_CHARS], text[-_UUID_CHARS:]
    try:
        numbers = [_z85_number(encoded[at : at + 5]) for at in range(0, _UUID_CHARS, 5)]
        name = uuid.UUID(bytes=b"".join(number.to_bytes(4, "big") for number in numbers))
    except (ValueError, OverflowError) as error:
        raise Corrupt(f"deletion vector {text!r} of {add['path']} names no file") from error
    return f"{prefix}/deletion_vector_{name}.bin" if prefix else f"deletion_vector_{name}.bin"


def _z85_number(text: str) -> int:
    number = 0
    for character in text:
        number = number * 85 + _Z85.index(character)
    return number


def relocate(action: Mapping[str, Any], place: Callable[[str], str]) -> Action:
    """The add or remove with its paths put elsewhere: `place` maps a relative path, or the prefix of one.

    Raises: Unsupported for absolute paths, which only shallow clones and converted tables have.
    """
    path = action["path"]
    if path.startswith("/") or ":" in path.split("/", 1)[0]:
        raise Unsupported(
            f"file {path!r} lies outside of its table's folder", remedy="copy the table as a whole (a deep clone) first"
        )
    # First in the action: plait_delta.gateway_names looks for it there.
    moved = {"path": place(path), **{name: value for name, value in action.items() if name != "path"}}
    vector = action.get("deletionVector")
    if vector and vector["storageType"] == "p":
        raise Unsupported(f"the deletion vector of {path!r} has an absolute path", remedy="purge the deletion vectors")
    if vector and vector["storageType"] == "u":
        prefix, encoded = vector["pathOrInlineDv"][:-_UUID_CHARS], vector["pathOrInlineDv"][-_UUID_CHARS:]
        # The protocol puts a vector's file into the folder that its prefix names.
        placed = {"storageType": "u", "pathOrInlineDv": place(prefix + "/").rstrip("/") + encoded}
        moved["deletionVector"] = {**placed, **{name: value for name, value in vector.items() if name not in placed}}
    return moved


@dataclass(frozen=True)
class State:
    """What a version of a table comes to. Immutable: never change its maps."""

    version: int
    protocol: Mapping[str, Any]
    metadata: Mapping[str, Any]
    files: Mapping[FileId, Mapping[str, Any]] = field(repr=False)
    """The add actions of the live files."""
    transactions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The newest `txn` of each application but plait."""

    @property
    def configuration(self) -> Mapping[str, str]:
        """The table's properties."""
        return self.metadata.get("configuration") or {}

    @property
    def schema(self) -> dict[str, Any]:
        """The schema as the log has it."""
        loaded: dict[str, Any] = json.loads(self.metadata["schemaString"])
        return loaded

    @property
    def partition_columns(self) -> list[str]:
        return list(self.metadata.get("partitionColumns") or ())

    @property
    def is_append_only(self) -> bool:
        return self.configuration.get("delta.appendOnly", "").lower() == "true"

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that identify a row, as the property `plait.key-columns` says; empty: rows are a multiset.

        (Also where it names a column that the table no longer has.)
        """
        named = [name.strip() for name in self.configuration.get(KEY_COLUMNS, "").split(",") if name.strip()]
        known = {column["name"] for column in self.schema["fields"]} if named else set()
        return tuple(named) if known.issuperset(named) else ()

    def digest(self) -> bytes:
        """Equal where files, metadata, protocol and the applications' transactions are. Cost: O(files), once."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        files = sorted((*one, add.get("size", 0), _partition(add)) for one, add in self.files.items())
        told = {name: value for name, value in described(self.metadata).items() if name != "createdTime"}
        texts = [json.dumps(one, sort_keys=True) for one in (told, described(self.protocol))]
        versions = sorted((app, action["version"]) for app, action in self.transactions.items())
        return digest(b"delta-state", pack([files, texts, versions]))


KEY_COLUMNS: Final = "plait.key-columns"

KEEPING: Final = "delta.deletedFileRetentionDuration"
KEPT_FOR: Final = "interval 36500 days"
"""What tables that are made here have for it: their history is plait's, and other clients' vacuum is to spare it."""


def _partition(add: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    return sorted((add.get("partitionValues") or {}).items())


def described(action: Mapping[str, Any]) -> dict[str, Any]:
    """The action in one form: without nulls and empty maps, features sorted, the schema parsed."""
    told: dict[str, Any] = {}
    for name, value in action.items():
        if value in (None, {}, []):
            continue
        if name in ("readerFeatures", "writerFeatures"):
            value = sorted(value)
        told[name] = json.loads(value) if name == "schemaString" else value
    return told


class Replay:
    """Actions, oldest first, become a state; those after an earlier state, if one is given."""

    def __init__(self, since: State | None = None) -> None:
        self._protocol = since.protocol if since else None
        self._metadata = since.metadata if since else None
        self._files = dict(since.files) if since else {}
        self._transactions = dict(since.transactions) if since else {}

    def apply(self, actions: Iterable[Action]) -> None:
        """Take in one commit, or a checkpoint."""
        for action in actions:
            for kind, value in action.items():
                match kind:
                    case "add":
                        self._files[file_id(value)] = value
                    case "remove":
                        self._files.pop(file_id(value), None)
                    case "metaData":
                        self._metadata = value
                    case "protocol":
                        self._protocol = value
                    case "txn" if value["appId"] != APP_ID:
                        self._transactions[value["appId"]] = value

    def state(self, version: int, what: str) -> State:
        """Raises: Corrupt for a log without metadata or protocol."""
        if self._protocol is None or self._metadata is None:
            raise Corrupt(f"the log of {what} has no protocol or metadata up to version {version}")
        return State(version, self._protocol, self._metadata, self._files, self._transactions)


def difference(
    before: State | None, after: State, *, now_ms: int, place: Callable[[str], str] = lambda path: path
) -> Iterator[Action]:
    """The actions that bring a table from one state to another, its paths mapped by `place`.

    Features that the table has already are kept: a protocol is never taken back.
    """
    protocol = described(after.protocol)
    if before is not None:
        protocol = joined_protocol(before.protocol, after.protocol)
    if before is None or described(before.protocol) != protocol:
        yield {"protocol": protocol}
    if before is None or described(before.metadata) != described(after.metadata):
        yield {"metaData": dict(after.metadata)}
    old = before.transactions if before else {}
    for app, transaction in sorted(after.transactions.items()):
        if old.get(app) != transaction:
            yield {"txn": dict(transaction)}
    held = before.files if before else {}
    for one, add in held.items():
        if one not in after.files:
            yield {"remove": _removed(relocate(add, place), now_ms)}
    for one, add in after.files.items():
        if one not in held:
            yield {"add": {**relocate(add, place), "dataChange": True}}


def _removed(add: Mapping[str, Any], now_ms: int) -> Action:
    kept = ("path", "partitionValues", "size", "stats", "tags", "deletionVector")
    removed = {name: add[name] for name in kept if add.get(name) is not None}
    return {**removed, "deletionTimestamp": now_ms, "dataChange": True, "extendedFileMetadata": True}


_LEGACY_WRITER: Final = {
    2: ("appendOnly", "invariants"),
    3: ("checkConstraints",),
    4: ("changeDataFeed", "generatedColumns"),
    5: ("columnMapping",),
    6: ("identityColumns",),
}


def features(protocol: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """What a protocol asks of readers and of writers, by name, whether it lists features or implies them."""
    reader, writer = protocol["minReaderVersion"], protocol["minWriterVersion"]
    readers = protocol.get("readerFeatures") or () if reader >= 3 else ("columnMapping",) if reader == 2 else ()
    if writer >= 7:
        writers = frozenset(protocol.get("writerFeatures") or ())
    else:
        writers = frozenset(name for since, names in _LEGACY_WRITER.items() if since <= writer for name in names)
    return frozenset(readers), writers


def joined_protocol(one: Mapping[str, Any], other: Mapping[str, Any]) -> Action:
    """The least protocol that asks for what either does."""
    if described(one) == described(other):
        return described(one)
    reader = max(one["minReaderVersion"], other["minReaderVersion"])
    writer = max(one["minWriterVersion"], other["minWriterVersion"])
    joined: Action = {"minReaderVersion": reader, "minWriterVersion": writer}
    (one_reads, one_writes), (other_reads, other_writes) = features(one), features(other)
    if reader >= 3:
        joined["readerFeatures"] = sorted(one_reads | other_reads)
    if writer >= 7:
        joined["writerFeatures"] = sorted(one_writes | other_writes)
    return described(joined)
