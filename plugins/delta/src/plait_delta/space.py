"""Which files a version needs, which there are, whether they are whole, and what rules could delete them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError
from plait.errors import Corrupt, NotFound, Unsupported
from plait.types import Depth, Health, Item, Risk, SnapshotRef

from plait_delta.actions import State, vector_path
from plait_delta.disk import read_bytes, translated
from plait_delta.log import head_version, log_files, read_state
from plait_delta.roots import BRANCHES, CLAIM, LINK, LOG, ROOTS, TEMPORARY, Layout, Root

SUMS: Final = "sha256.json"
"""In the folder of a root's data inside the table: the hash of each file, as it was when it was prepared."""

_CHUNK_BYTES: Final = 1 << 20


def data_files(state: State) -> Iterator[tuple[str, int | None]]:
    """Data files and deletion vectors of a version, by canonical decoded path; their size where the log has it."""
    for add in state.files.values():
        yield unquote(add["path"]), add.get("size")
        if vector := vector_path(add):
            yield unquote(vector), None


def item_of(layout: Layout, path: str) -> Item:
    """A file as an item, named relative to the store."""
    found = os.lstat(path)
    return Item(layout.asset_of(path), found.st_size, max(found.st_mtime_ns, found.st_ctime_ns) // 1000)


def reachable(layout: Layout, root: Root, state: State) -> Iterator[Item]:
    """Every file that reading this version needs: its log, its data, and the second names of its own data."""
    paths = [root.path(*name.split("/")) for name in log_files(root, state.version)]
    paths.append(os.path.join(root.table, CLAIM))
    if root.own:
        paths.append(root.path(LINK))
    folders = set()
    for name, _ in data_files(state):
        paths.append(os.path.join(root.table, name))
        if root.own and name.startswith(root.own):
            paths.append(root.path(*name.removeprefix(root.own).split("/")))
        if branch := _branch(name):
            folders.add(branch)
    paths += [os.path.join(root.table, folder, SUMS) for folder in sorted(folders)]
    for path in paths:
        if os.path.lexists(path):
            yield item_of(layout, path)
        elif os.path.basename(path) not in (SUMS, os.path.basename(CLAIM)):
            yield Item(layout.asset_of(path))


def _branch(name: str) -> str | None:
    parts = name.split("/")
    return "/".join(parts[:3]) if parts[0] == BRANCHES and len(parts) > 3 else None


def inventory(layout: Layout, prefix: str) -> Iterator[Item]:
    """Every file under plait's care, below a prefix: all roots, and the data that was given names in tables. A
    table's own log, and files that others wrote into it, are the published table's, and never listed."""
    roots = [os.path.join(layout.path, own) for own in (ROOTS, TEMPORARY)]
    places = [*roots, *(table.path(BRANCHES) for table in layout.tables())]
    for place in places:
        for path, folders, files in os.walk(place):
            folders.sort()
            links = [name for name in folders if os.path.islink(os.path.join(path, name))]
            for name in sorted([*files, *links]):
                one = os.path.join(path, name)
                if layout.asset_of(one).startswith(prefix):
                    with suppress(FileNotFoundError):  # gone since it was listed
                        yield item_of(layout, one)


# -- checking ----------------------------------------------------------------------------------------------------------


def write_sums(paths: Mapping[str, str]) -> bytes:
    """The hashes of files, by the name that they are to have. Cost: their bytes."""
    return json.dumps({name: sha256_of(path) for name, path in sorted(paths.items())}, indent=1).encode()


def read_sums(root: Root, branch: str) -> dict[str, str]:
    """What `write_sums` wrote for a folder inside the table; empty where there is none."""
    try:
        loaded: dict[str, str] = json.loads(read_bytes(os.path.join(root.table, branch, SUMS)))
    except NotFound:
        return {}
    except ValueError as error:
        raise Corrupt(f"the hashes in {branch} of {root.table} cannot be read: {error}") from error
    return loaded


def sha256_of(path: str) -> str:
    hashed = hashlib.sha256()
    with translated(path), open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()


def verify(layout: Layout, snapshot: SnapshotRef, depth: Depth, *, check_cancelled: Callable[[], None]) -> Health:
    """EXISTS: the log replays to the snapshot's digest. METADATA: delta-rs reads it too, and all files are there, in
    their size. BYTES: they have the hash that they had when they were prepared; imported ones can be decoded, and have
    as many rows as they should.
    """
    root, version = layout.parse(snapshot.asset, snapshot.version)
    try:
        state = read_state(root, version)
    except (NotFound, Corrupt, Unsupported) as error:
        return Health(1, (f"version {snapshot.version} cannot be read: {error}",))
    if state.digest() != snapshot.digest:
        return Health(1, (f"the log of {snapshot.version} says something else than was committed",))
    if root.own and not os.path.exists(root.path(LINK)):
        return Health(1, (f"the link {root.path(LINK)} to the table is gone, and readers follow it",))
    if depth is Depth.EXISTS:
        return Health(1)
    refusal = refused(root, version)
    problems = [refusal] if refusal else []
    sums: dict[str, dict[str, str]] = {}
    rows = {unquote(add["path"]): _row_count(add.get("stats")) for add in state.files.values()}
    checked = 1
    for name, size in data_files(state):
        check_cancelled()
        checked += 1
        names = [os.path.join(root.table, name)]
        if root.own and name.startswith(root.own):
            names.append(root.path(name.removeprefix(root.own)))
        branch = _branch(name)
        if branch is not None and branch not in sums:
            sums[branch] = read_sums(root, branch)
        expected = sums[branch].get(name) if branch else None
        if branch and expected is None and depth is Depth.BYTES:
            problems.append(f"{os.path.join(root.table, branch, SUMS)} has no hash of file {name}, and had one")
        for path in names:
            problems += _check(path, size, expected, rows.get(name), depth)
    return Health(checked, tuple(problems))


def refused(root: Root, version: int) -> str:
    """Why delta-rs, and so most clients, cannot read a log that we can; or "". Features that it lacks are no damage."""
    try:
        DeltaTable(root.folder, version=version)
    except DeltaProtocolError:
        return ""
    except (DeltaError, pa.ArrowException, OSError) as error:
        return f"the log of {root.folder} at version {version} cannot be read by delta-rs: {error}"
    return ""


def _row_count(stats: str | None) -> int | None:
    try:
        number = json.loads(stats or "{}").get("numRecords")
    except (ValueError, AttributeError):
        return None
    return number if isinstance(number, int) else None


def _check(path: str, size: int | None, expected: str | None, rows: int | None, depth: Depth) -> list[str]:
    try:
        found = os.stat(path).st_size
    except OSError:
        return [f"file {path} does not exist"]
    if size is not None and found != size:
        return [f"file {path} has {found} bytes, expected {size}"]
    if depth is not Depth.BYTES:
        return []
    if expected is not None:
        return [] if sha256_of(path) == expected else [f"file {path} holds other bytes than were committed"]
    if not path.endswith(".parquet"):
        return []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            count = sum(batch.num_rows for batch in file.iter_batches())
    except (OSError, pa.ArrowException) as error:
        return [f"file {path} cannot be decoded: {error}"]
    return [] if rows in (None, count) else [f"file {path} has {count} rows, expected {rows}"]


# -- risks -------------------------------------------------------------------------------------------------------------


def retention_risks(layout: Layout) -> Iterator[Risk]:
    """Table properties that let other clients' vacuum and log cleanup delete what a commit names."""
    for table in layout.tables():
        if head_version(table) is None or not os.path.isdir(table.path(LOG)):
            continue
        try:
            state = read_state(table)
        except (NotFound, Corrupt, Unsupported):
            continue  # `verify` tells what a commit has lost.
        asset = layout.asset_of(table.folder)
        retention = state.configuration.get("delta.deletedFileRetentionDuration", "interval 1 week")
        if not retention.endswith(("years", "year")):
            yield Risk(
                f"delta.deletedFileRetentionDuration={retention}",
                asset,
                "set it to 'interval 100 years': a vacuum deletes files that older commits and branches may need",
            )
        logs = state.configuration.get("delta.logRetentionDuration", "interval 30 days")
        cleaned = state.configuration.get("delta.enableExpiredLogCleanup", "true").lower() != "false"
        if cleaned and not os.path.exists(table.path(*CLAIM.split("/"))):
            yield Risk(
                f"delta.logRetentionDuration={logs}",
                asset,
                "set delta.enableExpiredLogCleanup=false: commits name versions of this imported table's own log",
            )
