"""Events: plugins see every one once and in order, watchers follow the log, and no commit waits for either."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import plait
import pytest
from plait.catalog import Catalog
from plait.errors import InvalidArgument, StoreUnavailable
from plait.events import Outbox
from plait.hookspecs import hookimpl
from plait.plugins import Plugins
from plait.types import Event, EventKind, Mode, Proposal
from plait_conformance.samples import put

SECONDS = 60.0
"""How long a test waits for another thread before it fails."""


class Recorder:
    """A plugin that keeps what it is told, and first does what the test wants."""

    def __init__(self, first: Callable[[Event], None] = lambda event: None, name: str = "recorder") -> None:
        self.__name__ = name
        self.seqs: list[int] = []
        self._first = first

    @hookimpl
    def plait_on_event(self, event: Event) -> None:
        self._first(event)
        self.seqs.append(event.seq)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with plait.init(tmp_path) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
    return tmp_path


def open_with(folder: Path, *plugins: object) -> Catalog:
    return plait.open(folder, plugins=Plugins(plugins, installed=False))


def commit(catalog: Catalog, number: int) -> int:
    return catalog.commit(Proposal("main", (put(f"a{number}", 1),))).seq


def after(catalog: Catalog, seq: int) -> list[int]:
    return [event.seq for event in catalog.events(seq)]


@pytest.mark.parametrize(("after_seq", "limit"), [(0, -1), (0, 2**63), (2**63, 1), (-(2**70), 1)])
def test_what_no_database_counts_to_is_refused(folder: Path, after_seq: int, limit: int) -> None:
    with open_with(folder) as catalog, pytest.raises(InvalidArgument, match="cannot be read"):
        catalog.events(after_seq, limit)


class TestHooks:
    def test_a_plugin_sees_each_change_once_and_in_order(self, folder: Path) -> None:
        recorder = Recorder()
        with open_with(folder, recorder) as catalog:
            before = catalog.events()[-1].seq
            commit(catalog, 1)
            catalog.create_branch("dev")
            catalog.create_tag("v1")
            catalog.delete_ref("v1")
            catalog.begin().discard()
            commit(catalog, 2)
            expected = after(catalog, before)
        assert len(expected) == 6
        assert recorder.seqs == expected

    def test_what_was_there_before_is_not_told_again(self, folder: Path) -> None:
        recorder = Recorder()
        with open_with(folder, recorder):
            pass
        assert recorder.seqs == []

    def test_what_another_process_commits_is_told(self, folder: Path) -> None:
        seen = threading.Event()
        recorder = Recorder(lambda event: seen.set())
        with open_with(folder, recorder), open_with(folder) as other:
            made = commit(other, 1)
            assert seen.wait(SECONDS)
        assert recorder.seqs == [made]

    def test_what_this_process_commits_is_told_without_polling(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("plait.events._POLL_SECONDS", 3600.0)
        seen = threading.Event()
        with open_with(folder, Recorder(lambda event: seen.set())) as catalog:
            commit(catalog, 1)
            assert seen.wait(SECONDS)

    def test_a_commit_does_not_wait_for_a_hook(self, folder: Path) -> None:
        entered, leave = threading.Event(), threading.Event()

        def hold(event: Event) -> None:
            entered.set()
            assert leave.wait(SECONDS)

        recorder = Recorder(hold)
        with open_with(folder, recorder) as catalog:
            made = [commit(catalog, 1)]
            assert entered.wait(SECONDS)
            made.append(commit(catalog, 2))
            assert recorder.seqs == []
            leave.set()
        assert recorder.seqs == made

    def test_a_hook_that_raises_is_logged_with_the_seq_and_stops_nothing(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(event: Event) -> None:
            if event.kind is EventKind.COMMIT:
                raise ValueError("no orders on Sundays")

        failing, other = Recorder(fail, "failing"), Recorder()
        with caplog.at_level(logging.ERROR, "plait.events"), open_with(folder, failing, other) as catalog:
            first, second = commit(catalog, 1), commit(catalog, 2)
            catalog.create_branch("dev")
            branch = after(catalog, second)[0]
        assert other.seqs == [first, second, branch]
        assert failing.seqs == [branch]
        assert [record.getMessage() for record in caplog.records] == [
            f"plugin 'failing' failed at event {seq} (commit): no orders on Sundays" for seq in (first, second)
        ]

    def test_a_database_that_fails_meanwhile_loses_and_repeats_nothing(
        self, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("plait.events._RETRY_SECONDS", 0.01)
        read, failures = Outbox.read, [StoreUnavailable("the database is away")]

        def fail(outbox: Outbox, after_seq: int, limit: int) -> Sequence[Event]:
            if after_seq == made[0] and failures:
                raise failures.pop()
            return read(outbox, after_seq, limit)

        monkeypatch.setattr(Outbox, "read", fail)
        seen = threading.Event()
        recorder = Recorder(lambda event: seen.set())
        made: list[int] = [0]
        with caplog.at_level(logging.ERROR, "plait.events"), open_with(folder, recorder) as catalog:
            made[0] = commit(catalog, 1)
            assert seen.wait(SECONDS)
            made.append(commit(catalog, 2))
        assert recorder.seqs == made
        assert "cannot be read now: the database is away" in caplog.text

    def test_a_hook_may_commit(self, folder: Path) -> None:
        class Follower:
            @hookimpl
            def plait_on_event(self, event: Event, catalog: Catalog) -> None:
                if event.commit is not None and event.commit.message == "":
                    catalog.commit(Proposal("main", (put("followed", 1),), message="followed"))
                    done.set()

        done = threading.Event()
        with open_with(folder, Follower()) as catalog:
            commit(catalog, 1)
            assert done.wait(SECONDS)
            assert catalog.resolve("main").message == "followed"

    def test_a_hook_that_hangs_does_not_hang_the_process(
        self, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("plait.events._CLOSE_SECONDS", 0.1)
        leave = threading.Event()
        catalog = open_with(folder, Recorder(lambda event: leave.wait(SECONDS) and None))
        made = commit(catalog, 1)
        catalog.close()
        leave.set()
        assert f"busy with event {made}" in caplog.text


def take(events: Iterator[Event], count: int) -> list[int]:
    return [next(events).seq for _ in range(count)]


class TestWatch:
    def test_a_watch_begins_where_it_is_told_and_goes_on(self, folder: Path) -> None:
        with plait.open(folder) as catalog:
            first = commit(catalog, 1)
            watched = catalog.watch(first)
            assert take(watched, 1) == [first]
            second = commit(catalog, 2)
            assert take(watched, 1) == [second]

    def test_a_watch_of_the_whole_log_is_gap_free(self, folder: Path) -> None:
        with plait.open(folder) as catalog:
            made = [commit(catalog, number) for number in range(120)]
            assert take(catalog.watch(1), made[-1]) == list(range(1, made[-1] + 1))

    def test_a_waiting_watch_sees_what_another_thread_commits(self, folder: Path) -> None:
        with plait.open(folder) as catalog:
            seen: list[int] = []
            begins = catalog.events()[-1].seq + 1
            watcher = threading.Thread(target=lambda: seen.extend(take(catalog.watch(begins), 3)))
            watcher.start()
            made = [commit(catalog, number) for number in range(3)]
            watcher.join(SECONDS)
            assert seen == made

    def test_a_watch_ends_after_its_time(self, folder: Path) -> None:
        with plait.open(folder) as catalog:
            assert list(catalog.watch(seconds_max=0.01)) == []

    def test_a_watch_ends_with_its_catalog(self, folder: Path) -> None:
        catalog = plait.open(folder)
        seen: list[Any] = []
        watcher = threading.Thread(target=lambda: seen.extend(catalog.watch(1)))
        watcher.start()
        last = catalog.events()[-1].seq
        catalog.close()
        watcher.join(SECONDS)
        assert not watcher.is_alive()
        assert [event.seq for event in seen] == list(range(1, last + 1))
