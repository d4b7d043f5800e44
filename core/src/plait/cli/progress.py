"""Progress bars on stderr, for people who watch: none into a pipe, none under --json."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """`plait.adapter.Progress`, drawn. Called from the threads of the work; `stop` before anything is printed."""

    def __init__(self) -> None:
        self.is_silent = False
        self._lock = threading.Lock()
        self._shown: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if self.is_silent or not sys.stderr.isatty():
            return
        with self._lock:
            if self._shown is None:
                from rich.console import Console
                from rich.progress import Progress

                self._shown = Progress(console=Console(stderr=True), transient=True)
                self._shown.start()
            if what not in self._tasks:
                self._tasks[what] = self._shown.add_task(what, total=total)
            self._shown.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars away. Repeat: no-op."""
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
            self._shown = None
            self._tasks.clear()
