"""What databases people have, and their own histories: what an import brings into plait's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from plait.errors import NotFound, PlaitError
from plait.refspec import check_key
from plait.types import Found, PastVersion, Risk

from plait_dolt.engine import Engine

COMMIT: Final = "dolt.commit"
_OURS: Final = "plait-txn: "


def discover(engine: Engine, store: str, branch: str, place: str) -> Iterator[Found]:
    """The databases at a place: all of the store's, or the one that is named. Raises: NotFound, InvalidArgument."""
    wanted, there = engine.database_at(place), engine.databases()
    if wanted and wanted not in there:
        raise NotFound(f"store {store!r} has no database {wanted!r}", remedy=f"it has {', '.join(there) or 'none'}")
    for database in [wanted] if wanted else there:
        yield _describe(engine, store, branch, database)


def _describe(engine: Engine, store: str, branch: str, database: str) -> Found:
    refusal, risks = "", []
    try:
        check_key((store, database))
        with engine.session(database, branch) as session:
            if any(_OURS in row["message"] for row in session.rows("SELECT message FROM dolt_log")):
                refusal = "plait wrote to it: it is, or was, a key of this or of another catalog's"
            if not session.standing().is_clean:
                risks.append(Risk("rows that nobody committed stay behind", database, "commit them in Dolt first"))
    except NotFound as error:
        refusal = f"it has no branch {branch!r}: {error.message}"
    except PlaitError as error:
        refusal = str(error)
    return Found((database,), database, refusal, tuple(risks), asset=database)


def native_history(engine: Engine, branch: str, database: str) -> list[PastVersion]:
    """The first-parent history of the public branch, oldest first. Raises: NotFound. Cost: O(commits it has)."""
    with engine.session(database, branch) as session:
        head = session.head()[0]
        parents = {
            row["commit_hash"]: row["parent_hash"]
            for row in session.rows("SELECT commit_hash, parent_hash, parent_index FROM dolt_commit_ancestors")
            if row["parent_index"] == 0
        }
        found = {
            row["commit_hash"]: row
            for row in session.rows("SELECT commit_hash, committer, email, date, message FROM dolt_log")
        }
    line: list[PastVersion] = []
    commit: str | None = head
    while commit is not None:
        row = found[commit]
        author = f"{row['committer']} <{row['email'] or ''}>"
        told = {COMMIT: commit, "dolt.date": str(row["date"])}
        message = row["message"] or f"{database} {commit}"
        line.append(PastVersion(commit, f"{database}/{commit}", message, told, author))
        commit = parents.get(commit)
    return line[::-1]
