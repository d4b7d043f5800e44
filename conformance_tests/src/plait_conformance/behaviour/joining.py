"""What holds of every catalog over pointer stores: merges, cherry-picks, reverts and restores, key by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plait
import pytest
from plait.catalog import Catalog
from plait.codec import ref_digest
from plait.errors import (
    CommitConflict,
    InvalidArgument,
    NotFound,
    NothingToCommit,
    TransactionClosed,
)
from plait.types import (
    Commit,
    Delete,
    Key,
    Strategy,
)

from plait_conformance.behaviour.history import commit, held, pointer, put


class TestThreeWay:
    def test_a_merge_takes_what_each_side_changed(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), put("b", 1))
        catalog.create_branch("dev")
        theirs = commit(catalog, put("a", 2, expected=1), ref="dev")
        ours = commit(catalog, put("b", 2, expected=1))
        merged = catalog.merge("dev")
        assert held(catalog) == {"a": "v2", "b": "v2"}
        assert merged.parents == (ours.id, theirs.id)
        with pytest.raises(NothingToCommit):
            catalog.merge("dev")

    def test_a_conflict_waits_as_a_working_set_until_it_is_resolved(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), ref="dev")
        head = commit(catalog, put("a", 3, expected=1))
        with pytest.raises(CommitConflict) as caught:
            catalog.merge("dev")
        assert catalog.resolve("main") == head
        tx = catalog.working_set(caught.value.details["tx"])
        assert [conflict.key for conflict, _ in tx.conflicts()] == [("p", "a")]
        tx.resolve("p.a", plait.Choice.THEIRS)
        merged = tx.commit()
        assert held(catalog) == {"a": "v2"}
        assert len(merged.parents) == 2
        assert tx.commit() == merged

    def test_a_dropped_merge_leaves_no_trace(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), ref="dev")
        head = commit(catalog, put("a", 3, expected=1))
        tx = catalog.begin_merge("dev")
        assert len(tx.preview().conflicts) == 1
        tx.discard()
        tx.discard()
        assert catalog.resolve("main") == head
        assert catalog.working_sets() == []
        with pytest.raises(TransactionClosed):
            tx.commit()

    @pytest.mark.parametrize(
        ("strategy", "expected"), [(Strategy.OURS, "v3"), (Strategy.THEIRS, "v2"), (Strategy.DROP, "v3")]
    )
    def test_a_strategy_settles_a_key(self, catalog: Catalog, strategy: Strategy, expected: str) -> None:
        commit(catalog, put("a", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), ref="dev")
        commit(catalog, put("a", 3, expected=1))
        key: Key = ("p", "a")
        catalog.merge("dev", strategies={key: strategy})
        assert held(catalog) == {"a": expected}

    def test_a_strategy_of_a_prefix_is_that_of_its_keys_without_one(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), put("b", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), put("b", 2, expected=1), put("c", 2), ref="dev")
        commit(catalog, put("a", 3, expected=1))
        catalog.merge("dev", strategies={"p": Strategy.DROP, "p.a": Strategy.THEIRS})
        assert held(catalog) == {"a": "v2", "b": "v1"}

    def test_a_strategy_of_a_key_that_is_nowhere_is_refused_and_nothing_merged(self, catalog: Catalog) -> None:
        catalog.create_branch("dev")
        commit(catalog, put("a", 1), ref="dev")
        with pytest.raises(NotFound, match="mistyped does not exist"):
            catalog.merge("dev", strategies={"p.mistyped": Strategy.DROP})
        assert held(catalog) == {}
        assert catalog.working_sets() == []

    def test_a_choice_is_taken_as_its_text_too_and_one_that_is_none_is_refused(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        catalog.create_branch("dev")
        commit(catalog, put("a", 2, expected=1), ref="dev")
        commit(catalog, put("a", 3, expected=1))
        given: Any = "nobody's"
        for refused in (
            lambda: catalog.merge("dev", default=given),
            lambda: catalog.merge("dev", strategies={"p.a": given}),
            lambda: list(catalog.verify(given)),
            lambda: catalog.refs(given),
            lambda: catalog.add_store("x", "pointers", mode=given),
        ):
            with pytest.raises(InvalidArgument, match=r"nobody's.* is none of"):
                refused()
        with pytest.raises(CommitConflict) as caught:
            catalog.merge("dev")
        tx = catalog.working_set(caught.value.details["tx"])
        with pytest.raises(InvalidArgument, match="base, ours, theirs"):
            tx.resolve("p.a", given)
        theirs: Any = "theirs"
        tx.resolve("p.a", theirs)
        tx.commit()
        assert held(catalog) == {"a": "v2"}

    def test_a_squashed_merge_has_one_parent(self, catalog: Catalog) -> None:
        catalog.create_branch("dev")
        commit(catalog, put("a", 1), ref="dev")
        assert len(catalog.merge("dev", squash=True).parents) == 1

    def test_cherry_pick_takes_one_commit(self, catalog: Catalog) -> None:
        catalog.create_branch("dev")
        commit(catalog, put("a", 1), ref="dev")
        commit(catalog, put("b", 1), ref="dev")
        catalog.cherry_pick("dev")
        assert held(catalog) == {"b": "v1"}

    def test_revert_undoes_a_commit_whole_or_part(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), put("b", 1))
        changed = commit(catalog, put("a", 2, expected=1), put("b", 2, expected=1))
        catalog.revert(f"@{changed.id}", keys=["p.a"])
        assert held(catalog) == {"a": "v1", "b": "v2"}
        catalog.revert("main")
        assert held(catalog) == {"a": "v2", "b": "v2"}

    def test_revert_of_what_changed_again_is_a_conflict(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        commit(catalog, put("a", 2, expected=1))
        commit(catalog, put("a", 3, expected=2))
        with pytest.raises(CommitConflict):
            catalog.revert("main~1")
        assert held(catalog) == {"a": "v3"}

    @pytest.mark.parametrize("undo", [Catalog.revert, Catalog.restore])
    def test_a_key_that_is_nowhere_is_refused_with_those_that_are_there(
        self, catalog: Catalog, undo: Callable[..., Commit]
    ) -> None:
        commit(catalog, put("a", 1))
        commit(catalog, put("b", 1))
        head = commit(catalog, put("a", 2, expected=1), Delete(("p", "b"), ref_digest(pointer("b", 1))))
        with pytest.raises(NotFound, match=r"p\.nope does not exist at .*main"):
            undo(catalog, "main~1", keys=["p.a", "p.nope"])
        with pytest.raises(NotFound, match=r"p\.nope does not exist at .*main"):
            undo(catalog, "main", items={("p", "nope"): ["x"]})
        assert catalog.resolve("main") == head
        assert catalog.working_sets() == []

    def test_a_key_that_is_on_one_side_only_is_somewhere(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        commit(catalog, put("b", 1))
        catalog.restore("main~1", keys=["p.b"])
        assert held(catalog) == {"a": "v1"}
        catalog.revert("main", keys=["p"])
        assert held(catalog) == {"a": "v1", "b": "v1"}

    def test_restore_brings_keys_from_any_commit(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), put("b", 1))
        commit(catalog, put("a", 2, expected=1), put("b", 2, expected=1), put("c", 2))
        catalog.restore("main~1", keys=["p.a"])
        assert held(catalog) == {"a": "v1", "b": "v2", "c": "v2"}
        catalog.restore("main~2")
        assert held(catalog) == {"a": "v1", "b": "v1"}

    def test_a_merge_over_a_criss_cross_keeps_who_changed_a_key_last(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1), put("b", 1), put("gone", 1))
        for branch, key in (("one", "a"), ("two", "b")):
            catalog.create_branch(branch)
            commit(catalog, put(key, 2, expected=1), ref=branch)
            catalog.create_tag(f"{branch}-0", branch)
        catalog.merge("two-0", "one")
        catalog.merge("one-0", "two")
        back = put("a", 1, expected=2), put("b", 1, expected=2), Delete(("p", "gone"), ref_digest(pointer("gone", 1)))
        commit(catalog, *back, ref="one")
        catalog.merge("one", "two")
        assert held(catalog, "two") == {"a": "v1", "b": "v1"}

    def test_the_merge_base_of_a_criss_cross_is_found(self, catalog: Catalog) -> None:
        catalog.create_branch("dev")
        commit(catalog, put("a", 1))
        commit(catalog, put("b", 1), ref="dev")
        one, two = catalog.resolve("main"), catalog.resolve("dev")
        catalog.merge(f"@{two.id}", "main")
        catalog.merge(f"@{one.id}", "dev")
        base = catalog.merge_base("main", "dev")
        assert base is not None
        assert base.id in (one.id, two.id)
