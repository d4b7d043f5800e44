"""The three-way join, key by key, that commit, merge, cherry-pick, revert, restore and adopt are all made of.

    candidate    what theirs changed since base, at one key
    ours         what the ref's head holds at that key

If one side is unchanged, the other side's content is taken. If both changed to equal content, there is no conflict;
otherwise the adapter merges natively, or it is a conflict. On a bound ref, the new snapshot must natively succeed the
one that the ref holds (`Adapter.succeed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plait.adapter import Adapter, Capability
from plait.codec import encode_key, optional_digest, ref_digest
from plait.commit_point import describe
from plait.refspec import format_key
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Delete,
    Entry,
    Key,
    Merged,
    Operation,
    Put,
    Resolution,
    SnapshotRef,
    Strategy,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One key that theirs changed since base.

    `renamed_to`: theirs' key, if both sides renamed the asset, differently; `key` is ours' then. `is_version`: theirs
    is a version of the store's own, and is taken even if its content equals base's (an empty native commit).
    `renamed_from`: the key under which one side deleted what the other renamed to `key`: a conflict, whatever it holds.
    """

    key: Key
    base: Entry | None
    theirs: Entry | None
    renamed_to: Key | None = None
    is_version: bool = False
    renamed_from: Key | None = None


@dataclass(slots=True)
class Outcome:
    """What to commit. `made`: snapshots prepared by `merge` or `succeed`, which the transaction must own.

    `mergers`: the titles of registered mergers that made some of the content.
    """

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    made: dict[Key, SnapshotRef] = field(default_factory=dict)
    mergers: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """Joins candidates with a ref's head. `bound(store)`: whether the ref moves that store's native heads.
    `intend(key)`: called before the key's store may write for it. `strategies`: by key or by a prefix of keys."""

    tx: str
    attempt: int
    adapter: Callable[[str], Adapter]
    capabilities: Callable[[str], frozenset[Capability]]
    bound: Callable[[str], bool]
    intend: Callable[[Key], None]
    default: Strategy = Strategy.NORMAL
    strategies: Mapping[Key, Strategy] = field(default_factory=dict)
    resolutions: Mapping[Key, Sequence[Resolution]] = field(default_factory=dict)
    adopts: bool = False
    """Theirs was found at a diverged native head: whatever content is chosen must natively succeed it too."""

    def join(self, candidates: Iterable[Candidate], ours: Mapping[Key, Entry]) -> Outcome:
        """Decide every candidate. Returns: the conflicts, in key order, and the operations of all keys without one.

        Repeat: the same outcome for the same (tx, attempt) and arguments.
        """
        outcome = Outcome()
        for candidate in candidates:
            if candidate.renamed_to is None:
                self._decide(candidate, ours.get(candidate.key), outcome)
            else:
                self._decide_name(candidate, candidate.renamed_to, ours, outcome)
        return outcome

    def _strategy(self, key: Key) -> Strategy:
        """That of the longest prefix of the key which has one."""
        prefixes = (key[:length] for length in range(len(key), 0, -1))
        return next((self.strategies[one] for one in prefixes if one in self.strategies), self.default)

    def _decide_name(self, candidate: Candidate, renamed_to: Key, ours: Mapping[Key, Entry], outcome: Outcome) -> None:
        """Decide an asset that both sides renamed, differently: take one side's key and content, or conflict."""
        key, theirs, held = candidate.key, candidate.theirs, ours[candidate.key]
        assert theirs is not None
        strategy = self._strategy(key)
        choices = [resolution.choice for resolution in self.resolutions.get(key, ()) if resolution.item is None]
        if strategy in (Strategy.OURS, Strategy.DROP) or Choice.OURS in choices:
            return
        if renamed_to not in ours and (strategy is Strategy.THEIRS or Choice.THEIRS in choices):
            snapshot = self.succeeding(held, theirs.snapshot)
            outcome.operations.append(Delete(key, ref_digest(held.snapshot)))
            entry = Entry(renamed_to, theirs.content_id, snapshot)
            self._put(renamed_to, None, entry, outcome, made=snapshot != theirs.snapshot)
            return
        conflict = _key_conflict(candidate, held)
        detail = f"ours renamed it to {format_key(key)}, theirs to {format_key(renamed_to)}"
        outcome.conflicts.append(replace(conflict, kind=ConflictKind.KEY_CHANGED, detail=detail))

    def _decide(self, candidate: Candidate, ours: Entry | None, outcome: Outcome) -> None:
        key, base, theirs = candidate.key, candidate.base, candidate.theirs
        strategy = self._strategy(key)
        if candidate.is_version and theirs is not None and ours == base and _same(base, theirs):
            self._put(key, ours, theirs, outcome, made=False)
            return
        is_one_sided = candidate.renamed_from is None
        if strategy is Strategy.DROP or _same(ours, theirs) or (is_one_sided and _same(base, theirs)):
            self._take(candidate, ours, ours, outcome)
            return
        if is_one_sided and _same(ours, base):
            self._take(candidate, ours, theirs, outcome)
            return
        resolutions = self.resolutions.get(key, ())
        whole = next((resolution for resolution in resolutions if resolution.item is None), None)
        if whole is not None:
            sides = {Choice.OURS: ours, Choice.THEIRS: theirs, Choice.BASE: base}
            if whole.choice in sides:
                self._take(candidate, ours, sides[whole.choice], outcome)
                return
        conflicts: Sequence[Conflict] = [_key_conflict(candidate, ours)]
        if ours is not None and theirs is not None and _same_asset(base, ours, theirs):
            merged = self._merge(key, base, ours, theirs, strategy, resolutions)
            if isinstance(merged, Merged):
                snapshot = self.succeeding(theirs, merged.snapshot) if self.adopts else merged.snapshot
                entry = Entry(key, ours.content_id, snapshot)
                # A result with the content of ours is no change, even if the store gave it a new version.
                if self.adopts or not _same(ours, entry):
                    self._put(key, ours, entry, outcome)
                    outcome.mergers.update(merged.mergers)
                return
            conflicts = merged.conflicts or conflicts
        if strategy in (Strategy.OURS, Strategy.THEIRS):
            self._take(candidate, ours, ours if strategy is Strategy.OURS else theirs, outcome)
        else:
            outcome.conflicts.extend(conflicts)

    def _merge(
        self,
        key: Key,
        base: Entry | None,
        ours: Entry,
        theirs: Entry,
        strategy: Strategy,
        resolutions: Sequence[Resolution],
    ) -> Merged | Conflicted:
        if Capability.MERGE not in self.capabilities(key[0]):
            return Conflicted(())
        self.intend(key)
        adapter = self.adapter(key[0])
        base_snapshot = None if base is None else base.snapshot

        def merge(resolutions: Sequence[Resolution]) -> Merged | Conflicted:
            merged = adapter.merge(
                self.tx,
                self.attempt,
                base=base_snapshot,
                ours=ours.snapshot,
                theirs=theirs.snapshot,
                resolutions=resolutions,
            )
            if isinstance(merged, Conflicted):
                # An adapter fills in only the items, it knows no keys.
                return Conflicted(tuple(replace(conflict, key=key) for conflict in merged.conflicts))
            return merged

        merged = merge(resolutions)
        if isinstance(merged, Conflicted) and strategy in (Strategy.OURS, Strategy.THEIRS):
            choice = Choice(strategy.value)
            settled = [Resolution(key, conflict.item, choice) for conflict in merged.conflicts]
            if all(resolution.item is not None for resolution in settled):
                merged = merge([*resolutions, *settled])
        return merged

    def _take(self, candidate: Candidate, ours: Entry | None, content: Entry | None, outcome: Outcome) -> None:
        """Give the key this content, in a snapshot that natively succeeds ours (and, in an adoption, theirs)."""
        key = candidate.key
        if _same(ours, content):
            if ours is None or not self.adopts:
                return
            content = ours
        if content is None:
            assert ours is not None
            outcome.operations.append(Delete(key, ref_digest(ours.snapshot)))
            return
        snapshot = content.snapshot
        for onto in (ours, candidate.theirs if self.adopts else None):
            snapshot = self.succeeding(onto, snapshot)
        if ours is None or snapshot != ours.snapshot:
            self._put(key, ours, Entry(key, content.content_id, snapshot), outcome, made=snapshot != content.snapshot)

    def succeeding(self, onto: Entry | None, content: SnapshotRef) -> SnapshotRef:
        """A snapshot of this content to which a native head at `onto` can move; `content` itself if no head has to."""
        if onto is None or not self.bound(content.store) or onto.snapshot.asset != content.asset:
            return content
        self.intend(onto.key)
        return self.adapter(content.store).succeed(self.tx, self.attempt, onto=onto.snapshot, content=content)

    def _put(self, key: Key, ours: Entry | None, entry: Entry, outcome: Outcome, *, made: bool = True) -> None:
        expected = None if ours is None else ref_digest(ours.snapshot)
        outcome.operations.append(Put(key, entry.snapshot, expected, entry.content_id))
        if made:
            outcome.made[key] = entry.snapshot


