"""The commit point and the serial order, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import sqlalchemy as sa
from plait import codec, limits
from plait.batch import Batch
from plait.clock import ManualClock
from plait.commit_point import CommitGroup, CommitRequest, unpack_value
from plait.errors import (
    AlreadyExists,
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    PlaitError,
    ResourceExhausted,
    SnapshotExpired,
    StoreUnavailable,
    TransactionClosed,
)
from plait.failpoint import armed
from plait.graph import RowNodes
from plait.persist import Database, Repository, create_repository, find_repository, schema
from plait.persist.graph_rows import LogRow
from plait.ref_point import FirstCommit, RecordRequest, RefRequest
from plait.sequencer import Idempotency, Request, Sequencer
from plait.tree import Tree
from plait.types import (
    Commit,
    Conflict,
    ConflictKind,
    EventKind,
    Operation,
    Participant,
    Proposal,
    Put,
    Ref,
    RefKind,
    Session,
    SnapshotRef,
    Store,
    Tx,
    TxState,
)
from plait_conformance.samples import (
    POINTER_STORE,
    SMALL,
    commit_request,
    delete,
    pointer,
    put,
    unchanged,
)

SequencerOf = Callable[..., Sequencer]


def held(repository: Repository, commit: Commit) -> dict[str, bytes]:
    """name → ref_digest of what a commit holds, read cold."""
    with repository.read() as rows:
        tree = Tree(RowNodes(rows), salt=repository.salt, shape=SMALL)
        return {
            codec.decode_key(key)[1]: unpack_value(value)[1] for key, value in tree.scan(rows.commit(commit.id).root)
        }


def holding(**numbers: int) -> dict[str, bytes]:
    return {name: codec.ref_digest(pointer(name, number)) for name, number in numbers.items()}


def head(repository: Repository, ref: str = "main") -> Commit:
    with repository.read() as rows:
        return rows.commit(rows.ref(ref).head)


def records(repository: Repository) -> list[LogRow]:
    with repository.read() as rows:
        return rows.log(0, 10_000)


def check_chain(repository: Repository) -> None:
    """The log is gap-free, each record's hash covers the one before it, and `serial` names the last."""
    previous = bytes(32)
    found = records(repository)
    for seq, record in enumerate(found, start=1):
        assert record.seq == seq
        assert record.record_hash == codec.record_hash(
            repository=repository.uuid, previous=previous, seq=seq, kind=record.kind, payload=record.payload
        )
        previous = record.record_hash
    with repository.read() as rows:
        assert (rows.serial().seq, rows.serial().record_hash) == (len(found), previous)


def noted(note: Callable[[Batch], bytes]) -> RecordRequest:
    """A request that writes what it likes."""
    return RecordRequest(EventKind.STORE_CHANGED, note)


@contextmanager
def one_batch(sequencer: Sequencer) -> Iterator[None]:
    """What is submitted inside the block queues behind a batch that ends with the block: it becomes one batch."""
    begun, release = threading.Event(), threading.Event()

    def wait(batch: Batch) -> bytes:
        begun.set()
        assert release.wait(60)
        return b"waited"

    blocking = sequencer.submit(noted(wait))
    assert begun.wait(60)
    try:
        yield
    finally:
        release.set()
        blocking.result(60)


def outcomes(futures: Sequence[Future[Commit]]) -> list[str]:
    """How each ended: "done", or the error's code."""
    ended = []
    for future in futures:
        error = future.exception(60)
        assert error is None or isinstance(error, PlaitError), error
        ended.append("done" if error is None else error.code)
    return ended


@pytest.fixture
def batches(repository: Repository, sequencer: Sequencer) -> Iterator[list[int]]:
    """The lengths of the log after each batch that became durable."""
    seen: list[int] = []

    def count(name: str) -> None:
        if name == "sequencer.after_commit":
            seen.append(len(records(repository)))

    with armed(count):
        yield seen


