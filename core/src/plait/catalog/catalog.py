"""`Catalog`: opening, closing, and its stores. It inherits the rest from `Writing` and `History`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from plait import tables
from plait.adapter import Capability, Progress, silent
from plait.backend import Backend
from plait.catalog.history import KeyText
from plait.catalog.writing import Writing
from plait.clock import Clock, SystemClock
from plait.errors import InvalidArgument, PlaitError
from plait.importing import ImportReport, Taking, name_of, plan
from plait.persist.store_rows import Publication
from plait.refspec import as_choice, as_key, format_key
from plait.stores import Adapters
from plait.tables import Listing
from plait.types import Commit, Found, Key, Lack, Mode, Risk, Session, Store
from plait.working_set import WorkingSet

if TYPE_CHECKING:
    import pyarrow as pa


def _texts(options: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """A path that is given as an object is its text."""
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}


class Closer(Protocol):
    def close(self) -> None: ...


class Catalog(Writing):
    """One repository: its history, its branches, its working sets, its stores. Thread-safe. Closes as a context."""

    def __init__(
        self,
        backend: Backend,
        adapters: Adapters,
        *,
        session: Session,
        clock: Clock | None = None,
        owns: Sequence[Closer] = (),
    ) -> None:
        """`adapters`: they open native handles in this process. `owns`: closed together with the catalog."""
        self.backend = backend
        self.session = session
        self._adapters = adapters
        self._clock = clock or SystemClock()
        self._owns = owns

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<plait.Catalog {self.backend.repository!r}>"

    def _repr_html_(self) -> str:
        stores = ", ".join(store.name for store in self.stores()) or "no store yet"
        return tables.REFS.html(self.refs(), f"{self.backend.repository} · {stores}")

    def to_arrow(self) -> pa.Table:
        """Its branches and tags as an Arrow table. Raises: Unsupported without pyarrow."""
        return self.refs().to_arrow()

    def close(self) -> None:
        """Close the backend, then what is owned, even if one fails. Raises: the error of the last one that failed."""
        with ExitStack() as closing:
            for owned in reversed(self._owns):
                closing.callback(owned.close)
            closing.callback(self.backend.close)

    def as_session(self, session: Session) -> Catalog:
        """The same catalog, for commits in the name of another session."""
        return Catalog(self.backend, self._adapters, session=session, clock=self._clock)

    # -- stores ------------------------------------------------------------------------------------------------------

    def add_store(
        self,
        name: str,
        kind: str,
        options: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        mode: Mode = Mode.MANAGED,
        bound_ref: str = "main",
    ) -> list[Lack]:
        """Configure a store. Returns: what the store lacks. Raises: InvalidArgument, AlreadyExists.

        Repeat: returns what the store lacks now; nothing is created again.
        """
        return list(
            self.backend.add_store(
                Store(name, kind, as_choice(Mode, mode), bound_ref, _texts(options or {})), self.session
            )
        )

    def set_store(self, name: str, options: Mapping[str, str | os.PathLike[str]]) -> list[Lack]:
        """Set options of a store that has moved: another disk, or the stores of a copied catalog.

        The new place must already hold all snapshots that the history names; nothing is copied. Returns: what the new
        place lacks; if anything, nothing is changed. Raises: NotFound; InvalidArgument naming missing
        snapshots, or a working set that has staged something in the store; StoreUnavailable for a missing folder.
        Cost: one check of each snapshot of the store.
        """
        return list(self.backend.set_store(name, _texts(options), self.session))

    def remove_store(self, name: str) -> None:
        """Remove a store that nothing uses; its data stays. Raises: InvalidArgument naming its users, and a way out."""
        self.backend.remove_store(name, self.session)

    def check_store(self, name: str) -> tuple[list[Lack], list[Risk]]:
        """What the store lacks, and which of the store's own rules could delete data that commits need.

        Also finds native heads that somebody moved past plait: `publish` lists them, `adopt` merges them.
        Cost: one read per native head.
        """
        missing, risks = self.backend.check_store(name)
        return list(missing), list(risks)

    def capabilities(self, store: str) -> frozenset[Capability]:
        """What the store's adapter can do. Raises: NotFound; Unsupported for pointers that no plugin reads."""
        adapter = self._adapters.get(store)
        return adapter.capabilities_of(adapter.store)

    def discover(self, store: str, place: str) -> Iterator[Found]:
        """Find the native assets at and below a place, by the store's adapter, in order of names. Changes nothing.

        Raises: NotFound, Unsupported if the store's kind cannot be searched.
        """
        return self._adapters.get(store).discover(place)

    def import_assets(
        self, assets: Mapping[Key, str], branch: str = "main", *, message: str = "", properties: Mapping[str, str] = {}
    ) -> Commit:
        """Import existing native assets (key → name or location) into the history, in place and as one commit.

        Repeat: continues the same import if it was killed; assets that it had staged are not read again.
        """
        message = message or f"Import {len(assets)} asset{'' if len(assets) == 1 else 's'}"
        name = name_of(branch, sorted((format_key(key), location) for key, location in assets.items()))
        commit = Taking(self, branch, name, message, properties, silent, self._end_import).newest(assets, None)
        if commit is None:
            raise InvalidArgument("an import needs assets", remedy="name at least one")
        return commit

    def import_found(
        self,
        under: KeyText,
        found: Iterable[Found],
        branch: str = "main",
        *,
        origin: str = "",
        message: str = "",
        history: bool = True,
        dry_run: bool = False,
        progress: Progress = silent,
    ) -> ImportReport:
        """Import assets that `discover` found into the history, in place and as one commit, under a store or a prefix.

        Args:
            origin: where it was found, for the message.
            history: for assets with a history of their own, also make a commit for each version; one merge brings them.
            dry_run: report only, change nothing.
        The report lists what cannot be imported; the rest is imported all the same.

        Repeat: makes no commit, since nothing is new; if the first import was killed, continues it.
        """
        key = as_key(under)
        if not key:
            raise InvalidArgument("an import needs the store that takes it", remedy="name the store, or a prefix in it")
        past = self._adapters.get(key[0]).history if history else lambda one: ()
        lines, pasts = plan(self, branch, key, found, past)
        taken = {key: line.location for key, line in lines.items() if not line.refusal}
        if dry_run:
            return ImportReport(tuple(lines.values()), None)
        message = message or f"Import {len(taken)} of {origin or format_key(key)}"
        name = name_of(branch, sorted((format_key(key), line.location) for key, line in lines.items()), history)
        taking = Taking(self, branch, name, message, {}, progress, self._end_import)
        refused: dict[Key, PlaitError] = {}
        commit = None
        if pasts:
            commit = taking.with_history(taken, pasts, refused)
        elif taken:
            commit = taking.newest(taken, refused)
        else:
            taking.drop_branch()  # An earlier run merged it, but died before it dropped the branch.
        told = (replace(line, refusal=str(refused[key])) if key in refused else line for key, line in lines.items())
        return ImportReport(tuple(told), commit)

    def _end_import(self, tx: WorkingSet, author: str) -> Commit:
        return self._finish(tx, author=author, allow_empty=tx.tx.source is not None)

    def publish(self, stores: Sequence[str] | None = None) -> Listing[Publication]:
        """Move native heads to their bound refs now. Returns: the heads that are still elsewhere, and why."""
        return Listing(tables.PUBLICATIONS, self.backend.publish(stores))

    def unpublished(self) -> Listing[Publication]:
        """The native heads that are not at their bound refs, as last recorded. Calls no store, moves nothing."""
        return Listing(tables.PUBLICATIONS, self.backend.unpublished())

    def adopt(self, key: KeyText) -> Commit | None:
        """Commit what somebody wrote past plait, merged with what was committed meanwhile; None if nothing is new.

        Looks at the native head first. Raises: NotFound if it is where plait left it; CommitConflict, whose working set
        is kept; StoreUnavailable.
        """
        return self.backend.adopt(as_key(key), self.session)

    def recover(self) -> list[str]:
        """Repair what died half-way. Returns: what was done, as sentences."""
        return list(self.backend.recover())
