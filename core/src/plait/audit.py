"""Verifies the history: every record's place in the chain, every id against its bytes, every snapshot in its store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Executor, Future
from itertools import islice
from threading import Lock

from plait import codec
from plait.adapter import Progress
from plait.backend import Problem
from plait.commit_point import unpack_value
from plait.errors import Corrupt, PermissionDenied, PlaitError, StoreDiverged, StoreUnavailable
from plait.graph import RowNodes
from plait.persist import Repository, Rows
from plait.persist.graph_rows import ChangeRow, LogRow
from plait.publisher import Publisher
from plait.refspec import format_key, format_time
from plait.replay import Replay
from plait.stores import Adapters
from plait.tree import Tree
from plait.tree_nodes import decode_node
from plait.types import Commit, Depth, Health, Mode, SnapshotRef, TxState
from plait.waiting import check_cancelled, handing_over

_PAGE = 1000
_AHEAD_US_MAX = 3_600_000_000
"""How far the last commit's time may be ahead of this machine's clock: clocks of servers differ, by seconds."""
_CHECKS_MAX = 8
"""Snapshots verified at the same time: half of the threads of `LocalBackend`."""
_SNAPSHOT_STATES = {"live", "condemned", "expired"}
_PUBLICATION_STATES = {"idle", "busy", "diverged"}


class Survey:
    """Verifies a catalog part by part: a part that cannot be read becomes a problem, and the next part goes on."""

    def __init__(self, *, is_damaged: bool) -> None:
        """`is_damaged`: rows may hold anything, so any exception, not only Corrupt, is reported as a problem."""
        self.told: tuple[type[Exception], ...] = (Exception,) if is_damaged else (Corrupt,)

    def part(self, where: str, problems: Iterator[Problem]) -> Iterator[Problem]:
        try:
            yield from problems
        except self.told as error:
            yield Problem(where, f"cannot be read any further: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, PlaitError) else str(error).partition("\n")[0]


def verify_metadata(repository: Repository, progress: Progress, now_us: int, survey: Survey) -> Iterator[Problem]:
    """Walk the log from its start. Yields what does not fit, named by seq, commit, node, or another table's row.

    Cost: reads every record, commit, change and node once; keeps the ids of all nodes in memory.
    """
    seen_snapshots: set[bytes] = set()
    with repository.read() as rows:
        replay = Replay(rows, Tree(RowNodes(rows), salt=repository.salt))
        yield from survey.part("the log", _verify_log(repository, rows, replay, seen_snapshots, progress, survey))
        yield from survey.part("the serial row", _verify_clock(rows, replay, now_us))
        for where, problems in replay.finish():
            yield from survey.part(where, problems)
        yield from survey.part("snapshots", _verify_snapshots(rows, seen_snapshots))
        yield from survey.part("sessions", _verify_sessions(rows))


def _verify_clock(rows: Rows, replay: Replay, now_us: int) -> Iterator[Problem]:
    """Check the serial row's time: every later record gets a later one."""
    at_us = rows.serial().at_us
    if at_us < replay.at_us:
        yield Problem("the serial row", "has a time before the last that is in the log")
    if at_us > now_us + _AHEAD_US_MAX:
        told = f"has the time {format_time(at_us)}, {(at_us - now_us) // 60_000_000} minutes ahead of this machine's"
        yield Problem("the serial row", f"{told}: all that is committed now is dated after it")


def _verify_sessions(rows: Rows) -> Iterator[Problem]:
    for session in rows.altered_sessions():
        yield Problem(f"session {session.hex()}", "its id is not that of its fields")


def _verify_log(
    repository: Repository,
    rows: Rows,
    replay: Replay,
    seen_snapshots: set[bytes],
    progress: Progress,
    survey: Survey,
) -> Iterator[Problem]:
    """Check every record, in order. Adds to `seen_snapshots` the digests that commits name."""
    previous, seq = bytes(32), 0
    seen_nodes: set[bytes] = set()
    tree = Tree(RowNodes(rows), salt=repository.salt)
    try:
        end = rows.serial()
    except Corrupt:
        end = None  # Reported by `_verify_clock`, which reads the serial row too.
    while page := rows.log(seq, _PAGE):
        progress("log records", seq, None if end is None else end.seq)
        check_cancelled()
        commits: dict[int, Commit] = {}
        yield from _read_commits(rows, page, commits, survey)
        for record in page:
            if record.seq != seq + 1:
                yield Problem(f"log record {seq + 1}", f"is missing: {record.seq} follows {seq}")
            expected = codec.record_hash(
                repository=repository.uuid,
                previous=previous,
                seq=record.seq,
                kind=record.kind,
                payload=record.payload,
            )
            if expected != record.record_hash:
                yield Problem(f"log record {record.seq}", "its hash is not that of its bytes and its predecessor")
            previous, seq = record.record_hash, record.seq
            if record.kind == "repository-created" and codec.salt_digest(repository.salt) not in record.payload:
                yield Problem("the repository's row", f"its salt is not the one that log record {seq} names")
            if record.kind in ("commit", "repository-created"):
                commit = commits.get(record.seq)
                if commit is None:
                    yield Problem(f"log record {record.seq}", "its commit is missing")
                    continue
                yield from _verify_commit(rows, repository.uuid, commit, record.payload)
                yield from _verify_tree(tree, commit.id, commit.root, seen_nodes, seen_snapshots)
        yield from survey.part(f"log records up to {seq}", replay.page(page, commits))
    if end is not None and (seq, previous) != (end.seq, end.record_hash):
        yield Problem(f"log record {seq}", f"is the last, the serial row says {end.seq}")


