"""Native heads: for each asset one small object that names the published snapshot, moved by conditional writes only.

    _plait/heads/<asset>   {"format": 1, "asset": …, "pack": …, "root": …, "seq": …, "snapshot": …}

Who reads without plait follows `pack` and `root`; `snapshot` is the catalog's own form of the same. An unpublished
asset keeps its head, with null in it: some servers forget conditions on what was deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from plait.codec import FORMAT, decode_snapshot, encode_snapshot
from plait.errors import Corrupt
from plait.types import Move, Published, PublishState, SnapshotRef

from plait_s3.blobs import OWN, Blobs

HEADS: Final = f"{OWN}heads/"
_TRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Head:
    """What an asset's head says; `etag` None: there is no head yet."""

    snapshot: SnapshotRef | None
    seq: int
    etag: str | None


def read_head(blobs: Blobs, asset: str) -> Head:
    """The head as it is. Raises: Corrupt when somebody wrote there what is no head."""
    found = blobs.read_etag(HEADS + asset)
    if found is None:
        return Head(None, 0, None)
    data, etag = found
    try:
        document = json.loads(data)
        seq, text = int(document["seq"]), document["snapshot"]
        snapshot = None if text is None else decode_snapshot(bytes.fromhex(text))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"head {blobs.uri(HEADS + asset)} cannot be read: {error}",
            remedy="restore its last version, or delete it and take that over with 'plait store adopt KEY'",
        ) from error
    return Head(snapshot, seq, etag)


def publish_head(blobs: Blobs, move: Move, failpoint: Callable[[str], None]) -> Published:
    """Move one head from before to after. Repeat: DONE, without a write. Cost: one read, one conditional write.

    BUSY: a move with a later seq was here already, so this one is stale (equal snapshots may be published twice).
    """
    one = move.after or move.before
    if one is None:
        return Published(PublishState.DONE)
    for _ in range(_TRIES_MAX):
        head = read_head(blobs, one.asset)
        if head.snapshot == move.after and (head.etag is not None or move.after is None):
            return Published(PublishState.DONE)
        if head.snapshot != move.before:
            return Published(PublishState.DIVERGED, head.snapshot)
        if head.seq > move.seq:
            return Published(PublishState.BUSY)
        failpoint("objects.publish.before_move")
        moved = blobs.put_if_match(HEADS + one.asset, _encode(one.asset, move), head.etag)
        failpoint("objects.publish.after_move")
        if moved is not None:
            return Published(PublishState.DONE)
        # Refused, or an earlier try of the same request was answered into the void: what is there tells.
    return Published(PublishState.BUSY)


def _encode(asset: str, move: Move) -> bytes:
    after = move.after
    document = {
        "format": FORMAT,
        "asset": asset,
        "pack": None if after is None else after.version,
        "root": None if after is None else after.digest.hex(),
        "seq": move.seq,
        "snapshot": None if after is None else encode_snapshot(after).hex(),
    }
    return json.dumps(document, indent=1).encode() + b"\n"
