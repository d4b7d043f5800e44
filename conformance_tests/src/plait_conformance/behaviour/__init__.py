"""What every catalog does, wherever it runs: one suite for embedded and served ones, on SQLite and on PostgreSQL.

A test module makes the tests its own with one import, and says with three fixtures what they run over:

    from plait_conformance.behaviour import *  # noqa: F403

    catalog       a new catalog with the pointer store `p` and nothing else; the test may change it
    kind          a kind of fake store
    headed_kind   a kind of fake store with native heads

The catalog must have the fake stores' plugin, and reach the test's `tmp_path`, where their data lies.
"""

from __future__ import annotations

from plait_conformance.behaviour.adoption import TestAdoption
from plait_conformance.behaviour.configuration import TestStores
from plait_conformance.behaviour.history import (
    TestCommit,
    TestLooking,
    TestRefs,
    TestTimeTravel,
)
from plait_conformance.behaviour.joining import TestThreeWay
from plait_conformance.behaviour.stores import (
    TestJoins,
    TestNativeHeads,
    headed,
    stored,
    test_a_busy_head_catches_up_when_it_is_released,
    test_a_busy_head_whose_store_has_lost_its_data_is_not_waited_for,
)
from plait_conformance.behaviour.working_sets import (
    TestConflicts,
    TestHandles,
    TestWorkingSets,
)

__all__ = [
    "TestAdoption",
    "TestCommit",
    "TestConflicts",
    "TestHandles",
    "TestJoins",
    "TestLooking",
    "TestNativeHeads",
    "TestRefs",
    "TestStores",
    "TestThreeWay",
    "TestTimeTravel",
    "TestWorkingSets",
    "headed",
    "stored",
    "test_a_busy_head_catches_up_when_it_is_released",
    "test_a_busy_head_whose_store_has_lost_its_data_is_not_waited_for",
]
