"""What a store really does, found out by doing it: names of products say nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from plait.errors import PlaitError

from plait_s3.blobs import OWN, Blob, Blobs, address


def probe(blobs: Blobs) -> Sequence[str]:
    """What a store lacks for plait, as sentences. Writes some small objects and deletes them."""
    folder = f"{OWN}probe/{secrets.token_hex(8)}/"
    try:
        found = list(_problems(blobs, folder))
        blobs.drop_folder(folder)
    except PlaitError as error:
        return (unusable(blobs, error),)
    return found


def unusable(blobs: Blobs, error: PlaitError) -> str:
    return f"{blobs.uri('')} cannot be used: {error}"


def _problems(blobs: Blobs, folder: str) -> Iterator[str]:
    where = blobs.uri("")
    key = folder + "head"
    if blobs.put_if_match(key, b"1", None) is None:
        yield f"{where}: a conditional PUT of a new object was refused: plait cannot publish here"
        return
    if blobs.put_if_match(key, b"2", None) is not None:
        yield f"{where}: If-None-Match is ignored, so two writers would both win: choose a server that holds to it"
        return
    first = blobs.read_etag(key)
    if first is None or first[0] != b"1":
        yield f"{where}: an object was not read back as it was put"
        return
    if blobs.put_if_match(key, b"3", first[1]) is None:
        yield f"{where}: a PUT with a matching If-Match was refused: plait cannot publish here"
    elif blobs.put_if_match(key, b"4", first[1]) is not None:
        yield f"{where}: a stale If-Match was not refused, so publications would be lost: choose another server"
    names = [folder + name for name in ("a-b", "a/b", "é z")]
    for name in names:
        blobs.put(name, name.encode())
    listed = [blob.key for blob in blobs.list(folder) if blob.key != key]
    if sorted(listed) != sorted(names):
        yield f"{where}: {names} were put and {listed} are listed: plait would lose objects here"
    (pinned,) = blobs.pin_all([Blob(names[0], 0)], lambda done: None)
    blobs.put(names[0], b"overwritten")
    place = pinned.place or address(pinned.sha256)
    if blobs.get(place, version=pinned.version) != names[0].encode():
        yield f"{where}: a pinned object is altered by a later write: plait would lose what was committed"
    if not pinned.place:
        # Its content holds the probe's random name, so nobody else keeps the same bytes there.
        blobs.delete([Blob(place, pinned.size_bytes)])
