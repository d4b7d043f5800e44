"""Adapters that break one rule each, on purpose: the suite must fail at exactly that rule, or it is blind there.

Each is the strict fake store of a kind with a native head, but for the one thing that its docstring says. `fails` names
the tests that speak of the rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from plait_conformance.broken import failing, reading, writing
from plait_conformance.broken.harness import BrokenHarness

__all__ = ["BROKEN", "BrokenHarness"]

BROKEN: Sequence[type[BrokenHarness]] = [
    found
    for module in (reading, writing, failing)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, BrokenHarness) and found.fails
]
