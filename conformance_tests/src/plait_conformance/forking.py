"""Python processes that are there at once: forked from one that has imported everything, and as real as any.

`Forked(["script.py", "argument"])` and `Forked(["-m", "plait_server"])` do what `python` does with these words; but
that imports take seconds, and tests that kill processes start hundreds.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["plait_conformance.preloaded"])


def child(
    target: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that is to call `target` in an environment (None: as this one's is now); not started yet."""
    return context.Process(target=_call, args=(dict(environment or os.environ), target, arguments))


def run(target: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None) -> int:
    """Call `target` in such a process, and wait for its end. Returns: its exit code, negative for a signal."""
    process = child(target, *arguments, environment=environment)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _call(environment: Mapping[str, str], target: Callable[..., None], arguments: Sequence[object]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


class Forked:
    """One process, with the calls of `subprocess.Popen` that tests need."""

    def __init__(
        self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: Path, errors: Path
    ) -> None:
        """Start it in a folder; what it prints is appended to `output` and `errors`."""
        self._process = context.Process(
            target=_run,
            args=(list(words), dict(environment), str(folder), str(output), str(errors)),
            daemon=True,  # It ends with the tests, whatever became of them.
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. What is still there has told where its threads are when this raises: see its errors.

        Raises: subprocess.TimeoutExpired.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            os.kill(self.pid, signal.SIGUSR1)
            self._process.join(1)
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """No-op once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], environment: dict[str, str], folder: str, output: str, errors: str) -> None:
    """In the child: become what `python WORDS…` would be."""
    for descriptor, path in ((1, output), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    faulthandler.register(signal.SIGUSR1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
