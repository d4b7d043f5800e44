"""What the adapter needs of an engine: sessions that stand at a revision, and what each engine says its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import sqlalchemy as sa
from plait.errors import InvalidArgument
from plait.types import Location

Row: TypeAlias = dict[str, Any]

_HASHES_AT_ONCE = 100

WORKING: Final = "WORKING"
OF_DOLT: Final = frozenset(f"{end}_{name}" for end in ("from", "to") for name in ("commit", "commit_date"))
"""What Dolt adds to each row of a diff, under names that columns of the table may have too."""


class Refused(InvalidArgument):
    """The engine answered, and said no to a statement. `text` is what it said."""

    def __init__(self, text: str, *, what: str = "the database refused a statement") -> None:
        super().__init__(f"{what}: {text}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Table:
    """A table's shape at one revision. `key` is its primary key's columns in the key's order; empty: keyless.

    `generated`: the columns that nobody may write; `virtual`: those of them that are stored nowhere.
    """

    name: str
    columns: tuple[str, ...]
    types: Mapping[str, str]
    key: tuple[str, ...]
    generated: frozenset[str] = frozenset()
    virtual: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a branch stands: its commit, and the roots of its head, its staged and its working tables."""

    commit: str
    head: str
    staged: str
    working: str

    @property
    def is_clean(self) -> bool:
        return self.head == self.staged == self.working


