"""Points, ancestry, merge bases, logs and histories, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.clock import ManualClock
from plait.codec import ref_digest
from plait.commit_point import CommitRequest
from plait.errors import Corrupt, InvalidArgument, NotFound
from plait.graph import (
    LogFilter,
    RowNodes,
    ancestors,
    history,
    is_ancestor,
    load_snapshots,
    log,
    merge_base,
    resolve,
)
from plait.persist import Repository, Rows
from plait.ref_point import RefRequest
from plait.refspec import format_time
from plait.sequencer import Sequencer
from plait.tree import Tree
from plait.types import Commit, Operation, Proposal, RefKind, Session
from plait_conformance.samples import delete, pointer, put

SPECS = [
    ("main", "merge"),
    ("dev", "side"),
    ("v1", "one"),
    ("main~0", "merge"),
    ("main^0", "merge"),
    ("main~", "two"),
    ("main~1", "two"),
    ("main~2", "one"),
    ("main~3", "first"),
    ("main^", "two"),
    ("main^2", "side"),
    ("main^2~", "one"),
    ("main~2^", "first"),
    ("v1~", "first"),
    ("@{merge}", "merge"),
    ("@{side}~1", "one"),
    ("@{short side}", "side"),
    ("main@{side}", "side"),
    ("main@{two}", "two"),
    ("dev@{one}", "one"),
    ("{merge}", "merge"),
    ("{short side}", "side"),
    ("{short side}~1", "one"),
    ("{merge}^2", "side"),
]
"""Forms of a point in `TestResolve`'s history, with the commit that each means."""

REFUSED: list[tuple[str, type[Exception], str]] = [
    ("none", NotFound, "'none' does not exist"),
    ("main~4", NotFound, "only 3 first parents before it, not 4"),
    ("main^3", NotFound, "2 parents, not 3"),
    ("main~3^", NotFound, "0 parents, not 1"),
    ("main~1^2", NotFound, "1 parent, not 2"),
    ("@ffffffff", NotFound, "no commit id begins with ffffffff"),
    ("dev@{two}", NotFound, "not in the history of 'dev'"),
    ("none@{two}", NotFound, "'none' does not exist"),
    ("none*2026-11-01", NotFound, "'none' does not exist"),
    ("main*1999-01-01", NotFound, "did not exist at 1999-01-01T00:00:00Z"),
    ("ffffffff", NotFound, "neither a ref is named 'ffffffff', nor does a commit's id begin so"),
    ("fffffff", NotFound, "ref 'fffffff' does not exist"),
    ("FFFFFFFF", NotFound, "ref 'FFFFFFFF' does not exist"),
    ("ffffffff*2026-11-01", NotFound, "'ffffffff' does not exist"),
    ("main~x", InvalidArgument, "no point in the history"),
]

FILTERS: list[tuple[LogFilter, list[int]]] = [
    (LogFilter(), [2, 1, 0]),
    (LogFilter(author="ada"), [2, 0]),
    (LogFilter(message="LOAD"), [1, 0]),
    (LogFilter(principal="ada"), [2, 0]),
    (LogFilter(principal="ad"), []),
    (LogFilter(client="spark"), [2, 0]),
    (LogFilter(client="flink"), []),
    (LogFilter(properties={"run": "7"}), [1]),
    (LogFilter(properties={"job": "nightly"}), [0]),
    (LogFilter(properties={"job": "manual"}), [2]),
    (LogFilter(key=("p", "a")), [2, 0]),
    (LogFilter(key=("p",)), [2, 1, 0]),
    (LogFilter(key=("p", "")), []),
    (LogFilter(key=("q",)), []),
    (LogFilter(author="ada", message="load"), [0]),
]
"""Filters over the commits of `TestLog`, with the places of those that pass, newest first."""


class History:
    """Makes commits and refs as tests need them, and reads."""

    def __init__(self, repository: Repository, sequencer: Sequencer) -> None:
        self.repository, self._sequencer = repository, sequencer
        with self.read() as rows:
            self.first = rows.commit(rows.ref("main").head)

    def read(self) -> AbstractContextManager[Rows]:
        return self.repository.read()

    def tree(self, rows: Rows) -> Tree:
        return Tree(RowNodes(rows), salt=self.repository.salt)

    def commit(
        self, *operations: Operation, ref: str = "main", merged: tuple[Commit, ...] = (), **text: object
    ) -> Commit:
        """A commit, empty unless it is given operations."""
        parents = tuple(commit.id for commit in merged)
        proposal = Proposal(ref, operations, merged_parents=parents, allow_empty=True, **text)  # type: ignore[arg-type]
        return self._sequencer.do(CommitRequest(proposal))

    def branch(self, name: str, at: Commit, kind: RefKind = RefKind.BRANCH) -> None:
        self._sequencer.do(RefRequest(name, kind, None, at.id))

    def move(self, name: str, before: Commit, after: Commit | None) -> None:
        self._sequencer.do(RefRequest(name, RefKind.BRANCH, before.id, None if after is None else after.id))


