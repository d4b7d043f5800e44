"""Working sets: the calls of `Backend` on them, with their arguments checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from plait import limits
from plait.adapter import Adapter
from plait.backend import BeginRequest, Preview
from plait.codec import check_properties, decode_conflict, decode_resolution, encode_resolution
from plait.errors import NotFound, NothingToCommit
from plait.liveness import is_alive
from plait.local.reading import Reading
from plait.local.stores import StoreKeeping
from plait.planning import Planner
from plait.presence import first_absent
from plait.proposals import check_begin, check_message, check_name, check_session
from plait.refspec import check_key, format_key, format_path
from plait.types import Commit, Conflict, Entry, Key, Participant, Resolution, Session, SnapshotRef, Staging, Tx


class WorkingSets(Reading, StoreKeeping):
    """The part of `LocalBackend` for working sets. After the commit of one, native heads are published."""

    _planner: Planner

    def begin(self, request: BeginRequest, session: Session) -> Tx:
        source = request.source
        sides = () if source is None else (source.base, source.theirs)
        commits = [one for one in (*request.merged_parents, *sides, request.base or None) if one is not None]
        check_begin(request.id, request.name, commits=commits)
        check_session(session)
        check_message(request.message)
        check_properties(request.properties or {}, limits.PROPERTIES_BYTES_MAX)
        return self._transactions.begin(
            request.ref,
            session,
            tx_id=request.id,
            name=request.name,
            message=request.message,
            properties=request.properties,
            implicit=request.implicit,
            merged_parents=request.merged_parents,
            source=source,
            base=request.base,
        )

    def tx(self, text: str) -> Tx:
        return self._transactions.find(text)

    def txs(self) -> Sequence[Tx]:
        return self._transactions.live()

    def participants(self, tx: str) -> Sequence[Participant]:
        return self._transactions.participants(tx)

    def stage(self, tx: str, keys: Sequence[Key], *, new: bool) -> Sequence[Staging]:
        return self._stagings.stage(tx, keys, new=new)

    def staging(self, tx: str, key: Key) -> Staging | None:
        return self._stagings.staging(tx, key)

    def base_entry(self, tx: str, key: Key) -> Entry | None:
        return self._stagings.base_entry(self._transactions.find(tx), key)

    def keys(self, tx: str, prefix: Key) -> Sequence[Key]:
        return list(self._stagings.keys(tx, prefix))

    def swap_location(self, tx: str, key: Key, expected: str, location: str) -> bool:
        return self._stagings.swap_location(tx, key, expected, location)

    def drop(self, tx: str, key: Key) -> None:
        self._stagings.drop(tx, key)

    def move(self, tx: str, before: Key, after: Key) -> None:
        self._stagings.move(tx, check_key(before), after)

    def restore(self, tx: str, key: Key, spec: str, items: Sequence[str] | None) -> None:
        commit = self.resolve(spec)
        entry = self.get(f"@{commit.id}", [key]).get(key)
        if entry is None:
            at = commit.id[:12]
            raise NotFound(f"{format_key(key)} does not exist at {at}", remedy=f"see 'plait ls --at @{at}'")
        self._check_live(key, entry.snapshot)
        adapter = self.adapters.get(key[0])
        if items:
            self._check_items(adapter, tx, key, commit, entry.snapshot, items)
        exists = key in self.keys(tx, key)
        staging = self._stagings.stage(tx, [key], new=not exists, content_id=entry.content_id)[0]
        with self._transactions.writing_natively(tx):
            restored = adapter.restore(tx, staging, entry.snapshot, items=items)
            self._stagings.replace_staging(tx, restored)

    def _check_items(
        self, adapter: Adapter, tx: str, key: Key, commit: Commit, snapshot: SnapshotRef, items: Sequence[str]
    ) -> None:
        """Check that each item exists at the commit, at the base, or in the staging. (The restore deletes items that
        the commit lacks.)"""
        found, base = self._transactions.find(tx), self.base_entry(tx, key)
        sides = [base.snapshot if base is not None else None, self.staging(tx, key)]
        absent = first_absent(adapter, items, snapshot, [side for side in sides if side is not None])
        if absent is not None:
            with self._repository.read() as rows:
                at = found.ref if rows.ref(found.ref).head == found.base else found.base[:12]
            raise NotFound(
                f"{format_path(key, absent)} does not exist at {commit.id[:12]} nor at {at}",
                remedy=f"see 'plait blame {format_key(key)} --at {at}' for the items that are there",
            )

    def renew(self, tx: str) -> None:
        self._transactions.renew(tx)

    def preview(self, tx: str) -> Preview:
        """Seal, prepare and join as a commit would, then open the working set again."""
        found = self._transactions.find(tx)
        sealed = self._transactions.seal(found.id)
        try:
            with self._transactions.held(sealed):
                plan = self._planner.plan(sealed, self._coordinator.prepare(sealed))
        finally:
            self._transactions.unseal(sealed)
        return Preview(plan.changes, plan.conflicts)

    def commit_tx(
        self,
        tx: str,
        session: Session,
        *,
        message: str | None,
        author: str,
        properties: Mapping[str, str],
        unchanged: Sequence[Key],
        allow_empty: bool,
    ) -> Commit:
        check_properties(properties, limits.PROPERTIES_BYTES_MAX)
        if message is not None:
            check_message(message)
        check_name("the author", author)
        check_session(session)
        found = self._transactions.find(tx)
        try:
            commit = self._coordinator.commit(
                found.id,
                session,
                message=message,
                author=author,
                properties=properties,
                unchanged=unchanged,
                allow_empty=allow_empty,
            )
        except NothingToCommit:
            # An adoption that keeps what the branch holds commits nothing, but its native head has to move there.
            self._follow()
            raise
        self._follow()
        return commit

    def discard(self, tx: str) -> None:
        self._transactions.discard(self._transactions.find(tx).id)

    def recover(self) -> Sequence[str]:
        done = self._transactions.recover(is_alive)
        self._publisher.run(is_alive=is_alive)
        return done

    def conflicts(self, tx: str) -> Iterator[tuple[Conflict, Resolution | None]]:
        found = self._transactions.find(tx)
        with self._repository.read() as rows:
            for _, body, kept in rows.conflicts(found.id):
                yield decode_conflict(body), None if kept is None else decode_resolution(kept)

    def settle(self, tx: str, resolutions: Sequence[Resolution]) -> None:
        """Store resolutions of listed conflicts. Raises: NotFound for one that is not listed; then none is stored."""
        found = self._transactions.find(tx)
        with self._repository.write() as rows:
            for one in resolutions:
                if not rows.set_resolution(found.id, one.key, one.item, encode_resolution(one)):
                    raise NotFound(
                        f"{format_path(one.key, one.item)} is no conflict of {found.name or found.id}",
                        remedy="see 'plait conflicts'",
                    )
