"""A prefix at one moment: object name → content, as a prolly tree whose chunks live beside the objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plait.codec import pack, unpack
from plait.tree import NodeCache, Tree
from plait.types import Json

from plait_files.folder import Folder, FolderNodes

_SALT = b"plait/files/1..."
"""Chunks of equal manifests are equal in every store: a copied store is the same store."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a name holds: the SHA-256 of its bytes, and how many there are."""

    digest: bytes
    size_bytes: int

    def describe(self) -> Json:
        """As people read it in diffs and conflicts."""
        return {"size": self.size_bytes, "sha256": self.digest.hex()}


def encode(content: Content) -> bytes:
    return pack([content.digest, content.size_bytes])


def decode(value: bytes) -> Content:
    """Raises: Corrupt."""
    digest, size_bytes = unpack(value, "a manifest's entry")
    return Content(digest, size_bytes)


class Manifests:
    """All manifests of one store. A manifest is named by its root."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._cache = NodeCache()
        self.nodes = FolderNodes(folder)
        self.tree = Tree(self.nodes, salt=_SALT, cache=self._cache)

    def scratch(self) -> Tree:
        """The same trees, but what is added stays in memory."""
        return Tree(FolderNodes(self._folder, scratch=True), salt=_SALT)

    def empty(self) -> bytes:
        """The root that holds nothing, written."""
        return self.tree.build(())

    def get(self, root: bytes, name: str) -> Content | None:
        value = self.tree.get(root, name.encode())
        return None if value is None else decode(value)

    def under(self, root: bytes, prefix: str) -> Iterator[tuple[str, Content]]:
        """Names with this prefix and what they hold, in order."""
        for name, value in self.tree.scan(root, prefix=prefix.encode()):
            yield name.decode(), decode(value)

    def edit(self, tree: Tree, root: bytes, edits: Mapping[str, Content | None]) -> bytes:
        """The root with these names set or (None) removed. Cost: O(edits · log names) chunks."""
        wanted = {name.encode(): None if content is None else encode(content) for name, content in edits.items()}
        return tree.apply(root, wanted) if wanted else root