@pytest.fixture
def made(repository: Repository, sequencer: Sequencer) -> History:
    return History(repository, sequencer)


class TestResolve:
    @pytest.fixture
    def named(self, made: History) -> dict[str, Commit]:
        """first ── one ── two ── merge (main), with side ── merge; tag v1 at one."""
        one = made.commit(put("a", 1))
        made.branch("dev", one)
        made.branch("v1", one, RefKind.TAG)
        side = made.commit(put("b", 1), ref="dev")
        two = made.commit(put("a", 2, before=1))
        merge = made.commit(put("b", 1), merged=(side,))
        return {"first": made.first, "one": one, "two": two, "side": side, "merge": merge}

    def test_every_form_means_its_commit(self, made: History, named: dict[str, Commit]) -> None:
        ids = {known: commit.id for known, commit in named.items()}
        ids |= {f"short {known}": commit_id[:12] for known, commit_id in ids.items()}
        with made.read() as rows:
            found = {spec: resolve(rows, spec.format(**ids)) for spec, _ in SPECS}
        assert found == {spec: named[name] for spec, name in SPECS}

    def test_a_ref_wins_over_the_commit_whose_id_begins_so(self, made: History, named: dict[str, Commit]) -> None:
        digits = named["one"].id[:8]
        with made.read() as rows:
            assert resolve(rows, digits) == named["one"]
        made.branch(digits, named["two"])
        with made.read() as rows:
            assert resolve(rows, digits) == named["two"]
            assert resolve(rows, f"@{digits}") == named["one"]

    def test_digits_that_several_ids_begin_with_are_refused(self, made: History) -> None:
        alike = [replace(made.first, id=f"{number:064x}", seq=10 + number) for number in (0xAB, 0xAC)]
        with made.repository.write() as rows:
            rows.insert_commits([(commit, b"") for commit in alike])
        with made.read() as rows:
            with pytest.raises(InvalidArgument, match=f"several commit ids begin with {alike[0].id[:63]}"):
                resolve(rows, alike[0].id[:63])
            assert resolve(rows, alike[0].id) == alike[0]

    def test_what_means_nothing_says_why(self, made: History, named: dict[str, Commit]) -> None:
        ids = {known: commit.id for known, commit in named.items()}
        for spec, error, reason in REFUSED:
            with made.read() as rows, pytest.raises(error, match=reason):
                resolve(rows, spec.format(**ids))

    def test_many_first_parents_are_walked_in_pages(self, made: History) -> None:
        chain = [made.first, *(made.commit() for _ in range(34))]
        with made.read() as rows:
            for back in (1, 15, 16, 17, 34):
                assert resolve(rows, f"main~{back}") == chain[-1 - back]


class TestTimeTravel:
    def test_a_time_means_where_the_ref_stood_then(self, made: History, clock: ManualClock) -> None:
        """By when the *ref* moved: a fast-forward brings commits that are older than the move."""
        one = made.commit(put("a", 1))
        made.branch("release", made.first)
        clock.advance(3_600_000_000)
        quiet = clock.now_us()
        clock.advance(3_600_000_000)
        made.move("release", made.first, one)
        with made.read() as rows:
            assert resolve(rows, f"release*{format_time(quiet)}") == made.first
            assert resolve(rows, f"main*{format_time(quiet)}") == one
            assert resolve(rows, f"release*{format_time(clock.now_us())}") == one
            assert resolve(rows, f"main*{format_time(quiet)}~1") == made.first

    def test_it_is_exact_to_the_microsecond_and_follows_resets(self, made: History) -> None:
        one = made.commit(put("a", 1))
        two = made.commit(put("a", 2, before=1))
        made.move("main", two, one)
        with made.read() as rows:
            reset, second, first, created = rows.moves("main", before_us=None, limit=9)
            for move, commit in ((reset, one), (second, two), (first, one), (created, made.first)):
                assert resolve(rows, f"main*{format_time(move.moved_at_us)}") == commit
            assert resolve(rows, f"main*{format_time(reset.moved_at_us - 1)}") == two

    def test_a_deleted_ref_is_seen_where_it_was(self, made: History, clock: ManualClock) -> None:
        one = made.commit(put("a", 1))
        made.branch("dev", one)
        alive = clock.now_us()
        made.move("dev", one, None)
        with made.read() as rows:
            assert resolve(rows, f"dev*{format_time(alive)}") == one
            with pytest.raises(NotFound):
                resolve(rows, f"dev*{format_time(clock.now_us())}")
        made.branch("dev", made.first)
        with made.read() as rows:
            gone = rows.moves("dev", before_us=None, limit=2)[1].moved_at_us
            assert resolve(rows, "dev") == made.first
            with pytest.raises(NotFound, match="did not exist at"):
                resolve(rows, f"dev*{format_time(gone)}")


