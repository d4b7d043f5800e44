"""Three-way merge of the filesystems in three volumes, path by path, with the registered mergers for contents."""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plait.adapter import Merger
from plait.mergers import merged_by, mergers_for
from plait.types import Choice, Conflict, ConflictKind, Resolution

from plait_block.files import Change, File, attributes, changes, describe, folders_of, item_of, path_of, same

Tree = Mapping[str, File]
_CONFLICT: Final = "both sides changed this"


@dataclass(slots=True)
class FilePlan:
    """What makes ours the merge: paths and what they become. `mergers`: the titles of those that made some of it."""

    wanted: dict[str, Change] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    mergers: set[str] = field(default_factory=set)


class FileMerge:
    """One merge. Cost: `stat` of every entry of the three trees, and the contents of what either side changed."""

    def __init__(
        self, base: Tree, ours: Tree, theirs: Tree, resolutions: Sequence[Resolution], mergers: Sequence[Merger]
    ) -> None:
        self._trees: dict[Choice, Tree] = {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}
        self._settled = {path_of(one.item): one for one in resolutions if one.item is not None}
        self._mergers = mergers

    def plan(self) -> FilePlan:
        """Conflicts in order of their paths."""
        made = FilePlan()
        base, ours, theirs = self._trees.values()
        changed = {path for path, _, _ in changes(base, ours)}
        for path, _, after in changes(base, theirs):
            if path not in changed:
                made.wanted[path] = Change(after)
            elif not same(ours.get(path), after):
                self._join(path, made)
        self._keep_names(made, changed)
        self._check_folders(made)
        made.conflicts.sort(key=lambda conflict: conflict.item or "")
        return made

    def _keep_names(self, made: FilePlan, changed: Collection[str]) -> None:
        """What theirs gave another name keeps the others: all that ours did not change are written as names of one."""
        theirs = self._trees[Choice.THEIRS]
        inodes = {
            change.file.stat.st_ino
            for path, change in made.wanted.items()
            if change.file is not None and change.file is theirs.get(path) and not change.file.is_folder
        }
        for path, file in theirs.items():
            if file.stat.st_nlink > 1 and file.stat.st_ino in inodes and path not in changed:
                made.wanted.setdefault(path, Change(file))

    def _join(self, path: str, made: FilePlan) -> None:
        """A path that both sides changed differently."""
        if path in self._settled:
            self._settle(path, made)
            return
        merged = self._merged(made, *(tree.get(path) for tree in self._trees.values()))
        if isinstance(merged, Change):
            made.wanted[path] = merged
        else:
            made.conflicts.append(self._conflict(path, ConflictKind.ITEM_CHANGED, merged))

    def _settle(self, path: str, made: FilePlan) -> None:
        """A path as its resolution says, with those folders that lead to it and would be missing."""
        resolution = self._settled[path]
        _, ours, theirs = self._trees.values()
        tree = self._trees.get(resolution.choice, ours if path in ours else theirs)
        change = Change(tree.get(path))
        if resolution.choice is Choice.VALUE:
            value = resolution.value
            text = value if isinstance(value, str) else json.dumps(value)
            change = Change(None) if value is None else Change(tree.get(path), text.encode())
        made.wanted[path] = change
        for folder in () if change.file is None else folders_of(path):
            if not _is_folder(made.wanted[folder].file if folder in made.wanted else ours.get(folder)):
                made.wanted[folder] = Change(tree[folder])

    def _merged(self, made: FilePlan, base: File | None, ours: File | None, theirs: File | None) -> Change | str:
        """Regular files by their contents, folders by their modes; when they conflict, why."""
        if ours is None or theirs is None or ours.kind != theirs.kind:
            return _CONFLICT
        if base is not None and base.kind != ours.kind:
            return _CONFLICT
        sides = [None if side is None else _rights(side) for side in (base, ours, theirs)]
        if sides[1] != sides[2] and sides[0] not in sides[1:]:
            return _CONFLICT
        described = theirs if sides[1] == sides[0] else ours
        if ours.is_folder:
            return Change(described)
        if not ours.is_regular or base is None:
            return _CONFLICT
        contents = [side.where.read_bytes() for side in (base, ours, theirs)]
        if contents[1] == contents[2] or contents[2] == contents[0]:
            return Change(described, contents[1])
        if contents[1] == contents[0]:
            return Change(described, contents[2])
        merger = next(mergers_for(ours.path, self._mergers), None)
        if merger is None:
            return _CONFLICT
        content, found = merged_by(merger, contents[0], contents[1], contents[2])
        if content is None:
            return f"{_CONFLICT}, {found}"
        made.mergers.update(filter(None, [merger.title]))
        return Change(described, content)

    def _check_folders(self, made: FilePlan) -> None:
        """Whatever is kept needs its folder: one side may have dropped it while the other wrote into it."""
        known = {conflict.item for conflict in made.conflicts}
        while True:
            result = self._result(made)
            homeless = [
                path
                for path in result
                if "/" in path and path not in known and not _is_folder(result.get(path.rpartition("/")[0]))
            ]
            fresh = [path for path in homeless if path in self._settled]
            if not fresh:
                break
            for path in fresh:
                self._settle(path, made)
                known.add(path)
        for path in homeless:
            detail = "one side dropped the folder of this, the other changed what is in it"
            made.conflicts.append(self._conflict(path, ConflictKind.CONSTRAINT, detail))

    def _result(self, made: FilePlan) -> dict[str, File]:
        result = dict(self._trees[Choice.OURS])
        for path, change in made.wanted.items():
            if change.file is None:
                result.pop(path, None)
            else:
                result[path] = change.file
        return result

    def _conflict(self, path: str, kind: ConflictKind, detail: str) -> Conflict:
        base, ours, theirs = (describe(tree.get(path)) for tree in self._trees.values())
        return Conflict((), kind, item_of(path), base, ours, theirs, detail)


def _rights(file: File) -> tuple[object, ...]:
    """Who may do what with it: merged as one, beside the content."""
    return stat.S_IMODE(file.stat.st_mode), file.stat.st_uid, file.stat.st_gid, attributes(file.where)


def _is_folder(file: File | None) -> bool:
    return file is not None and file.is_folder
