"""Existing prefixes and folders as snapshots: in place where the store keeps versions, else by copying."""

from __future__ import annotations

from plait.adapter import Context
from plait.errors import InvalidArgument, NotFound

from plait_s3.blobs import EXPORTED, OWN, Blob, Blobs, Report, unheard
from plait_s3.manifest import NOTHING, Manifest, Packs, Root, encode_entry, entry_of, write_manifest


def import_prefix(blobs: Blobs, packs: Packs, context: Context, prefix: str, asset: str) -> Root:
    """The manifest of what lies below a prefix ("": everything but plait's own) now.

    Raises: NotFound where nothing does. Repeat: an equal prefix is an equal snapshot. Cost: one listing where the store
    keeps versions, else every byte once.
    """
    folder = _folder(prefix)

    def list_on(count: int) -> None:
        context.check_cancelled()
        context.progress("listing", count, None)

    list_on(0)
    found = listed(blobs, prefix, list_on)

    def report(done: int) -> None:
        context.check_cancelled()
        context.progress("objects", done, len(found))

    context.failpoint("objects.import.before_pins")
    pinned = blobs.pin_all(found, report)
    context.failpoint("objects.import.after_pins")
    manifest = Manifest(packs, NOTHING)
    # The listing is in the order of the keys' bytes, and so are the names below one folder.
    root = manifest.tree.build(
        (blob.key[len(folder) :].encode(), encode_entry(entry_of(one))) for blob, one in zip(found, pinned, strict=True)
    )
    # The name says nothing of the transaction: whoever imports the same finds it.
    return write_manifest(blobs, manifest, root, f"import/{asset}", context.failpoint)


def listed(blobs: Blobs, prefix: str, report: Report = unheard) -> list[Blob]:
    """Other people's objects below a prefix, in order. Raises: NotFound where there are none."""
    folder, own = _folder(prefix), blobs.uri(OWN)
    if blobs.uri(folder).startswith(own):
        raise InvalidArgument(f"{blobs.uri(folder)} is plait's own", remedy="import a prefix that others write")
    found = [
        blob
        for blob in blobs.list_current(folder, report)
        if not blob.key.endswith("/") and not blobs.uri(blob.key).startswith(own) and EXPORTED not in f"/{blob.key}"
    ]
    if not found:
        raise NotFound(
            f"nothing is below {blobs.uri(folder)}, to be imported",
            remedy="name a folder or a prefix with objects in it; ./name is a folder beside you",
        )
    return found


def folders_below(blobs: Blobs, prefix: str) -> list[str]:
    """The folders right below a prefix that have objects in them, in order. Raises: NotFound where nothing is."""
    start = len(_folder(prefix))
    names = (blob.key[start:].partition("/") for blob in listed(blobs, prefix))
    return sorted({name for name, slash, _ in names if slash})


def _folder(prefix: str) -> str:
    return prefix + "/" if prefix else ""