class TestAncestry:
    def test_a_fork(self, made: History) -> None:
        one = made.commit()
        made.branch("dev", one)
        ours, theirs = made.commit(), made.commit(ref="dev")
        with made.read() as rows:
            assert merge_base(rows, ours, theirs) == one
            assert merge_base(rows, theirs, ours) == one
            assert merge_base(rows, ours, one) == one
            assert merge_base(rows, ours, ours) == ours
            assert is_ancestor(rows, one, ours)
            assert is_ancestor(rows, ours, ours)
            assert not is_ancestor(rows, ours, one)
            assert not is_ancestor(rows, ours, theirs)
            assert not is_ancestor(rows, theirs, ours)

    def test_after_a_merge_the_base_is_what_was_merged(self, made: History) -> None:
        made.branch("dev", made.first)
        side = made.commit(ref="dev")
        made.commit()
        merge = made.commit(merged=(side,))
        later = made.commit(ref="dev")
        with made.read() as rows:
            assert merge_base(rows, merge, later) == side

    def test_a_criss_cross_has_one_answer_from_both_sides(self, made: History) -> None:
        made.branch("dev", made.first)
        left, right = made.commit(), made.commit(ref="dev")
        on_main = made.commit(merged=(right,))
        on_dev = made.commit(ref="dev", merged=(left,))
        with made.read() as rows:
            found = merge_base(rows, on_main, on_dev)
            assert found == merge_base(rows, on_dev, on_main) == right  # The newer of the two best ones.

    def test_ancestors_come_newest_first_and_once(self, made: History) -> None:
        made.branch("dev", made.first)
        one, side = made.commit(), made.commit(ref="dev")
        merge = made.commit(merged=(side,))
        made.commit(ref="dev")  # Reached by nobody below.
        with made.read() as rows:
            assert [found for _, found, _ in ancestors(rows, [merge])] == [merge.id, side.id, one.id, made.first.id]
            only_first = [found for _, found, _ in ancestors(rows, [merge], first_parent=True)]
            assert only_first == [merge.id, one.id, made.first.id]
            assert [found for _, found, _ in ancestors(rows, [one, side, one])] == [side.id, one.id, made.first.id]
            assert list(ancestors(rows, [])) == []

    def test_a_missing_parent_is_named(self, made: History) -> None:
        lost = Commit("aa" * 32, ("bb" * 32,), bytes(32), "", "", 0, {}, "tx", Session(), 1_000)
        with made.repository.write() as rows:
            rows.insert_commits([(lost, b"")])
        with made.read() as rows, pytest.raises(Corrupt, match="bb" * 32):
            list(ancestors(rows, [lost]))

    @given(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12),
        st.integers(0, 2),
        st.integers(0, 2),
    )
    def test_any_graph_agrees_with_sets(self, steps: list[tuple[int, int]], left: int, right: int) -> None:
        """Commits on three branches, each merging another branch's head or (the same branch) nothing."""
        graph = MemoryGraph()
        for onto, merging in steps:
            graph.grow(onto, merging)
        ours, theirs = graph.heads[left], graph.heads[right]
        rows: Rows = graph  # type: ignore[assignment]
        common = graph.reached(ours) & graph.reached(theirs)
        base = merge_base(rows, ours, theirs)
        assert base is not None
        assert base.seq == max(common)
        assert not any(base.seq in graph.reached(graph.all[seq]) for seq in common if seq != base.seq)
        assert is_ancestor(rows, ours, theirs) == (ours.seq in graph.reached(theirs))
        assert {seq for seq, _, _ in ancestors(rows, [ours, theirs])} == graph.reached(ours) | graph.reached(theirs)


class MemoryGraph:
    """The calls that walks need, over commits in memory: a graph too small for a database."""

    def __init__(self) -> None:
        self.all: dict[int, Commit] = {}
        first = self._add(())
        self.heads = [first, first, first]

    def _add(self, parents: tuple[str, ...]) -> Commit:
        seq = len(self.all) + 1
        made = Commit(f"{seq:064x}", parents, bytes(32), "", "", seq, {}, "", Session(), seq)
        self.all[seq] = made
        return made

    def grow(self, onto: int, merging: int) -> None:
        parents = dict.fromkeys((self.heads[onto].id, self.heads[merging].id))
        self.heads[onto] = self._add(tuple(parents))

    def reached(self, commit: Commit) -> set[int]:
        found: set[int] = set()
        pending = [commit.seq]
        while pending:
            seq = pending.pop()
            if seq not in found:
                found.add(seq)
                pending += [int(parent, 16) for parent in self.all[seq].parents]
        return found

    def commits(self, ids: Iterable[str]) -> dict[str, Commit]:
        return {one: self.all[int(one, 16)] for one in ids}

    def links(self, seq_max: int, limit: int) -> list[tuple[int, str, tuple[str, ...]]]:
        page = [commit for seq, commit in sorted(self.all.items(), reverse=True) if seq <= seq_max][:limit]
        return [(commit.seq, commit.id, commit.parents) for commit in page]


