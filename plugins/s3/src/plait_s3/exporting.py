"""Objects of any commit, or of a working set, as plain files in a folder or plain objects in a bucket.

    what is exported ──┬─ is there already
                       ├─ written: new, or over what an export put there
    what is there  ────┼─ left, or deleted: an export put it there, and it is no longer exported
                       └─ edited: it is not what an export put there; refused unless forced

The target remembers which selection it holds, and which ones were begun. So the next export compares manifests, and
looks only at what differs; and whatever kills it, the next one knows what is plait's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plait.adapter import Context, Progress, silent
from plait.errors import AlreadyExists, InvalidArgument, NotFound, StoreDiverged
from plait.failpoint import failpoint
from plait.stores import NoState, resolve_credential
from plait.types import Store

from plait_s3.export_plan import Action, Comparison, Found, Rules, Step
from plait_s3.export_state import Record, State
from plait_s3.filesystem import AssetFileSystem
from plait_s3.folder_target import FolderTarget
from plait_s3.manifest import Entry
from plait_s3.parallel import side_by_side
from plait_s3.selection import Selected, Selection
from plait_s3.targets import Group, Target

if TYPE_CHECKING:
    from plait_s3.s3_blobs import S3Blobs

_GROUP_MAX: Final = 64
_GROUP_BYTES: Final = 4 << 20
_TOLD_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did, or with `dry_run` would do; `steps` are silent on what is there already."""

    to: str
    steps: tuple[Step, ...]
    is_dry_run: bool

    def of(self, action: Action) -> list[Step]:
        return [step for step in self.steps if step.action is action]

    def size_bytes(self, action: Action) -> int:
        return sum(step.size_bytes for step in self.of(action))


