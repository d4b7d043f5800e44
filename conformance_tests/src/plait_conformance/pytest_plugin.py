"""The pytest side of the conformance suite: `--harness`, the fixtures that its tests use, and what its summary says.

A module of tests runs the suite on a harness of its own by importing it and overriding one fixture:

    from plait_conformance.suite import *

    @pytest.fixture
    def make_harness() -> MakeHarness:
        return MyHarness
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from plait.plugins import MODULES

pytest.register_assert_rewrite("plait_conformance.suite", "plait_conformance.harness")

if TYPE_CHECKING:
    from plait_conformance.harness import Harness
    from plait_conformance.suite.history import History
    from plait_conformance.suite.trial import Trial

MakeHarness: TypeAlias = "Callable[[Path], Harness]"
"""Makes a harness in an empty folder: the class itself will do."""

_FAKES = "plait_conformance.fake_plugin"
_OPTION = "plait_harness"
_SUITE = "plait_conformance.suite"

NOT_CLAIMED, PENDING = "not claimed: ", "pending: "
"""How the reasons of skipped tests begin."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("plait").addoption(
        "--harness",
        dest=_OPTION,
        metavar="MODULE:CLASS",
        help="the plait_conformance.harness.Harness that the suite proves an adapter of plait with",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Of processes that tests start, too. Nobody else is offered the fake stores.
    named = {*filter(None, os.environ.get(MODULES, "").split(",")), _FAKES}
    os.environ[MODULES] = ",".join(sorted(named))
    config.addinivalue_line("markers", "assertion(number): which of the twelve assertions of every adapter it proves")
    config.addinivalue_line("markers", "needs(capability): only for adapters that claim this capability")
    config.addinivalue_line("markers", "timeout(seconds): for those who have pytest-timeout")
    name = config.getoption(_OPTION)
    if name:
        load_harness(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    alone = [item for item in items if getattr(getattr(item, "module", None), "__name__", "").startswith(_SUITE)]
    if alone and not config.getoption(_OPTION):
        raise pytest.UsageError("the suite proves an adapter: say which with --harness my_adapter.testing:Harness")
    for item in items:
        marker = item.get_closest_marker("assertion")
        if marker is not None:
            item.user_properties.append(("plait_assertion", marker.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from plait_conformance.summary import summarise

    summarise(terminalreporter)


def load_harness(name: str) -> type[Harness]:
    """The class of that name. Raises: pytest.UsageError that says what is wrong with it."""
    from plait_conformance.harness import Harness

    module_name, _, class_name = name.partition(":")
    if not class_name:
        raise pytest.UsageError(
            f"--harness {name}: write the module, a colon, and the class: my_adapter.testing:Harness"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise pytest.UsageError(
            f"--harness {name}: module {module_name} cannot be imported: {error}"
            " · install its package; for a module in this folder, write 'python -m pytest' for 'pytest'"
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Harness)):
        raise pytest.UsageError(f"--harness {name}: {class_name} is no subclass of plait_conformance.harness.Harness")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise pytest.UsageError(f"--harness {name}: {class_name} lacks {missing}")
    return found


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_harness(request: pytest.FixtureRequest) -> MakeHarness:
    """What `--harness` names. Override it to run the suite on another."""
    name = request.config.getoption(_OPTION)
    if not name:
        raise pytest.UsageError("override the fixture make_harness, or give --harness my_adapter.testing:Harness")
    return load_harness(name)


@pytest.fixture
def harness(request: pytest.FixtureRequest, make_harness: MakeHarness, tmp_path: Path) -> Iterator[Harness]:
    """A store of the test's own."""
    folder = tmp_path / "store"
    folder.mkdir()
    made = make_harness(folder)
    callspec = getattr(request.node, "callspec", None)
    variant = callspec.params.get("make_harness") if callspec else None
    shown = f"[{variant}]" if isinstance(variant, str) else ""
    request.node.user_properties.append(("plait_harness", f"{type(made).__module__}:{type(made).__name__}{shown}"))
    yield made
    made.close()


@pytest.fixture
def trial(request: pytest.FixtureRequest, harness: Harness) -> Iterator[Trial]:
    """The adapter alone. Skips what it does not claim to do."""
    from plait_conformance.suite.trial import Trial

    made = Trial(harness)
    _skip_unclaimed(request, made.capabilities)
    yield made
    made.close()


@pytest.fixture
def history(request: pytest.FixtureRequest, harness: Harness, tmp_path: Path) -> Iterator[History]:
    """The adapter in a whole embedded catalog, beside the strict fake store."""
    from plait_conformance.suite.history import History

    made = History(harness, tmp_path / "catalog")
    _skip_unclaimed(request, made.capabilities)
    yield made
    made.close()


def _skip_unclaimed(request: pytest.FixtureRequest, claimed: frozenset[str]) -> None:
    for marker in request.node.iter_markers("needs"):
        for capability in marker.args:
            if capability not in claimed:
                pytest.skip(f"{NOT_CLAIMED}{capability}")


def pending(capability: str, reason: str) -> None:
    """End the test as pending: listed in the summary by capability."""
    pytest.skip(f"{PENDING}{capability}: {reason}")