def _read_commits(rows: Rows, page: Sequence[LogRow], commits: dict[int, Commit], survey: Survey) -> Iterator[Problem]:
    """Fill `commits` with a page's commits by seq. Yields those that cannot be read, one by one."""
    try:
        commits.update(rows.commits_by_seq([record.seq for record in page]))
        return
    except survey.told:
        pass
    for record in page:
        try:
            commits.update(rows.commits_by_seq([record.seq]))
        except survey.told as error:
            yield Problem(f"log record {record.seq}", _sentence(error))


def _verify_commit(rows: Rows, repository: str, commit: Commit, payload: bytes) -> Iterator[Problem]:
    salt = rows.commit_salt(commit.id)
    if salt is not None:
        text = codec.text_digest(salt, commit.author, commit.message, commit.properties)
        remade = codec.commit_id(
            repository=repository,
            parents=commit.parents,
            root=commit.root,
            tx=commit.tx,
            committed_at_us=commit.committed_at_us,
            text=text,
        )
        if remade != commit.id:
            yield Problem(f"commit {commit.id}", "its id is not that of its bytes")
    elif commit.author or commit.message or commit.properties:
        yield Problem(f"commit {commit.id}", "its salt is gone, its text is not: nothing proves that text")
    if bytes.fromhex(commit.id) not in payload:
        yield Problem(f"log record {commit.seq}", f"does not name commit {commit.id}")


def _verify_snapshots(rows: Rows, named: set[bytes]) -> Iterator[Problem]:
    """Check all snapshots, also those that only working sets and publications name. All of `named` must exist."""
    found = rows.all_snapshots()
    for digest, row in found.items():
        if codec.digest(b"snapshot", row.body) != digest:
            yield Problem(f"snapshot {digest.hex()}", "its bytes are not those that its digest was made of")
        else:
            try:
                codec.decode_snapshot(row.body)
            except Corrupt as error:
                yield Problem(f"snapshot {digest.hex()}", f"cannot be read: {error.message}", error.remedy)
        if row.state not in _SNAPSHOT_STATES:
            yield Problem(f"snapshot {digest.hex()}", f"its state is {row.state!r}, which there is not")
    for digest in sorted(named - found.keys()):
        yield Problem(f"snapshot {digest.hex()}", "is missing")


def verify_working_rows(repository: Repository, survey: Survey) -> Iterator[Problem]:
    """Check rows that no hash covers, since they change: open working sets and publications can be read, and what they
    name exists.

    Cost: reads every row of open working sets and of publications.
    """
    with repository.read() as rows:
        yield from survey.part("working sets", _verify_open_txs(rows))
        yield from survey.part("publications", _verify_publications(rows))
        yield from survey.part("publish cursors", _verify_cursors(rows))


def _verify_open_txs(rows: Rows) -> Iterator[Problem]:
    states = set(TxState)
    for state in sorted(rows.count_txs().keys() - states):
        yield Problem("working sets", f"there are some of state {state!r}, which there is not")
    open_txs = rows.live_txs()
    commits = rows.commits({commit for tx in open_txs for commit in (tx.base, *tx.merged_parents)})
    for tx in open_txs:
        for commit in (tx.base, *tx.merged_parents):
            if commit not in commits:
                yield Problem(f"working set {tx.id}", f"begins at commit {commit}, which does not exist")
        try:
            rows.participants(tx.id)
            for _, body, resolution in rows.conflicts(tx.id):
                codec.decode_conflict(body)
                if resolution is not None:
                    codec.decode_resolution(resolution)
        except Corrupt as error:
            yield Problem(f"working set {tx.id}", error.message, error.remedy)


def _verify_publications(rows: Rows) -> Iterator[Problem]:
    publications, stores = rows.publications(), rows.stores()
    named = {digest for one in publications for digest in (one.published, one.target) if digest}
    missing = named - rows.snapshots(named).keys()
    for one in publications:
        where = f"publication of {one.store}, {one.asset}"
        if one.store not in stores:
            yield Problem(where, "its store does not exist")
        if one.state not in _PUBLICATION_STATES:
            yield Problem(where, f"its state is {one.state!r}, which there is not")
        if {one.published, one.target} & missing:
            yield Problem(where, "names a snapshot that does not exist")