def export(
    objects: AssetFileSystem,
    to: str | os.PathLike[str],
    *,
    folder: str = "",
    match: str = "*",
    options: Mapping[str, str] | None = None,
    at: Mapping[str, str] | None = None,
    delete: bool = False,
    force: bool = False,
    check: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Make a folder, or `s3://bucket/prefix`, hold these objects: what `catalog.at(…).open(key)` or a working set's
    `open` gave, or those below `folder` whose names from there on fit the glob `match`.

    Args:
        options: how a bucket is reached, as a store of kind `s3` takes them, credentials as ``env:NAME`` or
            ``file:PATH``. Default: as the objects' own bucket, or by boto3's own ways.
        at: what the target is to say of where this came from: `key` and `commit`, say.
        delete: remove what earlier exports put there and this one does not have; else it is left, and told.
        force: write over, and delete, also what somebody else wrote there.
        check: compare everything, and not only what changed since the last export.
    Repeat: only what differs is moved; after a kill it goes on. Readers may see some files of before beside some of
    after, each of them whole.
    Raises: StoreDiverged for files that somebody else wrote, where they are in the way; InvalidArgument for names that
    cannot be there; both before anything is written. AlreadyExists for a target that holds another asset. NotFound
    where nothing is selected. Corrupt for bytes that are not what was committed: they are never written.
    Cost: what changed, O(changes · log objects) nodes of manifests, and for each changed object of a bucket two or
    three requests; of a folder, also one look at each file's times. A first export, `check` and (in a bucket) `delete`
    list everything.
    """
    selection = objects.selection(folder, match)
    target = _target(objects, to, options or {})
    with closing(target):
        return _Export(objects, selection, target, dict(at or {}), Rules(delete, force, check, dry_run), progress).run()


def _target(objects: AssetFileSystem, to: str | os.PathLike[str], options: Mapping[str, str]) -> Target:
    where = os.fspath(to)
    if not where.startswith("s3://"):
        if options or "://" in where:
            raise InvalidArgument(f"{where!r} is no bucket", remedy="write s3://bucket/prefix, or a folder alone")
        return FolderTarget(where, objects.blobs, failpoint)
    from plait_s3.bucket_target import BucketTarget

    return BucketTarget(_bucket(objects, where, options), objects.blobs, failpoint)


def _bucket(objects: AssetFileSystem, where: str, options: Mapping[str, str]) -> S3Blobs:
    from plait_s3.kinds import S3Adapter
    from plait_s3.s3_blobs import S3Blobs

    bucket, _, prefix = where.removeprefix("s3://").partition("/")
    reached = objects.blobs.reached if isinstance(objects.blobs, S3Blobs) and not options else {}
    store = Store("export", "s3", options={**options, **reached, "bucket": bucket, "prefix": prefix})
    blobs = S3Adapter(store, Context(state=NoState(), credential=resolve_credential)).blobs
    assert isinstance(blobs, S3Blobs)
    return blobs


class _Export:
    """One run."""

    def __init__(
        self,
        objects: AssetFileSystem,
        selection: Selection,
        target: Target,
        at: Mapping[str, str],
        rules: Rules,
        progress: Progress,
    ) -> None:
        self._objects = objects
        self._selection = selection
        self._target = target
        self._at = at
        self._rules = rules
        self._progress = progress
        self._moved_bytes = 0
        self._counting = threading.Lock()

    def run(self) -> ExportReport:
        if not self._rules.dry_run:
            self._target.begin()
        state = self._target.load() or State(self._objects.asset, self._at)
        self._check_asset(state)
        selected = Selected(self._objects.packs, [*state.known, self._selection])
        if state.done is None or not state.done.is_scoped_as(self._selection):
            self._check_any(selected)
        comparison = Comparison(selected, self._selection, self._target, state, self._rules, self._progress)
        found = comparison.look()
        report = ExportReport(self._target.uri, tuple(comparison.steps(found)), self._rules.dry_run)
        self._refuse(report, {one.name for one in found if one.entry is not None})
        if not self._rules.dry_run:
            self._carry_out(state, found, report, comparison.disturbed)
        return report

    def _check_asset(self, state: State) -> None:
        asset = self._objects.asset
        if asset and state.asset and state.asset != asset and not self._rules.force:
            raise AlreadyExists(
                f"{self._target.uri} holds an export of another asset, {state.at.get('key', state.asset)}",
                remedy="choose another place, or --force to make it one of this",
            )

    def _check_any(self, selected: Selected) -> None:
        """A folder that is mistyped must not empty a mirror."""
        folder, match = self._selection.folder, self._selection.match
        if (folder, match) != ("", "*") and next(selected.entries(self._selection), None) is None:
            raise NotFound(
                f"no object is below {folder!r} that matches {match!r}",
                remedy="see what is there with 'plait ls KEY::'",
            )

    def _refuse(self, report: ExportReport, wanted: Collection[str]) -> None:
        edited, doomed = self._named(report, Action.EDITED), set(self._named(report, Action.DELETE))
        written = [name for name in (*self._named(report, Action.WRITE), *edited) if name in wanted]
        problems = list(self._target.refused(written, doomed))
        if problems:
            raise InvalidArgument(
                f"{len(problems)} names cannot be at {self._target.uri}: {'; '.join(problems[:_TOLD_MAX])}",
                remedy="choose what to export with --match, or --delete what is in the way",
            )
        if edited and not self._rules.dry_run:
            more = ", …" if len(edited) > _TOLD_MAX else ""
            raise StoreDiverged(
                f"{len(edited)} at {self._target.uri} are not as plait wrote them: "
                f"{', '.join(map(shown, edited[:_TOLD_MAX]))}{more}",
                remedy="save what is needed of them, then --force; --dry-run lists all",
            )

    @staticmethod
    def _named(report: ExportReport, action: Action) -> list[str]:
        return [step.name for step in report.of(action)]

    # -- doing -------------------------------------------------------------------------------------------------------

    def _carry_out(
        self, state: State, found: Sequence[Found], report: ExportReport, disturbed: Collection[str]
    ) -> None:
        written, doomed = self._named(report, Action.WRITE), self._named(report, Action.DELETE)
        asset = self._objects.asset or state.asset
        is_news = (state.asset, state.at) != (asset, self._at)
        state.asset, state.at = asset, self._at
        touched = {*written, *doomed}
        changed = self._remember(state, (one for one in found if one.name not in touched))
        changed |= {one.name for one in found} & set(disturbed)
        if written or doomed:
            # Before the first write: whatever is half done later is known to be plait's.
            state.toward = (*(one for one in state.toward if one != self._selection), self._selection)
            self._target.save(state, changed)
            changed = set()
            failpoint("export.begun")
            first = self._target.blocking(written, doomed)
            self._delete(state, [name for name in doomed if name in first])
            self._write(state, {one.name: one.entry for one in found if one.entry is not None}, written)
            self._delete(state, [name for name in doomed if name not in first])
            failpoint("export.before_end")
        if is_news or changed or state.done != self._selection or state.toward:
            state.done, state.toward = self._selection, ()
            self._target.save(state, changed)

    @staticmethod
    def _remember(state: State, found: Iterable[Found]) -> set[str]:
        """Take down what is known of names that are not touched. Returns: those of which that is news."""
        changed = set()
        for one in found:
            if one.held is not None and not one.holds:
                continue
            record = None if one.held is None else one.held.record(one.holds, is_left=one.entry is None)
            if record != state.records.get(one.name):
                changed.add(one.name)
            if record is None:
                _forget(state, [one.name])
            else:
                state.records[one.name] = record
        return changed

    def _write(self, state: State, entries: Mapping[str, Entry], names: Sequence[str]) -> None:
        total = sum(entries[name].size_bytes for name in names)

        def moved(count: int) -> None:
            with self._counting:
                self._moved_bytes += count
                self._progress("exporting", self._moved_bytes, total)

        def write(group: Group) -> Mapping[str, Record]:
            return self._target.write(group, moved)

        groups = list(_grouped([(name, entries[name]) for name in names]))
        for records in side_by_side(write, groups):
            state.records.update(records)
        if not self._target.remembers_all:
            _forget(state, names)

    def _delete(self, state: State, names: Sequence[str]) -> None:
        if names:
            self._target.delete(names)
            _forget(state, names)


def shown(name: str) -> str:
    """A name that may be a file's which is not valid Unicode."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _forget(state: State, names: Collection[str]) -> None:
    for name in names:
        state.records.pop(name, None)


def _grouped(objects: Group) -> Iterator[Group]:
    """Small objects together, so that they share what is done once; enough groups that all threads have some."""
    most = max(1, min(_GROUP_MAX, len(objects) // _GROUP_MAX))
    group: list[tuple[str, Entry]] = []
    size = 0
    for name, entry in objects:
        if group and (len(group) == most or size + entry.size_bytes > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append((name, entry))
        size += entry.size_bytes
    if group:
        yield group
