"""Canonical bytes and the three hashes that are made of them. Golden bytes in the tests hold this file still.

Everything is MessagePack of arrays, shortest forms, maps as arrays of pairs sorted by key: one value, one encoding.
Each hash is SHA-256 over a tag that names its job, a NUL, and the bytes, so that no two jobs can share a digest.

    ref_digest   of a SnapshotRef      what the tree and the snapshot table use
    commit_id    of a commit           free of its serial position; author and message enter as a salted digest only
    record_hash  of a log record       chains every durable change to the one before it
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import msgspec

from plait.errors import Corrupt, InvalidArgument
from plait.refspec import check_is_text, format_path
from plait.types import (
    Choice,
    Conflict,
    ConflictKind,
    Key,
    Resolution,
    SnapshotRef,
    Source,
    SourceKind,
    Strategy,
)

FORMAT = 1
"""The version of stored bytes. It is part of every hash; a database names the one it holds."""

_SNAPSHOTS_KEPT_MAX = 4096
"""Those that were decoded last. A commit decodes the same few again and again, and each is encoded to be checked."""

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder().decode


def pack(value: object) -> bytes:
    """MessagePack in its shortest form. Use arrays and `pairs`, never maps: their order is not canonical."""
    return _encoder.encode(value)


def unpack(data: bytes, what: str, *, remedy: str = "") -> Any:
    """Read packed bytes. Raises: Corrupt naming `what`, when they are not one whole value."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{what} cannot be decoded: {error}", remedy=remedy) from error


def split_store_record(payload: list[Any]) -> tuple[list[Any], bytes | None]:
    """The fields of a store's record, and the id of the session that changed it. Older records have no session."""
    match payload:
        case [*fields, bytes(session)]:
            return fields, session
    return payload, None


def pairs(properties: Mapping[str, str]) -> list[tuple[str, str]]:
    """A map of text as sorted pairs: its canonical form."""
    return sorted(properties.items())


def digest(job: bytes, data: bytes) -> bytes:
    """SHA-256 with domain separation."""
    return hashlib.sha256(_domain(job) + data).digest()


@cache
def _domain(job: bytes) -> bytes:
    return b"plait/%s/%d\0" % (job, FORMAT)


# -- keys --------------------------------------------------------------------------------------------------------------


def encode_key(key: Key) -> bytes:
    """Order-preserving: keys sort as their bytes do, and a prefix of parts is a prefix of bytes. Parts hold no NUL."""
    return "\0".join((*key, "")).encode()


def decode_key(data: bytes) -> Key:
    """The key that `encode_key` wrote. Raises: Corrupt."""
    if not data.endswith(b"\0"):
        raise Corrupt(f"key bytes {data[:40]!r} do not end with NUL")
    try:
        return tuple(part.decode() for part in data[:-1].split(b"\0"))
    except UnicodeDecodeError as error:
        raise Corrupt(f"key bytes {data[:40]!r} are not UTF-8") from error


def split_value(value: bytes) -> tuple[bytes, bytes]:
    """What the tree holds under a key: 16 bytes of content id, 32 of ref_digest. Raises: Corrupt."""
    if len(value) != 48:
        raise Corrupt(f"a tree value has {len(value)} bytes, expected 48")
    return value[:16], value[16:]


# -- snapshots ---------------------------------------------------------------------------------------------------------


def encode_snapshot(snapshot: SnapshotRef) -> bytes:
    """The snapshot's canonical bytes: what the `snapshot` table keeps and `ref_digest` hashes."""
    return pack(
        [
            FORMAT,
            snapshot.store,
            snapshot.kind,
            snapshot.asset,
            snapshot.version,
            snapshot.digest,
            pairs(snapshot.attrs),
        ]
    )


@lru_cache(_SNAPSHOTS_KEPT_MAX)
def decode_snapshot(data: bytes) -> SnapshotRef:
    """Read canonical bytes back. Raises: Corrupt when they are not exactly canonical, Unsupported formats included."""
    value = unpack(data, "a snapshot")
    match value:
        case [int(version), str(store), str(kind), str(asset), str(native), bytes(native_digest), list(attrs)]:
            if version != FORMAT:
                raise Corrupt(f"a snapshot has format {version}, expected {FORMAT}")
            try:
                attributes = dict(msgspec.convert(attrs, list[tuple[str, str]]))
            except msgspec.ValidationError as error:
                raise Corrupt(f"a snapshot's attributes cannot be read: {error}") from error
            snapshot = SnapshotRef(store, kind, asset, native, native_digest, attributes)
        case _:
            raise Corrupt("a snapshot does not have the fields of format 1")
    if encode_snapshot(snapshot) != data:
        raise Corrupt("a snapshot's bytes are not in canonical form")
    return snapshot


