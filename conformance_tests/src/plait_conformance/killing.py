"""Killing a real process at a failpoint: record the places that a scenario reaches once, then die at each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait_conformance.forking import Forked

_SECONDS_MAX = 120


@dataclass(frozen=True, slots=True)
class Place:
    """The n-th time that a failpoint is reached."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}@{self.count}"


def places(script: Path, arguments: Sequence[str], record: Path) -> list[Place]:
    """Run a scenario whole; the places it reached, in order. Raises: AssertionError when it fails by itself."""
    record.touch()  # A recovery may find nothing to do, and then reaches none.
    ended = _run(script, arguments, {"PLAIT_FAILPOINT_RECORD": str(record)})
    assert ended.returncode == 0, ended.stderr
    return count_places(record)


def count_places(record: Path) -> list[Place]:
    """The places in a file that `PLAIT_FAILPOINT_RECORD` named, in order."""
    reached: Counter[str] = Counter()
    found = []
    for name in record.read_text().split():
        reached[name] += 1
        found.append(Place(name, reached[name]))
    return found


def kill_at(script: Path, arguments: Sequence[str], place: Place, **environment: str) -> str:
    """Run a scenario until it kills itself there; what it printed. Raises: AssertionError when it got past."""
    ended = _run(script, arguments, {"PLAIT_FAILPOINT": str(place), **environment})
    assert ended.returncode == -signal.SIGKILL, f"{place} was not reached: {ended.returncode} {ended.stderr}"
    return ended.stdout


def sample(found: Sequence[Place], per_name: int) -> Iterator[Place]:
    """The first, the last and some of the middle of each failpoint's places; every name is kept."""
    by_name: dict[str, list[Place]] = {}
    for place in found:
        by_name.setdefault(place.name, []).append(place)
    for named in by_name.values():
        step = max(1, (len(named) - 1) // max(1, per_name - 1))
        yield from sorted({named[0], named[-1], *named[::step][: per_name - 1]}, key=lambda place: place.count)


def _run(script: Path, arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = Forked(
            [str(script), *arguments],
            environment={**os.environ, **environment},
            folder=Path.cwd(),
            output=output,
            errors=errors,
        )
        try:
            code = process.wait(_SECONDS_MAX)
        finally:
            process.kill()
        return subprocess.CompletedProcess([str(script)], code, output.read_text(), errors.read_text())