class TestSerialOrder:
    def test_every_durable_change_is_one_link_of_one_chain(self, repository: Repository, sequencer: Sequencer) -> None:
        first = sequencer.do(commit_request(put("a", 1)))
        sequencer.do(RefRequest("dev", RefKind.BRANCH, None, first.id))
        sequencer.do(noted(lambda batch: b"note"))
        sequencer.do(commit_request(put("b", 1), ref="dev"))
        sequencer.do(RefRequest("dev", RefKind.BRANCH, head(repository, "dev").id, first.id))
        sequencer.do(RefRequest("dev", RefKind.BRANCH, first.id, None))
        check_chain(repository)
        assert [record.kind for record in records(repository)] == [
            "repository-created", "commit", "ref-created", "store-changed", "commit", "ref-moved", "ref-deleted"
        ]  # fmt: skip

    def test_many_threads_get_one_gap_free_order(self, repository: Repository, sequencer: Sequencer) -> None:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n: sequencer.do(commit_request(put(f"k{n}", n))), range(40)))
        assert sorted(commit.seq for commit in made) == list(range(2, 42))
        check_chain(repository)
        assert held(repository, head(repository)) == holding(**{f"k{n}": n for n in range(40)})
        by_seq = sorted(made, key=lambda commit: commit.seq)
        for earlier, later in pairwise(by_seq):
            assert later.parents == (earlier.id,)
            assert later.committed_at_us > earlier.committed_at_us

    def test_times_grow_whatever_the_clock_does(
        self, repository: Repository, sequencer: Sequencer, clock: ManualClock
    ) -> None:
        one = sequencer.do(commit_request(put("a", 1)))
        clock.advance(-3_600_000_000)
        two = sequencer.do(commit_request(put("b", 1)))
        assert two.committed_at_us > one.committed_at_us
        with repository.read() as rows:
            times = [move.moved_at_us for move in rows.moves("main", before_us=None, limit=99)]
        assert times == sorted(times, reverse=True)

    def test_a_commits_id_is_that_of_its_row(self, repository: Repository, sequencer: Sequencer) -> None:
        proposal = Proposal(
            "main", (put("a", 1),), "message", "Ada", {"run": "7"}, Session("ada", "Ada", "test", {"x": "y"})
        )
        made = sequencer.do(CommitRequest(proposal))
        assert head(repository) == made
        assert (made.author, made.message, made.properties) == ("Ada", "message", {"run": "7"})
        with repository.read() as rows:
            salt = rows.commit_salt(made.id)
        assert salt is not None
        assert made.id == codec.commit_id(
            repository=repository.uuid,
            parents=made.parents,
            root=made.root,
            tx=made.tx,
            committed_at_us=made.committed_at_us,
            text=codec.text_digest(salt, made.author, made.message, made.properties),
        )

    @pytest.mark.parametrize(
        ("author", "session", "shown"),
        [
            ("Ada", Session("p", "S"), "Ada"),
            ("", Session("p", "S"), "S"),
            ("", Session("p"), "p"),
        ],
    )
    def test_a_commit_always_has_an_author(
        self, sequencer: Sequencer, author: str, session: Session, shown: str
    ) -> None:
        made = sequencer.do(CommitRequest(Proposal("main", (put("a", 1),), author=author, session=session)))
        assert made.author == shown

    def test_a_commit_writes_its_changes(self, repository: Repository, sequencer: Sequencer) -> None:
        sequencer.do(commit_request(put("a", 1), put("b", 1)))
        made = sequencer.do(commit_request(put("a", 2, before=1), delete("b", 1), put("c", 1), unchanged("d", None)))
        with repository.read() as rows:
            changes = rows.changes_of_seqs([made.seq])[made.seq]
        digest = {name: codec.ref_digest(pointer(*name)) for name in [("a", 1), ("a", 2), ("b", 1), ("c", 1)]}
        assert [(codec.decode_key(change.key), change.before, change.after) for change in changes] == [
            (("p", "a"), digest["a", 1], digest["a", 2]),
            (("p", "b"), digest["b", 1], None),
            (("p", "c"), None, digest["c", 1]),
        ]
        assert held(repository, made) == holding(a=2, c=1)


