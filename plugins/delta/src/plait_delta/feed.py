"""What changed by the table's own change data feed, where it tells exactly that: less is read than by whole files."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from plait.errors import NotFound, PlaitError
from plait.rows.comparing import ByColumns, RowChanges, compare

from plait_delta.actions import State, described, features
from plait_delta.features import is_mapped
from plait_delta.log import read_state
from plait_delta.rows import Side, has_misread_rows, plain
from plait_delta.table import open_table, translated

_ENABLED: Final = "delta.enableChangeDataFeed"
_TYPE: Final = "_change_type"


def feed_changes(shape: ByColumns, before: Side, after: Side) -> RowChanges | None:
    """The rows that differ, told by the feed of the root that `after` was written in; None where files must tell.

    Only where `after` was written on top of `before` with the feed on all the time, in the same columns, and rewrote
    files. Cost: the rows that changed.
    """
    if not (_has_feed(before.state) and _has_feed(after.state)):
        return None
    if not (before.state.files.keys() - after.state.files.keys()):
        return None  # Nothing was rewritten: the new files themselves are the feed.
    if described(before.state.metadata) != described(after.state.metadata):
        return None
    start = _start(before, after)
    if start is None:
        return None
    names = [column["name"] for column in after.state.schema["fields"]]
    try:
        with translated(after.root.folder):
            for side, other in ((before, after), (after, before)):
                if has_misread_rows(side, side.state.files.keys() - other.state.files.keys()):
                    return None
            feed = open_table(after.root, after.state.version).load_cdf(
                starting_version=start + 1, ending_version=after.state.version, columns=[*names, _TYPE]
            )
            rows = plain(pa.table(feed.read_all()))
    except PlaitError:
        return None  # Its files may be gone: no commit needs them, and the data files tell the same.
    kinds = rows[_TYPE]
    old = pc.is_in(kinds, pa.array(["delete", "update_preimage"]))
    rows = rows.select(names)
    return compare(shape, rows.filter(old), rows.filter(pc.invert(old)))


def _has_feed(state: State) -> bool:
    readers, _ = features(state.protocol)
    plain_rows = not is_mapped(state) and "deletionVectors" not in readers
    return plain_rows and state.configuration.get(_ENABLED, "").lower() == "true"


def _start(before: Side, after: Side) -> int | None:
    """The version of after's root that is `before`, if one of its versions is known to be."""
    if before.root == after.root:
        return before.state.version if before.state.version < after.state.version else None
    if not after.root.own:
        return None
    try:
        first = read_state(after.root, 0)
    except NotFound:
        return None
    return 0 if first.digest() == before.state.digest() else None
