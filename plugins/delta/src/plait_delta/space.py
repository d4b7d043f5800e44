"""Which files a version needs, which there are, what their bytes were, and what rules could delete them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from plait.errors import Corrupt, NotFound, Unsupported
from plait.types import Item, Risk

from plait_delta.actions import KEEPING, KEPT_FOR, State, vector_path
from plait_delta.files import BRANCHES, Info
from plait_delta.log import head_version, log_files, read_state
from plait_delta.roots import CLAIM, Layout, Root

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
        if branch := branch_of(name):
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


def branch_of(name: str) -> str | None:
    """The folder inside the table that holds a root's data, of a file there."""
    parts = name.split("/")
    return "/".join(parts[:3]) if parts[0] == BRANCHES and len(parts) > 3 else None


def inventory(layout: Layout, prefix: str) -> Iterator[Item]:
    """Every file under plait's care, below a prefix: all roots, and the data that was given names in tables. A
    table's own log, and files that others wrote into it, are the published table's, and never listed."""
    for folder in [*layout.private(), *(table.path(BRANCHES) for table in layout.tables())]:
        for place, info in layout.files.below(folder):
            if layout.asset_of(place).startswith(prefix):
                yield _item(layout, place, info)


def read_sums(root: Root, branch: str) -> dict[str, str]:
    """The hashes noted in a folder inside the table; empty where none are."""
    try:
        loaded: dict[str, str] = json.loads(root.files.read(f"{root.table}/{branch.rstrip('/')}/{SUMS}"))
    except NotFound:
        return {}
    except ValueError as error:
        raise Corrupt(f"the hashes in {branch} of {root.table} cannot be read: {error}") from error
    return loaded


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
