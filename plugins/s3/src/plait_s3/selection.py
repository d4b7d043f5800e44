"""Some objects of an asset as they were at one moment, under the names that they get outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from plait_s3.manifest import Entry, Manifest, Packs, Root, decode_entry, optional_entry, same_content


@dataclass(frozen=True, slots=True)
class Selection:
    """A manifest, what a working set changes in it, and which of it: below `folder` ("" or with a slash at its end),
    and with a name, seen from there, that fits the glob `match`, whose `*` passes over slashes."""

    root: Root
    edits: tuple[tuple[bytes, bytes | None], ...] = ()
    folder: str = ""
    match: str = "*"

    def is_scoped_as(self, other: Selection) -> bool:
        return (self.folder, self.match) == (other.folder, other.match)


def content_of(entry: Entry) -> str:
    """What an object holds, as text that is equal where the bytes are: how it was hashed, the hash, the size."""
    return f"{entry.hash_name}:{entry.hash_text}:{entry.size_bytes}"


def size_of(content: str) -> int:
    """The bytes of what `content_of` told."""
    return int(content.rpartition(":")[2])


class Selected:
    """Reads selections of one store's assets, and compares them. All of it raises: Corrupt for lost manifests."""

    def __init__(self, packs: Packs, selections: Sequence[Selection]) -> None:
        self._manifest = Manifest(packs, *(one.root for one in selections))
        self._roots: dict[Selection, bytes] = {}

    def _root(self, of: Selection) -> bytes:
        if of not in self._roots:
            self._roots[of] = self._manifest.tree.apply(of.root.node, dict(of.edits)) if of.edits else of.root.node
        return self._roots[of]

    def entries(self, of: Selection) -> Iterator[tuple[str, Entry]]:
        """(name, entry), ascending by bytes, lazily."""
        for key, value in self._manifest.tree.scan(self._root(of), prefix=of.folder.encode()):
            name = key.decode()[len(of.folder) :]
            if fnmatchcase(name, of.match):
                yield name, decode_entry(value)

    def find(self, of: Selection, names: Iterable[str]) -> dict[str, Entry]:
        """Those of these names that it has."""
        # What is no Unicode was never in a manifest.
        keys = {
            (of.folder + name).encode("utf-8", "surrogateescape"): name for name in names if fnmatchcase(name, of.match)
        }
        found = self._manifest.tree.get_many(self._root(of), keys)
        return {keys[key]: decode_entry(value) for key, value in found.items()}

    def changed(self, before: Selection, after: Selection) -> Iterator[str]:
        """The names whose content differs between two of one scope. Cost: O(changes · log objects)."""
        roots = self._root(before), self._root(after)
        for change in self._manifest.tree.diff(*roots, prefix=after.folder.encode()):
            name = change.key.decode()[len(after.folder) :]
            if fnmatchcase(name, after.match) and not same_content(
                optional_entry(change.before), optional_entry(change.after)
            ):
                yield name
