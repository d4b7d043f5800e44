"""Imports: existing native assets come into the history, in place and as one commit.

    what is found ──┬─ refused, with the reason
                    ├─ in the history already, under its key or another
                    └─ taken: staged in a working set whose name is a digest of the request

If the process is killed, that working set stays, and the same import continues with it. Versions of a store's own
history become commits on a branch of the import's own, which is then merged: native heads move once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plait import limits
from plait.codec import digest, pack
from plait.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PlaitError,
    Unsupported,
)
from plait.failpoint import failpoint
from plait.refspec import format_key
from plait.types import Commit, Found, Key, PastVersion, Risk

if TYPE_CHECKING:
    from plait.adapter import Progress
    from plait.catalog import Catalog
    from plait.working_set import WorkingSet

_BATCH = 16
_REFUSALS = (InvalidArgument, NotFound, Unsupported, AlreadyExists, Corrupt, PermissionDenied)
"""Errors that concern one asset only: the others can still be imported."""

PastOf = Callable[[Found], Sequence[PastVersion]]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one asset that was found. `refusal`: why it is not imported; empty if it is, or will be.

    `is_there`: it was in the history already. `versions`: how many versions of its own history are imported with it.
    """

    key: Key
    location: str
    refusal: str = ""
    is_there: bool = False
    versions: int = 0
    risks: tuple[Risk, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was imported, what was not, and why. `commit` is None for a dry run, and if nothing was new."""

    assets: tuple[Imported, ...]
    commit: Commit | None


def plan(
    catalog: Catalog, branch: str, under: Key, found: Iterable[Found], history: PastOf
) -> tuple[dict[Key, Imported], dict[Key, Sequence[PastVersion]]]:
    """Decide what to import. Returns: a line for every asset found, and the past versions of those to import.

    An asset that is refused, is in the history already, or has no past versions is only in the first.
    """
    there = {entry.key: entry.snapshot.asset for entry in catalog.at(branch).entries(under[:1])}
    by_asset = {asset: key for key, asset in there.items()}
    lines: dict[Key, Imported] = {}
    pasts: dict[Key, Sequence[PastVersion]] = {}
    for one in found:
        key = (*under, *one.name)
        line = Imported(key, one.location, one.refusal, risks=one.risks)
        known = by_asset.get(one.asset) if one.asset else None
        if key in there:
            line = Imported(key, one.location, "its key is in the history already", is_there=True)
        elif known is not None:
            line = Imported(key, one.location, f"it is in the history as {format_key(known)}", is_there=True)
        elif key in lines:
            line = replace(line, refusal="another has this key")
            key = (*key, one.location)  # Its own line in the report, beside the other's.
        elif not one.refusal and (past := history(one)):
            pasts[key] = past
            line = replace(line, versions=len(past))
        lines[key] = line
    return lines, pasts


@dataclass(frozen=True, slots=True)
class Taking:
    """Imports assets into one branch. `name` is its working set's and its own branch's: a repeat finds them by it."""

    catalog: Catalog
    branch: str
    name: str
    message: str
    properties: Mapping[str, str]
    progress: Progress
    finish: Callable[[WorkingSet, str], Commit]
    """Commits the working set as this author ("": the session's); discards it if that fails."""

    @property
    def _side_branch(self) -> str:
        return f"imports/{self.name}"

    def newest(self, assets: Mapping[Key, str], refused: dict[Key, PlaitError] | None) -> Commit | None:
        """Import what these locations hold now as one commit; None when all were refused.

        Args:
            refused: collects the assets that cannot be imported, by key; the rest is imported.
                None: the first refusal is raised, and nothing is imported.
        """
        return self._commit(self.branch, assets, refused, self.message, self.properties)

    def with_history(
        self, assets: Mapping[Key, str], pasts: Mapping[Key, Sequence[PastVersion]], refused: dict[Key, PlaitError]
    ) -> Commit | None:
        """Commit each past version on a branch of the import's own, then merge that branch."""
        if all(ref.name != self._side_branch for ref in self.catalog.refs()):
            self.catalog.create_branch(self._side_branch, self.branch)
        failpoint("import.branched")
        entries = self.catalog.at(self._side_branch).entries(next(iter(assets))[:1])
        held = {entry.key: entry.snapshot.version for entry in entries}
        alone = {key: location for key, location in assets.items() if key not in pasts and key not in held}
        self._commit(self._side_branch, alone, refused, self.message, self.properties)
        for key, past in pasts.items():
            versions = [one.version for one in past]
            start = versions.index(held[key]) + 1 if held.get(key) in versions else 0
            for done, one in enumerate(past[start:], start + 1):
                message = _shortened(one.message, limits.MESSAGE_BYTES_MAX)
                author = _shortened(one.author, limits.NAME_BYTES_MAX)
                self._commit(self._side_branch, {key: one.location}, refused, message, one.properties, author)
                if key in refused:
                    break
                self.progress(f"versions of {format_key(key)}", done, len(past))
        commit = None
        if len(refused) < len(assets):
            tx = self._left(self.branch) or self.catalog.begin_merge(
                self._side_branch, self.branch, message=self.message, name=self.name
            )
            failpoint("import.before_merge")
            commit = self.finish(tx, "")
        failpoint("import.merged")
        self.drop_branch()
        return commit

    def drop_branch(self) -> None:
        """Drop the import's own branch, whose commits stay reachable from the merge. Repeat: no-op."""
        if any(ref.name == self._side_branch for ref in self.catalog.refs()):
            self.catalog.delete_ref(self._side_branch)

    def _commit(
        self,
        branch: str,
        assets: Mapping[Key, str],
        refused: dict[Key, PlaitError] | None,
        message: str,
        properties: Mapping[str, str],
        author: str = "",
    ) -> Commit | None:
        if not assets:
            return None
        tx = self._left(branch) or self.catalog.begin(branch, name=self.name, message=message, properties=properties)
        failpoint("import.begun")
        failed: dict[Key, PlaitError] = {}
        try:
            items = list(assets.items())
            for start in range(0, len(items), _BATCH):
                failed |= self._stage(tx, dict(items[start : start + _BATCH]))
                if failed and refused is None:
                    raise next(iter(failed.values()))
                failpoint("import.staged")
                self.progress("assets", min(start + _BATCH, len(items)), len(items))
        except Exception:
            tx.give_up()
            raise
        if refused is not None:
            refused |= failed
        if len(failed) == len(assets):
            tx.discard()
            return None
        failpoint("import.before_commit")
        return self.finish(tx, author)

    def _stage(self, tx: WorkingSet, assets: Mapping[Key, str]) -> dict[Key, PlaitError]:
        """Stage a batch; if the batch is refused, its assets one by one. Returns: those refused, with the errors."""
        try:
            self.catalog.backend.import_assets(tx.id, assets)
            return {}
        except _REFUSALS as error:
            if len(assets) == 1:
                return dict.fromkeys(assets, error)
        failed: dict[Key, PlaitError] = {}
        for key, location in assets.items():
            failed |= self._stage(tx, {key: location})
        return failed

    def _left(self, branch: str) -> WorkingSet | None:
        """The working set that a killed run of the same import left on this branch, or None."""
        left = [tx for tx in self.catalog.working_sets() if tx.name == self.name and tx.ref == branch]
        return self.catalog.working_set(left[0].id) if left else None


def _shortened(text: str, bytes_max: int) -> str:
    """A foreign text as the history can keep it: NULs and lone surrogates replaced, cut off at `bytes_max`."""
    whole = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    if len(whole) <= bytes_max:
        return whole.decode()
    return whole[: bytes_max - len("…".encode())].decode("utf-8", "ignore") + "…"


def name_of(*asked: object) -> str:
    """The name of an import's working set: a digest of the request, so that the same import finds it again."""
    return f"import-{digest(b'import', pack(list(asked))).hex()[:16]}"