def join_both(
    join: ThreeWay,
    source: Sequence[Candidate],
    own: Sequence[Candidate],
    ours: Mapping[Key, Entry],
    moving: Mapping[Key, Entry],
    own_moving: Mapping[Key, Entry],
) -> Outcome:
    """Join what the source changed, then the user's own writes on top; those settle the conflicts that they touch.

    `moving`, `own_moving`: entries that ours holds at old keys, by the key that the source, or the user, gives them.
    """
    first = _join_moving(join, source, ours, moving)
    written = {candidate.key: candidate for candidate in own}
    by_item, by_key = _settled_natively(join, first.conflicts, written)
    if by_item:
        # Settle the written items by ours, so that theirs' other changes merge; the second join adds what was written.
        resolutions = {key: [*join.resolutions.get(key, ()), *settled] for key, settled in by_item.items()}
        first = _join_moving(replace(join, resolutions={**join.resolutions, **resolutions}), source, ours, moving)
    second = _join_moving(join, own, applied(ours, first.operations), own_moving)
    overwritten = {operation.key for operation in second.operations}
    expected = {key: optional_digest(entry.snapshot) for key, entry in ours.items()}
    outcome = Outcome(
        operations=[operation for operation in first.operations if operation.key not in overwritten],
        conflicts=[conflict for conflict in first.conflicts if conflict.key not in by_key] + second.conflicts,
        made={**first.made, **second.made},
        mergers=first.mergers | second.mergers,
    )
    for operation in second.operations:
        if isinstance(operation, Delete) and operation.key not in ours:
            continue
        outcome.operations.append(replace(operation, expected=expected.get(operation.key)))
    _succeed_elsewhere(join, outcome, ours)
    outcome.operations.sort(key=lambda operation: encode_key(operation.key))
    return outcome


