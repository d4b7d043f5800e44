"""Reading and extending a `_delta_log` folder: any version by checkpoint and commits, and
put-if-absent of the next one.

Source: Delta Transaction Log Protocol, "Delta Log Entries", "Checkpoints" (classic, multi-part and V2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from plait.errors import Corrupt, NotFound

from plait_delta.actions import Action, Replay, State, relocate
from plait_delta.files import LOG
from plait_delta.roots import Root

_COMMIT = re.compile(r"(\d{20})\.json\Z")
_CHECKPOINT = re.compile(
    r"(\d{20})\.checkpoint(?:\.(?P<part>\d{10})\.(?P<parts>\d{10})|\.(?P<name>[0-9a-f-]{36}))?\.(?P<format>parquet|json)\Z"
)
_KEPT = ("add", "remove", "metaData", "protocol", "txn")


@dataclass
class _Listing:
    """What a log folder holds: commits' versions, and the files of each whole checkpoint."""

    commits: set[int] = field(default_factory=set)
    checkpoints: dict[int, list[str]] = field(default_factory=dict)

    @property
    def head(self) -> int | None:
        return max((*self.commits, *self.checkpoints), default=None)


def _list(root: Root) -> _Listing:
    found = _Listing()
    parts: dict[tuple[int, int], list[str]] = {}
    for name in root.files.children(root.path(LOG))[1]:
        if match := _COMMIT.match(name):
            found.commits.add(int(match[1]))
        elif match := _CHECKPOINT.match(name):
            version = int(match[1])
            if match["parts"] is None:
                found.checkpoints[version] = [name]
            else:
                parts.setdefault((version, int(match["parts"])), []).append(name)
    for (version, count), files in parts.items():
        if len(files) == count:
            found.checkpoints.setdefault(version, files)
    return found


def head_version(root: Root) -> int | None:
    """The newest version, or None where there is no table."""
    return _list(root).head


def commit_path(root: Root, version: int) -> str:
    return root.path(LOG, f"{version:020}.json")


def read_commit(root: Root, version: int) -> list[Action]:
    """The actions of one commit, as written. Raises: NotFound, Corrupt."""
    path = commit_path(root, version)
    try:
        return [json.loads(line) for line in root.files.read(path).splitlines() if line.strip()]
    except ValueError as error:
        raise Corrupt(f"commit {path} cannot be read: {error}", remedy="restore the file from a backup") from error


def read_state(root: Root, version: int | None = None, since: State | None = None) -> State:
    """Replay a version (None: the newest). Cost: the newest checkpoint up to it, and the commits since; with `since`,
    the state of an earlier version of this root, the commits since that, if those are fewer.

    Raises: NotFound for a table or version that is not there, Corrupt for a log with a gap or unreadable files.
    """
    listing = _list(root)
    head = listing.head
    if head is None:
        raise NotFound(f"{root.folder} holds no Delta table", remedy="name a folder that has a _delta_log")
    wanted = head if version is None else version
    if wanted > head or wanted < 0:
        raise NotFound(f"table {root.folder} has no version {wanted}, its newest is {head}")
    try:
        return _replayed(root, listing, wanted, since)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Corrupt(
            f"the log of {root.folder} up to version {wanted} is damaged: {type(error).__name__}: {error}",
            remedy="restore its _delta_log from a backup",
        ) from error


def _replayed(root: Root, listing: _Listing, wanted: int, since: State | None) -> State:
    checkpoint = max((one for one in listing.checkpoints if one <= wanted), default=-1)
    if since is not None and since.version >= checkpoint:
        replay, done = Replay(since), since.version
    else:
        replay, done = Replay(), checkpoint
        if checkpoint >= 0:
            replay.apply(_canonical(root, _read_checkpoint(root, listing.checkpoints[checkpoint])))
    for number in range(done + 1, wanted + 1):
        if number not in listing.commits:
            if done < 0 and number < min(listing.commits):
                raise NotFound(f"version {wanted} of table {root.folder} is gone: its log begins later")
            raise Corrupt(f"the log of {root.folder} has a gap: version {number} is missing")
        replay.apply(_canonical(root, read_commit(root, number)))
    state = replay.state(wanted, root.folder)
    state.schema  # noqa: B018  (parsed once here, so that whoever needs it finds it whole)
    return state


def log_files(root: Root, version: int) -> Iterator[str]:
    """The files, relative to the root, that replaying this version reads."""
    listing = _list(root)
    start = max((one for one in listing.checkpoints if one <= version), default=None)
    if start is not None:
        for name in listing.checkpoints[start]:
            yield f"{LOG}/{name}"
            for sidecar in _sidecars(_read_actions(root, name)):
                yield f"{LOG}/{sidecar}"
    for number in range(0 if start is None else start + 1, version + 1):
        yield f"{LOG}/{number:020}.json"
    if start is not None and start == version and version in listing.commits:
        yield f"{LOG}/{version:020}.json"  # says who published it


def _canonical(root: Root, actions: Iterable[Action]) -> Iterator[Action]:
    for action in actions:
        for kind in ("add", "remove"):
            if action.get(kind):
                yield {kind: relocate(action[kind], root.canonical)}
                break
        else:
            yield {kind: value for kind, value in action.items() if kind in _KEPT}


def _read_checkpoint(root: Root, names: Iterable[str]) -> Iterator[Action]:
    for name in names:
        actions = list(_read_actions(root, name))
        yield from actions
        for sidecar in _sidecars(actions):
            yield from _read_actions(root, sidecar)


def _sidecars(actions: Iterable[Action]) -> Iterator[str]:
    for action in actions:
        if sidecar := action.get("sidecar"):
            yield "_sidecars/" + sidecar["path"].rpartition("/")[2]


def _read_actions(root: Root, name: str) -> Iterator[Action]:
    """The actions in one file of a checkpoint; what is null there is left out."""
    path = root.path(LOG, name)
    data = root.files.read(path)
    if name.endswith(".json"):
        yield from (json.loads(line) for line in data.splitlines() if line.strip())
        return
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        wanted = [one for one in (*_KEPT, "sidecar") if one in file.schema_arrow.names]
        for batch in file.iter_batches(columns=wanted):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                yield {kind: _without_nulls(value) for kind, value in row.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"checkpoint {path} cannot be read: {error}", remedy="restore it from a backup") from error


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    parsed = ("stats_parsed", "partitionValues_parsed")
    return {name: one for name, one in value.items() if one is not None and name not in parsed}


def encode(actions: Iterable[Action]) -> bytes:
    """A commit's file."""
    return b"".join(json.dumps(action, separators=(",", ":")).encode() + b"\n" for action in actions)


def put_commit(root: Root, version: int, actions: Iterable[Action]) -> bool:
    """Write the next version durably, if nobody has; say whether it did. What is there is never overwritten."""
    return root.files.put_new(commit_path(root, version), encode(actions))
