"""A catalog in a process of its own, driven call by call, that can be killed at the n-th failpoint of any call.

The same call again, in the next process, is what a careful user does: under the same id it has the same effect.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

from plait.catalog import Catalog
from plait.clock import SystemClock
from plait.errors import PlaitError
from plait.failpoint import arm
from plait.types import Choice, Commit, Depth, Key

from plait_conformance.fake_handles import FakeAsset
from plait_conformance.forking import context
from plait_conformance.scenes import Scene

_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that a call raised."""

    code: str
    message: str


class Driven:
    """One scene's catalog, opened by one process after the other."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.deaths = 0
        self._start(0)

    def call(self, name: str, id: str, *arguments: object, deaths: tuple[int, ...] = ()) -> Any:
        """What the call answers, or `Failed`; after each death it is asked again, by a process that recovered first.

        `deaths`: the number of the failpoint at which the call dies first, and that at which the recovery from that
        dies. A call or a recovery that reaches fewer goes on.
        """
        first, then = (*deaths, 0, 0)[:2]
        answer = self._ask(name, id, arguments, first)
        while answer is None:
            self.deaths += 1
            self._start(then)
            then = 0
            answer = self._ask(name, id, arguments, 0)
        return answer[0]

    def attempt(self, name: str, id: str, *arguments: object, death: int) -> bool:
        """Make the call once; whether it died. Its answer is lost either way."""
        died = self._ask(name, id, arguments, death) is None
        if died:
            self.deaths += 1
            self._start(0)
        return died

    def close(self) -> None:
        self._pipe.close()
        self._process.join(_SECONDS_MAX)
        self._process.kill()

    def _start(self, death: int) -> None:
        """Open the catalog in a new process, which may die while it recovers what the last one left."""
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_drive, args=(theirs, self._scene, death), daemon=True)
        self._process.start()
        theirs.close()

    def _ask(self, name: str, id: str, arguments: tuple[object, ...], death: int) -> tuple[Any] | None:
        """The answer, or None when the process died."""
        try:
            self._pipe.send((name, id, arguments, death))
            assert self._pipe.poll(_SECONDS_MAX), f"no answer to {name}{arguments}"
            return (self._pipe.recv(),)
        except (EOFError, ConnectionError):
            self._process.join(_SECONDS_MAX)
            assert self._process.exitcode == -signal.SIGKILL, f"{name}{arguments} ended with {self._process.exitcode}"
            return None


class _IdClock(SystemClock):
    """A clock whose next id is given: that of a working set, or an idempotency key."""

    next_id: str | None = None

    def new_id(self) -> str:
        given, self.next_id = self.next_id, None
        return given or super().new_id()


def _drive(pipe: Connection, scene: Scene, death: int) -> None:
    """In the child: answer calls until nobody asks any more."""
    die_at(death)
    clock = _IdClock()
    with scene.open(clock=clock) as catalog:
        while True:
            try:
                name, id, arguments, death = pipe.recv()
            except EOFError:
                return
            clock.next_id = id if name in NAMING else None
            die_at(death)
            try:
                answer = CALLS[name](catalog, id, *arguments)
            except PlaitError as error:
                answer = Failed(error.code, error.message)
            arm(None)
            pipe.send(answer)


def die_at(number: int) -> None:
    """SIGKILL this process when it reaches its number-th failpoint from now on; 0: never."""
    remaining = number

    def reached(name: str) -> None:
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    arm(reached if number else None)


# -- calls -------------------------------------------------------------------------------------------------------------


def _begin(catalog: Catalog, id: str, branch: str) -> None:
    catalog.begin(branch)


def _begin_merge(catalog: Catalog, id: str, source: str, into: str) -> None:
    catalog.begin_merge(source, into)


def _write(catalog: Catalog, id: str, key: Key, item: str, value: int | None) -> None:
    handle = cast(FakeAsset, catalog.working_set(id).open(key, create=True))
    if value is None:
        handle.pop(item, None)
    else:
        handle[item] = str(value)


def _drop(catalog: Catalog, id: str, key: Key) -> None:
    catalog.working_set(id).drop(key)


def _commit(catalog: Catalog, id: str, allow_empty: bool) -> str:
    return catalog.working_set(id).commit(allow_empty=allow_empty).id


def _take_theirs(catalog: Catalog, id: str) -> int:
    """How many are settled so; a call that is repeated after a death may find nothing left to settle."""
    tx = catalog.working_set(id)
    tx.resolve_all(Choice.THEIRS)
    return sum(kept is not None and kept.choice is Choice.THEIRS for _, kept in tx.conflicts())


def _discard(catalog: Catalog, id: str) -> None:
    catalog.working_set(id).discard()


def _state(catalog: Catalog, id: str) -> str:
    return catalog.working_set(id).state.value


def _revert(catalog: Catalog, id: str, commit: str, on: str) -> str:
    return catalog.revert(f"@{commit}", on).id


def _create_branch(catalog: Catalog, id: str, name: str, at: str) -> None:
    catalog.create_branch(name, at)


def _delete_branch(catalog: Catalog, id: str, name: str) -> None:
    catalog.delete_ref(name)


def _adopt(catalog: Catalog, id: str, key: Key) -> str | None:
    adopted = catalog.adopt(key)
    return None if adopted is None else adopted.id


def _contents(catalog: Catalog, id: str, spec: str) -> dict[Key, dict[str, int]]:
    point = catalog.at(spec)
    return {
        entry.key: {item: int(text) for item, text in cast("dict[str, str]", point.open(entry.key)).items()}
        for entry in point.entries()
    }


def _head(catalog: Catalog, id: str, branch: str) -> Commit:
    return catalog.resolve(branch)


def _assets(catalog: Catalog, id: str) -> dict[Key, str]:
    return {entry.key: entry.snapshot.asset for entry in catalog.at("main").entries()}


def _unpublished(catalog: Catalog, id: str) -> list[tuple[Key, str]]:
    return [(one.key, one.state) for one in catalog.publish()]


def _problems(catalog: Catalog, id: str) -> list[str]:
    """What must not be: bad bytes, gaps, commits announced never or twice, anything left to recover."""
    events = catalog.events(limit=100_000)
    announced = [event.commit.id for event in events if event.commit is not None and event.commit.parents]
    commits = {commit.id for ref in catalog.refs() for commit in catalog.log(ref.name) if commit.parents}
    found = [str(problem) for problem in catalog.verify(Depth.BYTES)]
    found += [f"seq: {event.seq} is number {number}" for number, event in enumerate(events, 1) if event.seq != number]
    found += [f"announced {announced.count(one)} times: {one}" for one in commits if announced.count(one) != 1]
    return found + [f"left to recover: {one}" for one in catalog.recover()]


NAMING = {"begin", "begin_merge", "create_branch", "delete_branch", "revert"}
"""Calls that make something under the id; to the others it names what is there."""

CALLS: dict[str, Callable[..., Any]] = {
    "adopt": _adopt,
    "assets": _assets,
    "begin": _begin,
    "begin_merge": _begin_merge,
    "commit": _commit,
    "contents": _contents,
    "create_branch": _create_branch,
    "delete_branch": _delete_branch,
    "discard": _discard,
    "drop": _drop,
    "head": _head,
    "problems": _problems,
    "revert": _revert,
    "state": _state,
    "take_theirs": _take_theirs,
    "unpublished": _unpublished,
    "write": _write,
}
