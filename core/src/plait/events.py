"""Events: the log as subscribers see it, one event per record, in order, without gaps; and the plugins' event hooks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from plait import limits
from plait.codec import decode_key, split_store_record, unpack
from plait.errors import InvalidArgument
from plait.graph import load_snapshots
from plait.persist import Repository, Rows
from plait.persist.base import of_enum
from plait.plugins import Plugins
from plait.types import Change, Entry, Event, EventKind, Json

if TYPE_CHECKING:
    from plait.catalog import Catalog

_log = logging.getLogger("plait.events")
_PAGE = 100
"""Events per read: each may hold thousands of changes."""
_POLL_SECONDS = 0.5
"""Poll interval for commits of other processes. Commits of this process wake followers at once."""
_RETRY_SECONDS = 5.0
_CLOSE_SECONDS = 10.0


def events(rows: Rows, after_seq: int, limit: int) -> Sequence[Event]:
    """Up to `limit` events with seq > after_seq, ascending. Cost: a few statements, whatever the history's length."""
    records = rows.log(after_seq, limit)
    commits = rows.commits_by_seq([record.seq for record in records])
    changes = rows.changes_of_seqs(list(commits))
    digests = {d for found in changes.values() for row in found for d in (row.before, row.after) if d is not None}
    snapshots = load_snapshots(rows, digests)
    payloads = {record.seq: unpack(record.payload, f"log record {record.seq}") for record in records}
    who: dict[int, bytes | None] = {}
    for record in records:
        if record.kind == EventKind.STORE_CHANGED:
            payloads[record.seq], who[record.seq] = split_store_record(payloads[record.seq])
    sessions = rows.sessions(session for session in who.values() if session is not None)
    made = []
    for record in records:
        key_changes = []
        for row in changes.get(record.seq, ()):
            key = decode_key(row.key)
            before, after = (None if d is None else Entry(key, "", snapshots[d]) for d in (row.before, row.after))
            key_changes.append(Change(key, before, after))
        payload: dict[str, Json] = {"record": _plain(payloads[record.seq])}
        if (session := sessions.get(who.get(record.seq) or b"")) is not None:
            payload["session"] = {"principal": session.principal, "author": session.author, "client": session.client}
        made.append(
            Event(
                record.seq,
                of_enum(EventKind, record.kind, f"log record {record.seq}"),
                record.record_hash,
                payload,
                commits.get(record.seq),
                tuple(key_changes),
            )
        )
    return made


class Outbox:
    """One repository's log, followed while it grows. Thread-safe; `close` it once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._grown = threading.Condition()
        self._growth = 0
        self._closed = False

    def wake(self) -> None:
        """Wake all followers: something became durable."""
        with self._grown:
            self._growth += 1
            self._grown.notify_all()

    def close(self) -> None:
        """Make followers read to the log's end, then stop. Repeat: no-op."""
        with self._grown:
            self._closed = True
            self._grown.notify_all()

    def wait_closed(self, seconds: float) -> bool:
        """Wait until it is closed, for this time at most. Returns: whether it is."""
        with self._grown:
            return self._grown.wait_for(lambda: self._closed, seconds)

    def last_seq(self) -> int:
        with self._repository.read(closing=True) as rows:
            return rows.serial().seq

    def read(self, after_seq: int, limit: int) -> Sequence[Event]:
        """As `events`. Raises: InvalidArgument for numbers out of a database's range, and for a negative limit (some
        databases take -1 for "all")."""
        if abs(after_seq) > limits.SEQ_MAX or not 0 <= limit <= limits.SEQ_MAX:
            raise InvalidArgument(f"{limit} events after seq {after_seq} cannot be read", remedy="count from 0")
        with self._repository.read(closing=True) as rows:
            return events(rows, after_seq, limit)

    def follow(self, from_seq: int | None, is_over: Callable[[], bool]) -> Iterator[Sequence[Event]]:
        """Pages of events with seq >= `from_seq` (None: only new ones), then new events, until `is_over` or closed.

        The first page comes at once, and is empty if there are no events yet. `is_over` is called twice a second.
        Cost: while nothing happens, one row is read twice a second.
        """
        after = self.last_seq() if from_seq is None else max(0, from_seq - 1)
        is_first = True
        while not is_over():
            growth, closed = self._growth, self._closed
            page = self.read(after, _PAGE) if self.last_seq() > after else ()
            if page or is_first:
                yield page
                after, is_first = page[-1].seq if page else after, False
            elif closed:
                return
            else:
                self._wait(growth)

    def _wait(self, seen: int) -> None:
        with self._grown:
            self._grown.wait_for(lambda: self._growth != seen or self._closed, _POLL_SECONDS)


class EventHooks:
    """Calls every plugin's `plait_on_event`, in its own thread, so that commits never wait for it. `close` it once."""

    def __init__(self, plugins: Plugins, outbox: Outbox, catalog: Catalog) -> None:
        """Plugins get the events from now on. Without such a plugin no thread is started."""
        self._hooks = plugins.manager.hook.plait_on_event.get_hookimpls()
        self._outbox = outbox
        self._catalog = catalog
        self._told = outbox.last_seq() if self._hooks else 0
        self._thread = threading.Thread(target=self._run, name="plait-events", daemon=True)
        if self._hooks:
            self._thread.start()

    def close(self) -> None:
        """Deliver the remaining events, for ten seconds at most. The outbox must be closed. Repeat: no-op."""
        if not self._hooks:
            return
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.error("a plugin is still busy with event %d: later ones are not told", self._told + 1)

    def _run(self) -> None:
        while True:
            is_last = self._outbox.wait_closed(0)
            try:
                for page in self._outbox.follow(self._told + 1, lambda: False):
                    for event in page:
                        self._tell(event)
                        self._told = event.seq
                return
            except Exception as error:
                _log.error("events after %d cannot be read now: %s", self._told, error)
                if is_last:
                    return
                self._outbox.wait_closed(_RETRY_SECONDS)

    def _tell(self, event: Event) -> None:
        for hook in self._hooks:
            given = {"event": event, "catalog": self._catalog}
            try:
                hook.function(**{name: given[name] for name in hook.argnames})
            except Exception as error:
                _log.error(
                    "plugin %r failed at event %d (%s): %s",
                    hook.plugin_name,
                    event.seq,
                    event.kind.value,
                    error,
                    exc_info=error if _log.isEnabledFor(logging.DEBUG) else None,
                    extra={"seq": event.seq, "plugin": hook.plugin_name},
                )


def _plain(value: object) -> Json:
    """A payload as JSON: bytes become hexadecimal digits."""
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(one) for one in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)
