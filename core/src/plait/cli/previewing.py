"""What a merge brings and what conflicts in it: of one that is only tried, and of a working set that came from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.cli.printing import change_row, conflict_columns, conflict_row, counted
from plait.cli.session import Session

if TYPE_CHECKING:
    from plait.types import Key
    from plait.working_set import WorkingSet


def preview_rows(session: Session, tx: WorkingSet, prefix: Key = ()) -> dict[str, list[dict[str, Any]]]:
    """`changes` and `conflicts` of what a working set would commit now, under a prefix. Raises: as `preview`."""
    preview = tx.preview()
    return {
        "changes": [
            change_row(one, whole=session.as_json) for one in preview.changes if one.key[: len(prefix)] == prefix
        ],
        "conflicts": [conflict_row(one) for one in preview.conflicts if one.key[: len(prefix)] == prefix],
    }


def print_changes(session: Session, rows: dict[str, list[dict[str, Any]]]) -> None:
    """The changes for people: none are "nothing" only where no conflict may still become one."""
    if rows["changes"] or not rows["conflicts"]:
        session.table(rows["changes"], ("change", "key", "before", "after"), "nothing would change")


def print_preview(session: Session, rows: dict[str, list[dict[str, Any]]], branch: str, told: str) -> None:
    """The changes, and then the conflicts with a branch and what there is to say of them; or one JSON document."""
    if session.as_json:
        session.emit(rows)
        return
    print_changes(session, rows)
    if count := len(rows["conflicts"]):
        above = "\n" if rows["changes"] else ""
        session.emit(None, f"{above}{counted(count, 'conflict')} with {branch}; {told}")
        session.table(rows["conflicts"], conflict_columns(rows["conflicts"]), "")
