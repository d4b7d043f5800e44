"""Requests to the sequencer other than commits: for refs, the first commit, stores, and ends of working sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from plait import codec
from plait.batch import Batch, unexpected_head
from plait.errors import AlreadyExists, InvalidArgument, NotFound
from plait.persist import Rows
from plait.refspec import format_key
from plait.types import Commit, EventKind, Ref, RefKind, Session


@dataclass(slots=True)
class RefRequest:
    """Create, move, protect or delete a ref. `expected`: the head that it must have; None: it must not exist.

    `after`: the new head; None deletes the ref. `protect`: None leaves the protection as it is.
    """

    name: str
    kind: RefKind
    expected: str | None
    after: str | None
    protect: bool | None = None

    @property
    def refs(self) -> Sequence[str]:
        return (self.name,)

    @property
    def txs(self) -> Sequence[str]:
        return ()

    @property
    def digests(self) -> Sequence[bytes]:
        return ()

    def remember(self, result: object) -> bytes:
        assert isinstance(result, Ref)
        head = bytes.fromhex(result.head)
        return codec.pack([result.name, result.kind.value, head, result.incarnation, result.protected])

    def recall(self, rows: Rows, kept: bytes) -> Ref:
        name, kind, head, incarnation, protected = codec.unpack(kept, f"the answer about ref {self.name}")
        return Ref(name, RefKind(kind), head.hex(), incarnation, protected)

    def decide(self, batch: Batch) -> Ref:
        """Raises: AlreadyExists, CommitConflict, NotFound (also for a store that the new head needs), InvalidArgument
        (a tag that moves, a protected ref)."""
        before = batch.ref(self.name)
        if self.expected is None:
            return self._create(batch, before)
        if before is None:
            raise NotFound(f"ref {self.name!r} does not exist", remedy=f"see 'plait reflog {self.name}'")
        if before.kind is not self.kind:
            raise InvalidArgument(f"{self.name!r} is a {before.kind.value}, not a {self.kind.value}")
        if before.head != self.expected:
            raise unexpected_head(before, self.expected)
        if self.after is None:
            return self._delete(batch, before)
        return self._move(batch, before, self.after)

    def _create(self, batch: Batch, before: Ref | None) -> Ref:
        if before is not None:
            raise AlreadyExists(f"{before.kind.value} {self.name!r} exists already", remedy="choose another name")
        assert self.after is not None
        _check_stores(batch, batch.commit(self.after))
        ref = Ref(self.name, self.kind, self.after, batch.next_seq, bool(self.protect))
        return self._record(batch, EventKind.REF_CREATED, None, ref)

    def _delete(self, batch: Batch, before: Ref) -> Ref:
        if before.protected:
            raise InvalidArgument(
                f"{self.name!r} is protected", remedy=f"run 'plait branch --unprotect {self.name}' first"
            )
        self._record(batch, EventKind.REF_DELETED, before, None)
        return before

    def _move(self, batch: Batch, before: Ref, head: str) -> Ref:
        if before.kind is RefKind.TAG and head != before.head:
            raise InvalidArgument(f"{self.name!r} is a tag, and tags never move", remedy="delete it and make it anew")
        if head != before.head:
            _check_stores(batch, batch.commit(head))
        protected = before.protected if self.protect is None else self.protect
        if head != before.head and before.protected and protected:
            raise InvalidArgument(
                f"{self.name!r} is protected: it takes commits and merges only",
                remedy=f"run 'plait branch --unprotect {self.name}' first",
            )
        after = replace(before, head=head, protected=protected)
        return before if after == before else self._record(batch, EventKind.REF_MOVED, before, after)

    def _record(self, batch: Batch, kind: EventKind, before: Ref | None, after: Ref | None) -> Ref:
        at_us = batch.next_at_us
        ref = after or before
        assert ref is not None
        heads = [None if side is None else bytes.fromhex(side.head) for side in (before, after)]
        seq = batch.append(kind, codec.pack([ref.name, ref.kind.value, ref.incarnation, *heads, ref.protected]))
        batch.set_ref(self.name, after, seq=seq, at_us=at_us)
        return ref


def _check_stores(batch: Batch, commit: Commit) -> None:
    """Check that every store that a commit holds assets of is there: only then can a head be read, and written on.

    Raises: NotFound naming the first one that was removed since. Cost: one path of the tree for each store in it.
    """
    start = b""
    while (first := next(batch.tree.scan(commit.root, start=start), None)) is not None:
        key = codec.decode_key(first[0])
        try:
            batch.store(key[0])
        except NotFound as error:
            raise NotFound(
                f"commit {commit.id[:12]} holds {format_key(key)}, and store {key[0]!r} was removed since",
                remedy=f"add it again where its data is, 'plait store add {key[0]} --kind …', or name another commit",
            ) from error
        start = key[0].encode() + b"\1"  # Behind all keys of this store.


@dataclass(slots=True)
class FirstCommit:
    """The empty commit and the ref that a new repository begins with."""

    branch: str
    author: str

    refs: Sequence[str] = ()
    txs: Sequence[str] = ()
    digests: Sequence[bytes] = ()

    def remember(self, result: object) -> bytes:
        raise AssertionError("a repository is created once")

    def recall(self, rows: Rows, kept: bytes) -> Ref:
        raise AssertionError("a repository is created once")

    def decide(self, batch: Batch) -> Ref:
        """Raises: AlreadyExists unless it is the repository's first record."""
        if batch.rows.serial().seq:
            raise AlreadyExists(f"repository {batch.repository.name!r} exists already")
        salt, at_us, tx = batch.clock.random_bytes(16), batch.next_at_us, batch.clock.new_id()
        root = batch.tree.build(())
        message = "Empty repository"
        text = codec.text_digest(salt, self.author, message, {})
        made = codec.commit_id(
            repository=batch.repository.uuid, parents=(), root=root, tx=tx, committed_at_us=at_us, text=text
        )
        payload = [bytes.fromhex(made), self.branch, codec.salt_digest(batch.repository.salt)]
        seq = batch.append(EventKind.REPOSITORY_CREATED, codec.pack(payload))
        session = Session(author=self.author)
        batch.add_commit(Commit(made, (), root, self.author, message, at_us, {}, tx, session, seq), salt, ())
        ref = Ref(self.branch, RefKind.BRANCH, made, seq, False)
        batch.set_ref(self.branch, ref, seq=seq, at_us=at_us)
        return ref


@dataclass(slots=True)
class RecordRequest:
    """Any other durable change. `apply` writes its rows and returns the record's payload; it must not touch refs."""

    kind: EventKind
    apply: Callable[[Batch], bytes]
    txs: Sequence[str] = ()
    refs: Sequence[str] = ()
    digests: Sequence[bytes] = ()

    def remember(self, result: object) -> bytes:
        assert isinstance(result, int)
        return codec.pack(result)

    def recall(self, rows: Rows, kept: bytes) -> int:
        return int(codec.unpack(kept, "the answer about a record"))

    def decide(self, batch: Batch) -> int:
        return batch.append(self.kind, self.apply(batch))
