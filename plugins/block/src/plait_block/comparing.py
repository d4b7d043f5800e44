"""Diffs, merges and partial restores of volumes: by file where all of them hold an ext4 filesystem, else by extent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plait.adapter import Context
from plait.errors import Corrupt, PermissionDenied, StoreUnavailable
from plait.types import Choice, Conflict, Conflicted, ConflictKind, ItemChange, ItemChangeKind, Json, Resolution

from plait_block import extents, files, merging
from plait_block.daemon import Daemon
from plait_block.ext4 import MEND, Broken, Filesystems, Unreadable, is_ext4, is_served
from plait_block.extents import NOTHING, Reader
from plait_block.file_merging import FileMerge
from plait_block.files import Change, File
from plait_block.layers import Layer, Layers
from plait_block.merging import ORDER, Sides
from plait_block.nbd import NbdClient
from plait_block.place import Place
from plait_block.ranges import intersection, union
from plait_block.volume import Version

_DAMAGE: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""What reading a damaged filesystem ends with."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A merge: the layer that holds it, and the titles of registered mergers that made some of it."""

    layer: Layer
    mergers: tuple[str, ...] = ()


class Comparing:
    """What one store compares. Thread-safe."""

    def __init__(self, layers: Layers, daemon: Daemon, filesystems: Filesystems, context: Context) -> None:
        self._layers = layers
        self._daemon = daemon
        self._filesystems = filesystems
        self._context = context

    # -- diff --------------------------------------------------------------------------------------------------------

    def diff(self, before: Layer | None, after: Layer | None, items: Sequence[str] | None) -> Iterator[ItemChange]:
        """By file where a side holds a filesystem and the other holds one too, or nothing at all; else by extent. What
        is asked for by its path is looked for in each filesystem.

        A damaged filesystem is compared by extent, after a change of aspect "filesystem" which says what is wrong.
        Raises: Unreadable, where files of a damaged one are asked for.
        """
        with ExitStack() as stack:
            sides = [(side, self._reader(side, stack)) for side in (before, after)]
            (_, old), (_, new) = sides
            holding = [side if is_ext4(reader) else None for side, reader in sides]
            names_files = items is not None and not all(map(extents.extent_of, items))
            if not any(holding) or not (
                names_files or all(has or self._is_blank(*side) for has, side in zip(holding, sides, strict=True))
            ):
                yield from self._diff_extents(before, after, old, new, items)
                return
            with ExitStack() as shown:
                try:
                    then, now = shown.enter_context(self._trees(*holding, judged=holding))
                except Unreadable as error:
                    if names_files:
                        raise
                    yield _as_note(error, before)
                    yield from self._diff_extents(before, after, old, new, items)
                else:
                    yield from self._diff_files(then, now, items)

    def _is_blank(self, layer: Layer | None, reader: Reader) -> bool:
        """Whether a volume is absent, or holds zeroes alone. Cost: reads it as far as its first other byte."""
        ranges = [] if layer is None else self._layers.changed(None, layer)
        return next(extents.differing(ranges, extents.NOTHING, reader), None) is None

    def _diff_extents(
        self, before: Layer | None, after: Layer | None, old: Reader, new: Reader, items: Sequence[str] | None
    ) -> Iterator[ItemChange]:
        ranges = self._layers.changed(before, after)
        if items is not None:
            wanted = [one for one in map(extents.extent_of, items) if one is not None]
            ranges = intersection(ranges, union(wanted))
        for one in extents.differing(ranges, old, new):
            self._context.check_cancelled()
            left = None if before is None else one.before
            right = None if after is None else one.after
            yield ItemChange(extents.item_of(one.extent), _kind(left, right), "extent", left, right)

    def _diff_files(
        self, old: Mapping[str, File], new: Mapping[str, File], items: Sequence[str] | None
    ) -> Iterator[ItemChange]:
        if items is not None:
            paths = set(map(files.path_of, items))
            old, new = ({path: tree[path] for path in paths & tree.keys()} for tree in (old, new))
        for path, was, now in files.changes(old, new):
            self._context.check_cancelled()
            yield ItemChange(files.item_of(path), _kind(was, now), "file", files.describe(was), files.describe(now))

    # -- merge -------------------------------------------------------------------------------------------------------

    def merge(
        self, sides: Sides, resolutions: Sequence[Resolution], make: Callable[[int], Layer]
    ) -> Joined | Conflicted | None:
        """The merge, in a layer made by `make` on ours from a size; None when ours is it already."""
        with ExitStack() as stack:
            readers = {choice: self._reader(sides.layer(choice), stack) for choice in ORDER}
            without = [choice for choice in ORDER if not is_ext4(readers[choice])]
            if not {Choice.OURS, Choice.THEIRS} - {*without}:
                return self._merge_extents(sides, readers, resolutions, make)
        if without:
            return _as_a_whole(
                f"no ext4 filesystem is in {' and '.join(without)}, and extents of one are not joined with others: "
                "take one side"
            )
        return self._merge_files(sides, resolutions, make)

    def _merge_extents(
        self,
        sides: Sides,
        readers: Mapping[Choice, Reader],
        resolutions: Sequence[Resolution],
        make: Callable[[int], Layer],
    ) -> Joined | Conflicted | None:
        plan = merging.plan(self._layers, sides, readers, resolutions)
        if plan.conflicts:
            return Conflicted(tuple(plan.conflicts))
        if not plan.changes_ours(sides):
            return None
        layer = make(plan.size_bytes)
        chain, export = self._layers.chain(layer), f"m-{layer.id}"
        with self._daemon.monitor() as monitor:
            monitor.serve(export, monitor.add_chain(chain, writable=True), writable=True)
        with NbdClient(self._daemon.nbd_socket(), export) as target:
            merging.write(plan, readers, target, self._context.check_cancelled)
        with self._daemon.monitor() as monitor:
            monitor.withdraw(export, force=True)
            monitor.remove_chain(chain)
        return Joined(layer)

    def _merge_files(
        self, sides: Sides, resolutions: Sequence[Resolution], make: Callable[[int], Layer]
    ) -> Joined | Conflicted | None:
        assert sides.base is not None
        if len({sides.size(choice) for choice in ORDER}) > 1:
            sizes = ", ".join(f"{choice} {sides.size(choice)}" for choice in ORDER)
            return _as_a_whole(f"volumes of different sizes are not merged by file ({sizes} bytes): take one side")
        try:
            return self._merge_trees(sides.base, sides.ours, sides.theirs, resolutions=resolutions, make=make)
        except Unreadable as error:
            side = next((one for one in reversed(ORDER) if sides.layer(one) == error.layer), Choice.OURS)
            return _as_a_whole(
                f"the ext4 filesystem in {side}, version {error.layer.id}, is damaged: {error.finding}. "
                f"Take one side, or merge again once it is sound: {MEND}"
            )
        except Broken as error:
            return _as_a_whole(error.message)

    def _merge_trees(
        self,
        *layers: Layer,
        resolutions: Sequence[Resolution],
        make: Callable[[int], Layer],
    ) -> Joined | Conflicted | None:
        # The base need not be sound: what it lacks both sides have, or have removed, and they are sound.
        with self._trees(*layers, judged=layers[1:]) as (base, ours, theirs):
            plan = FileMerge(base, ours, theirs, resolutions, self._context.mergers()).plan()
            if plan.conflicts:
                return Conflicted(tuple(plan.conflicts))
            if not plan.wanted:
                return None
            layer = make(layers[1].size_bytes)
            self._change(layer, plan.wanted)
            return Joined(layer, tuple(sorted(plan.mergers)))

    # -- restore -----------------------------------------------------------------------------------------------------

    def restore_files(self, onto: Layer, source: Layer, items: Sequence[str]) -> None:
        """Make these paths, and what lies below them, in a layer that is written to, what a frozen layer holds.

        A path that neither holds is passed over: it was removed. What is no folder now, such as a link, and was one
        then, is one again. On errors, the layer is to be dropped.
        """
        with (
            self._trees(source, judged=[source]) as (then,),
            self._filesystems.changed(onto) as root,
            _translated({root: onto}),
        ):
            now = files.tree(root)
            wanted = {path: Change(then.get(path)) for path in files.under((then, now), items)}
            for path in list(wanted):
                if path in then:
                    folders = (one for one in files.folders_of(path) if one not in now or not now[one].is_folder)
                    wanted.update({one: Change(then[one]) for one in folders})
            files.apply(root, wanted, self._context.check_cancelled)

    def restore_extents(self, place: Place, source: Layer, items: Sequence[str]) -> None:
        """Write these extents to a working volume as a frozen layer holds them. Raises: InvalidArgument."""
        with Version(self._layers, self._daemon, source).connect() as reader, place.connect() as target:
            size = min(reader.size_bytes, target.size_bytes)
            wanted = [extents.check_inside(one, size) for one in map(extents.extent_of, items) if one is not None]
            for start, end in wanted:
                target.write(start, reader.read(start, end - start))
                self._context.failpoint("block.restore.after_item")
            target.flush()

    # -- parts -------------------------------------------------------------------------------------------------------

    def _change(self, layer: Layer, wanted: Mapping[str, Change]) -> None:
        with self._filesystems.changed(layer) as root, _translated({root: layer}):
            files.apply(root, wanted, self._context.check_cancelled)

    def _reader(self, layer: Layer | None, stack: ExitStack) -> Reader:
        if layer is None:
            return NOTHING
        return stack.enter_context(Version(self._layers, self._daemon, layer).connect())

    @contextmanager
    def _trees(self, *layers: Layer | None, judged: Collection[Layer | None]) -> Iterator[list[dict[str, File]]]:
        """The files of each; none of what is absent. Raises: Unreadable, where e2fsck finds damage in what is `judged`,
        and where a filesystem cannot be read."""
        with ExitStack() as stack:
            roots = {
                stack.enter_context(self._filesystems.shown(layer, judged=layer in judged)): layer
                for layer in layers
                if layer is not None
            }
            with _translated(roots):
                found = iter([files.tree(root) for root in roots])
                yield [{} if layer is None else next(found) for layer in layers]


