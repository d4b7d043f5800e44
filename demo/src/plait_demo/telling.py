"""How the story is told: numbered steps for people as they happen, or one JSON document at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


class Teller:
    """Numbers the steps. Under JSON it is silent, and keeps what it would have told."""

    def __init__(self, steps: int, *, as_json: bool = False) -> None:
        self.told: list[dict[str, Any]] = []
        self._steps = steps
        self._as_json = as_json

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step, timed."""
        now: dict[str, Any] = {"step": len(self.told) + 1, "title": title, "told": []}
        self.told.append(now)
        number = f"{now['step']}/{self._steps}"
        self._print(f"\n{click.style(number, fg='cyan')} {click.style(title, bold=True)}")
        began = time.perf_counter()
        yield
        now["seconds"] = round(time.perf_counter() - began, 3)
        self._print(click.style(f"   {now['seconds']:.1f} s", dim=True))

    def say(self, text: str) -> None:
        """A line of the step under way."""
        if self.told:
            self.told[-1]["told"].append(text)
        self._print(f"   {text}")

    def _print(self, text: str) -> None:
        if not self._as_json:
            click.echo(text)