class Session(ABC):
    """One connection to one database, standing at a branch (writable) or a commit (read-only). One thread's.

    Raises everywhere: Refused, StoreUnavailable, PermissionDenied. Parameters are written ``%s``.
    """

    database: str
    revision: str

    @abstractmethod
    def use(self, revision: str) -> None:
        """Stand at a branch or commit of the same database. Raises: NotFound."""

    @abstractmethod
    def rows(self, sql: str, *args: object) -> list[Row]: ...

    @abstractmethod
    def stream(self, sql: str, *args: object) -> Iterator[Row]:
        """Rows as they come; nothing else may be asked of this session before the last."""

    @abstractmethod
    def call(self, procedure: str, *args: object) -> Row:
        """Call one of Dolt's procedures; the first row of its answer."""

    # -- what each engine says its own way ---------------------------------------------------------------------------

    @abstractmethod
    def has_ancestor(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is `commit` or one of its ancestors."""

    @abstractmethod
    def tables(self) -> list[str]:
        """The tables here, by name; views and Dolt's own are none."""

    def table_hashes(self, names: Sequence[str]) -> Mapping[str, str]:
        """The hash of what each table is here, rows and schema: equal for equal tables."""
        hashes: dict[str, str] = {}
        for start in range(0, len(names), _HASHES_AT_ONCE):
            some = names[start : start + _HASHES_AT_ONCE]
            asked = ", ".join(f"dolt_hashof_table(%s) AS t{place}" for place in range(len(some)))
            (row,) = self.rows(f"SELECT {asked}", *some)
            hashes.update(zip(some, map(str, row.values()), strict=True))
        return hashes

    @abstractmethod
    def table(self, name: str) -> Table: ...

    @abstractmethod
    def create_statement(self, table: str) -> str: ...

    @abstractmethod
    def has_triggers(self, table: str) -> bool:
        """Whether a row that is written there may be written as another one, or write others."""

    def cascades(self, table: str) -> list[str]:
        """Tables whose rows the engine deletes or changes along with a row that is deleted here, by name."""
        return []

    @abstractmethod
    def programs(self) -> Mapping[str, str]:
        """Views, triggers and procedures by name, with their text."""

    @abstractmethod
    def diff_rows(
        self,
        table: str,
        before: str,
        after: str,
        columns: Sequence[str],
        where: str = "",
        args: Sequence[object] = (),
    ) -> Iterator[Row]:
        """Changed rows of a table with the same primary key at both, in its order: the asked of the columns ``from_…``,
        ``to_…`` and `diff_type`, or more. ``WORKING`` is the branch that the session stands at."""

    @abstractmethod
    def fast_forward(self, before: str, after: str) -> bool:
        """Move the branch here from `before` to its descendant `after`; False when it was not at `before`."""

    @abstractmethod
    def merge(self, theirs: str, message: str) -> bool:
        """Merge a commit into the branch here, keeping what conflicts in Dolt's tables; whether it is done cleanly.

        After a merge that is not clean, `commit` or `abandon` ends it.
        """

    def fatal_conflicts(self, base: str, ours: str, theirs: str) -> list[str]:
        """The tables with conflicts that the engine would not survive: they are to be settled before it merges."""
        return []

    def put_ours(self, table: Table, row: Row, where: str, args: Sequence[object]) -> bool:
        """Write a row as ours of a listed conflict, which fires no trigger; False where the engine cannot."""
        return False

    @abstractmethod
    def abandon(self) -> None:
        """Give up a merge. Repeat: no-op."""

    @abstractmethod
    def relax(self) -> None:
        """Let rows break foreign keys while conflicts are settled; whoever settles verifies the constraints after."""

    @abstractmethod
    def copy_rows(self, table: Table, columns: Sequence[str], commit: str, where: str, args: Sequence[object]) -> None:
        """Bring rows of a table to what they are at a commit: insert or update these columns."""

    # -- the same for all --------------------------------------------------------------------------------------------

    def value(self, sql: str, *args: object) -> Any:
        """The one value of a one-row answer."""
        (row,) = self.rows(sql, *args)
        (value,) = row.values()
        return value

    def head(self) -> tuple[str, str]:
        """The commit here, and the root of its tables."""
        (row,) = self.rows("SELECT dolt_hashof('HEAD') AS h, dolt_hashof_db('HEAD') AS r")
        return row["h"], row["r"]

    def head_since(self, ancestor: str) -> tuple[str, str, bool]:
        """`head`, and whether it is this commit or descends from it."""
        commit, root = self.head()
        return commit, root, self.has_ancestor(commit, ancestor)

    def merge_base(self, ours: str, theirs: str) -> str:
        """The native common ancestor of two commits."""
        return str(self.value("SELECT dolt_merge_base(%s, %s)", ours, theirs))

    def ancestors(self, commits: Iterable[str]) -> set[str]:
        """These commits, and all that they descend from. Cost: O(commits of the database)."""
        parents: dict[str, list[str]] = {}
        for row in self.rows("SELECT commit_hash, parent_hash FROM dolt_commit_ancestors"):
            parents.setdefault(row["commit_hash"], []).append(row["parent_hash"])
        found: set[str] = set()
        left = list(commits)
        while left:
            commit = left.pop()
            if commit is not None and commit not in found:
                found.add(commit)
                left += parents.get(commit, ())
        return found

    def first_commit(self, commit: str) -> str:
        """The oldest commit that it descends from: the empty database, unless it was made otherwise."""
        return str(self.rows("SELECT commit_hash AS c FROM dolt_log(%s)", commit)[-1]["c"])

    def standing(self) -> Standing:
        (row,) = self.rows(
            "SELECT dolt_hashof('HEAD') AS c, dolt_hashof_db('HEAD') AS h, "
            "dolt_hashof_db('STAGED') AS s, dolt_hashof_db('WORKING') AS w"
        )
        return Standing(row["c"], row["h"], row["s"], row["w"])

    def branches(self, prefix: str) -> list[str]:
        return [row["name"] for row in self.rows("SELECT name FROM dolt_branches") if row["name"].startswith(prefix)]

    def tags(self, prefix: str) -> dict[str, str]:
        """Tags by name, with the commit each names."""
        found = self.rows("SELECT tag_name, tag_hash FROM dolt_tags")
        return {row["tag_name"]: row["tag_hash"] for row in found if row["tag_name"].startswith(prefix)}

    def tag(self, name: str) -> str | None:
        """The commit that a tag names, or None. Cost: O(1)."""
        try:
            return str(self.value("SELECT dolt_hashof(%s)", name))
        except Refused:
            return None

    def pin(self, name: str, commit: str) -> str:
        """Put a tag if absent; the commit that it names now."""
        try:
            self.call("dolt_tag", name, commit)
        except Refused as error:
            if "already exists" not in error.text:
                raise
            kept = self.tag(name)
            assert kept is not None
            return kept
        return commit

    def commit(self, message: str, *options: str) -> bool:
        """Commit all that is uncommitted here; whether there was anything."""
        try:
            self.call("dolt_commit", "-A", "-m", message, *options)
        except Refused as error:
            if "nothing to commit" in error.text:
                return False
            raise
        return True


class Engine(ABC):
    """One server, or one folder of embedded databases. Thread-safe."""

    rewrites_refs: ClassVar[bool] = False
    """Whether each new branch or tag, or the end of one, writes the list of all of them anew."""

    @abstractmethod
    def session(self, database: str, revision: str) -> AbstractContextManager[Session]:
        """Raises: NotFound when there is no such database, branch or commit."""

    @abstractmethod
    def databases(self) -> list[str]: ...

    @abstractmethod
    def database_at(self, place: str) -> str:
        """The database that a place names; "" where it names all. Raises: InvalidArgument for one of another store."""

    @abstractmethod
    def create_database(self, name: str, branch: str) -> None:
        """An empty one, whose public branch is `branch`. Raises: Refused when it exists."""

    @abstractmethod
    def drop_database(self, name: str) -> None: ...

    @abstractmethod
    def check(self) -> list[str]:
        """What is missing to be plait's store, as sentences."""

    @abstractmethod
    def client(self, database: str, revision: str) -> sa.Engine:
        """What a user works with: an SQLAlchemy engine standing at a branch or, read-only, at a commit."""

    @abstractmethod
    def forget_client(self, database: str, revision: str) -> None:
        """No more work is done there: close what `client` made, but for what is in use. Repeat: no-op."""

    @abstractmethod
    def locate(self, database: str, revision: str) -> Location: ...

    @abstractmethod
    def collect(self, database: str) -> None:
        """Let go of what nothing refers to (`dolt_gc`). Cuts connections."""

    @abstractmethod
    def close(self) -> None: ...
