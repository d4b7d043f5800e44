"""The life that dies: commits to two stores, a merge, a restore, a discard, killed at a place and checked afterwards.

Each round runs in a child process on the same repository, so that a kill is a kill: nothing is flushed, caught or
closed. What the child was told is done stands in a file that it cannot take back.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from plait.adapter import Capability
from plait.catalog import Catalog
from plait.failpoint import armed
from plait.local import LocalBackend
from plait.types import Commit, Depth

from plait_conformance import forking
from plait_conformance.harness import Rows
from plait_conformance.killing import Place
from plait_conformance.suite.history import History


@dataclass(frozen=True)
class Ended:
    """How a child ended: the places that it reached, what was acknowledged, and whether it was killed."""

    places: tuple[Place, ...]
    acknowledged: tuple[str, ...]
    killed: bool


class Life:
    """One repository, and as many rounds of the same life as there are places to die at."""

    def __init__(self, history: History) -> None:
        self.history = history
        history.write({"r0": "start"}, beside={"r0": "start"}, message="start")
        assert history.catalog.publish() == []
        self._folder = history.folder
        self._round = 0
        self._rows: Rows = {"r0": "start"}

    def run(self, die_at: Place | None = None) -> Ended:
        """One round, in a child; the history is closed meanwhile."""
        self._round += 1
        self.history.catalog.close()
        return run_child(self._folder, die_at, self._live, forked=self.history.harness.survives_fork)

    def recover(self, die_at: Place | None = None) -> Ended:
        """A restart that recovers and publishes, in a child."""
        return run_child(self._folder, die_at, self._recover, forked=self.history.harness.survives_fork)

    def _recover(self, say: Callable[[str], None]) -> None:
        with self.history.open() as catalog:
            catalog.publish()

    def _live(self, say: Callable[[str], None]) -> None:
        history, number = self.history, self._round
        history.catalog = history.open()
        dev = f"dev{number}"
        history.catalog.create_branch(dev)
        self._write({"r2": dev}, dev, say)
        self._write({"r1": f"main{number}"}, "main", say, create=True)
        if history.can(Capability.MERGE):
            history.catalog.merge(dev, message=f"merge{number}")
            say(f"merge{number}")
        history.catalog.restore("main~1", message=f"restore{number}")
        say(f"restore{number}")
        tx = history.catalog.begin("main", name=f"dropped{number}")
        history.edit(tx, {"r9": "dropped"})
        history.edit_beside(tx, {"r9": "dropped"})
        tx.discard()
        history.catalog.publish()
        history.catalog.close()

    def _write(
        self, edits: Mapping[str, str | None], branch: str, say: Callable[[str], None], *, create: bool = False
    ) -> None:
        message = f"{branch}{self._round}" if branch == "main" else branch
        tx = self.history.catalog.begin(branch, message=message)
        self.history.edit(tx, edits)
        self.history.edit_beside(tx, edits)
        if create:
            self.history.edit(tx, {"r0": message}, asset=f"n{self._round}")
        tx.commit()
        say(message)

    # -- checking ----------------------------------------------------------------------------------------------------

    def _expected(self) -> dict[str, Rows]:
        """What both stores hold at the commit of that message."""
        number = self._round
        dev = {**self._rows, "r2": f"dev{number}"}
        main = {**self._rows, "r1": f"main{number}"}
        back = main if self.history.can(Capability.MERGE) else self._rows
        merged = {**main, "r2": dev["r2"]}
        return {f"dev{number}": dev, f"main{number}": main, f"merge{number}": merged, f"restore{number}": back}

    def check(self, ended: Ended) -> list[str]:
        """Reopen, recover, and assert what must hold; the places that the recovery reached."""
        reached: list[str] = []
        with armed(reached.append):
            self.history.catalog = self.history.open()
            catalog = self.history.catalog
            assert catalog.publish() == [], "after a recovery, native heads do not follow main"
        assert catalog.recover() == [], "recovery is not done after one time"
        expected = self._expected()
        messages = self._check_commits(catalog, expected)
        lost = [said for said in ended.acknowledged if said not in messages]
        assert not lost, f"acknowledged, and not in the history: {lost}"
        for tx in catalog.working_sets():
            catalog.working_set(tx.id).discard()
        self._rows = self.history.held()
        return reached

    def _check_commits(self, catalog: Catalog, expected: Mapping[str, Rows]) -> set[str]:
        messages = set()
        specs = ["main", *(ref.name for ref in catalog.refs() if ref.name == f"dev{self._round}")]
        for spec in specs:
            for commit in catalog.log(spec):
                if commit.message not in expected:
                    break
                assert commit.message not in messages or spec != "main", f"committed twice: {commit.message}"
                messages.add(commit.message)
                self._check_whole(catalog, commit)
                one, two = self.history.held(f"@{commit.id}"), self.history.held_beside(f"@{commit.id}")
                assert one == two, f"{commit.message!r} is in one store and not in the other: {one} {two}"
                assert one == expected[commit.message], f"{commit.message!r} holds {one}"
                if commit.message == f"main{self._round}":
                    assert self.history.held(f"@{commit.id}", asset=f"n{self._round}") == {"r0": commit.message}
        return messages

    def _check_whole(self, catalog: Catalog, commit: Commit) -> None:
        """What this round made, alone: a verification of all would make the rounds' cost grow with their square."""
        assert isinstance(catalog.backend, LocalBackend)
        for change in catalog.diff(f"@{commit.parents[0]}", f"@{commit.id}"):
            if change.after is None:
                continue
            health = catalog.backend.adapters.get(change.key[0]).verify(change.after.snapshot, Depth.METADATA)
            assert health.problems == (), f"{commit.message!r} is not whole: {health.problems}"


def run_child(
    folder: Path, die_at: Place | None, body: Callable[[Callable[[str], None]], None], *, forked: bool = True
) -> Ended:
    """Run in a child, forked or started anew, and die at a place.

    Raises: AssertionError when the child fails otherwise.
    """
    record, said, failure = (folder / f"child.{name}" for name in ("places", "said", "failure"))
    for path in (record, said, failure):
        path.unlink(missing_ok=True)
    sys.stdout.flush()
    arguments = (record, said, failure, die_at, body)
    if forked:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # The child opens everything anew, and never returns.
            child = os.fork()
        if child == 0:
            _be_child(*arguments)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
    else:
        code = forking.run(_be_child, *arguments)
    killed = code == -signal.SIGKILL
    assert killed or code == 0, failure.read_text() if failure.exists() else code
    reached: Counter[str] = Counter()
    places = []
    for name in record.read_text().split() if record.exists() else ():
        reached[name] += 1
        places.append(Place(name, reached[name]))
    return Ended(tuple(places), tuple(said.read_text().split()) if said.exists() else (), killed)


def _be_child(
    record: Path, said: Path, failure: Path, die_at: Place | None, body: Callable[[Callable[[str], None]], None]
) -> None:
    """Never returns."""
    count: Counter[str] = Counter()

    def reach(name: str) -> None:
        count[name] += 1
        _append(record, name)
        if die_at is not None and (name, count[name]) == (die_at.name, die_at.count):
            os.kill(os.getpid(), signal.SIGKILL)

    status = 1
    try:
        with armed(reach):
            body(lambda line: _append(said, line))
        status = 0
    except BaseException:
        failure.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
