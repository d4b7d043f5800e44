"""A directory on disk in plait's history: every version of every prefix, diffs and merges by object."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

from plait.adapter import Adapter, Capability, Context, Side, StagingPort
from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.refspec import format_key
from plait.tree import Tree, TreeJoin
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Depth,
    Health,
    Intent,
    Item,
    ItemChange,
    ItemChangeKind,
    Key,
    Location,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
    Store,
)

from plait_files.content import BUILT_IN
from plait_files.filesystem import AssetFileSystem, Overlay, check_name
from plait_files.folder import Folder, digest_of, translated
from plait_files.manifest import Content, Manifests, decode

_OWN = "_plait"
_NAMESPACE = uuid.UUID("5ad4ba3e-6c1c-5c0b-9f0e-6e2d9c7b1a52")


class FilesAdapter(Adapter):
    """Prefixes of one directory. Objects are kept at content addresses, once for all branches.

    A snapshot's version is its manifest's root; the head of an asset is a small file that also carries the
    publication's seq.
    """

    kind: ClassVar[str] = "files"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.CHEAP_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        unknown = set(store.options) - {"path"}
        if unknown or "path" not in store.options:
            raise InvalidArgument(
                f"store {store.name!r} needs the option 'path' and no other", remedy="write --option path=/data/raw"
            )
        path = Path(store.options["path"])
        if not path.is_absolute():
            raise InvalidArgument(
                f"path {str(path)!r} is relative, which each process would read from its own folder",
                remedy="give an absolute path",
            )
        self._folder = Folder(path / _OWN)
        self._manifests = Manifests(self._folder)

    # -- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        probe = self._folder.root / f"probe-{uuid.uuid4()}"
        self._folder.write(probe, b"plait")
        probe.unlink()
        return ()

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """Take in folders as they are now. A directory keeps no versions, so contents are copied (blocks are shared
        where the disk can): cost O(bytes). Repeat: what is kept already is not written again."""
        found = {}
        for key, location in assets.items():
            source = Path(location.removeprefix("file://"))
            if not source.is_dir():
                raise NotFound(f"{location} is no folder", remedy="name a folder by its absolute path")
            edits: dict[str, Content | None] = {}
            names = sorted(path for path in source.rglob("*") if path.is_file() and _OWN not in path.parts)
            for done, path in enumerate(names):
                self.context.check_cancelled()
                self.context.progress("objects", done, len(names))
                edits[check_name(path.relative_to(source).as_posix())] = Content(*self._folder.adopt(path))
            self.context.failpoint("files.import.before_manifest")
            root = self._manifests.edit(self._manifests.tree, self._manifests.empty(), edits)
            found[key] = self._refer(str(uuid.uuid5(_NAMESPACE, f"{self.store.name}/{tx}/{format_key(key)}")), root)
        return found

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        tree = self._manifests.scratch()
        old, new = self._side(tree, before), self._side(tree, after)
        for change in tree.diff(old, new):
            name = change.key.decode()
            if items is not None and name not in items:
                continue
            left, right = (None if side is None else decode(side).describe() for side in (change.before, change.after))
            kind = ItemChangeKind.CHANGED
            if left is None or right is None:
                kind = ItemChangeKind.ADDED if left is None else ItemChangeKind.REMOVED
            yield ItemChange(name, kind, "object", left, right)

    def _side(self, tree: Tree, side: Side) -> bytes:
        """The root of a side; a staging's own files are hashed where they are, and nothing is written."""
        if side is None:
            return tree.build(())
        if isinstance(side, SnapshotRef):
            return bytes.fromhex(side.version)
        overlay = Overlay(Path(side.location))
        edits: dict[str, Content | None] = dict.fromkeys(overlay.tombstones())
        for name in overlay.names():
            path = overlay.path(name)
            edits[name] = Content(digest_of(path), path.stat().st_size)
        return self._manifests.edit(tree, self._base_root(tree, side), edits)

    def _base_root(self, tree: Tree, staging: Staging) -> bytes:
        return bytes.fromhex(staging.attrs["root"]) if "root" in staging.attrs else tree.build(())

    def locate(self, snapshot: SnapshotRef) -> Location:
        snippet = (
            "import plait\n"
            f"objects = plait.open('…').at('…').open('{self.store.name}.…')   # an fsspec filesystem\n"
            "objects.find('')\n"
        )
        return Location(f"file://{self._folder.node(bytes.fromhex(snapshot.version))}", {}, snippet)

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        """EXISTS: the manifest's root. METADATA: all of its chunks, and every object in its size. BYTES: all bytes."""
        problems: list[str] = []
        checked = 0
        tree = self._manifests.scratch()
        root = bytes.fromhex(snapshot.version)
        try:
            tree.node(root)
            if depth is Depth.EXISTS:
                return Health(1)
            for name, value in tree.scan(root):
                self.context.check_cancelled()
                checked += 1
                problems += self._check_object(name.decode(), decode(value), depth)
        except Corrupt as error:
            problems.append(error.message)
        return Health(checked + 1, tuple(problems))

    def _check_object(self, name: str, content: Content, depth: Depth) -> list[str]:
        path = self._folder.object(content.digest)
        if not path.exists():
            return [f"object {name!r} is missing ({content.digest.hex()})"]
        if path.stat().st_size != content.size_bytes:
            return [f"object {name!r} has {path.stat().st_size} bytes, expected {content.size_bytes}"]
        if depth is Depth.BYTES and digest_of(path) != content.digest:
            return [f"object {name!r} holds other bytes than were committed ({content.digest.hex()})"]
        return []

    # -- writing inside a transaction --------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        staged = {}
        for key, intent in intents.items():
            base = intent.base
            asset = base.asset if base else intent.id
            location = self._folder.staging(tx) / intent.id
            self.context.failpoint("files.stage.before_folder")
            with translated(f"staging {location}"):
                Overlay(location).make()
            attrs = {"asset": asset, **({"root": base.version} if base else {})}
            staged[key] = Staging(tx, key, base, str(location), attrs)
        return staged

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> AssetFileSystem:
        """An fsspec filesystem of the asset's objects: writable for a staging with its port, else read-only."""
        if isinstance(target, Staging):
            overlay = Overlay(Path(target.location))
            root = self._base_root(self._manifests.tree, target)
            return AssetFileSystem(self._folder, self._manifests, root, overlay)
        return AssetFileSystem(self._folder, self._manifests, bytes.fromhex(target.version), None)

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        return {key: self._vote(tx, attempt, staging) for key, staging in stagings.items()}

    def _vote(self, tx: str, attempt: int, staging: Staging) -> SnapshotRef:
        asset = staging.attrs.get("asset") or (staging.base.asset if staging.base else "")
        record = self._folder.prepared(tx, attempt, asset)
        if record.exists():
            return self._refer(asset, bytes.fromhex(self._folder.read(record).decode()))
        overlay = Overlay(Path(staging.location))
        edits: dict[str, Content | None] = dict.fromkeys(overlay.tombstones())
        names = list(overlay.names())
        for done, name in enumerate(names):
            self.context.check_cancelled()
            self.context.progress("objects", done, len(names))
            self.context.failpoint("files.prepare.before_object")
            edits[check_name(name)] = Content(*self._folder.adopt(overlay.path(name)))
        self.context.failpoint("files.prepare.before_manifest")
        tree = self._manifests.tree
        base = staging.base
        root = self._base_root(tree, staging) if "root" in staging.attrs else self._manifests.empty()
        if base is not None and not edits and base.version == root.hex():
            return base
        root = self._manifests.edit(tree, root, edits)
        self.context.failpoint("files.prepare.before_vote")
        self._folder.write(record, root.hex().encode())
        return base if base is not None and base.version == root.hex() else self._refer(asset, root)

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        overlay = Overlay(Path(staging.location))
        tree = self._manifests.tree
        if items is None:
            for name in overlay.names():
                overlay.path(name).unlink()
            for path in overlay.deleted.iterdir():
                path.unlink()
            return replace(staging, attrs={**staging.attrs, "root": snapshot.version})
        then = bytes.fromhex(snapshot.version)
        edits = {check_name(name): self._manifests.get(then, name) for name in items}
        root = self._base_root(tree, staging) if "root" in staging.attrs else self._manifests.empty()
        root = self._manifests.edit(tree, root, edits)
        self.context.failpoint("files.restore.before_overlay")
        for name in items:
            overlay.path(name).unlink(missing_ok=True)
            overlay.unbury(name)
        return replace(staging, attrs={**staging.attrs, "root": root.hex()})

    def abort(self, tx: str) -> None:
        self._folder.remove_tree(self._folder.staging(tx))
        self.context.failpoint("files.abort.between")
        self._folder.remove_tree(self._folder.root / "prepared" / tx)

    # -- joining -----------------------------------------------------------------------------------------------------

    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        """By object; where both sides changed one, by its content. Cost: O(changes), and the bytes of those objects.

        Repeat: a manifest is named by what it holds, so the same answer.
        """
        tree = self._manifests.tree
        old = bytes.fromhex(base.version) if base else self._manifests.empty()
        settled = {one.item: one for one in resolutions}
        edits: dict[str, Content | None] = {}
        conflicts = []
        for one in tree.join(old, bytes.fromhex(ours.version), bytes.fromhex(theirs.version)):
            if one.ours == one.theirs or one.theirs == one.base:
                continue
            name = one.key.decode()
            if one.ours == one.base:
                edits[name] = _decode(one.theirs)
                continue
            answer = self._join(name, one, settled.get(name))
            if isinstance(answer, Conflict):
                conflicts.append(answer)
            else:
                edits[name] = answer
        if conflicts:
            return Conflicted(tuple(conflicts))
        self.context.failpoint("files.merge.before_manifest")
        return Merged(self._refer(ours.asset, self._manifests.edit(tree, bytes.fromhex(ours.version), edits)))

    def _join(self, name: str, one: TreeJoin, resolution: Resolution | None) -> Content | Conflict | None:
        """What an object that both sides changed becomes."""
        sides = {Choice.BASE: one.base, Choice.OURS: one.ours, Choice.THEIRS: one.theirs}
        if resolution is not None:
            if resolution.choice in sides:
                return _decode(sides[resolution.choice])
            if resolution.value is None:
                return None
            text = resolution.value if isinstance(resolution.value, str) else json.dumps(resolution.value)
            return Content(*self._folder.put_object(text.encode()))
        if one.base is not None and one.ours is not None and one.theirs is not None:
            merged = self._merge_content(name, *(self._bytes(side) for side in (one.base, one.ours, one.theirs)))
            if merged is not None:
                return Content(*self._folder.put_object(merged))
        base, ours, theirs = (None if side is None else decode(side).describe() for side in sides.values())
        return Conflict((), ConflictKind.ITEM_CHANGED, name, base, ours, theirs, "both sides changed this object")

    def _merge_content(self, name: str, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        for merger in (*self.context.mergers(), *BUILT_IN):
            if fnmatch(name, merger.pattern) or fnmatch(name.rpartition("/")[2], merger.pattern):
                return merger.merge(base, ours, theirs)
        return None

    def _bytes(self, value: bytes) -> bytes:
        return self._folder.read(self._folder.object(decode(value).digest))

    # -- native heads ------------------------------------------------------------------------------------------------

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        return {key: self._publish(key, move) for key, move in moves.items()}

    def _publish(self, key: Key, move: Move) -> Published:
        known = move.after or move.before
        assert known is not None, f"a move of {format_key(key)} has at least one side"
        path = self._folder.head(known.asset)
        before, after = (None if side is None else side.version for side in (move.before, move.after))
        with self._folder.locked(path):
            head = _head(self._folder, path)
            if (head["version"], head["seq"]) == (after, move.seq):
                return Published(PublishState.DONE)
            if head["version"] not in (before, after):
                found = head["version"]
                return Published(
                    PublishState.DIVERGED, None if found is None else self._refer(known.asset, bytes.fromhex(found))
                )
            self.context.failpoint("files.publish.before_head")
            fresh = {"version": after, "seq": move.seq, "key": format_key(key)}
            self._folder.write(path, json.dumps(fresh).encode())
        return Published(PublishState.DONE)

    # -- space -------------------------------------------------------------------------------------------------------

    def reachable(self, snapshot: SnapshotRef) -> Iterator[Item]:
        root = bytes.fromhex(snapshot.version)
        for node_id, data in self._manifests.tree.walk(root):
            yield Item(self._folder.node(node_id).relative_to(self._folder.root).as_posix(), len(data))
        for _, content in self._manifests.under(root, ""):
            path = self._folder.object(content.digest).relative_to(self._folder.root)
            yield Item(path.as_posix(), content.size_bytes)

    def inventory(self, prefix: str = "") -> Iterator[Item]:
        return self._folder.items(prefix)

    def delete(self, items: Iterable[Item]) -> None:
        self._folder.delete(items)

    def _refer(self, asset: str, root: bytes) -> SnapshotRef:
        return SnapshotRef(self.store.name, self.kind, asset, root.hex(), root)


def _head(folder: Folder, path: Path) -> dict[str, Any]:
    """What a head file says; one that is not there was never published."""
    empty: dict[str, Any] = {"version": None, "seq": 0}
    try:
        found: dict[str, Any] = json.loads(folder.read(path)) if path.exists() else empty
        return {"version": found["version"], "seq": found["seq"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"head file {path} cannot be read: {error}", remedy="restore it from a backup") from error


def _decode(value: bytes | None) -> Content | None:
    return None if value is None else decode(value)
