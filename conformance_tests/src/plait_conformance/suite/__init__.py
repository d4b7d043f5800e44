"""The conformance suite for adapters: what the contract promises, one test for each sentence.

    pytest --pyargs plait_conformance.suite --harness my_adapter.testing:Harness

or, in a module of your own tests, with the fixture `make_harness` overridden: `from plait_conformance.suite import *`
"""

from plait_conformance.suite.test_cost import TestCost
from plait_conformance.suite.test_diff import TestDiff
from plait_conformance.suite.test_faults import TestEveryCallMayBeRepeatedAfterACrash, TestFaults
from plait_conformance.suite.test_harness import TestHarness
from plait_conformance.suite.test_history import (
    TestBlame,
    TestDiffOfCommits,
    TestReadingBack,
    TestRevertAndRestore,
    TestVerifyOfAHistory,
)
from plait_conformance.suite.test_joins import TestJoins
from plait_conformance.suite.test_merge import TestMerge, TestSucceed
from plait_conformance.suite.test_model import TestModel
from plait_conformance.suite.test_operations import TestBackup, TestDenial, TestRetention
from plait_conformance.suite.test_out_of_band import TestOutOfBand
from plait_conformance.suite.test_publish import TestPublish
from plait_conformance.suite.test_snapshot import TestDiscover, TestLocate, TestSnapshot, TestVerify
from plait_conformance.suite.test_space import TestSpace
from plait_conformance.suite.test_two_phases import TestAbort, TestPrepare, TestRestore, TestStage

__all__ = [
    "TestAbort",
    "TestBackup",
    "TestBlame",
    "TestCost",
    "TestDenial",
    "TestDiff",
    "TestDiffOfCommits",
    "TestEveryCallMayBeRepeatedAfterACrash",
    "TestFaults",
    "TestHarness",
    "TestJoins",
    "TestLocate",
    "TestMerge",
    "TestModel",
    "TestOutOfBand",
    "TestPrepare",
    "TestPublish",
    "TestReadingBack",
    "TestRestore",
    "TestRetention",
    "TestRevertAndRestore",
    "TestDiscover",
    "TestSnapshot",
    "TestSpace",
    "TestStage",
    "TestSucceed",
    "TestVerify",
    "TestVerifyOfAHistory",
]
