"""What holds of the stores that a catalog is configured with: how they are added, set and removed, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plait.catalog import Catalog
from plait.codec import ref_digest
from plait.errors import InvalidArgument, NotFound, Unsupported
from plait.types import Delete, Mode, Put, Session

from plait_conformance.behaviour.history import commit, pointer, put


class TestStores:
    def test_a_secret_in_clear_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidArgument, match="secret in clear"):
            catalog.add_store("x", "pointer", {"secret_key": "hunter2"}, mode=Mode.POINTER)

    def test_an_unknown_kind_lists_those_there_are(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidArgument, match="no installed adapter"):
            catalog.add_store("x", "no-such-kind")

    def test_who_changed_a_store_is_told(self, catalog: Catalog, tmp_path: Path) -> None:
        after = catalog.events()[-1].seq
        ada, bob, cy = (catalog.as_session(Session(author=author)) for author in ("ada", "bob", "cy"))
        ada.add_store("s", "fake-dolt", {"path": str(tmp_path / "store")})
        bob.set_store("s", {"path": f"{tmp_path}/./store"})
        cy.remove_store("s")
        told: list[Any] = [event.payload for event in catalog.events(after)]
        assert [one["session"]["author"] for one in told] == ["ada", "bob", "cy"]
        assert all(one["session"]["principal"] for one in told)
        assert [one["record"][0] for one in told] == ["s"] * 3
        assert told[-1]["record"] == ["s", None]
        assert list(catalog.verify()) == []

    def test_a_store_in_use_is_not_removed(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        with pytest.raises(InvalidArgument, match="holds assets"):
            catalog.remove_store("p")

    def test_what_uses_a_store_is_named_with_a_way_to_end_it(self, catalog: Catalog) -> None:
        first = catalog.resolve("main")
        for name in ("a", "b", "c", "d"):
            commit(catalog, put(name, 1))
        catalog.create_branch("dev")
        commit(catalog, Delete(("p", "d"), ref_digest(pointer("d", 1))), ref="dev")
        catalog.create_tag("v1")
        with pytest.raises(InvalidArgument) as caught:
            catalog.remove_store("p")
        assert caught.value.message == (
            "store 'p' is in use: branch 'dev' holds assets of it (p.a, p.b, p.c), "
            "branch 'main' holds assets of it (p.a, p.b, p.c, …), tag 'v1' holds assets of it (p.a, p.b, p.c, …)"
        )
        assert caught.value.details == {"branch": "dev, main", "tag": "v1"}
        assert caught.value.remedy == (
            f"'plait restore p --from {first.id[:12]} --on NAME' drops them there, or 'plait branch NAME -d'; "
            "'plait tag v1 -d'"
        )
        catalog.delete_ref("v1")
        catalog.delete_ref("dev")
        with pytest.raises(InvalidArgument, match=r"'plait restore p --from [0-9a-f]{12} --on main' drops them there$"):
            catalog.remove_store("p")
        catalog.restore(first.id[:12], "main", keys=["p"])
        catalog.remove_store("p")
        assert catalog.stores() == []

    def test_no_head_holds_assets_of_a_store_that_was_removed(self, catalog: Catalog) -> None:
        first = catalog.resolve("main")
        catalog.add_store("o", "pointer", mode=Mode.POINTER)
        catalog.add_store("q", "pointer", mode=Mode.POINTER)
        both = commit(catalog, put("a", 1), Put(("q", "b"), replace(pointer("b", 1), store="q"), None))
        catalog.create_branch("dev", both.id[:12])
        catalog.delete_ref("dev")
        catalog.restore(first.id[:12], "main", keys=["q"])
        catalog.remove_store("q")
        catalog.create_branch("less")
        moves: list[Callable[[], object]] = [
            lambda: catalog.create_branch("old", both.id[:12]),
            lambda: catalog.create_tag("old", both.id[:12]),
            lambda: catalog.undelete("dev"),
            lambda: catalog.reset_branch("less", both.id[:12]),
        ]
        for move in moves:
            with pytest.raises(NotFound, match=r"holds q\.b, and store 'q' was removed since") as caught:
                move()
            assert "plait store add q" in caught.value.remedy
        catalog.protect_branch("less")
        catalog.add_store("q", "pointer", mode=Mode.POINTER)
        assert catalog.undelete("dev").head == catalog.create_branch("old", both.id[:12]).head == both.id

    def test_many_that_use_a_store_are_counted(self, catalog: Catalog) -> None:
        commit(catalog, put("a", 1))
        for number in range(11):
            catalog.create_tag(f"t{number:02}")
        with pytest.raises(InvalidArgument, match=r"tag 't08' holds assets of it \(p\.a\), and 2 more") as caught:
            catalog.remove_store("p")
        assert "t10" in caught.value.details["tag"]

    def test_pointer_stores_take_no_stagings(self, catalog: Catalog) -> None:
        with pytest.raises(Unsupported):
            catalog.begin().open("p.a", create=True)

    @pytest.mark.parametrize("read", ["open", "locate", "diff"])
    def test_pointers_of_an_unknown_kind_are_not_read(self, catalog: Catalog, read: str) -> None:
        commit(catalog, put("a", 1))
        point = catalog.at("main")
        reads: dict[str, Callable[[], object]] = {
            "open": lambda: point.open("p.a"),
            "locate": lambda: point.locate("p.a"),
            "diff": lambda: list(catalog.diff_items("p.a", None, "main")),
        }
        with pytest.raises(Unsupported, match="only records locations"):
            reads[read]()