def _succeed_elsewhere(join: ThreeWay, outcome: Outcome, ours: Mapping[Key, Entry]) -> None:
    """Where an asset comes to another key than ours holds it at, have its snapshot succeed the one there: the native
    head stays that asset's, and may be further on (a restore to before a rename)."""
    holders = {(entry.snapshot.store, entry.snapshot.asset): entry for entry in ours.values()}
    for place, one in enumerate(outcome.operations):
        if not isinstance(one, Put):
            continue
        holder = holders.get((one.snapshot.store, one.snapshot.asset))
        if holder is None or holder.key == one.key or holder.snapshot == one.snapshot:
            continue
        snapshot = join.succeeding(holder, one.snapshot)
        if snapshot != one.snapshot:
            outcome.operations[place] = replace(one, snapshot=snapshot)
            outcome.made[one.key] = snapshot


def applied(held: Mapping[Key, Entry], operations: Iterable[Operation]) -> dict[Key, Entry]:
    """The entries after these operations."""
    after = dict(held)
    for one in operations:
        if isinstance(one, Put):
            after[one.key] = Entry(one.key, one.content_id or "", one.snapshot)
        elif isinstance(one, Delete):
            after.pop(one.key, None)
    return after


def _join_moving(
    join: ThreeWay, candidates: Sequence[Candidate], ours: Mapping[Key, Entry], moving: Mapping[Key, Entry]
) -> Outcome:
    outcome = join.join(candidates, {**ours, **moving})
    for place, one in enumerate(outcome.operations):
        if one.key in moving:
            outcome.operations[place] = replace(one, expected=None)
    decided = {one.key for one in (*outcome.operations, *outcome.conflicts)}
    for key, entry in moving.items():
        if key not in decided:  # Its content is as ours has it, but it still has to move to this key.
            outcome.operations.append(Put(key, entry.snapshot, None, entry.content_id))
    return outcome


