"""How a broken adapter becomes a harness."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from plait_conformance.fake import FakeAdapter
from plait_conformance.fake_harness import FakeHarness


class BrokenHarness(FakeHarness):
    """A harness whose adapter breaks a rule."""

    fails: ClassVar[frozenset[str]] = frozenset()
    """The tests that must fail, as Class::test. No other of the contract may; what follows of it elsewhere may."""


def breaks(*tests: str) -> Callable[[type[FakeAdapter]], type[BrokenHarness]]:
    """Make the harness of a broken adapter, under the adapter's name."""

    def make(broken: type[FakeAdapter]) -> type[BrokenHarness]:
        return type(
            broken.__name__,
            (BrokenHarness,),
            {"adapter": broken, "fails": frozenset(tests), "__module__": broken.__module__},
        )

    return make