class TestLog:
    @pytest.fixture
    def commits(self, made: History) -> list[Commit]:
        ada = Session("ada", client="Spark/worker-7", properties={"job": "nightly"})
        one = made.commit(put("a", 1), message="Load A", author="Ada", session=ada)
        two = made.commit(put("b", 1), message="load b", author="Bob", properties={"run": "7"})
        three = made.commit(
            put("a", 2, before=1), message="other", author="Ada", properties={"job": "manual"}, session=ada
        )
        return [one, two, three]

    def test_filters(self, made: History, commits: list[Commit]) -> None:
        for wanted, places in FILTERS:
            with made.read() as rows:
                found = list(log(rows, made.tree(rows), commits[-1], wanted))
            assert [commit for commit in found if commit != made.first] == [commits[place] for place in places], wanted

    def test_times_are_from_included_to_excluded(self, made: History, commits: list[Commit]) -> None:
        wanted = LogFilter(since_us=commits[1].committed_at_us, until_us=commits[2].committed_at_us)
        with made.read() as rows:
            assert list(log(rows, made.tree(rows), commits[-1], wanted)) == [commits[1]]
        with pytest.raises(InvalidArgument):
            LogFilter(since_us=2, until_us=1)

    def test_a_log_begins_at_its_head_and_may_keep_to_first_parents(self, made: History) -> None:
        made.branch("dev", made.first)
        side, one = made.commit(ref="dev"), made.commit()
        merge = made.commit(merged=(side,))
        later = made.commit()
        with made.read() as rows:
            assert list(log(rows, made.tree(rows), merge, LogFilter())) == [merge, one, side, made.first]
            assert list(log(rows, made.tree(rows), merge, LogFilter(first_parent=True))) == [merge, one, made.first]
            assert next(log(rows, made.tree(rows), later, LogFilter())) == later

    def test_a_long_log_comes_in_pages_without_gaps(self, made: History) -> None:
        chain = [made.first, *(made.commit() for _ in range(20))]
        with made.read() as rows:
            assert list(log(rows, made.tree(rows), chain[-1], LogFilter())) == chain[::-1]


class TestHistoryOfAKey:
    def test_only_its_own_changes_and_only_those_that_are_reached(self, made: History) -> None:
        one = made.commit(put("a", 1), put("ab", 1))
        made.branch("dev", one)
        made.commit(put("ab", 2, before=1))
        elsewhere = made.commit(put("a", 9, before=1), ref="dev")
        two = made.commit(delete("a", 1))
        three = made.commit(put("a", 3))
        digest = {number: ref_digest(pointer("a", number)) for number in (1, 3, 9)}
        with made.read() as rows:
            found = [(commit, row.before, row.after) for commit, row in history(rows, three, ("p", "a"))]
            assert found == [(three, None, digest[3]), (two, digest[1], None), (one, None, digest[1])]
            on_dev = [commit for commit, _ in history(rows, elsewhere, ("p", "a"))]
            assert on_dev == [elsewhere, one]
            assert list(history(rows, three, ("p", "none"))) == []
            assert list(history(rows, made.first, ("p", "a"))) == []

    def test_more_changes_than_a_page_holds(self, made: History) -> None:
        chain = [made.commit(put("a", 1))]
        chain += [made.commit(put("a", number, before=number - 1)) for number in range(2, 20)]
        with made.read() as rows:
            assert [commit for commit, _ in history(rows, chain[-1], ("p", "a"))] == chain[::-1]

    def test_changes_of_other_branches_between_do_not_end_it(self, made: History) -> None:
        one = made.commit(put("a", 1))
        made.branch("dev", one)
        for number in range(2, 20):
            made.commit(put("a", number, before=number - 1), ref="dev")
        two = made.commit(put("a", 99, before=1))
        with made.read() as rows:
            assert [commit for commit, _ in history(rows, two, ("p", "a"))] == [two, one]


def test_snapshots_are_loaded_by_digest_and_a_missing_one_is_named(made: History) -> None:
    made.commit(put("a", 1), put("b", 1))
    one, other = (ref_digest(pointer(name, 1)) for name in "ab")
    with made.read() as rows:
        assert load_snapshots(rows, [one, other, one]) == {one: pointer("a", 1), other: pointer("b", 1)}
        with pytest.raises(Corrupt, match="77" * 32):
            load_snapshots(rows, [bytes([0x77]) * 32])