def _verify_cursors(rows: Rows) -> Iterator[Problem]:
    cursors, stores = rows.publish_cursors(), rows.stores()
    followed = rows.commits({head for head, _ in cursors.values()})
    for store, (head, _) in cursors.items():
        if store not in stores:
            yield Problem(f"publications of {store}", "have a cursor, and their store does not exist")
        if head not in followed:
            yield Problem(f"publications of {store}", f"follow commit {head}, which does not exist")


def _verify_tree(tree: Tree, commit: str, root: bytes, seen: set[bytes], snapshots: set[bytes]) -> Iterator[Problem]:
    try:
        for node_id, data in tree.walk(root, skip=lambda node_id: node_id in seen):
            seen.add(node_id)
            node = decode_node(node_id, data)
            if node.level == 0:
                snapshots.update(unpack_value(value)[1] for value in node.values)
    except Corrupt as error:
        seen.add(root)
        yield Problem(f"commit {commit}", error.message, error.remedy)


def verify_stores(
    repository: Repository,
    adapters: Adapters,
    publisher: Publisher,
    depth: Depth,
    executor: Executor,
    progress: Progress,
) -> Iterator[Problem]:
    """Ask every store for every live snapshot of the reachable history, side by side, each once; then for its heads.

    At most `_CHECKS_MAX` run at a time, since commits use the same threads. Closing the iterator stops it.
    """
    with repository.read() as rows:
        pointers = {store.name for store in rows.stores().values() if store.mode is Mode.POINTER}
        known = {store.name for store in rows.stores().values()}
        wanted: dict[bytes, SnapshotRef] = {}
        for digest, row in rows.all_snapshots().items():
            if row.state == "live":
                try:
                    wanted[digest] = codec.decode_snapshot(row.body)
                except Corrupt:
                    continue  # Reported by verify_metadata.
    wanted = {digest: snapshot for digest, snapshot in wanted.items() if snapshot.store in known - pointers}
    verifiers: dict[str, Callable[[SnapshotRef], Health]] = {}
    making = Lock()

    def verify(snapshot: SnapshotRef) -> Health:
        with making:
            if snapshot.store not in verifiers:
                verifiers[snapshot.store] = adapters.get(snapshot.store).verifier(depth)
        return verifiers[snapshot.store](snapshot)

    told: set[Problem] = set()
    place_of = _Places(repository)
    left, checks = iter(wanted.items()), deque[tuple[bytes, SnapshotRef, Future[Health]]]()
    for done in range(len(wanted)):
        checks.extend(
            (digest, snapshot, executor.submit(handing_over(verify), snapshot))
            for digest, snapshot in islice(left, _CHECKS_MAX - len(checks))
        )
        digest, snapshot, check = checks.popleft()
        progress("snapshots", done, len(wanted))
        check_cancelled()
        try:
            for problem in check.result().problems:
                yield Problem(place_of(digest, snapshot), problem)
        except (StoreUnavailable, PermissionDenied) as error:
            unseen = _unseen(snapshot.store, error)
            if unseen not in told:  # Report a store that is down once, not for each of its snapshots.
                told.add(unseen)
                yield unseen
        except PlaitError as error:
            yield Problem(place_of(digest, snapshot), error.message, error.remedy)
    yield from _verify_heads(repository, publisher, told)


class _Places:
    """Says of snapshots which key got them, and with which commit. Looked up when first asked: for damage alone."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._changes: dict[bytes, ChangeRow] | None = None

    def __call__(self, digest: bytes, snapshot: SnapshotRef) -> str:
        try:
            with self._repository.read() as rows:
                if self._changes is None:
                    self._changes = rows.first_changes()
                change = self._changes[digest]
                commit = rows.commits_by_seq([change.seq])[change.seq]
            return f"{format_key(codec.decode_key(change.key))} since commit {commit.id[:12]}"
        except (Corrupt, KeyError):  # A working set's; or the history is damaged too, which is told of its own.
            return f"store {snapshot.store}, {snapshot.asset} at {snapshot.version}"


def _unseen(store: str, error: PlaitError) -> Problem:
    """A store that did not answer, or refused to."""
    return Problem(f"store {store}", error.message, error.remedy, error.code)


def _verify_heads(repository: Repository, publisher: Publisher, told: Set[Problem]) -> Iterator[Problem]:
    """Name the native heads that are not where their publications say. `told`: what is known of stores already."""
    with repository.read() as rows:
        stores, headed = rows.stores(), {one.store for one in rows.publications()}
    for name in sorted(headed & stores.keys()):
        try:
            for one in publisher.astray(stores[name]):
                key = format_key(one.key)
                where, what = f"store {name}, {one.asset}", f"{key} was written past plait"
                yield Problem(where, what, f"plait store adopt {key}", StoreDiverged.code)
        except (StoreUnavailable, PermissionDenied) as error:
            if (unseen := _unseen(name, error)) not in told:
                yield unseen
        except PlaitError as error:
            yield Problem(f"store {name}", error.message, error.remedy)
