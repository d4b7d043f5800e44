"""Which files a version needs, which there are, whether they are whole, and what rules could delete them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError, DeltaProtocolError
from plait.errors import Corrupt, NotFound, StoreUnavailable, Unsupported
from plait.types import Depth, Health, Item, Risk, SnapshotRef

from plait_delta.actions import KEEPING, KEPT_FOR, State, vector_path
from plait_delta.files import BRANCHES, Info
from plait_delta.log import head_version, log_files, read_state
from plait_delta.roots import CLAIM, Layout, Root
from plait_delta.table import open_table

_INTERVAL: Final = re.compile(r"(?:interval\s+)?(\d+)\s+(day|week)s?\Z")
_LONG_DAYS: Final = 3650

SUMS: Final = "sha256.json"
"""In the folder of a root's data inside the table: the hash of each file, as it was when it was prepared."""


def data_files(state: State) -> Iterator[tuple[str, int | None]]:
    """Data files and deletion vectors of a version, by canonical decoded path; their size where the log has it."""
    for add in state.files.values():
        yield unquote(add["path"]), add.get("size")
        if vector := vector_path(add):
            yield unquote(vector), None


def reachable(layout: Layout, root: Root, state: State) -> Iterator[Item]:
    """Every file that reading this version needs: its log, its data, and the second names of its own data."""
    places = [*(root.path(name) for name in log_files(root, state.version)), *layout.links(root)]
    optional = {f"{root.table}/{CLAIM}"}
    for name, _ in data_files(state):
        places += layout.own_places(root, name)
        if branch := _branch(name):
            optional.add(f"{root.table}/{branch}/{SUMS}")
    found = layout.files.infos([*places, *sorted(optional)])
    for place in [*places, *sorted(optional)]:
        if place in found:
            yield _item(layout, place, found[place])
        elif place not in optional:
            yield Item(layout.asset_of(place))


def _item(layout: Layout, place: str, info: Info) -> Item:
    """A file as an item, named relative to the store."""
    return Item(layout.asset_of(place), info.size, info.changed_us)


def _branch(name: str) -> str | None:
    parts = name.split("/")
    return "/".join(parts[:3]) if parts[0] == BRANCHES and len(parts) > 3 else None


def inventory(layout: Layout, prefix: str) -> Iterator[Item]:
    """Every file under plait's care, below a prefix: all roots, and the data that was given names in tables. A
    table's own log, and files that others wrote into it, are the published table's, and never listed."""
    for folder in [*layout.private(), *(table.path(BRANCHES) for table in layout.tables())]:
        for place, info in layout.files.below(folder):
            if layout.asset_of(place).startswith(prefix):
                yield _item(layout, place, info)


# -- checking ----------------------------------------------------------------------------------------------------------


def read_sums(root: Root, branch: str) -> dict[str, str]:
    """The hashes noted in a folder inside the table; empty where none are."""
    try:
        loaded: dict[str, str] = json.loads(root.files.read(f"{root.table}/{branch.rstrip('/')}/{SUMS}"))
    except NotFound:
        return {}
    except ValueError as error:
        raise Corrupt(f"the hashes in {branch} of {root.table} cannot be read: {error}") from error
    return loaded


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
    for link in layout.links(root):
        if not root.files.exists(link):
            return Health(1, (f"the link {link} to the table is gone, and readers follow it",))
    if depth is Depth.EXISTS:
        return Health(1)
    refusal = refused(root, version)
    problems = [refusal] if refusal else []
    sums: dict[str, dict[str, str]] = {}
    rows = {unquote(add["path"]): _row_count(add.get("stats")) for add in state.files.values()}
    sizes = dict(data_files(state))
    places = {name: layout.own_places(root, name) for name in sizes}
    found = root.files.infos(place for named in places.values() for place in named)
    for name, size in sizes.items():
        check_cancelled()
        branch = _branch(name)
        if branch is not None and branch not in sums:
            try:
                sums[branch] = read_sums(root, branch)
            except Corrupt as error:
                sums[branch] = {}
                problems.append(str(error))
        expected = sums[branch].get(name) if branch else None
        if branch and expected is None and depth is Depth.BYTES:
            problems.append(f"{root.table}/{branch}/{SUMS} has no hash of file {name}, and had one")
        for place in places[name]:
            if (info := found.get(place)) is None:
                problems.append(f"file {place} does not exist")
            elif size is not None and info.size != size:
                problems.append(f"file {place} has {info.size} bytes, expected {size}")
            elif depth is Depth.BYTES:
                problems += _check_bytes(root, place, expected, rows.get(name))
    return Health(1 + len(sizes), tuple(problems))


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


def _row_count(stats: str | None) -> int | None:
    try:
        number = json.loads(stats or "{}").get("numRecords")
    except (ValueError, AttributeError):
        return None
    return number if isinstance(number, int) else None


def _check_bytes(root: Root, place: str, expected: str | None, rows: int | None) -> list[str]:
    if expected is not None:
        return [] if root.files.sha256(place) == expected else [f"file {place} holds other bytes than were committed"]
    if not place.endswith(".parquet"):
        return []
    try:
        with (
            root.files.open(place) as stream,
            pq.ParquetFile(stream, page_checksum_verification=True) as file,
        ):
            count = sum(batch.num_rows for batch in file.iter_batches())
    except (OSError, pa.ArrowException) as error:
        return [f"file {place} cannot be decoded: {error}"]
    return [] if rows in (None, count) else [f"file {place} has {count} rows, expected {rows}"]


# -- risks -------------------------------------------------------------------------------------------------------------


def _is_long(interval: str) -> bool:
    """Whether every client understands an interval, and it is one of years. (Spark refuses years by that name, and
    delta-rs takes them for its default of a week.)"""
    match = _INTERVAL.match(interval.strip().lower())
    return match is not None and int(match[1]) * {"day": 1, "week": 7}[match[2]] >= _LONG_DAYS


def retention_risks(layout: Layout) -> Iterator[Risk]:
    """Table properties that let other clients' vacuum and log cleanup delete what a commit names."""
    for table in layout.tables():
        if head_version(table) is None:
            continue
        try:
            state = read_state(table)
        except (NotFound, Corrupt, Unsupported):
            continue  # `verify` tells what a commit has lost.
        asset = layout.asset_of(table.folder)
        retention = state.configuration.get(KEEPING, "interval 1 week")
        if not _is_long(retention):
            yield Risk(
                f"{KEEPING}={retention}",
                asset,
                f"set it to '{KEPT_FOR}': a vacuum deletes files that older commits and branches may need",
            )
        logs = state.configuration.get("delta.logRetentionDuration", "interval 30 days")
        cleaned = state.configuration.get("delta.enableExpiredLogCleanup", "true").lower() != "false"
        if cleaned and not layout.files.exists(table.path(CLAIM)):
            yield Risk(
                f"delta.logRetentionDuration={logs}",
                asset,
                "set delta.enableExpiredLogCleanup=false: commits name versions of this imported table's own log",
            )
