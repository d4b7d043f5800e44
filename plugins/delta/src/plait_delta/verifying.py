"""Whether versions of tables are whole. They share most of their files: those are looked at once for many versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError, DeltaProtocolError
from plait.errors import Corrupt, NotFound, StoreUnavailable, Unsupported
from plait.types import Depth, Health, SnapshotRef

from plait_delta.actions import State
from plait_delta.log import read_state
from plait_delta.publish import Head, read_head
from plait_delta.roots import Layout, Root
from plait_delta.space import SUMS, branch_of, data_files, read_sums
from plait_delta.statistics import unread, untrue
from plait_delta.table import open_table


class _File(NamedTuple):
    """A file as a version names it, and one of the places where it is. None: the version does not say."""

    name: str
    place: str
    size_bytes: int | None
    statistics: str | None


class Verifier:
    """Verifies versions of tables, at one depth: a file that one shares with another is not looked at again.
    Thread-safe, one version at a time.

    Cost: of each version its log; of the first version of a table all its files, of each other those that are new.
    """

    def __init__(self, layout: Layout, depth: Depth, *, check_cancelled: Callable[[], None]) -> None:
        self._layout = layout
        self._depth = depth
        self._check_cancelled = check_cancelled
        self._wrong: dict[_File, Sequence[str]] = {}
        self._heads: dict[str, Head] = {}
        self._checked = 0
        self._lock = threading.Lock()

    def verify(self, snapshot: SnapshotRef) -> Health:
        """EXISTS: the log replays to the snapshot's digest. METADATA: delta-rs reads it too, and all files are there,
        in their size; so it is with the table's own log, if this is the version that it was published at. BYTES: files
        have the hash that they had when they were prepared, imported ones can be decoded, and the statistics that the
        logs have of all are true.
        """
        with self._lock:
            self._checked = 1
            problems = self._problems(snapshot)
            return Health(self._checked, tuple(problems))

    def _problems(self, snapshot: SnapshotRef) -> Sequence[str]:
        root, version = self._layout.parse(snapshot.asset, snapshot.version)
        try:
            state = read_state(root, version)
        except (NotFound, Corrupt, Unsupported) as error:
            return [f"version {snapshot.version} cannot be read: {error}"]
        if state.digest() != snapshot.digest:
            return [f"the log of {snapshot.version} says something else than was committed"]
        for link in self._layout.links(root):
            if not root.files.exists(link):
                return [f"the link {link} to the table is gone, and readers follow it"]
        if self._depth is Depth.EXISTS:
            return []
        found = refused(root, version)
        published, problems = self._published(snapshot)
        logs = [(root, state), *([published] if published else [])]
        files = dict.fromkeys(file for log in logs for file in self._files(*log))
        self._look_at(root, [file for file in files if file not in self._wrong])
        told = [*([found] if found else []), *problems, *(problem for file in files for problem in self._wrong[file])]
        return list(dict.fromkeys(told))

    def _published(self, snapshot: SnapshotRef) -> tuple[tuple[Root, State] | None, Sequence[str]]:
        """The table's own log, which others read, if it stands at this version, and what is wrong with it."""
        table = self._layout.table(snapshot.asset)
        if snapshot.asset not in self._heads:
            try:
                self._heads[snapshot.asset] = read_head(table)
            except Corrupt:  # Whoever asks where heads stand is told.
                self._heads[snapshot.asset] = Head(None)
        head = self._heads[snapshot.asset]
        if head.version is None or head.snapshot != snapshot.version:
            return None, ()
        try:
            state = read_state(table, head.version)
        except (NotFound, Corrupt, Unsupported) as error:
            return None, [f"the published table cannot be read: {error}"]
        if state.digest() != snapshot.digest:
            return None, [f"the published log of {table.folder} says something else than was committed"]
        refusal = refused(table, head.version)
        return (table, state), [refusal] if refusal else []

    def _files(self, root: Root, state: State) -> Iterator[_File]:
        """What the version needs, in all places."""
        statistics = {unquote(add["path"]): add.get("stats") for add in state.files.values()}
        for name, size in data_files(state):
            for place in self._layout.own_places(root, name):
                yield _File(name, place, size, statistics.get(name))

    def _look_at(self, root: Root, new: Sequence[_File]) -> None:
        noted = _Noted(root)
        found = root.files.infos(file.place for file in new)
        self._checked += len({file.name for file in new})  # On disks, some are in two places.
        for file in new:
            self._check_cancelled()
            expected, problems = noted.sha256(file.name, is_needed=self._depth is Depth.BYTES)
            if why := unread(file.statistics):
                problems.append(f"the log has statistics of file {file.name} that cannot be read: {why}")
            if (info := found.get(file.place)) is None:
                problems.append(f"file {file.place} does not exist")
            elif file.size_bytes is not None and info.size != file.size_bytes:
                problems.append(f"file {file.place} has {info.size} bytes, expected {file.size_bytes}")
            elif self._depth is Depth.BYTES:
                problems += _check_bytes(root, file._replace(statistics=None) if why else file, expected)
            self._wrong[file] = problems


class _Noted:
    """The hashes that were noted beside the data of a table's roots, each note read once."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._sums: dict[str, dict[str, str]] = {}
        self._damaged: dict[str, str] = {}

    def sha256(self, name: str, *, is_needed: bool) -> tuple[str | None, list[str]]:
        """The hash of a file, if there is one; and what is wrong with its note."""
        branch = branch_of(name)
        if branch is None:
            return None, []
        if branch not in self._sums:
            try:
                self._sums[branch] = read_sums(self._root, branch)
            except Corrupt as error:
                self._sums[branch] = {}
                self._damaged[branch] = str(error)
        problems = [self._damaged[branch]] if branch in self._damaged else []
        expected = self._sums[branch].get(name)
        if expected is None and is_needed:
            problems.append(f"{self._root.table}/{branch}/{SUMS} has no hash of file {name}, and had one")
        return expected, problems


def refused(root: Root, version: int) -> str:
    """Why delta-rs, and so most clients, cannot read a log that we can; or "". Features that it lacks are no damage."""
    try:
        open_table(root, version)
    except DeltaProtocolError:
        return ""
    except (DeltaError, pa.ArrowException, OSError) as error:
        told = f"the log of {root.folder} at version {version} cannot be read by delta-rs: {error}"
        if isinstance(error, OSError) and root.files.is_remote:  # The server did not answer: no damage.
            raise StoreUnavailable(told, remedy="check the store's endpoint") from error
        return told
    return ""


def _check_bytes(root: Root, file: _File, expected: str | None) -> list[str]:
    place = file.place
    if expected is not None and root.files.sha256(place) != expected:
        return [f"file {place} holds other bytes than were committed"]
    if not place.endswith(".parquet"):
        return []
    try:
        with root.files.open(place) as stream, pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            if expected is None:
                for _ in parquet.iter_batches():
                    pass
            return [f"file {place} has {one}" for one in untrue(file.statistics, parquet.metadata)]
    except (OSError, pa.ArrowException) as error:
        return [f"file {place} cannot be decoded: {error}"]