class TestExpectations:
    def test_a_conflict_lists_every_key_and_why(self, repository: Repository, sequencer: Sequencer) -> None:
        sequencer.do(commit_request(put("a", 1), put("b", 1), put("d", 1)))
        before = records(repository)
        with pytest.raises(CommitConflict) as caught:
            sequencer.do(
                commit_request(
                    put("a", 2), put("b", 2, before=7), put("c", 2, before=1), unchanged("d", None), put("e", 1)
                )
            )
        assert {conflict.key[1]: conflict.kind for conflict in caught.value.conflicts} == {
            "a": ConflictKind.KEY_EXISTS,
            "b": ConflictKind.VALUE_DIFFERS,
            "c": ConflictKind.KEY_DOES_NOT_EXIST,
            "d": ConflictKind.KEY_EXISTS,
        }
        value_differs = caught.value.conflicts[1]
        assert value_differs.ours == {"store": "p", "asset": "b", "version": "v1"}
        assert value_differs.theirs == {"store": "p", "asset": "b", "version": "v2"}
        assert records(repository) == before

    def test_what_was_read_must_still_hold(self, repository: Repository, sequencer: Sequencer) -> None:
        sequencer.do(commit_request(put("a", 1)))
        made = sequencer.do(commit_request(put("b", 1), unchanged("a", 1), unchanged("c", None)))
        assert held(repository, made) == holding(a=1, b=1)
        with pytest.raises(CommitConflict):
            sequencer.do(commit_request(put("b", 2, before=1), unchanged("a", 2)))

    def test_an_expected_head_is_checked(self, sequencer: Sequencer) -> None:
        one = sequencer.do(commit_request(put("a", 1)))
        two = sequencer.do(CommitRequest(Proposal("main", (put("b", 1),), expected_head=one.id)))
        with pytest.raises(CommitConflict) as caught:
            sequencer.do(CommitRequest(Proposal("main", (put("c", 1),), expected_head=one.id)))
        assert caught.value.conflicts == (Conflict((), ConflictKind.UNEXPECTED_HEAD, ours=two.id, theirs=one.id),)

    def test_a_commit_that_changes_nothing_is_refused_unless_asked_for(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        one = sequencer.do(commit_request(put("a", 1)))
        for operations in ((), (put("a", 1, before=1),), (unchanged("a", 1),)):
            with pytest.raises(NothingToCommit):
                sequencer.do(commit_request(*operations))
        empty = sequencer.do(CommitRequest(Proposal("main", (), allow_empty=True)))
        merge = sequencer.do(CommitRequest(Proposal("main", (), merged_parents=(one.id,))))
        assert (empty.root, merge.root) == (one.root, one.root)
        assert merge.parents == (empty.id, one.id)

    def test_a_parent_that_does_not_exist_is_refused(self, sequencer: Sequencer) -> None:
        with pytest.raises(NotFound, match="ff" * 32):
            sequencer.do(CommitRequest(Proposal("main", (put("a", 1),), merged_parents=("ff" * 32,))))

    def test_a_content_id_stays_while_the_key_does(self, repository: Repository, sequencer: Sequencer) -> None:
        def content_id(commit: Commit, name: str) -> str:
            with repository.read() as rows:
                tree = Tree(RowNodes(rows), salt=repository.salt, shape=SMALL)
                value = tree.get(commit.root, codec.encode_key(("p", name)))
                assert value is not None
                return unpack_value(value)[0]

        one = sequencer.do(commit_request(put("a", 1), put("b", 1)))
        two = sequencer.do(commit_request(put("a", 2, before=1)))
        assert content_id(one, "a") == content_id(two, "a") != content_id(one, "b")
        renamed = sequencer.do(commit_request(delete("a", 2), replace(put("c", 2), content_id=content_id(one, "a"))))
        assert content_id(renamed, "c") == content_id(one, "a")
        sequencer.do(commit_request(delete("b", 1)))
        again = sequencer.do(commit_request(put("b", 1)))
        assert content_id(again, "b") != content_id(one, "b")


class TestSnapshots:
    MANAGED = Store("lake", "iceberg")
    SNAPSHOT = SnapshotRef("lake", "iceberg", "t", "v1", b"d")

    def test_a_managed_store_takes_only_what_a_transaction_prepared(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        with repository.write() as rows:
            rows.put_store(self.MANAGED)
        one_call = Proposal("main", (Put(("lake", "t"), self.SNAPSHOT),))
        with pytest.raises(InvalidArgument, match="no working set prepared snapshot v1"):
            sequencer.do(CommitRequest(one_call))
        begin(repository, "tx-1", Participant("tx-1", ("lake", "t"), None, attempt=1, prepared=self.SNAPSHOT))
        stale = Participant("tx-2", ("lake", "t"), None, attempt=0, prepared=self.SNAPSHOT)
        begin(repository, "tx-2", stale)
        with pytest.raises(InvalidArgument, match="no working set prepared"):
            sequencer.do(CommitRequest(replace(one_call, tx="tx-2", attempt=1)))
        sequencer.do(CommitRequest(replace(one_call, tx="tx-1", attempt=1)))
        # Once a commit of this repository holds it, one call may put it anywhere.
        sequencer.do(CommitRequest(Proposal("main", (Put(("lake", "u"), self.SNAPSHOT),))))

    def test_a_store_must_be_there(self, sequencer: Sequencer) -> None:
        with pytest.raises(NotFound, match="'lake'"):
            sequencer.do(CommitRequest(Proposal("main", (Put(("lake", "t"), self.SNAPSHOT),))))

    @pytest.mark.parametrize("state", ["condemned", "expired"])
    def test_data_that_goes_or_is_gone_is_not_committed(
        self, repository: Repository, database: Database, sequencer: Sequencer, state: str
    ) -> None:
        sequencer.do(commit_request(put("a", 1)))
        sequencer.do(commit_request(put("a", 2, before=1)))
        digest = codec.ref_digest(pointer("a", 1))
        with database.write() as connection:
            here = schema.snapshot.c.ref_digest == digest
            connection.execute(sa.update(schema.snapshot).where(here).values(state=state))
        with pytest.raises(SnapshotExpired, match=state):
            sequencer.do(commit_request(put("a", 1, before=2)))


def begin(repository: Repository, tx: str, *participants: Participant, state: TxState = TxState.SEALED) -> Tx:
    """A transaction as the coordinator leaves it for the commit point: sealed, at attempt 1, owned."""
    with repository.write() as rows:
        main = rows.ref("main")
        made = Tx(tx, state, "main", main.incarnation, main.head, Session(), 1, attempt=1, owner="server-1")
        rows.insert_txs([made])
        rows.put_participants(participants)
    return made


class TestTransactions:
    def proposal(self, name: str = "a", tx: str = "tx-1", attempt: int = 1) -> CommitRequest:
        return CommitRequest(Proposal("main", (put(name, 1),), tx=tx, attempt=attempt))

    def test_the_commit_and_the_transactions_state_are_one_step(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        sealed = begin(repository, "tx-1")
        made = sequencer.do(self.proposal())
        assert made.tx == "tx-1"
        with repository.read() as rows:
            after = rows.txs(["tx-1"])["tx-1"]
        assert after == replace(sealed, state=TxState.COMMITTED, commit=made.id, owner="")

    @pytest.mark.parametrize("state", [TxState.OPEN, TxState.ABORTING, TxState.ABORTED, TxState.COMMITTED])
    def test_only_a_sealed_transaction_commits(
        self, repository: Repository, sequencer: Sequencer, state: TxState
    ) -> None:
        begin(repository, "tx-1", state=state)
        with pytest.raises(TransactionClosed, match=state.value):
            sequencer.do(self.proposal())

    def test_only_its_last_sealing_commits(self, repository: Repository, sequencer: Sequencer) -> None:
        begin(repository, "tx-1")
        with pytest.raises(TransactionClosed, match=r"\(1\), expected sealed \(0\)"):
            sequencer.do(self.proposal(attempt=0))

    def test_an_unknown_transaction_is_not_found(self, sequencer: Sequencer) -> None:
        with pytest.raises(NotFound, match="tx-9"):
            sequencer.do(self.proposal(tx="tx-9"))

    def test_one_transaction_commits_once_even_within_one_batch(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        begin(repository, "tx-1")
        with one_batch(sequencer):
            futures = [sequencer.submit(self.proposal(name)) for name in "abc"]
        assert outcomes(futures) == ["done", "TRANSACTION_CLOSED", "TRANSACTION_CLOSED"]
        assert held(repository, head(repository)) == holding(a=1)

    def test_a_refused_commit_leaves_its_transaction_sealed(self, repository: Repository, sequencer: Sequencer) -> None:
        sealed = begin(repository, "tx-1")
        sequencer.do(commit_request(put("a", 7)))
        with pytest.raises(CommitConflict):
            sequencer.do(self.proposal())
        with repository.read() as rows:
            assert rows.txs(["tx-1"])["tx-1"] == sealed


class TestBatches:
    def test_what_queued_meanwhile_is_one_batch(
        self, repository: Repository, sequencer: Sequencer, batches: list[int]
    ) -> None:
        with one_batch(sequencer):
            futures = [sequencer.submit(commit_request(put(f"k{n}", 1))) for n in range(20)]
        assert outcomes(futures) == ["done"] * 20
        assert batches == [2, 22]
        check_chain(repository)

    def test_a_batch_has_a_limit(self, repository: Repository, sequencer: Sequencer, sequencer_of: SequencerOf) -> None:
        lengths: list[int] = []
        small = sequencer_of(repository, batch_max=4, on_durable=lambda: lengths.append(len(records(repository))))
        with one_batch(small):
            futures = [small.submit(commit_request(put(f"k{n}", 1))) for n in range(10)]
        assert outcomes(futures) == ["done"] * 10
        assert lengths == [2, 6, 10, 12]

    def test_a_raising_on_durable_stops_nothing(
        self, repository: Repository, sequencer: Sequencer, sequencer_of: SequencerOf
    ) -> None:
        def fail() -> None:
            raise RuntimeError("no")

        failing = sequencer_of(repository, on_durable=fail)
        for number in (1, 2):
            failing.do(commit_request(put(f"k{number}", 1)))
        check_chain(repository)

    def test_a_conflict_fails_its_own_proposal_only(
        self, repository: Repository, sequencer: Sequencer, batches: list[int]
    ) -> None:
        with one_batch(sequencer):
            futures = [
                sequencer.submit(commit_request(*operations))
                for operations in ([put("a", 1)], [put("a", 2)], [put("a", 3, before=1), put("b", 1)], [])
            ]
        assert outcomes(futures) == ["done", "COMMIT_CONFLICT", "done", "NOTHING_TO_COMMIT"]
        assert batches == [2, 4]
        assert held(repository, head(repository)) == holding(a=3, b=1)
        check_chain(repository)

    @pytest.mark.parametrize("place", [0, 3, 7])
    @pytest.mark.parametrize("sort", ["raises", "breaks the database"])
    def test_a_poisonous_request_fails_alone(
        self, repository: Repository, sequencer: Sequencer, place: int, sort: str
    ) -> None:
        def raises(batch: Batch) -> bytes:
            raise RuntimeError("poison")

        def breaks(batch: Batch) -> bytes:
            for _ in range(2):
                batch.rows.insert_token("same", b"digest", 1)
            return b""

        requests: list[Request[object]] = [commit_request(put(f"k{n}", 1)) for n in range(7)]
        requests.insert(place, noted(raises if sort == "raises" else breaks))
        with one_batch(sequencer):
            futures = [sequencer.submit(request) for request in requests]
        errors = [future.exception(60) for future in futures]
        assert [position for position, error in enumerate(errors) if error is not None] == [place]
        assert isinstance(errors[place], RuntimeError if sort == "raises" else sa.exc.IntegrityError)
        assert held(repository, head(repository)) == holding(**{f"k{n}": 1 for n in range(7)})
        check_chain(repository)
        assert sequencer.do(commit_request(put("later", 1))).seq == 10

    def test_a_database_that_does_not_answer_fails_the_batch_and_changes_nothing(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        before = records(repository)

        def unplug(name: str) -> None:
            if name == "sequencer.rows_written":
                raise StoreUnavailable("the database is gone")

        with armed(unplug), pytest.raises(StoreUnavailable):
            sequencer.do(commit_request(put("a", 1)))
        assert records(repository) == before
        made = sequencer.do(commit_request(put("a", 1)))
        assert held(repository, made) == holding(a=1)
        check_chain(repository)

    def test_a_batch_that_was_rolled_back_leaves_no_trace_in_later_trees(
        self, repository: Repository, sequencer: Sequencer
    ) -> None:
        for n in range(12):
            sequencer.do(commit_request(put(f"k{n:02}", 1)))

        def fail(name: str) -> None:
            if name == "sequencer.before_commit":
                raise StoreUnavailable("lost")

        with armed(fail), pytest.raises(StoreUnavailable):
            sequencer.do(commit_request(put("k05", 2, before=1)))
        made = sequencer.do(commit_request(put("k05", 2, before=1)))  # The same nodes: they must be written now.
        assert held(repository, made) == holding(**{f"k{n:02}": 2 if n == 5 else 1 for n in range(12)})


class TestQueue:
    def test_a_full_queue_refuses_and_says_when_to_come_back(
        self, repository: Repository, sequencer: Sequencer, sequencer_of: SequencerOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "QUEUE_PROPOSALS_MAX", 3)
        small = sequencer_of(repository)
        with one_batch(small):
            futures = [small.submit(commit_request(put(f"k{n}", 1))) for n in range(3)]
            with pytest.raises(ResourceExhausted, match="3 commits are waiting") as caught:
                small.submit(commit_request(put("k3", 1)))
            assert caught.value.retry_after_us > 0
        assert outcomes(futures) == ["done"] * 3
        small.do(commit_request(put("k3", 1)))

    def test_closing_finishes_what_is_queued(self, repository: Repository, sequencer: Sequencer) -> None:
        with one_batch(sequencer):
            futures = [sequencer.submit(commit_request(put(f"k{n}", 1))) for n in range(5)]
            closing = threading.Thread(target=sequencer.close)
            closing.start()
        closing.join(60)
        assert outcomes(futures) == ["done"] * 5
        sequencer.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            sequencer.submit(commit_request(put("late", 1)))

    def test_who_cancelled_in_time_commits_nothing(self, repository: Repository, sequencer: Sequencer) -> None:
        with one_batch(sequencer):
            cancelled = sequencer.submit(commit_request(put("a", 1)))
            kept = sequencer.submit(commit_request(put("b", 1)))
            assert cancelled.cancel()
        assert held(repository, kept.result(60)) == holding(b=1)
        assert not kept.cancel()
        sequencer.do(commit_request(put("c", 1)))


def once(key: str, digest: bytes = b"request", principal: str = "ada") -> Idempotency:
    return Idempotency(principal, "commit", key, digest)


class TestIdempotency:
    def test_the_same_key_has_the_same_result(self, repository: Repository, sequencer: Sequencer) -> None:
        request = commit_request(put("a", 1))
        made = sequencer.do(request, once("k"))
        sequencer.do(commit_request(put("a", 2, before=1)))
        assert sequencer.do(request, once("k")) == made
        assert len(records(repository)) == 3

    def test_it_holds_within_one_batch(self, repository: Repository, sequencer: Sequencer) -> None:
        with one_batch(sequencer):
            futures = [sequencer.submit(commit_request(put("a", 1)), once("k")) for _ in range(3)]
            futures.append(sequencer.submit(commit_request(put("b", 1)), once("other")))
        results = [future.result(60) for future in futures]
        assert results[0] == results[1] == results[2] != results[3]
        check_chain(repository)
        assert held(repository, head(repository)) == holding(a=1, b=1)

    def test_another_request_under_the_same_key_is_refused(self, sequencer: Sequencer) -> None:
        sequencer.do(commit_request(put("a", 1)), once("k"))
        with pytest.raises(InvalidArgument, match="'k' was used for another request"):
            sequencer.do(commit_request(put("b", 1)), once("k", b"another"))

    def test_keys_belong_to_their_principal(self, sequencer: Sequencer) -> None:
        one = sequencer.do(commit_request(put("a", 1)), once("k"))
        other = sequencer.do(commit_request(put("b", 1)), once("k", b"another", "bob"))
        assert one.id != other.id

    def test_only_successes_are_kept(self, sequencer: Sequencer) -> None:
        request = commit_request(put("a", 2, before=1))
        with pytest.raises(CommitConflict):
            sequencer.do(request, once("k"))
        sequencer.do(commit_request(put("a", 1)))
        assert sequencer.do(request, once("k")).seq == 3

    def test_an_answer_that_was_lost_is_found_again(self, repository: Repository, sequencer: Sequencer) -> None:
        def lose(name: str) -> None:
            if name == "persist.after_commit":
                raise StoreUnavailable("the line went dead after the commit")

        with armed(lose), pytest.raises(StoreUnavailable):
            sequencer.do(commit_request(put("a", 1)), once("k"))
        assert sequencer.do(commit_request(put("a", 1)), once("k")) == head(repository)
        assert len(records(repository)) == 2

    def test_a_request_that_changed_nothing_is_kept_too(self, repository: Repository, sequencer: Sequencer) -> None:
        main = head(repository)
        stay = RefRequest("main", RefKind.BRANCH, main.id, main.id)
        found = sequencer.do(stay, once("k"))
        sequencer.do(commit_request(put("a", 1)))
        assert sequencer.do(stay, once("k")) == found
        with pytest.raises(InvalidArgument, match="another request"):
            sequencer.do(stay, once("k", b"another"))

    def test_groups_refs_and_records_are_recalled(self, repository: Repository, sequencer: Sequencer) -> None:
        group = CommitGroup([commit_request(put(name, 1)) for name in "ab"])
        made = sequencer.do(group, once("group"))
        assert sequencer.do(group, once("group")) == made
        tag = RefRequest("v1", RefKind.TAG, None, made[0].id, protect=True)
        assert sequencer.do(tag, once("tag")) == sequencer.do(tag, once("tag"))
        note = noted(lambda batch: b"x")
        assert sequencer.do(note, once("note")) == sequencer.do(note, once("note")) == 5
        assert len(records(repository)) == 5


class TestGroups:
    def test_a_group_is_whole(self, repository: Repository, sequencer: Sequencer) -> None:
        made = sequencer.do(CommitGroup([commit_request(put("a", 1)), commit_request(put("a", 2, before=1))]))
        assert made[1].parents == (made[0].id,)
        assert held(repository, made[1]) == holding(a=2)
        check_chain(repository)

    def test_or_absent(self, repository: Repository, sequencer: Sequencer) -> None:
        sealed = begin(repository, "tx-1")
        group = CommitGroup(
            [
                CommitRequest(Proposal("main", (put("a", 1),), tx="tx-1", attempt=1)),
                commit_request(put("b", 1)),
                commit_request(put("a", 5)),
            ]
        )
        with one_batch(sequencer):
            before = sequencer.submit(commit_request(put("x", 1)))
            whole = sequencer.submit(group)
            # Between the group's failure and this one, the batch must be as if the group had never been.
            after = sequencer.submit(commit_request(put("b", 2), put("a", 2)))
        assert isinstance(whole.exception(60), CommitConflict)
        assert after.result(60).parents == (before.result(60).id,)
        assert held(repository, head(repository)) == holding(x=1, a=2, b=2)
        check_chain(repository)
        with repository.read() as rows:
            assert rows.txs(["tx-1"])["tx-1"] == sealed
            assert rows.snapshots([codec.ref_digest(pointer("a", 1))]) == {}


class TestRefs:
    @pytest.fixture
    def commits(self, sequencer: Sequencer) -> list[Commit]:
        return [sequencer.do(commit_request(put(name, 1))) for name in "ab"]

    def test_a_branch_is_made_moved_and_deleted(
        self, repository: Repository, sequencer: Sequencer, commits: list[Commit]
    ) -> None:
        one, two = commits
        made = sequencer.do(RefRequest("dev", RefKind.BRANCH, None, one.id))
        assert made == Ref("dev", RefKind.BRANCH, one.id, incarnation=4)
        moved = sequencer.do(RefRequest("dev", RefKind.BRANCH, one.id, two.id))
        assert moved == replace(made, head=two.id)
        with repository.read() as rows:
            assert rows.ref("dev") == moved
        assert sequencer.do(RefRequest("dev", RefKind.BRANCH, two.id, None)) == moved
        with repository.read() as rows:
            assert rows.refs_named(["dev"]) == {}
            assert [(move.before, move.after) for move in rows.moves("dev", before_us=None, limit=99)] == [
                (two.id, None), (one.id, two.id), (None, one.id)
            ]  # fmt: skip

    def test_a_ref_made_anew_is_another_one(
        self, repository: Repository, sequencer: Sequencer, commits: list[Commit]
    ) -> None:
        one, two = commits
        first = sequencer.do(RefRequest("dev", RefKind.BRANCH, None, one.id))
        with one_batch(sequencer):
            futures = [
                sequencer.submit(RefRequest("dev", RefKind.BRANCH, one.id, None)),
                sequencer.submit(RefRequest("dev", RefKind.BRANCH, None, two.id)),
            ]
            stale = sequencer.submit(CommitRequest(Proposal("dev", (put("c", 1),), incarnation=first.incarnation)))
            fresh = sequencer.submit(commit_request(put("c", 1), ref="dev"))
        again = futures[1].result(60)
        assert again.incarnation > first.incarnation
        assert isinstance(stale.exception(60), NotFound)
        assert fresh.result(60).parents == (two.id,)
        with repository.read() as rows:
            assert rows.ref("dev") == replace(again, head=fresh.result().id)
        check_chain(repository)

    def test_a_name_is_given_once(self, sequencer: Sequencer, commits: list[Commit]) -> None:
        sequencer.do(RefRequest("v1", RefKind.TAG, None, commits[0].id))
        for kind in RefKind:
            with pytest.raises(AlreadyExists, match="tag 'v1' exists already"):
                sequencer.do(RefRequest("v1", kind, None, commits[1].id))

    def test_tags_never_move(self, sequencer: Sequencer, commits: list[Commit]) -> None:
        one, two = commits
        sequencer.do(RefRequest("v1", RefKind.TAG, None, one.id))
        with pytest.raises(InvalidArgument, match="tags never move"):
            sequencer.do(RefRequest("v1", RefKind.TAG, one.id, two.id))
        with pytest.raises(InvalidArgument, match="tags never move"):
            sequencer.do(commit_request(put("c", 1), ref="v1"))
        sequencer.do(RefRequest("v1", RefKind.TAG, one.id, None))

    def test_a_protected_ref_takes_commits_only(self, sequencer: Sequencer, commits: list[Commit]) -> None:
        one, two = commits
        protect = RefRequest("main", RefKind.BRANCH, two.id, two.id, protect=True)
        assert sequencer.do(protect).protected
        for after in (one.id, None):
            with pytest.raises(InvalidArgument, match="protected"):
                sequencer.do(RefRequest("main", RefKind.BRANCH, two.id, after))
        three = sequencer.do(commit_request(put("c", 1)))
        free = sequencer.do(RefRequest("main", RefKind.BRANCH, three.id, one.id, protect=False))
        assert (free.head, free.protected) == (one.id, False)

    @pytest.mark.parametrize(
        ("request_of", "error"),
        [
            (lambda one, two: RefRequest("none", RefKind.BRANCH, one, two), NotFound),
            (lambda one, two: RefRequest("main", RefKind.TAG, two, one), InvalidArgument),
            (lambda one, two: RefRequest("main", RefKind.BRANCH, one, two), CommitConflict),
            (lambda one, two: RefRequest("main", RefKind.BRANCH, two, "ff" * 32), NotFound),
            (lambda one, two: RefRequest("new", RefKind.BRANCH, None, "ff" * 32), NotFound),
        ],
        ids=["missing", "kind", "stale", "move to nowhere", "create at nowhere"],
    )
    def test_what_does_not_fit_is_refused(
        self,
        repository: Repository,
        sequencer: Sequencer,
        commits: list[Commit],
        request_of: Callable[[str, str], RefRequest],
        error: type[PlaitError],
    ) -> None:
        before = records(repository)
        with pytest.raises(error):
            sequencer.do(request_of(commits[0].id, commits[1].id))
        assert records(repository) == before

    def test_a_move_to_where_it_is_writes_nothing(
        self, repository: Repository, sequencer: Sequencer, commits: list[Commit]
    ) -> None:
        before = records(repository)
        sequencer.do(RefRequest("main", RefKind.BRANCH, commits[1].id, commits[1].id))
        assert records(repository) == before

    def test_a_commit_on_a_ref_that_is_not_there_is_refused(self, sequencer: Sequencer) -> None:
        with pytest.raises(NotFound, match="'none'"):
            sequencer.do(commit_request(put("a", 1), ref="none"))


@dataclass
class Server:
    """Another process, as far as the database can tell: its own pool, clock and sequencer."""

    url: str
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.database = Database(self.url)
        self.repository = find_repository(self.database, "r")
        self.sequencer = Sequencer(self.repository, self.clock, shape=SMALL)

    def close(self) -> None:
        self.sequencer.close()
        self.database.close()


class TestTwoServers:
    @pytest.fixture
    def servers(self, database_url: str, clock: ManualClock) -> Iterator[list[Server]]:
        database = Database(database_url)
        database.create_schema()
        repository = create_repository(database, "r", clock)
        with repository.write() as rows:
            rows.put_store(POINTER_STORE)
        first = Sequencer(repository, clock, shape=SMALL)
        first.do(FirstCommit("main", "Ada"))
        first.close()
        database.close()
        running = [Server(database_url) for _ in range(2)]
        # Ids come from each server's clock: two that began alike would give the same ones.
        running[1].clock.advance(5_000_000)
        yield running
        for server in running:
            server.close()

    def test_their_batches_interleave_in_one_order(self, servers: list[Server]) -> None:
        def write(number: int) -> Commit:
            server = servers[number % 2]
            return server.sequencer.do(commit_request(put(f"k{number:02}", number)))

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(write, range(40)))
        assert sorted(commit.seq for commit in made) == list(range(2, 42))
        for server in servers:
            check_chain(server.repository)
            assert held(server.repository, head(server.repository)) == holding(**{f"k{n:02}": n for n in range(40)})

    def test_of_two_who_expect_the_same_one_wins(self, servers: list[Server]) -> None:
        together = threading.Barrier(2)

        def write(server: Server) -> str:
            together.wait()
            number = 1 + servers.index(server)
            return outcomes([server.sequencer.submit(commit_request(put("same", number)))])[0]

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(write, servers)) == ["COMMIT_CONFLICT", "done"]
        check_chain(servers[0].repository)

    def test_an_answer_is_found_by_the_other_server(self, servers: list[Server]) -> None:
        request = commit_request(put("a", 1))
        made = servers[0].sequencer.do(request, once("k"))
        assert servers[1].sequencer.do(request, once("k")) == made


def test_repositories_in_one_database_have_their_own_order(
    database: Database, repository: Repository, sequencer: Sequencer, sequencer_of: SequencerOf, clock: ManualClock
) -> None:
    other = create_repository(database, "s", clock)
    with other.write() as rows:
        rows.put_store(POINTER_STORE)
    beside = sequencer_of(other)
    beside.do(FirstCommit("main", "Bob"))
    operations: Sequence[Operation] = [put("a", 1)]
    one = sequencer.do(commit_request(*operations), once("k"))
    two = beside.do(commit_request(*operations), once("k"))
    assert (one.seq, two.seq) == (2, 2)
    assert one.id != two.id
    check_chain(repository)
    check_chain(other)
