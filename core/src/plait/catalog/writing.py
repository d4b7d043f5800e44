"""How a catalog commits: by working sets, proposals, and three-way operations, which all use one three-way join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from plait import tables
from plait.backend import BeginRequest
from plait.catalog.history import History, KeyText
from plait.errors import (
    CommitConflict,
    InvalidArgument,
    NothingToCommit,
    OutcomeUnknown,
    PlaitError,
    ProposalRejected,
)
from plait.presence import check_keys
from plait.refspec import as_choice, as_key, as_keys, check_flag, format_key, format_path, parse_spec
from plait.tables import Listing
from plait.types import Commit, Key, Proposal, Source, SourceKind, Strategy, Tx
from plait.working_set import WorkingSet

V = TypeVar("V")
_NAMED_MAX = 10
_NAMED_CHARACTERS_MAX = 1_000
"""Of what a message that plait writes itself names."""
ByKey = Mapping[str, V] | Mapping[Key, V]
"""By a key, as its text or as its parts."""


class Writing(History):
    """The part of `Catalog` that makes commits."""

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin(
        self,
        branch: str = "main",
        *,
        name: str = "",
        message: str = "",
        properties: Mapping[str, str] | None = None,
        implicit: bool = False,
        source: Source | None = None,
        merged_parents: Sequence[str] = (),
        base: str = "",
    ) -> WorkingSet:
        """Begin a working set: durable, isolated, spanning stores, until it is committed or discarded.

        `base`: the id of the commit that it starts from; else the branch's head. Its commit joins what it wrote with
        what the branch holds.
        """
        spec = parse_spec(branch)
        if spec.is_relative or spec.commit:
            raise InvalidArgument(f"{branch!r} is no branch", remedy="a commit goes onto a branch: give its name")
        check_flag("implicit", implicit)
        request = BeginRequest(
            self._clock.new_id(), branch, name, message, properties, implicit, tuple(merged_parents), source, base
        )
        return WorkingSet(self.backend, self._adapters, self.backend.begin(request, self.session), self.session)

    def working_set(self, text: str) -> WorkingSet:
        """A working set by its name, its id, or an unambiguous beginning or end of the id. Raises: NotFound."""
        return WorkingSet(self.backend, self._adapters, self.backend.tx(text), self.session)

    def working_sets(self) -> Listing[Tx]:
        """The working sets that have not ended, oldest first."""
        return Listing(tables.TXS, self.backend.txs())

    @contextmanager
    def transaction(
        self, branch: str = "main", *, message: str = "", properties: Mapping[str, str] | None = None
    ) -> Iterator[WorkingSet]:
        """Commit everything that the block writes as one commit; an exception discards all of it.

        Its lease is renewed while the block runs. Afterwards, the block's `tx.committed` is the commit; nothing is
        committed if nothing changed. If the commit fails (a conflict, a gate), the working set is discarded too: use
        `begin` to keep it.
        """
        tx = self.begin(branch, message=message, properties=properties, implicit=True)
        with tx.kept_alive():
            try:
                yield tx
            except BaseException:
                tx.give_up()
                raise
            if tx.is_closed:
                return
            try:
                tx.commit()
            except NothingToCommit:
                tx.discard()
            except OutcomeUnknown:
                raise
            except BaseException:
                tx.give_up()
                raise

    def commit(self, proposal: Proposal) -> Commit:
        """Commit pointers, or snapshots that are committed already, in one call. Raises: CommitConflict."""
        return self.backend.commit(self._signed(proposal))

    def commit_many(self, proposals: Sequence[Proposal], *, atomic: bool = False) -> list[Commit | PlaitError]:
        """Commit each proposal alone. Returns: a commit or error for each, in order. `atomic`: commit all, or raise."""
        signed = [self._signed(proposal) for proposal in proposals]
        return list(self.backend.commit_many(signed, atomic=atomic))

    def _signed(self, proposal: Proposal) -> Proposal:
        """The proposal in the catalog's session, with an idempotency key, so that it may be repeated."""
        return replace(proposal, session=self.session, idempotency_key=proposal.idempotency_key or self._clock.new_id())

    # -- three-way operations ----------------------------------------------------------------------------------------

    def merge(
        self,
        source: str,
        into: str = "main",
        *,
        message: str = "",
        squash: bool = False,
        default: Strategy = Strategy.NORMAL,
        strategies: ByKey[Strategy] = MappingProxyType({}),
        keys: Sequence[KeyText] = (),
    ) -> Commit:
        """Merge a point into a branch as one commit, natively in every store.

        Args:
            strategies: by key, or by a prefix of keys: the longest that fits a key is its strategy, else `default`.
        Raises: CommitConflict listing every conflict; its working set, whose id is in `details["tx"]`, then waits for
        resolutions. NothingToCommit when there is nothing to merge; NotFound for a strategy of a key that is nowhere.
        """
        tx = self.begin_merge(
            source, into, message=message, squash=squash, default=default, strategies=strategies, keys=keys
        )
        return self._finish(tx, allow_empty=not squash and not keys)

    def begin_merge(
        self,
        source: str,
        into: str = "main",
        *,
        message: str = "",
        name: str = "",
        squash: bool = False,
        default: Strategy = Strategy.NORMAL,
        strategies: ByKey[Strategy] = MappingProxyType({}),
        keys: Sequence[KeyText] = (),
    ) -> WorkingSet:
        """Begin the working set of a merge: look at it with `preview`, resolve, write into it, commit or discard it."""
        head, theirs = self.resolve(into), self.resolve(source)
        base = self.backend.merge_base(f"@{head.id}", f"@{theirs.id}")
        if base is not None and base.id == theirs.id:
            raise NothingToCommit(f"{into!r} already holds everything of {source!r}")
        named = as_keys(keys)
        chosen = {key: as_choice(Strategy, one) for key, one in _by_key(strategies).items()}
        points = {into: f"@{head.id}", source: f"@{theirs.id}"}
        check_keys(
            self.backend,
            [*chosen, *named],
            {**({"their merge base": f"@{base.id}"} if base else {}), **points},
        )
        merged = Source(
            SourceKind.MERGE,
            base.id if base else None,
            theirs.id,
            named,
            as_choice(Strategy, default),
            tuple(chosen.items()),
        )
        # Merging only some keys does not make theirs a parent: a later merge must still find the rest.
        parents = () if squash or named else (theirs.id,)
        message = message or f"Merge {source} into {into}"
        return self.begin(into, name=name, message=message, source=merged, merged_parents=parents)

    def cherry_pick(self, spec: str, onto: str = "main", *, message: str = "", keys: Sequence[KeyText] = ()) -> Commit:
        """Apply what one commit changed to a branch: all of it, or only under some keys. Raises: as `merge`."""
        picked = self.resolve(spec)
        if not picked.parents:
            raise InvalidArgument(f"{spec!r} is the first commit, and changed nothing")
        named = as_keys(keys)
        check_keys(self.backend, named, {f"{spec}^": f"@{picked.parents[0]}", spec: f"@{picked.id}"})
        source = Source(SourceKind.CHERRY_PICK, picked.parents[0], picked.id, named)
        properties = {"plait.cherry-picked": picked.id}
        tx = self.begin(onto, message=message or picked.message, source=source, properties=properties)
        return self._finish(tx)

    def revert(
        self,
        spec: str,
        on: str = "main",
        *,
        message: str = "",
        keys: Sequence[KeyText] = (),
        items: ByKey[Sequence[str]] = MappingProxyType({}),
    ) -> Commit:
        """Undo what one commit changed: all of it, or only under some keys, or only some items.

        What was changed again since then is a conflict, and never lost.
        Raises: as `merge`; NotFound for a key that exists neither at the commit nor on the branch, and for an item that
        exists neither before nor at the commit.
        """
        undone = self.resolve(spec)
        if not undone.parents:
            raise InvalidArgument(f"{spec!r} is the first commit, and changed nothing")
        points = {f"{spec}^": f"@{undone.parents[0]}", spec: f"@{undone.id}", on: on}
        named, some = as_keys(keys), _by_key(items)
        check_keys(self.backend, [*named, *some], points)
        message = message or f'Revert "{undone.message}"'
        properties = {"plait.reverted": undone.id}
        if some:  # Written onto what is undone, so that the commit joins it with all that changed since.
            check_keys(self.backend, list(some), {spec: f"@{undone.id}"})
            before = f"@{undone.parents[0]}"
            return self._restore_items(before, on, message, properties, some, base=undone.id)
        source = Source(SourceKind.REVERT, undone.id, undone.parents[0], named)
        return self._finish(self.begin(on, message=message, source=source, properties=properties))

    def restore(
        self,
        spec: str,
        on: str = "main",
        *,
        keys: Sequence[KeyText] = (),
        items: ByKey[Sequence[str]] = MappingProxyType({}),
        message: str = "",
    ) -> Commit:
        """Set keys (none named: all), or some items, to what they were at a point, as a new commit.

        Raises: NotFound for a key or an item that exists neither at that point nor on the branch.
        """
        wanted, named, some = self.resolve(spec), as_keys(keys), _by_key(items)
        check_keys(self.backend, [*named, *some], {spec: f"@{wanted.id}", on: on})
        shown = [format_path(key, item) for key, names in some.items() for item in names]
        shown = shown or [format_key(key) for key in named]
        message = message or f"Restore {_listed(shown) or 'everything'} from {spec}"
        properties = {"plait.restored": wanted.id}
        if some:
            return self._restore_items(f"@{wanted.id}", on, message, properties, some)
        source = Source(SourceKind.RESTORE, None, wanted.id, named)
        return self._finish(self.begin(on, message=message, source=source, properties=properties))

    def _restore_items(
        self,
        spec: str,
        on: str,
        message: str,
        properties: Mapping[str, str],
        items: Mapping[Key, Sequence[str]],
        base: str = "",
    ) -> Commit:
        tx = self.begin(on, message=message, properties=properties, base=base)
        try:
            for key, names in items.items():
                self.backend.restore(tx.id, key, spec, names)
        except BaseException:
            tx.give_up()
            raise
        return self._finish(tx)

    def _finish(self, tx: WorkingSet, *, author: str = "", allow_empty: bool = False) -> Commit:
        """Commit. After a conflict or a gate's refusal the working set stays; any other failure discards it."""
        try:
            return tx.commit(author=author, allow_empty=allow_empty)
        except (CommitConflict, ProposalRejected):
            raise
        except OutcomeUnknown as error:
            error.details["tx"] = tx.id
            error.remedy = f"ask again: commit the working set {tx.id}, which is one commit however often it is asked"
            raise
        except BaseException:
            tx.give_up()
            raise


def _by_key(given: ByKey[V]) -> dict[Key, V]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"a map of keys is expected, not {given!r}", remedy='write {"lake.sales.orders": …}')
    return {as_key(key): value for key, value in given.items()}


def _listed(named: Sequence[str]) -> str:
    """The first of these names, and how many there are besides."""
    more = f", and {len(named) - _NAMED_MAX} more" if len(named) > _NAMED_MAX else ""
    return tables.cut(", ".join(named[:_NAMED_MAX]), _NAMED_CHARACTERS_MAX) + more