def _as_a_whole(detail: str) -> Conflicted:
    """A merge that only a choice of one side's whole volume settles."""
    return Conflicted((Conflict((), ConflictKind.CONSTRAINT, detail=detail),))


def _kind(before: object, after: object) -> ItemChangeKind:
    if before is None:
        return ItemChangeKind.ADDED
    return ItemChangeKind.REMOVED if after is None else ItemChangeKind.CHANGED


def _as_note(error: Unreadable, before: Layer | None) -> ItemChange:
    """Why a diff goes on by extent."""
    said: dict[str, Json] = {"damaged": f"{error.where}: {error.finding}", "remedy": error.remedy}
    if error.layer == before:
        return ItemChange("filesystem", ItemChangeKind.CHANGED, "filesystem", said, None)
    return ItemChange("filesystem", ItemChangeKind.CHANGED, "filesystem", None, said)


@contextmanager
def _translated(roots: Mapping[Path, Layer]) -> Iterator[None]:
    """Errors of mounted filesystems as plait's; files are named as in the volume."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(
            f"files in the volume may not be changed: {_said(error, roots)}",
            remedy="run plait as root: their attributes need it",
        ) from error
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise StoreUnavailable(f"the filesystem in the volume failed: {_said(error, roots)}") from error
        root = next((root for root in roots if Path(str(error.filename)).is_relative_to(root)), None)
        if not all(map(is_served, roots)):
            raise StoreUnavailable("the storage daemon ended while it showed files", remedy="try again") from error
        if root is None:
            raise Corrupt(f"the ext4 filesystem in the volume is damaged: {error.strerror}", remedy=MEND) from error
        raise Unreadable(roots[root], _said(error, roots)) from error


def _said(error: OSError, roots: Mapping[Path, Layer]) -> str:
    """What the system says, and of which file in the volume."""
    paths = [Path(os.fsdecode(one)) for one in (error.filename, error.filename2) if isinstance(one, str | bytes)]
    named = [
        files.item_of(path.relative_to(root).as_posix())
        for path in paths
        for root in roots
        if path.is_relative_to(root)
    ]
    return f"{error.strerror or type(error).__name__}{': ' if named else ''}{', '.join(named)}"