def _settled_natively(
    join: ThreeWay, conflicts: Sequence[Conflict], written: Mapping[Key, Candidate]
) -> tuple[dict[Key, list[Resolution]], set[Key]]:
    """The conflicts that the user settled by writing with the store's own client: by item, and as whole keys.

    A written key is settled as a whole if plait cannot tell its items apart; then it holds just what was written.
    """
    by_item: dict[Key, list[Resolution]] = {}
    by_key: set[Key] = set()
    listed: dict[Key, list[str | None]] = {}
    for conflict in conflicts:
        listed.setdefault(conflict.key, []).append(conflict.item)
    for key in listed.keys() & written.keys():
        candidate, items = written[key], [item for item in listed[key] if item is not None]
        told_apart = {Capability.ITEM_DIFF, Capability.ITEM_RESOLUTION} <= join.capabilities(key[0])
        if len(items) < len(listed[key]) or not told_apart:
            by_key.add(key)
            continue
        sides = [None if side is None else side.snapshot for side in (candidate.base, candidate.theirs)]
        changes = join.adapter(key[0]).diff(*sides, items=items)
        if touched := sorted({change.item for change in changes}):
            by_item[key] = [Resolution(key, item, Choice.OURS) for item in touched]
    return by_item, by_key


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Whether two sides hold the same content: the same asset at equal native digests."""
    if one is None or other is None:
        return one is other
    left, right = one.snapshot, other.snapshot
    return (left.store, left.asset, left.digest) == (right.store, right.asset, right.digest)


def _same_asset(base: Entry | None, ours: Entry, theirs: Entry) -> bool:
    return ours.snapshot.asset == theirs.snapshot.asset and (base is None or base.snapshot.asset == ours.snapshot.asset)


def _key_conflict(candidate: Candidate, ours: Entry | None) -> Conflict:
    if candidate.base is None:
        kind, detail = ConflictKind.KEY_EXISTS, "both sides created it"
    elif candidate.renamed_from is not None:
        deleted, renamed = ("ours", "theirs") if ours is None else ("theirs", "ours")
        kind = ConflictKind.KEY_DOES_NOT_EXIST if ours is None else ConflictKind.KEY_CHANGED
        detail = f"{deleted} deleted {format_key(candidate.renamed_from)}, {renamed} renamed it to this key"
    elif ours is None:
        kind, detail = ConflictKind.KEY_DOES_NOT_EXIST, "ours deleted it, theirs changed it"
    elif candidate.theirs is None:
        kind, detail = ConflictKind.KEY_CHANGED, "ours changed it, theirs deleted it"
    else:
        kind, detail = ConflictKind.VALUE_DIFFERS, "both sides changed it"
    base, left, right = (
        None if side is None else describe(side.snapshot) for side in (candidate.base, ours, candidate.theirs)
    )
    return Conflict(candidate.key, kind, base=base, ours=left, theirs=right, detail=detail)
