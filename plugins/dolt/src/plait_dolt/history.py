"""Bringing a database's own history into plait's: one commit for each of its commits, then one merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plait.errors import NotFound
from plait.refspec import format_key
from plait.types import Commit, Key

from plait_dolt.adapter import DoltAdapter

if TYPE_CHECKING:
    from plait.catalog import Catalog

COMMIT = "dolt.commit"


@dataclass(frozen=True, slots=True)
class NativeCommit:
    """One commit of a database's own."""

    id: str
    author: str
    date: str
    message: str


def native_history(adapter: DoltAdapter, database: str) -> list[NativeCommit]:
    """The first-parent history of the public branch, oldest first. Raises: NotFound. Cost: O(commits it has)."""
    with adapter.engine.session(database, adapter.public_branch) as session:
        head = session.head()[0]
        parents = {
            row["commit_hash"]: row["parent_hash"]
            for row in session.rows("SELECT commit_hash, parent_hash, parent_index FROM dolt_commit_ancestors")
            if row["parent_index"] == 0
        }
        found = {
            row["commit_hash"]: NativeCommit(
                row["commit_hash"], f"{row['committer']} <{row['email'] or ''}>", str(row["date"]), row["message"]
            )
            for row in session.rows("SELECT commit_hash, committer, email, date, message FROM dolt_log")
        }
    line: list[NativeCommit] = []
    commit: str | None = head
    while commit is not None:
        line.append(found[commit])
        commit = parents.get(commit)
    return line[::-1]


def import_history(
    catalog: Catalog,
    key: Key,
    database: str,
    commits: Sequence[NativeCommit],
    into: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Commit:
    """Record every native commit on a branch ``imports/<key>``, then merge that: native heads move once, at the end.

    Repeat: goes on after the last commit that is recorded. Raises: CommitConflict when `into` holds the key otherwise.
    """
    branch = f"imports/{'/'.join(key)}"
    if not any(ref.name == branch for ref in catalog.refs()):
        catalog.create_branch(branch, into)
    try:
        last = catalog.at(branch).entry(key).snapshot.version
    except NotFound:
        last = ""
    ids = [commit.id for commit in commits]
    start = ids.index(last) + 1 if last in ids else 0
    for done, commit in enumerate(commits[start:], start + 1):
        catalog.import_assets(
            {key: f"{database}/{commit.id}"},
            branch,
            message=commit.message or f"{database} {commit.id}",
            properties={COMMIT: commit.id, "dolt.author": commit.author, "dolt.date": commit.date},
        )
        progress(done, len(commits))
    merged = catalog.merge(branch, into, message=f"Import {format_key(key)} with {len(commits)} commits of its own")
    catalog.delete_ref(branch)
    return merged
