"""The suite says what the contract says, and helps who holds it wrongly."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import cast

import plait.adapter
import plait.types
import pytest
from plait.adapter import Adapter, Context, StagingPort
from plait.types import Key, Location
from plait_conformance.fake_harness import FakeHarness
from plait_conformance.harness import Rows
from plait_conformance.pytest_plugin import load_harness
from plait_conformance.suite import (
    test_diff,
    test_merge,
    test_publish,
    test_snapshot,
    test_space,
    test_two_phases,
)
from plait_conformance.suite.trial import HarnessError, Trial

pytest_plugins = ["pytester"]

CONTRACT_SUITES = (test_snapshot, test_diff, test_two_phases, test_merge, test_publish, test_space)


def words(text: str) -> str:
    """Lower-case words, joined as in a test's name."""
    return "_".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def contract() -> str:
    """Every docstring of the contract."""
    texts = []
    for module in (plait.adapter, plait.types):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                texts.append(node.value.value)
    return words(" ".join(texts))


@pytest.mark.parametrize("module", CONTRACT_SUITES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_sentence_in_the_contract_is_the_tests_name(module: ModuleType) -> None:
    known = contract()
    tests = [
        name
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__name__.startswith("Test") and cls.__module__ == module.__name__
        for name, _ in inspect.getmembers(cls, inspect.isfunction)
        if name.startswith("test_")
    ]
    assert tests
    assert [name for name in tests if name.removeprefix("test_") not in known] == []


class TestTheCommandOfThirdParties:
    """`pytest --pyargs plait_conformance.suite --harness module:Class`, in a process of its own."""

    SUITE = ("-q", "-p", "no:cacheprovider", "--pyargs", "plait_conformance.suite")

    def test_one_command_proves_an_adapter(self, pytester: pytest.Pytester) -> None:
        ended = pytester.runpytest_subprocess(
            *self.SUITE,
            "--harness",
            "plait_conformance.fake_harness:FakeHarness",
            "-k",
            "TestLocate or TestCost or TestRetention",
        )
        assert ended.ret == pytest.ExitCode.OK
        ended.stdout.fnmatch_lines(
            [
                "*plait conformance: plait_conformance.fake_harness:FakeHarness*",
                "  2 any past commit reads back equal through the store's own client: 4 passed",
                "  7 retention removes what the policy says and nothing reachable: pending",
                "not claimed by the adapter: cheap-diff (2 tests)",
                "pending 7, retention: *",
            ]
        )

    def test_no_harness_is_told_before_any_test(self, pytester: pytest.Pytester) -> None:
        ended = pytester.runpytest_subprocess(*self.SUITE)
        assert ended.ret == pytest.ExitCode.USAGE_ERROR
        ended.stderr.fnmatch_lines(["*say which with --harness my_adapter.testing:Harness*"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_to_be_found:Harness", "module nowhere_to_be_found cannot be imported"),
        ("nowhere_to_be_found:Harness", "install its package; for a module in this folder, write 'python -m pytest'"),
        ("plait_conformance.harness", "write the module, a colon, and the class"),
        ("plait_conformance.harness:Nothing", "no subclass of plait_conformance.harness.Harness"),
        ("plait_conformance.harness:Harness", "lacks create, open, read, write, write_behind"),
    ],
)
def test_what_is_no_harness_is_told_at_once(name: str, said: str) -> None:
    with pytest.raises(pytest.UsageError, match=said):
        load_harness(name)


class OpensNothing(FakeHarness):
    def open(self, context: Context) -> Adapter:
        return cast(Adapter, None)


class StagesNothing(FakeHarness):
    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        pass


class ReadsNoRows(FakeHarness):
    def read(self, location: Location) -> Rows:
        return cast(Rows, ["r0"])


@pytest.mark.parametrize(
    ("harness", "said"),
    [
        (OpensNothing, "OpensNothing.open returned None, which is no plait.adapter.Adapter"),
        (StagesNothing, "StagesNothing.create staged nothing under"),
        (ReadsNoRows, r"ReadsNoRows.read returned \['r0'\] · return the rows as text → text"),
    ],
)
def test_a_harness_that_does_wrong_is_named(harness: type[FakeHarness], said: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=said):
        trial = Trial(harness(tmp_path))
        trial.held(trial.create({"r0": "a"}))