def ref_digest(snapshot: SnapshotRef) -> bytes:
    """32 bytes that name exactly this SnapshotRef. (SnapshotRefs with different ones may have equal native digests.)"""
    return digest(b"snapshot", encode_snapshot(snapshot))


def optional_digest(snapshot: SnapshotRef | None) -> bytes | None:
    """The `ref_digest`, or None for an absent snapshot: the form of an operation's expected value."""
    return None if snapshot is None else ref_digest(snapshot)


def encode_source(source: Source) -> bytes:
    """A transaction's three-way source, as its row keeps it."""
    return pack(
        [
            source.kind.value,
            source.base,
            source.theirs,
            source.keys,
            source.default.value,
            [(key, strategy.value) for key, strategy in source.strategies],
        ]
    )


def decode_source(data: bytes) -> Source:
    """Read `encode_source` back. Raises: Corrupt."""
    try:
        kind, base, theirs, keys, default, strategies = unpack(data, "a working set's source")
        return Source(
            SourceKind(kind),
            base,
            theirs,
            tuple(tuple(key) for key in keys),
            Strategy(default),
            tuple((tuple(key), Strategy(strategy)) for key, strategy in strategies),
        )
    except (TypeError, ValueError) as error:
        raise Corrupt(f"a working set's source cannot be read: {error}") from error


def encode_conflict(conflict: Conflict) -> bytes:
    """A conflict, as its row and the wire keep it."""
    return pack(
        [
            conflict.key,
            conflict.kind.value,
            conflict.item,
            conflict.base,
            conflict.ours,
            conflict.theirs,
            conflict.detail,
        ]
    )


def decode_conflict(data: bytes) -> Conflict:
    """Read `encode_conflict` back. Raises: Corrupt."""
    try:
        key, kind, item, base, ours, theirs, detail = unpack(data, "a conflict")
        return Conflict(tuple(key), ConflictKind(kind), item, base, ours, theirs, detail)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"a conflict cannot be read: {error}") from error


def encode_resolution(resolution: Resolution) -> bytes:
    """A resolution, as its conflict's row keeps it. Raises: InvalidArgument for a whole number beyond 64 bits in it."""
    try:
        return pack([resolution.key, resolution.item, resolution.choice.value, resolution.value])
    except OverflowError as error:
        raise InvalidArgument(
            f"the value of {format_path(resolution.key, resolution.item)} holds a whole number beyond 64 bits",
            remedy="give the item as text",
        ) from error


def decode_resolution(data: bytes) -> Resolution:
    """Read `encode_resolution` back. Raises: Corrupt."""
    try:
        key, item, choice, value = unpack(data, "a resolution")
        return Resolution(tuple(key), item, Choice(choice), value)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"a resolution cannot be read: {error}") from error


# -- commits and the log -----------------------------------------------------------------------------------------------


def salt_digest(salt: bytes) -> bytes:
    """The digest of a repository's salt, for the log: those who choose keys must not know the salt itself."""
    return digest(b"salt", salt)


def text_digest(salt: bytes, author: str, message: str, properties: Mapping[str, str]) -> bytes:
    """The salted digest that stands for a commit's personal text. Once salt and text are erased, it reveals nothing."""
    return digest(b"text", salt + pack([author, message, pairs(properties)]))


def commit_id(
    *, repository: str, parents: Sequence[str], root: bytes, tx: str, committed_at_us: int, text: bytes
) -> str:
    """The commit's id, 64 hexadecimal digits. `text` is its `text_digest`."""
    body = pack([repository, [bytes.fromhex(parent) for parent in parents], root, tx, committed_at_us, text])
    return digest(b"commit", body).hex()


def record_hash(*, repository: str, previous: bytes, seq: int, kind: str, payload: bytes) -> bytes:
    """The chain: each record's hash covers the one before it, so no durable change can be rewritten unseen."""
    return digest(b"record", pack([repository, previous, seq, kind, hashlib.sha256(payload).digest()]))


def check_text(what: str, text: str) -> str:
    """The text, if every database can keep it. Raises InvalidArgument for a NUL or half a surrogate pair."""
    check_is_text(what, text)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(f"{what} holds a NUL or half a character: {text[:80]!r}", remedy="give it as plain text")
    return text


def check_properties(properties: Mapping[str, str], limit_bytes: int) -> None:
    """Raises InvalidArgument unless it is a map of text to text within the limit."""
    if not isinstance(properties, Mapping):
        raise InvalidArgument(f"properties are a map of names to values, not {properties!r}")
    size = 0
    for name, value in properties.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise InvalidArgument(f"property {name!r}={value!r} is not text", remedy="give names and values as strings")
        check_text("a property's name", name)
        check_text(f"property {name!r}", value)
        size += len(name.encode()) + len(value.encode())
    if size > limit_bytes:
        raise InvalidArgument(f"properties have {size} bytes, the limit is {limit_bytes}")
